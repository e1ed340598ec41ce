//! What all workers share, made once by the manager: path table, hand-over rings, bells.

use crate::plan::Plan;
use std::io;
use std::os::fd::OwnedFd;
use tidegate_channel::message::{PortFacts, StartDescriptors, UserIds, WorkerStart};
use tidegate_channel::paths::PathWriter;
use tidegate_channel::payload;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader};
use tidegate_config::Config;
use tidegate_port::doorbell::Doorbell;
use tidegate_port::handover;
use tidegate_port::xdp::AttachMode;

/// The shared things.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The plan.
    pub plan: Plan,
    /// Who workers become.
    pub user: UserIds,
    /// How the steering program of each port was attached.
    pub attached: Vec<AttachMode>,
    /// How servers are reached.
    pub paths: PathWriter,
    /// What each worker counts.
    pub layout: StatisticsLayout,
    bells: Vec<Doorbell>,
    /// `rings[from][to]`; none from a worker to itself.
    rings: Vec<Vec<Option<OwnedFd>>>,
}

impl Shared {
    /// Makes them.
    pub fn new(
        config: Config,
        plan: Plan,
        user: UserIds,
        attached: Vec<AttachMode>,
    ) -> anyhow::Result<Self> {
        let workers = plan.cores.len();
        let servers = config.servers().count();
        let layout = StatisticsLayout {
            queues: plan.ports.len(),
            pools: config.pools.len(),
            servers,
        };
        let bells = (0..workers)
            .map(|_| Doorbell::new())
            .collect::<io::Result<_>>()?;
        let mut rings = Vec::with_capacity(workers);
        for from in 0..workers {
            let row = (0..workers).map(|to| {
                if from == to {
                    Ok(None)
                } else {
                    handover::create(handover::DEFAULT_SLOTS).map(Some)
                }
            });
            rings.push(row.collect::<Result<Vec<_>, _>>()?);
        }
        let paths = PathWriter::create(servers)?;
        Ok(Self {
            config,
            plan,
            user,
            attached,
            paths,
            layout,
            bells,
            rings,
        })
    }

    /// Wakes every worker that sleeps, so that it sees a changed path at once.
    pub fn ring_bells(&self) {
        self.bells.iter().for_each(Doorbell::ring);
    }

    /// Everything a new process of `worker` gets, with a statistics page of its own: nothing that a dead process left can be
    /// mistaken for the living one's.
    pub fn start(&self, worker: usize) -> anyhow::Result<(StartDescriptors, StatisticsReader)> {
        let statistics = self.layout.create()?;
        let reader = StatisticsReader::map(&statistics, self.layout)?;
        let ports = self
            .plan
            .ports
            .iter()
            .zip(&self.attached)
            .map(|(port, attached)| PortFacts {
                ifindex: port.nic.ifindex,
                queue: worker as u32,
                mac: port.nic.mac,
                mtu_bytes: port.mtu_bytes,
                generic: *attached == AttachMode::Generic,
                oracle: port.oracle.clone(),
            });
        let start = WorkerStart {
            config: self.config.clone(),
            worker: worker as u32,
            workers: self.plan.cores.len() as u32,
            core: self.plan.cores[worker],
            ports: ports.collect(),
            user: self.user.clone(),
            seed: random_seed()?,
        };
        let others = || (0..self.rings.len()).filter(|other| *other != worker);
        let ring = |from: usize, to: usize| self.rings[from][to].as_ref().map(OwnedFd::try_clone);
        let descriptors = StartDescriptors {
            payload: payload::write(&start)?,
            statistics,
            paths: self.paths.file().try_clone()?,
            bells: self
                .bells
                .iter()
                .map(|bell| Ok(bell.try_clone()?.into_fd()))
                .collect::<io::Result<_>>()?,
            hand_over_to: others()
                .filter_map(|other| ring(worker, other))
                .collect::<io::Result<_>>()?,
            hand_over_from: others()
                .filter_map(|other| ring(other, worker))
                .collect::<io::Result<_>>()?,
        };
        Ok((descriptors, reader))
    }
}

/// Sequence numbers, hash keys and the choice of ports depend on it: the kernel's randomness, not the clock.
fn random_seed() -> io::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
