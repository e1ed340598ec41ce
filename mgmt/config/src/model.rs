//! The configuration as types that cannot be wrong. `parse` is the only way to make a [`Config`] from text.
//!
//! Everything here is plain data and travels to the workers as JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Instance name: names the runtime directory and the control socket.
    pub name: String,
    /// Interfaces, in file order. At least one.
    pub ports: Vec<PortConfig>,
    /// Pools, in file order. At least one.
    pub pools: Vec<PoolConfig>,
    /// Limits of each worker.
    pub worker: WorkerConfig,
}

/// Which engine moves the bytes of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// AF_XDP sockets.
    Afxdp,
}

/// When received bytes are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckMode {
    /// No later than the burst that brought them.
    #[default]
    Immediate,
    /// A complete request may wait up to 300 µs for its reply to carry the acknowledgement.
    WithReply,
}

/// How the queue of a tuple is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RssMode {
    /// Toeplitz where the NIC tells key and indirection table, else `software`.
    #[default]
    Auto,
    /// Toeplitz with the key and indirection table read from the NIC; an error where it does not tell.
    Toeplitz,
    /// `(source port ^ destination port) % queues`: the steering of the lab.
    PortXor,
    /// The NIC's choice is unknown: a software hash owns the flow, frames that arrive elsewhere are handed over.
    Software,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleMode {
    /// Poll for ever: lowest latency, a whole core.
    Spin,
    /// Poll, then pause, then sleep on the queue's descriptor.
    Adaptive,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortConfig {
    /// Name of the interface.
    pub interface: String,
    /// The engine.
    pub driver: Driver,
    /// Queue → core. Every port of a configuration has the same queues: worker n owns queue n of each.
    pub queues: BTreeMap<u32, u32>,
    /// Refuse to start without zero copy.
    pub require_zero_copy: bool,
    /// When to acknowledge.
    pub ack: AckMode,
    /// How to know the queue of a tuple.
    pub rss: RssMode,
    /// Descriptors of each ring, a power of two.
    pub ring_size: u32,
    /// Kernel device names are at most 15 bytes; frames hold 2,048 bytes, so the MTU is at most 1,792.
    pub mtu_bytes: Option<u32>,
}

/// The protocol of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// memcached text.
    Memcached,
    /// Redis RESP2.
    Redis,
}

/// How a hash value becomes a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Consistent hashing as libketama and twemproxy do it.
    #[default]
    Ketama,
    /// Hash modulo the sum of weights.
    Modula,
    /// Any live server, per request.
    Random,
}

/// How a key becomes a number. Values are twemproxy's, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum HashKind {
    OneAtATime,
    Md5,
    Crc16,
    Crc32,
    Crc32a,
    #[serde(rename = "fnv1_64")]
    Fnv1_64,
    #[default]
    #[serde(rename = "fnv1a_64")]
    Fnv1a64,
    #[serde(rename = "fnv1_32")]
    Fnv1_32,
    #[serde(rename = "fnv1a_32")]
    Fnv1a32,
    Hsieh,
    Murmur,
    Jenkins,
}

/// One server of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// The name that ketama hashes: as written in the file, or `host:port`, or `host` alone for port 11211 (libmemcached's rule).
    pub name: String,
    /// Share of the keys, at least 1.
    pub weight: u32,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// Unique name.
    pub name: String,
    /// Listening addresses, unique over all pools. At least one.
    pub listen: Vec<SocketAddr>,
    /// Protocol of clients and servers.
    pub protocol: Protocol,
    /// Hash value → server.
    pub distribution: Distribution,
    /// Key → hash value.
    pub hash: HashKind,
    /// Two bytes; only what stands between them in a key is hashed.
    pub hash_tag: Option<[u8; 2]>,
    /// Servers in file order. At least one. Routing sorts them as twemproxy does.
    pub servers: Vec<ServerConfig>,
    /// Longest time for one request from its arrival to its reply, queueing and connecting included. `None`: no limit.
    pub timeout_ms: Option<u32>,
    /// Connections of each worker to each server.
    pub server_connections: u32,
    /// Open server connections at start.
    pub preconnect: bool,
    /// Take a failing server out of the distribution.
    pub auto_eject_hosts: bool,
    /// How long an ejected server stays out.
    pub server_retry_timeout_ms: u32,
    /// Failures in a row that eject a server.
    pub server_failure_limit: u32,
    /// Probe idle clients after this long; `None`: do not.
    pub client_keepalive_s: Option<u32>,
    /// Clients must AUTH with it (Redis). Never printed: see `Secret`.
    pub redis_auth: Option<Secret>,
    /// Sent to the servers on connect (Redis).
    pub server_auth: Option<Secret>,
}

/// A password. It prints as `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The password itself, to compare or to send; never to print.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Limits and habits of each worker. Each default's reason stands in `limits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// Client connections.
    pub clients_max: u32,
    /// Handshakes that are not finished.
    pub half_open_max: u32,
    /// Bytes of the receive and of the send buffer of each client connection (each), a power of two.
    pub client_buffer_bytes: u32,
    /// Server connections, the exclusive ones included.
    pub server_connections_max: u32,
    /// Bytes of the receive and of the send buffer of each server connection (each), a power of two.
    pub server_buffer_bytes: u32,
    /// Requests under way in one worker.
    pub requests_max: u32,
    /// Requests under way of one client; at it the client is not read.
    pub client_requests_max: u32,
    /// Keys of split requests under way in one worker.
    pub split_keys_max: u32,
    /// Longest request line, key or split request that is held as a whole.
    pub request_hold_bytes: u32,
    /// Memory for replies that have to wait for their turn, of one worker.
    pub reply_hold_bytes: u64,
    /// The same of one client.
    pub client_reply_hold_bytes: u64,
    /// A client that has begun a request, or that has a reply waiting and does not read, is closed after this long without progress.
    pub client_stall_ms: u32,
    /// What to do when idle.
    pub idle: IdleMode,
    /// Source ports towards servers, of all workers together.
    pub source_ports: (u16, u16),
    /// Unprivileged user that workers become.
    pub user: Option<String>,
    /// How long a shutdown waits for what is owed.
    pub drain_timeout_ms: u32,
    /// Source address towards servers; `None`: what the kernel would choose.
    pub source_address: Option<IpAddr>,
}
