//! What an operator would lose with an interface: the way out of this machine, and the connection that he sits on.
//!
//! A default route is one to half of all addresses or more, in whichever table. An ssh connection is one that a process of ssh has,
//! or one from or to a port that ssh is spoken on.

use crate::host::{Host, interface_directory, value};
use crate::kernel_listeners::{ESTABLISHED, LISTEN, TcpSocket};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The port that ssh is spoken on where nobody has chosen another.
const SSH_PORT: u16 = 22;
/// How the names of processes begin that speak ssh.
const SSH_PROCESSES: [&str; 3] = ["ssh", "dropbear", "tinyssh"];
/// Prefixes up to this length are default routes: some programs write two halves in place of the whole.
const DEFAULT_PREFIX_BITS_MAX: u8 = 1;

/// The lifelines of this machine, by index of the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifelines {
    default_routes: BTreeSet<u32>,
    ssh: Vec<(BTreeSet<u32>, SocketAddr)>,
}

impl Lifelines {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It does not say: then nobody can know.
    pub fn gather(host: &dyn Host) -> io::Result<Self> {
        let routes = host.routes()?;
        let default_routes = routes
            .iter()
            .filter(|route| route.prefix_bits <= DEFAULT_PREFIX_BITS_MAX)
            .flat_map(|route| route.interfaces.iter().copied())
            .collect();
        let own = host.addresses()?;
        let mut ssh = Vec::new();
        for connection in ssh_connections(host)? {
            let (local, remote) = (connection.local.ip(), connection.remote.ip());
            let on = own.iter().filter(|(_, address)| *address == local);
            let mut interfaces: BTreeSet<u32> = on.map(|(index, _)| *index).collect();
            // The address may be on another interface than the way. Without its interface a link-local one leads nowhere.
            if !is_link_local(remote) {
                interfaces.extend(host.towards(remote)?);
            }
            ssh.push((interfaces, connection.remote));
        }
        Ok(Self {
            default_routes,
            ssh,
        })
    }

    /// What these interfaces carry, in words; empty: nothing.
    pub fn over(&self, interfaces: &[u32]) -> Vec<String> {
        let mut carried = Vec::new();
        let is_in = |index: &u32| interfaces.contains(index);
        if self.default_routes.iter().any(is_in) {
            carried.push("the default route".to_owned());
        }
        let over = |lines: &BTreeSet<u32>| lines.iter().any(is_in);
        if let Some((_, peer)) = self.ssh.iter().find(|(lines, _)| over(lines)) {
            carried.push(format!("an ssh connection with {peer}"));
        }
        carried
    }
}

/// Interfaces that are made of this one: bonds, bridges, VLANs and the like, and what is made of those.
pub fn above(host: &dyn Host, interface: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = vec![interface.to_owned()];
    while let Some(name) = next.pop() {
        let Some(directory) = interface_directory(host, &name) else {
            continue;
        };
        for entry in host.list(&directory) {
            if let Some(upper) = entry.strip_prefix("upper_")
                && !found.iter().any(|known| known == upper)
            {
                found.push(upper.to_owned());
                next.push(upper.to_owned());
            }
        }
    }
    found
}

/// An address that means another machine on each link.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn ssh_connections(host: &dyn Host) -> io::Result<Vec<TcpSocket>> {
    let of_ssh = sockets_of_ssh(host);
    let mut ports = BTreeSet::from([SSH_PORT]);
    // Two looks: a port may be listened on further down than its connections stand.
    each_socket(host, |socket| {
        if socket.state == LISTEN && of_ssh.contains(&socket.inode) {
            ports.insert(socket.local.port());
        }
    })?;
    let mut found = Vec::new();
    each_socket(host, |socket| {
        let ends = [socket.local.port(), socket.remote.port()];
        let speaks = of_ssh.contains(&socket.inode) || ends.iter().any(|port| ports.contains(port));
        if socket.state == ESTABLISHED && speaks {
            found.push(socket);
        }
    })?;
    Ok(found)
}

fn each_socket(host: &dyn Host, mut take: impl FnMut(TcpSocket)) -> io::Result<()> {
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let mut line = |line: &str| {
            if let Some(socket) = TcpSocket::parse(line) {
                take(socket);
            }
        };
        match host.lines(file, &mut line) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// The sockets of processes that speak ssh, as far as we may see them: root may see all.
fn sockets_of_ssh(host: &dyn Host) -> BTreeSet<u64> {
    let processes = host.list("/proc").into_iter();
    processes
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|process| {
            let name = value(host, &format!("/proc/{process}/comm")).unwrap_or_default();
            SSH_PROCESSES.iter().any(|ssh| name.starts_with(ssh))
        })
        .flat_map(|process| {
            let directory = format!("/proc/{process}/fd");
            let files = host.list(&directory).into_iter();
            let links = files.filter_map(|file| host.link(&format!("{directory}/{file}")));
            links.collect::<Vec<_>>()
        })
        .filter_map(|link| {
            let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect()
}

#[cfg(test)]
#[path = "lifelines_tests.rs"]
mod tests;
