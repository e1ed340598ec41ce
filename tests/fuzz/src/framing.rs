//! Where a server sees a request end, and a client a reply: written from the protocols' descriptions, and sharing nothing
//! with the parser that is under test.

use std::ops::Range;

/// What a server makes of the front of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// Not whole.
    Incomplete,
    /// The server would answer an error or close, and might take the rest for other requests.
    Malformed,
    /// A request.
    Request {
        /// Its length.
        bytes: usize,
        /// Its words: the name and the arguments; of memcached those of the line.
        words: Vec<Range<usize>>,
    },
}

/// A framing of requests.
pub type Frame = fn(&[u8]) -> Framed;

/// A line at `at`: where its content ends and where the next line starts. Redis and memcached take both line ends.
fn line(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let end = at + buf.get(at..)?.iter().position(|&byte| byte == b'\n')?;
    let content_end = if end > at && buf[end - 1] == b'\r' {
        end - 1
    } else {
        end
    };
    Some((content_end, end + 1))
}

/// A number as Redis reads it: no plus, no zeros in front.
fn number(digits: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(digits).ok()?;
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// Redis: an array of bulks, or a line.
pub fn redis(buf: &[u8]) -> Framed {
    if buf.is_empty() {
        return Framed::Incomplete;
    }
    if buf[0] != b'*' {
        return inline(buf);
    }
    let Some((end, mut at)) = line(buf, 0) else {
        return Framed::Incomplete;
    };
    let Some(count) = number(&buf[1..end]) else {
        return Framed::Malformed;
    };
    let mut words = Vec::new();
    for _ in 0..count {
        match buf.get(at) {
            None => return Framed::Incomplete,
            Some(b'$') => {}
            Some(_) => return Framed::Malformed,
        }
        let Some((end, start)) = line(buf, at) else {
            return Framed::Incomplete;
        };
        let Some(length) = number(&buf[at + 1..end]).and_then(|n| usize::try_from(n).ok()) else {
            return Framed::Malformed;
        };
        match buf.get(start.saturating_add(length)..start.saturating_add(length).saturating_add(2))
        {
            Some(b"\r\n") => {}
            Some(_) => return Framed::Malformed,
            None => return Framed::Incomplete,
        }
        words.push(start..start + length);
        at = start + length + 2;
    }
    Framed::Request { bytes: at, words }
}

fn inline(buf: &[u8]) -> Framed {
    match line(buf, 0) {
        None => Framed::Incomplete,
        Some((end, bytes)) => Framed::Request {
            bytes,
            words: words(&buf[..end]),
        },
    }
}

/// memcached: a line, behind that of a storage command a counted block.
pub fn memcached(buf: &[u8]) -> Framed {
    let Some((end, start)) = line(buf, 0) else {
        return Framed::Incomplete;
    };
    let words = words(&buf[..end]);
    let word = |index: usize| words.get(index).map_or(&b""[..], |word| &buf[word.clone()]);
    let length = match word(0) {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => word(4),
        b"ms" => word(2),
        _ => {
            return Framed::Request {
                bytes: start,
                words,
            };
        }
    };
    let length = std::str::from_utf8(length).ok();
    let Some(length) = length.and_then(|length| length.parse::<u32>().ok()) else {
        return Framed::Malformed;
    };
    let block_end = start + length as usize;
    match buf.get(block_end..block_end + 2) {
        Some(b"\r\n") => Framed::Request {
            bytes: block_end + 2,
            words,
        },
        Some(_) => Framed::Malformed,
        None => Framed::Incomplete,
    }
}

/// memcached binary: a header with the lengths of what follows. It has no words.
pub fn binary(buf: &[u8]) -> Framed {
    match frame_bytes(buf, 0x80) {
        None if buf.first().is_some_and(|&magic| magic != 0x80) => Framed::Malformed,
        None => Framed::Incomplete,
        Some(bytes) if bytes > buf.len() => Framed::Incomplete,
        Some(bytes) => {
            let front = usize::from(buf[4]) + usize::from(u16::from_be_bytes([buf[2], buf[3]]));
            if front + 24 > bytes {
                return Framed::Malformed;
            }
            Framed::Request {
                bytes,
                words: Vec::new(),
            }
        }
    }
}

/// The length of the binary frame at the front of `buf`, of which at least the header is there.
pub fn frame_bytes(buf: &[u8], magic: u8) -> Option<usize> {
    let header = buf.first_chunk::<24>()?;
    let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    (header[0] == magic).then_some(24 + body as usize)
}

fn words(line: &[u8]) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut at = 0;
    for word in line.split(|&byte| byte == b' ') {
        if !word.is_empty() {
            words.push(at..at + word.len());
        }
        at += word.len() + 1;
    }
    words
}

/// Where the value of RESP2 or RESP3 at the front of `buf` ends. `None`: it is not whole, or none.
pub fn resp_value(buf: &[u8]) -> Option<usize> {
    let mut values_left = 1_u64;
    let mut at = 0;
    while values_left > 0 {
        values_left -= 1;
        let mark = *buf.get(at)?;
        let (end, next) = line(buf, at)?;
        if next != end + 2 || end == at {
            return None;
        }
        let content = &buf[at + 1..end];
        at = next;
        match mark {
            b'+' | b'-' => {}
            b':' => {
                number(content)?;
            }
            b'_' if content.is_empty() => {}
            b'#' if matches!(content, b"t" | b"f") => {}
            b'$' => match number(content)? {
                -1 => {}
                length => {
                    let data_end = at.checked_add(usize::try_from(length).ok()?)?;
                    if buf.get(data_end..data_end.checked_add(2)?)? != b"\r\n" {
                        return None;
                    }
                    at = data_end + 2;
                }
            },
            b'~' | b'>' => {
                values_left = values_left.checked_add(u64::try_from(number(content)?).ok()?)?;
            }
            b'%' => {
                let pairs = u64::try_from(number(content)?).ok()?;
                values_left = values_left.checked_add(pairs.checked_mul(2)?)?;
            }
            b'*' => match number(content)? {
                -1 => {}
                count => values_left = values_left.checked_add(u64::try_from(count).ok()?)?,
            },
            _ => return None,
        }
    }
    Some(at)
}
