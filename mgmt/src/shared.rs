//! What all workers share, made once by the manager.

use crate::packets::Packets;
use crate::plan::Plan;
use crate::reload::NextNetwork;
use crate::remains::programs;
use crate::sockets::listeners::SharedListeners;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;
use tidegate_channel::flows::FlowRecord;
use tidegate_channel::message::{NetworkDescriptors, StartDescriptors, UserIds, WorkerStart};
use tidegate_channel::payload;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader};
use tidegate_config::Config;
use tidegate_port::doorbell::Doorbell;

/// Where the workers' bytes come from.
pub enum Network {
    /// Queues of NICs.
    Packets(Box<Packets>),
    /// Sockets of the kernel.
    Sockets(SharedListeners),
}

/// The shared things.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The plan.
    pub plan: Plan,
    /// Who workers become; `None`: they stay who the manager is.
    pub user: Option<UserIds>,
    /// What each worker counts.
    pub layout: StatisticsLayout,
    /// Where bytes come from.
    pub network: Network,
    bells: Vec<Doorbell>,
}

impl Shared {
    /// Makes them; there is a bell for each worker.
    pub fn new(
        config: Config,
        plan: Plan,
        user: Option<UserIds>,
        network: Network,
        bells: Vec<Doorbell>,
    ) -> Self {
        let layout = StatisticsLayout::of(&config, plan.ports.len());
        Self {
            config,
            plan,
            user,
            layout,
            network,
            bells,
        }
    }

    /// What exists only for NICs.
    pub fn packets(&self) -> Option<&Packets> {
        match &self.network {
            Network::Packets(packets) => Some(packets),
            Network::Sockets(_) => None,
        }
    }

    /// The same, to change it.
    pub fn packets_mut(&mut self) -> Option<&mut Packets> {
        match &mut self.network {
            Network::Packets(packets) => Some(packets),
            Network::Sockets(_) => None,
        }
    }

    /// Whether all workers are threads of one process.
    pub fn are_together(&self) -> bool {
        self.config.is_on_dpdk()
    }

    /// Those that go with `worker` when it goes, itself included.
    pub fn fellows(&self, worker: usize) -> Range<usize> {
        if self.are_together() {
            0..self.plan.cores.len()
        } else {
            worker..worker + 1
        }
    }

    /// Looks at the way to the servers if it is time; returns whether workers have to see a change.
    pub fn refresh_if_due(&mut self, now: Instant) -> bool {
        match &mut self.network {
            Network::Packets(packets) => packets.refresh_if_due(&self.config, now),
            Network::Sockets(_) => false,
        }
    }

    /// Wakes every worker that sleeps, so that it sees a changed path at once.
    pub fn ring_bells(&self) {
        self.bells.iter().for_each(Doorbell::ring);
    }

    /// Frames for all listening addresses are ours. Those that are known already stay so.
    pub fn listen_on_nics(&self) {
        if let Network::Packets(packets) = &self.network {
            let listeners = self.config.listeners();
            let addresses = listeners.filter_map(|(_, listen)| listen.endpoint.ip());
            packets.add_listeners(addresses);
        }
    }

    /// Frames for these addresses are the kernel's again, unless they are listened on once more.
    pub fn give_back_listeners(&self, addresses: &BTreeSet<SocketAddr>) {
        if let Network::Packets(packets) = &self.network {
            let is_ours = |address: &SocketAddr| {
                let mut listeners = self.config.listeners();
                listeners.any(|(_, listen)| listen.endpoint.ip() == Some(*address))
            };
            let gone = addresses.iter().filter(|address| !is_ours(address));
            packets.remove_listeners(gone.copied());
        }
    }

    /// No process is started from here on: what only the next one would need is closed, so that clients are refused and not
    /// kept waiting.
    pub fn stop_accepting(&mut self) {
        if let Network::Sockets(listeners) = &mut self.network {
            listeners.close();
        }
    }

    /// Everything a new process of `worker` gets, with a statistics page of its own: nothing that a dead process left can be
    /// mistaken for the living one's. What it left open are `orphans`.
    pub fn start(
        &self,
        worker: usize,
        orphans: &[FlowRecord],
    ) -> anyhow::Result<(StartDescriptors, StatisticsReader)> {
        self.start_with(worker, &self.config, None, orphans)
    }

    /// The same with another configuration; `next` is what workers will share then.
    pub fn start_with(
        &self,
        worker: usize,
        config: &Config,
        next: Option<&NextNetwork>,
        orphans: &[FlowRecord],
    ) -> anyhow::Result<(StartDescriptors, StatisticsReader)> {
        let layout = StatisticsLayout::of(config, self.layout.queues);
        let statistics = layout.create()?;
        let reader = StatisticsReader::map(&statistics, layout)?;
        let (ports, shared_listeners, network) = match (&self.network, next) {
            (Network::Packets(packets), next) => {
                let mut descriptors = packets.descriptors(worker, &self.bells)?;
                if let Some(NextNetwork::Packets(_, paths)) = next {
                    descriptors.paths = paths.file().try_clone()?;
                }
                let network = NetworkDescriptors::Packets(descriptors);
                (packets.facts(&self.plan, worker), Vec::new(), network)
            }
            (Network::Sockets(_), Some(NextNetwork::Sockets(listeners)))
            | (Network::Sockets(listeners), _) => (
                Vec::new(),
                listeners.indices(),
                NetworkDescriptors::Sockets(listeners.descriptors()?),
            ),
        };
        let start = WorkerStart {
            config: config.clone(),
            worker: worker as u32,
            workers: self.plan.cores.len() as u32,
            core: self.plan.cores[worker],
            ports,
            shared_listeners,
            user: self.user.clone(),
            seed: random_seed()?,
            orphans: orphans.to_vec(),
            timestamps_us: timestamps_us(),
        };
        let descriptors = StartDescriptors {
            payload: payload::write(&start)?,
            statistics,
            bell: self.bells[worker].try_clone()?.into_fd(),
            network,
        };
        Ok((descriptors, reader))
    }
}

/// A clock that goes on as long as the machine does, whoever asks. Ends of connections see it, and are not to learn how long that is: it
/// begins somewhere else after each start of the machine.
fn timestamps_us() -> u64 {
    let mut hasher = DefaultHasher::new();
    // Without it the clock goes on just as well.
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .hash(&mut hasher);
    let since_boot_us = programs::uptime().as_micros() as u64;
    since_boot_us.wrapping_add(hasher.finish() >> 16)
}

/// Sequence numbers, hash keys and the choice of ports depend on it: the kernel's randomness, not the clock.
pub fn random_seed() -> io::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
