//! The appliance: whole workers behind a simulated card, and the little of the manager that they need.

mod checks;
mod config;

use crate::books::Books;
use crate::host::{ends, mac_of};
use crate::port::SimPort;
use crate::random::{Random, mix};
use crate::scenario::{Scenario, Setting};
use crate::{APPLIANCE_MAC, MTU_BYTES, listen};
use anyhow::{Context, Result};
use checks::check_frames;
use config::config_text;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use tidegate_channel::flows::{FlowRecord, FlowsWriter};
use tidegate_channel::message::{
    NetworkDescriptors, Oracle, PacketDescriptors, PortFacts, StartDescriptors, WorkerStart,
};
use tidegate_channel::meters::Meters;
use tidegate_channel::paths::{PathEntry, PathReader, PathWriter};
use tidegate_channel::payload;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader, StatisticsWriter};
use tidegate_config::Config;
use tidegate_dataplane::assembly::{PacketWorker, Surroundings, assemble};
use tidegate_dataplane::control::{self, Command, CommandSender};
use tidegate_dataplane::events::EventSink;
use tidegate_dataplane::hand_over::{HandOverReceivers, HandOverSenders};
use tidegate_dataplane::network::Network;
use tidegate_dataplane::poll_loop::{State, Step};
use tidegate_dataplane::prepared::Preparer;
use tidegate_port::doorbell::Doorbell;
use tidegate_port::handover::{self, Receiver, Sender};

/// How often all tables are looked at: it takes as long as some turns.
const LOOK_TURNS: u64 = 64;

/// How long a manager keeps what a worker has left open for more than the next.
const ORPHANS_HELD_US: u64 = 20_000_000;

/// Time that the loop's clock shows when a worker starts.
const START_US: u64 = 1_000;

/// One worker.
struct Worker {
    poll_loop: PacketWorker<SimPort>,
    state: State,
    commands: CommandSender,
    preparer: Preparer,
    /// Its statistics page.
    page: StatisticsReader,
    /// The page that it is about to go on to.
    next_page: Option<StatisticsReader>,
    /// When its clock began.
    origin_us: u64,
    /// When its loop turns next, as far as the agenda knows.
    next_us: u64,
    suspended_us: u64,
    drains: bool,
    /// A configuration is on its way into the loop.
    takes_up: bool,
}

/// What those counted that are no more.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    frames_in: u64,
    handed_over: u64,
    received: u64,
}

/// All workers and the card.
pub struct Appliance {
    scenario: Scenario,
    config: Config,
    workers: Vec<Option<Worker>>,
    /// From each worker to each other.
    rings: Vec<Vec<Option<OwnedFd>>>,
    random: Random,
    starts: u64,
    turns: u64,
    past: Past,
    /// What each worker's successor has to end.
    orphans: Vec<Vec<FlowRecord>>,
    /// Frames that the links delivered.
    arrived: u64,
    /// Of those, frames for which there was no worker.
    no_socket: u64,
    /// Of those, frames that found their ring full, or went down with it.
    ring_full: u64,
}

impl Appliance {
    /// An appliance whose workers all run.
    pub fn new(scenario: &Scenario, now_us: u64) -> Result<Self> {
        let config = Config::parse(&config_text(scenario, scenario.setting), "sim")
            .context("the simulated configuration")?;
        let workers = scenario.workers;
        let ring = |from: usize, to: usize| {
            (from != to)
                .then(|| handover::create(scenario.hand_over_slots))
                .transpose()
        };
        let rings = (0..workers).map(|from| (0..workers).map(|to| ring(from, to)).collect());
        let mut appliance = Self {
            scenario: scenario.clone(),
            config,
            workers: (0..workers).map(|_| None).collect(),
            rings: rings.collect::<Result<_, _>>()?,
            random: Random::new(scenario.seed, 2),
            starts: 0,
            turns: 0,
            past: Past::default(),
            orphans: vec![Vec::new(); workers],
            arrived: 0,
            no_socket: 0,
            ring_full: 0,
        };
        for worker in 0..workers {
            appliance.start(worker, now_us)?;
        }
        Ok(appliance)
    }

    fn worker_start(&self, worker: usize) -> WorkerStart {
        let workers = self.workers.len() as u32;
        let oracle = match workers {
            1 => Oracle::Single,
            _ if self.scenario.software_rss => Oracle::Software { workers },
            queues => Oracle::PortXor { queues },
        };
        WorkerStart {
            config: self.config.clone(),
            worker: worker as u32,
            workers,
            core: None,
            ports: vec![PortFacts {
                ifindex: 1,
                queue: worker as u32,
                mac: APPLIANCE_MAC,
                mtu_bytes: MTU_BYTES as u32,
                generic: false,
                oracle,
            }],
            shared_listeners: Vec::new(),
            user: None,
            seed: mix(self.scenario.seed ^ mix(self.starts)),
            orphans: Vec::new(),
            timestamps_us: 0,
        }
    }

    fn layout(&self) -> StatisticsLayout {
        StatisticsLayout::of(&self.config, 1)
    }

    /// A path table with every configured server in it.
    fn paths(&self) -> Result<PathWriter> {
        let servers: Vec<_> = self.config.servers().collect();
        let mut paths = PathWriter::create(servers.len())?;
        for (number, (_, server)) in servers.into_iter().enumerate() {
            let destination = server.address.ip().context("servers have addresses")?;
            let IpAddr::V4(address) = destination.ip() else {
                continue;
            };
            let path = PathEntry {
                port: 0,
                source: listen(0).0.into(),
                destination,
                next_hop_mac: mac_of(address),
            };
            paths.set(number, Some(path));
        }
        Ok(paths)
    }

    /// A worker starts, as its manager would start it.
    pub fn start(&mut self, worker: usize, now_us: u64) -> Result<()> {
        if self.workers[worker].is_some() {
            return Ok(());
        }
        self.starts += 1;
        let start = WorkerStart {
            orphans: self.orphans[worker].clone(),
            timestamps_us: now_us,
            ..self.worker_start(worker)
        };
        let layout = self.layout();
        let page = layout.create()?;
        let paths = self.paths()?;
        let bell = Doorbell::new()?;
        let (commands, receiver) = control::commands(bell.try_clone()?);
        let others = (0..self.workers.len()).filter(|&other| other != worker);
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for other in 0..self.workers.len() {
            let to = self.rings[worker][other].as_ref();
            senders.push(
                to.map(|ring| Sender::open(ring.as_fd(), None))
                    .transpose()?,
            );
        }
        for other in others {
            let from = self.rings[other][worker].as_ref();
            receivers.extend(from.map(|ring| Receiver::open(ring.as_fd())).transpose()?);
        }
        let surroundings = Surroundings {
            statistics: StatisticsWriter::map(&page, layout)?,
            meters: Meters::map(&page, layout)?,
            flows: FlowsWriter::map(&page, layout)?,
            layout,
            paths: PathReader::map(paths.file(), layout.servers, layout.queues)?,
            senders: HandOverSenders::new(senders),
            receivers: HandOverReceivers::new(receivers),
            commands: receiver,
            events: EventSink::nowhere(),
            bell,
        };
        let port = SimPort::new(APPLIANCE_MAC, self.scenario.ring_slots);
        let poll_loop = assemble(&start, vec![port], surroundings, START_US)?;
        self.workers[worker] = Some(Worker {
            poll_loop,
            state: State::default(),
            commands,
            preparer: Preparer::new(&start),
            page: StatisticsReader::map(&page, layout)?,
            next_page: None,
            origin_us: now_us - START_US,
            next_us: u64::MAX,
            suspended_us: 0,
            drains: false,
            takes_up: false,
        });
        Ok(())
    }

    /// A worker is gone, between two turns. What it left open, the manager keeps for the next.
    pub fn kill(&mut self, worker: usize, now_us: u64) {
        let Some(gone) = self.workers[worker].take() else {
            return;
        };
        let orphans = &mut self.orphans[worker];
        if now_us - gone.origin_us >= ORPHANS_HELD_US {
            orphans.clear();
        }
        let next = gone.next_page.iter().flat_map(StatisticsReader::flows);
        let left = next.chain(gone.page.flows()).chain(orphans.drain(..));
        *orphans = left.collect();
        let port = &gone.poll_loop.network.ports[0];
        let counters = gone.poll_loop.network.counters();
        let waiting = port.waiting() as u64;
        self.past.frames_in += counters.frames_in;
        self.past.handed_over += counters.frames_handed_over;
        self.past.received += port.counted().rx_frames - waiting;
        self.ring_full += port.counted().rx_ring_full + waiting;
    }

    /// A worker gets no processor until then.
    pub fn suspend(&mut self, worker: usize, until_us: u64) {
        if let Some(worker) = &mut self.workers[worker] {
            worker.suspended_us = until_us;
        }
    }

    /// A worker is to end once it owes nothing.
    pub fn drain(&mut self, worker: usize, deadline_us: u64) {
        if let Some(worker) = &mut self.workers[worker] {
            worker.drains = true;
            worker.commands.send(Command::Drain { deadline_us });
        }
    }

    /// Every worker takes up another configuration, or none does.
    pub fn reload(&mut self, setting: Setting) -> Result<()> {
        let busy = |worker: &Worker| worker.takes_up || worker.drains;
        if self.workers.iter().flatten().any(busy) {
            return Ok(());
        }
        let text = config_text(&self.scenario, setting);
        let config = Config::parse(&text, "sim").context("the next configuration")?;
        let before = std::mem::replace(&mut self.config, config);
        let mut ready = Vec::new();
        for worker in 0..self.workers.len() {
            if self.workers[worker].is_none() {
                continue;
            }
            let (descriptors, page) = self.start_descriptors(worker)?;
            let Some(worker) = &self.workers[worker] else {
                continue;
            };
            let Ok(prepared) = worker.preparer.prepare(descriptors, &[]) else {
                // Too much is on its way out; an operator is told so.
                self.config = before;
                return Ok(());
            };
            ready.push((prepared, page));
        }
        for (worker, (prepared, page)) in self.workers.iter_mut().flatten().zip(ready) {
            worker.takes_up = true;
            worker.next_page = Some(page);
            worker.commands.send(Command::TakeUp(prepared));
        }
        Ok(())
    }

    fn start_descriptors(&self, worker: usize) -> Result<(Vec<OwnedFd>, StatisticsReader)> {
        let start = self.worker_start(worker);
        let others = (0..self.workers.len()).filter(|&other| other != worker);
        let mut packets = PacketDescriptors {
            paths: self.paths()?.file().try_clone()?,
            bells: Vec::new(),
            hand_over_to: Vec::new(),
            hand_over_from: Vec::new(),
        };
        for other in others {
            packets.bells.push(Doorbell::new()?.into_fd());
            let ring = |ring: &Option<OwnedFd>| ring.as_ref().map(OwnedFd::try_clone).transpose();
            packets
                .hand_over_to
                .extend(ring(&self.rings[worker][other])?);
            packets
                .hand_over_from
                .extend(ring(&self.rings[other][worker])?);
        }
        let layout = self.layout();
        let statistics = layout.create()?;
        let page = StatisticsReader::map(&statistics, layout)?;
        let descriptors = StartDescriptors {
            payload: payload::write(&start)?,
            statistics,
            bell: Doorbell::new()?.into_fd(),
            network: NetworkDescriptors::Packets(packets),
        };
        Ok((descriptors.into_list(), page))
    }

    /// A frame reaches the card. Returns the worker whose queue it was put on.
    pub fn arrive(&mut self, frame: Vec<u8>) -> Option<usize> {
        self.arrived += 1;
        let queues = self.workers.len();
        let hash = ends(&frame).map_or(0, |ends| usize::from(ends.from.1 ^ ends.to.1) >> 1);
        let queue = if self.random.per_mille(self.scenario.misrouted) {
            self.random.below(queues as u64) as usize
        } else {
            hash % queues
        };
        let Some(worker) = &mut self.workers[queue] else {
            self.no_socket += 1;
            return None;
        };
        worker.poll_loop.network.ports[0].arrive(frame);
        Some(queue)
    }

    /// Wants the worker's loop to turn at `at_us`. Returns when to enter it into the agenda, if it is not to turn before.
    pub fn wants_turn(&mut self, worker: usize, at_us: u64) -> Option<u64> {
        let worker = self.workers[worker].as_mut()?;
        let at_us = at_us.max(worker.suspended_us);
        if worker.next_us <= at_us {
            return None;
        }
        worker.next_us = at_us;
        Some(at_us)
    }

    /// A worker's loop turns, if this is the turn that is due. Returns when it wants to turn again.
    pub fn turn(
        &mut self,
        index: usize,
        now_us: u64,
        out: &mut Vec<Vec<u8>>,
        books: &mut Books,
    ) -> Option<u64> {
        let worker = self.workers[index].as_mut()?;
        if worker.next_us != now_us {
            return None;
        }
        worker.next_us = u64::MAX;
        if worker.suspended_us > now_us {
            return Some(worker.suspended_us);
        }
        let clock_us = now_us - worker.origin_us;
        let mut step = None;
        // Paths to servers come from the manager, and may take memory.
        let has_news = worker.poll_loop.network.has_news();
        let taken = allocation_counter::measure(|| {
            step = Some(worker.poll_loop.step(clock_us, &mut worker.state));
        });
        if taken.count_total > 0 && !has_news {
            books.break_promise(format!(
                "worker {index} took memory {} times in a turn",
                taken.count_total
            ));
        }
        worker.poll_loop.network.ports[0].depart(|frame| out.push(frame.to_vec()));
        if let Some(done) = worker.commands.taken_up() {
            worker.takes_up = false;
            if let Some(page) = worker.next_page.take() {
                worker.page = page;
            }
            worker.preparer.taken_up(*done);
        }
        check_frames(index, &worker.poll_loop.network.counters(), books);
        self.turns += 1;
        if self.turns.is_multiple_of(LOOK_TURNS) {
            self.check_ceiling(books);
        }
        match step? {
            Step::Busy => Some(now_us + 1 + self.random.below(6)),
            Step::Rests { us } => Some(now_us + us.max(1)),
            Step::Ended(_) => {
                self.kill(index, now_us);
                None
            }
        }
    }

    /// Workers that have frames of others to take.
    pub fn handed_over_to(&mut self) -> Vec<usize> {
        let workers = self.workers.iter_mut().enumerate();
        let waiting = workers.filter_map(|(index, worker)| {
            let receivers = &mut worker.as_mut()?.poll_loop.network.receivers;
            (receivers.waiting() > 0).then_some(index)
        });
        waiting.collect()
    }

    /// Connections that workers gave up because nothing was acknowledged.
    pub fn flows_timed_out(&self) -> u64 {
        let workers = self.workers.iter().flatten();
        let counters = workers.map(|worker| worker.poll_loop.network.counters());
        counters.map(|counters| counters.flows_timed_out).sum()
    }

    /// Whether nothing is left of any client.
    pub fn is_idle(&self) -> bool {
        self.workers.iter().all(|worker| {
            worker.as_ref().is_some_and(|worker| {
                let counters = worker.poll_loop.network.counters();
                worker.poll_loop.proxy.tables_in_use().is_idle()
                    && worker.poll_loop.proxy.clients_open() == 0
                    && counters.clients_open == counters.time_wait
                    && counters.half_open == 0
            })
        })
    }
}
