//! What can go wrong when an AF_XDP socket is opened, in words that tell the operator what to do.

use std::io;
use std::time::Duration;

use super::{MTU_BYTES_MAX, RING_SIZE_MAX, RING_SIZE_MIN};
use crate::nic;

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AfXdpError {
    /// The ring size is not usable.
    #[error("ring_size has to be a power of two from {RING_SIZE_MIN} to {RING_SIZE_MAX}, not {0}")]
    RingSize(u32),
    /// A frame of this MTU does not fit a chunk.
    #[error(
        "{interface} has an MTU of {mtu_bytes} bytes; AF_XDP takes at most {MTU_BYTES_MAX} here: ip link set {interface} mtu 1500"
    )]
    Mtu {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu_bytes: usize,
    },
    /// EPERM.
    #[error(
        "no permission to {action}: {capability} is missing; run as root or grant it (setcap, systemd AmbientCapabilities=)"
    )]
    Capability {
        /// What was tried.
        action: &'static str,
        /// What it needs.
        capability: &'static str,
    },
    /// EAFNOSUPPORT.
    #[error(
        "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): use driver = \"kernel\" or another kernel"
    )]
    NoAfXdp,
    /// EBUSY until the deadline.
    #[error(
        "queue {queue} of {interface} already has an AF_XDP socket, and kept it for {}: stop the process that owns it \
         (ss --xdp -p shows it)",
        waited_text(waited)
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// EINVAL from bind.
    #[error(
        "{interface} has no queue {queue} for AF_XDP: compare the number of its queues (ethtool -l {interface}) with the \
         queue map of the configuration"
    )]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// Zero-copy was required.
    #[error(
        "queue {queue} of {interface} cannot do zero-copy ({source}): its driver does not support it, or not with the current \
         MTU and XDP mode; set require_zero_copy = false to run with one copy per frame"
    )]
    NoZeroCopy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// ENOMEM or ENOBUFS.
    #[error(
        "not enough memory for {bytes} bytes of packet buffers ({source}): lower ring_size, free memory, or raise the limit of \
         locked memory (ulimit -l, systemd LimitMEMLOCK=)"
    )]
    Memory {
        /// Size of the buffers.
        bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// ENETDOWN.
    #[error("{interface} is down: ip link set {interface} up")]
    Down {
        /// The interface.
        interface: String,
    },
    /// ENODEV.
    #[error("there is no {interface} in this network namespace")]
    NoInterface {
        /// The interface.
        interface: String,
    },
    /// Anything else.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn waited_text(waited: &Duration) -> String {
    format!("{} ms", waited.as_millis())
}

/// "eth1", or what is known of it.
pub(super) fn interface(ifindex: u32) -> String {
    nic::name_of(ifindex).unwrap_or_else(|| format!("interface with index {ifindex}"))
}

/// What an error of a system call before bind means.
pub(super) fn of_setup(action: &'static str, bytes: usize, source: io::Error) -> AfXdpError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => AfXdpError::Capability {
            action,
            capability: "CAP_NET_RAW",
        },
        Some(libc::EAFNOSUPPORT) => AfXdpError::NoAfXdp,
        Some(libc::ENOMEM | libc::ENOBUFS) => AfXdpError::Memory { bytes, source },
        _ => AfXdpError::System { action, source },
    }
}

/// What an error of bind means.
pub(super) fn of_bind(
    ifindex: u32,
    queue: u32,
    zero_copy: bool,
    bytes: usize,
    source: io::Error,
) -> AfXdpError {
    let interface = interface(ifindex);
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => AfXdpError::Capability {
            action: "bind an AF_XDP socket to a queue",
            capability: "CAP_NET_RAW (and CAP_NET_ADMIN for zero-copy)",
        },
        Some(libc::EINVAL) if !zero_copy => AfXdpError::NoQueue { interface, queue },
        Some(libc::EOPNOTSUPP | libc::EINVAL) if zero_copy => AfXdpError::NoZeroCopy {
            interface,
            queue,
            source,
        },
        Some(libc::ENOMEM | libc::ENOBUFS) => AfXdpError::Memory { bytes, source },
        Some(libc::ENETDOWN) => AfXdpError::Down { interface },
        Some(libc::ENODEV) => AfXdpError::NoInterface { interface },
        _ => AfXdpError::System {
            action: "bind an AF_XDP socket to a queue",
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_missing_capability_and_the_way_out() {
        let os = io::Error::from_raw_os_error;
        let text = |error: AfXdpError| error.to_string();
        assert!(
            text(of_setup("open an AF_XDP socket", 0, os(libc::EPERM)))
                .contains("CAP_NET_RAW is missing")
        );
        assert!(text(of_setup("register memory", 4_096, os(libc::ENOBUFS))).contains("ulimit -l"));
        assert!(
            text(of_setup("open an AF_XDP socket", 0, os(libc::EAFNOSUPPORT)))
                .contains("no AF_XDP")
        );
        assert!(text(of_bind(u32::MAX, 7, false, 0, os(libc::EINVAL))).contains("has no queue 7"));
        assert!(
            text(of_bind(u32::MAX, 7, true, 0, os(libc::EOPNOTSUPP)))
                .contains("require_zero_copy = false")
        );
        assert!(text(of_bind(1, 0, false, 0, os(libc::ENETDOWN))).contains("ip link set lo up"));
        assert!(
            text(of_bind(u32::MAX, 0, false, 0, os(libc::ENODEV))).contains("index 4294967295")
        );
    }
}
