//! For whom a request was meant. A page of somebody else's can make a browser ask under its own name and point that name at us
//! (DNS rebinding); then it could read the answers. Such a request names a host that is not ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a request for `authority` (`NAME` or `NAME:PORT`) is meant for the listener at `listen`. The port is left out: through a
/// tunnel it is another.
pub fn is_ours(authority: &str, listen: IpAddr) -> bool {
    let host = without_port(authority);
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().map(IpAddr::V4),
    };
    // No name leads to an address that is written out.
    address
        .is_ok_and(|address| address == listen || address.is_loopback() || listen.is_unspecified())
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_and_the_own_address_are_ours() {
        let listen = "10.0.0.1".parse().unwrap();
        for ours in [
            "localhost",
            "LOCALHOST:9119",
            "127.0.0.1:9119",
            "127.0.0.1",
            "[::1]:80",
            "[::1]",
            "10.0.0.1:9119",
        ] {
            assert!(is_ours(ours, listen), "{ours}");
        }
        for foreign in [
            "",
            ":",
            ":9119",
            "evil.example",
            "evil.example:9119",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.2",
            "::1",
            "[::1",
            "0x7f000001",
            "127.1",
            "localhost:9119:1",
            "user@localhost",
        ] {
            assert!(!is_ours(foreign, listen), "{foreign}");
        }
        let every = "0.0.0.0".parse().unwrap();
        assert!(is_ours("10.0.0.2:9119", every));
        assert!(!is_ours("evil.example", every));
    }
}
