//! Puts a worker together. Everything that it ever allocates, it allocates here.

use crate::clock::Clock;
use crate::control::{self, CommandSender, Commands};
use crate::events::{self, EventSink};
use crate::hand_over::{HandOverReceivers, HandOverSenders};
use crate::idle::Idle;
use crate::limits::PORTS_MAX;
use crate::linger::Linger;
use crate::link_layer::{self, LinkLayer};
use crate::network::Network;
use crate::opening;
use crate::packets::PacketNetwork;
use crate::poll_loop::PollLoop;
use crate::publisher::{Publisher, unix_time_s};
use crate::reports::Reports;
use crate::worker::WorkerError;
use tidegate_channel::counters::LoopCounters;
use tidegate_channel::flows::FlowsWriter;
use tidegate_channel::message::{Oracle, PortFacts, WorkerStart};
use tidegate_channel::meters::Meters;
use tidegate_channel::paths::{PathReader, PathWriter};
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader, StatisticsWriter};
use tidegate_config::Config;
use tidegate_port::Port;
use tidegate_port::doorbell::Doorbell;
use tidegate_proxy::Proxy;
use tidegate_proxy::streams::Streams;
use tidegate_stack::Stack;

/// A worker on the queues of its ports.
pub type PacketWorker<P> = PollLoop<PacketNetwork<P, Stack>, Proxy>;

/// What a worker is connected to, apart from its ports.
pub struct Surroundings {
    /// Its statistics page.
    pub statistics: StatisticsWriter,
    /// Counts by command in the same page.
    pub meters: Meters,
    /// Open connections in the same page.
    pub flows: FlowsWriter,
    /// The layout of that page.
    pub layout: StatisticsLayout,
    /// The path table.
    pub paths: PathReader,
    /// To other workers.
    pub senders: HandOverSenders,
    /// From other workers.
    pub receivers: HandOverReceivers,
    /// From the control thread.
    pub commands: Commands,
    /// To the log and, for what it wants to know of single requests, to the manager.
    pub events: EventSink,
    /// Wakes it.
    pub bell: Doorbell,
}

/// Joins ports, stack and proxy.
pub fn assemble<P: Port>(
    start: &WorkerStart,
    ports: Vec<P>,
    surroundings: Surroundings,
    now_us: u64,
) -> Result<PacketWorker<P>, WorkerError> {
    let layout = surroundings.layout;
    let mut stack = opening::build_stack(start, layout.servers, now_us)?;
    stack.begin_timestamps(start.timestamps_us);
    stack.keep_record(surroundings.flows);
    stack.inherit(&start.orphans);
    let proxy = opening::build_proxy(
        &start.config,
        start.seed,
        stack.slots(),
        surroundings.meters,
        now_us,
    );
    let counters = LoopCounters {
        started_unix_s: unix_time_s(),
        ..LoopCounters::default()
    };
    Ok(PollLoop {
        network: PacketNetwork {
            ports,
            stack,
            senders: surroundings.senders,
            receivers: surroundings.receivers,
            paths: surroundings.paths,
            tap: None,
            link: link_layer::is_for(start).then(|| Box::new(LinkLayer::new(start, now_us))),
            doubts: link_layer::doubts(&start.config),
            announcements: Vec::with_capacity(PORTS_MAX),
            now_us,
        },
        proxy,
        events: surroundings.events,
        commands: surroundings.commands,
        bell: surroundings.bell,
        publisher: Publisher::new(surroundings.statistics, layout),
        idle: Idle::new(
            start.config.worker.idle,
            PacketNetwork::<P, Stack>::LOOKS_ARE_FREE,
        ),
        linger: Linger::default(),
        counters,
    })
}

/// What stands around a worker that has no manager.
pub struct Standalone {
    /// What it counts.
    pub statistics: StatisticsReader,
    /// How it reaches its servers. Ring the bell after a change.
    pub paths: PathWriter,
    /// Tells it to end.
    pub commands: CommandSender,
    /// Wakes it.
    pub bell: Doorbell,
}

/// A worker without a manager, alone on `ports`: for simulation, benchmarks and tests.
pub fn standalone<P: Port>(
    config: Config,
    ports: Vec<P>,
    seed: u64,
    clock: Clock,
) -> Result<(PacketWorker<P>, Standalone), WorkerError> {
    let facts = ports.iter().map(|port| PortFacts {
        ifindex: 0,
        queue: 0,
        mac: port.info().mac,
        mtu_bytes: port.info().mtu_bytes as u32,
        generic: false,
        oracle: Oracle::Single,
    });
    let start = WorkerStart {
        worker: 0,
        workers: 1,
        core: None,
        ports: facts.collect(),
        shared_listeners: Vec::new(),
        user: None,
        seed,
        orphans: Vec::new(),
        timestamps_us: 0,
        config,
    };
    let layout = StatisticsLayout::of(&start.config, ports.len());
    let page = layout.create()?;
    let paths = PathWriter::create(layout.servers)?;
    let bell = Doorbell::new()?;
    let (sender, commands) = control::commands(bell.try_clone()?);
    let surroundings = Surroundings {
        statistics: StatisticsWriter::map(&page, layout)?,
        meters: Meters::map(&page, layout)?,
        flows: FlowsWriter::map(&page, layout)?,
        layout,
        paths: PathReader::map(paths.file(), layout.servers, ports.len())?,
        senders: HandOverSenders::default(),
        receivers: HandOverReceivers::default(),
        commands,
        events: events::spawn(&start.config, Reports::nowhere())?,
        bell: bell.try_clone()?,
    };
    let now_us = clock.now_ns() / 1_000;
    let poll_loop = assemble(&start, ports, surroundings, now_us)?;
    let standalone = Standalone {
        statistics: StatisticsReader::map(&page, layout)?,
        paths,
        commands: sender,
        bell,
    };
    Ok((poll_loop, standalone))
}
