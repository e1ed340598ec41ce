//! The machine: what it is, what its cores did, and how to stay on one of them.

use crate::results::Machine;
use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs;
use std::process::Command;

/// The core of the proxy.
pub const PROXY_CORE: usize = 0;

/// The core of everything else: clients, servers and this program.
pub const LOAD_CORE: usize = 1;

/// Describes the machine as it is before a measurement.
pub fn describe(quick: bool, programs: &[(&str, &str)]) -> Machine {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']));
    Machine {
        date: Some(first_line("date", &["-u", "+%F"])),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        processor: processor.to_owned(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        revision: first_line("git", &["describe", "--always", "--dirty"]),
        programs: programs
            .iter()
            .map(|(program, flag)| first_line(program, &[flag]))
            .collect(),
        load_before: load_average(),
        load_after: String::new(),
        quick,
    }
}

/// The load averages of 1, 5 and 15 minutes.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

/// Some programs print their version on standard error.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return format!("{program}: not found");
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// Keeps the calling thread, and the threads and processes that it starts, on `cores`.
pub fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot pin to {cores:?}: this measurement needs two cores"))
}

/// Seconds that a core was idle since the machine started.
pub fn idle_s(core: usize) -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let head = format!("cpu{core} ");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix(&head))
        .with_context(|| format!("/proc/stat does not show core {core}"))?;
    // user nice system idle iowait …
    let ticks: u64 = line
        .split(' ')
        .skip(3)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(ticks as f64 / per_second as f64)
}

/// Seconds that all threads of a process have run, as the scheduler counts them.
pub fn scheduled_s(pid: i32) -> Result<f64> {
    let mut total_ns = 0;
    let tasks = format!("/proc/{pid}/task");
    for task in fs::read_dir(&tasks).with_context(|| format!("no process {pid}"))? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let ran = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
        total_ns += ran.unwrap_or(0);
    }
    Ok(total_ns as f64 / 1e9)
}

/// The thread that takes over a core's softirqs when there are too many of them.
pub fn softirq_thread(core: usize) -> Result<i32> {
    let name = format!("ksoftirqd/{core}");
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim() == name {
            return Ok(pid);
        }
    }
    anyhow::bail!("there is no thread {name}")
}
