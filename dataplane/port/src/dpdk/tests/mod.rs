//! DPDK on devices that need no card: packet sockets and AF_XDP on a veth, loops in memory.
//!
//! EAL starts once in a process, so each test has a child for it. Loops run there on threads of capsule, where a failed assertion
//! ends the process.

mod echo;
mod errors;
mod peer;
mod queues;

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::*;
use crate::test_lab::Host;
use crate::test_support::{Child, fork};

/// Long enough for a loaded machine; only a broken test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `body` in a child process, and says on the terminal why it failed. The caller holds `exclusive()`.
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

fn config(kind: DeviceKind, cores: Vec<usize>) -> DpdkConfig {
    DpdkConfig {
        name: "tidegate-test".to_owned(),
        cores,
        memory: Memory::Ordinary,
        devices: vec![DeviceConfig {
            kind,
            ring_size: 512,
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
