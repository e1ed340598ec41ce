//! The address plan of a lab. Every lab has the same one: namespaces keep labs apart.
//!
//! ```text
//! client leg   10.77.1.0/24  fd77:1::/64   appliance .1, gateway .2 (one NIC only), virtual address .10, clients .101 and up
//! server leg   10.77.2.0/24  fd77:2::/64   gateway .1, host .2, memcached .11 and up, Redis .21 and up, fakes .31 and up
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The two versions of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, to loop over.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// Client addresses of a lab: with one address, short connections would run out of source ports.
pub const CLIENT_ADDRESSES: u8 = 4;

/// The port where memcached listens, also on the virtual address.
pub const MEMCACHED_PORT: u16 = 11211;

/// The port where Redis listens, also on the virtual address.
pub const REDIS_PORT: u16 = 6379;

/// Host `host` of the client leg.
pub fn on_client_leg(family: Family, host: u8) -> IpAddr {
    on_leg(family, 1, host)
}

/// Host `host` of the server leg.
pub fn on_server_leg(family: Family, host: u8) -> IpAddr {
    on_leg(family, 2, host)
}

/// Host `host` of the network number `leg`. IPv6 hosts carry the digits of their IPv4 twin, so that a trace of either reads alike.
pub fn on_leg(family: Family, leg: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, leg, host).into(),
        Family::V6 => {
            let digits =
                u16::from(host / 100) << 8 | u16::from(host / 10 % 10) << 4 | u16::from(host % 10);
            Ipv6Addr::new(0xfd77, u16::from(leg), 0, 0, 0, 0, 0, digits).into()
        }
    }
}

/// The virtual address that clients talk to.
pub fn vip(family: Family) -> IpAddr {
    on_client_leg(family, 10)
}

/// The `index`th address of the client host, from 0.
pub fn client(family: Family, index: u8) -> IpAddr {
    on_client_leg(family, 101 + index % CLIENT_ADDRESSES)
}

/// Where the `index`th memcached listens.
pub fn memcached(family: Family, index: usize) -> SocketAddr {
    SocketAddr::new(on_server_leg(family, 11 + index as u8), MEMCACHED_PORT)
}

/// Where the `index`th Redis listens.
pub fn redis(family: Family, index: usize) -> SocketAddr {
    SocketAddr::new(on_server_leg(family, 21 + index as u8), REDIS_PORT)
}

/// An address of the server host on which nothing listens until a test does.
pub fn fake(family: Family, index: usize, port: u16) -> SocketAddr {
    SocketAddr::new(on_server_leg(family, 31 + index as u8), port)
}
