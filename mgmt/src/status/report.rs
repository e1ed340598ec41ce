//! The report. Its JSON is what scripts read: fields are only ever added.

use crate::control::server::ControlCounters;
use crate::stats::model::Windows;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidegate_channel::counters::{
    LinkCounters, LoopCounters, PoolCounters, QueueCounters, ServerCounters, SocketCounters,
    StackCounters,
};
use tidegate_channel::message::ObtainedMode;

/// Everything about an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the instance.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Process of the manager.
    pub pid: u32,
    /// `running` or `draining`.
    pub state: String,
    /// Seconds since the manager started.
    pub uptime_s: u64,
    /// The number of the configuration in force, counted from the start of the first manager of these workers.
    #[serde(default)]
    pub generation: u64,
    /// Settings that were changed and are not in the file, without their values.
    #[serde(default)]
    pub unsaved: Vec<String>,
    /// One per worker.
    pub workers: Vec<WorkerReport>,
    /// One per pool, in the order of the configuration.
    pub pools: Vec<PoolReport>,
    /// One per port, in the order of the configuration; none over kernel sockets.
    pub ports: Vec<PortReport>,
    /// What clients of the control socket did.
    #[serde(default)]
    pub control: ControlCounters,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its index: it serves this queue of every port.
    pub worker: u32,
    /// Its process; `None` while there is none.
    pub pid: Option<u32>,
    /// Version of the program that it runs; after an upgrade it may be an older one than the manager's.
    #[serde(default)]
    pub version: Option<String>,
    /// Its core; `None`: wherever the scheduler likes.
    pub core: Option<u32>,
    /// The number of the configuration that it works by.
    #[serde(default)]
    pub generation: u64,
    /// `starting`, `running`, `draining` or `waiting` (for its next start).
    pub state: String,
    /// Seconds since this process started.
    pub uptime_s: u64,
    /// The part of the time in which its loop had something to do, per cent; an earlier version does not tell.
    #[serde(default)]
    pub busy_percent: Option<Windows<f64>>,
    /// Processes started after the first.
    pub restarts: u64,
    /// How often it was killed because its heartbeat stopped.
    pub hung: u64,
    /// How often it was killed because of a system call that it must not use.
    #[serde(default)]
    pub forbidden_calls: u64,
    /// How the process before this one ended.
    pub last_exit: Option<String>,
    /// The poll loop's counters.
    #[serde(rename = "loop")]
    pub poll_loop: LoopCounters,
    /// The stack's counters.
    pub stack: StackCounters,
    /// Counters of kernel sockets, all zero on NICs.
    #[serde(default)]
    pub sockets: SocketCounters,
    /// ARP, neighbour discovery and echo; all zero where the kernel does that.
    pub link: LinkCounters,
    /// One per port; none over kernel sockets.
    pub queues: Vec<QueueReport>,
    /// Counters of each pool in this worker.
    pub pools: Vec<PoolCounters>,
    /// Counters of each server in this worker, counted over all pools.
    pub servers: Vec<ServerCounters>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Name of the interface.
    pub interface: String,
    /// Number of the queue.
    pub queue: u32,
    /// How frames reach it; `None` while no worker has opened it.
    pub mode: Option<ObtainedMode>,
    /// Its counters.
    pub counters: QueueCounters,
}

/// One pool, over all workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Name.
    pub name: String,
    /// Listening addresses.
    pub listen: Vec<String>,
    /// Sum over the workers.
    pub counters: PoolCounters,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerReport>,
}

/// One server, over all workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// The name that is hashed.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Why it cannot be reached now; `None`: there is a path.
    pub unreachable: Option<String>,
    /// Sum over the workers.
    pub counters: ServerCounters,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortReport {
    /// Name of the interface.
    pub interface: String,
    /// Whether the steering program runs in the driver (`native`) or behind it (`generic`).
    pub steering: String,
    /// Frames that arrived without that it saw one since; `None`: it is not known to be so. Nothing is served here while they do.
    #[serde(default)]
    pub bypassed: Option<u64>,
    /// There is no carrier, or the interface is down.
    #[serde(default)]
    pub link_down: bool,
    /// What the steering program decided, by verdict: frames since it was attached.
    pub verdicts: BTreeMap<String, u64>,
    /// Frames the interface itself dropped or failed to send, by the kernel's name, since it exists.
    pub device: BTreeMap<String, u64>,
}
