//! Model servers: enough of memcached and Redis to answer what the tests ask, byte for byte.

use super::dialects;
use super::session::{Databases, Session};
use super::states::State;
use std::collections::{HashMap, VecDeque};
use tidegate_config::Protocol;

pub struct ModelServer {
    pub protocol: Protocol,
    pub store: HashMap<Vec<u8>, Vec<u8>>,
    pub accepts: bool,
    /// Reads and writes nothing.
    pub stopped: bool,
    /// Sends one byte at a time.
    pub trickles: bool,
    /// One answer in so many is replaced by bytes that no reply starts with.
    pub babbles_one_in: usize,
    /// Answers are replaced by this.
    pub garbage: Option<Vec<u8>>,
    /// A request that is not carried out, and the answer to it.
    pub refuses: Option<(Vec<u8>, Vec<u8>)>,
    pub requests: usize,
    pub seen: Vec<Vec<u8>>,
    pub databases: Databases,
    /// What is kept for each connection, by stream slot (Redis).
    pub states: HashMap<u32, State>,
    pub lists: HashMap<Vec<u8>, VecDeque<Vec<u8>>>,
    /// Items that were taken from lists.
    pub popped: Vec<Vec<u8>>,
    /// What goes to connections that did not ask just now.
    pub outbox: Vec<(u32, Vec<u8>)>,
}

impl ModelServer {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            store: HashMap::new(),
            accepts: true,
            stopped: false,
            trickles: false,
            babbles_one_in: 0,
            garbage: None,
            refuses: None,
            requests: 0,
            seen: Vec::new(),
            databases: Databases::default(),
            states: HashMap::new(),
            lists: HashMap::new(),
            popped: Vec::new(),
            outbox: Vec::new(),
        }
    }

    /// Answers every whole request in `input`, which came on the connection `slot` with this `session`.
    pub fn serve(
        &mut self,
        slot: u32,
        session: &mut Session,
        input: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> bool {
        let mut any = false;
        loop {
            let refused = self.refuses.as_ref();
            let refused = refused.filter(|(request, _)| input.starts_with(request));
            let answered = match (refused, self.protocol) {
                (Some((request, reply)), _) => Some((request.len(), reply.clone())),
                (None, Protocol::Memcached) => memcached(&mut self.store, input),
                (None, Protocol::Redis) => self.serve_one(slot, session, input),
            };
            let Some((used, reply)) = answered else {
                return any;
            };
            if self.seen.len() < 1000 {
                self.seen.push(input[..used.min(200)].to_vec());
            }
            input.drain(..used);
            self.requests += 1;
            if self.babbles_one_in > 0 && self.requests.is_multiple_of(self.babbles_one_in) {
                output.extend(b"?babble\r\n");
            } else {
                output.extend(self.garbage.as_ref().unwrap_or(&reply));
            }
            any = true;
        }
    }
}

pub type Store = HashMap<Vec<u8>, Vec<u8>>;

fn line_end(input: &[u8]) -> Option<usize> {
    input.windows(2).position(|w| w == b"\r\n")
}

/// Bytes used and the reply of the request at the front, if it is whole.
pub fn memcached(store: &mut Store, input: &[u8]) -> Option<(usize, Vec<u8>)> {
    if input.first() == Some(&0x80) {
        return dialects::binary(store, input, true);
    }
    if input.starts_with(b"m") {
        return dialects::meta(store, input, true);
    }
    let end = line_end(input)?;
    let words: Vec<&[u8]> = input[..end]
        .split(|&b| b == b' ')
        .filter(|w| !w.is_empty())
        .collect();
    let mut used = end + 2;
    let reply = match words.as_slice() {
        [b"get", keys @ ..] => {
            let mut out = Vec::new();
            for key in keys {
                if let Some(value) = store.get(*key) {
                    out.extend(
                        [
                            b"VALUE ",
                            *key,
                            format!(" 0 {}\r\n", value.len()).as_bytes(),
                            value,
                            b"\r\n",
                        ]
                        .concat(),
                    );
                }
            }
            out.extend(b"END\r\n");
            out
        }
        [b"set", key, _, _, bytes, ..] => {
            let n: usize = std::str::from_utf8(bytes).unwrap().parse().unwrap();
            if input.len() < used + n + 2 {
                return None;
            }
            assert_eq!(
                &input[used + n..used + n + 2],
                b"\r\n",
                "the data block ends where it says"
            );
            store.insert(key.to_vec(), input[used..used + n].to_vec());
            used += n + 2;
            b"STORED\r\n".to_vec()
        }
        [b"version"] => b"VERSION 1.2.3\r\n".to_vec(),
        [b"incr", _, _] => b"7\r\n".to_vec(),
        [b"touch", _, _] => b"TOUCHED\r\n".to_vec(),
        [b"delete", key, ..] => match store.remove(*key) {
            Some(_) => b"DELETED\r\n".to_vec(),
            None => b"NOT_FOUND\r\n".to_vec(),
        },
        other => super::whole::memcached(store, other)
            .unwrap_or_else(|| panic!("the proxy sent {other:?}")),
    };
    assert!(
        !input[..end].ends_with(b"noreply"),
        "noreply is not passed on"
    );
    Some((used, reply))
}

/// Bytes used and the words of the request at the front, if it is whole.
pub fn words(input: &[u8]) -> Option<(usize, Vec<&[u8]>)> {
    let mut at = 0;
    let number = |at: &mut usize, mark: u8| -> Option<usize> {
        let end = line_end(&input[*at..])? + *at;
        assert_eq!(input[*at], mark);
        let n = std::str::from_utf8(&input[*at + 1..end])
            .unwrap()
            .parse()
            .unwrap();
        *at = end + 2;
        Some(n)
    };
    let argc = number(&mut at, b'*')?;
    let mut args: Vec<&[u8]> = Vec::new();
    for _ in 0..argc {
        if at >= input.len() {
            return None;
        }
        let n = number(&mut at, b'$')?;
        if input.len() < at + n + 2 {
            return None;
        }
        args.push(&input[at..at + n]);
        at += n + 2;
    }
    Some((at, args))
}

/// Bytes used and the reply of the request at the front, if it is whole.
pub fn redis(store: &mut Store, input: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (at, args) = words(input)?;
    let bulk = |value: Option<&Vec<u8>>| match value {
        Some(v) => [format!("${}\r\n", v.len()).as_bytes(), v, b"\r\n"].concat(),
        None => b"$-1\r\n".to_vec(),
    };
    let name = args[0].to_ascii_uppercase();
    let reply = match (name.as_slice(), &args[1..]) {
        (b"GET", [key]) => bulk(store.get(*key)),
        (b"SET", [key, value]) => {
            store.insert(key.to_vec(), value.to_vec());
            b"+OK\r\n".to_vec()
        }
        (b"MGET", keys) => {
            let mut out = format!("*{}\r\n", keys.len()).into_bytes();
            for key in keys {
                out.extend(bulk(store.get(*key)));
            }
            out
        }
        (b"MSET", pairs) => {
            for pair in pairs.chunks(2) {
                store.insert(pair[0].to_vec(), pair[1].to_vec());
            }
            b"+OK\r\n".to_vec()
        }
        (b"DEL" | b"UNLINK", keys) => {
            let n = keys
                .iter()
                .filter(|key| store.remove(**key).is_some())
                .count();
            format!(":{n}\r\n").into_bytes()
        }
        (b"EXISTS" | b"TOUCH", keys) => {
            let n = keys.iter().filter(|key| store.contains_key(**key)).count();
            format!(":{n}\r\n").into_bytes()
        }
        (b"LLEN", [_]) => {
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n".to_vec()
        }
        (b"RPUSH", [_, items @ ..]) => format!(":{}\r\n", items.len()).into_bytes(),
        // Enough to see which server was asked, and what.
        (
            b"COMMAND" | b"EVAL" | b"LOLWUT" | b"PFCOUNT" | b"RENAME" | b"SINTER" | b"SORT"
            | b"XREAD" | b"ZDIFF" | b"ZREM",
            rest,
        ) => format!(":{}\r\n", rest.len()).into_bytes(),
        (b"AUTH", [_]) => b"+OK\r\n".to_vec(),
        (name, args) => super::whole::redis(store, name, args)
            .unwrap_or_else(|| panic!("the proxy sent {:?} {args:?}", input.escape_ascii())),
    };
    Some((at, reply))
}
