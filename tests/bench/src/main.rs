//! `tidegate-bench`: measures Tidegate and writes `docs/bench`. Behind `scripts/bench`.
//!
//! Three measurements, each keeping its figures in `docs/bench/data`: over a wire ([`wire`]), in the lab beside nutcracker
//! ([`lab`]), and with a client that has Nagle's algorithm on ([`nagle`]). The first two have columns of [`dpdk`], where that is
//! built in. The [`report`] is written from those files alone.
//!
//! Nothing here knows which figures are wanted but the report, which compares them with the targets.
#![forbid(unsafe_code)]

mod dpdk;
mod lab;
mod machine;
mod nagle;
mod report;
mod results;
mod slice;
mod statistics;
mod wire;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Measures Tidegate.
#[derive(Parser)]
struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    what: What,
    /// Fewer points, fewer rounds, shorter loads: to see that everything works.
    #[arg(long, global = true)]
    quick: bool,
    /// Where the report and its figures go.
    #[arg(long, global = true, default_value = "docs/bench")]
    directory: PathBuf,
    /// Rounds of the lab measurement.
    #[arg(long, global = true)]
    rounds: Option<usize>,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// Over shared memory: requests per second, instructions, memory; and what `dpdk-wire` does.
    Wire,
    /// In the lab, in turns with nutcracker; and what `dpdk-lab` does.
    Lab,
    /// Requests in two pieces from a client with Nagle's algorithm on.
    Nagle,
    /// Over shared memory and over DPDK: instructions.
    DpdkWire,
    /// In the lab on everything, DPDK included.
    DpdkLab,
    /// Everything.
    All,
    /// Nothing: the report is written again.
    Report,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (quick, directory) = (arguments.quick, &arguments.directory);
    // At least three, so that a median means something.
    let rounds = arguments.rounds.unwrap_or(if quick { 1 } else { 3 });
    let what = arguments.what;
    if matches!(what, What::Wire | What::All) {
        wire::measure(directory, quick)?;
    }
    if matches!(what, What::Lab | What::All) {
        lab::measure(directory, quick, rounds)?;
    }
    let of_wire = matches!(what, What::Wire | What::DpdkWire | What::All);
    let of_lab = matches!(what, What::Lab | What::DpdkLab | What::All);
    if (of_wire || of_lab) && dpdk::is_here() {
        if of_wire {
            dpdk::measure_wire(directory, quick)?;
        }
        if of_lab {
            dpdk::measure_lab(directory, quick, rounds)?;
        }
    }
    if matches!(what, What::Nagle | What::All) {
        results::write(directory, "nagle", &nagle::measure(quick)?)?;
    }
    report::write(directory)
}
