//! A client of RESP2 and RESP3, the protocols of Redis.

use super::Connection;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// How deeply arrays may nest. No command of Redis comes near; a hostile server would exhaust the stack.
const DEPTH_MAX: usize = 64;

/// A value. Those from [`Value::Null`] on are of RESP3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `+…`
    Simple(String),
    /// `-…`
    Error(String),
    /// `:…`
    Integer(i64),
    /// `$…`; `None` is the null bulk string.
    Bulk(Option<Vec<u8>>),
    /// `*…`; `None` is the null array.
    Array(Option<Vec<Value>>),
    /// `_`
    Null,
    /// `#…`
    Boolean(bool),
    /// `,…`, as it was written.
    Double(String),
    /// `(…`
    BigNumber(String),
    /// `=…`, its format included.
    Verbatim(Vec<u8>),
    /// `%…`
    Map(Vec<(Value, Value)>),
    /// `~…`
    Set(Vec<Value>),
    /// `>…`
    Push(Vec<Value>),
    /// `|…`, and the value that it belongs to.
    Attributed(Vec<(Value, Value)>, Box<Value>),
}

impl Value {
    /// A bulk string.
    pub fn bulk(bytes: &[u8]) -> Self {
        Self::Bulk(Some(bytes.to_vec()))
    }

    /// `+OK`.
    pub fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// Whether it is an error that starts with `prefix`.
    pub fn is_error(&self, prefix: &str) -> bool {
        matches!(self, Self::Error(text) if text.starts_with(prefix))
    }
}

/// A connection that speaks RESP2, and RESP3 after HELLO.
#[derive(Debug)]
pub struct Redis {
    /// The connection itself, for requests that no method makes.
    pub connection: Connection,
}

impl Redis {
    /// Connects.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            connection: Connection::open(to)?,
        })
    }

    /// Sends a command and returns its reply.
    pub fn ask(&mut self, words: &[&[u8]]) -> io::Result<Value> {
        self.connection.send(&command(words))?;
        self.reply()
    }

    /// Sends a command made of the words of `text` and returns its reply.
    pub fn words(&mut self, text: &str) -> io::Result<Value> {
        let words: Vec<&[u8]> = text.split_whitespace().map(str::as_bytes).collect();
        self.ask(&words)
    }

    /// Reads one whole reply.
    pub fn reply(&mut self) -> io::Result<Value> {
        self.read(&mut Vec::new(), DEPTH_MAX)
    }

    /// Reads one whole reply and returns it as the bytes that came.
    pub fn raw_reply(&mut self) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        self.read(&mut whole, DEPTH_MAX)?;
        Ok(whole)
    }

    fn read(&mut self, whole: &mut Vec<u8>, depth: usize) -> io::Result<Value> {
        let line = self.connection.line()?;
        whole.extend_from_slice(&line);
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let (kind, rest) = text.split_at_checked(1).ok_or_else(|| unexpected(&line))?;
        let number = || rest.parse::<i64>().map_err(|_| unexpected(&line));
        Ok(match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Ok(bytes) => {
                    let mut value = self.connection.exactly(bytes + 2)?;
                    whole.extend_from_slice(&value);
                    value.truncate(bytes);
                    Value::Bulk(Some(value))
                }
                Err(_) => Value::Bulk(None),
            },
            "*" if depth == 0 => return Err(unexpected(b"arrays nested too deeply")),
            "*" => match usize::try_from(number()?) {
                Ok(count) => Value::Array(Some(
                    (0..count)
                        .map(|_| self.read(whole, depth - 1))
                        .collect::<io::Result<_>>()?,
                )),
                Err(_) => Value::Array(None),
            },
            "%" | "~" | ">" | "|" if depth == 0 => {
                return Err(unexpected(b"values nested too deeply"));
            }
            "~" => Value::Set(self.values(whole, number()?, depth)?),
            ">" => Value::Push(self.values(whole, number()?, depth)?),
            "%" => Value::Map(self.pairs(whole, number()?, depth)?),
            "|" => {
                let attribute = self.pairs(whole, number()?, depth)?;
                Value::Attributed(attribute, Box::new(self.read(whole, depth - 1)?))
            }
            "=" | "!" => {
                let bytes = usize::try_from(number()?).map_err(|_| unexpected(&line))?;
                let mut value = self.connection.exactly(bytes + 2)?;
                whole.extend_from_slice(&value);
                value.truncate(bytes);
                if kind == "=" {
                    Value::Verbatim(value)
                } else {
                    Value::Error(String::from_utf8_lossy(&value).into_owned())
                }
            }
            "_" if rest.is_empty() => Value::Null,
            "#" if matches!(rest, "t" | "f") => Value::Boolean(rest == "t"),
            "," => Value::Double(rest.to_owned()),
            "(" => Value::BigNumber(rest.to_owned()),
            _ => return Err(unexpected(&line)),
        })
    }

    fn values(&mut self, whole: &mut Vec<u8>, count: i64, depth: usize) -> io::Result<Vec<Value>> {
        (0..count).map(|_| self.read(whole, depth - 1)).collect()
    }

    fn pairs(
        &mut self,
        whole: &mut Vec<u8>,
        count: i64,
        depth: usize,
    ) -> io::Result<Vec<(Value, Value)>> {
        let mut value = || self.read(whole, depth - 1);
        (0..count).map(|_| Ok((value()?, value()?))).collect()
    }
}

/// A command as RESP2 arrays of bulk strings carry it.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn unexpected(bytes: &[u8]) -> io::Error {
    let shown = &bytes[..bytes.len().min(200)];
    io::Error::new(
        ErrorKind::InvalidData,
        format!("not a reply of Redis: {}", shown.escape_ascii()),
    )
}
