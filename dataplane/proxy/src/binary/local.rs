//! What the proxy answers itself in pools of memcached, and who may ask.

use crate::local::auth::same;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::streams::Streams;
use tidegate_config::Protocol;
use tidegate_protocol::{BinaryStatus, Local, ReplyShape, Request};

/// Longest credentials that are compared: they are copied to the stack, and the parser of frames takes no longer ones.
const CREDENTIALS_BYTES_MAX: usize = 1024;

/// The one mechanism of SASL that there is.
const MECHANISM: &str = "PLAIN";

impl Proxy {
    /// Answers what only memcached has.
    #[cold]
    pub(crate) fn answer_memcached<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        local: Local,
    ) -> bool {
        let counters = self.count_request(client);
        counters.requests_local += 1;
        let right = matches!(local, Local::SaslAuth)
            && self.with_credentials(streams, client, source, request, |credentials, pool| {
                is_plain(credentials, &request.key, pool)
            });
        self.drop_request(streams, client, source, request.bytes);
        let ReplyShape::Binary(head) = request.reply else {
            self.answer_text(streams, client, "MN\r\n");
            return true;
        };
        let has_users = self.pool_of(client).client_auth.is_some();
        let (status, body) = match local {
            Local::SaslMechanisms if has_users => (BinaryStatus::Success, MECHANISM),
            Local::SaslAuth | Local::SaslStep if has_users => {
                self.clients[client as usize].authenticated = right;
                if right {
                    (BinaryStatus::Success, "Authenticated")
                } else {
                    (
                        BinaryStatus::Unauthorized,
                        BinaryStatus::Unauthorized.text(),
                    )
                }
            }
            Local::BinaryNoop => (BinaryStatus::Success, ""),
            Local::BinaryQuit => {
                self.clients[client as usize].closing = true;
                if head.is_quiet() {
                    return true;
                }
                (BinaryStatus::Success, "")
            }
            _ => (
                BinaryStatus::UnknownCommand,
                BinaryStatus::UnknownCommand.text(),
            ),
        };
        self.answer_frame(streams, client, head, status, body);
        true
    }

    /// Answers a request of a client that has not told who it is.
    ///
    /// In memcached's text protocol it does so with its first request: `set`, with any key, and user and password with a blank
    /// between them as the value.
    #[cold]
    pub(crate) fn refuse_unauthenticated<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let is_memcached = self.pool_of(client).protocol == Protocol::Memcached;
        let is_text = !matches!(request.reply, ReplyShape::Binary(_));
        let is_login = is_memcached && is_text && request.name == "set";
        let right =
            is_login && self.with_credentials(streams, client, source, request, is_login_block);
        self.drop_request(streams, client, source, request.bytes);
        let counters = self.count_request(client);
        if is_login {
            counters.requests_local += 1;
        } else {
            counters.requests_refused += 1;
        }
        if !is_login {
            let text = self.pool_of(client).no_auth();
            if matches!(request.reply, ReplyShape::Binary(_)) {
                self.answer_fault(streams, client, request, text);
            } else {
                self.answer_text(streams, client, text);
            }
            return true;
        }
        self.clients[client as usize].authenticated = right;
        let text = if right {
            "STORED\r\n"
        } else {
            "CLIENT_ERROR authentication failure\r\n"
        };
        self.answer_text(streams, client, text);
        true
    }

    /// Calls `f` with a request that tells who the client is, and with the user and password of its pool. False if there are none, or if the
    /// request is longer than any that is right.
    fn with_credentials<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        request: &Request,
        f: impl FnOnce(&[u8], (&[u8], &[u8])) -> bool,
    ) -> bool {
        let mut copy = [0; CREDENTIALS_BYTES_MAX + 512];
        let Some(copy) = copy.get_mut(..request.bytes) else {
            return false;
        };
        self.with_bytes(streams, client, source, |bytes| {
            copy.iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
        });
        let pool = self.pool_of(client);
        match (&pool.client_user, &pool.client_auth) {
            (Some(user), Some(secret)) => f(copy, (user.as_bytes(), secret.reveal().as_bytes())),
            _ => false,
        }
    }
}

/// Whether a frame has the mechanism PLAIN at `key`, and behind it, as RFC 4616 has it, `[authzid] NUL authcid NUL passwd`.
fn is_plain(frame: &[u8], key: &std::ops::Range<usize>, (user, password): (&[u8], &[u8])) -> bool {
    let mechanism = frame.get(key.clone()).unwrap_or_default();
    let message = frame.get(key.end..).unwrap_or_default();
    let mut parts = message.splitn(3, |&byte| byte == 0);
    let (_, given_user, given_password) = (parts.next(), parts.next(), parts.next());
    // Both are compared in any case, so that the time does not tell which one was wrong.
    let is_user = same(given_user.unwrap_or_default(), user);
    let is_password = same(given_password.unwrap_or_default(), password);
    mechanism == MECHANISM.as_bytes() && is_user & is_password
}

/// Whether the data block of a `set` is user, blank, password. memcached ignores further words.
fn is_login_block(request: &[u8], (user, password): (&[u8], &[u8])) -> bool {
    let line_end = request.iter().position(|&byte| byte == b'\n');
    let block = line_end.map_or(&[][..], |end| &request[end + 1..]);
    let block = block.strip_suffix(b"\r\n").unwrap_or(block);
    let mut words = block
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    let (given_user, given_password) = (words.next(), words.next());
    let is_user = same(given_user.unwrap_or_default(), user);
    let is_password = same(given_password.unwrap_or_default(), password);
    is_user & is_password
}
