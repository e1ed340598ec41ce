//! Every bound and every deadline of the sockets that is not configuration, with its reason.

use tidegate_stack::limits as stack;

/// Events taken by one system call. At one request each, this many share the cost of a turn; more delay the first of them.
pub const EVENTS: usize = 256;

/// Events in a turn from which on requests to servers may wait for those of the next turn. Fewer: a system call more for few
/// clients, of whom no other is likely to be there.
pub const GATHER_EVENTS_MIN: usize = 4;

/// Turns for which they wait at most. Fewer: more calls per request, each of which costs about as much as the rest of a
/// request. More: the first of them waits for all.
pub const GATHER_TURNS_MAX: u32 = 2;

/// Clients accepted from one listener in one turn, once it is clear that many wait there. Fewer: a storm of connections takes more turns. More: requests that
/// are there wait behind the storm.
pub const ACCEPTS_PER_TURN: usize = 64;

/// How long a worker that ran out of descriptors or memory takes no clients, unless a client leaves before; and how long then a
/// descriptor that a server may need is kept for it.
/// Shorter: system calls in vain. Longer: clients wait in the backlog although another process has freed some.
pub const ACCEPT_RETRY_US: u64 = 100_000;

/// Descriptors of a worker that are no connections. Why 24: standard streams, log, control socket, epoll, bell, memory files and
/// what the libraries open are about a dozen; listening sockets are counted by themselves. Too low: the manager promises more
/// clients than a worker takes. Too high: fewer clients under a small limit.
pub const OWN_DESCRIPTORS: u64 = 24;

/// Descriptors that a running worker may open beyond those that it had when its network was built. Too low: clients are
/// accepted until the kernel refuses. Too high: fewer clients.
pub const SPARE_DESCRIPTORS: u64 = 4;

/// Servers may have `server_connections_max` descriptors, but this part of those that are not the worker's own at most, as a
/// divisor, if they do not need more. Larger: streamed requests find no descriptor. Smaller: fewer clients under a small limit.
pub const SERVERS_PART_DIVISOR: u64 = 4;

/// The part that clients get even if servers need more, as a divisor. Larger: hardly a client is served when the limit is far
/// too small. Smaller: some servers cannot be reached then.
pub const CLIENTS_PART_DIVISOR: u64 = 2;

/// How long a server may take to answer our SYN: as in the TCP of our own.
pub const CONNECT_US: u64 = stack::CONNECT_US;

/// How long a connection that we finished may go without progress until it is closed. What the kernel has taken by then it
/// still delivers; what it has not is lost with a reset. Shorter: slow readers lose replies. Longer: a peer that never
/// closes keeps its slot.
pub const CLOSE_US: u64 = stack::CLOSE_US;

/// `TCP_USER_TIMEOUT`: how long sent bytes may go unacknowledged. The kernel lets it end idle connections too: at the first
/// keep-alive probe without an answer, not at the last.
pub const USER_TIMEOUT_MS: u32 = (stack::UNANSWERED_US / 1_000) as u32;

/// `TCP_NOTSENT_LOWAT` of clients: bytes that the kernel takes before it has sent them. It asks for more once half of them have left, and that a reply
/// went on is what `client_stall_ms` goes by. Without a bound it asks when a third of a buffer of megabytes is free: a client that takes
/// 20 KB a second would count as one that does not read. Lower: more calls for a large reply. Higher: slow clients are closed.
pub const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Time between keep-alive probes.
pub const PROBE_INTERVAL_S: u64 = stack::PROBE_INTERVAL_US / 1_000_000;

/// Keep-alive probes without an answer after which the peer counts as gone.
pub const PROBES_MAX: u32 = stack::PROBES_MAX as u32;

/// Silence after which a server connection is probed.
pub const SERVER_KEEPALIVE_S: u64 = stack::SERVER_KEEPALIVE_US / 1_000_000;

/// The part of a send buffer that has to be in use before the proxy is told that there is room again, as a divisor: nobody
/// waits for room while three quarters are free, because what is put in as a whole is at most half a buffer and a little.
/// Larger: turns for nothing after small replies. Smaller than 2: somebody may wait for ever.
pub const ROOM_NEWS_DIVISOR: usize = 4;

/// Most slots of one worker: the numbers above are for listeners and the bell.
pub const SLOTS_MAX: usize = 1 << 24;

const _: () = assert!(ROOM_NEWS_DIVISOR > 2);
const _: () = assert!(SERVERS_PART_DIVISOR > CLIENTS_PART_DIVISOR && CLIENTS_PART_DIVISOR > 1);
const _: () = assert!(PROBE_INTERVAL_S > 0 && SERVER_KEEPALIVE_S > 0);
