//! Another configuration on its way into the loop: made by the control thread, which may allocate, open and wait; taken up by the loop
//! between two turns; and given back, so that what was replaced is dropped where it was made.

use crate::events::Names;
use crate::link_layer;
use crate::network::NetworkChange;
use crate::opening;
use crate::packets::PacketChange;
use crate::publisher::Publisher;
use crate::sockets::Listening;
use crate::sockets::reconfigure::SocketChange;
use crate::worker::WorkerError;
use std::os::fd::OwnedFd;
use tidegate_channel::flows::FlowsWriter;
use tidegate_channel::message::{NetworkDescriptors, StartDescriptors, WorkerStart};
use tidegate_channel::meters::Meters;
use tidegate_channel::paths::PathReader;
use tidegate_channel::payload;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsWriter};
use tidegate_config::{Config, IdleMode};
use tidegate_link::Wanted;
use tidegate_proxy::{Change, Left};
use tidegate_stack::StackChange;

/// Everything that the loop exchanges.
pub struct Prepared {
    /// For the proxy.
    pub proxy: Change,
    /// For what is below it.
    pub network: NetworkChange,
    /// For the statistics, on a page of their own.
    pub publisher: Publisher,
    /// What to do when idle.
    pub idle: IdleMode,
    /// Names of pools and servers, for the log.
    pub names: Option<Box<Names>>,
    /// What is on its way out, once the loop has taken all this up.
    pub left: Left,
    config: Config,
    kept: Vec<OwnedFd>,
}

/// The control thread's knowledge of what is in force.
pub struct Preparer {
    config: Config,
    queues: usize,
    seed: u64,
    left: Left,
    /// It has a link layer of its own.
    has_link: bool,
}

impl Preparer {
    /// Begins with what the worker was started with.
    pub fn new(start: &WorkerStart) -> Self {
        Self {
            config: start.config.clone(),
            queues: start.ports.len(),
            seed: opening::proxy_seed(start.seed),
            left: Left::default(),
            has_link: link_layer::is_for(start),
        }
    }

    /// Makes a change of what the manager sent: what a new start would bring, and sockets for the listening addresses `opened`.
    pub fn prepare(
        &self,
        mut descriptors: Vec<OwnedFd>,
        opened: &[u32],
    ) -> Result<Box<Prepared>, WorkerError> {
        const FEW: WorkerError = WorkerError::Unexpected("a wrong number of descriptors");
        let of_start = descriptors.len().checked_sub(opened.len()).ok_or(FEW)?;
        let sockets = descriptors.split_off(of_start);
        let kept = descriptors
            .iter()
            .map(OwnedFd::try_clone)
            .collect::<std::io::Result<Vec<_>>>()?;
        let payload = descriptors.first().ok_or(FEW)?;
        let start: WorkerStart = payload::read(payload.try_clone()?)?;
        if start.ports.len() != self.queues {
            return Err(WorkerError::Unexpected("another number of ports"));
        }
        let descriptors = StartDescriptors::from_list(descriptors, &start).ok_or(FEW)?;
        let config = start.config;
        let layout = StatisticsLayout::of(&config, self.queues);
        let old = (&self.config.pools[..], &self.config.worker);
        let new = (&config.pools[..], &config.worker);
        let meters = Meters::map(&descriptors.statistics, layout)?;
        let proxy = Change::new(old, new, self.left, self.seed, meters)?;
        let counts = (layout.servers, proxy.servers_max());
        let network = match descriptors.network {
            NetworkDescriptors::Sockets(shared) => {
                let listening = |shared: bool| {
                    move |(&number, socket): (&u32, OwnedFd)| (number, Listening { socket, shared })
                };
                let shared = start.shared_listeners.iter().zip(shared);
                let own = opened.iter().zip(sockets);
                let sockets = own.map(listening(false)).chain(shared.map(listening(true)));
                let change = SocketChange::new(&self.config, &config, sockets.collect(), counts.1);
                NetworkChange::Sockets(change)
            }
            NetworkDescriptors::Packets(packets) => NetworkChange::Packets(PacketChange {
                paths: PathReader::map(&packets.paths, layout.servers, self.queues)?,
                stack: StackChange::new(
                    &opening::stack_listeners(&config),
                    counts,
                    config.worker.half_open_max as usize,
                    config.ports.iter().map(|port| port.ack).collect(),
                    FlowsWriter::map(&descriptors.statistics, layout)?,
                ),
                wanted: if self.has_link {
                    link_layer::wanted(&config)
                } else {
                    Vec::new()
                },
                doubts: link_layer::doubts(&config),
            }),
        };
        let writer = StatisticsWriter::map(&descriptors.statistics, layout)?;
        Ok(Box::new(Prepared {
            proxy,
            network,
            publisher: Publisher::new(writer, layout),
            idle: config.worker.idle,
            names: Some(Box::new(Names::new(&config))),
            left: Left::default(),
            config,
            kept,
        }))
    }

    /// The next hops of what is in force and of what is ready, for a worker that looks for some.
    pub fn wanted_with(&self, ready: &Prepared) -> Option<Vec<Wanted>> {
        match &ready.network {
            NetworkChange::Packets(change) if self.has_link => {
                let mut wanted = link_layer::wanted(&self.config);
                wanted.extend_from_slice(&change.wanted);
                Some(wanted)
            }
            _ => None,
        }
    }

    /// The loop has taken it up. Returns what a new start would bring, for the next manager.
    pub fn taken_up(&mut self, prepared: Prepared) -> Vec<OwnedFd> {
        self.config = prepared.config;
        self.left = prepared.left;
        prepared.kept
    }
}

/// What a worker over kernel sockets is started with.
#[cfg(test)]
pub(crate) fn tests_start() -> WorkerStart {
    let text = "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\n\
                listen = \"192.0.2.1:1\"\nservers = [\"192.0.2.2:1\"]\n";
    WorkerStart {
        config: Config::parse(text, "test").unwrap(),
        worker: 0,
        workers: 1,
        core: None,
        ports: Vec::new(),
        shared_listeners: Vec::new(),
        user: None,
        seed: 1,
        orphans: Vec::new(),
        timestamps_us: 0,
    }
}
