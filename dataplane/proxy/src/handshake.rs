//! What a new server connection says before the first request: who the proxy is, which dialect it speaks, and which database it
//! wants. A connection whose server refuses any of it is of no use, and ends.
//!
//! Requests may follow a password at once: without it the server executes none. They wait for the rest: behind a SELECT that was
//! refused they would change database 0. When it fails, the clients that wait for it are told why, and so is who comes soon after.

use crate::fault::Fault;
use crate::flavour::Flavour;
use crate::limits::GREETING_RETRY_US;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::state::{Entry, Target};
use crate::streams::{StreamId, Streams};
use tidegate_config::Protocol;
use tidegate_protocol::ReplyShape;

/// One thing that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// AUTH.
    Auth,
    /// HELLO 3.
    Resp3,
    /// SELECT.
    Select,
}

impl Greeting {
    /// What it means when the server refuses it.
    pub fn refused(self) -> Fault {
        match self {
            Self::Auth => Fault::Unauthorized,
            Self::Resp3 => Fault::NoResp3,
            Self::Select => Fault::NoDatabase,
        }
    }
}

impl Proxy {
    /// Says everything that belongs to the connection's flavour.
    pub(crate) fn greet<S: Streams>(&mut self, streams: &mut S, link: u32, flavour: Flavour) {
        let state = &self.links[link as usize];
        let stream = state.stream;
        let pool = &self.pools[self.servers[state.server as usize].pool as usize];
        if pool.protocol == Protocol::Memcached {
            // The first byte of the first request says everything.
            return;
        }
        let database = flavour.database(pool);
        if let Some(secret) = &pool.server_auth {
            let password = secret.reveal().as_bytes();
            match &pool.server_user {
                Some(user) => say(streams, stream, &[b"AUTH", user.as_bytes(), password]),
                None => say(streams, stream, &[b"AUTH", password]),
            }
            self.expect_greeting(link, Greeting::Auth);
        }
        if flavour.is_resp3() {
            // Without the password, so that a refusal tells what was refused.
            say(streams, stream, &[b"HELLO", b"3"]);
            self.expect_greeting(link, Greeting::Resp3);
        }
        if database != 0 {
            let database = itoa(usize::from(database));
            say(streams, stream, &[b"SELECT", database.bytes()]);
            self.expect_greeting(link, Greeting::Select);
        }
    }

    fn expect_greeting(&mut self, link: u32, greeting: Greeting) {
        self.links[link as usize].greetings += u8::from(greeting != Greeting::Auth);
        let entry = Entry::new(Target::Handshake(greeting), ReplyShape::Resp);
        self.enqueue(link, entry, 0);
    }
}

impl Proxy {
    /// The server has taken what was said.
    pub(crate) fn greeting_taken(&mut self, link: u32, greeting: Greeting) {
        self.links[link as usize].greetings -= u8::from(greeting != Greeting::Auth);
    }

    /// Why no connection of this flavour can be opened now.
    pub(crate) fn refusal(&self, server: u16, flavour: Flavour) -> Option<Fault> {
        let (until_us, fault) = self.servers[server as usize].refused[flavour.index()]?;
        (self.now_us < until_us).then_some(fault)
    }

    /// A connection ends. If clients wait for what was said on it, they are told why.
    pub(crate) fn note_refusal(&mut self, link: u32, fault: Fault) {
        let state = &self.links[link as usize];
        if state.greetings > 0 {
            let until_us = self.now_us + GREETING_RETRY_US;
            let server = &mut self.servers[state.server as usize];
            server.refused[state.flavour.index()] = Some((until_us, fault));
        }
    }
}

/// Sends a command.
fn say<S: Streams>(streams: &mut S, stream: StreamId, words: &[&[u8]]) {
    streams.send(stream, b"*");
    streams.send(stream, itoa(words.len()).bytes());
    for word in words {
        for part in [b"\r\n$", itoa(word.len()).bytes(), b"\r\n", word] {
            streams.send(stream, part);
        }
    }
    streams.send(stream, b"\r\n");
}
