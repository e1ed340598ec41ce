//! A client: asks, reads, and judges what it gets.

use crate::books::Books;
use crate::host::Host;
use crate::listen;
use crate::random::Random;
use crate::reply::{self, Reply};
use crate::request::{self, Asked, Fits};
use crate::scenario::Dialect;
use smoltcp::socket::tcp::State;
use std::collections::VecDeque;

/// With so many replies owed to it a client asks no more.
const PENDING_MAX: usize = 500;

/// What a client is told for whom its pool has no place.
const POOL_FULL: [&[u8]; 2] = [
    b"-ERR max number of clients reached\r\n",
    b"ERROR Too many open connections\r\n",
];

/// A client.
pub struct Client {
    number: usize,
    dialect: Dialect,
    connection: Option<u32>,
    /// What was asked on this connection and not answered.
    pending: VecDeque<Asked>,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    /// It does not read.
    pub is_deaf: bool,
    /// It closes its direction when all is sent.
    pub finishes: bool,
    finished: bool,
    /// Pools have few places.
    may_be_refused: bool,
    /// Something came on this connection.
    was_heard: bool,
    /// Its pool had no place for this connection: nothing comes behind that.
    is_refused: bool,
    /// The number in a transaction that it has begun.
    transaction: Option<u64>,
    /// Errors among the replies so far.
    pub errors: u64,
    /// Other replies so far.
    pub answers: u64,
}

impl Client {
    /// A client without a connection. `may_be_refused`: its pool may have no place for it.
    pub fn new(number: usize, dialect: Dialect, may_be_refused: bool) -> Self {
        Self {
            number,
            dialect,
            connection: None,
            pending: VecDeque::new(),
            out: Vec::new(),
            sent: 0,
            input: Vec::new(),
            is_deaf: false,
            finishes: false,
            finished: false,
            may_be_refused,
            was_heard: false,
            is_refused: false,
            transaction: None,
            errors: 0,
            answers: 0,
        }
    }

    /// Asks, on a new connection if there is none.
    pub fn ask(&mut self, host: &mut Host, requests: u32, seed: u64, books: &mut Books) {
        if self.finishes || host.is_dead || self.pending.len() > PENDING_MAX {
            return;
        }
        let before = self.pending.len();
        if self.connection.is_none() {
            let pool = usize::from(!self.dialect.is_redis());
            self.connection = Some(host.connect(listen(pool)));
            request::greet(self.dialect, &mut self.out, &mut self.pending);
        }
        let mut random = Random::new(seed, 3);
        for _ in 0..requests {
            if self.pending.len() > PENDING_MAX {
                break;
            }
            request::ask(
                self.dialect,
                &mut random,
                books,
                &mut self.out,
                &mut self.pending,
                &mut self.transaction,
            );
        }
        books.tally.asked += (self.pending.len() - before) as u64;
    }

    /// Nothing is owed to it, or it has no connection.
    pub fn is_settled(&self) -> bool {
        self.connection.is_none() || self.pending.is_empty() && self.sent == self.out.len()
    }

    /// What it waits for, for a person.
    pub fn waits_for(&self) -> String {
        format!(
            "client {} waits for {} replies, has sent {} of {} bytes; the first is to {:?}",
            self.number,
            self.pending.len(),
            self.sent,
            self.out.len(),
            self.pending.front()
        )
    }

    /// Reads and writes as far as it goes.
    pub fn run(&mut self, host: &mut Host, books: &mut Books) {
        let Some(serial) = self.connection else {
            return;
        };
        let Some(index) = host.find(serial) else {
            return self.end(books);
        };
        let socket = host.connections[index].socket();
        while !self.is_deaf && socket.can_recv() {
            let read = socket.recv(|bytes| {
                self.input.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            if read.is_err() {
                break;
            }
        }
        self.judge(books);
        let socket = host.connections[index].socket();
        if self.sent < self.out.len() && socket.can_send() {
            self.sent += socket.send_slice(&self.out[self.sent..]).unwrap_or(0);
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            if self.finishes && !self.finished {
                self.finished = true;
                socket.close();
            }
        }
        let state = socket.state();
        if state == State::Closed {
            host.sweep(index);
            return self.end(books);
        }
        let no_more = matches!(
            state,
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        if no_more && socket.recv_queue() == 0 {
            socket.close();
            self.end(books);
        }
    }

    /// The connection has ended.
    pub fn end(&mut self, books: &mut Books) {
        books.tally.closed += self.pending.len() as u64;
        self.pending.clear();
        self.out.clear();
        self.sent = 0;
        self.input.clear();
        self.was_heard = false;
        self.is_refused = false;
        self.transaction = None;
        self.connection = None;
        self.finishes = false;
        self.finished = false;
    }

    /// Resets the connection.
    pub fn reset(&mut self, host: &mut Host, books: &mut Books) {
        if let Some(index) = self.connection.and_then(|serial| host.find(serial)) {
            host.connections[index].socket().abort();
        }
        self.end(books);
    }

    /// Takes what a client is told for whom there is no place, if that is what comes first. True: it may become that.
    fn look_for_refusal(&mut self, books: &mut Books) -> bool {
        let full = POOL_FULL[usize::from(!self.dialect.is_redis())];
        if !self.may_be_refused || self.was_heard {
            return false;
        }
        if self.input.starts_with(full) {
            self.input.drain(..full.len());
            self.is_refused = true;
            if self.pending.pop_front().is_some() {
                books.tally.errors += 1;
                self.errors += 1;
            }
        }
        self.was_heard = !full.starts_with(&self.input) || self.is_refused;
        !self.was_heard
    }

    fn judge(&mut self, books: &mut Books) {
        if self.look_for_refusal(books) {
            return;
        }
        if self.is_refused && !self.input.is_empty() {
            let front = self.input[..self.input.len().min(120)].escape_ascii();
            books.break_promise(format!(
                "client {} was refused, and got more: {front}",
                self.number
            ));
        }
        let mut at = 0;
        while at < self.input.len() {
            let rest = &self.input[at..];
            let front = || rest[..rest.len().min(120)].escape_ascii();
            let Some(asked) = self.pending.front() else {
                books.break_promise(format!(
                    "client {} got what it did not ask for: {}",
                    self.number,
                    front()
                ));
                break;
            };
            match reply::look(self.dialect, asked, rest, books) {
                Reply::Incomplete => break,
                Reply::Wrong => {
                    books.break_promise(format!(
                        "client {} asked {asked:?} and got {}",
                        self.number,
                        front()
                    ));
                    break;
                }
                Reply::Fits { bytes } => {
                    at += bytes;
                    books.tally.answered += 1;
                    self.answers += u64::from(asked.fits != Fits::Greeting);
                }
                Reply::Error { bytes } => {
                    at += bytes;
                    books.tally.errors += 1;
                    self.errors += 1;
                }
            }
            self.pending.pop_front();
        }
        self.input.drain(..at);
    }
}
