//! What is measured: addresses, sizes and counts that both ends agree on.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tidegate_config::{
    Compat, Distribution, HashKind, IdleMode, Partial, PoolConfig, Protocol, Seccomp, ServerConfig,
    WorkerConfig,
};
use tidegate_port::wire::WireConfig;

/// The protocol of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum CacheProtocol {
    /// memcached text: `get`.
    Memcached,
    /// Redis: `GET`.
    Redis,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, clap::Args)]
pub struct Plan {
    /// The protocol.
    #[arg(long, value_enum, default_value = "redis")]
    pub protocol: CacheProtocol,
    /// Client connections.
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Connections that have requests under way at a time; the others are open and idle.
    #[arg(long, default_value_t = 1000)]
    pub active: u32,
    /// Requests to count, after a warm-up of a tenth of them.
    #[arg(long, default_value_t = 100_000)]
    pub requests: u64,
    /// Requests on one connection before the first reply.
    #[arg(long, default_value_t = 1)]
    pub pipeline: u32,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    pub value_bytes: u32,
    /// One request per connection: connect, ask, close.
    #[arg(long)]
    pub short: bool,
    /// What the slow log calls slow; 0: nothing is noted of requests.
    #[arg(long, default_value_t = 10_000)]
    pub slowlog_us: u32,
    /// Servers.
    #[arg(long, default_value_t = 4)]
    pub servers: u16,
}

/// Client connections from one source address: what its ports give.
pub const CLIENTS_PER_ADDRESS: u32 = 25_000;

/// The Ethernet address of the worker's end.
pub const WORKER: WireConfig = WireConfig {
    mac: [2, 0, 0, 0, 0, 1],
    mtu_bytes: 1500,
};

/// The Ethernet address of the load's end.
pub const LOAD: WireConfig = WireConfig {
    mac: [2, 0, 0, 0, 0, 2],
    mtu_bytes: 1500,
};

/// The worker's address, for clients and towards servers.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

impl Plan {
    /// Where clients connect to.
    pub fn listen(&self) -> SocketAddr {
        (VIP, 6379).into()
    }

    /// Where the servers are.
    pub fn server(&self, index: u16) -> SocketAddr {
        (Ipv4Addr::new(10, 2, (index >> 8) as u8, index as u8), 6379).into()
    }

    /// Source addresses of clients, as many as their number needs. Short connections come from more, because a port rests
    /// after use.
    pub fn client_addresses(&self) -> u16 {
        let addresses = self.connections.div_ceil(CLIENTS_PER_ADDRESS) as u16;
        if self.short {
            addresses.max(8)
        } else {
            addresses
        }
    }

    /// One source address.
    pub fn client_address(&self, index: u16) -> IpAddr {
        Ipv4Addr::new(10, 1, (index >> 8) as u8, index as u8).into()
    }

    /// The pool of the worker.
    pub fn pool(&self) -> PoolConfig {
        let servers = (0..self.servers).map(|i| {
            let address = self.server(i);
            ServerConfig {
                address: address.into(),
                name: address.to_string(),
                weight: 1,
            }
        });
        PoolConfig {
            name: "bench".into(),
            listen: vec![self.listen().into()],
            backlog: 1024,
            protocol: match self.protocol {
                CacheProtocol::Memcached => Protocol::Memcached,
                CacheProtocol::Redis => Protocol::Redis,
            },
            distribution: Distribution::Ketama,
            hash: HashKind::Fnv1a64,
            hash_tag: None,
            servers: servers.collect(),
            timeout_ms: Some(10_000),
            slowlog_us: Some(self.slowlog_us).filter(|&us| us > 0),
            server_connections: 1,
            clients_max: None,
            own_connections_max: 128,
            preconnect: true,
            auto_eject_hosts: false,
            server_retry_timeout_ms: 30_000,
            server_failure_limit: 2,
            client_keepalive_s: None,
            databases: 1,
            database: 0,
            redis_auth: None,
            redis_user: None,
            memcached_auth: None,
            memcached_user: None,
            server_auth: None,
            server_user: None,
            partial: Partial::Error,
            compat: Compat::None,
        }
    }

    /// The limits of the worker: the defaults of the product, with as many clients as the plan has.
    pub fn limits(&self) -> WorkerConfig {
        WorkerConfig {
            clients_max: self.connections + 1024,
            half_open_max: 4096,
            client_buffer_bytes: 4096,
            server_connections_max: 64,
            server_buffer_bytes: 256 * 1024,
            requests_max: 65_536,
            client_requests_max: 1024,
            split_keys_max: 65_536,
            request_hold_bytes: 128 * 1024,
            reply_hold_bytes: 64 << 20,
            client_reply_hold_bytes: 4 << 20,
            client_stall_ms: 30_000,
            idle: IdleMode::Spin,
            source_ports: (20_000, 29_999),
            user: None,
            drain_timeout_ms: 1000,
            source_address: None,
            outlive_manager: false,
            seccomp: Seccomp::Off,
        }
    }
}
