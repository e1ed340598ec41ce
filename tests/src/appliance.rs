//! Tidegate on a stage, driven as an operator drives it: a file, a command, signals.

use crate::config::LabConfig;
use crate::host::Host;
use crate::lab::process::Process;
use crate::lab::program;
use crate::stage::{Driver, Role, Stage};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// How long Tidegate may take from its start to serving, and to end. Far above what it needs: it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `tidegate run`. Dropping it ends it.
#[derive(Debug)]
pub struct Appliance {
    process: Process,
    host: Host,
    /// Where its runtime directory is, if not at the usual place.
    runtime: Option<PathBuf>,
    name: String,
    config_file: PathBuf,
    log: PathBuf,
    workers: usize,
    outlive_manager: bool,
}

impl Appliance {
    /// Starts Tidegate with `config` and waits until every worker serves.
    pub fn start(stage: &dyn Stage, config: &LabConfig) -> Result<Self> {
        let config_file = write_config(stage, &config.to_toml())?;
        let host = stage.host(Role::Appliance);
        // A lab cleans up below the usual place too. Many may run on this machine, each with a directory of its own.
        let runtime = match stage.driver() {
            Driver::Afxdp | Driver::DpdkPacket | Driver::DpdkXdp => None,
            Driver::Kernel => Some(stage.directory().join("run")),
        };
        let log = stage.directory().join("tidegate.log");
        let process = run(&host, runtime.as_deref(), &config_file, &log)?;
        let mut appliance = Self {
            process,
            host,
            runtime,
            name: config.name.clone(),
            config_file,
            log,
            workers: config.queues as usize,
            outlive_manager: config.outlive_manager,
        };
        appliance.wait_until_serving()?;
        Ok(appliance)
    }

    /// Kills the manager, and nobody else.
    pub fn kill_manager(&mut self) -> Result<()> {
        self.end_with(Signal::SIGKILL).map(drop)
    }

    /// Starts a manager after the one before was killed, and waits until every worker serves.
    pub fn run_again(&mut self) -> Result<()> {
        self.process = run(
            &self.host,
            self.runtime.as_deref(),
            &self.config_file,
            &self.log,
        )?;
        self.wait_until_serving()
    }

    /// Where its runtime directory is.
    pub fn runtime_directory(&self) -> PathBuf {
        let root = self.runtime.as_deref();
        root.unwrap_or(Path::new("/run/tidegate")).join(&self.name)
    }

    /// Its file.
    pub fn config_file(&self) -> &Path {
        &self.config_file
    }

    /// The manager's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log_text()
    }

    /// Waits until `wanted` holds for a line of the log: many are written in the manager's own time.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let log = self.log();
            if log.lines().any(&wanted) {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the log does not tell of {what} within {PATIENCE:?}:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What `tidegate status --json` says.
    pub fn status(&self) -> Result<Status> {
        let output = self.ask(&["status", "--name", &self.name, "--json"])?;
        if !output.status.success() {
            bail!(
                "tidegate status failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        serde_json::from_slice(&output.stdout)
            .map(Status)
            .context("tidegate status --json printed something else")
    }

    /// What `tidegate status` says to people.
    pub fn status_text(&self) -> Result<String> {
        let output = self.ask(&["status", "--name", &self.name])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `tidegate stats --json` says.
    pub fn stats(&self) -> Result<Value> {
        let output = self.ask(&["stats", "--name", &self.name, "--json"])?;
        if !output.status.success() {
            bail!(
                "tidegate stats failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        serde_json::from_slice(&output.stdout)
            .context("tidegate stats --json printed something else")
    }

    /// What `tidegate stats` prints with these arguments.
    pub fn stats_text(&self, arguments: &[&str]) -> Result<String> {
        let output = self.ask(&[&["stats", "--name", &self.name], arguments].concat())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until `condition` holds for the statistics, and returns them.
    pub fn wait_for_stats(
        &mut self,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let started = Instant::now();
        loop {
            let stats = self.stats()?;
            if condition(&stats) {
                return Ok(stats);
            }
            if started.elapsed() > PATIENCE {
                bail!("no {what} within {PATIENCE:?}; last statistics: {stats:#}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs another `tidegate` beside it to its end.
    pub fn ask(&self, arguments: &[&str]) -> Result<Output> {
        finish(tidegate(&self.host, self.runtime.as_deref())?.args(arguments))
    }

    /// Another `tidegate` beside it, to be started; what it prints goes nowhere.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = tidegate(&self.host, self.runtime.as_deref())?;
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// Waits until `condition` holds for the status, and returns that status.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&Status) -> bool) -> Result<Status> {
        let started = Instant::now();
        loop {
            let status = self.status();
            if let Ok(status) = &status
                && condition(status)
            {
                return Ok(Status(status.0.clone()));
            }
            if let Some(ended) = self.process.ended() {
                bail!(
                    "tidegate ended ({ended}) before {what}; it printed:\n{}",
                    self.log()
                );
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "no {what} within {PATIENCE:?}; last status: {status:?}; it printed:\n{}",
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end in order and returns how it did.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.end_with(Signal::SIGTERM)
    }

    /// Lets it run on after this process.
    pub fn stay(self) {
        std::mem::forget(self);
    }

    /// Sends `signal` and returns how it ended.
    pub fn end_with(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.signal(signal);
        let log = self.process.log_text();
        self.process
            .wait(PATIENCE)
            .with_context(|| format!("tidegate does not end on {signal}; it printed:\n{log}"))
    }

    /// Workers run within milliseconds; the kernel may take a moment longer to find the servers' link addresses, and until then
    /// requests are answered with an error.
    fn wait_until_serving(&mut self) -> Result<()> {
        let workers = self.workers;
        self.wait_for("serving", |status| {
            let states = status.workers();
            let running =
                states.len() == workers && states.iter().all(|worker| worker.state == "running");
            running && status.unreachable().is_empty()
        })
        .map(|_| ())
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // What the workers counted says more about a failed test than any log.
        if std::thread::panicking()
            && let Ok(status) = self.status_text()
        {
            eprintln!("{status}");
        }
        // Nobody else would end workers whose manager a test has killed.
        if self.outlive_manager && self.process.ended().is_some() {
            let _nothing_left = self.ask(&["clean-up", "--name", &self.name]);
        }
    }
}

/// Runs `tidegate` with `arguments` on `host` to its end.
pub fn command(host: impl Into<Host>, arguments: &[&str]) -> Result<Output> {
    finish(tidegate(&host.into(), None)?.args(arguments))
}

/// Starts a manager.
fn run(host: &Host, runtime: Option<&Path>, config: &Path, log: &Path) -> Result<Process> {
    let mut command = tidegate(host, runtime)?;
    command.args(["run", "-c"]).arg(config);
    Process::start_command(&mut command, "tidegate", log.to_owned())
}

fn tidegate(host: &Host, runtime: Option<&Path>) -> Result<Command> {
    let mut command = host.command(program("tidegate")?);
    if let Some(runtime) = runtime {
        command.arg("--runtime-dir").arg(runtime);
    }
    Ok(command)
}

fn finish(command: &mut Command) -> Result<Output> {
    Ok(command.stdin(Stdio::null()).output()?)
}

/// Writes a configuration into the stage's directory.
pub fn write_config(stage: &dyn Stage, text: &str) -> Result<PathBuf> {
    let file = stage.directory().join("tidegate.toml");
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// A status as JSON. What a test needs of it is read here, in one place.
#[derive(Debug)]
pub struct Status(pub Value);

/// One queue of one interface in a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// The interface.
    pub interface: String,
    /// The queue.
    pub queue: u64,
    /// How frames reach the worker.
    pub mode: String,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Every other counter that is not zero and not traffic: drops and retries, by reason.
    pub drops: Vec<(String, u64)>,
}

/// One worker in a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its number: the queue it owns.
    pub index: u64,
    /// Its process.
    pub pid: i32,
    /// Times it was started again.
    pub restarts: u64,
    /// In one word.
    pub state: String,
    /// Why the one before ended.
    pub last_exit: String,
}

impl Status {
    /// The workers, by number.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let number = |worker: &Value, field: &str| worker[field].as_u64().unwrap_or(0);
        let text = |worker: &Value, field: &str| worker[field].as_str().unwrap_or("").to_owned();
        let workers = self.0["workers"].as_array().map_or(&[][..], Vec::as_slice);
        workers
            .iter()
            .map(|worker| WorkerStatus {
                index: number(worker, "worker"),
                pid: number(worker, "pid") as i32,
                restarts: number(worker, "restarts"),
                state: text(worker, "state"),
                last_exit: text(worker, "last_exit"),
            })
            .collect()
    }

    /// A counter of the stack of worker `index`; absent ones are 0.
    pub fn stack(&self, index: usize, counter: &str) -> u64 {
        self.0["workers"][index]["stack"][counter]
            .as_u64()
            .unwrap_or(0)
    }

    /// A counter of the poll loop of worker `index`; absent ones are 0.
    pub fn turns(&self, index: usize, counter: &str) -> u64 {
        self.0["workers"][index]["loop"][counter]
            .as_u64()
            .unwrap_or(0)
    }

    /// A counter of the kernel sockets of worker `index`; absent ones are 0.
    pub fn socket(&self, index: usize, counter: &str) -> u64 {
        self.0["workers"][index]["sockets"][counter]
            .as_u64()
            .unwrap_or(0)
    }

    /// All counters of the stack of worker `index`, by name.
    pub fn stack_counters(&self, index: usize) -> Vec<(String, u64)> {
        let counters = self.0["workers"][index]["stack"].as_object();
        counters
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
            .collect()
    }

    /// A counter of a pool, summed over all workers.
    pub fn pool_total(&self, pool: &str, counter: &str) -> u64 {
        let pools = self.0["pools"].as_array().map_or(&[][..], Vec::as_slice);
        pools
            .iter()
            .filter(|entry| entry["name"] == pool)
            .filter_map(|entry| entry["counters"][counter].as_u64())
            .sum()
    }

    /// Requests of each pool that worker `index` took, with the pool's name.
    pub fn requests(&self, index: usize) -> Vec<(String, u64)> {
        let names = self.0["pools"].as_array().into_iter().flatten();
        let counters = self.0["workers"][index]["pools"]
            .as_array()
            .into_iter()
            .flatten();
        let pairs = names.zip(counters);
        pairs
            .filter_map(|(pool, counters)| {
                Some((
                    pool["name"].as_str()?.to_owned(),
                    counters["requests"].as_u64()?,
                ))
            })
            .collect()
    }

    /// The queues of worker `index`.
    pub fn queues(&self, index: usize) -> Vec<QueueStatus> {
        let queues = self.0["workers"][index]["queues"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let text = |queue: &Value, field: &str| queue[field].as_str().unwrap_or("-").to_owned();
        queues
            .iter()
            .map(|queue| QueueStatus {
                interface: text(queue, "interface"),
                queue: queue["queue"].as_u64().unwrap_or(0),
                mode: text(queue, "mode"),
                rx_frames: queue["counters"]["rx_frames"].as_u64().unwrap_or(0),
                tx_frames: queue["counters"]["tx_frames"].as_u64().unwrap_or(0),
                drops: drops(&queue["counters"]),
            })
            .collect()
    }

    /// Servers that the workers have no way to, and why.
    pub fn unreachable(&self) -> Vec<String> {
        let pools = self.0["pools"].as_array().into_iter().flatten();
        let servers = pools
            .filter_map(|pool| pool["servers"].as_array())
            .flatten();
        servers
            .filter_map(|server| {
                Some(format!(
                    "{}: {}",
                    server["name"],
                    server["unreachable"].as_str()?
                ))
            })
            .collect()
    }
}

/// The counters of a queue that tell of something unusual.
fn drops(counters: &Value) -> Vec<(String, u64)> {
    const TRAFFIC: [&str; 5] = ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "tx_kicks"];
    let counters = counters.as_object().into_iter().flatten();
    let unusual = counters.filter(|(name, _)| !TRAFFIC.contains(&name.as_str()));
    unusual
        .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}
