//! `tidegate-sim`: see the library.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tidegate_sim::parts;
use tidegate_sim::runner::{Run, Verdict, run, try_out};
use tidegate_sim::scenario::Scenario;
use tidegate_sim::shrink::shrink;

/// Requests of a seed, about: some seconds of a busy worker.
const REQUESTS: u32 = 1_500;

#[derive(Parser)]
#[command(about = "Plays whole workers in a bad network, by seeds")]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds; with --seconds at the most so many.
    #[arg(long)]
    seeds: Option<u64>,
    /// How long to go on.
    #[arg(long)]
    seconds: Option<u64>,
    /// Seeds at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Requests of each seed, about.
    #[arg(long, default_value_t = REQUESTS)]
    requests: u32,
    /// Plays this scenario instead.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Where to write the short scenario of a seed that fails.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Last lines of the trace of a scenario that fails.
    #[arg(long, default_value_t = 60)]
    trace: usize,
    /// Leaves a scenario that fails as long as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Goes on after a seed that fails, and prints each.
    #[arg(long)]
    keep_going: bool,
    /// Prints a report for the process that started this one.
    #[arg(long, hide = true)]
    part: bool,
    /// Puts this fault into the product, which has to be found.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = mutant)]
    mutant: Option<tidegate_proxy::mutants::Mutant>,
}

/// The fault of that name.
#[cfg(feature = "mutants")]
fn mutant(name: &str) -> Result<tidegate_proxy::mutants::Mutant, String> {
    use tidegate_proxy::mutants::Mutant;
    let mut all = Mutant::ALL.into_iter();
    let named = all.find(|(known, _)| *known == name);
    named.map(|(_, mutant)| mutant).ok_or_else(|| {
        let names = Mutant::ALL.map(|(known, _)| known);
        format!("there are {}", names.join(", "))
    })
}

/// Has another process take the same fault.
#[cfg(feature = "mutants")]
fn choose_again(arguments: &Arguments, command: &mut Command) {
    use tidegate_proxy::mutants::Mutant;
    let mut all = Mutant::ALL.into_iter();
    if let Some((name, _)) = all.find(|(_, mutant)| Some(*mutant) == arguments.mutant) {
        command.args(["--mutant", name]);
    }
}

#[cfg(not(feature = "mutants"))]
const fn choose_again(_arguments: &Arguments, _command: &mut Command) {}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if let Some(mutant) = arguments.mutant {
        tidegate_proxy::mutants::choose(mutant);
    }
    if let Some(path) = &arguments.replay {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let scenario: Scenario = serde_json::from_str(&text)
            .with_context(|| format!("{} is no scenario", path.display()))?;
        return Ok(show(&scenario, arguments.trace));
    }
    let began = Instant::now();
    let plan = Run {
        first: arguments.seed,
        seeds: arguments.seeds.unwrap_or(if arguments.seconds.is_some() {
            u64::MAX
        } else {
            1
        }),
        time: arguments.seconds.map(Duration::from_secs),
        requests: arguments.requests,
        jobs: arguments.jobs,
        keep_going: arguments.keep_going,
    };
    if arguments.part {
        println!("{}", serde_json::to_string(&run(plan))?);
        return Ok(ExitCode::SUCCESS);
    }
    let report = if plan.seeds > parts::SEEDS_MAX {
        parts::run(plan, |command| choose_again(&arguments, command))?
    } else {
        run(plan)
    };
    let tally = report.tally;
    println!(
        "{} seeds from {}: {} requests, {} replies, {} errors, {} closed before; {:.0} s simulated in {:.1} s",
        report.kept,
        arguments.seed,
        tally.asked,
        tally.answered,
        tally.errors,
        tally.closed,
        report.took_us as f64 / 1e6,
        began.elapsed().as_secs_f64()
    );
    let Some((seed, how)) = report.broken else {
        return Ok(ExitCode::SUCCESS);
    };
    println!("seed {seed} breaks a promise {how}");
    let scenario = Scenario::of(seed, arguments.requests);
    let scenario = if arguments.no_shrink {
        scenario
    } else {
        shrink(&scenario)
    };
    if let Some(path) = &arguments.save {
        std::fs::write(path, serde_json::to_string_pretty(&scenario)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(show(&scenario, arguments.trace))
}

/// Plays a scenario and prints what came of it.
fn show(scenario: &Scenario, last: usize) -> ExitCode {
    println!("{}", scenario.describe());
    match try_out(scenario, true) {
        Verdict::Kept {
            tally,
            hash,
            took_us,
        } => {
            println!("kept: {tally:?}, {took_us} µs, trace {hash:016x}");
            ExitCode::SUCCESS
        }
        Verdict::Broken { how, lines } => {
            for line in &lines[lines.len().saturating_sub(last)..] {
                println!("{line}");
            }
            println!("{how}");
            ExitCode::FAILURE
        }
    }
}
