//! What was asked, what servers were told and what clients were answered: the promises are asserted over these.

use crate::value;
use serde::{Deserialize, Serialize};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// When, in microseconds.
    pub at_us: u64,
    /// How.
    pub how: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "at {}.{:06} s: {}",
            self.at_us / 1_000_000,
            self.at_us % 1_000_000,
            self.how
        )
    }
}

/// No shared key.
const NO_KEY: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Token {
    /// The shared key that the request writes, if it does.
    writes: u16,
    /// How often servers got it.
    executed: u8,
}

/// Sums over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests that clients were given to ask.
    pub asked: u64,
    /// Replies that fitted.
    pub answered: u64,
    /// Errors in their place.
    pub errors: u64,
    /// Requests whose connection closed before.
    pub closed: u64,
    /// Keys that servers got.
    pub executed: u64,
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.errors += other.errors;
        self.closed += other.closed;
        self.executed += other.executed;
    }
}

/// The books.
#[derive(Debug, Default)]
pub struct Books {
    tokens: Vec<Token>,
    /// The sums.
    pub tally: Tally,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
    /// The present.
    pub now_us: u64,
}

impl Books {
    /// A token for one key of a request.
    pub fn token(&mut self) -> u64 {
        self.tokens.push(Token {
            writes: NO_KEY,
            executed: 0,
        });
        self.tokens.len() as u64 - 1
    }

    /// A token whose value is written to a shared key.
    pub fn writing(&mut self, key: u64) -> u64 {
        let token = self.token();
        self.tokens[token as usize].writes = key as u16;
        token
    }

    /// A server got a request with this token.
    pub fn execute(&mut self, token: u64) {
        self.tally.executed += 1;
        let Some(entry) = self.tokens.get_mut(token as usize) else {
            self.break_promise(format!("a server got token {token}, which nobody has"));
            return;
        };
        entry.executed = entry.executed.saturating_add(1);
        if entry.executed > 1 {
            self.break_promise(format!("servers got token {token} twice"));
        }
    }

    /// Whether a server has got a request with this token.
    pub fn was_executed(&self, token: u64) -> bool {
        self.tokens
            .get(token as usize)
            .is_some_and(|entry| entry.executed > 0)
    }

    /// A server is to store `value` under a shared key. Returns its token.
    pub fn store(&mut self, key: u64, value: &[u8]) -> Option<u64> {
        match value::read(value) {
            Some((named, token)) if named == key && self.writes(token, key) => {
                self.execute(token);
                Some(token)
            }
            _ => {
                let front = value[..value.len().min(40)].escape_ascii();
                self.break_promise(format!(
                    "a server was told to store under key {key} what nobody wrote there: {front}"
                ));
                None
            }
        }
    }

    /// Whether somebody was given to write this token to this key.
    pub fn writes(&self, token: u64, key: u64) -> bool {
        self.tokens
            .get(token as usize)
            .is_some_and(|entry| u64::from(entry.writes) == key)
    }

    /// Notes the first promise that is broken.
    pub fn break_promise(&mut self, how: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken {
                at_us: self.now_us,
                how,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_servers_get_twice_is_a_promise_broken() {
        let mut books = Books::default();
        let token = books.token();
        books.execute(token);
        assert_eq!(books.broken, None);
        books.execute(token);
        assert!(books.broken.is_some());
    }

    #[test]
    fn what_nobody_wrote_is_not_stored() {
        let mut books = Books::default();
        let token = books.writing(3);
        let mut bytes = Vec::new();
        value::write(&mut bytes, Some(3), token, value::bytes_of(token));
        assert_eq!(books.store(4, &bytes), None);
        assert!(books.broken.take().is_some());
        assert_eq!(books.store(3, &bytes), Some(token));
        assert_eq!(books.broken, None);
    }
}
