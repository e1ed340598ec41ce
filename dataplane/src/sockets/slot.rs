//! One connection.

use crate::sockets::ring::Ring;
use rustix::io::Errno;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use tidegate_proxy::streams::CloseReason;

/// Who decides about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody: it is free.
    Free,
    /// The proxy.
    Proxy,
    /// The proxy has released it; it delivers what is queued and goes away.
    Network,
}

/// What the other end is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It came through this listener.
    Client(u16),
    /// We connected to it.
    Server,
}

/// A place for a connection. The flags whose names begin with `listed` outlive the connection: they say that the slot number
/// stands in a list.
#[derive(Debug)]
pub(crate) struct Slot {
    /// `None`: closed, or free.
    pub(crate) socket: Option<OwnedFd>,
    /// Told apart from earlier connections in the same slot, whose events may still be on their way.
    pub(crate) generation: u32,
    pub(crate) owner: Owner,
    pub(crate) role: Role,
    pub(crate) peer: SocketAddr,
    /// Whether it is TCP, not a Unix socket.
    pub(crate) tcp: bool,
    pub(crate) connecting: bool,
    /// Why the connection failed at once, while the proxy does not know it yet.
    pub(crate) refused: Option<Errno>,
    pub(crate) closed: Option<CloseReason>,
    /// Bytes for the proxy.
    pub(crate) received: Ring,
    /// Bytes for the kernel.
    pub(crate) queued: Ring,
    /// The kernel may have more bytes than there was room for.
    pub(crate) unread: bool,
    /// The kernel says that the peer has finished or broken off: reading has to go on until it shows.
    pub(crate) hung_up: bool,
    /// The peer has finished, and everything before that was received.
    pub(crate) eof: bool,
    /// The kernel takes no more bytes until it says so.
    pub(crate) write_blocked: bool,
    /// Epoll tells of room to send.
    pub(crate) room_told: bool,
    /// Somebody found no room for everything.
    pub(crate) starved: bool,
    /// We have nothing more to queue: FIN follows what is queued.
    pub(crate) finished: bool,
    /// FIN is on its way.
    pub(crate) shut: bool,
    pub(crate) reply_expected: bool,
    /// Nothing was received from a client yet, nor sent to it. The kernel acknowledges the first bytes by itself at once.
    pub(crate) fresh: bool,
    /// Something was received, and nothing that acknowledges it was sent since.
    pub(crate) owes_ack: bool,
    pub(crate) listed_ready: bool,
    pub(crate) listed_dirty: bool,
    pub(crate) listed_unread: bool,
    pub(crate) listed_read: bool,
}

/// The peer of a Unix socket, which has no address.
pub(crate) const NO_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Slot {
    pub(crate) fn free() -> Self {
        Self {
            socket: None,
            generation: 0,
            owner: Owner::Free,
            role: Role::Server,
            peer: NO_ADDRESS,
            tcp: false,
            connecting: false,
            refused: None,
            closed: None,
            received: Ring::default(),
            queued: Ring::default(),
            unread: false,
            hung_up: false,
            eof: false,
            write_blocked: false,
            room_told: false,
            starved: false,
            finished: false,
            shut: false,
            reply_expected: false,
            fresh: false,
            owes_ack: false,
            listed_ready: false,
            listed_dirty: false,
            listed_unread: false,
            listed_read: false,
        }
    }

    /// Begins a connection.
    pub(crate) fn open(&mut self, socket: Option<OwnedFd>, role: Role, peer: Option<SocketAddr>) {
        *self = Self {
            socket,
            owner: Owner::Proxy,
            role,
            peer: peer.unwrap_or(NO_ADDRESS),
            tcp: peer.is_some(),
            fresh: matches!(role, Role::Client(_)),
            generation: self.generation,
            listed_ready: self.listed_ready,
            listed_dirty: self.listed_dirty,
            listed_unread: self.listed_unread,
            listed_read: self.listed_read,
            ..Self::free()
        };
    }

    /// Whether received bytes may still be read: a reset or a timeout takes them along.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.owner == Owner::Proxy && matches!(self.closed, None | Some(CloseReason::Finished))
    }

    /// Whether bytes may still be queued.
    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        self.owner == Owner::Proxy && !self.finished && self.closed.is_none()
    }
}
