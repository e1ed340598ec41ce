//! The requests of a client of a run, in both protocols, and what their replies mean.

use crate::client::Connection;
use crate::client::memcached::{self, Memcached};
use crate::client::resp::{self, Redis, Value};
use crate::lab::servers::ServerKind;
use std::io;

/// One request. Keys are meant by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stores the value of a token.
    Write(usize, u64),
    /// Stores several, which lie on several servers.
    WriteMany(Vec<(usize, u64)>),
    /// Reads one.
    Read(usize),
    /// Reads several.
    ReadMany(Vec<usize>),
    /// Increments the counter.
    Count,
    /// Makes the counter where there is none.
    MakeCounter,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// Values, in the order of the keys.
    Values(Vec<Option<Vec<u8>>>),
    /// The counter.
    Count(u64),
    /// There is no counter.
    NoCounter,
    /// An error that says that a server or the way to it failed.
    Failed,
}

impl Answer {
    /// In a line, for people. Of values their beginnings, which tell key and token.
    pub fn shown(&self) -> String {
        const SHOWN_BYTES: usize = 24;
        let Self::Values(values) = self else {
            return format!("{self:?}");
        };
        let value = |value: &Option<Vec<u8>>| match value {
            Some(value) => value[..value.len().min(SHOWN_BYTES)]
                .escape_ascii()
                .to_string(),
            None => "none".to_owned(),
        };
        values.iter().map(value).collect::<Vec<_>>().join(", ")
    }
}

/// The names of a client's keys, and how they are asked for.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// The protocol.
    pub kind: ServerKind,
    /// The keys.
    pub keys: Vec<String>,
    /// The counter.
    pub counter: String,
}

/// The value of a token: it names its key and its request, and has a size that depends on both.
pub fn value(key: &str, token: u64) -> Vec<u8> {
    /// A few values need a second packet.
    const SIZES: [usize; 8] = [0, 3, 20, 80, 200, 500, 1_000, 2_500];
    let mut value = format!("{key}:{token}:").into_bytes();
    let size = value.len() + SIZES[(token % SIZES.len() as u64) as usize];
    value.resize(size, b'a' + (token % 26) as u8);
    value
}

/// The token of a value of `key`; `None` if it is no value of that key.
pub fn token(key: &str, found: &[u8]) -> Option<u64> {
    let rest = found.strip_prefix(key.as_bytes())?.strip_prefix(b":")?;
    let digits = rest.split(|byte| *byte == b':').next()?;
    let token = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (value(key, token) == found).then_some(token)
}

impl Dialect {
    /// The bytes of a request.
    pub fn encode(&self, request: &Request) -> Vec<u8> {
        match self.kind {
            ServerKind::Redis => self.encode_redis(request),
            ServerKind::Memcached => self.encode_memcached(request),
        }
    }

    fn encode_redis(&self, request: &Request) -> Vec<u8> {
        let many = |name: &str, words: Vec<Vec<u8>>| {
            let words: Vec<&[u8]> = std::iter::once(name.as_bytes())
                .chain(words.iter().map(Vec::as_slice))
                .collect();
            resp::command(&words)
        };
        let key = |slot: &usize| self.keys[*slot].clone().into_bytes();
        let pair = |(slot, token): &(usize, u64)| [key(slot), value(&self.keys[*slot], *token)];
        match request {
            Request::Write(slot, token) => many("SET", pair(&(*slot, *token)).to_vec()),
            Request::WriteMany(pairs) => many("MSET", pairs.iter().flat_map(pair).collect()),
            Request::Read(slot) => many("GET", vec![key(slot)]),
            Request::ReadMany(slots) => many("MGET", slots.iter().map(key).collect()),
            Request::Count => many("INCR", vec![self.counter.clone().into_bytes()]),
            Request::MakeCounter => many(
                "SETNX",
                vec![self.counter.clone().into_bytes(), b"0".to_vec()],
            ),
        }
    }

    fn encode_memcached(&self, request: &Request) -> Vec<u8> {
        let get = |slots: &[usize]| {
            let keys: Vec<&str> = slots.iter().map(|slot| self.keys[*slot].as_str()).collect();
            format!("get {}\r\n", keys.join(" ")).into_bytes()
        };
        let set = |slot: usize, token: u64| {
            let value = value(&self.keys[slot], token);
            let mut bytes = format!("set {} 0 0 {}\r\n", self.keys[slot], value.len()).into_bytes();
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
            bytes
        };
        match request {
            Request::Write(slot, token) => set(*slot, *token),
            Request::WriteMany(pairs) => {
                let sets = pairs.iter().map(|(slot, token)| set(*slot, *token));
                sets.collect::<Vec<_>>().concat()
            }
            Request::Read(slot) => get(&[*slot]),
            Request::ReadMany(slots) => get(slots),
            Request::Count => format!("incr {} 1\r\n", self.counter).into_bytes(),
            Request::MakeCounter => format!("add {} 0 0 1\r\n0\r\n", self.counter).into_bytes(),
        }
    }

    /// Whether the protocol has such a request. memcached has none that stores several values.
    pub fn has(&self, request: &Request) -> bool {
        self.kind == ServerKind::Redis || !matches!(request, Request::WriteMany(_))
    }

    /// Reads the reply to `request`. What is no reply to it is an error of the kind `InvalidData`, which shows it.
    pub fn read(&self, client: &mut Client, request: &Request) -> io::Result<Answer> {
        match client {
            Client::Redis(client) => {
                let reply = client.reply()?;
                redis_answer(request, &reply)
                    .ok_or_else(|| not_a_reply(request, &format!("{reply:?}")))
            }
            Client::Memcached(client) => {
                let reply = client.reply()?;
                self.memcached_answer(request, &reply)
                    .ok_or_else(|| not_a_reply(request, &reply.escape_ascii().to_string()))
            }
        }
    }

    fn memcached_answer(&self, request: &Request, reply: &[u8]) -> Option<Answer> {
        if reply.starts_with(b"SERVER_ERROR") {
            return Some(Answer::Failed);
        }
        match (request, reply.trim_ascii_end()) {
            (Request::Write(..), b"STORED") | (Request::MakeCounter, b"STORED" | b"NOT_STORED") => {
                Some(Answer::Done)
            }
            (Request::Read(slot), _) => self.memcached_values(&[*slot], reply),
            (Request::ReadMany(slots), _) => self.memcached_values(slots, reply),
            (Request::Count, b"NOT_FOUND") => Some(Answer::NoCounter),
            (Request::Count, digits) => std::str::from_utf8(digits)
                .ok()?
                .parse()
                .ok()
                .map(Answer::Count),
            _ => None,
        }
    }

    /// Items come in the order of the keys, without those that are missing. One that was not asked for belongs to somebody else.
    fn memcached_values(&self, slots: &[usize], reply: &[u8]) -> Option<Answer> {
        let mut items = memcached::items(reply).ok()?.into_iter().peekable();
        let values = slots
            .iter()
            .map(|slot| {
                let own = |item: &memcached::Item| item.key == self.keys[*slot].as_bytes();
                items.next_if(own).map(|item| item.value)
            })
            .collect();
        items.next().is_none().then_some(Answer::Values(values))
    }
}

fn redis_answer(request: &Request, reply: &Value) -> Option<Answer> {
    let bulk = |value: &Value| match value {
        Value::Bulk(value) => Some(value.clone()),
        _ => None,
    };
    match (request, reply) {
        (_, Value::Error(text)) => ["ERR", "OOM", "LOADING"]
            .iter()
            .any(|word| text.starts_with(word))
            .then_some(Answer::Failed),
        (Request::Write(..) | Request::WriteMany(_), reply) => {
            (*reply == Value::ok()).then_some(Answer::Done)
        }
        (Request::MakeCounter, Value::Integer(0 | 1)) => Some(Answer::Done),
        (Request::Read(_), reply) => Some(Answer::Values(vec![bulk(reply)?])),
        (Request::ReadMany(slots), Value::Array(Some(values))) if values.len() == slots.len() => {
            let values: Option<Vec<_>> = values.iter().map(bulk).collect();
            values.map(Answer::Values)
        }
        (Request::Count, Value::Integer(count)) => u64::try_from(*count).ok().map(Answer::Count),
        _ => None,
    }
}

fn not_a_reply(request: &Request, reply: &str) -> io::Error {
    let what = format!("no reply to {request:?}: {reply}");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A connection that speaks either protocol.
#[derive(Debug)]
pub enum Client {
    /// memcached's text.
    Memcached(Memcached),
    /// RESP2.
    Redis(Redis),
}

impl Client {
    /// Speaks the protocol of servers of `kind` over `connection`.
    pub fn over(kind: ServerKind, connection: Connection) -> Self {
        match kind {
            ServerKind::Memcached => Self::Memcached(Memcached { connection }),
            ServerKind::Redis => Self::Redis(Redis { connection }),
        }
    }

    /// The connection below.
    pub fn connection(&mut self) -> &mut Connection {
        match self {
            Self::Memcached(client) => &mut client.connection,
            Self::Redis(client) => &mut client.connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(kind: ServerKind) -> Dialect {
        Dialect {
            kind,
            keys: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            counter: "n".to_owned(),
        }
    }

    #[test]
    fn values_tell_whose_they_are() {
        for number in 0..40 {
            assert_eq!(token("k-1", &value("k-1", number)), Some(number));
            assert_eq!(token("k-2", &value("k-1", number)), None);
            assert_eq!(token("k", &value("k-1", number)), None);
        }
        let mut cut = value("k", 7);
        cut.pop();
        assert_eq!(token("k", &cut), None);
        assert_eq!(token("k", b"k:"), None);
    }

    #[test]
    fn requests_are_those_of_the_protocol() {
        let redis = dialect(ServerKind::Redis);
        assert_eq!(
            redis.encode(&Request::WriteMany(vec![(0, 0), (1, 8)])),
            b"*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$4\r\na:0:\r\n$1\r\nb\r\n$4\r\nb:8:\r\n"
        );
        let memcached = dialect(ServerKind::Memcached);
        assert_eq!(
            memcached.encode(&Request::Write(0, 8)),
            b"set a 0 0 4\r\na:8:\r\n"
        );
        assert_eq!(
            memcached.encode(&Request::ReadMany(vec![0, 2])),
            b"get a c\r\n"
        );
    }

    #[test]
    fn a_reply_to_something_else_is_none() {
        let read = Request::ReadMany(vec![0, 2]);
        let answer = |reply: &[u8]| dialect(ServerKind::Memcached).memcached_answer(&read, reply);
        assert_eq!(answer(b"END\r\n"), Some(Answer::Values(vec![None, None])));
        let found = Answer::Values(vec![None, Some(b"x".to_vec())]);
        assert_eq!(answer(b"VALUE c 0 1\r\nx\r\nEND\r\n"), Some(found));
        assert_eq!(answer(b"VALUE b 0 1\r\nx\r\nEND\r\n"), None);
        assert_eq!(answer(b"STORED\r\n"), None);
        assert_eq!(answer(b"CLIENT_ERROR x\r\n"), None);
        assert_eq!(answer(b"SERVER_ERROR timed out\r\n"), Some(Answer::Failed));
        assert_eq!(redis_answer(&read, &Value::ok()), None);
        assert_eq!(redis_answer(&read, &Value::Array(Some(vec![]))), None);
        let wrong = Value::Error("WRONGTYPE".to_owned());
        assert_eq!(redis_answer(&read, &wrong), None);
        let full = Value::Error("OOM command not allowed".to_owned());
        assert_eq!(redis_answer(&read, &full), Some(Answer::Failed));
    }
}
