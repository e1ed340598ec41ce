//! A lab with Tidegate running in it: what most end-to-end tests start from.

use crate::appliance::{Appliance, Status};
use crate::client::memcached::Memcached;
use crate::client::resp::Redis;
use crate::config::LabConfig;
use crate::lab::addresses::{self, Family, MEMCACHED_PORT, REDIS_PORT};
use crate::lab::process::Process;
use crate::lab::{Lab, LabOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A raised lab and the Tidegate in it. Fields are dropped in order: Tidegate ends before its network disappears.
#[derive(Debug)]
pub struct Scene {
    /// Tidegate.
    pub appliance: Appliance,
    /// Records the client's frames, if that was asked for.
    _capture: Option<Capture>,
    /// The lab around it.
    pub lab: Lab,
    /// Tests of one process take turns: two labs at once would share the cores and blur each other's load.
    _turn: Turn,
}

/// The right to raise a lab in this process.
pub type Turn = MutexGuard<'static, ()>;

/// Waits for the right to raise a lab. `None` without root, after saying so: the test is skipped.
pub fn turn_or_skip() -> Option<Turn> {
    static TURN: Mutex<()> = Mutex::new(());
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the lab makes network namespaces and needs root");
        return None;
    }
    // A failed test has poisoned it, which says nothing about the next.
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Scene {
    /// Raises a lab and starts Tidegate in it with the configuration that `configure` makes. `None` without root.
    pub fn raise(options: LabOptions, configure: impl FnOnce(&Lab) -> LabConfig) -> Option<Self> {
        let turn = turn_or_skip()?;
        let lab = Lab::raise(options)
            .unwrap_or_else(|error| panic!("the lab cannot be raised: {error:?}"));
        let appliance = Appliance::start(&lab, &configure(&lab))
            .unwrap_or_else(|error| panic!("Tidegate does not start: {error:?}"));
        let capture = Capture::start(&lab);
        Some(Self {
            appliance,
            _capture: capture,
            lab,
            _turn: turn,
        })
    }

    /// The usual lab: two queues, two interfaces, a pool of each protocol.
    pub fn usual() -> Option<Self> {
        Self::raise(LabOptions::default(), |lab| LabConfig::new(lab, Family::V4))
    }

    /// Waits until `condition` holds for Tidegate's status: workers publish their counters many times a second, not at once.
    pub fn wait_for_status(&mut self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        self.appliance
            .wait_for(what, condition)
            .unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Runs `work` on the client host.
    pub fn on_client<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.lab.hosts.client.run(work)
    }

    /// Runs `work` on the server host.
    pub fn on_server<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.lab.hosts.server.run(work)
    }
}

/// A tcpdump on the client host: the appliance's own kernel does not see what Tidegate takes. It runs when the environment variable
/// `TIDEGATE_LAB_CAPTURE` names a directory, and its file stays there when the test fails.
#[derive(Debug)]
struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    fn start(lab: &Lab) -> Option<Self> {
        let directory = PathBuf::from(std::env::var_os("TIDEGATE_LAB_CAPTURE")?);
        let file = directory.join(format!("{}.pcap", lab.name()));
        // Headers and the beginning of each request are enough; full packets of large values would fill the disk.
        let words = [
            "tcpdump",
            "--immediate-mode",
            "-i",
            "eth0",
            "-s",
            "256",
            "-U",
            "-Z",
            "root",
            "-w",
        ];
        let mut command_line: Vec<String> = words.map(str::to_owned).to_vec();
        command_line.push(file.display().to_string());
        let started = Process::start(
            &lab.hosts.client,
            lab.directory(),
            "tcpdump",
            None,
            &command_line,
        );
        let mut process = started
            .map_err(|error| eprintln!("nothing is captured: {error:#}"))
            .ok()?;
        // What is sent before it listens would be missing.
        while !process.log_text().contains("listening on") && process.ended().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { process, file })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.process.stop(Duration::from_secs(5));
        if std::thread::panicking() {
            eprintln!("the client's frames: {}", self.file.display());
        } else {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// Where clients reach the memcached pool.
pub fn memcached_vip(family: Family) -> SocketAddr {
    SocketAddr::new(addresses::vip(family), MEMCACHED_PORT)
}

/// Where clients reach the Redis pool.
pub fn redis_vip(family: Family) -> SocketAddr {
    SocketAddr::new(addresses::vip(family), REDIS_PORT)
}

/// A client of the memcached pool, for a thread on the client host.
pub fn memcached_client(family: Family) -> Memcached {
    Memcached::open(memcached_vip(family)).expect("the memcached pool accepts connections")
}

/// A client of the Redis pool, for a thread on the client host.
pub fn redis_client(family: Family) -> Redis {
    Redis::open(redis_vip(family)).expect("the Redis pool accepts connections")
}

/// A source port from which a connection to `to` is given to `worker` of two by the lab's steering; `number` tells several
/// apart.
pub fn source_port(worker: u16, number: u16, to: SocketAddr) -> u16 {
    20_000 + 4 * number + 2 * (worker ^ (to.port() >> 1) & 1)
}
