//! Every number of the configuration: its default and its range, why this number, and what happens when it is too low or too
//! high. Relations between defaults are asserted at compile time; the same relations are checked for every file.

/// Default and range of one number.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What counts when the file does not say.
    pub default: u64,
    /// Smallest value accepted.
    pub min: u64,
    /// Largest value accepted.
    pub max: u64,
}

impl Limit {
    const fn new(default: u64, min: u64, max: u64) -> Self {
        assert!(min <= default && default <= max);
        Self { default, min, max }
    }

    /// Whether `number` is within the range.
    pub const fn contains(&self, number: u64) -> bool {
        self.min <= number && number <= self.max
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

// ---- ports ----

/// `ring_size`. Why: a queue whose core loses the CPU for 60 ms at some 80,000 frames a second loses nothing with 8,192
/// descriptors, and lost thousands of frames with 1,024. Too low: frames are lost whenever the scheduler takes the core away
/// (`rx_ring_full`, `rx_fill_ring_empty`). Too high: each descriptor pins a 2,048-byte frame, and a long queue is latency.
pub const RING_SIZE: Limit = Limit::new(8_192, 128, 32_768);

/// `ring_size` with `driver = "dpdk"`. Why: its cores belong to it alone, so that a queue waits for a turn and not for the scheduler;
/// cards have 4,096 or 8,192 descriptors at most, and drivers round to what theirs has. Too low: frames are lost in bursts
/// (`rx_ring_full`). Too high: mbufs for all of it are reserved at start, about 10 KB per descriptor and queue.
pub const DPDK_RING_SIZE: Limit = Limit::new(2_048, 128, 8_192);

/// `addresses` of a port on DPDK. Why: an appliance has a handful; each frame that is not TCP is compared with all of them.
pub const PORT_ADDRESSES_MAX: usize = 64;

/// `routes` of a port on DPDK. Why: a default route and some exceptions; they are looked through for every server at each reload.
pub const PORT_ROUTES_MAX: usize = 256;

/// `mtu_bytes`. Why the range: 576 bytes is what every IPv4 host must take; a frame holds 2,048 bytes, of which the
/// kernel keeps 256 in front. Too low: more frames per reply. Too high: peers send what cannot be received. The default is
/// the interface's own MTU; the number here only stands in for it.
pub const MTU_BYTES: Limit = Limit::new(1_500, 576, 1_792);

/// Smallest MTU with an IPv6 address in the configuration. RFC 8200, section 5: "IPv6 requires that every link in the
/// Internet have an MTU of 1280 octets or greater."
pub const IPV6_MTU_BYTES_MIN: u32 = 1_280;

/// Interfaces. Why: a path names its port in one byte, and an appliance has one or two. Too many: each worker polls all.
pub const PORTS_MAX: usize = 8;

/// Queues of a port, which is the number of workers. Why: more than any NIC's RSS spreads over today.
pub const QUEUES_MAX: u32 = 256;

/// `workers` of a port over kernel sockets. Why one by default: nobody writes the key to get the default. Too low: one core serves
/// all. Too high: workers wait for each other's cores, and each has its own connections to every server. The most is
/// [`QUEUES_MAX`].
pub const WORKERS: Limit = Limit::new(1, 1, QUEUES_MAX as u64);

/// Bytes of a configuration file. Why: four times what 65,535 servers take, the most there may be, with 60 bytes each. Too low: a large
/// fleet is refused. Too high: what is no configuration takes memory of a manager that serves, up to a hundred times its size.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// Highest core number. Why: the size of the kernel's CPU set that pins a worker.
pub const CORE_MAX: u32 = 1_023;

/// Longest interface name. Why: `IFNAMSIZ` is 16, the last byte is zero.
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;

// ---- pools ----

/// Listening addresses of all pools. Why: the XDP program's table of them has this many entries.
pub const LISTENERS_MAX: usize = 1_024;

/// `backlog`: connections that wait to be accepted, of each listening socket. Why: a burst of reconnecting clients; the kernel
/// cuts it at `net.core.somaxconn`, 4,096 by default. Too low: clients of a burst wait for a second SYN. Too high: clients
/// wait in line for a worker that cannot keep up.
pub const BACKLOG: Limit = Limit::new(1_024, 1, 65_535);

/// Longest path of a Unix socket. Why: the kernel's `sun_path` holds 108 bytes, the last one is zero.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Highest permissions of a Unix socket. Why: read, write and execute for owner, group and others; the bits above mean nothing
/// for a socket.
pub const SOCKET_MODE_MAX: u32 = 0o777;

/// Servers of all pools. Why: a server's number is 16 bits wide.
pub const SERVERS_MAX: usize = 65_535;

/// Longest name of the instance and of a pool. Why: both become parts of file names and of lines for people.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest name of a server. Why: it is hashed 40 times whenever the ring is built, and printed in every status.
pub const SERVER_NAME_BYTES_MAX: usize = 255;

/// Weight of a server. Why: beyond this, single precision, in which ketama divides the ring, cannot tell weights apart.
pub const WEIGHT: Limit = Limit::new(1, 1, 1_000_000);

/// Largest weight behind an IPv6 address without brackets. Why: `2001:db8::5:1:11211` lacks its weight, and reads as port 1 with
/// weight 11211; an address in brackets has no such double meaning.
pub const WEIGHT_UNBRACKETED_MAX: u64 = 1_000;

/// `timeout_ms`. Why: longer than a server under load or one retransmission of a SYN needs, shorter than people wait. 0: no
/// limit. Too low: slow commands fail, and their late replies are thrown away. Too high: a hung server holds its clients, and
/// their requests count against `requests_max`.
pub const TIMEOUT_MS: Limit = Limit::new(5_000, 0, 3_600_000);

/// `clients_max` of a pool. Why none by default: a pool alone may have every client slot of a worker, and how many of them is whose, only the
/// operator knows; nobody writes the key to get the default. The range is that of `clients_max` of `[worker]`, which it may not exceed. Too
/// low: clients get an error and are closed (`clients_refused`). Too high: one pool takes the slots of all.
pub const POOL_CLIENTS_MAX: Limit =
    Limit::new(CLIENTS_MAX.default, CLIENTS_MAX.min, CLIENTS_MAX.max);

/// `server_connections`. Why: one connection with pipelining carries the load of a worker, and keeps the order of one client's
/// commands. Too low: cannot be. Too high: smaller bursts per connection, and connections of all workers add up on the server.
pub const SERVER_CONNECTIONS: Limit = Limit::new(1, 1, 1_024);

/// `databases`. Why: as many as Redis has by default. Too low: clients that SELECT another one get an error. Too high: the servers
/// refuse what the proxy lets pass, and each database in use takes a connection to every server from `server_connections_max`.
pub const DATABASES: Limit = Limit::new(16, 1, 1_024);

/// `database`. Why: what clients are in that do not SELECT. It is one of `databases`.
pub const DATABASE: Limit = Limit::new(0, 0, DATABASES.max - 1);

/// Longest password in a file of its own. Why: Redis takes more, but nobody has such; too high: a wrong path could be a large file.
pub const SECRET_BYTES_MAX: usize = 4_096;

/// Longest name of a user. Why: it is compared with what clients send, and sent on every new server connection.
pub const USER_BYTES_MAX: usize = 255;

/// `own_connections_max`: clients of one worker that may have a server connection of their own, for transactions, blocking commands and
/// subscriptions. Why: half of `server_connections_max`, so that one pool cannot take all of it. 0: such commands get an error. Too
/// low: clients are refused (`pins_refused`). Too high: each is a connection to a server, which has limits of its own.
pub const OWN_CONNECTIONS_MAX: Limit = Limit::new(128, 0, 65_536);

/// `slowlog_us`: what a request has to take to be written down in the slow log. Why: ten times what a busy cache takes, and as much as
/// Redis calls slow. 0: nothing is noted of requests. Too low: the log holds the last few milliseconds of all traffic. Too high:
/// what users notice is missing.
pub const SLOWLOG_US: Limit = Limit::new(10_000, 0, 3_600_000_000);

/// `slowlog_entries_max`: entries of the slow log, of all pools together. Why: an hour of a bad night at one in four seconds, in less
/// than a MiB of the manager's memory. Too low: the first entries of an incident are gone when somebody looks. Too high: memory.
pub const SLOWLOG_ENTRIES_MAX: Limit = Limit::new(1_024, 1, 65_536);

/// `server_retry_timeout_ms`. Why: twemproxy's default. Too low: clients pay for probing a dead server. Too high: a server that
/// is back stays unused.
pub const SERVER_RETRY_TIMEOUT_MS: Limit = Limit::new(30_000, 1, 86_400_000);

/// `server_failure_limit`. Why: twemproxy's default. Too low: one lost connection moves a server's keys away. Too high: clients see
/// more errors before a dead server is taken out.
pub const SERVER_FAILURE_LIMIT: Limit = Limit::new(2, 1, 1_000_000);

/// `client_keepalive_s`. Why: a client that lost its power frees its slot in minutes, at the cost of one small segment per idle
/// connection every five minutes. 0: never ask. Too low: idle connections cost frames. Too high: slots stay taken by the dead.
pub const CLIENT_KEEPALIVE_S: Limit = Limit::new(300, 0, 86_400);

// ---- workers ----

/// `clients_max`. Why: with default buffers 16,384 clients need about 140 MiB per worker. Too low: clients are refused
/// (`frames_no_slot`). Too high: memory that is taken at start and never used.
pub const CLIENTS_MAX: Limit = Limit::new(16_384, 1, 1_048_576);

/// `half_open_max`. Why: at 100 ms of round trip, 1,024 are enough for 10,000 new connections a second. Too low: slow handshakes
/// are given up for newer ones (`half_open_evicted`). Too high: a SYN flood may take this many of the client slots.
pub const HALF_OPEN_MAX: Limit = Limit::new(1_024, 1, 65_536);

/// `client_buffer_bytes`. Why: two of 4 KiB hold a burst of small requests and keep an idle connection below 10 KiB. The
/// least holds one full segment. Too low: large values take more round trips. Too high: memory, times twice `clients_max`.
pub const CLIENT_BUFFER_BYTES: Limit = Limit::new(4 * KIB, 2 * KIB, MIB);

/// `server_connections_max`. Why: a few dozen servers and as many connections of their own for large requests. Too low: large
/// requests wait or fail. Too high: memory, times twice `server_buffer_bytes`.
pub const SERVER_CONNECTIONS_MAX: Limit = Limit::new(256, 1, 65_536);

/// `server_buffer_bytes`. Why: requests of many clients share one connection, and a request that was held goes into it as a
/// whole, so it is twice `request_hold_bytes`. Too low: clients pause (`paused_servers`). Too high: memory, and deeper queues
/// in front of a slow server.
pub const SERVER_BUFFER_BYTES: Limit = Limit::new(256 * KIB, 8 * KIB, 16 * MIB);

/// `requests_max`. Why: four per client slot, or a depth of 64 for a thousand busy ones. Too low: clients pause
/// (`paused_requests`). Too high: memory, about 100 bytes each.
pub const REQUESTS_MAX: Limit = Limit::new(65_536, 64, 16_777_216);

/// `client_requests_max`. Why: deeper than clients pipeline in practice. Too low: a deep pipeline takes more round trips
/// (`paused_client_requests`). Too high: a few clients can use up `requests_max`, but for what is kept for those with nothing under way.
pub const CLIENT_REQUESTS_MAX: Limit = Limit::new(1_024, 1, 1_048_576);

/// `split_keys_max`. Why: as many keys as requests, so that 64 multi-key requests of 1,000 keys fit. Too low: large multi-key requests
/// wait; those of Redis are taken in more chunks, those of memcached are refused. Too high: memory, about 32 bytes each.
pub const SPLIT_KEYS_MAX: Limit = Limit::new(65_536, 64, 16_777_216);

/// `request_hold_bytes`. Why: a request over several servers is seen as a whole before any of it is sent; 128 KiB are 2,000 keys of 60
/// bytes. Too low: more such requests are taken in chunks, at a round trip each. Too high: memory, since a worker may hold over a hundred of them.
pub const REQUEST_HOLD_BYTES: Limit = Limit::new(128 * KIB, 4 * KIB, 8 * MIB);

/// `reply_hold_bytes`. Why: four clients at their own limit. Too low: replies that come before those of other servers become errors
/// (`replies_over_hold`). Too high: memory of each worker.
pub const REPLY_HOLD_BYTES: Limit = Limit::new(64 * MIB, 64 * KIB, 64 * GIB);

/// `client_reply_hold_bytes`. Why: a multi-key request with 16 replies of 1 MiB, which is memcached's largest item. Too low: large
/// merged replies, and large replies out of turn, become errors (`replies_over_client_hold`), and a server connection stands still
/// (`paused_replies`) sooner for a client that takes its replies slowly. Too high: few clients can use up `reply_hold_bytes`.
pub const CLIENT_REPLY_HOLD_BYTES: Limit = Limit::new(16 * MIB, 4 * KIB, 64 * GIB);

/// `client_stall_ms`. Why: TCP recovers from a lossy path within this time. Too low: slow clients are closed
/// (`clients_closed_stalled`). Too high: clients that stopped reading hold buffers longer.
pub const CLIENT_STALL_MS: Limit = Limit::new(30_000, 100, 3_600_000);

/// `drain_timeout_ms`. Why: longer than `timeout_ms`, so that every accepted request ends first. 0: do not wait. Too low: accepted
/// requests are cut off. Too high: a shutdown waits for clients that do not go.
pub const DRAIN_TIMEOUT_MS: Limit = Limit::new(10_000, 0, 600_000);

/// `source_ports`. Why: Linux hands out 32768–60999 by itself, so these collide with nothing by default. Too few: connections to
/// servers fail (`connects_failed`), since a closed one keeps its port for ten seconds (TIME-WAIT). Too many: ports the kernel cannot use.
pub const SOURCE_PORTS: (u16, u16) = (61_000, u16::MAX);

/// Lowest source port. Why: below are the well-known ports of services, the kernel's own among them.
pub const SOURCE_PORT_MIN: u16 = 1_024;

/// Fewest source ports of one worker. Why: each server connection needs one, and reconnecting takes a fresh one.
pub const SOURCE_PORTS_PER_WORKER_MIN: u32 = 16;

/// Payload of the smallest segment that a peer with a small MTU sends. RFC 9293, section 3.7.1: "If an MSS Option is not
/// received at connection setup, TCP implementations MUST assume a default send MSS of 536 (576 - 40) for IPv4".
pub const SEGMENT_BYTES_MIN: u64 = 536;

const _: () = {
    assert!(RING_SIZE.default.is_power_of_two());
    assert!(CLIENT_BUFFER_BYTES.default.is_power_of_two());
    assert!(SERVER_BUFFER_BYTES.default.is_power_of_two());
    assert!(HALF_OPEN_MAX.default <= CLIENTS_MAX.default);
    assert!(CLIENT_REQUESTS_MAX.default <= REQUESTS_MAX.default);
    assert!(REQUEST_HOLD_BYTES.default >= CLIENT_BUFFER_BYTES.default);
    assert!(2 * REQUEST_HOLD_BYTES.default <= SERVER_BUFFER_BYTES.default);
    assert!(2 * REQUEST_HOLD_BYTES.max <= SERVER_BUFFER_BYTES.max);
    assert!(CLIENT_REPLY_HOLD_BYTES.default <= REPLY_HOLD_BYTES.default);
    assert!(SERVER_BUFFER_BYTES.default / SEGMENT_BYTES_MIN <= RING_SIZE.default);
    assert!(CLIENT_BUFFER_BYTES.default / SEGMENT_BYTES_MIN <= RING_SIZE.default);
    assert!(CLIENT_BUFFER_BYTES.min >= MTU_BYTES.max);
    assert!(SERVER_BUFFER_BYTES.min >= MTU_BYTES.max);
    assert!(TIMEOUT_MS.default <= DRAIN_TIMEOUT_MS.default);
    assert!(SOURCE_PORTS.0 >= SOURCE_PORT_MIN && SOURCE_PORTS.0 <= SOURCE_PORTS.1);
    assert!(RING_SIZE.max <= u32::MAX as u64);
};
