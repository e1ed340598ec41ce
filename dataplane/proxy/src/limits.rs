//! The proxy's fixed limits. What an operator can set stands in `tidegate_config::WorkerConfig`.

/// Requests without a reply on one server connection. More would only lengthen the queue in front of a server that is
/// already behind; at the limit clients are not read until replies come (`paused_servers`). Lower costs throughput on
/// deep pipelines, higher costs 24 bytes each, reserved per connection.
pub const LINK_REQUESTS_MAX: usize = 4096;

/// Exclusive connections kept open per server after use. A streamed request soon follows another; four connections
/// serve a handful of uploading clients without a handshake each, and more would only idle.
pub const EXCLUSIVE_IDLE_MAX: usize = 4;

/// Buffers for requests that are held as a whole, per worker. One is in use only while a request larger than the
/// client's receive buffer arrives, or until the last chunk of a larger one is sent; with none free the client waits its turn.
pub const HOLDS_MAX: usize = 128;

/// Requests that a client may have taken in one visit. One that has sent more goes behind all that are ready, so that nobody waits for
/// the whole of a deep pipeline. Fewer: visits cost more than their requests, and 16 is what clients that pipeline send at once. More: others
/// wait longer.
pub const VISIT_REQUESTS_MAX: u32 = 16;

/// Requests that the clients of a pool may have taken in one turn, where other pools have clients as well. A pool that asks little waits
/// for what the others may have done in a turn, once on the way to its server and once on the way back. Fewer: the system calls and the
/// looks at the queues of a turn are shared by fewer requests, and a pool that asks much gets less done. More: the others wait longer.
pub const POOL_TURN_REQUESTS: u32 = 128;

/// The same of replies that its servers send.
pub const POOL_TURN_REPLIES: u32 = 128;

/// Visits in one turn to clients that have had theirs, when all clients are of one pool. What arrives meanwhile is looked at after so many
/// times [`VISIT_REQUESTS_MAX`] requests, some 300 µs, however much waits. Fewer: the system calls of a turn are shared by fewer
/// requests. More: a client that asks little waits longer for those that ask much.
pub const TURN_VISITS_MAX: u32 = 16;

/// Requests that a client may send on a server connection for which others wait, when it has its turn. As [`VISIT_REQUESTS_MAX`],
/// and less, because here each of them is a wait for the server.
pub const LINK_TURN_REQUESTS: u8 = 16;

/// Which part of the table of requests is kept for clients that have none under way, at most. With this part, and four requests per
/// client as the defaults have them, there is one for each: however deep some pipeline, the request of another finds its place.
pub const RESERVED_REQUESTS_SHARE: usize = 4;

/// Clients that were told that their pool is full and whose connections are not over, in one worker at most. One that closes when it is
/// told is gone a round trip later; at 10 ms so many are 25,000 a second. Fewer: in a storm of connections some are reset before they read
/// why. More: clients that are refused and do not close take slots from others.
pub const TURNED_AWAY_MAX: usize = 256;

/// Which part of the client slots they may take at most, so that they are few in a small worker as well. With 1 they could take all.
pub const TURNED_AWAY_SHARE: usize = 16;

/// Waiting clients that are woken at once when a server has room again: enough to fill its buffer with small
/// requests, few enough that a thousand waiters do not spend their time finding it full again.
pub const WAKE_BATCH: usize = 64;

/// Requests without a key at the front of a transaction, which are kept until a key chooses the server. There is hardly ever one; a
/// client that sends more gets an error.
pub const EARLY_REQUESTS_MAX: u32 = 16;

/// Bytes of them. They are kept in the memory for replies, which is not there for requests.
pub const EARLY_BYTES_MAX: usize = 2048;

/// Places in the queue of a client's own connection that are left for the proxy's requests in front of the client's: those above
/// and a few more. Fewer, and the queue would grow.
pub const OWN_LINK_SPARE: usize = 32;

/// How much of a subscription's confirmation is looked at for the number of subscriptions. Names of channels are shorter by far; behind
/// a longer one the connection is kept, as if there were a subscription, until the next confirmation.
pub const CONFIRMATION_BYTES_MAX: usize = 1024;

/// Longest error line around the name of a command.
pub const NAME_LINE_BYTES_MAX: usize = 256;

/// How often timeouts are looked at, in microseconds. Server timeouts are set in milliseconds; 2 ms late is within
/// what any of them means, and looking costs a few instructions per connection.
pub const TICK_US: u64 = 2_000;

/// How often a connection that a pool wants open at start is tried again while there is no route to its server.
pub const PRECONNECT_RETRY_US: u64 = 200_000;

/// Events kept for the log between two looks. More happen only when servers fail in masses, and then the first ones tell.
pub const EVENTS_MAX: usize = 64;

/// Bytes of a key that are noted for the slow log. Keys that people chose are shorter; a longer one is known by its front. Each costs its
/// copy per request, and memory for every request under way.
pub const KEY_NOTE_BYTES_MAX: usize = 64;

/// Slow requests kept for the slow log between two turns. When a server stalls all that wait for it are slow at once, and the first ones
/// tell; those beyond are counted (`slow_requests_unlogged`).
pub const SLOW_REQUESTS_MAX: usize = 64;

/// Keys that a watch counts. A key that makes up more than one in so many requests is sure to be among them. More would take longer to
/// search, for each key that is counted.
pub const HOT_KEYS: usize = 256;

/// Keys whose values a watch notes as the largest. Nobody reads more, and the smallest of them is looked for whenever one is replaced.
pub const BIG_KEYS: usize = 64;

/// Longest reply to AUTH on a server connection and similar one-line replies that are looked at as a whole.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Keys in one chunk of a divided request that is too large to be held. The next chunk waits for the replies to this one, so too few
/// cost round trips; too many would take much of the table of keys from the other clients (`split_keys_max`, of which a
/// chunk gets at most a [`CHUNK_KEYS_SHARE`]th).
pub const CHUNK_KEYS_MAX: usize = 4096;

/// As [`CHUNK_KEYS_MAX`], for MGET: the values of a chunk are held until all of them are there (`client_reply_hold_bytes`). With the
/// default of 16 MiB a value may have 32 KiB on average. More keys would lower that; fewer would cost round trips.
pub const CHUNK_VALUES_MAX: usize = 512;

/// Different fields in the joined reply to INFO or stats; those beyond are left out. `INFO everything` of Redis 7 has some 700 if all its
/// commands were called, `stats items` of memcached 1,800 if all its slab classes are in use. Each takes 240 bytes, reserved once per
/// worker and touched when it is used.
pub const JOINED_FIELDS_MAX: usize = 2048;

/// Longest line of such a reply; a longer one is left out. The longest that servers write name a path or an address.
pub const JOINED_LINE_BYTES_MAX: usize = 1024;

/// Which part of the table of keys one chunk may take. With 1 it would wait until no other client uses the table.
pub const CHUNK_KEYS_SHARE: usize = 4;

/// How long a server connection stays open without requests that is not plain (RESP3, memcached's binary protocol, or another database than the
/// pool's own), in microseconds. A client that comes back within half a minute finds it; longer, and clients that tried every database once would
/// leave connections to all of them on every server.
pub const FLAVOUR_IDLE_US: u64 = 30_000_000;

/// How often those connections are looked at, in microseconds. It only has to be often beside [`FLAVOUR_IDLE_US`].
pub const FLAVOUR_LOOK_US: u64 = 1_000_000;

/// Longest name that a client can give itself. Names hold a host, a program and a process at most; a longer one gets an error.
/// Memory for the names of all clients is reserved at start.
pub const CLIENT_NAME_BYTES_MAX: usize = 128;

/// Longest name and version of the library that a client can tell: `redis-py(framework_v1.2)` and the like. A longer one gets an
/// error, which libraries ignore.
pub const LIBRARY_BYTES_MAX: usize = 64;

/// How long the failure to open a server connection that is not plain is the answer to everybody who needs one, in microseconds.
/// Shorter, and clients that wait for the connection could miss the answer and cause another attempt; longer, and a server that is
/// back stays unused.
pub const GREETING_RETRY_US: u64 = 200_000;

/// Servers that are configured no more and still end something. Each has a deadline, so there are as many as leave within that; more
/// only come together when whole pools are exchanged again and again, and then the next change is refused until some are done. Higher
/// costs memory that is reserved for each change.
pub const LEAVING_SERVERS_MAX: usize = 4096;

/// The same of pools.
pub const LEAVING_POOLS_MAX: usize = 256;

/// How long a command that waits for a key goes on doing so at its server when the key has another one by a new configuration, in
/// microseconds. What other workers had sent to the server before they took it up arrives meanwhile, so nothing is taken from a list by
/// a command whose client is told to ask again.
pub const MOVED_WAIT_US: u64 = 2_000_000;

/// How often what is configured no more is looked at, in microseconds. It ends by itself, mostly; the looks are for deadlines, which
/// are seconds.
pub const LEAVE_LOOK_US: u64 = 50_000;

/// How long the connections of a server that left may take to close, in microseconds, during which a client that finds none free
/// waits for one. A round trip to the server is enough; a server that is gone does not answer at all.
pub const DEPART_US: u64 = 1_000_000;

const _: () = assert!(LINK_TURN_REQUESTS > 0 && (LINK_TURN_REQUESTS as u32) <= VISIT_REQUESTS_MAX);
const _: () =
    assert!((EARLY_REQUESTS_MAX as usize) < OWN_LINK_SPARE && OWN_LINK_SPARE < LINK_REQUESTS_MAX);
