//! Who listens where: the same questions with one answer in the lab and another on this machine.

use crate::client::Connection;
use crate::client::memcached::Memcached;
use crate::client::resp::Redis;
use crate::lab::addresses::{self, Family, MEMCACHED_PORT, REDIS_PORT};
use crate::lab::servers::ServerKind;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Servers of each kind that a plan has room for.
pub const SERVERS_MAX: u16 = 8;

/// Servers played by a test that a plan has room for.
pub const FAKES_MAX: u16 = 32;

/// Pools beyond the usual two that a plan has room for; twemproxy's vectors need 29.
pub const EXTRAS_MAX: u16 = 64;

/// Ports of a block on this machine. Each role has a port of its own, because over IPv6 all have the same address.
pub const BLOCK_PORTS: u16 = 128;

const FIRST_SERVER: u16 = 2;
const FIRST_FAKE: u16 = FIRST_SERVER + 2 * SERVERS_MAX;
const FIRST_EXTRA: u16 = FIRST_FAKE + FAKES_MAX;
/// Says that the block is taken.
const LOCK: u16 = BLOCK_PORTS - 1;
const _: () = assert!(FIRST_EXTRA + EXTRAS_MAX <= LOCK);

/// Where the lab's fakes and further pools begin.
const LAB_EXTRA_PORT: u16 = 7_000;

/// A part of this machine's loopback addresses that one scene has to itself: the network 127.77.`number`.0/24, and
/// [`BLOCK_PORTS`] ports, which keep scenes apart over IPv6, where loopback is a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u8,
    /// The first of its ports.
    pub first_port: u16,
    /// Whether this machine has IPv6.
    pub has_v6: bool,
}

impl Block {
    /// The address that whoever holds the block listens on.
    pub fn lock(self) -> SocketAddr {
        SocketAddr::new(self.v4(254), self.first_port + LOCK)
    }

    fn v4(self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, 77, self.number, host).into()
    }

    /// Hosts carry the same numbers as in the lab.
    fn address(self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => self.v4(host),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// The addresses of a scene. A small value that closures and threads take along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Those of the lab: see [`addresses`].
    Lab,
    /// Those of a block of loopback addresses.
    Local(Block),
}

impl Plan {
    /// The versions of the Internet Protocol that the scene has.
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::Local(block) if !block.has_v6 => &[Family::V4],
            _ => &Family::BOTH,
        }
    }

    /// Where clients reach the pool of all servers of a kind.
    pub fn pool(self, kind: ServerKind, family: Family) -> SocketAddr {
        match (self, kind) {
            (Self::Lab, ServerKind::Memcached) => {
                SocketAddr::new(addresses::vip(family), MEMCACHED_PORT)
            }
            (Self::Lab, ServerKind::Redis) => SocketAddr::new(addresses::vip(family), REDIS_PORT),
            (Self::Local(block), _) => {
                let port = u16::from(kind == ServerKind::Redis);
                SocketAddr::new(block.address(family, 10), block.first_port + port)
            }
        }
    }

    /// Where clients reach a pool that the test makes itself, numbered from 0.
    pub fn extra_pool(self, number: usize, family: Family) -> SocketAddr {
        let number = number as u16;
        assert!(number < EXTRAS_MAX, "there is no room for so many pools");
        match self {
            Self::Lab => SocketAddr::new(addresses::vip(family), LAB_EXTRA_PORT + number),
            Self::Local(block) => {
                let port = block.first_port + FIRST_EXTRA + number;
                SocketAddr::new(block.address(family, 10), port)
            }
        }
    }

    /// Where the server `index` of a kind listens.
    pub fn server(self, kind: ServerKind, index: usize, family: Family) -> SocketAddr {
        match (self, kind) {
            (Self::Lab, ServerKind::Memcached) => addresses::memcached(family, index),
            (Self::Lab, ServerKind::Redis) => addresses::redis(family, index),
            (Self::Local(block), _) => {
                assert!(
                    index < usize::from(SERVERS_MAX),
                    "there is no room for so many servers"
                );
                let (host, first) = match kind {
                    ServerKind::Memcached => (11, FIRST_SERVER),
                    ServerKind::Redis => (21, FIRST_SERVER + SERVERS_MAX),
                };
                SocketAddr::new(
                    block.address(family, host + index as u8),
                    block.first_port + first + index as u16,
                )
            }
        }
    }

    /// An address on which nothing listens until the test plays a server there, numbered from 0. The lab needs
    /// [`fakes`](crate::lab::LabOptions::fakes) for it.
    pub fn fake(self, number: usize, family: Family) -> SocketAddr {
        let number = number as u16;
        assert!(number < FAKES_MAX, "there is no room for so many fakes");
        match self {
            Self::Lab => addresses::fake(family, 0, LAB_EXTRA_PORT + number),
            Self::Local(block) => {
                let port = block.first_port + FIRST_FAKE + number;
                SocketAddr::new(block.address(family, 31), port)
            }
        }
    }

    /// The `index`th address that clients may connect from, from 0.
    pub fn client(self, family: Family, index: u8) -> IpAddr {
        match self {
            Self::Lab => addresses::client(family, index),
            Self::Local(block) => block.address(family, 101 + index % addresses::CLIENT_ADDRESSES),
        }
    }

    /// A connection to `to` from the `index`th client address.
    pub fn connect_from(self, index: u8, to: SocketAddr) -> io::Result<Connection> {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        Connection::open_from(self.client(family, index), 0, to)
    }

    /// A client of the memcached pool, for a thread on the client host.
    pub fn memcached(self, family: Family) -> Memcached {
        Memcached::open(self.pool(ServerKind::Memcached, family))
            .expect("the memcached pool accepts connections")
    }

    /// A client of the Redis pool, for a thread on the client host.
    pub fn redis(self, family: Family) -> Redis {
        Redis::open(self.pool(ServerKind::Redis, family))
            .expect("the Redis pool accepts connections")
    }
}
