//! What has to be removed, written down before it is made, and the removal itself.
//!
//! A lab is fully described by its name: the namespaces follow from it, a process belongs to the lab exactly when it lives in
//! one of them, and the veths go with the namespaces. So nothing has to be recorded while the lab is in use, and a
//! recycled pid can never be mistaken for one of the lab's.

use super::steering;
use super::topology::Hosts;
use crate::netns::Namespace;
use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One file per lab lies here, from before its first namespace until after its last.
const STATE_DIRECTORY: &str = "/run/tidegate-lab";

/// How long processes of a lab may take to end on SIGTERM before they are killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The record of one lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabState {
    /// Name of the lab; its namespaces are called after it.
    pub name: String,
    /// The process that raised it.
    pub owner: i32,
    /// When that process started, in clock ticks since boot: tells it from a later process with the same pid.
    pub owner_started: u64,
    /// It outlives its owner; only an explicit `down` removes it.
    pub stays: bool,
    /// Logs, configuration and data of the servers.
    pub directory: PathBuf,
}

impl LabState {
    /// The record's file.
    pub fn file(name: &str) -> PathBuf {
        Path::new(STATE_DIRECTORY).join(format!("{name}.json"))
    }

    /// Writes or replaces the record.
    pub fn write(&self) -> Result<()> {
        fs::create_dir_all(STATE_DIRECTORY)
            .with_context(|| format!("cannot make {STATE_DIRECTORY}; the lab needs root"))?;
        let file = Self::file(&self.name);
        // Renamed into place, so that a reader never sees half a record.
        let draft = file.with_extension("draft");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(&draft, &file)?;
        Ok(())
    }

    /// The record of the lab called `name`, if there is one.
    pub fn read(name: &str) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::file(name)).ok()?).ok()
    }

    /// The records of all labs of this machine, by name.
    pub fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir(STATE_DIRECTORY) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                Some(
                    entry
                        .ok()?
                        .file_name()
                        .to_str()?
                        .strip_suffix(".json")?
                        .to_owned(),
                )
            })
            .collect();
        names.sort();
        names.iter().filter_map(|name| Self::read(name)).collect()
    }

    /// Whether the process that raised the lab still runs.
    pub fn owner_lives(&self) -> bool {
        process_started(self.owner) == Some(self.owner_started)
    }

    /// The lab's namespaces.
    pub fn hosts(&self) -> Hosts {
        Hosts::of(&self.name)
    }

    /// Ends every process of the lab, removes its namespaces, its files and last the record. Safe to repeat, and to run while
    /// another process does the same.
    pub fn remove(&self) {
        let hosts = self.hosts();
        end_processes(&hosts);
        for host in hosts.possible() {
            if host.path().exists() {
                let _ = Command::new("ip")
                    .args(["netns", "del", host.name()])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
        }
        steering::unpin(&self.directory);
        let _ = fs::remove_dir_all(&self.directory);
        // An instance that was killed leaves its runtime directory, which is named like its lab.
        let _ = fs::remove_dir_all(Path::new("/run/tidegate").join(&self.name));
        let _ = fs::remove_file(Self::file(&self.name));
    }
}

/// Removes the labs that nobody will remove any more: owner dead, not meant to stay. Returns their names.
pub fn remove_leftovers() -> Vec<String> {
    let abandoned: Vec<LabState> = LabState::all()
        .into_iter()
        .filter(|state| !state.stays && !state.owner_lives())
        .collect();
    for state in &abandoned {
        state.remove();
    }
    abandoned.into_iter().map(|state| state.name).collect()
}

/// From now on Ctrl-C, SIGTERM and SIGHUP remove the labs of this process before it ends, so that its caller finds a clean machine.
/// Should they come while one is being raised, the janitor removes what this misses. To be called by the first thread.
pub fn remove_on_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Threads inherit this.
    signals.thread_block()?;
    let own_pid = std::process::id() as i32;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("{signal}: removing the lab.");
            for state in LabState::all()
                .iter()
                .filter(|state| state.owner == own_pid && !state.stays)
            {
                state.remove();
            }
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

/// When the process `pid` started (field 22 of `/proc/<pid>/stat`), or `None` when it is gone or a zombie.
pub fn process_started(pid: i32) -> Option<u64> {
    let fields = stat(pid)?;
    let dead = fields[0] == "Z" || fields[0] == "X";
    fields.get(19).filter(|_| !dead)?.parse().ok()
}

/// The parent of the process `pid` (field 4 of `/proc/<pid>/stat`).
fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// The fields of `/proc/<pid>/stat` from the third, the state, on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses; everything after the last one is regular.
    Some(
        stat.get(stat.rfind(')')? + 2..)?
            .split(' ')
            .map(str::to_owned)
            .collect(),
    )
}

/// Processes that live in one of the hosts.
pub fn processes(hosts: &Hosts) -> Vec<i32> {
    let ours: Vec<(u64, u64)> = hosts
        .possible()
        .iter()
        .filter_map(|host| fs::metadata(host.path()).ok())
        .map(|meta| (meta.dev(), meta.ino()))
        .collect();
    let own_pid = std::process::id() as i32;
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own_pid && process_started(*pid).is_some())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|meta| ours.contains(&(meta.dev(), meta.ino())))
        })
        .collect()
}

/// What is there of the lab called `name`, in words: namespaces, processes, its record and its files.
pub fn traces(name: &str) -> Vec<String> {
    let hosts = Hosts::of(name);
    let files = [
        std::env::temp_dir().join("tidegate-lab").join(name),
        Path::new("/run/tidegate").join(name),
    ];
    let namespaces = hosts.possible().map(Namespace::path);
    let mut traces: Vec<String> = namespaces
        .into_iter()
        .chain(files)
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    traces.extend(processes(&hosts).iter().map(|pid| format!("process {pid}")));
    traces.extend(LabState::read(name).map(|state| format!("{state:?}")));
    traces
}

fn end_processes(hosts: &Hosts) {
    let started = Instant::now();
    let mut signal = Signal::SIGTERM;
    let mut signalled: Vec<i32> = Vec::new();
    loop {
        let left = processes(hosts);
        if left.is_empty() {
            return;
        }
        if started.elapsed() > PATIENCE {
            signal = Signal::SIGKILL;
        }
        if started.elapsed() > PATIENCE * 2 {
            return;
        }
        for pid in &left {
            let pid = *pid;
            // A program ends its own children in its own order.
            if signal == Signal::SIGTERM && parent(pid).is_some_and(|parent| left.contains(&parent))
            {
                continue;
            }
            // Once is enough: a second SIGTERM asks some programs for haste, and the lab is not in one.
            if signal == Signal::SIGKILL || !signalled.contains(&pid) {
                signalled.push(pid);
                let _ = kill(Pid::from_raw(pid), signal);
                // A stopped process takes its signals only when it goes on.
                let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
