//! Model clients and servers.
//!
//! A server's answer names the request: it is made of the request's hash, or of its keys. So a reply that reached another request
//! shows.

use super::memcached;
use super::redis::{Answer, Session};
use super::script::Trouble;
use crate::cuts::hash;
use crate::framing::{self, Framed};
use crate::queue::Queue;
use std::collections::VecDeque;
use tidegate_config::Protocol;
use tidegate_proxy::streams::StreamId;

/// One client: all it has to send, how much of that it sent, and all it got.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: StreamId,
    pub(crate) serial: u64,
    pub(crate) sends: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) got: Vec<u8>,
    pub(crate) sends_no_more: bool,
    pub(crate) deaf: bool,
    /// The proxy ended the connection in order.
    pub(crate) finished: bool,
    /// Somebody reset it.
    pub(crate) reset: bool,
    /// It was the client itself.
    pub(crate) vanished: bool,
}

impl Client {
    /// What it has still to send.
    pub(crate) fn to_send(&self) -> &[u8] {
        &self.sends[self.sent..]
    }

    /// Whether it may be a subscriber.
    pub(crate) fn subscribes(&self) -> bool {
        let name = b"subscribe";
        let mut windows = self.sends.windows(name.len());
        windows.any(|window| window.eq_ignore_ascii_case(name))
    }

    /// Nothing moves on its connection any more.
    pub(crate) fn is_over(&self) -> bool {
        self.finished || self.reset
    }

    pub(crate) fn new(id: StreamId, serial: u64) -> Self {
        Self {
            id,
            serial,
            sends: Vec::new(),
            sent: 0,
            got: Vec::new(),
            sends_no_more: false,
            deaf: false,
            finished: false,
            reset: false,
            vanished: false,
        }
    }
}

/// One connection of a server.
#[derive(Debug, Default)]
pub(crate) struct Line {
    serial: u64,
    session: Session,
    pub(crate) input: Queue,
    pub(crate) output: Queue,
}

/// One server.
pub(crate) struct Server {
    protocol: Protocol,
    pub(crate) stopped: bool,
    pub(crate) trickles: bool,
    pub(crate) refuses: bool,
    /// What it says in place of its next answers.
    pub(crate) answers: VecDeque<Vec<u8>>,
    /// By slot of the stream.
    pub(crate) lines: Vec<Line>,
}

impl Server {
    pub(crate) fn new(protocol: Protocol, slots: usize) -> Self {
        Self {
            protocol,
            stopped: false,
            trickles: false,
            refuses: false,
            answers: VecDeque::new(),
            lines: (0..slots).map(|_| Line::default()).collect(),
        }
    }

    pub(crate) fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Stops => self.stopped ^= true,
            Trouble::Trickles => self.trickles ^= true,
            Trouble::Refuses => self.refuses ^= true,
            Trouble::Breaks => {}
        }
    }

    pub(crate) fn recover(&mut self) {
        self.stopped = false;
        self.trickles = false;
        self.refuses = false;
        self.answers.clear();
    }

    /// The connection in a slot, empty if the slot has a new stream.
    pub(crate) fn line(&mut self, slot: usize, serial: u64) -> &mut Line {
        let line = &mut self.lines[slot];
        if line.serial != serial {
            *line = Line {
                serial,
                ..Line::default()
            };
        }
        line
    }

    /// Answers every whole request. True when there was one, or one that waits.
    pub(crate) fn serve(&mut self, slot: usize) -> bool {
        let mut any = false;
        while let Some((bytes, answer)) = self.answer(slot) {
            any = true;
            if let Some(message) = answer.message {
                for line in &mut self.lines {
                    line.output.push(&line.session.hear(&message));
                }
            }
            let line = &mut self.lines[slot];
            line.input.take(bytes);
            line.output
                .push(&self.answers.pop_front().unwrap_or(answer.bytes));
        }
        any || self.lines[slot].session.rest()
    }

    /// The bytes of the request at the front and its answer, if it is whole and nothing before it waits.
    fn answer(&mut self, slot: usize) -> Option<(usize, Answer)> {
        let Line { session, input, .. } = &mut self.lines[slot];
        let input = input.bytes();
        if input.is_empty() || session.rests() {
            return None;
        }
        let is_binary = input.first() == Some(&0x80);
        let framed = match self.protocol {
            Protocol::Redis => framing::redis(input),
            Protocol::Memcached if is_binary => framing::binary(input),
            Protocol::Memcached => framing::memcached(input),
        };
        match framed {
            Framed::Incomplete => None,
            Framed::Malformed => panic!(
                "a server got what it would not take: {}",
                input[..input.len().min(300)].escape_ascii()
            ),
            Framed::Request { bytes, words } => {
                let request = &input[..bytes];
                let answer = match self.protocol {
                    Protocol::Redis => session.answer(request, &words)?,
                    Protocol::Memcached if is_binary => {
                        memcached::binary_answer(request, request[1], 1).into()
                    }
                    Protocol::Memcached => memcached::memcached_answer(request, &words).into(),
                };
                Some((bytes, answer))
            }
        }
    }
}

/// What a value is made of: what it is the answer to.
pub(crate) fn name_of(bytes: &[u8]) -> Vec<u8> {
    format!("{:016x}", hash(bytes)).into_bytes()
}

/// The value of a key; one key in four has none.
pub(crate) fn value_of(key: &[u8]) -> Option<Vec<u8>> {
    let hash = hash(key);
    if hash.is_multiple_of(4) {
        return None;
    }
    // Some are too large to wait long.
    let times = if hash.is_multiple_of(11) { 200 } else { 1 };
    Some(name_of(key).repeat(times))
}
