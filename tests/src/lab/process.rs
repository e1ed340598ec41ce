//! A child process of a stage: its log, its end.

use crate::host::Host;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running program whose output goes to a file. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` on `host`; both its outputs go to `<directory>/<name>.log`. With `core`, it runs there only.
    pub fn start(
        host: impl Into<Host>,
        directory: &Path,
        name: &str,
        core: Option<u32>,
        command_line: &[String],
    ) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let core = core.map(|core| core.to_string());
        let pinned = core.iter().flat_map(|core| ["taskset", "-c", core]);
        let mut words = pinned.chain(command_line.iter().map(String::as_str));
        let Some(program) = words.next() else {
            bail!("{name} has no command")
        };
        let mut command = host.into().command(program);
        command.args(words);
        Self::start_command(&mut command, name, log)
    }

    /// Starts a prepared command, its outputs appended to `log`.
    pub fn start_command(command: &mut Command, name: &str, log: PathBuf) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C goes to the foreground group; the stage decides itself in which order its processes end.
            .process_group(0);
        // Children inherit which signals are blocked, and would not end on one that this process waits for.
        let blocked = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let child = command.spawn();
        blocked.thread_set_mask()?;
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it has printed so far.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its name on the stage.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal; a process that has ended ignores it.
    pub fn signal(&mut self, signal: Signal) {
        // A child that was not waited for keeps its pid, so this cannot reach a stranger.
        if self.ended().is_none() {
            let _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }

    /// Waits at most `limit` for the end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if started.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end, and kills it when it has not done so within `limit`. Returns its status when it ended by itself.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
        let status = self.wait(limit);
        if status.is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(5));
    }
}
