//! The model: everything that `tidegate stats`, the status page, `top` and `/metrics` show. Its JSON is what scripts read: fields are
//! only ever added.
//!
//! Counters are sums since the instance started; those of workers that ended are in them, and a manager that adopts goes on with
//! them. Times are from a request taken to its reply delivered, or, of servers, from a request sent to its reply. A percentile is the
//! upper end of its bucket, at most an eighth above the value itself.

use crate::control::server::ControlCounters;
use crate::status::report::PortReport;
use serde::{Deserialize, Serialize};
use tidegate_channel::counters::{
    LinkCounters, LoopCounters, PoolCounters, QueueCounters, ServerCounters, SocketCounters,
    StackCounters,
};
use tidegate_channel::histogram::Histogram;
use tidegate_channel::message::ObtainedMode;

/// Everything about an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Name of the instance.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Name of the host.
    pub host: String,
    /// Process of the manager.
    pub pid: u32,
    /// `running` or `draining`.
    pub state: String,
    /// When this was put together, milliseconds since 1970.
    pub unix_ms: u64,
    /// Seconds since the manager started.
    pub uptime_s: u64,
    /// Over all pools.
    pub total: TotalStats,
    /// One per pool, in the order of the configuration.
    pub pools: Vec<PoolStats>,
    /// One per worker.
    pub workers: Vec<WorkerStats>,
    /// One per port, in the order of the configuration; none over kernel sockets.
    pub ports: Vec<PortReport>,
    /// What clients of the control socket did.
    #[serde(default)]
    pub control: ControlCounters,
}

/// All pools together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TotalStats {
    /// Clients connected.
    pub clients: u64,
    /// Connections to servers.
    pub server_connections: u64,
    /// Clients accepted.
    pub client_connections: u64,
    /// Connections to servers that were tried.
    pub server_connects: u64,
    /// Requests taken.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// How much of what is asked for, and how long it takes.
    pub rates: Windows<Rates>,
}

/// The same over several times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Windows<T> {
    /// The last second.
    #[serde(rename = "1s")]
    pub second: T,
    /// The last ten seconds.
    #[serde(rename = "10s")]
    pub ten_seconds: T,
    /// The last minute.
    #[serde(rename = "60s")]
    pub minute: T,
    /// Since the manager started.
    #[serde(rename = "start")]
    pub start: T,
}

impl<T> Windows<T> {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, &T); 4] {
        [
            ("1s", &self.second),
            ("10s", &self.ten_seconds),
            ("60s", &self.minute),
            ("start", &self.start),
        ]
    }
}

/// What was asked for in a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// The time, in seconds: as near to the window as there are samples.
    pub seconds: f64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// Requests per second answered with an error.
    pub errors_per_s: f64,
    /// Bytes of requests per second.
    pub request_bytes_per_s: f64,
    /// Bytes of replies per second.
    pub reply_bytes_per_s: f64,
    /// How long replies took. `None`: there were none.
    pub latency: Option<Latency>,
}

/// How long replies took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Latency {
    /// Number of replies.
    pub count: u64,
    /// Mean, exact.
    pub mean_us: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p95_us: u64,
    pub p98_us: u64,
    pub p99_us: u64,
    #[serde(rename = "p99.9_us")]
    pub p99_9_us: u64,
    pub max_us: u64,
}

impl Latency {
    /// Of a histogram; `None`: it is empty.
    pub fn of(histogram: &Histogram) -> Option<Self> {
        let count = histogram.count();
        let quantile = |per_mille| histogram.quantile_us(per_mille);
        Some(Self {
            count,
            mean_us: histogram.sum_us.checked_div(count)?,
            p50_us: quantile(500)?,
            p90_us: quantile(900)?,
            p95_us: quantile(950)?,
            p98_us: quantile(980)?,
            p99_us: quantile(990)?,
            p99_9_us: quantile(999)?,
            max_us: histogram.max_us()?,
        })
    }

    /// The percentiles with the part of replies that took no longer.
    pub fn quantiles(&self) -> [(&'static str, u64); 7] {
        [
            ("0.5", self.p50_us),
            ("0.9", self.p90_us),
            ("0.95", self.p95_us),
            ("0.98", self.p98_us),
            ("0.99", self.p99_us),
            ("0.999", self.p99_9_us),
            ("1", self.max_us),
        ]
    }
}

/// One pool, over all workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStats {
    /// Name.
    pub name: String,
    /// `redis` or `memcached`.
    pub protocol: String,
    /// Listening addresses.
    pub listen: Vec<String>,
    /// Its counters.
    pub counters: PoolCounters,
    /// Requests answered with an error, whoever made it.
    pub errors: u64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of replies.
    pub reply_bytes: u64,
    /// How much is asked for, and how long it takes.
    pub rates: Windows<Rates>,
    /// How long replies took since the start.
    pub latency: Histogram,
    /// The commands that were seen, by name. Those without a place of their own are `other`.
    pub commands: Vec<CommandStats>,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerStats>,
}

/// One command of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandStats {
    /// Its name, in small letters; a subcommand of Redis has its container's in front: `config|get`.
    pub name: String,
    /// Requests taken.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of replies.
    pub reply_bytes: u64,
    /// How much is asked for, and how long it takes.
    pub rates: Windows<Rates>,
    /// How long replies took since the start.
    pub latency: Histogram,
}

/// One server, over all workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStats {
    /// The name that is hashed.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Why it cannot be reached now; `None`: there is a path.
    pub unreachable: Option<String>,
    /// When it was last taken out of the distribution, as far as a look each second tells: milliseconds since 1970, 0: never.
    #[serde(default)]
    pub ejected_unix_ms: u64,
    /// Its counters.
    pub counters: ServerCounters,
    /// How much it is asked for, and how long it takes.
    pub rates: Windows<Rates>,
    /// How long replies took since the start.
    pub latency: Histogram,
}

/// One worker, over the processes that it had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// Its index: it serves this queue of every port.
    pub worker: u32,
    /// Its process; `None` while there is none.
    pub pid: Option<u32>,
    /// Its core; `None`: wherever the scheduler likes.
    pub core: Option<u32>,
    /// `starting`, `running`, `draining` or `waiting` (for its next start).
    pub state: String,
    /// Seconds since this process started.
    pub uptime_s: u64,
    /// Processes started after the first.
    pub restarts: u64,
    /// How often it was killed because its heartbeat stopped.
    pub hung: u64,
    /// How often it was killed because of a system call that it must not use.
    #[serde(default)]
    pub forbidden_calls: u64,
    /// How the process before this one ended.
    pub last_exit: Option<String>,
    /// How busy it is.
    pub rates: Windows<WorkerRates>,
    /// The poll loop's counters.
    #[serde(rename = "loop")]
    pub poll_loop: LoopCounters,
    /// The stack's counters.
    pub stack: StackCounters,
    /// Counters of kernel sockets, all zero on NICs.
    pub sockets: SocketCounters,
    /// Counters of the link layer, all zero where the kernel has it.
    #[serde(default)]
    pub link: LinkCounters,
    /// One per port; none over kernel sockets.
    pub queues: Vec<QueueStats>,
}

/// What a worker did in a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerRates {
    /// The time, in seconds.
    pub seconds: f64,
    /// The part of it in which there was something to do, per cent.
    pub busy_percent: f64,
    /// Requests per second, over all pools.
    pub requests_per_s: f64,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueStats {
    /// Name of the interface.
    pub interface: String,
    /// Number of the queue.
    pub queue: u32,
    /// How frames reach it; `None` while no worker has opened it.
    pub mode: Option<ObtainedMode>,
    /// How many frames pass.
    pub rates: Windows<QueueRates>,
    /// Its counters.
    pub counters: QueueCounters,
}

/// What passed a queue in a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueRates {
    /// The time, in seconds.
    pub seconds: f64,
    /// Frames received per second.
    pub rx_frames_per_s: f64,
    /// Bytes received per second.
    pub rx_bytes_per_s: f64,
    /// Frames sent per second.
    pub tx_frames_per_s: f64,
    /// Bytes sent per second.
    pub tx_bytes_per_s: f64,
    /// Frames lost per second, of either direction and for whatever reason.
    pub lost_per_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_told_in_percentiles() {
        assert_eq!(Latency::of(&Histogram::default()), None);
        let mut counts = vec![0; 40];
        counts[7] = 98;
        counts[39] = 2;
        let latency = Latency::of(&Histogram::from_counts(98 * 7 + 2 * 120, counts)).unwrap();
        assert_eq!((latency.count, latency.mean_us), (100, 9));
        assert_eq!(
            (latency.p98_us, latency.p99_us, latency.max_us),
            (7, 127, 127)
        );
        let text = serde_json::to_string(&latency).unwrap();
        assert!(text.contains("\"p99.9_us\":127"), "{text}");
    }
}
