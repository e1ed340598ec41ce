//! What the table says of a counter, and the name that Prometheus knows it by.

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, over restarts of workers too.
    Counter,
    /// How things stand.
    Gauge,
}

impl Kind {
    /// Whether it says how things stand.
    pub const fn is_gauge(self) -> bool {
        matches!(self, Self::Gauge)
    }

    /// As Prometheus calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// What is counted. It is the end of the counter's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things: the name says which.
    Count,
    /// `_bytes`.
    Bytes,
    /// `_s`.
    Seconds,
    /// `_us`.
    Microseconds,
    /// `_ns`.
    Nanoseconds,
}

impl Unit {
    const ENDS: [(&'static str, Self); 4] = [
        ("_bytes", Self::Bytes),
        ("_ns", Self::Nanoseconds),
        ("_us", Self::Microseconds),
        ("_s", Self::Seconds),
    ];

    /// The unit of a counter of this name.
    pub const fn of(name: &str) -> Self {
        let mut index = 0;
        while index < Self::ENDS.len() {
            let (end, unit) = Self::ENDS[index];
            if ends_with(name.as_bytes(), end.as_bytes()) {
                return unit;
            }
            index += 1;
        }
        Self::Count
    }

    /// As people say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
        }
    }

    /// How many of it make a second; `None`: it is no time.
    pub const fn per_second(self) -> Option<u64> {
        match self {
            Self::Count | Self::Bytes => None,
            Self::Seconds => Some(1),
            Self::Microseconds => Some(1_000_000),
            Self::Nanoseconds => Some(1_000_000_000),
        }
    }
}

/// `str::ends_with` for constants.
const fn ends_with(text: &[u8], end: &[u8]) -> bool {
    if text.len() < end.len() {
        return false;
    }
    let from = text.len() - end.len();
    let mut index = 0;
    while index < end.len() {
        if text[from + index] != end[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct CounterRow {
    /// What it is counted of: `pool`, `server`, `queue`, ….
    pub scope: &'static str,
    /// Name, as printed.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// One sentence.
    pub help: &'static str,
}

impl CounterRow {
    /// The name that Prometheus knows it by. Times are told in seconds there, and counters end in `_total`.
    pub fn metric(&self) -> String {
        let (scope, name) = (self.scope, self.name);
        let name = if self.unit.per_second().is_some() {
            let stem = name.rsplit_once('_').map_or(name, |(stem, _)| stem);
            format!("{stem}_seconds")
        } else {
            name.to_owned()
        };
        match self.kind {
            Kind::Counter => format!("tidegate_{scope}_{name}_total"),
            Kind::Gauge => format!("tidegate_{scope}_{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{
        LinkCounters, LoopCounters, PoolCounters, ProcessCounters, QueueCounters, ServerCounters,
        SocketCounters, StackCounters,
    };
    use std::collections::BTreeSet;

    fn rows() -> impl Iterator<Item = &'static CounterRow> {
        [
            QueueCounters::ROWS,
            StackCounters::ROWS,
            SocketCounters::ROWS,
            LinkCounters::ROWS,
            PoolCounters::ROWS,
            ServerCounters::ROWS,
            LoopCounters::ROWS,
            ProcessCounters::ROWS,
        ]
        .into_iter()
        .flatten()
    }

    fn metric(name: &str) -> String {
        let mut of_name = rows().filter(|row| row.name == name);
        of_name.next().unwrap().metric()
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        assert_eq!(metric("rx_frames"), "tidegate_queue_rx_frames_total");
        assert_eq!(metric("read_bytes"), "tidegate_socket_read_bytes_total");
        assert_eq!(metric("busy_ns"), "tidegate_loop_busy_seconds_total");
        assert_eq!(metric("paused_us"), "tidegate_loop_paused_seconds_total");
        assert_eq!(
            metric("started_unix_s"),
            "tidegate_loop_started_unix_seconds"
        );
        assert_eq!(metric("half_open"), "tidegate_tcp_half_open");
    }

    #[test]
    fn no_two_counters_have_the_same_metric() {
        let metrics: BTreeSet<String> = rows().map(CounterRow::metric).collect();
        assert_eq!(metrics.len(), rows().count());
    }

    #[test]
    fn gauges_end_with_their_process_and_counters_do_not() {
        let mut pool = PoolCounters {
            clients: 3,
            requests: 5,
            ..PoolCounters::default()
        };
        pool = pool.without_gauges();
        assert_eq!((pool.clients, pool.requests), (0, 5));
        pool.add(&PoolCounters {
            requests: u64::MAX,
            ..PoolCounters::default()
        });
        assert_eq!(pool.requests, u64::MAX);
    }
}
