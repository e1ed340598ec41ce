//! The parts of the report about DPDK.

use super::lab::cell;
use super::losses_text;
use super::svg::number_text;
use crate::dpdk::{DpdkLab, DpdkWire, PerRequest};
use crate::results::{Contender, Losses, Saturation};
use crate::statistics::Spread;
use std::fmt::Write as _;

/// The table of instructions.
pub fn wire_section(results: &DpdkWire) -> String {
    let mut text = String::from(
        "## DPDK in place of the wire\n\n\
         Two of DPDK's loops in memory (`net_ring`) in place of the wire, in the same one thread: bursts, mbufs and pools are DPDK's, everything else is \
         the very same code, counted in the same way and the same run. A loop holds 1,023 frames, the wire 4,096, so bursts differ a little: hence \
         the frames, received + sent per request.\n\n\
         | load | wire: instructions | DPDK: instructions | DPDK / wire | wire: frames | DPDK: frames |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for row in &results.rows {
        let frames =
            |run: &PerRequest| format!("{:.2} + {:.2}", run.frames_received, run.segments_sent);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {} | {} |",
            crate::wire::words(&row.plan),
            number_text(row.wire.instructions.round()),
            number_text(row.dpdk.instructions.round()),
            row.dpdk.instructions / row.wire.instructions,
            frames(&row.wire),
            frames(&row.dpdk),
        );
    }
    text + "\n"
}

/// Columns of the lab's table.
fn heads() -> String {
    let names = Contender::BESIDE_DPDK.map(|one| one.name().trim_end_matches(", immediate"));
    names.join(" | ")
}

/// The tables of the lab.
pub fn lab_section(results: &DpdkLab) -> String {
    let rounds = results.samples.iter().map(|sample| sample.round + 1).max();
    let foreign = Spread::of(results.samples.iter().map(|sample| sample.foreign));
    let foreign = foreign.map_or(f64::NAN, |share| 100.0 * share.median);
    let mut text = format!(
        "## In the lab, on DPDK\n\n\
         A run of its own with everything in it, {} of the loads and placement A, {} rounds; medians (range), ratios taken within a round, `ack = \"immediate\"`. {foreign:.1} % of \
         core 0 (median) were taken by something else. **Caution:** `net_af_packet` and `net_af_xdp` are DPDK's devices for machines without a \
         card for it. They make system calls in each burst and copy every frame, and what they do to received frames runs in part on the \
         sender's core, where it is not counted. So these columns say what Tidegate on DPDK costs here, on two cores that everything shares and on \
         veths; they do not say what a card does, which needs no system call and no copy.\n\n",
        loads(results).len(),
        rounds.unwrap_or(0)
    );
    let table = |text: &mut String,
                 title: &str,
                 row: &dyn Fn(&str, Contender) -> Option<Spread>,
                 scale: f64,
                 digits: usize| {
        let columns = "---:|".repeat(Contender::BESIDE_DPDK.len());
        let _ = writeln!(text, "| {title} | {} |\n|---|{columns}", heads());
        for load in loads(results) {
            let cells = Contender::BESIDE_DPDK.map(|one| cell(row(load, one), scale, digits));
            let _ = writeln!(text, "| {load} | {} |", cells.join(" | "));
        }
        text.push('\n');
    };
    let of = |figure: fn(&Saturation) -> f64| {
        move |load: &str, contender| Spread::of(samples(results, load, contender).map(figure))
    };
    let against = |figure: fn(&Saturation) -> f64| {
        move |load: &str, contender| ratio(results, load, contender, figure)
    };
    table(
        &mut text,
        "requests per busy second / nutcracker's",
        &against(Saturation::per_busy_second),
        1.0,
        2,
    );
    table(
        &mut text,
        "requests per busy second, thousands",
        &of(Saturation::per_busy_second),
        1e-3,
        1,
    );
    table(
        &mut text,
        "requests/s, thousands",
        &of(|sample| sample.rate),
        1e-3,
        1,
    );
    table(
        &mut text,
        "p50 ms",
        &of(|sample| sample.latency.p50_ms),
        1.0,
        3,
    );
    table(
        &mut text,
        "p99 ms",
        &of(|sample| sample.latency.p99_ms),
        1.0,
        3,
    );
    text += "| lost or repeated, summed | |\n|---|---|\n";
    for contender in Contender::BESIDE_DPDK {
        let _ = writeln!(
            text,
            "| {} | {} |",
            contender.name(),
            losses_text(&losses(results, contender))
        );
    }
    text + "\n"
}

fn loads(results: &DpdkLab) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for sample in &results.samples {
        if !names.contains(&sample.load.as_str()) {
            names.push(&sample.load);
        }
    }
    names
}

fn samples<'r>(
    results: &'r DpdkLab,
    load: &str,
    contender: Contender,
) -> impl Iterator<Item = &'r Saturation> {
    let wanted = results.samples.iter();
    wanted.filter(move |sample| sample.load == load && sample.contender == contender)
}

/// A figure over that of nutcracker, round by round.
fn ratio(
    results: &DpdkLab,
    load: &str,
    ours: Contender,
    figure: fn(&Saturation) -> f64,
) -> Option<Spread> {
    let pairs = samples(results, load, ours).filter_map(|our| {
        let mut theirs = samples(results, load, Contender::Nutcracker);
        let their = theirs.find(|their| their.round == our.round)?;
        Some(figure(our) / figure(their))
    });
    Spread::of(pairs)
}

fn losses(results: &DpdkLab, contender: Contender) -> Losses {
    let mut sum = Losses::new();
    let samples = results.samples.iter();
    for sample in samples.filter(|sample| sample.contender == contender) {
        for (name, count) in &sample.losses {
            *sum.entry(name.clone()).or_default() += count;
        }
    }
    sum
}
