//! A client of memcached's text protocol.

use super::Connection;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// One item of a `get` or `gets` reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Vec<u8>,
    /// The flags that were stored with it.
    pub flags: u32,
    /// The value.
    pub value: Vec<u8>,
    /// The unique number that `cas` takes, after `gets`.
    pub cas: Option<u64>,
}

/// A connection that speaks memcached text.
#[derive(Debug)]
pub struct Memcached {
    /// The connection itself, for requests that no method makes.
    pub connection: Connection,
}

impl Memcached {
    /// Connects.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            connection: Connection::open(to)?,
        })
    }

    /// Sends a request and returns its whole reply.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.connection.send(request)?;
        self.reply()
    }

    /// Reads one whole reply, whatever the request was: a reply tells itself where it ends.
    pub fn reply(&mut self) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        loop {
            let line = self.connection.line()?;
            let value = value_bytes(&line)?;
            whole.extend_from_slice(&line);
            match value {
                Some(bytes) => whole.extend(self.connection.exactly(bytes + 2)?),
                None => return Ok(whole),
            }
        }
    }

    /// `set`; the reply's line without its end.
    pub fn set(&mut self, key: &[u8], flags: u32, value: &[u8]) -> io::Result<String> {
        let mut request = [
            b"set ",
            key,
            format!(" {flags} 0 {}\r\n", value.len()).as_bytes(),
        ]
        .concat();
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
        self.ask(&request)
            .map(|reply| String::from_utf8_lossy(&reply).trim_end().to_owned())
    }

    /// `get` of one or more keys; the items in the order in which they came.
    pub fn get(&mut self, keys: &[&[u8]]) -> io::Result<Vec<Item>> {
        let request = [b"get ", keys.join(&b' ').as_slice(), b"\r\n"].concat();
        items(&self.ask(&request)?)
    }

    /// A request of one line; the first line of the reply without its end.
    pub fn line(&mut self, request: &str) -> io::Result<String> {
        let reply = self.ask(format!("{request}\r\n").as_bytes())?;
        Ok(String::from_utf8_lossy(&reply).trim_end().to_owned())
    }
}

/// The items of a whole `get` reply. Anything but items and `END` is an error that shows it.
pub fn items(reply: &[u8]) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = reply;
    loop {
        let end = rest
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .ok_or_else(|| unexpected(rest))?;
        let line = &rest[..end];
        if line == b"END" {
            return Ok(items);
        }
        let bytes = value_bytes(&rest[..end + 2])?.ok_or_else(|| unexpected(line))?;
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let text = |index: usize| {
            fields
                .get(index)
                .map(|field| String::from_utf8_lossy(field))
        };
        items.push(Item {
            key: fields[1].to_vec(),
            flags: text(2)
                .and_then(|flags| flags.parse().ok())
                .ok_or_else(|| unexpected(line))?,
            value: rest[end + 2..end + 2 + bytes].to_vec(),
            cas: text(4).and_then(|cas| cas.parse().ok()),
        });
        rest = &rest[end + 2 + bytes + 2..];
    }
}

/// The size of the value that follows `line`, if one does.
fn value_bytes(line: &[u8]) -> io::Result<Option<usize>> {
    if !line.starts_with(b"VALUE ") {
        return Ok(None);
    }
    let size = line.trim_ascii_end().split(|byte| *byte == b' ').nth(3);
    let size = size.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    size.map(Some).ok_or_else(|| unexpected(line))
}

fn unexpected(bytes: &[u8]) -> io::Error {
    let shown = &bytes[..bytes.len().min(200)];
    io::Error::new(
        ErrorKind::InvalidData,
        format!("not a memcached reply: {}", shown.escape_ascii()),
    )
}
