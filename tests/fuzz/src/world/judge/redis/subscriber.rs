//! Clients with subscriptions: what comes unasked, and what confirms that it will.

use super::{Asked, OWN_CHANNEL, Stop, Walk};
use crate::requests::Found;
use crate::world::judge::Taken;
use crate::world::redis::Message;
use tidegate_protocol::ReplyShape;

/// A push, or what looks like one with RESP2: its strings and numbers, and where it ends.
type Push<'a> = (Vec<&'a [u8]>, usize);

impl<'a> Walk<'a> {
    /// SUBSCRIBE and its like: a confirmation for each name, whatever the client wants of replies, or an error.
    pub(super) fn subscribe(&mut self, asked: &Asked<'_>) -> Result<(), Stop> {
        if !self.reader.world.honest {
            // Whatever a server says may be a message.
            return Err(Stop::Over);
        }
        let command = asked.word(0).to_ascii_lowercase();
        let muted = self.is_muted();
        let mut names: Vec<Option<Vec<u8>>> = asked.words[1..]
            .iter()
            .map(|name| Some(name.to_vec()))
            .collect();
        if names.is_empty() {
            let all = self.subscriptions.of(&command).iter();
            names = all.cloned().map(Some).collect();
        }
        if names.is_empty() {
            names.push(None);
        }
        for (n, name) in names.iter().enumerate() {
            self.hear()?;
            let Some((strings, end)) = self.strings()? else {
                if self.is_left()? {
                    return Err(Stop::Over);
                }
                if n == 0 && muted {
                    // A server that fails once it was asked has its client told, where a refusal is mute.
                    return if self.reader.is_undisturbed() {
                        Ok(())
                    } else {
                        Err(Stop::Over)
                    };
                }
                // Whatever this is, it has to be an error.
                return match self.reader.take(ReplyShape::Resp, self.at, |_| false)? {
                    Taken::To { .. } if n > 0 => Err("a confirmation is missing".into()),
                    Taken::To { at, .. } => {
                        self.at = at;
                        Ok(())
                    }
                    Taken::Ended => Err(Stop::Over),
                };
            };
            let wanted = name.as_deref().unwrap_or_default();
            if n == 0 && muted && !strings.starts_with(&[&command[..], wanted]) {
                // It was refused, and this is about a later request.
                return Ok(());
            }
            let count = match name {
                Some(name) => self.subscriptions.change(&command, name),
                None => self.subscriptions.count(&command),
            };
            if strings != [&command[..], wanted, count.to_string().as_bytes()] {
                if muted {
                    // It was refused, and a later one begins like it.
                    return Err(Stop::Over);
                }
                return Err("this does not confirm what was asked for".into());
            }
            self.at = end;
        }
        Ok(())
    }

    /// The connection of a client that sends no more ended here: it is not waited for if it has subscriptions, or asked for some.
    fn is_left(&self) -> Result<bool, Stop> {
        let client = self.reader.client;
        let has_ended = client.finished || client.reset;
        let (_, _, is_whole) = self.reader.reply(ReplyShape::Resp, self.at)?;
        Ok(client.sends_no_more && has_ended && !is_whole)
    }

    /// Takes the messages that come next.
    pub(super) fn hear(&mut self) -> Result<(), Stop> {
        if self.subscriptions.are_none() {
            return Ok(());
        }
        while let Some((strings, end)) = self.strings()? {
            let kind = strings.first().copied().unwrap_or_default();
            if !kind.ends_with(b"message") {
                break;
            }
            let [.., channel, payload] = strings[..] else {
                return Err("a message without content".into());
            };
            let message = Message {
                channel: channel.to_vec(),
                payload: payload.to_vec(),
                shard: kind == b"smessage",
            };
            let heard = self.subscriptions.hear(&message);
            if !heard.iter().any(|heard| strings == *heard) {
                return Err("a message that the client does not listen to".into());
            }
            if !self.was_published(&message) {
                return Err("a message that nobody published".into());
            }
            self.at = end;
        }
        if self.is_left()? {
            return Err(Stop::Over);
        }
        Ok(())
    }

    fn was_published(&mut self, message: &Message) -> bool {
        if self.published.is_empty() {
            let all = self.reader.all_asked.iter();
            for found in all.flat_map(|asked| &asked.found) {
                if let Found::Request { request, wire } = found
                    && matches!(request.name, "publish" | "spublish")
                {
                    let asked = Asked::new(request, wire);
                    self.published.insert(Message {
                        channel: asked.word(1).to_vec(),
                        payload: asked.word(2).to_vec(),
                        shard: request.name == "spublish",
                    });
                }
            }
        }
        let is_own = message.channel == OWN_CHANNEL && message.payload.is_empty();
        is_own || self.published.contains(message)
    }

    /// The push that comes next: its strings and numbers, and where it ends.
    fn strings(&self) -> Result<Option<Push<'a>>, Stop> {
        let rest = self.reader.rest(self.at);
        let marks: &[u8] = match self.resp3 {
            Some(true) => b">",
            Some(false) => b"*",
            None => b"*>",
        };
        if !rest.first().is_some_and(|first| marks.contains(first)) {
            return Ok(None);
        }
        let (bytes, _, done) = self.reader.reply(ReplyShape::Resp, self.at)?;
        if !done {
            return Ok(None);
        }
        let mut strings = Vec::new();
        let mut lines = 0;
        while lines < bytes {
            let line_end = |from: usize| {
                let end = rest[from..].iter().position(|&byte| byte == b'\n');
                end.map_or(bytes, |end| from + end + 1)
            };
            let end = line_end(lines);
            let line = rest[lines..end].trim_ascii_end();
            lines = end;
            match line.split_first() {
                Some((b'$', b"-1") | (b'_', b"")) => strings.push(&b""[..]),
                Some((b'$', digits)) => {
                    let length = std::str::from_utf8(digits).ok();
                    let length: usize = length
                        .and_then(|length| length.parse().ok())
                        .ok_or("a string without a length")?;
                    strings.push(&rest[lines..lines + length]);
                    lines += length + 2;
                }
                Some((b':', digits)) => strings.push(digits),
                _ => {}
            }
        }
        Ok(Some((strings, self.at + bytes)))
    }
}
