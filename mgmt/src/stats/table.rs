//! The model as tables for people.

use super::model::{Latency, PoolStats, Rates, Stats};
use crate::status::table::{Table, span};
use std::fmt::Write;

/// Heads of what [`rate_cells`] makes.
const RATE_HEADS: [&str; 12] = [
    "requests/s",
    "errors/s",
    "in/s",
    "out/s",
    "mean",
    "p50",
    "p90",
    "p95",
    "p98",
    "p99",
    "p99.9",
    "max",
];

/// Prints the model; of a pool alone, `only_pool`.
pub fn render(stats: &Stats, only_pool: bool) -> String {
    let mut out = format!(
        "{} {} · {} · manager {} · up {}\n",
        stats.name,
        stats.version,
        stats.state,
        stats.pid,
        span(stats.uptime_s)
    );
    if !only_pool {
        let total = &stats.total;
        let _infallible = writeln!(
            out,
            "\nall pools: {} clients, {} server connections, {} requests, {} errors",
            total.clients, total.server_connections, total.requests, total.errors
        );
        windows(&total.rates.named(), &mut out);
        workers(stats, &mut out);
    }
    for pool in &stats.pools {
        self::pool(pool, &mut out);
    }
    out
}

fn workers(stats: &Stats, out: &mut String) {
    out.push_str("\nworkers\n");
    let mut table = Table::new(&[
        "worker",
        "core",
        "state",
        "restarts",
        "busy 1s",
        "10s",
        "60s",
        "requests/s",
        "queues: received/s, sent/s, lost/s",
    ]);
    for worker in &stats.workers {
        let busy = |percent: f64| format!("{percent:.0}%");
        let queues = worker.queues.iter().map(|queue| {
            let rates = &queue.rates.ten_seconds;
            format!(
                "{} {}, {}, {}",
                queue.interface,
                number(rates.rx_frames_per_s),
                number(rates.tx_frames_per_s),
                number(rates.lost_per_s)
            )
        });
        let queues: Vec<String> = queues.collect();
        table.row(vec![
            worker.worker.to_string(),
            worker.core.map_or("-".into(), |core| core.to_string()),
            worker.state.clone(),
            worker.restarts.to_string(),
            busy(worker.rates.second.busy_percent),
            busy(worker.rates.ten_seconds.busy_percent),
            busy(worker.rates.minute.busy_percent),
            number(worker.rates.ten_seconds.requests_per_s),
            queues.join("; "),
        ]);
    }
    table.write(out);
}

fn pool(pool: &PoolStats, out: &mut String) {
    let _infallible = writeln!(
        out,
        "\npool {} on {}: {} clients, {} requests, {} errors",
        pool.name,
        pool.listen.join(", "),
        pool.counters.clients,
        pool.counters.requests,
        pool.errors
    );
    windows(&pool.rates.named(), out);
    let commands = pool.commands.iter();
    by_name(
        "command",
        commands.map(|command| (&*command.name, command.requests, &command.rates.ten_seconds)),
        out,
    );
    let servers = pool.servers.iter();
    by_name(
        "server",
        servers.map(|server| {
            let requests = server.counters.requests;
            (&*server.name, requests, &server.rates.ten_seconds)
        }),
        out,
    );
}

fn windows(rates: &[(&str, &Rates)], out: &mut String) {
    let mut heads = vec!["window"];
    heads.extend(RATE_HEADS);
    let mut table = Table::new(&heads);
    for (name, rates) in rates {
        let mut row = vec![(*name).to_owned()];
        row.extend(rate_cells(rates));
        table.row(row);
    }
    table.write(out);
}

/// A row each, of the last ten seconds.
fn by_name<'a>(
    what: &str,
    rows: impl Iterator<Item = (&'a str, u64, &'a Rates)>,
    out: &mut String,
) {
    let what = format!("{what} (10s)");
    let mut heads = vec![what.as_str(), "requests"];
    heads.extend(RATE_HEADS);
    let mut table = Table::new(&heads);
    let mut any = false;
    for (name, requests, rates) in rows {
        any = true;
        let mut row = vec![name.to_owned(), requests.to_string()];
        row.extend(rate_cells(rates));
        table.row(row);
    }
    if any {
        table.write(out);
    }
}

fn rate_cells(rates: &Rates) -> Vec<String> {
    let mut cells = vec![
        number(rates.requests_per_s),
        number(rates.errors_per_s),
        number(rates.request_bytes_per_s),
        number(rates.reply_bytes_per_s),
    ];
    // Answered within the microsecond, all of them: nothing was measured.
    let measured = rates.latency.filter(|latency| latency.max_us > 0);
    let times = measured.map(|latency| times(&latency));
    cells.extend(times.unwrap_or_else(|| std::array::from_fn(|_| "-".into())));
    cells
}

fn times(latency: &Latency) -> [String; 8] {
    [
        latency.mean_us,
        latency.p50_us,
        latency.p90_us,
        latency.p95_us,
        latency.p98_us,
        latency.p99_us,
        latency.p99_9_us,
        latency.max_us,
    ]
    .map(time)
}

/// Microseconds as people say it.
fn time(us: u64) -> String {
    match us {
        0..10_000 => format!("{us}µs"),
        10_000..10_000_000 => format!("{}ms", us / 1_000),
        _ => format!("{}s", us / 1_000_000),
    }
}

/// A number that fits a narrow column.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        ..10.0 => format!("{value:.1}"),
        ..100_000.0 => format!("{value:.0}"),
        ..100_000_000.0 => format!("{:.0}k", value / 1e3),
        _ => format!("{:.0}M", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::prometheus::tests::stats;

    #[test]
    fn people_see_pools_commands_servers_and_workers() {
        let text = render(&stats(), false);
        for expected in [
            "edge 0.1.0 · running · manager 4700 · up 1d01h",
            "all pools: 2 clients",
            "pool sessions on 10.0.0.10:6379: 2 clients, 1000 requests, 3 errors",
            "get",
            "cache-b",
            "eth1 12, 13, 0",
            "37%",
            "p99.9",
            "127µs",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        let text = render(&stats(), true);
        assert!(!text.contains("workers") && text.contains("pool sessions"));
    }

    #[test]
    fn where_nothing_was_measured_there_is_a_dash() {
        let mut rates = stats().pools[0].rates.ten_seconds.clone();
        assert_eq!(rate_cells(&rates)[11], "5119µs");
        let zero = tidegate_channel::histogram::Histogram::from_counts(0, vec![3]);
        rates.latency = Latency::of(&zero);
        assert_eq!(rate_cells(&rates)[4..], ["-"; 8]);
    }

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [0.0, 0.25, 9.96, 950.4, 123_456.0, 2e9].map(number);
        assert_eq!(numbers, ["0", "0.2", "10.0", "950", "123k", "2000M"]);
        let times = [999, 12_345, 12_345_678].map(time);
        assert_eq!(times, ["999µs", "12ms", "12s"]);
    }
}
