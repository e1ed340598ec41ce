//! The model as text for Prometheus: a pure function. Names follow its rules: base units, `_total` on counters, one family after the
//! other with its help and type. In OpenMetrics a family of counters has the name without `_total`, and the text has a marked end.

use super::model::{Latency, PoolStats, ServerStats, Stats, Windows, WorkerStats};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use tidegate_channel::counter_row::CounterRow;
use tidegate_channel::counters::{
    LinkCounters, LoopCounters, PoolCounters, ProcessCounters, QueueCounters, ServerCounters,
    SocketCounters, StackCounters,
};
use tidegate_channel::histogram::Histogram;
use tidegate_channel::series::{self, Series};

/// Bounds of the buckets, in microseconds: powers of two from 16 µs to a minute, each exact.
const BOUNDS_US: std::ops::RangeInclusive<u32> = 4..=26;

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Families in the order of their first line.
struct Families {
    format: Format,
    order: Vec<String>,
    lines: BTreeMap<String, String>,
}

/// Renders the model.
pub fn render(stats: &Stats, format: Format) -> String {
    let mut families = Families {
        format,
        order: Vec::new(),
        lines: BTreeMap::new(),
    };
    instance(stats, &mut families);
    for pool in &stats.pools {
        self::pool(pool, &mut families);
    }
    for worker in &stats.workers {
        self::worker(worker, &mut families);
    }
    for port in &stats.ports {
        let interface = ("interface", port.interface.as_str());
        families.value(&series::LINK_DOWN, &[interface], &u8::from(port.link_down));
        families.value(
            &series::STEERING_BYPASSED,
            &[interface],
            &u8::from(port.bypassed.is_some()),
        );
        for (verdict, frames) in &port.verdicts {
            families.value(
                &series::STEERING_FRAMES,
                &[interface, ("verdict", verdict)],
                frames,
            );
        }
        for (name, frames) in &port.device {
            families.value(
                &series::DEVICE_FRAMES,
                &[interface, ("reason", name)],
                frames,
            );
        }
    }
    families.text()
}

fn instance(stats: &Stats, families: &mut Families) {
    families.value(
        &series::INFO,
        &[("name", &stats.name), ("version", &stats.version)],
        &1,
    );
    families.value(&series::UPTIME, &[], &stats.uptime_s);
    families.value(&series::DRAINING, &[], &u8::from(stats.state == "draining"));
    let control = &stats.control;
    for (outcome, count) in [
        ("taken", control.requests),
        ("foreign", control.refused_foreign),
        ("malformed", control.refused_malformed),
        ("crowded", control.refused_crowded),
        ("timed_out", control.timed_out),
    ] {
        families.value(&series::CONTROL_REQUESTS, &[("outcome", outcome)], &count);
    }
}

fn pool(pool: &PoolStats, families: &mut Families) {
    let of_pool = ("pool", pool.name.as_str());
    families.rows(PoolCounters::ROWS, &pool.counters.words(), &[of_pool]);
    families.value(&series::POOL_ERRORS, &[of_pool], &pool.errors);
    families.value(&series::POOL_REQUEST_BYTES, &[of_pool], &pool.request_bytes);
    families.value(&series::POOL_REPLY_BYTES, &[of_pool], &pool.reply_bytes);
    families.quantiles(&series::POOL_QUANTILES, &[of_pool], &latencies(&pool.rates));
    families.histogram(&series::POOL_LATENCY, &[of_pool], &pool.latency);
    for command in &pool.commands {
        let labels = [of_pool, ("command", command.name.as_str())];
        for (series, value) in [
            (&series::COMMAND_REQUESTS, command.requests),
            (&series::COMMAND_ERRORS, command.errors),
            (&series::COMMAND_REQUEST_BYTES, command.request_bytes),
            (&series::COMMAND_REPLY_BYTES, command.reply_bytes),
        ] {
            families.value(series, &labels, &value);
        }
        families.histogram(&series::COMMAND_LATENCY, &labels, &command.latency);
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
    families.value(
        &series::SERVER_UNREACHABLE,
        &labels,
        &u8::from(server.unreachable.is_some()),
    );
    families.quantiles(
        &series::SERVER_QUANTILES,
        &labels,
        &latencies(&server.rates),
    );
    families.histogram(&series::SERVER_LATENCY, &labels, &server.latency);
}

fn worker(worker: &WorkerStats, families: &mut Families) {
    let number = worker.worker.to_string();
    let of_worker = ("worker", number.as_str());
    families.value(
        &series::WORKER_UP,
        &[of_worker],
        &u8::from(worker.state == "running"),
    );
    let processes = ProcessCounters {
        restarts: worker.restarts,
        hung: worker.hung,
        forbidden_calls: worker.forbidden_calls,
    };
    families.rows(ProcessCounters::ROWS, &processes.words(), &[of_worker]);
    families.value(
        &series::WORKER_BUSY,
        &[of_worker],
        &(worker.rates.ten_seconds.busy_percent / 100.0),
    );
    families.rows(LoopCounters::ROWS, &worker.poll_loop.words(), &[of_worker]);
    families.rows(StackCounters::ROWS, &worker.stack.words(), &[of_worker]);
    families.rows(SocketCounters::ROWS, &worker.sockets.words(), &[of_worker]);
    families.rows(LinkCounters::ROWS, &worker.link.words(), &[of_worker]);
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
        let family = match self.format {
            Format::OpenMetrics if kind == "counter" => name.strip_suffix("_total"),
            Format::OpenMetrics | Format::Text => None,
        };
        let family = family.unwrap_or(name);
        self.lines
            .entry(name.to_owned())
            .or_insert_with(|| format!("# HELP {family} {help}\n# TYPE {family} {kind}\n"))
    }

    /// A counter or a gauge.
    fn value(&mut self, series: &Series, labels: &[(&str, &str)], value: &dyn Display) {
        let lines = self.lines(series.name, series.kind.name(), series.help);
        sample(lines, series.name, labels, value);
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
            let lines = self.lines(&name, row.kind.name(), row.help);
            sample(lines, &name, labels, value);
        }
    }

    fn quantiles(
        &mut self,
        series: &Series,
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
                // Not "quantile": that label is a summary's, which has no windows.
                labels.extend([("q", quantile), ("window", window)]);
                self.value(series, &labels, &seconds(us));
            }
        }
    }

    fn histogram(&mut self, series: &Series, labels: &[(&str, &str)], histogram: &Histogram) {
        let name = series.name;
        let lines = self.lines(name, series.kind.name(), series.help);
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
        if self.format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
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
