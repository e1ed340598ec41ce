//! The model as text for Prometheus: a pure function. Names follow its rules: base units, `_total` on counters, one family after the
//! other with its help and type. The end of the text is marked as OpenMetrics wants it, which Prometheus takes for a comment.

use super::model::{Latency, PoolStats, ServerStats, Stats, Windows, WorkerStats};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use tidegate_channel::counter_row::{CounterRow, Kind};
use tidegate_channel::counters::{
    LoopCounters, PoolCounters, ProcessCounters, QueueCounters, ServerCounters, SocketCounters,
    StackCounters,
};
use tidegate_channel::histogram::Histogram;

/// Bounds of the buckets, in microseconds: powers of two from 16 µs to a minute, each exact.
const BOUNDS_US: std::ops::RangeInclusive<u32> = 4..=26;

/// Families in the order of their first line.
#[derive(Default)]
struct Families {
    order: Vec<String>,
    lines: BTreeMap<String, String>,
}

/// Renders the model.
pub fn render(stats: &Stats) -> String {
    let mut families = Families::default();
    instance(stats, &mut families);
    for pool in &stats.pools {
        self::pool(pool, &mut families);
    }
    for worker in &stats.workers {
        self::worker(worker, &mut families);
    }
    for port in &stats.ports {
        let interface = ("interface", port.interface.as_str());
        for (verdict, frames) in &port.verdicts {
            families.counter(
                "tidegate_steering_frames_total",
                "frames by what the steering program decided",
                &[interface, ("verdict", verdict)],
                frames,
            );
        }
        for (name, frames) in &port.device {
            families.counter(
                "tidegate_device_frames_total",
                "frames that the interface itself dropped or failed to send, since it exists",
                &[interface, ("reason", name)],
                frames,
            );
        }
    }
    families.text()
}

fn instance(stats: &Stats, families: &mut Families) {
    families.gauge(
        "tidegate_info",
        "what runs",
        &[("name", &stats.name), ("version", &stats.version)],
        &1,
    );
    families.gauge(
        "tidegate_uptime_seconds",
        "since the manager started",
        &[],
        &stats.uptime_s,
    );
    families.gauge(
        "tidegate_draining",
        "1 while the instance ends",
        &[],
        &u8::from(stats.state == "draining"),
    );
    let control = &stats.control;
    for (outcome, count) in [
        ("taken", control.requests),
        ("foreign", control.refused_foreign),
        ("malformed", control.refused_malformed),
        ("crowded", control.refused_crowded),
        ("timed_out", control.timed_out),
    ] {
        families.counter(
            "tidegate_control_requests_total",
            "requests on the control socket, by what became of them",
            &[("outcome", outcome)],
            &count,
        );
    }
}

fn pool(pool: &PoolStats, families: &mut Families) {
    let of_pool = ("pool", pool.name.as_str());
    families.rows(PoolCounters::ROWS, &pool.counters.words(), &[of_pool]);
    families.counter(
        "tidegate_pool_errors_total",
        "requests answered with an error, whoever made it",
        &[of_pool],
        &pool.errors,
    );
    families.counter(
        "tidegate_pool_request_bytes_total",
        "bytes of requests taken",
        &[of_pool],
        &pool.request_bytes,
    );
    families.counter(
        "tidegate_pool_reply_bytes_total",
        "bytes of replies delivered",
        &[of_pool],
        &pool.reply_bytes,
    );
    families.quantiles(
        "tidegate_pool_latency_quantile_seconds",
        "from a request taken to its reply delivered: what this part of replies did not exceed",
        &[of_pool],
        &latencies(&pool.rates),
    );
    families.histogram(
        "tidegate_pool_latency_seconds",
        "from a request taken to its reply delivered",
        &[of_pool],
        &pool.latency,
    );
    for command in &pool.commands {
        let labels = [of_pool, ("command", command.name.as_str())];
        for (name, help, value) in [
            ("requests", "requests taken", command.requests),
            ("errors", "requests answered with an error", command.errors),
            (
                "request_bytes",
                "bytes of requests taken",
                command.request_bytes,
            ),
            (
                "reply_bytes",
                "bytes of replies delivered",
                command.reply_bytes,
            ),
        ] {
            let family = format!("tidegate_command_{name}_total");
            families.counter(&family, help, &labels, &value);
        }
        families.histogram(
            "tidegate_command_latency_seconds",
            "from a request taken to its reply delivered",
            &labels,
            &command.latency,
        );
    }
    for server in &pool.servers {
        self::server(of_pool, server, families);
    }
}

fn server(of_pool: (&str, &str), server: &ServerStats, families: &mut Families) {
    let labels = [
        of_pool,
        ("server", server.name.as_str()),
        ("address", server.address.as_str()),
    ];
    families.rows(ServerCounters::ROWS, &server.counters.words(), &labels);
    families.gauge(
        "tidegate_server_unreachable",
        "1 while there is no route to it or no neighbour that leads there",
        &labels,
        &u8::from(server.unreachable.is_some()),
    );
    families.quantiles(
        "tidegate_server_latency_quantile_seconds",
        "from a request sent to its reply: what this part of replies did not exceed",
        &labels,
        &latencies(&server.rates),
    );
    families.histogram(
        "tidegate_server_latency_seconds",
        "from a request sent to its reply",
        &labels,
        &server.latency,
    );
}

fn worker(worker: &WorkerStats, families: &mut Families) {
    let number = worker.worker.to_string();
    let of_worker = ("worker", number.as_str());
    families.gauge(
        "tidegate_worker_up",
        "1 while its process serves",
        &[of_worker],
        &u8::from(worker.state == "running"),
    );
    let processes = ProcessCounters {
        restarts: worker.restarts,
        hung: worker.hung,
        forbidden_calls: worker.forbidden_calls,
    };
    families.rows(ProcessCounters::ROWS, &processes.words(), &[of_worker]);
    families.gauge(
        "tidegate_worker_busy_ratio",
        "part of the last ten seconds in which there was something to do",
        &[of_worker],
        &(worker.rates.ten_seconds.busy_percent / 100.0),
    );
    families.rows(LoopCounters::ROWS, &worker.poll_loop.words(), &[of_worker]);
    families.rows(StackCounters::ROWS, &worker.stack.words(), &[of_worker]);
    families.rows(SocketCounters::ROWS, &worker.sockets.words(), &[of_worker]);
    for queue in &worker.queues {
        let number = queue.queue.to_string();
        let labels = [
            ("interface", queue.interface.as_str()),
            ("queue", number.as_str()),
            of_worker,
        ];
        families.rows(QueueCounters::ROWS, &queue.counters.words(), &labels);
    }
}

/// The windows whose percentiles are told beside the histogram. The others can be had from that.
fn latencies(rates: &Windows<super::model::Rates>) -> [(&'static str, Option<Latency>); 2] {
    [
        ("10s", rates.ten_seconds.latency),
        ("60s", rates.minute.latency),
    ]
}

impl Families {
    /// The lines of a family; its head is written with the first.
    fn lines(&mut self, name: &str, kind: &str, help: &str) -> &mut String {
        if !self.lines.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.lines
            .entry(name.to_owned())
            .or_insert_with(|| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"))
    }

    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: &dyn Display) {
        sample(self.lines(name, "counter", help), name, labels, value);
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: &dyn Display) {
        sample(self.lines(name, "gauge", help), name, labels, value);
    }

    /// Counters of the table.
    fn rows(&mut self, rows: &[CounterRow], words: &[u64], labels: &[(&str, &str)]) {
        for (row, word) in rows.iter().zip(words) {
            let name = row.metric();
            let seconds;
            let value: &dyn Display = match row.unit.per_second() {
                None | Some(1) => word,
                Some(units) => {
                    seconds = *word as f64 / units as f64;
                    &seconds
                }
            };
            match row.kind {
                Kind::Counter => self.counter(&name, row.help, labels, value),
                Kind::Gauge => self.gauge(&name, row.help, labels, value),
            }
        }
    }

    fn quantiles(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        windows: &[(&str, Option<Latency>)],
    ) {
        // Nobody asked: there is nothing to tell, and zero would be a lie.
        let known = windows
            .iter()
            .filter_map(|(name, latency)| Some((name, (*latency)?)));
        for (window, latency) in known {
            for (quantile, us) in latency.quantiles() {
                let mut labels = labels.to_vec();
                labels.extend([("quantile", quantile), ("window", window)]);
                self.gauge(name, help, &labels, &seconds(us));
            }
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
    ) {
        let lines = self.lines(name, "histogram", help);
        let (bucket, count) = (format!("{name}_bucket"), histogram.count());
        let mut sample_below = |bound: &str, below: u64| {
            let mut labels = labels.to_vec();
            labels.push(("le", bound));
            sample(lines, &bucket, &labels, &below);
        };
        for power in BOUNDS_US {
            let us = 1_u64 << power;
            sample_below(&seconds(us).to_string(), histogram.count_below(us));
        }
        sample_below("+Inf", count);
        let sum = seconds(histogram.sum_us);
        sample(lines, &format!("{name}_sum"), labels, &sum);
        sample(lines, &format!("{name}_count"), labels, &count);
    }

    fn text(self) -> String {
        let mut out = String::new();
        for name in &self.order {
            out.push_str(&self.lines[name]);
        }
        out.push_str("# EOF\n");
        out
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// One line.
fn sample(lines: &mut String, name: &str, labels: &[(&str, &str)], value: &dyn Display) {
    lines.push_str(name);
    for (index, (label, text)) in labels.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        let _infallible = write!(lines, "{before}{label}=\"");
        for character in text.chars() {
            match character {
                '\\' => lines.push_str("\\\\"),
                '"' => lines.push_str("\\\""),
                '\n' => lines.push_str("\\n"),
                other => lines.push(other),
            }
        }
        lines.push('"');
    }
    if !labels.is_empty() {
        lines.push('}');
    }
    let _infallible = writeln!(lines, " {value}");
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
pub(super) mod tests;
