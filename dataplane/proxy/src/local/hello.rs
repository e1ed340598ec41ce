//! HELLO, SELECT and RESET: the dialect of a connection and its database, and back to how it began.

use super::auth::WRONG_PASSWORD;
use super::{Arguments, integer};
use crate::flavour::Flavour;
use crate::proxy::Proxy;
use crate::state::Mute;
use crate::streams::Streams;

/// The version that HELLO names: that of the commands the proxy knows. What the servers are is told by INFO.
pub(crate) const REDIS_VERSION: &str = "7.0.0";

const NO_AUTH: &str = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n";
const NO_PROTOCOL: &str = "-NOPROTO unsupported protocol version\r\n";
const NO_VERSION: &str = "-ERR Protocol version is not an integer or out of range\r\n";

/// What a HELLO asks for.
#[derive(Default)]
struct Wishes<'a> {
    is_resp3: Option<bool>,
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

/// Why a HELLO cannot be understood.
enum Misfit<'a> {
    Text(&'static str),
    Option(&'a [u8]),
}

impl<'a> Wishes<'a> {
    fn read(arguments: Arguments<'a>) -> Result<Self, Misfit<'a>> {
        let mut wishes = Self::default();
        let mut words = arguments.from(1);
        if let Some(version) = words.next() {
            wishes.is_resp3 = match integer(version) {
                Some(2) => Some(false),
                Some(3) => Some(true),
                Some(_) => return Err(Misfit::Text(NO_PROTOCOL)),
                None => return Err(Misfit::Text(NO_VERSION)),
            };
        }
        while let Some(option) = words.next() {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"AUTH")
                && let (Some(user), Some(password)) = (words.next(), words.next())
            {
                wishes.login = Some((user, password));
            } else if is(b"SETNAME")
                && let Some(name) = words.next()
            {
                wishes.name = Some(name);
            } else {
                return Err(Misfit::Option(option));
            }
        }
        Ok(wishes)
    }
}

impl Proxy {
    pub(super) fn hello<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        arguments: Arguments<'_>,
    ) {
        let before = self.clients[client as usize].flavour;
        let fulfilled = Wishes::read(arguments)
            .and_then(|wishes| self.fulfil(client, &wishes).map_err(Misfit::Text));
        match fulfilled {
            Ok(()) => self.introduce(streams, client, before),
            Err(Misfit::Text(text)) => self.answer_text(streams, client, text),
            Err(Misfit::Option(option)) => {
                let mut reply = self.reply_to(client);
                reply.error("-ERR Syntax error in HELLO option '", option, "'\r\n");
                let reply = reply.finish();
                self.answer_chain(streams, client, reply);
            }
        }
    }

    fn fulfil(&mut self, client: u32, wishes: &Wishes<'_>) -> Result<(), &'static str> {
        if let Some((user, password)) = wishes.login
            && !self.log_in(client, user, password)
        {
            return Err(WRONG_PASSWORD);
        }
        if self.is_locked_out(client) {
            return Err(NO_AUTH);
        }
        if let Some(name) = wishes.name {
            self.name_client(client, name)?;
        }
        if let Some(is_resp3) = wishes.is_resp3 {
            let state = &mut self.clients[client as usize];
            state.flavour = state.flavour.in_dialect(is_resp3);
        }
        Ok(())
    }

    fn introduce<S: Streams>(&mut self, streams: &mut S, client: u32, before: Flavour) {
        let state = &self.clients[client as usize];
        let (id, is_resp3) = (state.id, state.flavour.is_resp3());
        let mut reply = self.reply_to(client);
        reply.map(7);
        for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
            reply.bulk(key.as_bytes());
            reply.bulk(value.as_bytes());
        }
        reply.bulk(b"proto");
        reply.integer(if is_resp3 { 3 } else { 2 });
        reply.bulk(b"id");
        reply.integer(id);
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            reply.bulk(key.as_bytes());
            reply.bulk(value.as_bytes());
        }
        reply.bulk(b"modules");
        reply.array(0);
        let reply = reply.finish();
        if reply.is_none() {
            // Without room for the reply it gets an error, and must not find another dialect behind that.
            self.clients[client as usize].flavour = before;
        }
        self.answer_chain(streams, client, reply);
    }

    /// The database that SELECT asks for, or why there is none.
    fn database(&mut self, client: u32, arguments: Arguments<'_>) -> Result<u16, &'static str> {
        let databases = self.pool_of(client).databases;
        let number = integer(arguments.get(1))
            .and_then(|number| i32::try_from(number).ok())
            .ok_or("-ERR value is not an integer or out of range\r\n")?;
        u16::try_from(number)
            .ok()
            .filter(|&database| database < databases)
            .ok_or("-ERR DB index is out of range\r\n")
    }

    /// Whether SELECT asks for another database than the client has.
    pub(super) fn selects_another(&mut self, client: u32, arguments: Arguments<'_>) -> bool {
        let state = &self.clients[client as usize];
        let present = state.flavour.database(&self.pools[state.pool as usize]);
        self.database(client, arguments)
            .is_ok_and(|wanted| wanted != present)
    }

    pub(super) fn select(&mut self, client: u32, arguments: Arguments<'_>) -> &'static str {
        match self.database(client, arguments) {
            Ok(database) => {
                let state = &mut self.clients[client as usize];
                let pool = &self.pools[state.pool as usize];
                state.flavour = Flavour::redis(state.flavour.is_resp3(), database, pool);
                "+OK\r\n"
            }
            Err(text) => text,
        }
    }

    /// RESET: the connection is as it was when it was accepted.
    pub(super) fn reset_session(&mut self, client: u32) -> &'static str {
        self.forget_identity(client);
        let state = &mut self.clients[client as usize];
        state.authenticated = false;
        state.flavour = Flavour::PLAIN;
        state.mute = Mute::No;
        "+RESET\r\n"
    }
}
