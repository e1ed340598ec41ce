//! A model Redis, one connection at a time: what it answers, and what it keeps for a transaction, a command that waits and
//! subscriptions.

use super::peers::{name_of, value_of};
use std::collections::BTreeSet;
use std::ops::Range;

/// How many times a connection is looked at before a command that waits is answered.
const REST_TURNS: u32 = 25;

/// The database and the dialect of a connection: what the answer to a request depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    pub resp3: bool,
    pub database: u16,
}

/// Something published: who listens gets it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub channel: Vec<u8>,
    pub payload: Vec<u8>,
    /// By SPUBLISH.
    pub shard: bool,
}

/// What a server says to a request.
#[derive(Default)]
pub(super) struct Answer {
    pub bytes: Vec<u8>,
    /// What others get of it.
    pub message: Option<Message>,
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            message: None,
        }
    }
}

/// What a connection listens to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriptions {
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    shards: BTreeSet<Vec<u8>>,
}

impl Subscriptions {
    pub fn are_none(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }

    /// Those that a command such as `psubscribe` is about.
    pub fn of(&mut self, command: &[u8]) -> &mut BTreeSet<Vec<u8>> {
        match command[0] {
            b'p' => &mut self.patterns,
            b's' if command.starts_with(b"ss") || command.starts_with(b"sun") => &mut self.shards,
            _ => &mut self.channels,
        }
    }

    /// Carries out a command about one name, and returns how many there are then, shard channels apart.
    pub fn change(&mut self, command: &[u8], name: &[u8]) -> usize {
        let names = self.of(command);
        if command.ends_with(b"unsubscribe") {
            names.remove(name);
        } else {
            names.insert(name.to_vec());
        }
        self.count(command)
    }

    /// How many there are, by the count that this command tells.
    pub fn count(&self, command: &[u8]) -> usize {
        if command.starts_with(b"ss") || command.starts_with(b"sun") {
            self.shards.len()
        } else {
            self.channels.len() + self.patterns.len()
        }
    }

    /// What a message is to who has these, each with the strings that it comes as.
    pub fn hear(&self, message: &Message) -> Vec<Vec<Vec<u8>>> {
        let Message {
            channel, payload, ..
        } = message;
        let listened = if message.shard {
            &self.shards
        } else {
            &self.channels
        };
        let kind: &[u8] = if message.shard {
            b"smessage"
        } else {
            b"message"
        };
        let plain = listened
            .contains(channel)
            .then(|| vec![kind, channel, payload]);
        let patterns = self.patterns.iter().filter(|_| !message.shard);
        let matched = patterns
            .filter(|pattern| is_match(pattern, channel))
            .map(|pattern| vec![&b"pmessage"[..], pattern, channel, payload]);
        let all = plain.into_iter().chain(matched);
        all.map(|words| words.into_iter().map(<[u8]>::to_vec).collect())
            .collect()
    }
}

/// The patterns of this model: a star at the end, or none.
fn is_match(pattern: &[u8], channel: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(front) => channel.starts_with(front),
        None => pattern == channel,
    }
}

/// What a server keeps for one connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub dialect: Dialect,
    /// Between MULTI and EXEC: the answers to what was queued.
    queue: Option<Vec<Vec<u8>>>,
    pub subscriptions: Subscriptions,
    /// Looks until the command that waits is answered; it stays in the input until then.
    rests: u32,
    rested: bool,
}

impl Session {
    /// A command waits: it is so much nearer to its answer. True if there is one.
    pub fn rest(&mut self) -> bool {
        let waits = self.rests > 0;
        self.rests = self.rests.saturating_sub(1);
        waits
    }

    /// Nothing is answered before the command that waits.
    pub fn rests(&self) -> bool {
        self.rests > 0
    }

    /// What the connection gets of a message.
    pub fn hear(&self, message: &Message) -> Vec<u8> {
        let heard = self.subscriptions.hear(message);
        heard
            .iter()
            .flat_map(|words| self.push(words, b""))
            .collect()
    }

    fn push(&self, words: &[Vec<u8>], tail: &[u8]) -> Vec<u8> {
        let mark = if self.dialect.resp3 { '>' } else { '*' };
        let count = words.len() + usize::from(!tail.is_empty());
        let mut push = format!("{mark}{count}\r\n").into_bytes();
        for word in words {
            push.extend(bulk(Some(word), false));
        }
        push.extend(tail);
        push
    }

    /// The answer to a request. `None`: it waits.
    pub fn answer(&mut self, request: &[u8], words: &[Range<usize>]) -> Option<Answer> {
        let Some(name) = words.first() else {
            // Redis says nothing to an empty line or array, and so nobody may ask it that.
            panic!("a server got an empty request");
        };
        let name = request[name.clone()].to_ascii_lowercase();
        let word = |n: usize| words.get(n).map_or(&b""[..], |word| &request[word.clone()]);
        if waits(&name, request, words) && self.queue.is_none() && !self.rested {
            self.rested = true;
            self.rests = REST_TURNS;
            return None;
        }
        self.rested = false;
        if let Some(queue) = &mut self.queue {
            return Some(match &name[..] {
                b"exec" | b"discard" => {
                    let answer = if name == b"exec" {
                        array(queue)
                    } else {
                        OK.to_vec()
                    };
                    self.queue = None;
                    answer.into()
                }
                b"multi" | b"watch" => panic!("the proxy nests transactions"),
                _ => {
                    queue.push(redis_answer(request, words, self.dialect));
                    b"+QUEUED\r\n".to_vec().into()
                }
            });
        }
        let is_subscriber = !self.subscriptions.are_none() && !self.dialect.resp3;
        Some(match &name[..] {
            b"exec" | b"discard" => panic!("the proxy ends a transaction that was not begun"),
            b"multi" => {
                assert!(self.subscriptions.are_none(), "a subscriber transacts");
                self.queue = Some(Vec::new());
                OK.to_vec().into()
            }
            b"subscribe" | b"psubscribe" | b"ssubscribe" | b"unsubscribe" | b"punsubscribe"
            | b"sunsubscribe" => self.subscribe(&name, request, &words[1..]).into(),
            b"ping" if is_subscriber => {
                self.push(&[b"pong".to_vec(), word(1).to_vec()], b"").into()
            }
            b"ping" if words.len() == 1 => b"+PONG\r\n".to_vec().into(),
            b"ping" => bulk(Some(word(1)), false).into(),
            _ if is_subscriber => panic!("a subscriber asks {}", request.escape_ascii()),
            b"publish" | b"spublish" => Answer {
                bytes: redis_answer(request, words, self.dialect),
                message: Some(Message {
                    channel: word(1).to_vec(),
                    payload: word(2).to_vec(),
                    shard: name[0] == b's',
                }),
            },
            b"hello" => {
                self.dialect.resp3 = word(1) == b"3";
                b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec().into()
            }
            b"select" => {
                let number = std::str::from_utf8(word(1)).ok();
                let number = number.and_then(|number| number.parse().ok());
                self.dialect.database = number.expect("the proxy selects a database that there is");
                OK.to_vec().into()
            }
            _ => redis_answer(request, words, self.dialect).into(),
        })
    }

    /// Confirms what changes, name by name.
    fn subscribe(&mut self, command: &[u8], request: &[u8], words: &[Range<usize>]) -> Vec<u8> {
        let mut names: Vec<Vec<u8>> = words
            .iter()
            .map(|word| request[word.clone()].to_vec())
            .collect();
        if names.is_empty() {
            names = self.subscriptions.of(command).iter().cloned().collect();
        }
        if names.is_empty() {
            let nil = if self.dialect.resp3 { "_" } else { "$-1" };
            let count = self.subscriptions.count(command);
            let tail = format!("{nil}\r\n:{count}\r\n");
            let mark = if self.dialect.resp3 { '>' } else { '*' };
            let front = format!("{mark}3\r\n").into_bytes();
            return [front, bulk(Some(command), false), tail.into_bytes()].concat();
        }
        let mut confirmed = Vec::new();
        for name in names {
            let count = self.subscriptions.change(command, &name);
            let tail = format!(":{count}\r\n");
            confirmed.extend(self.push(&[command.to_vec(), name], tail.as_bytes()));
        }
        confirmed
    }
}

const OK: &[u8] = b"+OK\r\n";

/// Whether a command is one that may wait.
fn waits(name: &[u8], request: &[u8], words: &[Range<usize>]) -> bool {
    let blocks = |word: &Range<usize>| request[word.clone()].eq_ignore_ascii_case(b"block");
    match name {
        b"blpop" | b"brpop" | b"bzpopmin" | b"bzpopmax" | b"blmpop" | b"bzmpop" | b"blmove"
        | b"brpoplpush" | b"wait" | b"waitaof" => true,
        b"xread" | b"xreadgroup" => words.iter().any(blocks),
        _ => false,
    }
}

pub(super) fn array(values: &[Vec<u8>]) -> Vec<u8> {
    [
        format!("*{}\r\n", values.len()).as_bytes(),
        &values.concat(),
    ]
    .concat()
}

pub(super) fn bulk(value: Option<&[u8]>, resp3: bool) -> Vec<u8> {
    match value {
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        None if resp3 => b"_\r\n".to_vec(),
        None => b"$-1\r\n".to_vec(),
    }
}

/// The answer to a request that changes nothing of its connection. That of a database other than 0 differs.
pub(super) fn redis_answer(request: &[u8], words: &[Range<usize>], dialect: Dialect) -> Vec<u8> {
    let salt = match dialect.database {
        0 => Vec::new(),
        database => database.to_be_bytes().to_vec(),
    };
    let value = |word: &Range<usize>| {
        let value = value_of(&[&salt, &request[word.clone()]].concat());
        bulk(value.as_deref(), dialect.resp3)
    };
    let name = bulk(Some(&name_of(&[&salt, request].concat())), false);
    let arguments = &words[1..];
    let second = arguments
        .first()
        .map_or(&b""[..], |word| &request[word.clone()]);
    let second = second.to_ascii_lowercase();
    match request[words[0].clone()].to_ascii_lowercase().as_slice() {
        b"mget" => array(&arguments.iter().map(value).collect::<Vec<_>>()),
        b"get" if arguments.len() == 1 => value(&arguments[0]),
        b"del" | b"unlink" | b"exists" | b"touch" => {
            format!(":{}\r\n", arguments.len()).into_bytes()
        }
        b"mset" | b"auth" | b"select" | b"watch" | b"unwatch" | b"flushall" | b"flushdb" => {
            OK.to_vec()
        }
        b"function" if !matches!(&second[..], b"load") => OK.to_vec(),
        b"script" if second == b"flush" => OK.to_vec(),
        b"script" if second == b"exists" => array(&vec![b":1\r\n".to_vec(); arguments.len() - 1]),
        b"publish" | b"dbsize" => b":2\r\n".to_vec(),
        b"keys" | b"pubsub" => array(&[name]),
        b"scan" => [&b"*2\r\n$1\r\n0\r\n"[..], &array(&[name])].concat(),
        _ => name,
    }
}
