//! What the proxy remembers of clients, server connections and requests. Entries live in tables and name each other by index.

use crate::compat::Several;
use crate::fault::Fault;
use crate::flavour::Flavour;
use crate::handshake::Greeting;
use crate::hold::Chain;
use crate::meter::{Commands, UNTIMED};
use crate::notes::Noting;
use crate::routing::Router;
use crate::slab::NIL;
use crate::streams::StreamId;
use crate::turns::Share;
use crate::waits::{Wait, WaitList};
use std::collections::VecDeque;
use tidegate_channel::counters::{PoolCounters, ServerCounters};
use tidegate_channel::meters::Row;
use tidegate_config::{Protocol, Secret};
use tidegate_protocol::{
    BinaryHead, Merge, Protocol as Dialect, ReplyScanner, ReplyShape, RequestRest, Resume,
    Split as SplitKind,
};

/// The position of a shared connection that has none any more, because its server left or has another number of them: it ends
/// when it owes nothing.
pub(crate) const OUTMODED: u32 = NIL - 1;

/// What a stream slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Free,
    Client,
    Link(u32),
    /// A client that its pool had no place for: see `crate::turned_away`.
    TurnedAway,
}

/// How the bytes of a client are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// The first byte of the connection tells which dialect it speaks.
    Greeting,
    /// A request starts at the front of the receive buffer.
    Normal,
    /// The rest of a refused request is dropped.
    Skip(RequestRest),
    /// A request that is larger than the receive buffer is gathered in this hold.
    Hold(u32),
    /// The rest of a request goes to this connection as it arrives.
    Upload { link: u32, rest: RequestRest },
    /// A divided request is taken in chunks, which are gathered in this hold.
    Chunks(u32),
}

impl Mode {
    /// Whether a part of the request under way was taken: the rest comes before anything else.
    #[inline]
    pub fn is_begun(self) -> bool {
        matches!(self, Self::Upload { .. } | Self::Chunks(_))
    }
}

/// Which replies a client does not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mute {
    /// It wants all.
    No,
    /// The next one.
    Next,
    /// All, until it says otherwise.
    All,
}

/// One client connection. Its index is its stream's slot.
#[derive(Debug)]
pub(crate) struct Client {
    pub pool: u16,
    /// Where it came from.
    pub listener: u16,
    /// Its pool or its listener is configured no more: it gets what it is owed until then, and no request of it is begun.
    /// 0: it stays.
    pub leave_by_us: u64,
    pub authenticated: bool,
    /// The server connections it needs.
    pub flavour: Flavour,
    pub mute: Mute,
    /// What it speaks.
    pub dialect: Dialect,
    /// No more requests are read; the connection ends once everything owed is sent.
    pub closing: bool,
    /// It sent FIN, as far as we looked: a change of status makes its stream ready.
    pub half_closed: bool,
    /// The next reply waits for room in the send buffer.
    pub blocked: bool,
    /// The next request is read only when no other is under way: an upload must neither overtake nor be overtaken.
    pub barrier: bool,
    /// Is looked at again when a reply was sent: it has as many requests under way as it may, or the next waits for earlier replies.
    pub full: bool,
    /// Stands in the stall queue.
    pub watched: bool,
    /// First and last of its requests under way, in order of arrival.
    pub head: u32,
    pub tail: u32,
    pub pending: u32,
    /// The server connection that is not read because this client takes no reply.
    pub stalled_link: u32,
    /// Its entry among the clients with a server connection of their own; [`NIL`]: none.
    pub pin: u32,
    pub wait: Wait,
    /// Requests that it may still send where others wait, since it has waited itself.
    pub credit: u8,
    pub mode: Mode,
    pub resume: Resume,
    /// Bytes that have to be there before another look at the request is of use.
    pub need: usize,
    /// The value of `Proxy::reliefs` when it last had no request under way.
    pub busy_since: u64,
    /// When the client last moved forward.
    pub progress_us: u64,
    /// Since when the request at the front of its receive buffer waits for a server or a table entry; `u64::MAX`: it does not.
    pub waiting_since_us: u64,
    /// When the reply to its last request was delivered: since then it is the turn of the next.
    pub turn_since_us: u64,
    /// What CLIENT ID tells: no other client of this worker has it, before or after.
    pub id: u64,
    /// When it was accepted.
    pub since_us: u64,
    /// Its entry in the table of what clients say about themselves.
    pub identity: u32,
    /// Where the request is counted that comes in parts.
    pub row: Row,
}

impl Client {
    pub fn new(pool: u16, now_us: u64, row: Row) -> Self {
        Self {
            pool,
            listener: 0,
            leave_by_us: 0,
            authenticated: false,
            flavour: Flavour::PLAIN,
            mute: Mute::No,
            dialect: Dialect::Memcached,
            closing: false,
            half_closed: false,
            blocked: false,
            barrier: false,
            full: false,
            watched: false,
            head: NIL,
            tail: NIL,
            pending: 0,
            stalled_link: NIL,
            pin: NIL,
            wait: Wait::NONE,
            credit: 0,
            mode: Mode::Normal,
            resume: Resume::default(),
            need: 1,
            busy_since: 0,
            progress_us: now_us,
            waiting_since_us: u64::MAX,
            turn_since_us: now_us,
            id: 0,
            since_us: now_us,
            identity: NIL,
            row,
        }
    }
}

/// How far the answer to a request is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Not complete. What came early stands in the chain.
    Waiting,
    /// Complete, in the chain.
    Held,
    /// Complete, a constant.
    Text(&'static str),
    /// Complete, in the fragments of this split request.
    Merged(u32),
}

/// One request under way.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Who asked; [`NIL`] when the client is gone.
    pub client: u32,
    /// When it was taken, or first could have been if it had to wait for a server or a table entry.
    pub taken_us: u64,
    /// The client's next request.
    pub next: u32,
    pub answer: Answer,
    /// The client wants no reply.
    pub silent: bool,
    /// No reply, but what its server sent to a subscriber unasked.
    pub push: bool,
    /// Part of the reply has been given to the client's stream: it cannot be replaced by an error any more.
    pub begun: bool,
    /// The reply is dropped and this told in its place: it is too large to wait, or an error that the client is not to see.
    pub instead: Option<Fault>,
    /// What is made of errors.
    pub several: Several,
    /// The request's header, if it is binary: every answer to it is a frame.
    pub binary: Option<BinaryHead>,
    /// The connection ends behind this answer.
    pub closes: bool,
    /// There is a note of it: see `crate::notes`.
    pub noted: bool,
    /// A watch on keys wants to know how large its value is.
    pub watched: bool,
    /// The answer is an error.
    pub failed: bool,
    /// Where the request is counted.
    pub row: Row,
    /// How long it takes is not told: it waits for something to happen.
    pub untimed: bool,
    /// How long it was not sent to its server, or not all of it.
    pub queue_us: u64,
    /// Bytes that its client was given.
    pub sent_bytes: u64,
    /// When its reply began, or what stands in its place was decided; 0: not yet, or in the moment in which the client gets it.
    pub answered_us: u64,
    pub chain: Chain,
}

impl Pending {
    /// It ends like most: with a reply that is counted and of which nothing else has to be known.
    #[inline]
    pub fn is_plain(&self) -> bool {
        !(self.failed | self.untimed | self.watched | self.push)
    }
}

/// Whose reply a server connection brings next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nobody's any more: swallow it.
    Nobody,
    /// The reply to what we said at first.
    Handshake(Greeting),
    /// The reply to a request that the proxy itself made on a client's own connection.
    Own,
    Pending(u32),
    Fragment(u32),
}

/// One request sent on a server connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub target: Target,
    pub shape: ReplyShape,
    /// When it was sent. [`UNTIMED`]: its time does not run, so it is not too late either.
    pub sent_us: u64,
}

impl Entry {
    /// A request that is sent now.
    #[inline]
    pub fn new(target: Target, shape: ReplyShape) -> Self {
        Self {
            target,
            shape,
            sent_us: 0,
        }
    }

    /// A request whose time does not run yet, or never will.
    pub fn untimed(target: Target, shape: ReplyShape) -> Self {
        Self {
            sent_us: UNTIMED,
            ..Self::new(target, shape)
        }
    }
}

/// One server connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub stream: StreamId,
    pub open: bool,
    pub server: u16,
    pub flavour: Flavour,
    /// Position in the `links` of its server; [`NIL`] for an exclusive one, [`OUTMODED`] for one that lost its place for good.
    pub position: u32,
    /// The client that uploads on it.
    pub writer: u32,
    /// The entry of the client whose own connection it is; [`NIL`]: nobody's.
    pub pin: u32,
    pub fifo: VecDeque<Entry>,
    /// Clients that wait for room on it.
    pub waiting: WaitList,
    /// What was said at first, without a reply so far, that no request may overtake.
    pub greetings: u8,
    /// Entries at the front of `fifo` whose deadline has passed. The first may still have its target: a reply that moves is not
    /// late.
    pub expired: usize,
    pub scanner: ReplyScanner,
    /// The reply at the front has begun.
    pub scanning: bool,
    /// Bytes at the front of the receive buffer that belong to the reply at the front of `fifo`.
    pub measured: usize,
    /// They end it.
    pub measured_done: bool,
    /// The reply at the front is an error after which the server may have dropped replies.
    pub out_of_step: bool,
    /// When bytes last came or the queue last became non-empty.
    pub progress_us: u64,
    pub failure_noted_us: u64,
    /// Binary requests sent on it, of which each has its number as opaque.
    pub numbered: u32,
    /// When the reply at the front began.
    pub began_us: u64,
    /// The reply at the front may be changed or hidden, which its first bytes tell, and these were not looked at.
    pub unseen: bool,
    /// It is in the list of those whose replies are read in their turn.
    pub read_later: bool,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    pub pool: u16,
    /// Position in its pool.
    pub index: usize,
    pub name: Box<str>,
    /// Shared connections of each flavour.
    pub connections: u32,
    /// Shared connections, flavour by flavour; [`NIL`] where none is open.
    pub links: Vec<u32>,
    /// Exclusive connections that are not in use.
    pub idle: Vec<u32>,
    /// By flavour: why the last attempt to open such a connection failed, and until when that is the answer to all.
    pub refused: Vec<Option<(u64, Fault)>>,
    /// Connections that were taken out of `links` because a client does not take its reply.
    pub relieved: u32,
    /// The value of `Proxy::reliefs` when that last happened.
    pub relieved_at: u64,
    pub failures: u32,
    /// 0: not ejected.
    pub ejected_until_us: u64,
    pub waiting: WaitList,
    pub preconnected: bool,
    /// Fragments, and notes of missing ones, that name it.
    pub named: u32,
    /// It is configured no more and ends what is under way until then. 0: it stays.
    pub leave_by_us: u64,
    pub counters: ServerCounters,
    /// Where it is told how long its replies take.
    pub row: Row,
}

impl Server {
    /// The place of a shared connection, unless it has lost it.
    #[inline]
    pub fn place_of(&mut self, position: u32, link: u32) -> Option<&mut u32> {
        let place = self.links.get_mut(position as usize)?;
        (*place == link).then_some(place)
    }
}

/// One pool.
pub(crate) struct Pool {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub router: Router,
    /// Its servers are `first_server ..`.
    pub first_server: u16,
    pub servers: u16,
    pub timeout_us: Option<u64>,
    /// What is noted of requests.
    pub noting: Noting,
    /// What takes as long goes to the slow log; [`NEVER_SLOW`](crate::notes::NEVER_SLOW): nothing does.
    pub slow_us: u64,
    pub eject: bool,
    pub failure_limit: u32,
    pub retry_us: u64,
    pub preconnect: bool,
    /// Databases that clients can select.
    pub databases: u16,
    /// The one that clients are in at first.
    pub database: u16,
    /// Clients that it may have; `u32::MAX`: as many as the worker has.
    pub clients_max: u32,
    pub own_connections_max: u32,
    pub client_auth: Option<Secret>,
    /// Whose password that is; `None`: the default user's.
    pub client_user: Option<String>,
    pub server_auth: Option<Secret>,
    /// Whose password that is; `None`: the default user's.
    pub server_user: Option<String>,
    /// The keys of a failed server are misses in a read of several keys: see `tidegate_config::Partial`.
    pub misses: bool,
    /// Whether it keeps the habits of twemproxy.
    pub twemproxy: bool,
    /// Where `Route::Any` looked last.
    pub any: u16,
    /// How often its keys got other servers.
    pub routed: u32,
    /// Whose the keys were before that last happened, for transactions that began then.
    pub former: Option<Former>,
    /// It is configured no more, and its clients get what they are owed until then. 0: it stays.
    pub leave_by_us: u64,
    /// What was done for it in this turn.
    pub share: Share,
    /// Its clients that have had their share of a turn and have more to ask.
    pub turn_waiting: WaitList,
    pub counters: PoolCounters,
    /// Where its commands are counted.
    pub commands: Commands,
}

/// Whose the keys of a pool were before its servers changed.
pub(crate) struct Former {
    pub router: Router,
    /// By position in the file of then: the server.
    pub servers: Box<[u16]>,
}

impl Pool {
    /// The same protocol in the parser's terms.
    pub fn parser(&self) -> tidegate_protocol::Protocol {
        match self.protocol {
            Protocol::Memcached => tidegate_protocol::Protocol::Memcached,
            Protocol::Redis => tidegate_protocol::Protocol::Redis,
        }
    }
}

/// How the replies to the parts of a request are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Each part has some of the keys.
    Keys(SplitKind),
    /// Each part is the whole request, to another server.
    Servers(Merge),
    /// There is one part, a step of SCAN on one server.
    Scan,
}

/// A server that has no part in the reply to a request, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub server: u16,
    pub fault: Fault,
}

/// One request that several servers answer.
#[derive(Debug)]
pub(crate) struct Split {
    pub join: Join,
    /// The request; it outlives its client.
    pub pending: u32,
    pub first_key: u32,
    pub last_key: u32,
    pub keys: u32,
    pub first_fragment: u32,
    /// Fragments without a complete reply.
    pub outstanding: u32,
    /// Of the integers that came back.
    pub sum: i64,
    /// What to say instead of the merged reply.
    pub failed: Option<&'static str>,
    /// A server's own error line, said instead of the merged reply.
    pub error: Chain,
    /// The first server that could not answer a request for all of them.
    pub lost: Option<Lost>,
    /// INFO: the proxy's own section is shown.
    pub own_section: bool,
    /// SCAN: where the client is to go on.
    pub cursor: u64,
    pub held_bytes: u64,
    /// While the merged reply is sent: whether its header is, the next key, and what is left of its part.
    pub header_sent: bool,
    pub emit_key: u32,
    /// The same for a request without keys: the fragment.
    pub emit_fragment: u32,
    pub emit_left: usize,
    pub emit_started: bool,
}

impl Split {
    /// Whether an error is said instead of the merged reply.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some() || !self.error.is_empty()
    }
}

/// How far the reply of a fragment is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// At its first line.
    Start,
    /// This many elements of an MGET reply are to come; the current one has begun or not.
    Elements { left: u32, begun: bool },
    /// At a VALUE line or END.
    Values,
    /// This many bytes of a VALUE block are to come.
    Block { left: usize },
    /// Of a reply that is joined with those of other servers, this many bytes of content, then CR LF.
    Content { left: usize },
    /// The same: what is left of it is measured as a whole.
    Rest,
    /// The same: so many integers.
    Integers { left: u32 },
}

/// The part of a split request that one server answers.
#[derive(Debug)]
pub(crate) struct Fragment {
    pub split: u32,
    pub server: u16,
    /// The next fragment of the same request.
    pub next: u32,
    pub first_key: u32,
    pub last_key: u32,
    pub keys: u32,
    /// The key whose part comes next.
    pub cursor: u32,
    pub phase: Phase,
    /// The server failed, and the others' replies make up the answer.
    pub lost: bool,
    /// What a reply that is joined with those of other servers says, if that is a number.
    pub value: i64,
    pub chain: Chain,
}

/// One key of a split request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRecord {
    pub next: u32,
    pub next_in_fragment: u32,
    pub fragment: u32,
    /// Bytes of its part in the fragment's chain; 0 for a miss.
    pub part_bytes: u32,
    /// Tells which VALUE block is whose.
    pub hash: u64,
}

/// Something an operator wants to read in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server connection failed.
    ServerFailed {
        /// Which server.
        server: crate::streams::ServerId,
        /// How.
        fault: Fault,
    },
    /// A server was taken out of its pool's distribution.
    ServerEjected {
        /// Which server.
        server: crate::streams::ServerId,
    },
    /// An ejected server takes part again.
    ServerReturned {
        /// Which server.
        server: crate::streams::ServerId,
    },
}
