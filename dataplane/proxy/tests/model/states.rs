//! What a model of Redis keeps for each of its connections: transactions, watched keys, subscriptions, a command that waits.

use super::server::{ModelServer, words};
use super::session::Session;
use super::traffic::resp;
use std::collections::{BTreeSet, VecDeque};

#[derive(Default)]
pub struct State {
    pub queue: Option<Vec<Vec<u8>>>,
    resp3: bool,
    dirty: bool,
    pub watched: Vec<Vec<u8>>,
    conflict: bool,
    pub channels: BTreeSet<Vec<u8>>,
    pub patterns: BTreeSet<Vec<u8>>,
    /// Keys of lists, one of which is waited for.
    pub blocked: Vec<Vec<u8>>,
}

impl State {
    /// Whether nothing is left on the connection.
    pub fn is_clean(&self) -> bool {
        self.queue.is_none()
            && self.watched.is_empty()
            && self.blocked.is_empty()
            && self.subscriptions() == 0
    }

    /// The end of a transaction.
    fn end(&mut self) {
        *self = Self {
            resp3: self.resp3,
            ..Self::default()
        };
    }

    /// A message as the connection gets it.
    fn dialect(&self, mut push: Vec<u8>) -> Vec<u8> {
        if self.resp3 {
            push[0] = b'>';
        }
        push
    }

    fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}

fn upper(word: &[u8]) -> Vec<u8> {
    word.to_ascii_uppercase()
}

impl ModelServer {
    /// Answers one whole request of connection `slot`. `None`: there is none, or the connection waits.
    pub fn serve_one(
        &mut self,
        slot: u32,
        session: &mut Session,
        input: &[u8],
    ) -> Option<(usize, Vec<u8>)> {
        let state = self.states.entry(slot).or_default();
        state.resp3 = session.resp3;
        if !state.blocked.is_empty() {
            return None;
        }
        let (used, args) = words(input)?;
        let name = upper(args[0]);
        let reply = if state.queue.is_some() {
            self.queue(slot, session, &name, &args, &input[..used])
        } else {
            self.execute(slot, session, &name, &args, &input[..used], false)
        };
        Some((used, reply))
    }

    fn queue(
        &mut self,
        slot: u32,
        session: &mut Session,
        name: &[u8],
        args: &[&[u8]],
        request: &[u8],
    ) -> Vec<u8> {
        let state = self.states.get_mut(&slot).unwrap();
        match name {
            b"EXEC" => {
                let queue = state.queue.take().unwrap();
                let (dirty, conflict) = (state.dirty, state.conflict);
                state.end();
                if dirty {
                    return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
                        .to_vec();
                }
                if conflict {
                    return b"*-1\r\n".to_vec();
                }
                let mut reply = format!("*{}\r\n", queue.len()).into_bytes();
                for request in queue {
                    let (_, args) = words(&request).unwrap();
                    let name = upper(args[0]);
                    reply.extend(self.execute(slot, session, &name, &args, &request, true));
                }
                reply
            }
            b"DISCARD" => {
                state.end();
                b"+OK\r\n".to_vec()
            }
            b"MULTI" | b"WATCH" => panic!("the proxy sent {args:?} within a transaction"),
            b"LLEN" => {
                state.dirty = true;
                b"-ERR refused while queueing\r\n".to_vec()
            }
            _ => {
                state.queue.as_mut().unwrap().push(request.to_vec());
                b"+QUEUED\r\n".to_vec()
            }
        }
    }

    fn execute(
        &mut self,
        slot: u32,
        session: &mut Session,
        name: &[u8],
        args: &[&[u8]],
        request: &[u8],
        in_transaction: bool,
    ) -> Vec<u8> {
        if matches!(name, b"SET" | b"MSET" | b"DEL" | b"LPUSH") {
            for key in &args[1..] {
                self.touch(key);
            }
        }
        let subscribed = self.states[&slot].subscriptions() > 0;
        let state = self.states.get_mut(&slot).unwrap();
        match name {
            b"MULTI" => {
                assert!(!subscribed);
                state.queue = Some(Vec::new());
                b"+OK\r\n".to_vec()
            }
            b"WATCH" => {
                state
                    .watched
                    .extend(args[1..].iter().map(|key| key.to_vec()));
                b"+OK\r\n".to_vec()
            }
            b"UNWATCH" => {
                state.watched.clear();
                state.conflict = false;
                b"+OK\r\n".to_vec()
            }
            b"EXEC" | b"DISCARD" => panic!("the proxy sent {args:?} without a transaction"),
            b"SUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE" | b"SUNSUBSCRIBE" | b"PSUBSCRIBE"
            | b"PUNSUBSCRIBE" => self.subscription(slot, name, &args[1..]),
            b"PUBLISH" => self.publish(args[1], args[2]),
            b"PING" if subscribed && !state.resp3 => {
                let message = args.get(1).copied().unwrap_or_default();
                resp(&[b"pong", message])
            }
            b"PING" => match args.get(1) {
                Some(message) => resp(&[message])[4..].to_vec(),
                None => b"+PONG\r\n".to_vec(),
            },
            b"TIME" => resp(&[b"1", b"2"]),
            b"WAIT" => b":0\r\n".to_vec(),
            b"LPUSH" => {
                assert!(!subscribed);
                self.push(args[1], args[2]);
                b":1\r\n".to_vec()
            }
            b"BLPOP" => self.pop(slot, &args[1..args.len() - 1], in_transaction),
            _ => {
                assert!(!subscribed, "the proxy sent {args:?} for a subscriber");
                let (store, databases) = (&mut self.store, &mut self.databases);
                session.serve(store, databases, request).unwrap().1
            }
        }
    }

    fn touch(&mut self, key: &[u8]) {
        for state in self.states.values_mut() {
            state.conflict |= state.watched.iter().any(|watched| watched == key);
        }
    }

    fn subscription(&mut self, slot: u32, name: &[u8], names: &[&[u8]]) -> Vec<u8> {
        let state = self.states.get_mut(&slot).unwrap();
        let kind = name.to_ascii_lowercase();
        let pattern = kind.starts_with(b"p");
        let ends = kind.ends_with(b"unsubscribe");
        let mut names: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        if names.is_empty() {
            let all = if pattern {
                &state.patterns
            } else {
                &state.channels
            };
            names = all.iter().cloned().collect();
            if names.is_empty() {
                let count = state.subscriptions();
                let (mark, nil) = if state.resp3 {
                    ('>', "_")
                } else {
                    ('*', "$-1")
                };
                let head = format!("{mark}3\r\n${}\r\n", kind.len());
                let tail = format!("\r\n{nil}\r\n:{count}\r\n");
                return [head.as_bytes(), &kind, tail.as_bytes()].concat();
            }
        }
        let mut reply = Vec::new();
        for name in names {
            let set = if pattern {
                &mut state.patterns
            } else {
                &mut state.channels
            };
            if ends {
                set.remove(&name);
            } else {
                set.insert(name.clone());
            }
            reply.extend(if state.resp3 { b">3\r\n" } else { b"*3\r\n" });
            reply.extend(&resp(&[&kind, &name])[4..]);
            reply.extend(format!(":{}\r\n", state.subscriptions()).into_bytes());
        }
        reply
    }

    fn publish(&mut self, channel: &[u8], message: &[u8]) -> Vec<u8> {
        let mut receivers = 0;
        let mut slots: Vec<u32> = self.states.keys().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            let state = &self.states[&slot];
            if state.channels.contains(channel) {
                receivers += 1;
                let push = resp(&[b"message", channel, message]);
                self.outbox.push((slot, state.dialect(push)));
            }
            for pattern in &state.patterns {
                if channel.starts_with(&pattern[..pattern.len() - 1]) {
                    receivers += 1;
                    let push = resp(&[b"pmessage", pattern, channel, message]);
                    self.outbox.push((slot, state.dialect(push)));
                }
            }
        }
        format!(":{receivers}\r\n").into_bytes()
    }

    fn push(&mut self, key: &[u8], item: &[u8]) {
        let waiting = self
            .states
            .iter_mut()
            .filter(|(_, state)| state.blocked.iter().any(|blocked| blocked == key))
            .min_by_key(|(slot, _)| **slot);
        if let Some((slot, state)) = waiting {
            state.blocked.clear();
            self.popped.push(item.to_vec());
            self.outbox.push((*slot, resp(&[key, item])));
            return;
        }
        let list = self.lists.entry(key.to_vec()).or_default();
        list.push_front(item.to_vec());
    }

    fn pop(&mut self, slot: u32, keys: &[&[u8]], in_transaction: bool) -> Vec<u8> {
        for key in keys {
            if let Some(item) = self.lists.get_mut(*key).and_then(VecDeque::pop_front) {
                self.popped.push(item.clone());
                return resp(&[key, &item]);
            }
        }
        if in_transaction {
            return b"*-1\r\n".to_vec();
        }
        let state = self.states.get_mut(&slot).unwrap();
        state.blocked = keys.iter().map(|key| key.to_vec()).collect();
        Vec::new()
    }
}
