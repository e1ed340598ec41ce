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
    resp3: bool,
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
            let is_binary = input.first() == Some(&0x80);
            let framed = match self.protocol {
                Protocol::Redis => framing::redis(input),
                Protocol::Memcached if is_binary => framing::binary(input),
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
                        Protocol::Redis => {
                            let answer = redis_answer(request, &words, line.resp3);
                            line.resp3 |= request.to_ascii_lowercase().ends_with(HELLO);
                            answer
                        }
                        Protocol::Memcached if is_binary => binary_answer(request),
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

/// How a connection becomes one of RESP3.
const HELLO: &[u8] = b"$5\r\nhello\r\n$1\r\n3\r\n";

fn bulk(value: Option<&[u8]>, resp3: bool) -> Vec<u8> {
    match value {
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        None if resp3 => b"_\r\n".to_vec(),
        None => b"$-1\r\n".to_vec(),
    }
}

/// A Redis server's answer.
pub(crate) fn redis_answer(request: &[u8], words: &[Range<usize>], resp3: bool) -> Vec<u8> {
    let Some(name) = words.first() else {
        // Redis says nothing to an empty line or array, and so nobody may ask it that.
        panic!("a server got an empty request");
    };
    let arguments = &words[1..];
    match request[name.clone()].to_ascii_lowercase().as_slice() {
        b"mget" => {
            let mut answer = format!("*{}\r\n", arguments.len()).into_bytes();
            for key in arguments {
                answer.extend(bulk(value_of(&request[key.clone()]).as_deref(), resp3));
            }
            answer
        }
        b"get" if arguments.len() == 1 => {
            bulk(value_of(&request[arguments[0].clone()]).as_deref(), resp3)
        }
        b"del" | b"unlink" | b"exists" | b"touch" => {
            format!(":{}\r\n", arguments.len()).into_bytes()
        }
        b"hello" => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
        b"mset" | b"auth" | b"select" => b"+OK\r\n".to_vec(),
        _ => bulk(Some(&name_of(request)), resp3),
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
        None if matches!(name, b"mg" | b"ms" | b"md" | b"ma" | b"me") => {
            meta_answer(request, words)
        }
        None if name == b"stats" => b"STAT one 1\r\nEND\r\n".to_vec(),
        None => [&b"H"[..], &name_of(request), b"\r\n"].concat(),
    }
}

/// A value for `mg` and `ma` that ask for one, else a code alone.
fn meta_answer(request: &[u8], words: &[Range<usize>]) -> Vec<u8> {
    let is_get = matches!(&request[words[0].clone()], b"mg" | b"ma");
    let asks = words
        .iter()
        .skip(2)
        .any(|word| &request[word.clone()] == b"v");
    match words.get(1).and_then(|key| value_of(&request[key.clone()])) {
        None if is_get => b"EN\r\n".to_vec(),
        Some(value) if is_get && asks => [
            format!("VA {}\r\n", value.len()).as_bytes(),
            &value,
            b"\r\n",
        ]
        .concat(),
        _ => b"HD\r\n".to_vec(),
    }
}

/// A frame: of a get the value of the key, or that there is none.
fn binary_answer(request: &[u8]) -> Vec<u8> {
    let key_bytes = usize::from(u16::from_be_bytes([request[2], request[3]]));
    let front = 24 + usize::from(request[4]);
    let key = &request[front..front + key_bytes];
    let (with_key, is_get) = match request[1] {
        0x00 | 0x1d => (false, true),
        0x0c | 0x23 => (true, true),
        _ => (false, false),
    };
    let value = value_of(key).filter(|_| is_get);
    let key = if with_key { key } else { b"" };
    let mut answer = vec![0x81, request[1]];
    answer.extend((key.len() as u16).to_be_bytes());
    answer.extend([if value.is_some() { 4 } else { 0 }, 0]);
    answer.extend(u16::from(is_get && value.is_none()).to_be_bytes());
    let extras: &[u8] = if value.is_some() { &[0; 4] } else { b"" };
    let value = value.unwrap_or_default();
    answer.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    answer.extend(&request[12..16]);
    answer.extend([0; 8]);
    answer.extend([extras, key, &value].concat());
    answer
}
