//! What the manager does for workers on the queues of NICs: steering, the way to the servers, hand-over rings.

use crate::adoption::heritage::{Heritage, Rings};
use crate::bypass::Watch;
use crate::netlink::events::Events;
use crate::netlink::mirror::Mirror;
use crate::netlink::query::Query;
use crate::plan::Plan;
use crate::steering::Steering;
use anyhow::Context;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tidegate_channel::message::{PacketDescriptors, PortFacts};
use tidegate_channel::paths::PathWriter;
use tidegate_config::Config;
use tidegate_port::doorbell::Doorbell;
use tidegate_port::handover;
use tidegate_port::xdp::AttachMode;

/// Neighbours are looked at this often without any event, so that they stay confirmed: the kernel forgets what nobody uses.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// The same while a neighbour is unresolved.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(1);
/// After an event, the time to gather more: a link that comes up brings a dozen at once.
const EVENT_DELAY: Duration = Duration::from_millis(20);

/// Steering programs, mirror, path table and rings.
pub struct Packets {
    /// The steering programs.
    pub steering: Steering,
    /// The way to the servers.
    pub mirror: Mirror,
    query: Query,
    events: Events,
    paths: PathWriter,
    attached: Vec<AttachMode>,
    /// `rings[from][to]`; none from a worker to itself.
    rings: Rings,
    refresh_at: Instant,
    bypass: Watch,
}

impl Packets {
    /// Attaches the programs and makes what workers share.
    pub fn begin(config: &Config, plan: &Plan) -> anyhow::Result<Self> {
        let workers = plan.cores.len();
        let steering = Steering::attach(config, &plan.ports, workers as u32)?;
        let paths = PathWriter::create(config.servers().count())?;
        let none = (0..workers).map(|_| (0..workers).map(|_| None).collect());
        Self::around(config, plan, steering, paths, none.collect())
    }

    /// Takes over the programs and what workers share.
    pub fn adopt(config: &Config, plan: &Plan, heritage: &Heritage) -> anyhow::Result<Self> {
        let workers = plan.cores.len() as u32;
        let modes = heritage.adoptees().first().map(|one| &one.start.ports);
        let modes: Vec<AttachMode> = modes
            .into_iter()
            .flatten()
            .map(|port| {
                if port.generic {
                    AttachMode::Generic
                } else {
                    AttachMode::Native
                }
            })
            .collect();
        let steering = Steering::adopt(&plan.ports, &modes, workers, heritage.steering()?)?;
        Self::around(config, plan, steering, heritage.paths()?, heritage.rings()?)
    }

    fn around(
        config: &Config,
        plan: &Plan,
        steering: Steering,
        paths: PathWriter,
        rings: Rings,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        let interfaces = plan.ports.iter().map(|port| port.nic.name.as_str());
        Ok(Self {
            bypass: Watch::new(interfaces, now),
            attached: steering.modes(),
            steering,
            mirror: mirror(config, plan),
            // Subscribed before the first look, so that no change falls between the two.
            events: Events::open().context("cannot subscribe to routes and neighbours")?,
            query: Query::open().context("cannot ask the kernel for routes and neighbours")?,
            paths,
            rings: complete(rings)?,
            refresh_at: now,
        })
    }

    /// Looks at the way to servers that nobody asks yet. Whether all is known that can be.
    pub fn look(&mut self, mirror: &mut Mirror, paths: &mut PathWriter) -> bool {
        let refreshed = mirror.refresh(&mut self.query, paths);
        self.steering.set_sources(refreshed.sources);
        !refreshed.unresolved
    }

    /// From now on workers look into this table.
    pub fn take_over(&mut self, mirror: Mirror, paths: PathWriter) {
        self.mirror = mirror;
        self.paths = paths;
        self.refresh_at = Instant::now();
    }

    /// Readable when routes or neighbours changed.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Takes the events and plans to look.
    pub fn take_events(&mut self) {
        if self.events.take() {
            self.refresh_at = self.refresh_at.min(Instant::now() + EVENT_DELAY);
        }
    }

    /// When [`Self::refresh_if_due`] or [`Self::watch_if_due`] has something to do.
    pub fn due(&self) -> Instant {
        self.refresh_at.min(self.bypass.due())
    }

    /// Looks whether frames go round the steering programs, if it is time.
    pub fn watch_if_due(&mut self, now: Instant) {
        self.bypass
            .look_if_due(now, |port| self.steering.seen(port));
    }

    /// Frames that went round the program of a port; `None`: it is not known to be so.
    pub fn bypassed(&self, port: usize) -> Option<u64> {
        self.bypass.missed(port)
    }

    /// Looks at routes and neighbours if it is time; returns whether workers have to see a change.
    pub fn refresh_if_due(&mut self, now: Instant) -> bool {
        if now < self.refresh_at {
            return false;
        }
        let refreshed = self.mirror.refresh(&mut self.query, &mut self.paths);
        self.steering.set_sources(refreshed.sources);
        self.refresh_at = now
            + if refreshed.unresolved {
                RESOLVE_INTERVAL
            } else {
                REFRESH_INTERVAL
            };
        refreshed.changed
    }

    /// What `worker` has to know of the ports.
    pub fn facts(&self, plan: &Plan, worker: usize) -> Vec<PortFacts> {
        let ports = plan.ports.iter().zip(&self.attached);
        ports
            .map(|(port, attached)| PortFacts {
                ifindex: port.nic.ifindex,
                queue: worker as u32,
                mac: port.nic.mac,
                mtu_bytes: port.mtu_bytes,
                generic: *attached == AttachMode::Generic,
                oracle: port.oracle.clone(),
            })
            .collect()
    }

    /// What `worker` gets, the bells of the others among it.
    pub fn descriptors(&self, worker: usize, bells: &[Doorbell]) -> io::Result<PacketDescriptors> {
        let others = || (0..self.rings.len()).filter(|other| *other != worker);
        let ring = |from: usize, to: usize| self.rings[from][to].as_ref().map(OwnedFd::try_clone);
        let bell = |other: usize| Ok(bells[other].try_clone()?.into_fd());
        Ok(PacketDescriptors {
            paths: self.paths.file().try_clone()?,
            bells: others().map(bell).collect::<io::Result<_>>()?,
            hand_over_to: others()
                .filter_map(|other| ring(worker, other))
                .collect::<io::Result<_>>()?,
            hand_over_from: others()
                .filter_map(|other| ring(other, worker))
                .collect::<io::Result<_>>()?,
        })
    }
}

/// A mirror of the way to the servers of a configuration.
pub fn mirror(config: &Config, plan: &Plan) -> Mirror {
    let servers = config.servers();
    let servers = servers.filter_map(|(_, server)| server.address.ip());
    let ports: Vec<u32> = plan.ports.iter().map(|port| port.nic.ifindex).collect();
    Mirror::new(servers.collect(), &ports, config.worker.source_address)
}

/// Makes the rings that are missing.
fn complete(mut rings: Rings) -> anyhow::Result<Rings> {
    for (from, row) in rings.iter_mut().enumerate() {
        for (to, ring) in row.iter_mut().enumerate() {
            if from != to && ring.is_none() {
                *ring = Some(handover::create(handover::DEFAULT_SLOTS)?);
            }
        }
    }
    Ok(rings)
}
