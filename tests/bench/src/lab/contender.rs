//! A proxy under measurement: how it starts, where its peers' TCP runs, and what it used of its core.

use super::losses::{self, Counts};
use crate::machine::{self, LOAD_CORE, PROXY_CORE};
use crate::results::{Contender, Effort, Losses, Placement};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use tidegate_tests::appliance::{Appliance, Status};
use tidegate_tests::config::{LabConfig, PoolText};
use tidegate_tests::lab::addresses::{Family, REDIS_PORT};
use tidegate_tests::lab::kernel_path::{self, PEER_SIDE};
use tidegate_tests::lab::process::Process;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::lab::topology::{CLIENT_SIDE, SERVER_SIDE};
use tidegate_tests::lab::{Lab, topology};
use tidegate_tests::netns::{Namespace, finish};
use tidegate_tests::scene::redis_vip;

/// Longer than a worker waits between two publications of its counters.
const PUBLISHED: Duration = Duration::from_millis(100);

/// A proxy that serves. Dropping it ends it.
pub struct Running<'l> {
    /// Who it is.
    pub contender: Contender,
    proxy: Proxy,
    lab: &'l Lab,
}

enum Proxy {
    Nutcracker(Process),
    Tidegate { appliance: Appliance, worker: i32 },
}

impl<'l> Running<'l> {
    /// Starts `contender` and waits until it serves. The calling thread must be free to use both cores.
    pub fn start(lab: &'l Lab, contender: Contender) -> Result<Self> {
        let proxy = match contender {
            Contender::Nutcracker => Proxy::Nutcracker(nutcracker(lab)?),
            Contender::Tidegate(ack) => tidegate(lab, ack.name())?,
        };
        let running = Self {
            contender,
            proxy,
            lab,
        };
        running.wait_until_serving()?;
        Ok(running)
    }

    /// Where clients connect to.
    pub fn target(&self) -> SocketAddr {
        match self.proxy {
            Proxy::Nutcracker(_) => SocketAddr::new(kernel_path::vip(), REDIS_PORT),
            Proxy::Tidegate { .. } => redis_vip(Family::V4),
        }
    }

    fn wait_until_serving(&self) -> Result<()> {
        let target = self.target();
        let started = Instant::now();
        loop {
            let reply = self.lab.hosts.client.run(|| {
                tidegate_tests::client::resp::Redis::open(target)?.words("SET bench:start 1")
            });
            match reply {
                Ok(reply) if reply == tidegate_tests::client::resp::Value::ok() => return Ok(()),
                other if started.elapsed() > Duration::from_secs(10) => {
                    anyhow::bail!("{} does not serve: {other:?}", self.contender.name())
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// The process on the proxy's core.
    fn pid(&self) -> i32 {
        match &self.proxy {
            Proxy::Nutcracker(process) => process.pid(),
            Proxy::Tidegate { worker, .. } => *worker,
        }
    }

    /// Whether nothing but the idle proxy used either core for a moment.
    pub fn is_undisturbed(&self) -> Result<bool> {
        /// Long against the kernel's clock ticks, short against a compilation.
        const MOMENT: Duration = Duration::from_millis(500);
        const IDLE_MIN: f64 = 0.95;
        let before = Clocks::read(self)?;
        std::thread::sleep(MOMENT);
        let now = Clocks::read(self)?;
        let wall_s = (now.at - before.at).as_secs_f64();
        let idle = |core: usize| now.idle_s[core] - before.idle_s[core];
        // A worker that polls has its core for itself, or something else does.
        let proxy_core = idle(PROXY_CORE) + now.process_s - before.process_s;
        Ok(proxy_core >= IDLE_MIN * wall_s && idle(LOAD_CORE) >= IDLE_MIN * wall_s)
    }

    fn status(&self) -> Result<Option<Status>> {
        match &self.proxy {
            Proxy::Nutcracker(_) => Ok(None),
            Proxy::Tidegate { appliance, .. } => appliance.status().map(Some),
        }
    }
}

/// One server connection per server and the same hash on both sides; everything else is each one's default.
fn nutcracker(lab: &Lab) -> Result<Process> {
    let servers: String = lab
        .redis
        .iter()
        .map(|server| format!("    - {}:1\n", server.address(Family::V4)))
        .collect();
    let config = format!(
        "redis:\n  listen: {}:{REDIS_PORT}\n  redis: true\n  hash: murmur\n  distribution: ketama\n  preconnect: true\n  \
         auto_eject_hosts: false\n  server_connections: 1\n  servers:\n{servers}",
        kernel_path::vip()
    );
    let file = lab.directory().join("nutcracker.yml");
    std::fs::write(&file, config)?;
    let file = file
        .to_str()
        .context("the lab's directory has a plain name")?;
    let line = ["nutcracker", "-c", file, "-a", "127.0.0.1"].map(str::to_owned);
    Process::start(
        &lab.hosts.kernel_path,
        lab.directory(),
        "nutcracker",
        Some(PROXY_CORE as u32),
        &line,
    )
}

fn tidegate(lab: &Lab, ack: &str) -> Result<Proxy> {
    let servers: Vec<SocketAddr> = lab
        .redis
        .iter()
        .map(|server| server.address(Family::V4))
        .collect();
    let mut config = LabConfig::without_pools(lab).pool(
        PoolText::new("redis", ServerKind::Redis, &servers)
            .with("hash = \"murmur\"")
            .with("distribution = \"ketama\"")
            .with("preconnect = true")
            .with("auto_eject_hosts = false")
            .with("server_connections = 1"),
    );
    config.port_lines.push(format!("ack = \"{ack}\""));
    // The core is the worker's alone, which is what this mode is for.
    config.worker_lines = vec!["idle = \"spin\"".to_owned()];
    let mut appliance = Appliance::start(lab, &config)?;
    let workers = appliance.status()?.workers();
    let worker = workers.first().context("Tidegate has no worker")?.pid;
    // The manager keeps off the core that is measured; the worker has pinned itself.
    let manager = appliance.process().pid().to_string();
    finish(Command::new("taskset").args(["-acp", &LOAD_CORE.to_string(), &manager]))?;
    Ok(Proxy::Tidegate { appliance, worker })
}

/// Chooses the core on which the hosts around the proxies do their TCP, for both kinds of proxy alike. A proxy on kernel
/// sockets has TCP of its own: in [`Placement::B`] it runs on the proxy's core, where its other work is.
pub fn place(lab: &Lab, placement: Placement) -> Result<()> {
    let (peers, own) = match placement {
        Placement::A => (0, 0),
        Placement::B => (1 << LOAD_CORE, 1 << PROXY_CORE),
    };
    let set = |host: &Namespace, device: &str, cores: i32| {
        host.shell(&format!(
            "echo {cores:x} > /sys/class/net/{device}/queues/rx-0/rps_cpus"
        ))
        .map(|_| ())
    };
    for (host, device) in topology::peers(&lab.hosts, lab.options.nics) {
        set(host, device, peers)?;
    }
    for host in [&lab.hosts.client, &lab.hosts.server] {
        set(host, PEER_SIDE, peers)?;
    }
    for device in [CLIENT_SIDE, SERVER_SIDE] {
        set(&lab.hosts.kernel_path, device, own)?;
    }
    Ok(())
}

/// What a proxy used between two moments.
pub struct Used {
    /// Time between them.
    pub wall_s: f64,
    /// The proxy's time; see [`crate::results::Saturation::busy_s`].
    pub busy_s: f64,
    /// Wall minus idle of its core.
    pub core_busy_s: f64,
    /// Its threads and the softirq thread, by the scheduler.
    pub scheduled_s: f64,
    /// Idle share of the load's core.
    pub load_core_idle: f64,
    /// Share of its core that something else took.
    pub foreign: f64,
    /// Per request.
    pub effort: Option<Effort>,
    /// What went wrong.
    pub losses: Losses,
}

/// The first of two moments.
pub struct Span {
    counts: Counts,
    status: Option<Status>,
    clocks: Clocks,
}

struct Clocks {
    at: Instant,
    idle_s: [f64; 2],
    process_s: f64,
    softirq_thread_s: f64,
}

impl Clocks {
    fn read(running: &Running<'_>) -> Result<Self> {
        Ok(Self {
            process_s: machine::scheduled_s(running.pid())?,
            softirq_thread_s: machine::scheduled_s(machine::softirq_thread(PROXY_CORE)?)?,
            idle_s: [machine::idle_s(PROXY_CORE)?, machine::idle_s(LOAD_CORE)?],
            at: Instant::now(),
        })
    }
}

impl Span {
    /// Now. Counters are read outside of the clocks, because reading them takes time.
    pub fn begin(lab: &Lab, running: &Running<'_>) -> Result<Self> {
        std::thread::sleep(PUBLISHED);
        Ok(Self {
            counts: losses::counts(lab, running.status()?.as_ref())?,
            status: running.status()?,
            clocks: Clocks::read(running)?,
        })
    }

    /// The second moment, after `requests` requests.
    pub fn end(self, lab: &Lab, running: &Running<'_>, requests: u64) -> Result<Used> {
        let now = Clocks::read(running)?;
        std::thread::sleep(PUBLISHED);
        let status = running.status()?;
        let before = self.clocks;
        let wall_s = (now.at - before.at).as_secs_f64();
        let idle = |core: usize| (now.idle_s[core] - before.idle_s[core]).clamp(0.0, wall_s);
        let core_busy_s = wall_s - idle(PROXY_CORE);
        let softirq_thread_s = now.softirq_thread_s - before.softirq_thread_s;
        let scheduled_s = now.process_s - before.process_s + softirq_thread_s;
        let busy_s = match (&self.status, &status) {
            (Some(before), Some(after)) => {
                let busy_ns = |status: &Status| number(&status.0["workers"][0]["loop"]["busy_ns"]);
                (busy_ns(after) - busy_ns(before)) / 1e9 + softirq_thread_s
            }
            _ => core_busy_s,
        };
        let effort = match (&self.status, &status) {
            (Some(before), Some(after)) => Some(effort(before, after, requests)),
            _ => None,
        };
        Ok(Used {
            wall_s,
            busy_s,
            core_busy_s,
            scheduled_s,
            load_core_idle: idle(LOAD_CORE) / wall_s,
            foreign: ((core_busy_s - scheduled_s) / wall_s).max(0.0),
            effort,
            losses: losses::between(&self.counts, &losses::counts(lab, status.as_ref())?),
        })
    }
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn effort(before: &Status, after: &Status, requests: u64) -> Effort {
    let per_request = |read: &dyn Fn(&serde_json::Value) -> f64| {
        (read(&after.0["workers"][0]) - read(&before.0["workers"][0])) / requests.max(1) as f64
    };
    let queues = |counter: &'static str| {
        [0, 1].map(|leg| {
            per_request(&move |worker| number(&worker["queues"][leg]["counters"][counter]))
        })
    };
    Effort {
        rx_frames: queues("rx_frames"),
        tx_frames: queues("tx_frames"),
        kicks: queues("tx_kicks"),
        acks_alone: per_request(&|worker| number(&worker["stack"]["acks_alone"])),
        busy_turns: per_request(&|worker| number(&worker["loop"]["busy_turns"])),
    }
}
