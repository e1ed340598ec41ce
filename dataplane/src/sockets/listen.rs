//! Listening sockets: opened by a worker for itself, or by the manager for all workers.

use crate::sockets::endpoint::Endpoint;
use crate::sockets::limits::{PROBE_INTERVAL_S, PROBES_MAX, UNSENT_BYTES_MAX, USER_TIMEOUT_MS};
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use socket2::SockRef;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// A listening socket of a worker.
#[derive(Debug)]
pub struct Listening {
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// Whether other workers accept from it as well.
    pub shared: bool,
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Whether every worker opens a listener of its own at this address, among which the kernel divides connections. TCP only.
    pub reuse_port: bool,
    /// Silence after which a client is probed, in seconds; `None`: never. TCP only.
    pub keepalive_s: Option<u32>,
    /// Permissions of the socket's file; `None`: what the umask leaves. Unix only.
    pub mode: Option<u32>,
}

/// The file that was made is not the one at its path. The kernel says so of files behind a network, never of sockets.
const REPLACED: Errno = Errno::STALE;

/// Why nothing listens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "{endpoint}: address in use: stop what listens there (ss -ltnp, ss -lxp) or choose another address"
    )]
    InUse {
        /// Where.
        endpoint: String,
    },
    /// No interface has the address.
    #[error(
        "{endpoint}: address not available: give it to an interface (ip addr add …) or choose another"
    )]
    NotAvailable {
        /// Where.
        endpoint: String,
    },
    /// Not allowed to.
    #[error("{endpoint}: permission denied: {hint}")]
    Denied {
        /// Where.
        endpoint: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is a file of another kind.
    #[error("{endpoint}: there is a file that is no socket: remove it or choose another path")]
    NoSocket {
        /// Where.
        endpoint: String,
    },
    /// The path does not fit.
    #[error("{endpoint}: path too long: the kernel takes at most 107 bytes")]
    TooLong {
        /// Where.
        endpoint: String,
    },
    /// The folder is missing.
    #[error("{endpoint}: no such folder: make it first (mkdir -p)")]
    NoFolder {
        /// Where.
        endpoint: String,
    },
    /// The file was another one as soon as it was made.
    #[error(
        "{endpoint}: somebody else puts files into the folder: let nobody but its user write there"
    )]
    Replaced {
        /// Where.
        endpoint: String,
    },
    /// Out of descriptors or memory.
    #[error("{endpoint}: {error}: raise the limit of open files (ulimit -n) or free memory")]
    NoResource {
        /// Where.
        endpoint: String,
        /// What the kernel said.
        error: String,
    },
    /// Anything else.
    #[error("{endpoint}: cannot listen: {error}")]
    Other {
        /// Where.
        endpoint: String,
        /// What the kernel said.
        error: String,
    },
}

impl ListenError {
    /// Whether the same would happen again at the next attempt, unless somebody changes something.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::InUse { .. } | Self::NoResource { .. })
    }

    fn new(endpoint: &Endpoint, error: Errno) -> Self {
        let unix = matches!(endpoint, Endpoint::Unix(_));
        let endpoint = endpoint.to_string();
        match error {
            Errno::ADDRINUSE => Self::InUse { endpoint },
            Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => Self::NotAvailable { endpoint },
            Errno::ACCESS | Errno::PERM => Self::Denied {
                endpoint,
                hint: if unix {
                    "the user has to be allowed to write in the folder"
                } else {
                    "ports below 1024 need CAP_NET_BIND_SERVICE"
                },
            },
            Errno::NOTSOCK => Self::NoSocket { endpoint },
            Errno::NAMETOOLONG => Self::TooLong { endpoint },
            Errno::NOENT | Errno::NOTDIR => Self::NoFolder { endpoint },
            REPLACED => Self::Replaced { endpoint },
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Self::NoResource {
                endpoint,
                error: error.to_string(),
            },
            _ => Self::Other {
                endpoint,
                error: error.to_string(),
            },
        }
    }
}

/// Opens a socket that keeps an address without listening on it, so that nobody is kept waiting before somebody accepts. TCP only: the
/// file of a Unix socket would be there for everybody to see. [`begin`] then makes it listen, for which no privilege is needed.
pub fn keep(address: SocketAddr, options: &ListenOptions) -> Result<OwnedFd, ListenError> {
    bound(address, options).map_err(|error| ListenError::new(&Endpoint::Ip(address), error))
}

/// Listens on a socket that keeps an address; on one that listens already, changes how many connections may wait.
pub fn begin(socket: &OwnedFd, backlog: u32) -> Result<(), ListenError> {
    net::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(|error| {
        let endpoint = local_address(socket.as_fd());
        let endpoint = endpoint.map_or_else(|| "a listener".into(), |address| address.to_string());
        ListenError::Other {
            endpoint,
            error: error.to_string(),
        }
    })
}

/// Opens a listening socket. Accepted connections inherit every option from it.
pub fn listen(endpoint: &Endpoint, options: &ListenOptions) -> Result<OwnedFd, ListenError> {
    let socket = match endpoint {
        Endpoint::Ip(address) => listen_tcp(*address, options),
        Endpoint::Unix(path) => listen_unix(path, options),
    };
    socket.map_err(|error| ListenError::new(endpoint, error))
}

fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> Result<OwnedFd, Errno> {
    let socket = bound(address, options)?;
    net::listen(&socket, backlog(options))?;
    Ok(socket)
}

fn bound(address: SocketAddr, options: &ListenOptions) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = stream_socket(family)?;
    // Connections of an earlier run in TIME-WAIT must not keep us from the address.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if options.reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if address.is_ipv6() {
        // [::]:80 and 0.0.0.0:80 are two addresses, whatever the system's default.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    set_tcp_options(&socket, options.keepalive_s.map(u64::from))?;
    SockRef::from(&socket)
        .set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// What connections need, on one of them or on the listener that they come from.
pub(crate) fn set_tcp_options(socket: &OwnedFd, keepalive_s: Option<u64>) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT_MS)?;
    sockopt::set_socket_keepalive(socket, keepalive_s.is_some())?;
    if let Some(seconds) = keepalive_s {
        sockopt::set_tcp_keepidle(socket, Duration::from_secs(seconds))?;
        sockopt::set_tcp_keepintvl(socket, Duration::from_secs(PROBE_INTERVAL_S))?;
        sockopt::set_tcp_keepcnt(socket, PROBES_MAX)?;
    }
    Ok(())
}

/// Nobody can connect before `listen`, so nobody slips in before the permissions are set.
fn listen_unix(path: &Path, options: &ListenOptions) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    remove_stale(path, &address)?;
    let socket = stream_socket(AddressFamily::UNIX)?;
    if options.mode.is_some() {
        // The file is born with the permissions of its socket.
        fs::fchmod(&socket, Mode::empty())?;
    }
    net::bind(&socket, &address)?;
    if let Some(mode) = options.mode {
        set_mode(path, Mode::from_raw_mode(mode))?;
    }
    net::listen(&socket, backlog(options))?;
    Ok(socket)
}

/// Gives the file of a socket its permissions, which has none so far. The folder may be another user's, who can put any file in its
/// place meanwhile, and links to files of ours: only what is a socket without permissions, as nobody else's of ours is, gets others.
fn set_mode(path: &Path, mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => REPLACED,
        error => error,
    })?;
    let found = fs::fstat(&file)?.st_mode;
    let is_socket = FileType::from_raw_mode(found) == FileType::Socket;
    if !is_socket || !Mode::from_raw_mode(found).is_empty() {
        return Err(REPLACED);
    }
    // The file itself, whatever the path leads to by now: what was opened by its path alone takes no fchmod.
    fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
}

/// Removes the socket file of somebody who is gone. One that is answered for is in use.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), Errno> {
    let status = match fs::lstat(path) {
        Ok(status) => status,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
        return Err(Errno::NOTSOCK);
    }
    match net::connect(stream_socket(AddressFamily::UNIX)?, address) {
        Err(Errno::CONNREFUSED) => fs::unlink(path),
        Err(Errno::NOENT) => Ok(()),
        // A full backlog says AGAIN, another kind of socket PROTOTYPE: somebody is there.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(Errno::ADDRINUSE),
        Err(error) => Err(error),
    }
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(family, SocketType::STREAM, flags, None)
}

fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// The address that a TCP listener has: the one asked for, with the port that was chosen if none was.
pub fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = net::getsockname(socket.as_fd()).ok()?;
    SocketAddr::try_from(address).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{metadata, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_was_put_in_place_of_the_file_keeps_its_permissions() {
        let folder = format!("tidegate-set-mode-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let [file, link, socket, own] =
            ["file", "link", "socket", "own"].map(|name| folder.join(name));
        std::fs::write(&file, b"precious").unwrap();
        symlink(&file, &link).unwrap();
        let _sockets = [&socket, &own].map(|path| UnixListener::bind(path).unwrap());
        let mode = |path: &Path| metadata(path).unwrap().permissions().mode() & 0o777;
        for (path, before) in [(&file, 0o600), (&socket, 0o600), (&own, 0)] {
            set_permissions(path, PermissionsExt::from_mode(before)).unwrap();
        }
        let wanted = Mode::from_raw_mode(0o666);
        for path in [&file, &link, &socket, &folder.join("nothing")] {
            assert_eq!(set_mode(path, wanted), Err(REPLACED), "{}", path.display());
        }
        assert_eq!(set_mode(&own, wanted), Ok(()));
        assert_eq!(
            [&file, &socket, &own].map(|path| mode(path)),
            [0o600, 0o600, 0o666]
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
