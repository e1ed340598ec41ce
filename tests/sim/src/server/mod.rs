//! A server: a model of Redis or memcached that tells the books what it was asked, and the trouble that it may be in.

mod answers;

use crate::books::Books;
use crate::host::Host;
use crate::random::Random;
use crate::request;
use crate::scenario::Trouble;
use crate::value::SHARED_KEYS;
use smoltcp::socket::tcp::State;
use std::collections::VecDeque;
use tidegate_fuzz::framing::{self, Framed};

/// Not the beginning of any reply.
const GARBAGE: &[u8] = b"\x01\x02 no reply\r\n";
/// How late answers may be, in microseconds.
const LATE_US: [u64; 5] = [1_000, 30_000, 150_000, 600_000, 3_000_000];
/// What a trickle brings, and how often.
const TRICKLE_BYTES: u64 = 40;
const TRICKLE_US: u64 = 700;

/// One connection.
#[derive(Debug, Default)]
struct Line {
    serial: u32,
    input: Vec<u8>,
    /// Answers, each with the time from which it can be sent.
    output: VecDeque<(u64, Vec<u8>)>,
    sent: usize,
    trickle_us: u64,
    is_resp3: bool,
    /// What a transaction will answer.
    transaction: Option<Vec<Vec<u8>>>,
    /// What happens to the next answer.
    spoils: Option<Trouble>,
    /// Nothing is answered any more; the connection ends after what there is to send.
    ends: Option<Trouble>,
}

/// A server.
pub struct Server {
    is_redis: bool,
    lines: Vec<Line>,
    store: Vec<Option<u64>>,
    random: Random,
    /// It does not read.
    pub stalls: bool,
    /// It answers late.
    pub is_late: bool,
    /// It sends some bytes at a time.
    pub trickles: bool,
    /// When it has something to do next.
    pub due_us: u64,
}

impl Server {
    /// A server without connections.
    pub fn new(is_redis: bool, seed: u64, number: u64) -> Self {
        Self {
            is_redis,
            lines: Vec::new(),
            store: vec![None; SHARED_KEYS as usize],
            random: Random::new(seed, 0x22_0000 + number),
            stalls: false,
            is_late: false,
            trickles: false,
            due_us: u64::MAX,
        }
    }

    /// Trouble begins.
    pub fn begin(&mut self, trouble: Trouble, host: &mut Host) {
        match trouble {
            Trouble::Crashes => {
                for connection in &mut host.connections {
                    connection.socket().abort();
                }
                host.listens = false;
                self.forget();
            }
            Trouble::Vanishes => {
                host.connections.clear();
                host.is_dead = true;
                self.forget();
            }
            Trouble::Stalls => self.stalls = true,
            Trouble::AnswersLate => self.is_late = true,
            Trouble::Trickles => self.trickles = true,
            Trouble::SaysGarbage | Trouble::CutsOff | Trouble::HalfCloses => {
                for line in &mut self.lines {
                    line.spoils = Some(trouble);
                }
            }
        }
    }

    /// Trouble is over.
    pub fn end(&mut self, trouble: Trouble, host: &mut Host) {
        match trouble {
            Trouble::Crashes => host.listens = true,
            Trouble::Vanishes => host.is_dead = false,
            Trouble::Stalls => self.stalls = false,
            Trouble::AnswersLate => self.is_late = false,
            Trouble::Trickles => self.trickles = false,
            Trouble::SaysGarbage | Trouble::CutsOff | Trouble::HalfCloses => {
                for line in &mut self.lines {
                    line.spoils = None;
                }
            }
        }
    }

    fn forget(&mut self) {
        self.lines.clear();
        self.store.fill(None);
    }

    /// Reads, answers and writes on one connection as far as it goes.
    pub fn run(&mut self, host: &mut Host, index: usize, now_us: u64, books: &mut Books) {
        let serial = host.connections[index].serial;
        let at = self.lines.iter().position(|line| line.serial == serial);
        let at = at.unwrap_or_else(|| {
            self.lines.push(Line {
                serial,
                ..Line::default()
            });
            self.lines.len() - 1
        });
        let socket = host.connections[index].socket();
        if socket.state() == State::Closed {
            self.lines.swap_remove(at);
            return;
        }
        while !self.stalls && socket.can_recv() {
            let input = &mut self.lines[at].input;
            let read = socket.recv(|bytes| {
                input.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            if read.is_err() {
                break;
            }
        }
        if !self.stalls {
            self.serve(at, now_us, books);
        }
        let line = &mut self.lines[at];
        while let Some((due_us, bytes)) = line.output.front() {
            let wait_us = (*due_us).max(line.trickle_us);
            if wait_us > now_us {
                self.due_us = self.due_us.min(wait_us);
                break;
            }
            let mut rest = &bytes[line.sent..];
            if self.trickles {
                rest = &rest[..rest
                    .len()
                    .min(1 + self.random.below(TRICKLE_BYTES) as usize)];
                line.trickle_us = now_us + TRICKLE_US;
            }
            let sent = socket.send_slice(rest).unwrap_or(0);
            line.sent += sent;
            if line.sent == bytes.len() {
                line.output.pop_front();
                line.sent = 0;
            }
            if sent == 0 {
                break;
            }
        }
        let peer_ended = socket.state() == State::CloseWait && socket.recv_queue() == 0;
        if line.output.is_empty() {
            match line.ends {
                Some(Trouble::HalfCloses) => socket.close(),
                Some(_) => socket.abort(),
                None if peer_ended => socket.close(),
                None => {}
            }
        }
    }

    /// Answers every whole request.
    fn serve(&mut self, at: usize, now_us: u64, books: &mut Books) {
        let mut input = std::mem::take(&mut self.lines[at].input);
        let mut taken = 0;
        while taken < input.len() {
            if self.lines[at].ends.is_some() {
                taken = input.len();
                break;
            }
            let rest = &input[taken..];
            let is_binary = rest[0] == request::REQUEST;
            let framed = match (self.is_redis, is_binary) {
                (true, _) => framing::redis(rest),
                (false, true) => framing::binary(rest),
                (false, false) => framing::memcached(rest),
            };
            let Framed::Request { bytes, words } = framed else {
                if framed == Framed::Malformed {
                    nobody_sent(rest, books);
                }
                break;
            };
            let request = &rest[..bytes];
            let words: Vec<&[u8]> = words.into_iter().map(|word| &request[word]).collect();
            let answer = match (self.is_redis, is_binary) {
                (true, _) => self.redis(at, &words, books),
                (false, true) => self.binary(request, books),
                (false, false) => self.text(request, &words, books),
            };
            match answer {
                Some(answer) => self.answer(at, now_us, answer),
                None => nobody_sent(request, books),
            }
            taken += bytes;
        }
        input.drain(..taken);
        self.lines[at].input = input;
    }

    fn answer(&mut self, at: usize, now_us: u64, mut answer: Vec<u8>) {
        let late_us = if self.is_late {
            let most = self.random.pick(&LATE_US);
            self.random.below(most)
        } else {
            self.random.below(30)
        };
        let line = &mut self.lines[at];
        match line.spoils.take() {
            Some(Trouble::SaysGarbage) => answer = GARBAGE.to_vec(),
            Some(trouble @ Trouble::CutsOff) => {
                answer.truncate(answer.len() / 2);
                line.ends = Some(trouble);
            }
            trouble => line.ends = trouble,
        }
        let last_us = line.output.back().map_or(0, |(due_us, _)| *due_us);
        line.output
            .push_back(((now_us + late_us).max(last_us), answer));
    }
}

fn nobody_sent(request: &[u8], books: &mut Books) {
    let front = request[..request.len().min(120)].escape_ascii();
    books.break_promise(format!("a server got what nobody sent: {front}"));
}
