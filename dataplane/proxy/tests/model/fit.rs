//! Which replies can be the answers to what was asked, whatever happened on the way.

use super::traffic::Asked;
use tidegate_config::Protocol;
use tidegate_protocol::{ReplyScanner, ReplyShape};

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

/// The whole replies in `bytes`, and whether something is left.
pub fn replies(protocol: Protocol, mut bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let shape = match protocol {
            Protocol::Redis => ReplyShape::Resp,
            Protocol::Memcached if bytes.starts_with(b"VALUE") || bytes.starts_with(b"END") => {
                ReplyShape::Values
            }
            Protocol::Memcached if bytes.starts_with(b"STAT") => ReplyShape::Stats,
            Protocol::Memcached => ReplyShape::Line,
        };
        let scan = ReplyScanner::new(shape)
            .scan(bytes)
            .unwrap_or_else(|e| panic!("{e:?} at {:?}", text(bytes)));
        if !scan.done {
            return (found, true);
        }
        let (reply, rest) = bytes.split_at(scan.bytes);
        found.push(reply);
        bytes = rest;
    }
    (found, false)
}

pub fn line_end(bytes: &[u8]) -> usize {
    bytes.windows(2).position(|w| w == b"\r\n").unwrap() + 2
}

/// Whether `value` was written to `key`.
pub fn is_of(value: &[u8], key: &[u8]) -> bool {
    value.starts_with(&[b"[", key, b"#"].concat())
}

pub fn memcached_values_fit(reply: &[u8], keys: &[Vec<u8>]) -> bool {
    let mut at = 0;
    let mut left = keys.iter();
    while !reply[at..].starts_with(b"END\r\n") {
        let end = at + line_end(&reply[at..]);
        let line = String::from_utf8_lossy(&reply[at..end]).into_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        let bytes: usize = words[3].parse().unwrap();
        let known = left.any(|key| key == words[1].as_bytes());
        if !known || !is_of(&reply[end..end + bytes], words[1].as_bytes()) {
            return false;
        }
        at = end + bytes + 2;
    }
    true
}

pub fn redis_values_fit(reply: &[u8], keys: &[Vec<u8>]) -> bool {
    let mut at = 0;
    if reply[0] == b'*' {
        at = line_end(reply);
        if reply[..at] != *format!("*{}\r\n", keys.len()).as_bytes() {
            return false;
        }
    } else if keys.len() != 1 {
        return false;
    }
    keys.iter().all(|key| {
        let end = at + line_end(&reply[at..]);
        let head = std::str::from_utf8(&reply[at..end - 2]).unwrap();
        let Ok(bytes) = head[1..].parse::<i64>() else {
            return false;
        };
        at = end;
        if bytes < 0 {
            return bytes == -1;
        }
        at += bytes as usize + 2;
        head.starts_with('$') && is_of(&reply[end..end + bytes as usize], key)
    })
}

/// Whether `reply` can be the answer to what was asked.
pub fn fits(protocol: Protocol, reply: &[u8], asked: &Asked) -> bool {
    if reply.starts_with(b"-ERR") || reply.starts_with(b"SERVER_ERROR") {
        return true;
    }
    match (asked, protocol) {
        (Asked::Values(keys), Protocol::Memcached) => {
            (reply.starts_with(b"VALUE") || reply.starts_with(b"END"))
                && memcached_values_fit(reply, keys)
        }
        (Asked::Values(keys), Protocol::Redis) => redis_values_fit(reply, keys),
        (Asked::Start(start), _) => reply.starts_with(start.as_bytes()),
        (Asked::Status(lines), _) => lines.iter().any(|&line| {
            if line == ":" {
                reply.starts_with(b":")
            } else {
                reply == [line.as_bytes(), b"\r\n"].concat()
            }
        }),
    }
}

/// Whether a reply is an error of the proxy's own.
pub fn is_error(reply: &[u8]) -> bool {
    let of_client = reply.starts_with(b"-ERR wrong number of arguments");
    reply.starts_with(b"-ERR") && !of_client || reply.starts_with(b"SERVER_ERROR")
}
