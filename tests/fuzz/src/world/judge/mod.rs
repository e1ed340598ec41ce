//! Whether what a client got can be the answer to what it sent.

mod memcached;
mod redis;

use super::World;
use super::peers::Client;
use crate::requests::{Connection, Heads};
use tidegate_config::Protocol;
use tidegate_protocol::{ReplyScanner, ReplyShape};
use tidegate_proxy::Fault;

/// What a client asked, by the parser alone. It may have been closed before it sent everything.
fn asked(world: &World, client: &Client) -> Connection {
    let parse = match (world.protocol, world.setting.twemproxy) {
        (Protocol::Memcached, false) if is_binary(client) => crate::parse_binary,
        (Protocol::Redis, false) => crate::parse_redis,
        (Protocol::Redis, true) => crate::parse_redis_as_twemproxy,
        (Protocol::Memcached, false) => crate::parse_memcached,
        (Protocol::Memcached, true) => crate::parse_memcached_as_twemproxy,
    };
    Connection::play(parse, Heads::Look, [&client.sends[..client.sent]])
}

/// Whether its first byte has made the connection one of the binary protocol.
fn is_binary(client: &Client) -> bool {
    client.sends.first() == Some(&0x80)
}

/// Judges what every client got. True when none has begun a request that it never ended.
///
/// # Panics
/// When a reply is missing, is one too many, or belongs to another request.
pub(super) fn judge(world: &World) -> bool {
    let asked: Vec<_> = world
        .clients
        .iter()
        .map(|client| asked(world, client))
        .collect();
    for (client, own) in world.clients.iter().zip(&asked) {
        let reader = Reader {
            world,
            client,
            all_asked: &asked,
        };
        if !(client.to_send().is_empty() || client.is_over() || world.may_wait()) {
            reader.fail("requests are not read", client.got.len());
        }
        match world.protocol {
            Protocol::Redis => redis::judge(reader, own),
            Protocol::Memcached => memcached::judge(reader, own),
        }
    }
    let whole =
        |(client, asked): (&Client, &Connection)| client.reset || asked.is_between_requests();
    world.clients.iter().zip(&asked).all(whole)
}

/// As much of `bytes` as somebody would read.
fn shown(bytes: &[u8]) -> String {
    let start = bytes[..bytes.len().min(400)].escape_ascii();
    format!("{start} ({} bytes)", bytes.len())
}

/// What a server that fails has its clients told. Timeouts are not among it: large replies to slow clients hold up others.
const FAILURES: [Fault; 10] = [
    Fault::Refused,
    Fault::Reset,
    Fault::Closed,
    Fault::NoRoute,
    Fault::Garbage,
    Fault::Unauthorized,
    Fault::NoResp3,
    Fault::NoDatabase,
    Fault::OutOfStep,
    Fault::Failing,
];

/// How a look at what comes next in what a client got went.
enum Taken {
    /// A reply, which ends here.
    To { at: usize, is_error: bool },
    /// The connection ended before it, as it may.
    Ended,
}

/// What was wrong.
type Complaint = &'static str;

/// What a client got.
#[derive(Clone, Copy)]
struct Reader<'a> {
    world: &'a World,
    client: &'a Client,
    /// What each client asked.
    all_asked: &'a [Connection],
}

impl<'a> Reader<'a> {
    fn fail(&self, what: Complaint, at: usize) -> ! {
        panic!(
            "{what}, at byte {at} of what was got\nsent: {}\ngot: {}\nfrom there: {}",
            shown(&self.client.sends),
            shown(&self.client.got),
            shown(self.rest(at))
        );
    }

    fn rest(&self, at: usize) -> &'a [u8] {
        &self.client.got[at..]
    }

    /// Nothing happened that a reply may be missing for, or that a server may be wrong by.
    fn is_undisturbed(&self) -> bool {
        self.world.calm && self.world.honest
    }

    /// The reply at `at`: its length, whether it is an error, and whether it is whole.
    fn reply(&self, shape: ReplyShape, at: usize) -> Result<(usize, bool, bool), Complaint> {
        let mut scanner = ReplyScanner::new(shape);
        let mut bytes = 0;
        loop {
            let scan = scanner.scan(&self.rest(at)[bytes..]);
            let scan = scan.map_err(|_| "this is no reply")?;
            bytes += scan.bytes;
            if scan.done || scan.bytes == 0 {
                return Ok((bytes, scanner.is_error(), scan.done));
            }
        }
    }

    /// Takes the reply at `at`, which has to be an error or to fit.
    fn take(
        &self,
        shape: ReplyShape,
        at: usize,
        fits: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Taken, Complaint> {
        let (bytes, is_error, done) = self.reply(shape, at)?;
        let end = at + bytes;
        if !done {
            return self.end(at, bytes == 0 && self.rest(at).is_empty());
        }
        let got = &self.client.got[at..end];
        if is_error && self.is_undisturbed() && is_failure(got) {
            return Err("a server failed to which nothing happened");
        }
        if !is_error && self.world.honest && !fits(got) {
            return Err("a reply is not the one to its request");
        }
        Ok(Taken::To { at: end, is_error })
    }

    /// The connection ended here, between replies or within one.
    fn end(&self, at: usize, between: bool) -> Result<Taken, Complaint> {
        let client = self.client;
        // It may be unknown where a request ends that is larger than what may be held. And twemproxy closes on what it does
        // not like of a server. Subscribers are closed when their channels get another server.
        let is_excused = self.world.setting.twemproxy
            || self.world.moved && client.subscribes()
            || client.got[..at]
                .trim_ascii_end()
                .ends_with(b"(limit request_hold_bytes)");
        if client.reset {
            if self.world.calm && !client.vanished {
                return Err("a client was reset without a reason");
            }
        } else if !client.finished {
            return Err("a reply is missing");
        } else if !between {
            return Err("a reply was cut off in order");
        } else if self.world.calm && !is_excused {
            return Err("a connection was ended before its last reply");
        }
        Ok(Taken::Ended)
    }

    /// Everything was looked at, and nothing more will come.
    fn has_ended(&self, at: usize) -> bool {
        self.rest(at).is_empty() && (self.client.finished || self.client.reset)
    }

    /// Nothing may follow but so many errors, and with this one the end of the connection.
    fn ends_with_errors(
        &self,
        mut at: usize,
        errors_max: usize,
        closing: Option<&[u8]>,
    ) -> Result<(), Complaint> {
        let mut closes = closing == Some(b"");
        let shape = match self.world.protocol {
            Protocol::Redis => ReplyShape::Resp,
            Protocol::Memcached => ReplyShape::Line,
        };
        for _ in 0..errors_max {
            if self.rest(at).is_empty() {
                break;
            }
            let (bytes, is_error, done) = self.reply(shape, at)?;
            if !done {
                // The reply to a request that is taken in chunks begins before the request has ended.
                return Ok(());
            }
            // A server that says anything may say it before it has all of a request.
            if !is_error && self.world.honest {
                return Err("a reply nobody asked for");
            }
            closes |= closing == Some(&self.rest(at)[..bytes]);
            at += bytes;
        }
        if !self.rest(at).is_empty() {
            return Err("more replies than requests");
        }
        if closes && !self.client.finished && !self.client.reset {
            return Err("the connection should have been closed");
        }
        Ok(())
    }
}

fn is_failure(error: &[u8]) -> bool {
    // Elsewhere in an error stands what the client wrote.
    let error = error.trim_ascii_end();
    let says = |fault: &Fault| error.ends_with(fault.text().as_bytes());
    FAILURES.iter().any(says)
}
