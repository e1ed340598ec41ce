//! Whether every address can be listened on. All faults are found, not only the first.

use super::limits;
use super::unix::{self, Found};
use crate::preflight::placed_listeners;
use crate::runtime_dir::Presence;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use nix::unistd::{AccessFlags, access, geteuid};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use tidegate_channel::message::SHARED_LISTENERS_MAX;
use tidegate_config::{Config, Endpoint, Table};

/// Where the lowest port stands that needs no privilege.
const UNPRIVILEGED_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Who may be listening already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nobody: a taken address is a fault.
    IsAFault,
    /// The instance itself, or its workers: a taken address says nothing.
    IsOurs,
}

impl Taken {
    /// By who there is of the instance.
    pub fn by(presence: &Presence) -> Self {
        if presence.serves() {
            Self::IsOurs
        } else {
            Self::IsAFault
        }
    }

    /// Whether this is to be expected of an address that is listened on.
    pub fn excuses(self, error: &std::io::Error) -> bool {
        self == Self::IsOurs && error.kind() == std::io::ErrorKind::AddrInUse
    }
}

/// Faults of the listening addresses and of the source address.
pub fn addresses(config: &Config, taken: Taken) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, pool, listen) in placed_listeners(config) {
        let fault = match &listen.endpoint {
            Endpoint::Ip(address) => of_address(*address, taken),
            Endpoint::Unix(path) => of_path(path, taken),
        };
        let place = config.place_of(Table::Pool(pool), "listen", index);
        let pool = &config.pools[pool].name;
        faults.extend(fault.map(|fault| format!("{place}pool {pool}: {fault}")));
    }
    let source = config.worker.source_address.and_then(of_source);
    let place = config.place(Table::Worker, "source_address");
    faults.extend(source.map(|fault| format!("{place}{fault}")));
    let shared = super::listeners::shared(config).count();
    if shared > SHARED_LISTENERS_MAX {
        faults.push(format!(
            "{shared} listening sockets are shared by workers, at most {SHARED_LISTENERS_MAX} can be: use fewer Unix sockets, or \
             reuseport = true"
        ));
    }
    faults
}

/// What is allowed and probably not meant.
pub fn warnings(config: &Config) -> Vec<String> {
    let user = geteuid();
    let no_effect = config
        .worker
        .user
        .as_ref()
        .filter(|_| !user.is_root())
        .map(|name| {
            format!(
                "worker.user = {name:?} has no effect: only root can become another user, workers stay user {user}"
            )
        });
    let too_few = limits::too_few(config, limits::open_files());
    no_effect.into_iter().chain(too_few).collect()
}

/// Binds without sharing the port, so that every other listener is found, whoever's it is.
fn probe(address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let probe = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Connections that a listener before us closed are not in the way; a listener is, all the same.
    setsockopt(&probe, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&probe, sockopt::Ipv6V6Only, &true)?;
    }
    bind(probe.as_raw_fd(), &SockaddrStorage::from(address))
}

fn of_address(address: SocketAddr, taken: Taken) -> Option<String> {
    match probe(address).err()? {
        Errno::EADDRINUSE if taken == Taken::IsOurs => None,
        Errno::EADDRINUSE => Some(format!(
            "{address} is in use: ss -ltnp sport = :{} shows by whom",
            address.port()
        )),
        Errno::EADDRNOTAVAIL => Some(format!(
            "{} is not an address of this host: ip addr shows those that are",
            address.ip()
        )),
        Errno::EACCES | Errno::EPERM => {
            let first = std::fs::read_to_string(UNPRIVILEGED_PORT).unwrap_or_default();
            let first = first.trim().parse().unwrap_or(1_024_u16);
            Some(format!(
                "{address}: permission denied: ports below {first} need CAP_NET_BIND_SERVICE or a start as root; choose a higher \
                 one, or lower net.ipv4.ip_unprivileged_port_start"
            ))
        }
        Errno::EAFNOSUPPORT => Some(format!("{address}: this kernel has no IPv6")),
        error => Some(format!("{address} cannot be listened on: {}", error.desc())),
    }
}

fn of_source(source: IpAddr) -> Option<String> {
    probe(SocketAddr::new(source, 0))
        .err()
        .map(|_| format!("worker.source_address {source} is not an address of this host"))
}

fn of_path(path: &Path, taken: Taken) -> Option<String> {
    let shown = path.display();
    match unix::look(path) {
        Found::NoSocket => {
            return Some(format!(
                "{shown} is there and is no socket: remove it, or choose another path"
            ));
        }
        Found::Taken if taken == Taken::IsOurs => return None,
        Found::Taken => {
            return Some(format!(
                "{shown} is in use: another process listens there (ss -lxp src {shown} shows which)"
            ));
        }
        Found::Unknown(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Some(format!(
                "{shown}: permission denied; choose a directory that is yours"
            ));
        }
        Found::Unknown(error) => return Some(format!("{shown} cannot be looked at: {error}")),
        Found::Nothing | Found::Stale => {}
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    match access(directory, AccessFlags::W_OK | AccessFlags::X_OK).err()? {
        Errno::ENOENT | Errno::ENOTDIR => Some(format!(
            "{shown}: the directory {} does not exist: make it, or choose another path",
            directory.display()
        )),
        error => Some(format!(
            "{shown}: no socket can be made in {}: {}",
            directory.display(),
            error.desc()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn config(listen: &[&str]) -> Config {
        let text = format!(
            "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"sessions\"\nprotocol = \"redis\"\nlisten = {listen:?}\n\
             servers = [\"192.0.2.1:2\"]\n"
        );
        Config::parse(&text, "test").unwrap()
    }

    #[test]
    fn an_address_that_anybody_listens_on_is_taken_even_if_he_shares_it() {
        let listener = TcpListener::bind("127.83.1.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = config(&[&address.to_string()]);
        let faults = addresses(&taken, Taken::IsAFault);
        let expected = format!("test:6:11: pool sessions: {address} is in use: ss -ltnp sport = :");
        assert!(
            faults.len() == 1 && faults[0].starts_with(&expected),
            "{faults:?}"
        );
        assert_eq!(addresses(&taken, Taken::IsOurs), Vec::<String>::new());
        drop(listener);
        assert_eq!(addresses(&taken, Taken::IsAFault), Vec::<String>::new());

        let shared = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        setsockopt(&shared, sockopt::ReusePort, &true).unwrap();
        bind(shared.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        nix::sys::socket::listen(&shared, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        assert_eq!(addresses(&taken, Taken::IsAFault).len(), 1);
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let mut config = config(&["192.0.2.7:11211", "/no/such/place/a.sock"]);
        config.worker.source_address = Some("192.0.2.8".parse().unwrap());
        let faults = addresses(&config, Taken::IsAFault).join("\n");
        for expected in [
            "192.0.2.7 is not an address of this host",
            "the directory /no/such/place does not exist",
            "source_address 192.0.2.8 is not an address of this host",
        ] {
            assert!(
                faults.contains(expected),
                "{expected:?} is not in\n{faults}"
            );
        }
    }

    #[test]
    fn what_is_in_the_way_of_a_unix_socket_is_named() {
        let folder = std::env::temp_dir().join(format!("tidegate-paths-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("a.sock");
        let config = config(&[path.to_str().unwrap()]);
        assert_eq!(addresses(&config, Taken::IsAFault), Vec::<String>::new());
        let listener = UnixListener::bind(&path).unwrap();
        let faults = addresses(&config, Taken::IsAFault).join("\n");
        assert!(faults.contains("another process listens there"), "{faults}");
        assert_eq!(addresses(&config, Taken::IsOurs), Vec::<String>::new());
        drop(listener);
        assert_eq!(
            addresses(&config, Taken::IsAFault),
            Vec::<String>::new(),
            "what a killed process left is not in the way"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        let faults = addresses(&config, Taken::IsAFault).join("\n");
        assert!(faults.contains("is no socket"), "{faults}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
