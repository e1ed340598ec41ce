//! Connections to servers.

use crate::sockets::endpoint::Endpoint;
use crate::sockets::limits::SERVER_KEEPALIVE_S;
use crate::sockets::listen::set_tcp_options;
use crate::sockets::slot::{Owner, Role};
use crate::sockets::table::{SocketStreams, close_reason};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use tidegate_proxy::streams::{ConnectError, ServerId};

/// How we go out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    source_address: Option<IpAddr>,
}

/// A connection under way, or already made.
struct Attempt {
    socket: OwnedFd,
    outcome: Result<(), Errno>,
}

impl Outgoing {
    pub(crate) fn new(source_address: Option<IpAddr>) -> Self {
        Self { source_address }
    }

    fn connect(&self, server: &Endpoint) -> Result<Attempt, Errno> {
        match server {
            Endpoint::Ip(address) => self.connect_tcp(*address),
            Endpoint::Unix(path) => connect_unix(path),
        }
    }

    fn connect_tcp(&self, server: SocketAddr) -> Result<Attempt, Errno> {
        let family = if server.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = stream_socket(family)?;
        set_tcp_options(&socket, Some(SERVER_KEEPALIVE_S))?;
        if let Some(source) = self.source_address
            && source.is_ipv4() == server.is_ipv4()
        {
            // The kernel then chooses the port at connect, when it knows the other end: as many connections per server as there
            // are ports, instead of as many in all. Without the option it is fewer.
            let _fewer = setsockopt(&socket, IpBindAddressNoPort, &true);
            // An address that is not ours leads nowhere; ports are not the question here.
            net::bind(&socket, &SocketAddr::new(source, 0)).map_err(|error| match error {
                Errno::ADDRNOTAVAIL => Errno::NETUNREACH,
                error => error,
            })?;
        }
        let outcome = net::connect(&socket, &server);
        Ok(Attempt { socket, outcome })
    }
}

fn connect_unix(path: &Path) -> Result<Attempt, Errno> {
    let socket = stream_socket(AddressFamily::UNIX)?;
    let outcome = net::connect(&socket, &SocketAddrUnix::new(path)?);
    Ok(Attempt { socket, outcome })
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(family, SocketType::STREAM, flags, None)
}

fn connect_error(error: Errno) -> ConnectError {
    match error {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC => {
            ConnectError::NoDescriptor
        }
        Errno::ADDRINUSE | Errno::ADDRNOTAVAIL => ConnectError::NoPort,
        _ => ConnectError::NoRoute,
    }
}

/// Whether the attempt itself was not possible, as opposed to answered by somebody.
fn is_local(error: Errno) -> bool {
    matches!(
        error,
        Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::INVAL
            | Errno::PERM
            | Errno::AFNOSUPPORT
    )
}

impl SocketStreams {
    /// Begins a connection to a server, in a slot of its own.
    pub(crate) fn open_server(&mut self, server: ServerId) -> Result<u32, ConnectError> {
        let endpoint = self
            .servers
            .get(usize::from(server.0))
            .ok_or(ConnectError::NoRoute)?;
        if self.free_servers.is_empty() {
            return Err(ConnectError::NoSlot);
        }
        let peer = endpoint.ip();
        let attempt = self.outgoing.connect(endpoint).map_err(connect_error);
        self.servers_first = matches!(attempt, Err(ConnectError::NoDescriptor));
        let attempt = attempt?;
        if let Err(error) = attempt.outcome
            && is_local(error)
        {
            return Err(connect_error(error));
        }
        let slot = self.free_servers.pop().ok_or(ConnectError::NoSlot)?;
        let under_way = [Err(Errno::INPROGRESS), Err(Errno::INTR)].contains(&attempt.outcome);
        if let Err(error) = attempt.outcome
            && !under_way
        {
            self.refuse_later(slot, error);
            return Ok(slot);
        }
        self.slot_mut(slot)
            .open(Some(attempt.socket), Role::Server, peer);
        self.slot_mut(slot).connecting = under_way;
        if let Err(error) = self.register(slot) {
            self.free(slot);
            return Err(connect_error(error));
        }
        if under_way {
            self.connecting.start(slot, self.now_us);
        } else {
            self.connected(slot);
        }
        Ok(slot)
    }

    /// Refused while we asked, as Unix sockets do. The proxy is told when it next looks, as of any other refusal: then the
    /// requests that it is about to queue fail with this connection. A stream without room for them would make it try again
    /// and again.
    fn refuse_later(&mut self, slot: u32, error: Errno) {
        let state = self.slot_mut(slot);
        state.open(None, Role::Server, None);
        state.connecting = true;
        state.refused = Some(error);
        self.mark_ready_slot(slot);
    }

    /// Tells of a refusal that was kept back.
    #[inline]
    pub(crate) fn refuse_now(&mut self, slot: u32) {
        if let Some(error) = self.slot_mut(slot).refused.take() {
            self.connect_failed(slot, error);
        }
    }

    /// The kernel says that something came of a connection under way.
    pub(crate) fn complete_connect(&mut self, slot: u32) {
        let Some(socket) = &self.slot(slot).socket else {
            return;
        };
        match sockopt::socket_error(socket).and_then(|outcome| outcome) {
            Ok(()) => self.connected(slot),
            Err(error) => self.connect_failed(slot, error),
        }
    }

    fn connected(&mut self, slot: u32) {
        self.connecting.remove(slot);
        self.stack.connected += 1;
        let state = self.slot_mut(slot);
        state.connecting = false;
        let (queued, finished) = (!state.queued.is_empty(), state.finished);
        if finished {
            self.wait_for_end(slot);
        } else if queued {
            self.mark_dirty(slot);
        }
        debug_assert!(self.slot(slot).owner != Owner::Free);
        self.mark_ready_slot(slot);
    }

    fn connect_failed(&mut self, slot: u32, error: Errno) {
        self.stack.connects_failed += 1;
        self.close(slot, close_reason(error));
    }
}
