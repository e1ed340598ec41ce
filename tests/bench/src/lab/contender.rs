//! A proxy under measurement: how it starts, where its peers' TCP runs, and what it used of its core.

use super::losses::{self, Counts};
use crate::machine::{self, LOAD_CORE, PROXY_CORE};
use crate::results::{Calls, Contender, Effort, Losses, Placement};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use tidegate_tests::appliance::{Appliance, Status, command};
use tidegate_tests::config::{LabConfig, PoolText};
use tidegate_tests::lab::addresses::{Family, REDIS_PORT};
use tidegate_tests::lab::kernel_path::{self, PEER_SIDE};
use tidegate_tests::lab::process::Process;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::lab::topology::{CLIENT_SIDE, SERVER_SIDE};
use tidegate_tests::lab::{Lab, program, topology};
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
    Kernel {
        /// The manager.
        _process: Process,
        workers: Vec<i32>,
    },
    Packets {
        appliance: Appliance,
        workers: Vec<i32>,
    },
}

/// Where a proxy runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// One worker, alone on [`PROXY_CORE`].
    One,
    /// Two workers on both cores, which they share with everything else.
    Both,
    /// Two workers, and nutcracker, on [`PROXY_CORE`], where each process gets a slice: see [`crate::slice`].
    Slices,
}

impl<'l> Running<'l> {
    /// Starts `contender` and waits until it serves. The calling thread must be free to use both cores.
    pub fn start(lab: &'l Lab, contender: Contender, cores: Cores) -> Result<Self> {
        let proxy = match contender {
            Contender::Nutcracker => Proxy::Nutcracker(nutcracker(lab, cores)?),
            Contender::Kernel(ack) => on_sockets(lab, ack.name(), cores)?,
            Contender::Packets(ack) | Contender::DpdkPacket(ack) | Contender::DpdkXdp(ack) => {
                on_packets(lab, ack.name(), cores)?
            }
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
            Proxy::Nutcracker(_) | Proxy::Kernel { .. } => {
                SocketAddr::new(kernel_path::vip(), REDIS_PORT)
            }
            Proxy::Packets { .. } => redis_vip(Family::V4),
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

    /// The processes which do the proxy's work.
    pub fn processes(&self) -> Vec<i32> {
        match &self.proxy {
            Proxy::Nutcracker(process) => vec![process.pid()],
            Proxy::Kernel { workers, .. } | Proxy::Packets { workers, .. } => workers.clone(),
        }
    }

    /// Seconds that the processes which do the proxy's work have run.
    pub fn scheduled_s(&self) -> Result<f64> {
        let processes = self.processes();
        processes.into_iter().map(machine::scheduled_s).sum()
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
            Proxy::Kernel { .. } => {
                status_of(&self.lab.hosts.kernel_path, KERNEL_INSTANCE).map(Some)
            }
            Proxy::Packets { appliance, .. } => appliance.status().map(Some),
        }
    }
}

/// One server connection per server and the same hash on both sides; everything else is each one's default.
fn nutcracker(lab: &Lab, cores: Cores) -> Result<Process> {
    let mut servers = String::new();
    for server in &lab.redis {
        let _ = writeln!(servers, "    - {}:1", server.address(Family::V4));
    }
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
        (cores != Cores::Both).then_some(PROXY_CORE as u32),
        &line,
    )
}

/// Name of the instance on kernel sockets.
const KERNEL_INSTANCE: &str = "bench-kernel";

/// Lines of the pool of every Tidegate.
const POOL: [&str; 5] = [
    "hash = \"murmur\"",
    "distribution = \"ketama\"",
    "preconnect = true",
    "auto_eject_hosts = false",
    "server_connections = 1",
];

/// What runs where. Workers that have slices are pinned once they run: queues do not share a core.
fn workers(cores: Cores) -> &'static str {
    match cores {
        Cores::One => "queues = { 0 = 0 }",
        Cores::Both => "queues = { 0 = 0, 1 = 1 }",
        Cores::Slices => "workers = 2",
    }
}

/// Tidegate in nutcracker's place: the same host, cables and addresses.
fn on_sockets(lab: &Lab, ack: &str, cores: Cores) -> Result<Proxy> {
    let servers: Vec<String> = lab
        .redis
        .iter()
        .map(|server| format!("\"{}:1\"", server.address(Family::V4)))
        .collect();
    let config = format!(
        "name = \"{KERNEL_INSTANCE}\"\n[[port]]\ndriver = \"kernel\"\n{}\nack = \"{ack}\"\n\
         [[pool]]\nname = \"redis\"\nprotocol = \"redis\"\nlisten = \"{}:{REDIS_PORT}\"\nservers = [{}]\n{}\n",
        workers(cores),
        kernel_path::vip(),
        servers.join(", "),
        POOL.join("\n")
    );
    let file = lab.directory().join("kernel.toml");
    std::fs::write(&file, config)?;
    let host = &lab.hosts.kernel_path;
    let mut command = host.command(program("tidegate")?);
    command.args(["run", "-c"]).arg(&file);
    let mut process = Process::start_command(
        &mut command,
        "tidegate-kernel",
        lab.directory().join("tidegate-kernel.log"),
    )?;
    let started = Instant::now();
    let workers: Vec<i32> = loop {
        if let Ok(status) = status_of(host, KERNEL_INSTANCE) {
            let workers = status.workers();
            if !workers.is_empty() && workers.iter().all(|worker| worker.state == "running") {
                break workers.iter().map(|worker| worker.pid).collect();
            }
        }
        let ended = process.ended();
        if ended.is_some() || started.elapsed() > Duration::from_secs(10) {
            anyhow::bail!("tidegate does not start: {ended:?}\n{}", process.log_text());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if cores != Cores::Both {
        move_to(LOAD_CORE, process.pid())?;
    }
    if cores == Cores::Slices {
        for worker in &workers {
            move_to(PROXY_CORE, *worker)?;
        }
    }
    Ok(Proxy::Kernel {
        _process: process,
        workers,
    })
}

fn status_of(host: &Namespace, name: &str) -> Result<Status> {
    let output = command(host, &["status", "--name", name, "--json"])?;
    anyhow::ensure!(
        output.status.success(),
        "tidegate status: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Status(serde_json::from_slice(&output.stdout)?))
}

/// Tidegate with a TCP of its own, on what the lab's driver is.
fn on_packets(lab: &Lab, ack: &str, cores: Cores) -> Result<Proxy> {
    let servers: Vec<SocketAddr> = lab
        .redis
        .iter()
        .map(|server| server.address(Family::V4))
        .collect();
    let pool = PoolText::new("redis", ServerKind::Redis, &servers);
    let pool = POOL.iter().fold(pool, |pool, line| pool.with(line));
    let mut config = LabConfig::without_pools(lab).pool(pool);
    config.port_lines.push(format!("ack = \"{ack}\""));
    if cores == Cores::One {
        // The core is the worker's alone, which is what this mode is for.
        config.worker_lines = vec!["idle = \"spin\"".to_owned()];
    }
    let mut appliance = Appliance::start(lab, &config)?;
    let workers = appliance.status()?.workers();
    let workers = workers.iter().map(|worker| worker.pid).collect();
    if cores == Cores::One {
        move_to(LOAD_CORE, appliance.process().pid())?;
    }
    Ok(Proxy::Packets { appliance, workers })
}

/// Moves all threads of a process. A manager does so, whose workers have pinned themselves, and workers that have not.
fn move_to(core: usize, pid: i32) -> Result<()> {
    let (core, pid) = (core.to_string(), pid.to_string());
    finish(Command::new("taskset").args(["-acp", &core, &pid])).map(drop)
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
    /// Per request, of a worker on AF_XDP.
    pub effort: Option<Effort>,
    /// Per request, of a worker on sockets.
    pub calls: Option<Calls>,
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
            process_s: running.scheduled_s()?,
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
        let both = self.status.as_ref().zip(status.as_ref());
        let (mut effort, mut calls, mut busy_s) = (None, None, core_busy_s);
        match (running.contender, both) {
            (contender, Some((before, after))) if contender.polls() => {
                let busy_ns = |status: &Status| number(&status.0["workers"][0]["loop"]["busy_ns"]);
                busy_s = (busy_ns(after) - busy_ns(before)) / 1e9 + softirq_thread_s;
                effort = Some(effort_of(before, after, requests));
            }
            (Contender::Kernel(_), Some((before, after))) => {
                calls = Some(calls_of(before, after, requests));
            }
            _ => {}
        }
        Ok(Used {
            wall_s,
            busy_s,
            core_busy_s,
            scheduled_s,
            load_core_idle: idle(LOAD_CORE) / wall_s,
            foreign: ((core_busy_s - scheduled_s) / wall_s).max(0.0),
            effort,
            calls,
            losses: losses::between(&self.counts, &losses::counts(lab, status.as_ref())?),
        })
    }
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// What the first worker counted between two moments, per request.
fn per_request(
    (before, after): (&Status, &Status),
    requests: u64,
    read: &dyn Fn(&serde_json::Value) -> f64,
) -> f64 {
    (read(&after.0["workers"][0]) - read(&before.0["workers"][0])) / requests.max(1) as f64
}

fn calls_of(before: &Status, after: &Status, requests: u64) -> Calls {
    let of = |counter: &'static str| {
        per_request((before, after), requests, &|worker| {
            number(&worker["sockets"][counter])
        })
    };
    Calls {
        waits: of("waits"),
        reads: of("reads"),
        writes: of("writes"),
        quick_acks: of("quick_acks"),
    }
}

fn effort_of(before: &Status, after: &Status, requests: u64) -> Effort {
    let per_request =
        |read: &dyn Fn(&serde_json::Value) -> f64| per_request((before, after), requests, read);
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
