//! What the machine says meanwhile: memory of Tidegate's processes, ping, the control socket, and counters before and after.

use crate::appliance::{Appliance, Status};
use crate::netns::Namespace;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks. More would be load: each starts two processes.
const INTERVAL: Duration = Duration::from_millis(500);

/// Counters of pools that name what overload does.
const OF_POOLS: [&str; 11] = [
    "paused_requests",
    "paused_client_requests",
    "paused_servers",
    "paused_replies",
    "replies_over_hold",
    "replies_over_client_hold",
    "clients_closed_stalled",
    "client_errors",
    "forward_errors",
    "timeouts",
    "pins_refused",
];

/// The same of TCP.
const OF_STACK: [&str; 4] = [
    "frames_no_slot",
    "half_open_evicted",
    "half_open_expired",
    "retransmits",
];

/// The same of kernel sockets.
const OF_SOCKETS: [&str; 2] = ["accepts_paused_slots", "accepts_paused_descriptors"];

/// Counters and processes at one time.
#[derive(Clone, Debug)]
pub struct Counts {
    counters: BTreeMap<String, u64>,
    pids: Vec<i32>,
}

impl Counts {
    /// Those of now.
    pub fn take(appliance: &Appliance) -> Result<Self> {
        let status = appliance.status()?;
        let mut counters = BTreeMap::new();
        for pool in ["flooded", "quiet"] {
            for name in OF_POOLS {
                counters.insert(format!("{pool}: {name}"), status.pool_total(pool, name));
            }
        }
        for name in OF_STACK {
            counters.insert(name.to_owned(), status.stack(0, name));
        }
        for name in OF_SOCKETS {
            counters.insert(name.to_owned(), status.socket(0, name));
        }
        Ok(Self {
            counters,
            pids: pids(&status),
        })
    }

    /// The manager and its worker.
    pub fn pids(&self) -> &[i32] {
        &self.pids
    }

    /// Resident memory of all processes, in KiB.
    pub fn memory(&self) -> Result<u64> {
        self.pids.iter().map(|pid| resident_kib(*pid)).sum()
    }

    /// What was counted since, by name.
    pub fn since(&self, before: &Self) -> Vec<(String, u64)> {
        let counted = |(name, now): (&String, &u64)| {
            let then = before.counters.get(name).copied().unwrap_or(0);
            (name.clone(), now.saturating_sub(then))
        };
        let all = self.counters.iter().map(counted);
        all.filter(|(_, count)| *count > 0).collect()
    }
}

fn pids(status: &Status) -> Vec<i32> {
    let workers = status.workers().into_iter().map(|worker| worker.pid);
    let manager = status.0["pid"].as_i64();
    manager
        .map(|pid| pid as i32)
        .into_iter()
        .chain(workers)
        .collect()
}

fn resident_kib(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("/proc tells no resident memory")
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The most memory that all processes had, in KiB.
    pub memory_most: u64,
    /// Pings, and those without an answer.
    pub pings: u64,
    /// See [`Self::pings`].
    pub pings_lost: u64,
    /// The longest that `tidegate status` took.
    pub status_longest: Duration,
}

impl Watch {
    /// Looks until it is over. A `tidegate status` that fails is an error.
    pub fn until_over(
        appliance: &Appliance,
        client: &Namespace,
        counts: &Counts,
        over: &AtomicBool,
    ) -> Result<Self> {
        let mut watch = Self::default();
        loop {
            let last = over.load(Ordering::Acquire);
            watch.memory_most = watch.memory_most.max(counts.memory()?);
            let began = Instant::now();
            appliance.status().context("beside the offender")?;
            watch.status_longest = watch.status_longest.max(began.elapsed());
            watch.pings += 1;
            watch.pings_lost += u64::from(!answers(client)?);
            if last {
                return Ok(watch);
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

/// Whether the virtual address answers an echo request.
fn answers(client: &Namespace) -> Result<bool> {
    use crate::lab::addresses::{Family, vip};
    let mut ping = client.command("ping");
    ping.args(["-c", "1", "-W", "1", &vip(Family::V4).to_string()]);
    ping.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(ping.status().context("cannot start ping")?.success())
}
