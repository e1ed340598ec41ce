//! Requests: what clients send, and what fits as a reply.

use crate::books::Books;
use crate::random::Random;
use crate::scenario::Dialect;
use crate::value::{self, SHARED_KEYS};
use std::io::Write;

/// A key whose value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// One of this request alone.
    Own(u64),
    /// One that clients write.
    Shared(u64),
}

impl Read {
    fn key(self) -> String {
        match self {
            Self::Own(token) => value::key(b'u', token),
            Self::Shared(key) => value::key(b's', key),
        }
    }
}

/// What fits as a reply, beside an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fits {
    /// These bytes.
    Line(&'static str),
    /// This number, from a server that was asked once for each token.
    Number {
        /// The number.
        number: u64,
        /// The tokens.
        tokens: Vec<u64>,
    },
    /// The confirmation of a change, from a server that was asked once for the token.
    Done {
        /// The line of text that says so.
        line: &'static str,
        /// The token.
        token: u64,
    },
    /// The value of a key.
    Value(Read),
    /// The values of several, in this order.
    Values(Vec<Read>),
    /// What a command in a transaction gets, or its number outside of one.
    Queued(u64),
    /// What the transaction gets: one number, or a refusal.
    Executed(u64),
    /// Any array or map: a greeting.
    Greeting,
}

/// A request that was given to a client to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What fits.
    pub fits: Fits,
    /// The number that a binary reply carries.
    pub opaque: u32,
}

impl Asked {
    fn new(fits: Fits) -> Self {
        Self { fits, opaque: 0 }
    }
}

fn resp(out: &mut Vec<u8>, words: &[&[u8]]) {
    // Writing to a vector cannot fail.
    let _ok = write!(out, "*{}\r\n", words.len());
    for word in words {
        let _ok = write!(out, "${}\r\n", word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a connection begins with.
pub fn greet(dialect: Dialect, out: &mut Vec<u8>, asked: &mut impl Extend<Asked>) {
    if dialect == Dialect::Redis3 {
        resp(out, &[b"HELLO", b"3"]);
        asked.extend([Asked::new(Fits::Greeting)]);
    }
}

/// Makes one request, or several that belong together. `transaction` is one that the client has begun.
pub fn ask(
    dialect: Dialect,
    random: &mut Random,
    books: &mut Books,
    out: &mut Vec<u8>,
    asked: &mut impl Extend<Asked>,
    transaction: &mut Option<u64>,
) {
    if let Some(number) = transaction.take() {
        resp(out, &[b"EXEC"]);
        asked.extend([Asked::new(Fits::Executed(number))]);
        return;
    }
    match dialect {
        Dialect::Redis | Dialect::Redis3 => redis(random, books, out, asked, transaction),
        Dialect::Text => asked.extend(text(random, books, out)),
        Dialect::Binary => asked.extend([binary(random, books, out)]),
    }
}

/// A key to read.
fn read(random: &mut Random, books: &mut Books) -> Read {
    if random.one_in(3) {
        Read::Shared(random.below(SHARED_KEYS))
    } else {
        Read::Own(books.token())
    }
}

fn reads(random: &mut Random, books: &mut Books) -> Vec<Read> {
    let count = if random.one_in(20) {
        random.between(8, 40)
    } else {
        random.between(2, 6)
    };
    (0..count).map(|_| read(random, books)).collect()
}

/// A value for a shared key.
fn write(random: &mut Random, books: &mut Books) -> (u64, u64, Vec<u8>) {
    let key = random.below(SHARED_KEYS);
    let token = books.writing(key);
    let mut bytes = Vec::new();
    value::write(&mut bytes, Some(key), token, value::bytes_of(token));
    (key, token, bytes)
}

fn redis(
    random: &mut Random,
    books: &mut Books,
    out: &mut Vec<u8>,
    asked: &mut impl Extend<Asked>,
    transaction: &mut Option<u64>,
) {
    let fits = match random.below(24) {
        0..=8 => {
            let read = read(random, books);
            resp(out, &[b"GET", read.key().as_bytes()]);
            Fits::Value(read)
        }
        9..=11 => {
            let (key, token, bytes) = write(random, books);
            resp(out, &[b"SET", value::key(b's', key).as_bytes(), &bytes]);
            Fits::Done { line: "OK", token }
        }
        12 | 13 => {
            let token = books.token();
            let number = value::number_of(token);
            let key = value::key(b'c', token);
            resp(
                out,
                &[b"INCRBY", key.as_bytes(), number.to_string().as_bytes()],
            );
            Fits::Number {
                number,
                tokens: vec![token],
            }
        }
        14 | 15 => {
            let token = books.token();
            let bytes = vec![b'a'; 1 + (value::number_of(token) % 300) as usize];
            resp(
                out,
                &[b"APPEND", value::key(b'a', token).as_bytes(), &bytes],
            );
            Fits::Number {
                number: bytes.len() as u64,
                tokens: vec![token],
            }
        }
        16 => {
            let token = books.token();
            let elements = 1 + value::number_of(token) % 9;
            let key = value::key(b'l', token);
            let mut words: Vec<&[u8]> = vec![b"LPUSH", key.as_bytes()];
            words.extend((0..elements).map(|_| &b"element"[..]));
            resp(out, &words);
            Fits::Number {
                number: elements,
                tokens: vec![token],
            }
        }
        17..=19 => {
            let reads = reads(random, books);
            let keys: Vec<_> = reads.iter().map(|read| read.key()).collect();
            let mut words: Vec<&[u8]> = vec![b"MGET"];
            words.extend(keys.iter().map(String::as_bytes));
            resp(out, &words);
            Fits::Values(reads)
        }
        20 => {
            let tokens: Vec<_> = (0..random.between(1, 5)).map(|_| books.token()).collect();
            let keys: Vec<_> = tokens
                .iter()
                .map(|&token| value::key(b'u', token))
                .collect();
            let mut words: Vec<&[u8]> = vec![b"DEL"];
            words.extend(keys.iter().map(String::as_bytes));
            resp(out, &words);
            let number = tokens.iter().filter(|&&token| value::is_known(token));
            Fits::Number {
                number: number.count() as u64,
                tokens,
            }
        }
        21 => {
            resp(out, &[b"PING"]);
            Fits::Line("PONG")
        }
        22 => {
            let (key, token, bytes) = write(random, books);
            let (other, _, others) = write(random, books);
            let keys = [key, other].map(|key| value::key(b's', key));
            resp(
                out,
                &[
                    b"MSET",
                    keys[0].as_bytes(),
                    &bytes,
                    keys[1].as_bytes(),
                    &others,
                ],
            );
            Fits::Done { line: "OK", token }
        }
        _ => {
            let token = books.token();
            let number = value::number_of(token);
            let key = value::key(b'c', token);
            resp(out, &[b"MULTI"]);
            resp(
                out,
                &[b"INCRBY", key.as_bytes(), number.to_string().as_bytes()],
            );
            *transaction = Some(number);
            asked.extend([Asked::new(Fits::Line("OK"))]);
            Fits::Queued(number)
        }
    };
    asked.extend([Asked::new(fits)]);
}

/// Returns nothing for a request that wants no reply.
fn text(random: &mut Random, books: &mut Books, out: &mut Vec<u8>) -> Option<Asked> {
    let fits = match random.below(20) {
        0..=6 => {
            let read = read(random, books);
            let _ok = write!(out, "get {}\r\n", read.key());
            Fits::Values(vec![read])
        }
        7..=9 => {
            let reads = reads(random, books);
            out.extend_from_slice(b"get");
            for read in &reads {
                let _ok = write!(out, " {}", read.key());
            }
            out.extend_from_slice(b"\r\n");
            Fits::Values(reads)
        }
        10..=13 => {
            let (key, token, bytes) = write(random, books);
            let quiet = random.one_in(4);
            let noreply = if quiet { " noreply" } else { "" };
            let key = value::key(b's', key);
            let _ok = write!(out, "set {key} 0 0 {}{noreply}\r\n", bytes.len());
            out.extend_from_slice(&bytes);
            out.extend_from_slice(b"\r\n");
            if quiet {
                return None;
            }
            Fits::Done {
                line: "STORED",
                token,
            }
        }
        14 | 15 => {
            let token = books.token();
            let number = value::number_of(token);
            let _ok = write!(out, "incr {} {number}\r\n", value::key(b'c', token));
            Fits::Number {
                number,
                tokens: vec![token],
            }
        }
        16 | 17 => {
            let token = books.token();
            let _ok = write!(
                out,
                "append {} 0 0 6\r\nappend\r\n",
                value::key(b'a', token)
            );
            Fits::Done {
                line: "STORED",
                token,
            }
        }
        18 => {
            let token = books.token();
            let _ok = write!(out, "delete {}\r\n", value::key(b'u', token));
            let line = if value::is_known(token) {
                "DELETED"
            } else {
                "NOT_FOUND"
            };
            Fits::Done { line, token }
        }
        _ => {
            let token = books.token();
            let _ok = write!(out, "mg {} k v\r\n", value::key(b'u', token));
            Fits::Value(Read::Own(token))
        }
    };
    Some(Asked::new(fits))
}

/// A frame of memcached's binary protocol.
pub fn frame(out: &mut Vec<u8>, head: [u8; 8], opaque: u32, [extras, key, value]: [&[u8]; 3]) {
    let [magic, opcode, .., status_high, status_low] = head;
    out.extend_from_slice(&[magic, opcode]);
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(&[extras.len() as u8, 0, status_high, status_low]);
    let body = extras.len() + key.len() + value.len();
    out.extend_from_slice(&(body as u32).to_be_bytes());
    out.extend_from_slice(&opaque.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    for part in [extras, key, value] {
        out.extend_from_slice(part);
    }
}

/// The first byte of a binary request and of a reply.
pub const REQUEST: u8 = 0x80;
/// See [`REQUEST`].
pub const REPLY: u8 = 0x81;
/// Opcodes that clients use.
pub const GETK: u8 = 0x0c;
/// See [`GETK`].
pub const SET: u8 = 0x01;
/// See [`GETK`].
pub const INCREMENT: u8 = 0x05;
/// See [`GETK`].
pub const APPEND: u8 = 0x0e;
/// See [`GETK`].
pub const NOOP: u8 = 0x0a;

fn binary(random: &mut Random, books: &mut Books, out: &mut Vec<u8>) -> Asked {
    let opaque = random.bits() as u32;
    let head = |opcode: u8| [REQUEST, opcode, 0, 0, 0, 0, 0, 0];
    let fits = match random.below(16) {
        0..=6 => {
            let read = read(random, books);
            frame(out, head(GETK), opaque, [b"", read.key().as_bytes(), b""]);
            Fits::Value(read)
        }
        7..=10 => {
            let (key, token, bytes) = write(random, books);
            let key = value::key(b's', key);
            frame(out, head(SET), opaque, [&[0; 8], key.as_bytes(), &bytes]);
            Fits::Done { line: "", token }
        }
        11 | 12 => {
            let token = books.token();
            let number = value::number_of(token);
            let mut extras = Vec::new();
            extras.extend_from_slice(&number.to_be_bytes());
            extras.extend_from_slice(&number.to_be_bytes());
            extras.extend_from_slice(&[0; 4]);
            let key = value::key(b'c', token);
            frame(out, head(INCREMENT), opaque, [&extras, key.as_bytes(), b""]);
            Fits::Number {
                number,
                tokens: vec![token],
            }
        }
        13 | 14 => {
            let token = books.token();
            let key = value::key(b'a', token);
            frame(out, head(APPEND), opaque, [b"", key.as_bytes(), b"append"]);
            Fits::Done { line: "", token }
        }
        _ => {
            frame(out, head(NOOP), opaque, [b"", b"", b""]);
            Fits::Line("")
        }
    };
    Asked { fits, opaque }
}
