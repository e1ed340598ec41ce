//! Which addresses kernel sockets listen on, from `/proc/net/tcp` and `/proc/net/tcp6`.
//!
//! A kernel socket that listens where a pool listens would lose its traffic to us as soon as the steering program is
//! attached: better to say so before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_ESTABLISHED` in the state column.
pub const ESTABLISHED: u8 = 0x01;
/// `TCP_LISTEN` in the state column.
pub const LISTEN: u8 = 0x0a;

/// A TCP socket, as a line of `/proc/net/tcp` or `/proc/net/tcp6` tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Our end. An IPv4 address is one, also where IPv6 carries it.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The state.
    pub state: u8,
    /// Which of the links of a process leads to it.
    pub inode: u64,
}

impl TcpSocket {
    /// `None`: the line tells of none, such as the headline.
    pub fn parse(line: &str) -> Option<Self> {
        let mut columns = line.split_ascii_whitespace();
        let local = address(columns.nth(1)?)?;
        let remote = address(columns.next()?)?;
        let state = u8::from_str_radix(columns.next()?, 16).ok()?;
        let inode = columns.nth(5).and_then(|inode| inode.parse().ok());
        Some(Self {
            local,
            remote,
            state,
            inode: inode.unwrap_or_default(),
        })
    }
}

/// Addresses in the text of `/proc/net/tcp` or `/proc/net/tcp6` that are listened on.
pub fn parse(text: &str) -> Vec<SocketAddr> {
    let sockets = text.lines().filter_map(TcpSocket::parse);
    sockets
        .filter(|socket| socket.state == LISTEN)
        .map(|socket| socket.local)
        .collect()
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each 32-bit word of the address is printed as a number of this machine's byte order.
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The kernel listener that gets connections for `wanted`, if there is one: the very address, or the unspecified one of
/// its family, or of IPv6, which takes IPv4 as well.
pub fn conflict(listeners: &[SocketAddr], wanted: SocketAddr) -> Option<SocketAddr> {
    listeners.iter().copied().find(|listener| {
        listener.port() == wanted.port()
            && (listener.ip() == wanted.ip()
                || (listener.ip().is_unspecified() && (listener.is_ipv6() || wanted.is_ipv4())))
    })
}

/// All addresses that kernel sockets of our network namespace listen on.
pub fn all() -> Vec<SocketAddr> {
    let files = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| parse(&text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2BCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0A00000A:2BCB 0B00000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: B80D0120000000000000000001000000:18EB 00000000000000000000000000000000:0000 0A 00000000:00000000
";

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_found_and_connections_are_not() {
        assert_eq!(parse(TCP), ["127.0.0.1:11211".parse().unwrap()]);
        assert_eq!(
            parse(TCP6),
            [
                "[::]:22".parse().unwrap(),
                "[2001:db8::1]:6379".parse().unwrap()
            ]
        );
        assert_eq!(parse("nonsense\n1: 2:3 4:5 0A\n"), []);
    }

    #[test]
    fn a_wildcard_listener_is_in_the_way_of_its_families() {
        let on = |text: &str| text.parse::<SocketAddr>().unwrap();
        let wanted = on("10.0.0.10:11211");
        assert_eq!(
            conflict(&[on("10.0.0.10:11211")], wanted),
            Some(on("10.0.0.10:11211"))
        );
        assert_eq!(
            conflict(&[on("0.0.0.0:11211")], wanted),
            Some(on("0.0.0.0:11211"))
        );
        assert_eq!(
            conflict(&[on("[::]:11211")], wanted),
            Some(on("[::]:11211"))
        );
        assert_eq!(
            conflict(&[on("10.0.0.11:11211"), on("10.0.0.10:11212")], wanted),
            None
        );
        assert_eq!(
            conflict(&[on("0.0.0.0:6379")], on("[2001:db8::1]:6379")),
            None
        );
    }
}
