//! Model clients and servers.
//!
//! A server's answer names the request: it is made of the request's hash, or of its keys. So a reply that reached another request
//! shows.

use super::script::Trouble;
use crate::cuts::hash;
use crate::framing::{self, Framed};
use std::collections::VecDeque;
use std::ops::Range;
use tidegate_config::Protocol;
use tidegate_proxy::streams::StreamId;

/// One client: what it has still to send, all it sent, and all it got.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: StreamId,
    pub(crate) serial: u64,
    pub(crate) to_send: Vec<u8>,
    pub(crate) sent: Vec<u8>,
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
    pub(crate) fn new(id: StreamId, serial: u64) -> Self {
        Self {
            id,
            serial,
            to_send: Vec::new(),
            sent: Vec::new(),
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
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
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

    /// Answers every whole request. True when there was one.
    pub(crate) fn serve(&mut self, slot: usize) -> bool {
        let line = &mut self.lines[slot];
        let mut at = 0;
        loop {
            let input = &line.input[at..];
            let framed = match self.protocol {
                Protocol::Redis => framing::redis(input),
                Protocol::Memcached => framing::memcached(input),
            };
            match framed {
                Framed::Incomplete => break,
                Framed::Malformed => panic!(
                    "a server got what it would not take: {}",
                    input[..input.len().min(300)].escape_ascii()
                ),
                Framed::Request { bytes, words } => {
                    let request = &input[..bytes];
                    let answer = match self.protocol {
                        Protocol::Redis => redis_answer(request, &words),
                        Protocol::Memcached => memcached_answer(request, &words),
                    };
                    at += bytes;
                    line.output
                        .extend(self.answers.pop_front().unwrap_or(answer));
                }
            }
        }
        line.input.drain(..at);
        at > 0
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

fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        None => b"$-1\r\n".to_vec(),
    }
}

/// A Redis server's answer.
pub(crate) fn redis_answer(request: &[u8], words: &[Range<usize>]) -> Vec<u8> {
    let Some(name) = words.first() else {
        // Redis says nothing to an empty line or array, and so nobody may ask it that.
        panic!("a server got an empty request");
    };
    let arguments = &words[1..];
    match request[name.clone()].to_ascii_lowercase().as_slice() {
        b"mget" => {
            let mut answer = format!("*{}\r\n", arguments.len()).into_bytes();
            for key in arguments {
                answer.extend(bulk(value_of(&request[key.clone()]).as_deref()));
            }
            answer
        }
        b"get" if arguments.len() == 1 => bulk(value_of(&request[arguments[0].clone()]).as_deref()),
        b"del" | b"unlink" | b"exists" | b"touch" => {
            format!(":{}\r\n", arguments.len()).into_bytes()
        }
        b"mset" | b"auth" | b"select" => b"+OK\r\n".to_vec(),
        _ => bulk(Some(&name_of(request))),
    }
}

/// The block of a value as memcached sends it.
pub(crate) fn block(key: &[u8], with_cas: bool) -> Vec<u8> {
    let Some(value) = value_of(key) else {
        return Vec::new();
    };
    let cas = if with_cas { " 7" } else { "" };
    [
        &b"VALUE "[..],
        key,
        format!(" 0 {}{cas}\r\n", value.len()).as_bytes(),
        &value,
        b"\r\n",
    ]
    .concat()
}

/// A memcached server's answer.
pub(crate) fn memcached_answer(request: &[u8], words: &[Range<usize>]) -> Vec<u8> {
    let word = |index: usize| {
        words
            .get(index)
            .map_or(&b""[..], |word| &request[word.clone()])
    };
    let name = word(0);
    let keys = match name {
        b"get" | b"gets" => words.get(1..),
        b"gat" | b"gats" => words.get(2..),
        _ => None,
    };
    match keys {
        Some(keys) => {
            let mut answer = Vec::new();
            for key in keys {
                answer.extend(block(&request[key.clone()], name.ends_with(b"s")));
            }
            answer.extend(b"END\r\n");
            answer
        }
        None => [&b"H"[..], &name_of(request), b"\r\n"].concat(),
    }
}
