//! Says when routes, neighbours, links or addresses changed. What changed is then asked for: an event may have been lost.

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Multicast groups of `linux/rtnetlink.h`.
const GROUPS: &[u32] = &[
    1,  // RTNLGRP_LINK
    3,  // RTNLGRP_NEIGH
    5,  // RTNLGRP_IPV4_IFADDR
    7,  // RTNLGRP_IPV4_ROUTE
    9,  // RTNLGRP_IPV6_IFADDR
    11, // RTNLGRP_IPV6_ROUTE
];

/// Datagrams read per look: a storm of events must not keep the manager from its other work.
const READ_MAX: usize = 64;

/// A socket that hears of changes.
pub struct Events {
    socket: Socket,
}

impl Events {
    /// Subscribes.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(*group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Takes what waits; `true`: something changed. Overrun (ENOBUFS) means that events were lost, which is a change too.
    pub fn take(&self) -> bool {
        let mut changed = false;
        for _ in 0..READ_MAX {
            // The content does not matter, so that a datagram larger than this is cut without loss.
            let mut buffer = [0; 512];
            match self.socket.recv_from(&mut &mut buffer[..], 0) {
                Ok(_) => changed = true,
                Err(error) => {
                    changed |= error.raw_os_error() == Some(nix::libc::ENOBUFS);
                    break;
                }
            }
        }
        changed
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
