//! Requests that the proxy answers itself.

use crate::links::itoa;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::streams::Streams;
use tidegate_config::Protocol;
use tidegate_protocol::{Local, Request};

/// Longest PING message that is echoed and longest password that is compared: both are copied to the stack, and no
/// health check or secret is longer.
const ARGUMENT_BYTES_MAX: usize = 1024;

impl Proxy {
    pub(crate) fn answer_locally<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        local: Local,
    ) -> bool {
        let counters = &mut self.pool_of(client).counters;
        counters.requests += 1;
        counters.requests_local += 1;
        let mut argument = [0; ARGUMENT_BYTES_MAX];
        let length = self.with_bytes(streams, client, source, |bytes| {
            let key = bytes.get(request.key.clone()).unwrap_or_default();
            argument
                .iter_mut()
                .zip(key)
                .for_each(|(to, from)| *to = *from);
            key.len()
        });
        self.drop_request(streams, client, source, request.bytes);
        let argument = argument.get(..length);
        if local == Local::Ping && request.argc > 1 {
            self.echo(streams, client, argument);
            return true;
        }
        let text = match local {
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
            Local::Auth => self.authenticate(client, argument),
            Local::Select if argument == Some(b"0") => "+OK\r\n",
            Local::Select => "-ERR DB index is out of range (the proxy serves database 0)\r\n",
            // `dispatch` knows what becomes of the others.
            _ => "",
        };
        if !text.is_empty() {
            self.answer_text(streams, client, text);
        }
        true
    }

    fn echo<S: Streams>(&mut self, streams: &mut S, client: u32, message: Option<&[u8]>) {
        let Some(message) = message else {
            return self.answer_text(
                streams,
                client,
                "-ERR the proxy echoes at most 1024 bytes\r\n",
            );
        };
        let mut line = [0u8; ARGUMENT_BYTES_MAX + 32];
        let head = itoa(message.len());
        let mut at = 0;
        for part in [b"$", head.bytes(), b"\r\n", message, b"\r\n"] {
            line[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.answer_bytes(streams, client, &line[..at]);
    }

    fn authenticate(&mut self, client: u32, password: Option<&[u8]>) -> &'static str {
        let Some(secret) = &self.pool_of(client).client_auth else {
            return "-ERR Client sent AUTH, but no password is set\r\n";
        };
        let right = password.is_some_and(|password| same(password, secret.reveal().as_bytes()));
        self.clients[client as usize].authenticated = right;
        if right {
            "+OK\r\n"
        } else {
            "-ERR invalid password\r\n"
        }
    }
}

/// Compares without telling by its duration where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b));
    left.len() == right.len() && differences == 0
}
