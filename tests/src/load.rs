//! A load that checks every reply, and what it saw.

use crate::client::memcached::Memcached;
use crate::client::resp::{Redis, Value};
use crate::lab::servers::ServerKind;
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One request in this many writes, as caches are mostly read.
const READS_PER_WRITE: usize = 10;

/// Keys of each connection, unless so many could only be written.
const KEYS_MAX: usize = 100;

/// What to do. Every connection writes and reads keys of its own, so it knows what each reply has to be.
#[derive(Clone, Debug)]
pub struct Load {
    /// The protocol to speak.
    pub kind: ServerKind,
    /// Where to connect; connections take turns.
    pub targets: Vec<SocketAddr>,
    /// Connections at a time, one thread each.
    pub connections: usize,
    /// Requests of each connection.
    pub requests: usize,
    /// Size of the values.
    pub value_bytes: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Replies, wrong ones included.
    pub replies: usize,
    /// Replies that were not what had been stored, and connections that failed.
    pub wrong: usize,
    /// The first thing that was wrong, in words.
    pub first_wrong: Option<String>,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Of every request, in microseconds, sorted.
    pub latencies_us: Vec<u32>,
}

impl Report {
    /// The heads of the columns that [`Report::row`] has.
    pub fn head() -> String {
        format!(
            "{:<44} {:>10} {:>8} {:>9} {:>9} {:>9}",
            "load", "requests/s", "wrong", "p50 ms", "p99 ms", "max ms"
        )
    }

    /// A line for people.
    pub fn row(&self, name: &str) -> String {
        let ms = |share: f64| f64::from(self.percentile_us(share)) / 1_000.0;
        format!(
            "{name:<44} {:>10.0} {:>8} {:>9.3} {:>9.3} {:>9.3}",
            self.rate(),
            self.wrong,
            ms(0.5),
            ms(0.99),
            ms(1.0)
        )
    }

    /// Replies per second.
    pub fn rate(&self) -> f64 {
        self.replies as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency that `share` of all requests stayed below or at, in microseconds.
    pub fn percentile_us(&self, share: f64) -> u32 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us
            .get((last as f64 * share) as usize)
            .copied()
            .unwrap_or(0)
    }

    fn absorb(&mut self, other: Self) {
        self.replies += other.replies;
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.latencies_us.extend(other.latencies_us);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(what);
    }
}

/// A connection of either protocol.
enum Client {
    Memcached(Memcached),
    Redis(Redis),
}

impl Client {
    fn open(kind: ServerKind, to: SocketAddr) -> io::Result<Self> {
        Ok(match kind {
            ServerKind::Memcached => Self::Memcached(Memcached::open(to)?),
            ServerKind::Redis => Self::Redis(Redis::open(to)?),
        })
    }

    /// Stores a value; whether the reply says so.
    fn set(&mut self, key: &str, value: &[u8]) -> io::Result<bool> {
        match self {
            Self::Memcached(client) => Ok(client.set(key.as_bytes(), 0, value)? == "STORED"),
            Self::Redis(client) => Ok(client.ask(&[b"SET", key.as_bytes(), value])? == Value::ok()),
        }
    }

    /// Reads a value; whether it is `value`.
    fn get(&mut self, key: &str, value: &[u8]) -> io::Result<bool> {
        match self {
            Self::Memcached(client) => {
                let items = client.get(&[key.as_bytes()])?;
                Ok(items.len() == 1 && items[0].key == key.as_bytes() && items[0].value == value)
            }
            Self::Redis(client) => Ok(client.ask(&[b"GET", key.as_bytes()])? == Value::bulk(value)),
        }
    }
}

impl Load {
    /// Runs the load from the calling thread's namespace.
    pub fn run(&self) -> Result<Report> {
        let started = Instant::now();
        let mut whole = std::thread::scope(|scope| -> Result<Report> {
            let connections: Vec<_> = (0..self.connections)
                .map(|number| scope.spawn(move || self.run_connection(number)))
                .collect();
            let mut whole = Report::default();
            for connection in connections {
                whole.absorb(connection.join().ok().context("a load thread panicked")?);
            }
            Ok(whole)
        })?;
        whole.elapsed = started.elapsed();
        whole.latencies_us.sort_unstable();
        Ok(whole)
    }

    fn run_connection(&self, number: usize) -> Report {
        let mut report = Report::default();
        let to = self.targets[number % self.targets.len()];
        let mut client = match Client::open(self.kind, to) {
            Ok(client) => client,
            Err(error) => {
                report.note(|| format!("connecting to {to}: {error}"));
                return report;
            }
        };
        let keys = self.requests.div_ceil(READS_PER_WRITE).min(KEYS_MAX);
        let mut stored: Vec<Option<Vec<u8>>> = vec![None; keys];
        for request in 0..self.requests {
            let slot = request % keys;
            // Named after its target too: pools that share their servers do not find each other's values.
            let key = format!("load-{to}-{number}-{slot}");
            let sent = Instant::now();
            let outcome = match &stored[slot] {
                Some(value) if request % READS_PER_WRITE != 0 => client.get(&key, value),
                _ => {
                    let value = self.value(&key, request);
                    let outcome = client.set(&key, &value);
                    stored[slot] = Some(value);
                    outcome
                }
            };
            report
                .latencies_us
                .push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            match outcome {
                Ok(true) => report.replies += 1,
                Ok(false) => {
                    report.replies += 1;
                    report.note(|| format!("a wrong reply for {key} of connection {number}"));
                }
                Err(error) => {
                    report.note(|| format!("{key}: {error}"));
                    return report;
                }
            }
        }
        report
    }

    /// A value that names its key and the request that wrote it, filled up to size.
    fn value(&self, key: &str, request: usize) -> Vec<u8> {
        let mut value = format!("{key}-{request}-").into_bytes();
        value.resize(self.value_bytes.max(value.len()), b'.');
        value
    }
}
