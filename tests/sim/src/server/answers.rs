//! What a model server answers.

use super::Server;
use crate::books::Books;
use crate::reply::{NOT_FOUND, OK};
use crate::request::{self, APPEND, GETK, INCREMENT, NOOP, REPLY, SET};
use crate::value;
use std::io::Write;

fn bulk(out: &mut Vec<u8>, token: u64, key: Option<u64>) {
    let bytes = value::bytes_of(token);
    // Writing to a vector cannot fail.
    let _ok = write!(out, "${bytes}\r\n");
    value::write(out, key, token, bytes);
    out.extend_from_slice(b"\r\n");
}

/// What a key holds: a token and, if it was written there, the shared key.
type Held = Result<(u64, Option<u64>), Miss>;

/// A key holds nothing.
struct Miss;

impl Server {
    /// The value of a key, or nothing where no server would be asked for it.
    fn value(&self, key: &[u8], books: &mut Books) -> Option<Held> {
        match value::parse_key(key)? {
            (b'u', token) => {
                books.execute(token);
                Some(if value::is_known(token) {
                    Ok((token, None))
                } else {
                    Err(Miss)
                })
            }
            (b's', key) => {
                let token = *self.store.get(key as usize)?;
                Some(token.map(|token| (token, Some(key))).ok_or(Miss))
            }
            _ => None,
        }
    }

    fn write(&mut self, key: &[u8], bytes: &[u8], books: &mut Books) -> Option<()> {
        let (b's', key) = value::parse_key(key)? else {
            return None;
        };
        let token = books.store(key, bytes)?;
        *self.store.get_mut(key as usize)? = Some(token);
        Some(())
    }

    fn redis_value(
        &self,
        at: usize,
        key: &[u8],
        books: &mut Books,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match self.value(key, books)? {
            Ok((token, key)) => bulk(out, token, key),
            Err(Miss) if self.lines[at].is_resp3 => out.extend_from_slice(b"_\r\n"),
            Err(Miss) => out.extend_from_slice(b"$-1\r\n"),
        }
        Some(())
    }

    /// Nothing: nobody sends that.
    pub(super) fn redis(
        &mut self,
        at: usize,
        words: &[&[u8]],
        books: &mut Books,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match words {
            [b"HELLO", b"3", ..] => {
                self.lines[at].is_resp3 = true;
                out.extend_from_slice(
                    b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n",
                );
            }
            [b"PING"] => out.extend_from_slice(b"+PONG\r\n"),
            [b"MULTI"] => {
                if self.lines[at].transaction.replace(Vec::new()).is_some() {
                    books.break_promise("a transaction was begun within another's".into());
                }
                out.extend_from_slice(b"+OK\r\n");
            }
            [b"DISCARD"] => {
                self.lines[at].transaction.take()?;
                out.extend_from_slice(b"+OK\r\n");
            }
            [b"EXEC"] => {
                let answers = self.lines[at].transaction.take()?;
                let _ok = write!(out, "*{}\r\n", answers.len());
                out.extend(answers.concat());
            }
            _ => {
                self.redis_key(at, words, books, &mut out)?;
                if let Some(answers) = &mut self.lines[at].transaction {
                    answers.push(out);
                    out = b"+QUEUED\r\n".to_vec();
                }
            }
        }
        Some(out)
    }

    fn redis_key(
        &mut self,
        at: usize,
        words: &[&[u8]],
        books: &mut Books,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match words {
            [b"GET", key] => self.redis_value(at, key, books, out)?,
            [b"MGET", keys @ ..] => {
                let _ok = write!(out, "*{}\r\n", keys.len());
                for key in keys {
                    self.redis_value(at, key, books, out)?;
                }
            }
            [b"SET", key, bytes] => {
                self.write(key, bytes, books)?;
                out.extend_from_slice(b"+OK\r\n");
            }
            [b"MSET", pairs @ ..] => {
                let (pairs, rest) = pairs.as_chunks::<2>();
                for [key, bytes] in pairs {
                    self.write(key, bytes, books)?;
                }
                rest.is_empty().then_some(())?;
                out.extend_from_slice(b"+OK\r\n");
            }
            [b"DEL", keys @ ..] => {
                let mut gone = 0;
                for key in keys {
                    gone += u64::from(self.value(key, books)?.is_ok());
                }
                let _ok = write!(out, ":{gone}\r\n");
            }
            [b"INCRBY", key, digits] => {
                let number = value::number_of(executed(b'c', key, books)?);
                (number.to_string().as_bytes() == *digits).then_some(())?;
                let _ok = write!(out, ":{number}\r\n");
            }
            [b"APPEND", key, bytes] => {
                executed(b'a', key, books)?;
                let _ok = write!(out, ":{}\r\n", bytes.len());
            }
            [b"LPUSH", key, elements @ ..] => {
                executed(b'l', key, books)?;
                let _ok = write!(out, ":{}\r\n", elements.len());
            }
            _ => return None,
        }
        Some(())
    }

    /// Nothing: nobody sends that.
    pub(super) fn text(
        &mut self,
        request: &[u8],
        words: &[&[u8]],
        books: &mut Books,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match words {
            [b"get", keys @ ..] => {
                for key in keys {
                    if let Ok((token, shared)) = self.value(key, books)? {
                        let bytes = value::bytes_of(token);
                        let _ok = write!(out, "VALUE {} 0 {bytes}\r\n", key.escape_ascii());
                        value::write(&mut out, shared, token, bytes);
                        out.extend_from_slice(b"\r\n");
                    }
                }
                out.extend_from_slice(b"END\r\n");
            }
            [b"set", key, b"0", b"0", digits] => {
                let bytes: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
                let start = request.len().checked_sub(bytes + 2)?;
                self.write(key, &request[start..start + bytes], books)?;
                out.extend_from_slice(b"STORED\r\n");
            }
            [b"incr", key, digits] => {
                let number = value::number_of(executed(b'c', key, books)?);
                (number.to_string().as_bytes() == *digits).then_some(())?;
                let _ok = write!(out, "{number}\r\n");
            }
            [b"append", key, b"0", b"0", b"6"] => {
                executed(b'a', key, books)?;
                out.extend_from_slice(b"STORED\r\n");
            }
            [b"delete", key] => {
                let is_known = self.value(key, books)?.is_ok();
                let line: &[u8] = if is_known {
                    b"DELETED\r\n"
                } else {
                    b"NOT_FOUND\r\n"
                };
                out.extend_from_slice(line);
            }
            [b"mg", key, b"k", b"v"] => match self.value(key, books)? {
                Ok((token, shared)) => {
                    let bytes = value::bytes_of(token);
                    let _ok = write!(out, "VA {bytes} k{}\r\n", key.escape_ascii());
                    value::write(&mut out, shared, token, bytes);
                    out.extend_from_slice(b"\r\n");
                }
                Err(Miss) => out.extend_from_slice(b"EN\r\n"),
            },
            _ => return None,
        }
        Some(out)
    }

    /// Nothing: nobody sends that.
    pub(super) fn binary(&mut self, request: &[u8], books: &mut Books) -> Option<Vec<u8>> {
        let be = |range: std::ops::Range<usize>| {
            let bytes = request[range].iter();
            bytes.fold(0, |number, &byte| number << 8 | u32::from(byte))
        };
        let (opcode, opaque) = (request[1], be(12..16));
        let key_at = 24 + usize::from(request[4]);
        let (extras, value_at) = (&request[24..key_at], key_at + be(2..4) as usize);
        let (key, value) = (&request[key_at..value_at], &request[value_at..]);
        let mut out = Vec::new();
        let mut answer = |status: u16, parts: [&[u8]; 3]| {
            let [high, low] = status.to_be_bytes();
            let head = [REPLY, opcode, 0, 0, 0, 0, high, low];
            request::frame(&mut out, head, opaque, parts);
        };
        match opcode {
            GETK => match self.value(key, books)? {
                Ok((token, shared)) => {
                    let mut bytes = Vec::new();
                    value::write(&mut bytes, shared, token, value::bytes_of(token));
                    answer(OK, [&[0; 4], key, &bytes]);
                }
                Err(Miss) => answer(NOT_FOUND, [b"", key, b""]),
            },
            SET => {
                self.write(key, value, books)?;
                answer(OK, [b"", b"", b""]);
            }
            INCREMENT => {
                let number = value::number_of(executed(b'c', key, books)?);
                (extras.get(..8)? == number.to_be_bytes()).then_some(())?;
                answer(OK, [b"", b"", &number.to_be_bytes()]);
            }
            APPEND => {
                executed(b'a', key, books)?;
                answer(OK, [b"", b"", b""]);
            }
            NOOP => answer(OK, [b"", b"", b""]),
            _ => return None,
        }
        Some(out)
    }
}

fn executed(kind: u8, key: &[u8], books: &mut Books) -> Option<u64> {
    match value::parse_key(key)? {
        (of, token) if of == kind => {
            books.execute(token);
            Some(token)
        }
        _ => None,
    }
}
