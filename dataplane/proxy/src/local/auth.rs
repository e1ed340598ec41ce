//! AUTH: who the client is.

use super::Arguments;
use crate::proxy::Proxy;

/// The user whom `AUTH password` means.
const DEFAULT_USER: &str = "default";

/// The reply to the wrong password, or to a user who is not there: which of the two is not told.
pub(super) const WRONG_PASSWORD: &str =
    "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NO_PASSWORD: &str = "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n";

impl Proxy {
    pub(super) fn authenticate(&mut self, client: u32, arguments: Arguments<'_>) -> &'static str {
        if self.pool_of(client).twemproxy {
            return self.authenticate_as_twemproxy(client, arguments.get(1));
        }
        let (user, password) = if arguments.count() > 2 {
            (arguments.get(1), arguments.get(2))
        } else if self.pool_of(client).client_auth.is_none() {
            return NO_PASSWORD;
        } else {
            (DEFAULT_USER.as_bytes(), arguments.get(1))
        };
        if self.log_in(client, user, password) {
            "+OK\r\n"
        } else {
            WRONG_PASSWORD
        }
    }

    /// Whether these are the user and the password that the pool wants. A failure takes nothing from a client that was let in before.
    pub(super) fn log_in(&mut self, client: u32, user: &[u8], password: &[u8]) -> bool {
        let pool = self.pool_of(client);
        let expected = pool.client_user.as_deref().unwrap_or(DEFAULT_USER);
        let is_user = same(user, expected.as_bytes());
        let right = match &pool.client_auth {
            Some(secret) => is_user & same(password, secret.reveal().as_bytes()),
            // Without a password any will do, as in Redis for a user with `nopass`.
            None => is_user,
        };
        self.clients[client as usize].authenticated |= right;
        right
    }

    fn authenticate_as_twemproxy(&mut self, client: u32, password: &[u8]) -> &'static str {
        let Some(secret) = &self.pool_of(client).client_auth else {
            return "-ERR Client sent AUTH, but no password is set\r\n";
        };
        let right = same(password, secret.reveal().as_bytes());
        self.clients[client as usize].authenticated = right;
        if right {
            "+OK\r\n"
        } else {
            "-ERR invalid password\r\n"
        }
    }

    /// Whether the client may not do more than log in.
    pub(crate) fn is_locked_out(&mut self, client: u32) -> bool {
        !self.clients[client as usize].authenticated && self.pool_of(client).client_auth.is_some()
    }
}

/// Compares without telling by its duration where the difference is.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b));
    left.len() == right.len() && differences == 0
}
