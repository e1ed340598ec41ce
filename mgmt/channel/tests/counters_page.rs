//! docs/counters.md says what the table of counters says. `UPDATE_DOCS=1 cargo test -p tidegate-channel` writes it anew.

use std::fmt::Write;
use std::path::Path;
use tidegate_channel::counters::{
    CounterRow, LinkCounters, LoopCounters, PoolCounters, ProcessCounters, QueueCounters,
    ServerCounters, SocketCounters, StackCounters,
};
use tidegate_channel::series;

const HEAD: &str = "# Counters

What `tidegate status` and `tidegate stats` show, with `--json` in full, and `/metrics`. A counter only grows; a gauge says how things
stand. Every frame and every request that is given up is counted under its reason.

`tidegate status` tells what each worker counted since its process started. `tidegate stats` and `/metrics` have sums since the instance
started, those of workers that ended in them; a manager that adopts workers goes on with them. There, times are in seconds.

Of pools, of their commands and of servers there are requests, errors, bytes and histograms of latency as well, and their percentiles
over 1, 10 and 60 seconds. The latency of a pool is from a request taken to its reply delivered to the client, that of a server from a
request sent to its whole reply. Commands that wait (`BLPOP` and its like) have none: it would say how long nothing came. Values are
known to an eighth, the percentiles are upper ends. A pool tells 63 commands apart, the others are `other`; of more than 1,024
servers only the first have a histogram.

`/metrics` is in the text format of Prometheus, or in OpenMetrics 1.0 for those who ask for it (`Accept: application/openmetrics-text`).
";

fn page() -> String {
    let scopes: [(&str, &str, &[CounterRow]); 8] = [
        ("Queues", "One queue of one interface.", QueueCounters::ROWS),
        ("TCP", "TCP and below, of one worker.", StackCounters::ROWS),
        (
            "Sockets",
            "The kernel's sockets, of one worker; all zero without `driver = \"kernel\"`.",
            SocketCounters::ROWS,
        ),
        (
            "Link",
            "ARP, neighbour discovery and echo, of the first worker; all zero without `driver = \"dpdk\"`.",
            LinkCounters::ROWS,
        ),
        ("Pools", "One pool.", PoolCounters::ROWS),
        ("Servers", "One server.", ServerCounters::ROWS),
        ("Poll loop", "The loop of one worker.", LoopCounters::ROWS),
        (
            "Processes",
            "The processes of one worker, as the manager counts them. They go on when another manager takes the workers over.",
            ProcessCounters::ROWS,
        ),
    ];
    let mut page = HEAD.to_owned();
    for (title, text, rows) in scopes {
        write!(
            page,
            "\n## {title}\n\n{text}\n\n| name | type | unit | metric | meaning |\n|---|---|---|---|---|\n"
        )
        .expect("a string takes it");
        for row in rows {
            let (kind, unit) = (row.kind.name(), row.unit.name());
            writeln!(
                page,
                "| `{}` | {kind} | {unit} | `{}` | {} |",
                row.name,
                row.metric(),
                row.help
            )
            .expect("a string takes it");
        }
    }
    page.push_str(
        "\n## Only in `/metrics`\n\nWhat `tidegate stats` tells in columns of its own. Histograms have a `_bucket` for each power of two \
         from 16 µs to a minute, a `_sum` and a `_count`. The label `q` is the part of replies: 0.5, 0.9, 0.95, 0.98, 0.99, 0.999, and 1 \
         for the longest; `window` is `10s` or `60s`.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for series in series::ALL {
        let (kind, labels) = (series.kind.name(), series.labels);
        writeln!(
            page,
            "| `{}` | {kind} | {labels} | {} |",
            series.name, series.help
        )
        .expect("a string takes it");
    }
    page
}

#[test]
fn the_page_of_counters_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/counters.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/counters.md is out of date: run UPDATE_DOCS=1 cargo test -p tidegate-channel"
    );
}
