//! Over a wire: `tidegate-wire-bench` under callgrind, in two processes, and with idle connections.

use crate::machine;
use crate::results::{self, Ack, WirePlan, WireResults, WireRow};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate_tests::lab::program;
use tidegate_tests::netns::finish;

/// Open connections of each point.
const CONNECTIONS: [u32; 4] = [10, 1_000, 10_000, 100_000];

/// Connections that ask at the same time, at most. The others are open and idle, as most of very many connections are.
const ACTIVE_MAX: u32 = 1_000;

/// Runs of each rate, for a median.
const RATE_RUNS: usize = 3;

/// Requests whose instructions are counted. The count is the same in every run, so few suffice, and an interpreter is slow.
const COUNTED_LONG: u64 = 20_000;
const COUNTED_SHORT: u64 = 10_000;

/// What carries frames where nothing else is said.
pub const WIRE: &str = "wire";

/// Requests whose time is taken: up to a second.
const TIMED_LONG: u64 = 400_000;
const TIMED_SHORT: u64 = 40_000;

/// What `one` prints.
#[derive(Deserialize)]
pub struct Counted {
    /// Requests answered.
    pub requests: u64,
    /// Frames that the worker received.
    pub frames_received: u64,
    /// Segments that it sent.
    pub segments_sent: u64,
    /// Those of them that were bare acknowledgements.
    pub acknowledgements_alone: u64,
    /// Segments sent again.
    pub retransmits: u64,
}

/// What `two` prints.
#[derive(Deserialize)]
struct Timed {
    requests: u64,
    seconds: f64,
}

/// Measures every point. What has been measured is kept in `directory` after each: a long measurement that is cut short is not lost.
pub fn measure(directory: &Path, quick: bool) -> Result<()> {
    let mut results = WireResults {
        machine: machine::describe(quick, &[("valgrind", "--version")]),
        rows: Vec::new(),
        memory: Vec::new(),
    };
    for connections in memory_points(quick) {
        let connections = connections.to_string();
        let mut command = bench()?;
        command.args(["memory", "--connections", &connections]);
        results.memory.push(run(&mut command)?);
    }
    for plan in plans(quick) {
        let row = row(plan, quick)?;
        eprintln!(
            "wire: {}: {:.0} instructions, {:.0} requests/s",
            words(&plan),
            row.instructions.unwrap_or(f64::NAN),
            row.rates.iter().sum::<f64>() / row.rates.len() as f64
        );
        results.rows.push(row);
        results.machine.load_after = machine::load_average();
        results::write(directory, "wire", &results)?;
    }
    Ok(())
}

/// Every combination, but short connections are not pipelined: there is one request on each.
fn plans(quick: bool) -> Vec<WirePlan> {
    let mut plans = Vec::new();
    for ack in Ack::BOTH {
        for (short, pipeline) in [(false, 1), (false, 16), (true, 1)] {
            for value_bytes in [100, 1024] {
                for connections in CONNECTIONS {
                    plans.push(WirePlan {
                        connections,
                        short,
                        value_bytes,
                        pipeline,
                        ack,
                    });
                }
            }
        }
    }
    if quick {
        plans.retain(|plan| plan.value_bytes == 100 && plan.connections <= 1_000);
    }
    plans
}

fn memory_points(quick: bool) -> &'static [u32] {
    if quick {
        &[1_000, 10_000]
    } else {
        &[1_000, 10_000, 100_000]
    }
}

/// A plan in words.
pub fn words(plan: &WirePlan) -> String {
    format!(
        "{} {} connections, {} B, -P {}, {}",
        plan.connections,
        if plan.short { "short" } else { "long" },
        plan.value_bytes,
        plan.pipeline,
        plan.ack.name()
    )
}

fn row(plan: WirePlan, quick: bool) -> Result<WireRow> {
    let (counted, instructions) = count(&plan, WIRE)?;
    let timed = if plan.short { TIMED_SHORT } else { TIMED_LONG };
    let runs = if quick { 1 } else { RATE_RUNS };
    let rates = (0..runs)
        .map(|_| {
            let timed: Timed = run(&mut command(bench()?, "two", &plan, timed))?;
            Ok(timed.requests as f64 / timed.seconds)
        })
        .collect::<Result<Vec<f64>>>()?;
    let per_request = |count: u64| count as f64 / counted.requests as f64;
    Ok(WireRow {
        plan,
        instructions: Some(per_request(instructions)),
        frames_received: per_request(counted.frames_received),
        segments_sent: per_request(counted.segments_sent),
        acks_alone: per_request(counted.acknowledgements_alone),
        retransmits: counted.retransmits,
        rates,
    })
}

/// The run on `carrier` and the instructions of its counted turns.
pub fn count(plan: &WirePlan, carrier: &str) -> Result<(Counted, u64)> {
    let requests = if plan.short {
        COUNTED_SHORT
    } else {
        COUNTED_LONG * u64::from(plan.pipeline).min(4)
    };
    let output = PathBuf::from(format!(
        "{}/tidegate-callgrind.{}",
        std::env::temp_dir().display(),
        std::process::id()
    ));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind"])
        .arg("--toggle-collect=*BenchWorker*measured_turn*")
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(program("tidegate-wire-bench")?);
    let counted = run(command(valgrind, "one", plan, requests).args(["--carrier", carrier]));
    let text = fs::read_to_string(&output);
    let _ = fs::remove_file(&output);
    let text = text.context("callgrind left no file")?;
    let total = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("summary: ")
                .or_else(|| line.strip_prefix("totals: "))
        })
        .context("callgrind's file has no total")?;
    Ok((counted?, total.trim().parse()?))
}

fn bench() -> Result<Command> {
    Ok(Command::new(program("tidegate-wire-bench")?))
}

fn command(mut command: Command, mode: &str, plan: &WirePlan, requests: u64) -> Command {
    let connections = plan.connections.to_string();
    let active = plan.connections.min(ACTIVE_MAX).to_string();
    let (value_bytes, pipeline) = (plan.value_bytes.to_string(), plan.pipeline.to_string());
    command
        .args([mode, "--connections", &connections, "--active", &active])
        .args(["--requests", &requests.to_string()])
        .args(["--value-bytes", &value_bytes, "--pipeline", &pipeline])
        .args(["--ack", plan.ack.name()])
        .args(plan.short.then_some("--short"));
    command
}

/// Runs a command and reads the JSON that it prints.
fn run<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let printed = finish(command)?;
    serde_json::from_str(printed.trim()).with_context(|| format!("{command:?} printed {printed:?}"))
}
