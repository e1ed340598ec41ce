//! docs/counters.md says what the table of counters says. `UPDATE_DOCS=1 cargo test -p tidegate-channel` writes it anew.

use std::fmt::Write;
use std::path::Path;
use tidegate_channel::counters::{
    CounterRow, LoopCounters, PoolCounters, QueueCounters, ServerCounters, SocketCounters,
    StackCounters,
};

const HEAD: &str = "# Counters

What `tidegate status` shows, and `tidegate status --json` in full. A counter only grows while its worker lives; a gauge
says how things stand. Every frame and every request that is given up is counted under its reason.
";

fn page() -> String {
    let scopes: [(&str, &str, &[CounterRow]); 6] = [
        ("Queues", "One queue of one interface.", QueueCounters::ROWS),
        ("TCP", "TCP and below, of one worker.", StackCounters::ROWS),
        (
            "Sockets",
            "The kernel's sockets, of one worker; all zero with `driver = \"afxdp\"`.",
            SocketCounters::ROWS,
        ),
        ("Pools", "One pool.", PoolCounters::ROWS),
        ("Servers", "One server.", ServerCounters::ROWS),
        ("Poll loop", "The loop of one worker.", LoopCounters::ROWS),
    ];
    let mut page = HEAD.to_owned();
    for (title, text, rows) in scopes {
        write!(
            page,
            "\n## {title}\n\n{text}\n\n| name | meaning |\n|---|---|\n"
        )
        .expect("a string takes it");
        for row in rows {
            writeln!(page, "| `{}` | {} |", row.name, row.help).expect("a string takes it");
        }
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
