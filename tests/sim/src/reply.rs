//! Replies: whether what comes next on a client's connection is the reply to the request whose turn it is.

use crate::books::Books;
use crate::request::{Asked, Fits, REPLY, Read};
use crate::scenario::Dialect;
use crate::value;
use tidegate_fuzz::framing;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is not whole.
    Incomplete,
    /// What was asked for.
    Fits {
        /// Its length.
        bytes: usize,
    },
    /// An error.
    Error {
        /// Its length.
        bytes: usize,
    },
    /// The reply to something else, or none at all.
    Wrong,
}

/// Why a look at a reply ends early.
enum Stop {
    Incomplete,
    Wrong,
}

type Looked<T> = Result<T, Stop>;

struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
}

fn wrong_unless(fits: bool) -> Looked<()> {
    if fits { Ok(()) } else { Err(Stop::Wrong) }
}

impl<'a> Cursor<'a> {
    fn line(&mut self) -> Looked<&'a [u8]> {
        let rest = &self.buf[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or(Stop::Incomplete)?;
        self.at += end + 1;
        rest[..end].strip_suffix(b"\r").ok_or(Stop::Wrong)
    }

    fn block(&mut self, bytes: usize) -> Looked<&'a [u8]> {
        let end = self.at + bytes;
        let block = self.buf.get(self.at..end).ok_or(Stop::Incomplete)?;
        let line_end = self.buf.get(end..end + 2).ok_or(Stop::Incomplete)?;
        wrong_unless(line_end == b"\r\n")?;
        self.at = end + 2;
        Ok(block)
    }

    /// A string of RESP, or nothing.
    fn bulk(&mut self) -> Looked<Option<&'a [u8]>> {
        match self.line()? {
            b"$-1" | b"_" => Ok(None),
            line => {
                let digits = line.strip_prefix(b"$").ok_or(Stop::Wrong)?;
                Ok(Some(self.block(number(digits)? as usize)?))
            }
        }
    }
}

fn number(digits: &[u8]) -> Looked<u64> {
    let text = std::str::from_utf8(digits).map_err(|_| Stop::Wrong)?;
    text.parse().map_err(|_| Stop::Wrong)
}

/// Whether `value` may be what the key holds.
fn may_hold(read: Read, value: Option<&[u8]>, books: &Books) -> bool {
    match (read, value) {
        (Read::Own(token), None) => !value::is_known(token) && books.was_executed(token),
        (Read::Own(token), Some(value)) => {
            value::is_known(token) && value::is_value(value, None, token)
        }
        (Read::Shared(_), None) => true,
        (Read::Shared(key), Some(value)) => value::read(value)
            .is_some_and(|(named, token)| named == key && books.writes(token, key)),
    }
}

/// Looks at what comes next.
pub fn look(dialect: Dialect, asked: &Asked, buf: &[u8], books: &Books) -> Reply {
    if buf.is_empty() {
        return Reply::Incomplete;
    }
    let mut cursor = Cursor { buf, at: 0 };
    let looked = match dialect {
        Dialect::Redis | Dialect::Redis3 => redis(&mut cursor, &asked.fits, books),
        Dialect::Text => text(&mut cursor, &asked.fits, books),
        Dialect::Binary => binary(&mut cursor, asked, books),
    };
    let bytes = cursor.at;
    match looked {
        Ok(true) => Reply::Fits { bytes },
        Ok(false) => Reply::Error { bytes },
        Err(Stop::Incomplete) => Reply::Incomplete,
        Err(Stop::Wrong) => Reply::Wrong,
    }
}

fn all_executed(tokens: &[u64], books: &Books) -> bool {
    tokens.iter().all(|&token| books.was_executed(token))
}

/// Whether it is a reply rather than an error.
fn redis(cursor: &mut Cursor<'_>, fits: &Fits, books: &Books) -> Looked<bool> {
    if cursor.buf[0] == b'-' {
        cursor.line()?;
        return Ok(false);
    }
    match fits {
        Fits::Line(line) => {
            wrong_unless(cursor.line()?.strip_prefix(b"+") == Some(line.as_bytes()))?;
        }
        Fits::Done { line, token } => {
            let said = cursor.line()?.strip_prefix(b"+") == Some(line.as_bytes());
            wrong_unless(said && books.was_executed(*token))?;
        }
        Fits::Number { number, tokens } => {
            let said = cursor.line()? == format!(":{number}").as_bytes();
            wrong_unless(said && all_executed(tokens, books))?;
        }
        Fits::Value(read) => {
            let value = cursor.bulk()?;
            wrong_unless(may_hold(*read, value, books))?;
        }
        Fits::Values(reads) => {
            wrong_unless(cursor.line()? == format!("*{}", reads.len()).as_bytes())?;
            for read in reads {
                let value = cursor.bulk()?;
                wrong_unless(may_hold(*read, value, books))?;
            }
        }
        Fits::Queued(number) => {
            let line = cursor.line()?;
            wrong_unless(line == b"+QUEUED" || line == format!(":{number}").as_bytes())?;
        }
        Fits::Executed(number) => {
            wrong_unless(cursor.line()? == b"*1")?;
            wrong_unless(cursor.line()? == format!(":{number}").as_bytes())?;
        }
        Fits::Greeting => {
            wrong_unless(matches!(cursor.buf[0], b'*' | b'%'))?;
            cursor.at = framing::resp_value(cursor.buf).ok_or(Stop::Incomplete)?;
        }
    }
    Ok(true)
}

fn is_error(line: &[u8]) -> bool {
    line == b"ERROR" || line.starts_with(b"SERVER_ERROR ") || line.starts_with(b"CLIENT_ERROR ")
}

fn text(cursor: &mut Cursor<'_>, fits: &Fits, books: &Books) -> Looked<bool> {
    let line = cursor.line()?;
    if is_error(line) {
        return Ok(false);
    }
    match fits {
        Fits::Done { line: said, token } => {
            wrong_unless(line == said.as_bytes() && books.was_executed(*token))?;
        }
        Fits::Number { number, tokens } => {
            let said = line == number.to_string().as_bytes();
            wrong_unless(said && all_executed(tokens, books))?;
        }
        Fits::Value(read) => {
            let value = if line == b"EN" {
                None
            } else {
                let Read::Own(token) = *read else {
                    return Err(Stop::Wrong);
                };
                let key = format!(" k{}", value::key(b'u', token));
                let head = line.strip_suffix(key.as_bytes()).ok_or(Stop::Wrong)?;
                let digits = head.strip_prefix(b"VA ").ok_or(Stop::Wrong)?;
                Some(cursor.block(number(digits)? as usize)?)
            };
            wrong_unless(may_hold(*read, value, books))?;
        }
        Fits::Values(reads) => values(cursor, line, reads, books)?,
        Fits::Line(_) | Fits::Queued(_) | Fits::Executed(_) | Fits::Greeting => {
            return Err(Stop::Wrong);
        }
    }
    Ok(true)
}

/// Values in the order of their keys; those that are not there are left out.
fn values<'a>(
    cursor: &mut Cursor<'a>,
    mut line: &'a [u8],
    reads: &[Read],
    books: &Books,
) -> Looked<()> {
    let mut reads = reads.iter();
    while line != b"END" {
        let mut words = line.split(|&byte| byte == b' ');
        wrong_unless(words.next() == Some(b"VALUE"))?;
        let key = words.next().and_then(value::parse_key).ok_or(Stop::Wrong)?;
        let named = match key {
            (b'u', token) => Read::Own(token),
            (b's', key) => Read::Shared(key),
            _ => return Err(Stop::Wrong),
        };
        wrong_unless(words.next() == Some(b"0"))?;
        let value = cursor.block(number(words.next().ok_or(Stop::Wrong)?)? as usize)?;
        wrong_unless(words.next().is_none() && may_hold(named, Some(value), books))?;
        loop {
            let &read = reads.next().ok_or(Stop::Wrong)?;
            if read == named {
                break;
            }
            wrong_unless(may_hold(read, None, books))?;
        }
        line = cursor.line()?;
    }
    for &read in reads {
        wrong_unless(may_hold(read, None, books))?;
    }
    Ok(())
}

/// Statuses of the binary protocol.
pub const OK: u16 = 0;
/// See [`OK`].
pub const NOT_FOUND: u16 = 1;

fn binary(cursor: &mut Cursor<'_>, asked: &Asked, books: &Books) -> Looked<bool> {
    let header = cursor.buf.first_chunk::<24>().ok_or(Stop::Incomplete)?;
    let bytes = framing::frame_bytes(cursor.buf, REPLY).ok_or(Stop::Wrong)?;
    let be32 = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    wrong_unless(be32(12) == asked.opaque)?;
    let body = cursor.buf.get(24..bytes).ok_or(Stop::Incomplete)?;
    cursor.at = bytes;
    let status = u16::from_be_bytes([header[6], header[7]]);
    let (extras, rest) = body
        .split_at_checked(usize::from(header[4]))
        .ok_or(Stop::Wrong)?;
    let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let (key, value) = rest.split_at_checked(key_bytes).ok_or(Stop::Wrong)?;
    if !matches!(status, OK | NOT_FOUND) {
        return Ok(false);
    }
    match &asked.fits {
        Fits::Line(_) => wrong_unless(status == OK && body.is_empty())?,
        Fits::Done { token, .. } => {
            wrong_unless(status == OK && books.was_executed(*token))?;
        }
        Fits::Number { number, tokens } => {
            wrong_unless(status == OK && value == number.to_be_bytes())?;
            wrong_unless(all_executed(tokens, books))?;
        }
        Fits::Value(read) => {
            let name = match read {
                Read::Own(token) => value::key(b'u', *token),
                Read::Shared(key) => value::key(b's', *key),
            };
            wrong_unless(status == NOT_FOUND || extras.len() == 4 && key == name.as_bytes())?;
            let value = (status == OK).then_some(value);
            wrong_unless(may_hold(*read, value, books))?;
        }
        _ => return Err(Stop::Wrong),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fits: Fits) -> Asked {
        Asked { fits, opaque: 9 }
    }

    /// A token that servers know, and got.
    fn known(books: &mut Books) -> u64 {
        loop {
            let token = books.token();
            if value::is_known(token) && value::bytes_of(token) < 200 {
                books.execute(token);
                return token;
            }
        }
    }

    #[test]
    fn only_the_reply_to_the_request_fits() {
        let mut books = Books::default();
        let (token, other) = (known(&mut books), known(&mut books));
        let request = asked(Fits::Value(Read::Own(token)));
        let reply = |token: u64| {
            let bytes = value::bytes_of(token);
            let mut reply = format!("${bytes}\r\n").into_bytes();
            value::write(&mut reply, None, token, bytes);
            reply.extend_from_slice(b"\r\n");
            reply
        };
        let own = reply(token);
        let look = |buf: &[u8]| look(Dialect::Redis, &request, buf, &books);
        assert_eq!(look(&own), Reply::Fits { bytes: own.len() });
        for end in 0..own.len() {
            assert_eq!(look(&own[..end]), Reply::Incomplete, "{end}");
        }
        assert_eq!(look(&reply(other)), Reply::Wrong);
        assert_eq!(look(b"$-1\r\n"), Reply::Wrong, "it is there");
        assert_eq!(look(b"-ERR no\r\n"), Reply::Error { bytes: 9 });
    }

    #[test]
    fn a_change_that_no_server_made_is_not_confirmed() {
        let mut books = Books::default();
        let token = books.token();
        let request = asked(Fits::Done {
            line: "STORED",
            token,
        });
        let stored = b"STORED\r\n";
        assert_eq!(look(Dialect::Text, &request, stored, &books), Reply::Wrong);
        books.execute(token);
        let fits = Reply::Fits { bytes: 8 };
        assert_eq!(look(Dialect::Text, &request, stored, &books), fits);
    }

    #[test]
    fn values_of_text_come_in_the_order_of_their_keys() {
        let mut books = Books::default();
        let (one, two) = (known(&mut books), known(&mut books));
        let block = |token: u64| {
            let (key, bytes) = (value::key(b'u', token), value::bytes_of(token));
            let mut block = format!("VALUE {key} 0 {bytes}\r\n").into_bytes();
            value::write(&mut block, None, token, bytes);
            block.extend_from_slice(b"\r\n");
            block
        };
        let request = asked(Fits::Values(vec![Read::Own(one), Read::Own(two)]));
        let right = [block(one), block(two), b"END\r\n".to_vec()].concat();
        let swapped = [block(two), block(one), b"END\r\n".to_vec()].concat();
        let bytes = right.len();
        let fits = Reply::Fits { bytes };
        assert_eq!(look(Dialect::Text, &request, &right, &books), fits);
        assert_eq!(
            look(Dialect::Text, &request, &swapped, &books),
            Reply::Wrong
        );
        assert_eq!(
            look(Dialect::Text, &request, b"END\r\n", &books),
            Reply::Wrong
        );
    }

    #[test]
    fn a_binary_reply_to_another_request_is_wrong() {
        let books = Books::default();
        let mut reply = Vec::new();
        let head = [REPLY, crate::request::NOOP, 0, 0, 0, 0, 0, 0];
        crate::request::frame(&mut reply, head, 8, [b"", b"", b""]);
        let request = asked(Fits::Line(""));
        assert_eq!(
            look(Dialect::Binary, &request, &reply, &books),
            Reply::Wrong
        );
        reply[15] = 9;
        let fits = Reply::Fits { bytes: 24 };
        assert_eq!(look(Dialect::Binary, &request, &reply, &books), fits);
    }
}
