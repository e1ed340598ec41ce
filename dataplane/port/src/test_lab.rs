//! Two hosts joined by a veth with two queues, for tests against the real kernel.
//!
//! The hosts are network namespaces without a name: they exist as long as this process refers to them, so nothing remains after
//! a failure, Ctrl-C or a kill.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::MutexGuard;

use crate::nic::Nic;
use crate::test_support::{exclusive, has_net_admin};

/// One network namespace.
pub(crate) struct Host(OwnedFd);

/// Runs `body` on a thread of its own, because a namespace belongs to a thread.
fn on_a_thread<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| match scope.spawn(body).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Host {
    fn new() -> Self {
        on_a_thread(|| {
            // SAFETY: moves this thread, and only it, into a new namespace.
            let outcome = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(outcome, 0, "unshare: {}", std::io::Error::last_os_error());
            Self(File::open("/proc/thread-self/ns/net").unwrap().into())
        })
    }

    /// Runs `body` on this host.
    pub(crate) fn run<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        on_a_thread(|| {
            // SAFETY: moves this thread, and only it, into a namespace that we hold.
            let outcome = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(outcome, 0, "setns: {}", std::io::Error::last_os_error());
            body()
        })
    }

    /// Runs `ip` on this host.
    pub(crate) fn ip(&self, arguments: &str) {
        let output = self.run(|| {
            Command::new("ip")
                .args(arguments.split(' '))
                .output()
                .unwrap()
        });
        assert!(
            output.status.success(),
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Describes one of its interfaces.
    pub(crate) fn nic(&self, name: &str) -> Nic {
        self.run(|| Nic::by_name(name)).unwrap()
    }
}

/// `appliance` (10.9.0.1 on `tg0`) and `peer` (10.9.0.2 on `tg1`).
pub(crate) struct Lab {
    pub(crate) appliance: Host,
    pub(crate) peer: Host,
    _exclusive: MutexGuard<'static, ()>,
}

impl Lab {
    /// `None`, saying so, without the privileges.
    pub(crate) fn new() -> Option<Self> {
        if !has_net_admin() {
            eprintln!("SKIPPED, needs root: network namespaces");
            return None;
        }
        let exclusive = exclusive();
        let (appliance, peer) = (Host::new(), Host::new());
        let queues = "numrxqueues 2 numtxqueues 2";
        let peer_path = format!("/proc/{}/fd/{}", std::process::id(), peer.0.as_raw_fd());
        appliance.ip(&format!(
            "link add tg0 {queues} type veth peer name tg1 netns {peer_path} {queues}"
        ));
        for (host, interface, address) in [
            (&appliance, "tg0", "10.9.0.1/24"),
            (&peer, "tg1", "10.9.0.2/24"),
        ] {
            host.ip(&format!("addr add {address} dev {interface}"));
            host.ip("link set lo up");
        }
        // Both ends at once have a carrier only after the second.
        appliance.ip("link set tg0 up");
        peer.ip("link set tg1 up");
        Some(Self {
            appliance,
            peer,
            _exclusive: exclusive,
        })
    }
}
