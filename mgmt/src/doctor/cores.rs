//! The cores of workers: who else runs there, how deep they sleep, how far away they are.

use super::{Findings, Patient};
use crate::host::{numbers, value};
use tidegate_config::IdleMode;
use tidegate_dataplane::affinity::core_list;

const ABOUT: &str = "cores";
const CPUS: &str = "/sys/devices/system/cpu";
/// A sleep from which a core wakes no slower than this costs less than the frame's own way.
const WAKE_US_MAX: u64 = 20;

pub fn look(patient: &Patient<'_>, findings: &mut Findings) {
    let cores = patient.cores();
    of_quota(patient, findings);
    if cores.is_empty() {
        return;
    }
    of_isolation(patient, &cores, findings);
    of_siblings(patient, &cores, findings);
    of_sleep(patient, &cores, findings);
    of_distance(patient, findings);
}

fn of_isolation(patient: &Patient<'_>, cores: &[u32], findings: &mut Findings) {
    let Some(isolated) = value(patient.host, &format!("{CPUS}/isolated")) else {
        return;
    };
    let isolated = numbers(&isolated);
    let mut shared = cores.to_vec();
    shared.retain(|core| !isolated.contains(core));
    if shared.is_empty() {
        return;
    }
    let list = core_list(&shared);
    findings.slower(
        ABOUT,
        format!("the scheduler may put other processes on cores {list} of workers, which pauses those"),
        format!(
            "on a dedicated host: isolcpus={list} nohz_full={list} on the kernel's command line, or CPUAffinity= for all other services"
        ),
    );
}

fn of_siblings(patient: &Patient<'_>, cores: &[u32], findings: &mut Findings) {
    let mut told = Vec::new();
    for core in cores {
        let file = format!("{CPUS}/cpu{core}/topology/thread_siblings_list");
        let siblings = numbers(&value(patient.host, &file).unwrap_or_default());
        if siblings.len() < 2 || told.contains(&siblings) {
            continue;
        }
        let workers: Vec<u32> = siblings
            .iter()
            .copied()
            .filter(|sibling| cores.contains(sibling))
            .collect();
        let list = core_list(&siblings);
        if workers.len() > 1 {
            findings.slower(
                ABOUT,
                format!("cores {list} are one core with several threads (SMT), and several workers share it"),
                "give each worker a core of its own: queues = { … }",
            );
        }
        told.push(siblings);
    }
}

/// Only those who sleep wake up late.
fn of_sleep(patient: &Patient<'_>, cores: &[u32], findings: &mut Findings) {
    let spins = patient
        .config
        .is_some_and(|config| config.worker.idle == IdleMode::Spin);
    if spins {
        return;
    }
    let mut deep = Vec::new();
    let mut worst = (0, String::new());
    for core in cores {
        let directory = format!("{CPUS}/cpu{core}/cpuidle");
        for state in patient.host.list(&directory) {
            let read = |file: &str| value(patient.host, &format!("{directory}/{state}/{file}"));
            let latency: u64 = read("latency")
                .and_then(|latency| latency.parse().ok())
                .unwrap_or_default();
            if latency > WAKE_US_MAX && read("disable").as_deref() == Some("0") {
                deep.push(*core);
                if latency > worst.0 {
                    worst = (latency, read("name").unwrap_or(state));
                }
            }
        }
    }
    deep.dedup();
    if deep.is_empty() {
        return;
    }
    let (latency, name) = worst;
    findings.slower(
        ABOUT,
        format!(
            "cores {} of workers sleep as deep as {name} when idle, and take {latency} µs to wake for the next request",
            core_list(&deep)
        ),
        format!(
            "idle = \"spin\", or cpupower --cpu {} idle-set --disable-by-latency {WAKE_US_MAX}",
            core_list(&deep)
        ),
    );
}

fn of_distance(patient: &Patient<'_>, findings: &mut Findings) {
    for nic in patient.facts.nics.values().flatten() {
        let near = nic
            .numa_node
            .and_then(|node| Some((node, patient.facts.node_cores.get(&node)?)));
        let Some((node, near)) = near else { continue };
        let mut far = patient.cores();
        far.retain(|core| !near.contains(core));
        if !far.is_empty() {
            findings.slower(
                ABOUT,
                format!(
                    "cores {} of workers are not on memory node {node}, where {} is: every frame crosses between processors",
                    core_list(&far),
                    nic.name
                ),
                format!("take cores of {}: queues = {{ … }}", core_list(near)),
            );
        }
    }
}

/// A container's share of the processors.
fn of_quota(patient: &Patient<'_>, findings: &mut Findings) {
    let groups = value(patient.host, "/proc/self/cgroup").unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::")) else {
        return;
    };
    // Each group above limits it as well.
    let mut group = group.trim_end_matches('/');
    loop {
        let limit = value(patient.host, &format!("/sys/fs/cgroup{group}/cpu.max"));
        let limit = limit.unwrap_or_default();
        let mut words = limit.split_whitespace().map(str::parse::<u64>);
        if let (Some(Ok(quota)), Some(Ok(period))) = (words.next(), words.next())
            && period > 0
        {
            let percent = quota * 100 / period;
            findings.slower(
                ABOUT,
                format!(
                    "this process may use {percent} % of one core (cpu.max of control group {group:?}) and is stopped when it has"
                ),
                "raise the limit of the container or service (docker --cpus, systemd CPUQuota=)",
            );
        }
        match group.rsplit_once('/') {
            Some((above, _)) => group = above,
            None => return,
        }
    }
}
