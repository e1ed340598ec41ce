//! The client that asks little.

use crate::client::resp::{Redis, Value};
use crate::outcome::percentile;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two of its requests.
const PAUSE: Duration = Duration::from_micros(500);

/// How long a reply may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it was told, and how fast.
#[derive(Clone, Debug, Default)]
pub struct Quiet {
    /// How long each request took, sorted.
    pub times: Vec<Duration>,
    /// Replies that were errors, and connections that broke or were refused.
    pub errors: u64,
    /// Replies that were anything else than what was stored.
    pub wrong: u64,
}

impl Quiet {
    /// Asks one thing after the other for a time, on one connection; where it breaks, on another.
    pub fn ask(pool: SocketAddr, lasts: Duration) -> Self {
        let mut quiet = Self::default();
        let end = Instant::now() + lasts;
        let mut number = 0u64;
        while Instant::now() < end {
            if quiet.talk(pool, end, &mut number).is_err() {
                quiet.errors += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        quiet.times.sort_unstable();
        quiet
    }

    fn talk(&mut self, pool: SocketAddr, end: Instant, number: &mut u64) -> std::io::Result<()> {
        let mut client = Redis::open(pool)?;
        client.connection.wait_at_most(PATIENCE)?;
        while Instant::now() < end {
            *number += 1;
            let value = number.to_string();
            let began = Instant::now();
            let stored = client.ask(&[b"SET", b"quiet", value.as_bytes()])?;
            let between = Instant::now();
            let read = client.ask(&[b"GET", b"quiet"])?;
            self.times.push(between - began);
            self.times.push(between.elapsed());
            for (reply, expected) in [(stored, Value::ok()), (read, Value::bulk(value.as_bytes()))]
            {
                if reply.is_error("") {
                    self.errors += 1;
                } else if reply != expected {
                    self.wrong += 1;
                }
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The time that `permille` of a thousand requests took at most.
    pub fn percentile(&self, permille: usize) -> Duration {
        percentile(&self.times, permille).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let quiet = Quiet {
            times: (0..=1_000).map(Duration::from_micros).collect(),
            ..Quiet::default()
        };
        assert_eq!(quiet.percentile(500), Duration::from_micros(500));
        assert_eq!(quiet.percentile(990), Duration::from_micros(990));
        assert_eq!(Quiet::default().percentile(990), Duration::ZERO);
    }
}
