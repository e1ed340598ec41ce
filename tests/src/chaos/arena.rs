//! A lab with a Tidegate and clients in it, and the hands that disturb them.

use super::loss::Loss;
use super::probe::{Prober, Question};
use super::schedule::{Event, Kind};
use super::stand::{Ends, Stand};
use super::{dialect, memory, setup, sockets, witness};
use crate::appliance::Appliance;
use crate::lab::addresses::Family;
use crate::lab::servers::{Server, ServerKind};
use crate::lab::{Lab, LabOptions};
use crate::netns::Namespace;
use crate::plan::Plan;
use crate::stage::Driver;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Workers. The steering of probes knows two.
pub const WORKERS: u16 = 2;

/// Servers of each kind.
pub const SERVERS: usize = 3;

/// The interface of the client and of the server host.
pub(super) const FAR_END: &str = "eth0";

/// Packets on a good day, and the smallest with which IPv6 works.
const MTU: u32 = 1_500;
const SMALL_MTU: u32 = 1_280;

/// Everything that a run plays with. Fields are dropped in order.
#[derive(Debug)]
pub struct Arena {
    /// Tidegate.
    pub appliance: Appliance,
    /// Around it.
    pub lab: Lab,
    /// What the clients share.
    pub stand: Arc<Stand>,
    prober: Prober,
    /// Changes of the configuration so far.
    changes: u64,
    replacements: u64,
}

/// What a disturbance did.
#[derive(Debug)]
pub struct Effect {
    /// How long it took until new connections were served.
    pub recovery: Duration,
    /// The connections that were served by other workers than the one that died. One that was opened later is none of them: what waits
    /// for a worker that dies dies with it.
    pub of_others: BTreeSet<Ends>,
}

impl Arena {
    /// Raises the lab, starts Tidegate and finds out which server has which key. `clients` clients share it; half of them speak
    /// memcached.
    pub fn raise(driver: Driver, clients: usize) -> Result<Self> {
        let lab = Lab::raise(LabOptions {
            driver,
            queues: u32::from(WORKERS),
            memcached: SERVERS,
            redis: SERVERS,
            ..LabOptions::default()
        })?;
        for host in lab.hosts.all() {
            host.run(setup::bear_disturbances)?;
        }
        let appliance = Appliance::start(&lab, &setup::config(&lab, 0, 0))?;
        let stand = Arc::new(Stand::new(Plan::Lab, clients, SERVERS));
        let mut questions = Vec::new();
        for kind in [ServerKind::Memcached, ServerKind::Redis] {
            questions.push(Question::new(kind, &setup::probe_keys(&lab, kind)?));
            let own = (0..clients).filter(|client| kind_of(*client) == kind);
            for client in own {
                let names = witness::dialect(client, kind);
                let first = |key: &String| (key.clone(), dialect::value(key, 0));
                let mut items: Vec<_> = names.keys.iter().map(first).collect();
                items.push((names.counter, b"0".to_vec()));
                for ((key, _), server) in items.iter().zip(setup::place(&lab, kind, &items)?) {
                    stand.place(key.clone(), server);
                }
            }
        }
        Ok(Self {
            appliance,
            lab,
            stand,
            prober: Prober::new(driver, WORKERS, questions),
            changes: 0,
            replacements: 0,
        })
    }

    /// Does what `event` says, and waits until new connections are served again.
    pub fn disturb(&mut self, event: &Event) -> Result<Effect> {
        let mut set = if event.with_set {
            Some(self.begin_set()?)
        } else {
            None
        };
        let effect = self.act(event).with_context(|| event.kind.what());
        if let Some(set) = &mut set {
            // It may be refused, for example by a worker that died meanwhile. It has to come to an end.
            set.wait()?;
        }
        effect
    }

    fn act(&mut self, event: &Event) -> Result<Effect> {
        let length = Duration::from_millis(event.length_ms);
        let mut of_others = BTreeSet::new();
        let recovery = match event.kind {
            Kind::WorkerKill | Kind::WorkerHang => {
                let worker = event.target % usize::from(WORKERS);
                let pid = self.appliance.status()?.workers()[worker].pid;
                of_others = self.connections_beside(worker, pid)?;
                let signal = if event.kind == Kind::WorkerKill {
                    Signal::SIGKILL
                } else {
                    Signal::SIGSTOP
                };
                kill(Pid::from_raw(pid), signal)?;
                self.recover(Instant::now())?
            }
            Kind::WorkerPause => {
                let worker = event.target % usize::from(WORKERS);
                let pid = Pid::from_raw(self.appliance.status()?.workers()[worker].pid);
                kill(pid, Signal::SIGSTOP)?;
                sleep(length);
                kill(pid, Signal::SIGCONT)?;
                self.recover(Instant::now())?
            }
            Kind::ManagerKill => {
                self.appliance.kill_manager()?;
                let recovery = self.recover(Instant::now())?;
                sleep(length);
                self.appliance.run_again()?;
                recovery
            }
            Kind::ManagerPause => {
                self.appliance.process().signal(Signal::SIGSTOP);
                sleep(length);
                let recovery = self.recover(Instant::now())?;
                self.appliance.process().signal(Signal::SIGCONT);
                recovery
            }
            Kind::RedisKill => self.kill_server(ServerKind::Redis, event.target, length)?,
            Kind::MemcachedKill => self.kill_server(ServerKind::Memcached, event.target, length)?,
            Kind::ServerPause => {
                let kind = kind_of(event.target);
                let server = self.server(kind, event.target / 2);
                let process = server.process().context("the server is up")?;
                process.signal(Signal::SIGSTOP);
                // Now shorter than a request may take, now longer.
                sleep(3 * length);
                process.signal(Signal::SIGCONT);
                self.recover(Instant::now())?
            }
            Kind::RedisFull => self.fill_redis(event.target, length)?,
            Kind::MemcachedFull => self.fill_memcached(event.target, length)?,
            Kind::ClientLink => self.cut(&self.lab.hosts.client.clone(), length)?,
            Kind::ServerLink => self.cut(&self.lab.hosts.server.clone(), length)?,
            Kind::NeighbourFlush => {
                for host in self.lab.hosts.all() {
                    host.shell("ip neigh flush all")?;
                }
                self.recover(Instant::now())?
            }
            Kind::NewAddress => {
                let [.., high, low] = (event.target as u32).to_be_bytes();
                let address = format!("02:77:00:00:{high:02x}:{low:02x}");
                let command = format!("ip link set {FAR_END} address {address}");
                self.lab.hosts.server.shell(&command)?;
                self.recover(Instant::now())?
            }
            Kind::SmallPackets => {
                self.set_mtu(SMALL_MTU)?;
                sleep(length);
                self.set_mtu(MTU)?;
                self.recover(Instant::now())?
            }
            Kind::Loss => {
                let hosts = &self.lab.hosts;
                let losses = [&hosts.client, &hosts.server]
                    .map(|host| Loss::begin(host, FAR_END, event.percent));
                for loss in &losses {
                    if let Err(error) = loss {
                        bail!("{error:#}");
                    }
                }
                sleep(length);
                drop(losses);
                self.recover(Instant::now())?
            }
            Kind::Set => {
                let done = self.begin_set()?.wait()?;
                ensure!(done.success(), "`tidegate set` failed: {done}");
                self.recover(Instant::now())?
            }
            Kind::Reload => {
                self.changes += 1;
                self.reload()?;
                self.recover(Instant::now())?
            }
            Kind::Replace => self.replace()?,
        };
        Ok(Effect {
            recovery,
            of_others,
        })
    }

    /// Waits until probes are served, and says how long that took since `since`.
    pub fn recover(&mut self, since: Instant) -> Result<Duration> {
        let (client, appliance) = (&self.lab.hosts.client, &self.lab.hosts.appliance);
        let on_sockets = self.lab.options.driver == Driver::Kernel;
        let prober = &mut self.prober;
        client.run(|| prober.wait(|| !on_sockets || sockets::everybody_listens(appliance)))?;
        Ok(since.elapsed())
    }

    fn server(&mut self, kind: ServerKind, target: usize) -> &mut Server {
        let servers = match kind {
            ServerKind::Memcached => &mut self.lab.memcached,
            ServerKind::Redis => &mut self.lab.redis,
        };
        &mut servers[target % SERVERS]
    }

    fn kill_server(
        &mut self,
        kind: ServerKind,
        target: usize,
        length: Duration,
    ) -> Result<Duration> {
        let stand = Arc::clone(&self.stand);
        let ages = stand.ages(kind);
        ages.turn(target % SERVERS);
        let server = self.server(kind, target);
        server.kill();
        sleep(length);
        server.restart()?;
        ages.turn(target % SERVERS);
        self.recover(Instant::now())
    }

    fn fill_redis(&mut self, target: usize, length: Duration) -> Result<Duration> {
        let address = self.server(ServerKind::Redis, target).address(Family::V4);
        let host = self.lab.hosts.server.clone();
        host.run(|| memory::refuse_writes(address))?;
        sleep(length);
        host.run(|| memory::take_writes(address))?;
        self.recover(Instant::now())
    }

    /// Reads may miss from now on, until there is room again.
    fn fill_memcached(&mut self, target: usize, length: Duration) -> Result<Duration> {
        let stand = Arc::clone(&self.stand);
        let ages = stand.ages(ServerKind::Memcached);
        let server = self.server(ServerKind::Memcached, target);
        let address = server.address(Family::V4);
        ages.turn(target % SERVERS);
        self.lab.hosts.server.run(|| memory::fill(address))?;
        sleep(length);
        let host = &self.lab.hosts.server;
        host.run(|| memory::relieve(address))?;
        ages.turn(target % SERVERS);
        self.recover(Instant::now())
    }

    /// Takes the far end of a cable down; the appliance sees that its own has no carrier.
    fn cut(&mut self, host: &Namespace, length: Duration) -> Result<Duration> {
        host.shell(&format!("ip link set {FAR_END} down"))?;
        sleep(length);
        host.shell(&format!("ip link set {FAR_END} up"))?;
        self.recover(Instant::now())
    }

    fn set_mtu(&self, mtu: u32) -> Result<()> {
        for host in [&self.lab.hosts.client, &self.lab.hosts.server] {
            host.shell(&format!("ip link set {FAR_END} mtu {mtu}"))?;
        }
        Ok(())
    }

    /// Begins to change a setting of both pools, one after the other over time.
    fn begin_set(&mut self) -> Result<Child> {
        self.changes += 1;
        let pool = ["memcached", "redis"][self.changes as usize % 2];
        let value = format!("timeout_ms={}", setup::TIMEOUT_MS + self.changes % 10);
        let mut command =
            self.appliance
                .command(&["set", "--name", self.lab.name(), "pool", pool, &value])?;
        command.spawn().context("cannot start tidegate set")
    }

    fn reload(&mut self) -> Result<()> {
        let text = setup::config(&self.lab, self.changes, self.replacements).to_toml();
        fs::write(self.appliance.config_file(), text)?;
        let output = self.appliance.ask(&["reload", "--name", self.lab.name()])?;
        ensure!(
            output.status.success(),
            "`tidegate reload` failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Takes up the configuration of the beginning, and forgets what was set.
    pub fn settle(&mut self) -> Result<()> {
        self.changes += self.changes % 2;
        self.reload()
    }

    fn replace(&mut self) -> Result<Duration> {
        let before = self.appliance.status()?.workers();
        self.replacements += 1;
        self.reload()?;
        self.appliance.wait_for("new workers", |status| {
            let workers = status.workers();
            let pairs = workers.iter().zip(&before);
            workers.len() == before.len()
                && pairs
                    .into_iter()
                    .all(|(worker, before)| worker.pid != before.pid && worker.state == "running")
        })?;
        self.recover(Instant::now())
    }

    /// The open connections of clients that other workers serve.
    fn connections_beside(&self, worker: usize, pid: i32) -> Result<BTreeSet<Ends>> {
        let open = self.stand.open_connections().into_iter();
        if self.lab.options.driver.is_steered() {
            let is_his = |ends: &Ends| {
                let queue = (ends.client.port() ^ ends.pool.port()) >> 1 & (WORKERS - 1);
                usize::from(queue) == worker
            };
            return Ok(open.filter(|ends| !is_his(ends)).collect());
        }
        let appliance = &self.lab.hosts.appliance;
        let established = appliance.shell("ss -Htnp state established")?;
        let clients = sockets::clients_of(pid, &established);
        Ok(open
            .filter(|ends| !clients.contains(&ends.client))
            .collect())
    }
}

/// Half of the clients ask memcached.
pub fn kind_of(number: usize) -> ServerKind {
    [ServerKind::Memcached, ServerKind::Redis][number % 2]
}
