//! The commands: `tidegate drain`, `tidegate upgrade`, `tidegate log-level`, `tidegate completions`, `tidegate man`.

use super::drain::{DEADLINE_MS_MAX, DrainRequest, Drained};
use super::log_level::{LogLevelRequest, LogLevelSet};
use super::upgrade::{UpgradeRequest, Upgrading};
use crate::control::client::{self, ask, instance};
use crate::control::request::Request;
use crate::runtime_dir::is_running;
use crate::status::report::Report;
use anyhow::Context;
use clap::Args;
use clap_complete::Shell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long beyond its deadline a drained instance may take to be gone.
const GRACE: Duration = Duration::from_secs(5);

/// How long the new manager may take to adopt its workers.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// What stands behind `tidegate drain`.
#[derive(Args)]
pub struct DrainArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
    /// Drain this worker alone; another process takes its place.
    #[arg(long, value_name = "NUMBER")]
    worker: Option<u32>,
    /// Milliseconds after which nothing more is waited for; without it drain_timeout_ms of the configuration.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(..=i64::from(DEADLINE_MS_MAX)))]
    deadline: Option<u32>,
}

/// What stands behind `tidegate upgrade`.
#[derive(Args)]
pub struct UpgradeArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
    /// Leave the workers as they are: `tidegate drain --worker` replaces them later.
    #[arg(long)]
    manager_only: bool,
    /// Also to a program that cannot take the workers over: it drains them all at once.
    #[arg(long)]
    force: bool,
}

/// What stands behind `tidegate log-level`.
#[derive(Args)]
pub struct LogLevelArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
    /// The filter: error, warn, info, debug, trace, or one per part, as tidegate_stack=debug,info.
    filter: String,
}

/// What stands behind `tidegate completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// What stands behind `tidegate man`.
#[derive(Args)]
pub struct ManArgs {
    /// The directory, which has to exist.
    directory: PathBuf,
}

/// Drains, and waits until that is done.
pub fn drain(root: &Path, args: &DrainArgs) -> anyhow::Result<()> {
    let name = instance(root, args.name.as_deref())?;
    let request = Request::Drain(DrainRequest {
        worker: args.worker,
        deadline_ms: args.deadline,
    });
    let drained: Drained = client::read(ask(root, Some(&name), &request)?)?;
    if let (Some(worker), Some(pid)) = (args.worker, drained.successor) {
        say!("worker {worker} was drained; process {pid} serves in its place");
        return Ok(());
    }
    let until = Instant::now() + Duration::from_millis(drained.deadline_ms.into()) + GRACE;
    while is_running(root, &name) {
        anyhow::ensure!(
            Instant::now() < until,
            "{name} does not end; its log says why"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    say!("{name} was drained and has ended");
    Ok(())
}

/// Puts the program on disk in the place of the one that runs, then replaces the workers one by one.
pub fn upgrade(root: &Path, args: &UpgradeArgs) -> anyhow::Result<()> {
    let name = instance(root, args.name.as_deref())?;
    let request = Request::Upgrade(UpgradeRequest { force: args.force });
    let Upgrading { version } = client::read(ask(root, Some(&name), &request)?)?;
    let workers = wait_until_serving(root, &name)?;
    say!("the manager is {version}");
    if args.manager_only {
        return Ok(());
    }
    // Threads of one process go together.
    for of_process in workers.chunk_by(|(_, one), (_, other)| one == other) {
        let request = Request::Drain(DrainRequest {
            worker: of_process.first().map(|(worker, _)| *worker),
            deadline_ms: None,
        });
        let drained: Drained = client::read(ask(root, Some(&name), &request)?)?;
        for (worker, _) in of_process {
            if let Some(pid) = drained.successor {
                say!("worker {worker} was drained; process {pid} serves in its place");
            }
        }
    }
    Ok(())
}

/// Waits until a manager answers that has all of its workers; returns their numbers and processes.
fn wait_until_serving(root: &Path, name: &str) -> anyhow::Result<Vec<(u32, Option<u32>)>> {
    let until = Instant::now() + TAKE_OVER;
    loop {
        // In between nobody is there who could answer.
        if let Ok(answer) = ask(root, Some(name), &Request::Status {}) {
            let report: Report = client::read(answer)?;
            if report
                .workers
                .iter()
                .all(|worker| worker.state == "running")
            {
                let workers = report.workers.iter();
                return Ok(workers.map(|worker| (worker.worker, worker.pid)).collect());
            }
        }
        anyhow::ensure!(
            Instant::now() < until,
            "the new manager does not take over; its log says why"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Changes what is logged.
pub fn log_level(root: &Path, args: &LogLevelArgs) -> anyhow::Result<()> {
    let filter = args.filter.clone();
    let request = Request::LogLevel(LogLevelRequest { filter });
    let answer = ask(root, args.name.as_deref(), &request)?;
    let LogLevelSet { before } = client::read(answer)?;
    say!("log filter: {}, before: {before}", args.filter);
    Ok(())
}

/// Prints what a shell needs to complete our words.
pub fn completions(args: &CompletionsArgs, mut cli: clap::Command) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "tidegate", &mut script);
    crate::out::print(&String::from_utf8_lossy(&script));
}

/// Writes a manual page for each command.
pub fn man(args: &ManArgs, cli: clap::Command) -> anyhow::Result<()> {
    let directory = &args.directory;
    super::man::write(cli, directory)
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
}
