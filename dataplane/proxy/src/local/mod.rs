//! Requests that the proxy answers itself: those about the connection between it and the client.

pub(crate) mod auth;
mod client;
mod config;
mod hello;
mod reply;

pub(crate) use reply::Reply;

use crate::fault::Fault;
use crate::hold::Chain;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::state::Answer;
use crate::streams::Streams;
use tidegate_config::Protocol;
use tidegate_protocol::{Local, Request, Route};

/// The reply to a word that an option does not have.
const SYNTAX_ERROR: &str = "-ERR syntax error\r\n";

impl Proxy {
    /// Answers a request. False: it stays where it is, because what is under way has to end first.
    pub(crate) fn answer_locally<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        local: Local,
    ) -> bool {
        // None of these is asked for often: a copy, in which the arguments stand still, costs little.
        let mut bytes = std::mem::take(&mut self.scratch);
        self.copy_request(streams, client, source, request.bytes, &mut bytes);
        let answered = self.answer_copy(streams, client, request, source, local, &bytes);
        self.scratch = bytes;
        answered
    }

    fn answer_copy<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        local: Local,
        bytes: &[u8],
    ) -> bool {
        let bytes = &bytes[..request.bytes];
        let arguments = Arguments { request, bytes };
        if local == Local::ConfigGet && config::is_for_a_server(arguments) {
            return match self.server_without_key(client, Route::Any) {
                Some(index) => self.send_request(streams, client, request, source, index),
                None => self.fail_request(streams, client, request, source, Fault::AllEjected),
            };
        }
        let changes = match local {
            Local::Select => self.selects_another(client, arguments),
            Local::Hello | Local::Reset => true,
            _ => false,
        };
        if changes && self.clients[client as usize].pending > 0 {
            // Requests before it belong to the connection as it was, and those behind it go another way: they would overtake.
            self.clients[client as usize].barrier = true;
            return false;
        }
        let counters = self.count_request(client);
        counters.requests_local += 1;
        self.drop_request(streams, client, source, request.bytes);
        match local {
            Local::Ping if request.argc > 1 => self.echo(streams, client, arguments),
            Local::Echo => self.echo(streams, client, arguments),
            Local::Time => self.tell_time(streams, client),
            Local::Hello => self.hello(streams, client, arguments),
            Local::ConfigGet => self.config_get(streams, client, arguments),
            Local::ClientId | Local::ClientGetname | Local::ClientInfo | Local::ClientList => {
                self.tell_of_client(streams, client, arguments, local);
            }
            _ => {
                let text = self.settle_locally(client, arguments, local);
                if !text.is_empty() {
                    self.answer_text(streams, client, text);
                }
            }
        }
        true
    }

    /// Answers a request that changes something, or nothing, and gets a constant.
    fn settle_locally(
        &mut self,
        client: u32,
        arguments: Arguments<'_>,
        local: Local,
    ) -> &'static str {
        match local {
            Local::Ping => "+PONG\r\n",
            Local::Quit => {
                self.clients[client as usize].closing = true;
                let pool = self.pool_of(client);
                if pool.protocol == Protocol::Redis && !pool.twemproxy {
                    "+OK\r\n"
                } else {
                    ""
                }
            }
            Local::Auth => self.authenticate(client, arguments),
            Local::Select => self.select(client, arguments),
            Local::Reset => self.reset_session(client),
            Local::ClientSetname => self.set_name(client, arguments.get(2)),
            Local::ClientSetinfo => self.set_info(client, arguments),
            Local::ClientReply => self.switch_replies(client, arguments.get(2)),
            Local::ClientNoEvict | Local::ClientNoTouch => client::on_or_off(arguments.get(2)),
            _ => "",
        }
    }

    /// PING with a message, and ECHO.
    fn echo<S: Streams>(&mut self, streams: &mut S, client: u32, arguments: Arguments<'_>) {
        let mut reply = self.reply_to(client);
        reply.bulk(arguments.get(1));
        let reply = reply.finish();
        self.answer_chain(streams, client, reply);
    }

    fn tell_time<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let unix_us = self.now_us.wrapping_add(self.wall_clock_us);
        let mut reply = self.reply_to(client);
        reply.array(2);
        reply.bulk(itoa((unix_us / 1_000_000) as usize).bytes());
        reply.bulk(itoa((unix_us % 1_000_000) as usize).bytes());
        let reply = reply.finish();
        self.answer_chain(streams, client, reply);
    }

    /// Begins a reply in the client's dialect.
    pub(crate) fn reply_to(&mut self, client: u32) -> Reply<'_> {
        let is_resp3 = self.clients[client as usize].flavour.is_resp3();
        Reply::new(&mut self.hold, is_resp3)
    }

    /// Answers with what [`Reply::finish`] returned, in its turn. The caller has checked [`Proxy::has_pending_room`].
    pub(crate) fn answer_chain<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        reply: Option<Chain>,
    ) {
        let Some(pending) = self.push_pending(streams, client, false) else {
            if let Some(mut chain) = reply {
                self.hold.clear(&mut chain);
            }
            return;
        };
        let (chain, answer) = match reply {
            Some(chain) => (chain, Answer::Held),
            None => (Chain::EMPTY, self.no_room(client)),
        };
        let entry = &mut self.pendings[pending];
        (entry.chain, entry.answer) = (chain, answer);
        self.flush(streams, client);
    }
}

/// The arguments of a request that stands still.
#[derive(Clone, Copy)]
struct Arguments<'a> {
    request: &'a Request,
    bytes: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Argument `n`; the name is argument 0. Empty if there is none.
    fn get(self, n: usize) -> &'a [u8] {
        self.from(n).next().unwrap_or_default()
    }

    /// The arguments from `n` on.
    fn from(self, n: usize) -> impl Iterator<Item = &'a [u8]> {
        let all = self.request.arguments(self.bytes);
        all.skip(n).map(|range| &self.bytes[range])
    }

    /// How many there are, the name included.
    fn count(self) -> usize {
        self.request.argc as usize
    }
}

/// The number that `digits` are to Redis: no blank, no plus sign, no leading zero.
fn integer(digits: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let plain = digits.strip_prefix(b"-").unwrap_or(digits);
    let padded = plain.len() > 1 && plain[0] == b'0' || digits == b"-0";
    (plain[0] != b'+' && !padded).then_some(number)
}
