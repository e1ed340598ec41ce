//! What the tests of several modules need.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

fn poll(fd: BorrowedFd<'_>, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&raw mut poll, 1, timeout_ms) == 1 }
}

/// Tells whether a read would find something now.
pub(crate) fn readable(fd: BorrowedFd<'_>) -> bool {
    poll(fd, 0)
}

/// Waits for something to read. The limit only keeps a broken test from hanging.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>) {
    assert!(poll(fd, 20_000), "nobody rang within 20 s");
}

static EXCLUSIVE: Mutex<()> = Mutex::new(());

/// Held by tests that fork, and by tests that expect something to be gone once its descriptor is closed: a forked child has a
/// copy of every descriptor of this process, those of other tests included.
pub(crate) fn exclusive() -> MutexGuard<'static, ()> {
    EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process.
pub(crate) struct Child(libc::pid_t);

/// Runs `body` in a child process, which ends with it. The caller holds [`exclusive`].
pub(crate) fn fork(body: impl FnOnce()) -> Child {
    // SAFETY: the child runs on with this thread only. It allocates, which glibc allows after fork, and takes no lock that
    // another thread of the test runner could have held.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
        // SAFETY: ends this process without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(failed)) };
    }
    Child(pid)
}

impl Child {
    /// Waits for the end; `true`: without a panic.
    pub(crate) fn wait(self) -> bool {
        let mut status = 0;
        // SAFETY: our own child, a live local.
        unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        status == 0
    }

    /// Ends the child as a crash would.
    pub(crate) fn kill(self) {
        // SAFETY: our own child.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        self.wait();
    }
}

/// Passes a result on, unless it is an error for lack of privileges: then the test says so and cannot go on.
pub(crate) fn privileged<T, E: std::error::Error>(outcome: Result<T, E>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) if has_net_admin() => panic!("{error}"),
        Err(error) => {
            eprintln!("SKIPPED, needs root: {error}");
            None
        }
    }
}

/// Tells whether this process may load BPF programs, open AF_XDP sockets and make network namespaces: `CAP_NET_ADMIN` (12),
/// `CAP_NET_RAW` (13) and `CAP_SYS_ADMIN` (21) are effective.
pub(crate) fn has_net_admin() -> bool {
    const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|effective| effective & NEEDED == NEEDED)
}
