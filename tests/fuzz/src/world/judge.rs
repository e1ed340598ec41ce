//! Whether what a client got can be the answer to what it sent.

use super::World;
use super::peers::{Client, block, memcached_answer, redis_answer, value_of};
use crate::framing::{self, Framed, frame_bytes};
use crate::requests::{Connection, Found, Heads, is_bad_block};
use tidegate_config::Protocol;
use tidegate_protocol::{
    BinaryHead, Local, Quiet, ReplyScanner, ReplyShape, Request, Route, Split,
};

/// What the client asked, by the parser alone.
fn asked(world: &World, client: &Client) -> Connection {
    let parse = match (world.protocol, world.setting.twemproxy) {
        (Protocol::Memcached, false) if is_binary(client) => crate::parse_binary,
        (Protocol::Redis, false) => crate::parse_redis,
        (Protocol::Redis, true) => crate::parse_redis_as_twemproxy,
        (Protocol::Memcached, false) => crate::parse_memcached,
        (Protocol::Memcached, true) => crate::parse_memcached_as_twemproxy,
    };
    Connection::play(parse, Heads::Look, [&client.sent[..]])
}

/// Whether its first byte has made the connection one of the binary protocol.
fn is_binary(client: &Client) -> bool {
    client.sent.first() == Some(&0x80)
}

/// No client has begun a request that it never ended.
pub(super) fn all_requests_are_whole(world: &World) -> bool {
    let whole = |client: &Client| client.reset || asked(world, client).is_between_requests();
    world.clients.iter().all(whole)
}

/// The reply at the front of `got`: its length, whether it is an error, and whether it is whole.
fn reply(shape: ReplyShape, got: &[u8]) -> (usize, bool, bool) {
    let mut scanner = ReplyScanner::new(shape);
    let mut bytes = 0;
    loop {
        let scan = scanner.scan(&got[bytes..]);
        let scan = scan.unwrap_or_else(|error| {
            panic!("{error}: {}", got[..got.len().min(300)].escape_ascii())
        });
        bytes += scan.bytes;
        if scan.done || scan.bytes == 0 {
            return (bytes, scanner.is_error(), scan.done);
        }
    }
}

/// As much of `bytes` as somebody would read.
fn shown(bytes: &[u8]) -> String {
    let start = bytes[..bytes.len().min(400)].escape_ascii();
    format!("{start} ({} bytes)", bytes.len())
}

fn is_too_large(reply: &[u8]) -> bool {
    let text = b"request_hold_bytes";
    reply.windows(text.len()).any(|window| window == text)
}

/// Whether from here on there may be fewer replies than requests, or more: what decides that is not known here.
fn may_answer_otherwise(found: &Found) -> bool {
    let Found::Request { request, .. } = found else {
        return false;
    };
    match request.route {
        Route::Local(Local::ClientReply) | Route::Pinned(_) => true,
        _ => matches!(request.reply, ReplyShape::Meta(quiet) if quiet != Quiet::No),
    }
}

/// How a walk over the replies ends.
struct Walk<'a> {
    world: &'a World,
    client: &'a Client,
    rest: &'a [u8],
    /// The last reply was that a request is larger than what may be held: where it ends may be unknown.
    was_too_large: bool,
}

/// # Panics
/// When a reply is missing, is one too many, or belongs to another request.
pub(super) fn judge(world: &World, client: &Client) {
    let asked = asked(world, client);
    let mut walk = Walk {
        world,
        client,
        rest: &client.got,
        was_too_large: false,
    };
    if is_binary(client) {
        return walk.through_frames(&asked);
    }
    for found in &asked.found {
        if may_answer_otherwise(found) {
            return;
        }
        match found {
            Found::Refused { reply, closes } => {
                if *closes {
                    // What was passed on before its end turned out to be malformed may have its own error.
                    let seen = Some(&reply[..]).filter(|reply| !reply.is_empty());
                    return walk.ends_with_errors(2, seen);
                }
                if !reply.is_empty() && !walk.takes(ReplyShape::Line, |got| got == reply) {
                    return;
                }
                if is_bad_block(found) && (walk.has_ended() || !world.honest) {
                    // Its front was passed on, so the connection could not go on behind it.
                    return;
                }
            }
            Found::Request { request, wire } => {
                let quits = request.route == Route::Local(Local::Quit);
                let silent = request.is_silent()
                    || quits && (world.protocol == Protocol::Memcached || world.setting.twemproxy);
                if !silent && !walk.takes(request.reply, |got| fits(world, request, wire, got)) {
                    return;
                }
                if quits {
                    return walk.ends_with_errors(0, Some(b""));
                }
            }
        }
    }
    // Of the request that was only begun, an error may be known already.
    walk.ends_with_errors(usize::from(!asked.is_between_requests()), None);
}

impl Walk<'_> {
    fn fail(&self, what: &str) -> ! {
        let at = self.client.got.len() - self.rest.len();
        panic!(
            "{what}, at byte {at} of what was got\nsent: {}\ngot: {}\nfrom there: {}",
            shown(&self.client.sent),
            shown(&self.client.got),
            shown(self.rest)
        );
    }

    /// Takes binary frames, of which each tells whose answer it is.
    fn through_frames(&mut self, asked: &Connection) {
        for found in &asked.found {
            let (head, is_quiet) = match found {
                Found::Refused { reply, .. } => match reply.first_chunk() {
                    Some(header) => (BinaryHead::of(header), false),
                    None => return,
                },
                Found::Request { request, wire } => {
                    if request.route == Route::Local(Local::Quit) {
                        return;
                    }
                    let header = wire.first_chunk().expect("a frame has a header");
                    let head = BinaryHead::of(header);
                    (head, head.is_quiet() || request.is_silent())
                }
            };
            // A statistic is followed by others, and in the end by a frame without a name.
            let is_stat = head.opcode == 0x10;
            loop {
                let Some(bytes) = frame_bytes(self.rest, 0x81).filter(|&n| n <= self.rest.len())
                else {
                    if is_quiet && self.rest.is_empty() {
                        break;
                    }
                    return self.may_end(self.rest.is_empty());
                };
                let header = self.rest.first_chunk().expect("a frame has a header");
                if BinaryHead::of(header) != head {
                    if is_quiet {
                        break;
                    }
                    self.fail("a frame that answers nothing");
                }
                let is_last = !is_stat || header[2..4] == [0, 0];
                self.rest = &self.rest[bytes..];
                if is_last {
                    break;
                }
            }
            if matches!(found, Found::Refused { closes: true, .. }) {
                break;
            }
        }
        // Of a frame that was only begun, an error may be known already.
        let errors_max = usize::from(!asked.is_between_requests());
        if errors_max == 0 && !self.rest.is_empty() {
            self.fail("more frames than requests");
        }
    }

    /// Everything was looked at, and nothing more will come.
    fn has_ended(&self) -> bool {
        self.rest.is_empty() && (self.client.finished || self.client.reset)
    }

    /// Takes one reply, which has to be an error or to fit. False: the connection ended before it.
    fn takes(&mut self, shape: ReplyShape, fits: impl FnOnce(&[u8]) -> bool) -> bool {
        let shape = match self.world.protocol {
            Protocol::Redis => ReplyShape::Resp,
            Protocol::Memcached => shape,
        };
        let (bytes, is_error, done) = reply(shape, self.rest);
        if !done {
            self.may_end(bytes == 0 && self.rest.is_empty());
            return false;
        }
        if !is_error && self.world.honest && !fits(&self.rest[..bytes]) {
            self.fail("a reply is not the one to its request");
        }
        self.was_too_large = is_error && is_too_large(&self.rest[..bytes]);
        self.rest = &self.rest[bytes..];
        true
    }

    /// The connection ended here, between replies or within one.
    fn may_end(&self, between: bool) {
        let client = self.client;
        if client.reset {
            if self.world.calm && !client.vanished {
                self.fail("a client was reset without a reason");
            }
            return;
        }
        if !client.finished {
            self.fail("a reply is missing");
        }
        if !between {
            self.fail("a reply was cut off in order");
        }
        // Twemproxy closes on what it does not like of a server.
        if self.world.calm && !self.world.setting.twemproxy && !self.was_too_large {
            self.fail("a connection was ended before its last reply");
        }
    }

    /// Nothing may follow but so many errors, and with this one the end of the connection.
    fn ends_with_errors(&mut self, errors_max: usize, closing: Option<&[u8]>) {
        let mut closes = closing == Some(b"");
        for _ in 0..errors_max {
            if self.rest.is_empty() {
                break;
            }
            let shape = match self.world.protocol {
                Protocol::Redis => ReplyShape::Resp,
                Protocol::Memcached => ReplyShape::Line,
            };
            let (bytes, is_error, done) = reply(shape, self.rest);
            if !done {
                // The reply to a request that is taken in chunks begins before the request has ended.
                return;
            }
            if !is_error {
                self.fail("a reply nobody asked for");
            }
            closes |= closing == Some(&self.rest[..bytes]);
            self.rest = &self.rest[bytes..];
        }
        if !self.rest.is_empty() {
            self.fail("more replies than requests");
        }
        if closes && !self.client.finished && !self.client.reset {
            self.fail("the connection should have been closed");
        }
    }
}

/// Whether `got` is the answer of an honest server to `wire`.
fn fits(world: &World, request: &Request, wire: &[u8], got: &[u8]) -> bool {
    let forwarded = matches!(request.route, Route::Key | Route::Any | Route::Split(_));
    if !forwarded {
        return true;
    }
    if world.protocol == Protocol::Redis {
        let Framed::Request { words, .. } = framing::redis(wire) else {
            return false;
        };
        return [false, true]
            .map(|resp3| redis_answer(wire, &words, resp3))
            .contains(&got.to_vec());
    }
    let mut sent = wire.to_vec();
    if let Some(noreply) = &request.noreply {
        sent.drain(noreply.clone());
    }
    let Framed::Request { words, .. } = framing::memcached(&sent) else {
        return false;
    };
    if request.route != Route::Split(Split::MemcachedGet) {
        return got == memcached_answer(&sent, &words);
    }
    let keys = words.iter().skip(if request.name.starts_with("gat") {
        2
    } else {
        1
    });
    let with_cas = request.name.ends_with('s');
    let mut expected: Vec<u8> = Vec::new();
    for key in keys {
        let key = &sent[key.clone()];
        debug_assert!(value_of(key).is_some() || block(key, with_cas).is_empty());
        expected.extend(block(key, with_cas));
    }
    expected.extend(b"END\r\n");
    got == expected
}
