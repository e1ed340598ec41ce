//! DPDK on devices that need no card: packet sockets and AF_XDP on a veth, loops in memory.
//!
//! EAL starts once in a process, so each test has a child for it. Loops run there on threads of capsule, where a failed assertion
//! ends the process. A child that starts threads must not be forked off a process where others may just be starting one, so each test also
//! has a process of its own ([`alone`]).

mod echo;
mod errors;
mod peer;
mod queues;

use std::io::Write;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::*;
use crate::test_lab::Host;
use crate::test_support::{Child, exclusive, fork};

/// Long enough for a loaded machine; only a broken test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Set where a test has a process of its own.
const ALONE: &str = "TIDEGATE_TEST_ALONE";

/// Whether this process is this test's alone. If not, the test is played in one that is, and has passed there.
///
/// The standard library takes a lock whenever a thread starts. A process that is forked off meanwhile has that lock locked for ever.
fn alone() -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let _exclusive = exclusive();
    let thread = std::thread::current();
    let name = thread.name().expect("libtest names threads by their tests");
    let program = std::env::current_exe().expect("a process has a program");
    let played = Command::new(program)
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("the program can be started again");
    let said = String::from_utf8_lossy(&played.stderr);
    eprint!("{said}");
    let result = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{result}{said}");
    assert!(result.contains("1 passed"), "{result}");
    false
}

/// Runs `body` in a child process, and says on the terminal why it failed. The caller is [`alone`].
fn child(body: impl FnOnce()) -> Child {
    fork(|| {
        std::panic::set_hook(Box::new(|panic| {
            // Not the macro: what that prints is kept for the end of a test, which this process never sees.
            let _unseen = writeln!(std::io::stderr(), "in the child: {panic}");
        }));
        body();
    })
}

/// Runs `body` in a child process on a host. It owns what it needs: the child starts threads on the stacks of those that it has not
/// got any more, such as the one that waits for it here.
fn child_on(host: &Host, body: impl FnOnce() + Send + 'static) -> Child {
    host.run(move || child(body))
}

/// So many cores, or nothing, saying so.
fn cores(count: usize) -> Option<Vec<usize>> {
    let mut allowed = checks::allowed_cores();
    if allowed.len() < count {
        eprintln!("SKIPPED, needs {count} cores");
        return None;
    }
    allowed.truncate(count);
    Some(allowed)
}

/// Plays a test that needs so many cores in a child, and nothing but that child.
fn in_child(count: usize, body: impl FnOnce(Vec<usize>)) {
    if !alone() {
        return;
    }
    let Some(cores) = cores(count) else { return };
    assert!(child(|| body(cores)).wait(), "the child says why");
}

fn config(kind: DeviceKind, cores: Vec<usize>) -> DpdkConfig {
    DpdkConfig {
        name: "tidegate-test".to_owned(),
        cores,
        memory: Memory::Ordinary,
        devices: vec![DeviceConfig {
            kind,
            ring_size: 512,
            without_iommu: false,
        }],
        link_deadline: PATIENCE,
    }
}

/// A function as a loop.
struct Loop<F>(F);

impl<F: FnMut() -> ControlFlow<()>> QueueLoop for Loop<F> {
    fn turn(&mut self) -> ControlFlow<()> {
        (self.0)()
    }
}

/// Opens a device and does one thing with its first queue.
fn once<R: Send + 'static>(
    config: &DpdkConfig,
    body: impl FnOnce(DpdkPort) -> R + Send + 'static,
) -> Result<R, DpdkError> {
    let body = Mutex::new(Some(body));
    let result = Arc::new(Mutex::new(None));
    let place = result.clone();
    let outcome = run(config, move |worker, mut ports: Vec<DpdkPort>| {
        assert_eq!(ports.len(), 1);
        if worker == 0 {
            let body = body.lock().unwrap().take().unwrap();
            *place.lock().unwrap() = Some(body(ports.remove(0)));
        }
        Ok(Loop(|| ControlFlow::Break(())))
    })?;
    assert_eq!(outcome, Outcome::Finished);
    let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(result.unwrap())
}
