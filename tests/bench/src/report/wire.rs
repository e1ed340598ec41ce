//! The part of the report about the wire.

use super::svg::{Mark, Plot, Series, number_text};
use super::targets::{Bound, Verdict, short};
use crate::results::{Ack, MemoryRow, WirePlan, WireResults, WireRow};
use crate::statistics::Spread;
use std::fmt::Write as _;

/// The connections of the table, in order.
fn connections(results: &WireResults) -> Vec<u32> {
    let mut all: Vec<u32> = results
        .rows
        .iter()
        .map(|row| row.plan.connections)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Everything of a plan but the connections.
type Kind = (bool, u32, u32, Ack);

fn kind(plan: &WirePlan) -> Kind {
    (plan.short, plan.pipeline, plan.value_bytes, plan.ack)
}

fn find(results: &WireResults, wanted: Kind, connections: u32) -> Option<&WireRow> {
    results
        .rows
        .iter()
        .find(|row| kind(&row.plan) == wanted && row.plan.connections == connections)
}

/// Bytes that each idle connection added to what is resident.
fn bytes_each(row: &MemoryRow) -> f64 {
    row.resident_after.saturating_sub(row.resident_before) as f64 / f64::from(row.connections)
}

/// Figures against their targets.
pub fn verdicts(results: &WireResults) -> Vec<Verdict> {
    let instructions = |short: bool, connections: u32| {
        find(results, (short, 1, 100, Ack::Immediate), connections).and_then(|row| row.instructions)
    };
    let growth = instructions(false, 100_000)
        .zip(instructions(false, 10))
        .map(|(many, few)| many / few);
    let most = results.memory.iter().max_by_key(|row| row.connections);
    let verdict = |what: &str, bound: Bound, measured: Option<f64>| Verdict {
        what: what.to_owned(),
        bound,
        measured,
        range: None,
    };
    vec![
        verdict(
            "wire: instructions per request, 1,000 long connections, 100 B GET",
            Bound::AtMost(7_000.0),
            instructions(false, 1_000),
        ),
        verdict(
            "wire: the same at 100,000 connections against 10",
            Bound::AtMost(1.2),
            growth,
        ),
        verdict(
            "wire: instructions per short connection with one GET (1,000)",
            Bound::AtMost(25_000.0),
            instructions(true, 1_000),
        ),
        verdict(
            "wire: KiB of memory per idle connection",
            Bound::AtMost(10.0),
            most.map(|row| bytes_each(row) / 1024.0),
        ),
        verdict(
            "wire: KiB reserved after the start, at the most connections",
            Bound::AtMost(0.0),
            most.map(|row| row.reserved_after.saturating_sub(row.reserved_before) as f64 / 1024.0),
        ),
    ]
}

/// The section.
pub fn section(results: &WireResults) -> String {
    let mut text = String::from(
        "## Over a wire\n\n\
         The real stack and the real proxy, without a NIC, a kernel stack or real servers: clients and servers are the same stack at \
         the other end of a shared-memory wire, with 4 servers. *Instructions* are callgrind's count of the worker's turns, both ends in \
         one thread on a clock of 10 µs a turn, so that a run repeats exactly; the load's turns, handshakes (of long connections) and \
         the warm-up are not counted, idle turns are. *Requests per second* is the median (range) of runs with two processes on two \
         cores, where the load's end works as hard as the worker's: it bounds the worker from below. At most 1,000 connections ask at a \
         time; the others are open and idle. A short connection is a handshake, one GET and a close; its rows differ in the slots \
         reserved, and at most 1,000 are open at a time.\n\n",
    );
    let columns = connections(results);
    let heads: Vec<String> = columns
        .iter()
        .map(|count| number_text(f64::from(*count)))
        .collect();
    let mut kinds: Vec<Kind> = Vec::new();
    for row in &results.rows {
        if !kinds.contains(&kind(&row.plan)) {
            kinds.push(kind(&row.plan));
        }
    }
    let mut table = |title: &str, cell: &dyn Fn(&WireRow) -> String| {
        let _ = writeln!(
            text,
            "### {title}\n\n| connections | {} |\n|---{}|",
            heads.join(" | "),
            "|---:".repeat(columns.len())
        );
        for kind in &kinds {
            let cells: Vec<String> = columns
                .iter()
                .map(|count| find(results, *kind, *count).map_or("–".to_owned(), cell))
                .collect();
            let _ = writeln!(text, "| {} | {} |", name(kind), cells.join(" | "));
        }
        text.push('\n');
    };
    table("Instructions per request", &|row| {
        row.instructions.map_or("–".to_owned(), short)
    });
    table("Requests per second, thousands", &|row| {
        Spread::of(row.rates.iter().map(|rate| rate / 1e3)).map_or("–".to_owned(), |rates| {
            format!("{:.0} ({:.0}–{:.0})", rates.median, rates.min, rates.max)
        })
    });
    table(
        "Frames per request: received + sent (bare acknowledgements)",
        &|row| {
            format!(
                "{:.2} + {:.2} ({:.2})",
                row.frames_received, row.segments_sent, row.acks_alone
            )
        },
    );
    text + "![Instructions per request](instructions.svg)\n\n" + &memory(results)
}

fn name((short, pipeline, value_bytes, ack): &Kind) -> String {
    format!(
        "{}, {value_bytes} B, -P {pipeline}, {}",
        if *short { "short" } else { "long" },
        ack.name()
    )
}

fn memory(results: &WireResults) -> String {
    let mut text = String::from(
        "### Memory of a worker\n\n\
         With default buffers (4 KiB each way), a worker of its own in a process of its own. An idle connection is one that has asked \
         once. What is reserved is all there at the start; what is resident grows as the pages of a slot are first used.\n\n\
         | idle connections | reserved before, MiB | after | resident before, MiB | after | KiB per connection |\n\
         |---:|---:|---:|---:|---:|---:|\n",
    );
    let mib = |bytes: u64| short(bytes as f64 / f64::from(1 << 20));
    for row in &results.memory {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.2} |",
            number_text(f64::from(row.connections)),
            mib(row.reserved_before),
            mib(row.reserved_after),
            mib(row.resident_before),
            mib(row.resident_after),
            bytes_each(row) / 1024.0
        );
    }
    text + "\n"
}

/// Instructions over connections.
pub fn plot(results: &WireResults) -> Plot {
    let columns = connections(results);
    let series = [(false, "long"), (true, "short")]
        .into_iter()
        .flat_map(|(short, name)| {
            Ack::BOTH.map(|ack| Series {
                name: format!("{name}, {}", ack.name()),
                values: columns
                    .iter()
                    .map(|count| {
                        let row = find(results, (short, 1, 100, ack), *count)?;
                        Spread::of(row.instructions)
                    })
                    .collect(),
            })
        });
    Plot {
        title: "Instructions per request (GET of 100 B)".to_owned(),
        unit: "instructions".to_owned(),
        categories: columns
            .iter()
            .map(|count| number_text(f64::from(*count)))
            .collect(),
        axis: "connections".to_owned(),
        series: series.collect(),
        marks: vec![
            Mark {
                name: "target, long: 7,000".to_owned(),
                value: 7_000.0,
            },
            Mark {
                name: "target, short: 25,000".to_owned(),
                value: 25_000.0,
            },
        ],
        targets: Vec::new(),
    }
}
