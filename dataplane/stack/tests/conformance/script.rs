//! What a script says, once it is read.

use crate::common::Options;
use crate::options::TcpOption;
use std::fmt;
use tidegate_config::AckMode;

/// What is wrong with a script, or with the stack that it was played against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
}

impl Fault {
    pub fn new(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.text)
    }
}

/// A script. See `README.md` beside the scripts for its language.
#[derive(Clone, Debug)]
pub struct Script {
    /// The sections that it checks, as `RFC 9293, section 3.5`.
    pub rfcs: Vec<String>,
    /// The sentences that it checks.
    pub says: String,
    /// How the stack is made.
    pub options: Options,
    /// The peer's initial sequence number.
    pub peer_iss: u32,
    /// Address families to play it over, `true` for IPv6.
    pub families: Vec<bool>,
    /// When the stack acknowledges.
    pub acks: Vec<AckMode>,
    /// Where the stack does something else than the RFC says.
    pub deviation: Option<Mark>,
    /// What the RFC allows and still costs a proxy something.
    pub costs: Option<Mark>,
    pub steps: Vec<Step>,
}

/// A name that docs/tcp.md explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub name: String,
    pub line: usize,
}

/// Which play a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Every one.
    Both,
    /// What the RFC asks for.
    Asked,
    /// What is seen instead.
    Seen,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub line: usize,
    pub at: At,
    pub side: Side,
    pub action: Action,
}

/// When a step happens, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After the step before.
    After(u64),
    /// After the start.
    Since(u64),
}

/// A sequence or acknowledgement number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Counted from the initial sequence number of its end.
    Relative(u32),
    /// As in the header.
    Absolute(u32),
}

/// A segment to send to the stack, or to expect of it.
#[derive(Clone, Debug)]
pub struct Segment {
    pub flags: u8,
    pub sequence: Number,
    pub payload_bytes: usize,
    pub acknowledgement: Option<Number>,
    pub window: Option<u16>,
    pub urgent: u16,
    /// `None`: whatever they are.
    pub options: Option<Vec<TcpOption>>,
    /// The checksum is wrong.
    pub damaged: bool,
}

/// What is said of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Connecting,
    Open,
    HalfClosed,
    Finished,
    Reset,
    Refused,
    TimedOut,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// `<`: the peer sends a segment.
    Inject(Segment),
    /// `>`: the stack sends one.
    Expect(Segment),
    /// Until now the stack sends nothing more.
    Nothing,
    /// The application takes the connection that was accepted; `false`: there is none.
    Accept(bool),
    Connect,
    /// So many bytes are offered, so many taken.
    Write(usize, usize),
    Read(usize),
    /// Our direction ends.
    Close,
    /// The application is done with the connection.
    Release,
    Abort,
    ExpectReply(bool),
    /// From now on no client is accepted.
    Refuse,
    Status(Status),
    Received(usize),
    Room(usize),
    Queued(usize),
    Counter(String, u64),
    /// The application learns that urgent data is on its way.
    ToldOfUrgentData,
    /// The next SYN of ours begins another connection.
    Renew,
    /// Our initial sequence number is so far ahead of the one before.
    IssAhead(u32),
    /// The peer's port is this from now on.
    Peer(u16),
}
