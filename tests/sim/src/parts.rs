//! Long runs in parts, each in a process of its own: a worker's TCP takes its memory once and for as long as its process lives, and a
//! simulated worker is one that nobody ends with its process.

use crate::runner::{Report, Run};
use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Seeds of one process: some 2 GiB.
pub const SEEDS_MAX: u64 = 500;

/// Plays seeds until one fails, each part in a process that `prepare` has given what is not in `run`. That process prints its
/// report as JSON.
pub fn run(run: Run, prepare: impl Fn(&mut Command)) -> Result<Report> {
    let end = run.time.map(|time| Instant::now() + time);
    let program = std::env::current_exe().context("cannot find the simulator's program")?;
    let mut report = Report::default();
    let mut done = 0;
    while done < run.seeds && (run.keep_going || report.broken.is_none()) {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        let seeds = SEEDS_MAX.min(run.seeds - done);
        let part = Run {
            first: run.first.wrapping_add(done),
            seeds,
            time: left,
            ..run
        };
        let mut command = Command::new(&program);
        command.args(arguments(&part));
        prepare(&mut command);
        let played = command
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start the simulator's program again")?;
        ensure!(
            played.status.success(),
            "the process for the {seeds} seeds from {} ended with {}",
            part.first,
            played.status
        );
        let of_part: Report = serde_json::from_slice(&played.stdout)
            .with_context(|| format!("no report on the {seeds} seeds from {}", part.first))?;
        report.add(of_part);
        done += seeds;
    }
    Ok(report)
}

fn arguments(part: &Run) -> Vec<String> {
    let mut arguments = vec!["--part".to_owned()];
    let mut add = |name: &str, value: u64| arguments.extend([name.to_owned(), value.to_string()]);
    add("--seed", part.first);
    add("--seeds", part.seeds);
    add("--requests", u64::from(part.requests));
    add("--jobs", part.jobs as u64);
    if let Some(left) = part.time {
        add("--seconds", left.max(Duration::from_secs(1)).as_secs());
    }
    if part.keep_going {
        arguments.push("--keep-going".to_owned());
    }
    arguments
}
