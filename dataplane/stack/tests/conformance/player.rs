//! Plays a script against a stack, on a clock that only the script moves.

use crate::common::{
    ACK, CLIENT, Handed, MACS, MemoryPort, RST, SERVER, START_US, SYN, Tcp, address, check_sum,
    config, listening, path,
};
use crate::script::{Action, At, Fault, Script, Side, Status, Step};
use std::collections::VecDeque;
use std::net::SocketAddr;
use tidegate_channel::counters::StackCounters;
use tidegate_config::AckMode;
use tidegate_proxy::streams::{CloseReason, ServerId, StreamId, StreamStatus, Streams};
use tidegate_stack::Stack;

/// Egress passes in one turn. A flow that has more than this to say at once is one that never rests.
const PASSES_MAX: usize = 64;

/// Timers that may expire between two steps.
const TIMERS_MAX: usize = 100_000;

/// One way to play a script.
#[derive(Clone, Copy, Debug)]
pub struct Staging {
    pub ipv6: bool,
    pub ack: AckMode,
    /// What the RFC asks for or what is seen, where these differ.
    pub side: Side,
}

/// The byte of a stream at `offset` from its SYN, in both directions.
fn byte(offset: u32) -> u8 {
    (offset.wrapping_mul(2_654_435_761) >> 24) as u8
}

pub fn bytes(offset: u32, count: usize) -> Vec<u8> {
    (0..count as u32)
        .map(|at| byte(offset.wrapping_add(at)))
        .collect()
}

/// Plays `script`; what went wrong comes with its line.
pub fn play(script: &Script, staging: Staging) -> Result<(), Fault> {
    let mut player = Player::new(script, staging);
    let mut last = 0;
    for step in &script.steps {
        if step.side == Side::Both || step.side == staging.side {
            last = step.line;
            player
                .step(step)
                .map_err(|text| Fault::new(step.line, text))?;
        }
    }
    player
        .end()
        .map_err(|text| Fault::new(last, format!("at the end, {text}")))
}

/// A stack, its peer and its application.
pub struct Player {
    pub stack: Stack,
    pub ports: [MemoryPort; 1],
    pub handed: Handed,
    pub now_us: u64,
    /// When the last step happened.
    pub step_us: u64,
    /// What the stack sent and no step has looked at, with the time.
    pub sent: VecDeque<(u64, Tcp)>,
    pub ipv6: bool,
    pub ours: SocketAddr,
    pub peer: SocketAddr,
    pub peer_iss: u32,
    /// Learned from the SYN that we send.
    pub our_iss: Option<u32>,
    /// That of the connection before.
    pub last_iss: Option<u32>,
    /// Where the peer's stream begins, relative to `peer_iss`.
    pub peer_syn: u32,
    pub stream: Option<StreamId>,
    pub read: u32,
    pub written: u32,
}

impl Player {
    fn new(script: &Script, staging: Staging) -> Self {
        let mut options = script.options.clone();
        options.ipv6 = staging.ipv6;
        options.ack = staging.ack;
        let mut stack =
            Stack::new(config(&options, SERVER), START_US).expect("the configuration is right");
        stack.set_path(ServerId(0), Some(path(staging.ipv6, SERVER)));
        Self {
            stack,
            ports: [MemoryPort::new(MACS[SERVER], options.ring_frames)],
            handed: Handed::default(),
            now_us: START_US,
            step_us: START_US,
            sent: VecDeque::new(),
            ipv6: staging.ipv6,
            ours: listening(staging.ipv6),
            peer: address(staging.ipv6, CLIENT, 5_001),
            peer_iss: script.peer_iss,
            our_iss: None,
            last_iss: None,
            peer_syn: 0,
            stream: None,
            read: 0,
            written: 0,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let at_us = match step.at {
            At::After(us) => self.step_us + us,
            At::Since(us) => START_US + us,
        };
        if let Action::Expect(expected) = &step.action {
            return self.expect(expected, at_us);
        }
        if at_us > self.now_us {
            self.advance(at_us, false)?;
            self.silent()?;
        }
        self.step_us = self.step_us.max(at_us);
        self.act(&step.action)
    }

    fn end(&mut self) -> Result<(), String> {
        self.egress()?;
        self.silent()?;
        check_sum(&self.stack);
        Ok(())
    }

    /// Nothing that was sent is unexpected.
    fn silent(&self) -> Result<(), String> {
        match self.sent.front() {
            None => Ok(()),
            Some((at_us, frame)) => Err(format!(
                "nobody expects {} at {}",
                self.told(frame),
                since_start(*at_us)
            )),
        }
    }

    /// Lets time pass, as a worker would that sleeps whenever it may. With `stop` only until something is sent.
    pub fn advance(&mut self, to_us: u64, stop: bool) -> Result<(), String> {
        self.egress()?;
        for _ in 0..TIMERS_MAX {
            if self.now_us >= to_us || stop && !self.sent.is_empty() {
                return Ok(());
            }
            let next_us = self.stack.next_timer_us().unwrap_or(to_us);
            self.now_us = next_us.clamp(self.now_us + 1, to_us);
            self.stack.tick(self.now_us);
            self.egress()?;
        }
        Err("the stack's timers never rest".to_owned())
    }

    /// Ends the turn.
    pub fn egress(&mut self) -> Result<(), String> {
        for _ in 0..PASSES_MAX {
            self.collect()?;
            self.stack.egress(&mut self.ports);
            self.collect()?;
            if !self.stack.has_pending_egress() {
                return Ok(());
            }
        }
        Err("the stack never stops sending".to_owned())
    }

    fn collect(&mut self) -> Result<(), String> {
        for frame in self.ports[0].take_sent() {
            if frame.flags & (SYN | ACK | RST) == SYN {
                (self.ours, self.peer) = (frame.source, frame.destination);
            }
            if (frame.source, frame.destination) != (self.ours, self.peer) {
                return Err(format!("a segment between strangers: {frame:?}"));
            }
            self.sent.push_back((self.now_us, frame));
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Inject(segment) => self.inject(segment),
            Action::Nothing => {
                self.egress()?;
                return self.silent();
            }
            Action::Accept(wanted) => return self.accept(*wanted),
            Action::Connect => {
                let id = self.stack.connect(ServerId(0));
                self.begin(Some(id.map_err(|error| format!("{error:?}"))?));
            }
            Action::ExpectReply(expected) => {
                let id = self.stream()?;
                self.stack.expect_reply(id, *expected);
            }
            Action::ToldOfUrgentData => return Err("streams know no urgent data".to_owned()),
            Action::Refuse => self.stack.stop_accepting(),
            Action::Renew => self.last_iss = self.our_iss.take().or(self.last_iss),
            Action::IssAhead(bytes) => return self.iss_ahead(*bytes),
            Action::Peer(port) => self.peer.set_port(*port),
            Action::Counter(name, value) => {
                let counters = self.stack.counters();
                let seen = StackCounters::ROWS
                    .iter()
                    .zip(counters.words())
                    .find(|(row, _)| row.name == name)
                    .map_or(0, |(_, word)| word);
                return same(name, seen, *value);
            }
            _ => return self.act_on_stream(action),
        }
        Ok(())
    }

    fn act_on_stream(&mut self, action: &Action) -> Result<(), String> {
        let id = self.stream()?;
        match action {
            Action::Write(offered, taken) => {
                let all = bytes(self.written + 1, *offered);
                let seen = self.stack.send(id, &all);
                self.written += seen as u32;
                same("taken", seen, *taken)
            }
            Action::Read(count) => self.read(id, *count),
            Action::Status(status) => same("status", told_status(self.stack.status(id)), *status),
            Action::Received(count) => same("received", self.stack.received(id), *count),
            Action::Room(count) => same("room", self.stack.send_room(id), *count),
            Action::Queued(count) => same("queued", self.stack.send_queued(id), *count),
            Action::Close => {
                self.stack.finish(id);
                Ok(())
            }
            Action::Abort => {
                self.stack.abort(id);
                Ok(())
            }
            Action::Release => {
                self.stack.release(id);
                self.stream = None;
                Ok(())
            }
            _ => Err("not an action on a stream".to_owned()),
        }
    }

    fn iss_ahead(&self, bytes: u32) -> Result<(), String> {
        let (Some(last), Some(now)) = (self.last_iss, self.our_iss) else {
            return Err("there are no two numbers to compare".to_owned());
        };
        // The clock of the stack has ticks that do not begin with a step's.
        let ahead = now.wrapping_sub(last);
        if ahead.abs_diff(bytes) > 1 {
            return Err(format!("the initial sequence number is {ahead} ahead"));
        }
        Ok(())
    }

    fn stream(&self) -> Result<StreamId, String> {
        self.stream
            .ok_or_else(|| "the application has no connection".to_owned())
    }

    fn begin(&mut self, stream: Option<StreamId>) {
        self.stream = stream;
        self.read = 0;
        self.written = 0;
    }

    fn accept(&mut self, wanted: bool) -> Result<(), String> {
        let known = self.stream;
        let mut found = None;
        while let Some(id) = self.stack.next_ready() {
            let is_new = known != Some(id)
                && matches!(
                    self.stack.status(id),
                    StreamStatus::Open | StreamStatus::HalfClosed
                );
            if is_new && found.is_none() {
                found = Some(id);
            }
        }
        if found.is_some() != wanted {
            return Err(format!("accepted: {found:?}"));
        }
        if wanted {
            self.begin(found);
        }
        Ok(())
    }

    fn read(&mut self, id: StreamId, count: usize) -> Result<(), String> {
        let mut seen = vec![0; count];
        let copied = self.stack.copy(id, &mut seen);
        if copied != count {
            return Err(format!("{copied} bytes are there to read, not {count}"));
        }
        if seen != bytes(self.read + 1, count) {
            return Err("the bytes are not those that the peer sent".to_owned());
        }
        self.stack.consume(id, count);
        self.read += count as u32;
        Ok(())
    }
}

fn told_status(status: StreamStatus) -> Status {
    match status {
        StreamStatus::Connecting => Status::Connecting,
        StreamStatus::Open => Status::Open,
        StreamStatus::HalfClosed => Status::HalfClosed,
        StreamStatus::Closed(CloseReason::Finished) => Status::Finished,
        StreamStatus::Closed(CloseReason::Reset) => Status::Reset,
        StreamStatus::Closed(CloseReason::Refused) => Status::Refused,
        StreamStatus::Closed(CloseReason::TimedOut) => Status::TimedOut,
    }
}

/// A time as scripts have it.
pub fn since_start(at_us: u64) -> String {
    format!("{} s", (at_us - START_US) as f64 / 1e6)
}

/// Whether what was seen is what was expected.
#[allow(
    clippy::needless_pass_by_value,
    reason = "both are made for the comparison"
)]
pub fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    seen: T,
    expected: T,
) -> Result<(), String> {
    if seen == expected {
        Ok(())
    } else {
        Err(format!("{what} is {seen:?}, not {expected:?}"))
    }
}
