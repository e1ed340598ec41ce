//! What the manager does for workers on the queues of NICs: steering, the way to the servers, hand-over rings. On DPDK there is nothing to
//! steer, and the way to the servers is what the configuration and the first worker say.

use crate::adoption::heritage::{Heritage, Rings};
use crate::bypass::Watch;
use crate::links::Links;
use crate::neighbours::{self, Neighbours};
use crate::netlink::events::Events;
use crate::netlink::mirror::{Mirror, Refreshed};
use crate::netlink::query::Query;
use crate::plan::Plan;
use crate::stations::Stations;
use crate::steering::Steering;
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tidegate_channel::message::{Announce, NeighbourSeen, PacketDescriptors, PortFacts};
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

/// The way to the servers, path table and rings.
pub struct Packets {
    /// The way to the servers.
    pub mirror: Mirror,
    link: LinkSide,
    paths: PathWriter,
    /// `rings[from][to]`; none from a worker to itself.
    rings: Rings,
    refresh_at: Instant,
    bypass: Watch,
    /// Which ports have a link.
    pub links: Links,
}

/// Who knows routes and neighbours.
enum LinkSide {
    /// The kernel, which has the ports as well.
    Kernel(Box<Nics>),
    /// The configuration and the first worker.
    Own(Neighbours),
}

/// Ports that the kernel has as well.
struct Nics {
    steering: Steering,
    query: Query,
    events: Events,
    attached: Vec<AttachMode>,
    stations: Stations,
}

impl Nics {
    /// `paths` has the link addresses that workers know, if they were there before.
    fn around(plan: &Plan, paths: &PathWriter, steering: Steering) -> anyhow::Result<LinkSide> {
        let ports = plan.ports.iter().enumerate().map(|(index, port)| {
            let nic = &port.nic;
            let mac = paths.station(index).unwrap_or(nic.mac);
            (nic.name.as_str(), nic.ifindex, mac)
        });
        Ok(LinkSide::Kernel(Box::new(Self {
            attached: steering.modes(),
            stations: Stations::new(ports),
            steering,
            // Subscribed before the first look, so that no change falls between the two.
            events: Events::open().context("cannot subscribe to routes and neighbours")?,
            query: Query::open().context("cannot ask the kernel for routes and neighbours")?,
        })))
    }
}

impl LinkSide {
    fn refresh(
        &mut self,
        config: &Config,
        mirror: &mut Mirror,
        paths: &mut PathWriter,
    ) -> Refreshed {
        match self {
            Self::Kernel(nics) => {
                let mut refreshed = mirror.refresh(&mut nics.query, paths);
                for (port, mac) in nics.stations.macs().enumerate() {
                    refreshed.changed |= paths.set_station(port, mac);
                }
                nics.steering
                    .set_sources(std::mem::take(&mut refreshed.sources));
                refreshed
            }
            Self::Own(neighbours) => mirror.refresh(&mut neighbours.with(config), paths),
        }
    }
}

impl Packets {
    /// Attaches the programs and makes what workers share.
    pub fn begin(config: &Config, plan: &Plan) -> anyhow::Result<Self> {
        let workers = plan.cores.len();
        let paths = PathWriter::create(config.servers().count())?;
        let link = if config.is_on_dpdk() {
            LinkSide::Own(Neighbours::of(config))
        } else {
            let steering = Steering::attach(config, &plan.ports, workers as u32)?;
            Nics::around(plan, &paths, steering)?
        };
        let none = (0..workers).map(|_| (0..workers).map(|_| None).collect());
        Self::around(config, plan, link, paths, none.collect())
    }

    /// Takes over the programs and what workers share.
    pub fn adopt(config: &Config, plan: &Plan, heritage: &Heritage) -> anyhow::Result<Self> {
        let paths = heritage.paths()?;
        let link = if config.is_on_dpdk() {
            LinkSide::Own(Neighbours::of(config))
        } else {
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
            let kept = heritage.steering()?;
            let steering = Steering::adopt(&plan.ports, &modes, workers, kept)?;
            Nics::around(plan, &paths, steering)?
        };
        Self::around(config, plan, link, paths, heritage.rings()?)
    }

    fn around(
        config: &Config,
        plan: &Plan,
        link: LinkSide,
        paths: PathWriter,
        rings: Rings,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        let interfaces = plan.ports.iter().map(|port| port.nic.name.as_str());
        Ok(Self {
            link,
            bypass: Watch::new(interfaces, now),
            links: Links::default(),
            mirror: mirror(config, plan),
            paths,
            rings: complete(rings)?,
            refresh_at: now,
        })
    }

    /// The kernel's side, where there is one.
    fn nics(&self) -> Option<&Nics> {
        match &self.link {
            LinkSide::Kernel(nics) => Some(nics),
            LinkSide::Own(_) => None,
        }
    }

    /// `next` may follow what is in force: what the first worker says of the way to its servers is wanted too.
    pub fn expect(&mut self, in_force: &Config, next: &Config) {
        if let LinkSide::Own(neighbours) = &mut self.link {
            neighbours.ask_for(in_force, next);
        }
    }

    /// Looks at the way to servers that nobody asks yet, which are those of `config`. Whether all is known that can be.
    pub fn look(&mut self, config: &Config, mirror: &mut Mirror, paths: &mut PathWriter) -> bool {
        !self.link.refresh(config, mirror, paths).unresolved
    }

    /// From now on workers look into this table.
    pub fn take_over(&mut self, mirror: Mirror, paths: PathWriter) {
        self.mirror = mirror;
        self.paths = paths;
        self.refresh_at = Instant::now();
    }

    /// The first worker said where a neighbour is.
    pub fn learn(&mut self, seen: NeighbourSeen) {
        if let LinkSide::Own(neighbours) = &mut self.link
            && neighbours.learn(seen)
        {
            self.refresh_at = Instant::now();
        }
    }

    /// A worker hears nothing of this server: the kernel confirms its next hop. We learn the outcome as an event.
    pub fn doubt(&mut self, server: IpAddr) {
        if let LinkSide::Kernel(nics) = &mut self.link
            && let Err(error) = self.mirror.doubt(&mut nics.query, server, Instant::now())
        {
            tracing::debug!("the next hop of {server} cannot be confirmed: {error}");
        }
    }

    /// Readable when routes or neighbours changed in the kernel.
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        Some(self.nics()?.events.as_fd())
    }

    /// Takes the events and plans to look.
    pub fn take_events(&mut self) {
        if let LinkSide::Kernel(nics) = &mut self.link
            && nics.events.take()
        {
            self.refresh_at = self.refresh_at.min(Instant::now() + EVENT_DELAY);
        }
    }

    /// When [`Self::refresh_if_due`] or [`Self::watch_if_due`] has something to do.
    pub fn due(&self) -> Instant {
        match &self.link {
            LinkSide::Kernel(_) => self.refresh_at.min(self.bypass.due()),
            LinkSide::Own(_) => self.refresh_at,
        }
    }

    /// Looks whether frames go round the steering programs, if it is time.
    pub fn watch_if_due(&mut self, now: Instant) {
        if let LinkSide::Kernel(nics) = &self.link {
            self.bypass
                .look_if_due(now, |port| nics.steering.seen(port));
        }
    }

    /// Frames that went round the program of a port; `None`: it is not known to be so.
    pub fn bypassed(&self, port: usize) -> Option<u64> {
        self.bypass.missed(port)
    }

    /// Looks at routes and neighbours if it is time; returns whether workers have to see a change.
    pub fn refresh_if_due(&mut self, config: &Config, now: Instant) -> bool {
        if now < self.refresh_at {
            return false;
        }
        if let LinkSide::Kernel(nics) = &mut self.link {
            let query = &mut nics.query;
            nics.stations.look(|ifindex| query.link_address(ifindex));
        }
        let refreshed = self.link.refresh(config, &mut self.mirror, &mut self.paths);
        self.refresh_at = now
            + if refreshed.unresolved {
                RESOLVE_INTERVAL
            } else {
                REFRESH_INTERVAL
            };
        refreshed.changed
    }

    /// Whether a port got another link address, of which its neighbours have yet to be told.
    pub fn have_moved(&self) -> bool {
        self.nics().is_some_and(|nics| nics.stations.have_moved())
    }

    /// What they have to be told, once.
    pub fn take_moved(&mut self, config: &Config) -> Vec<Announce> {
        let LinkSide::Kernel(nics) = &mut self.link else {
            return Vec::new();
        };
        let all = nics.query.addresses().unwrap_or_else(|error| {
            tracing::warn!("neighbours find out by themselves: no addresses: {error}");
            Vec::new()
        });
        let ours = config.listeners();
        let ours = ours.filter_map(|(_, listen)| Some(listen.endpoint.ip()?.ip()));
        let ours: BTreeSet<IpAddr> = ours.collect();
        nics.stations
            .take_moved(&all, |address| ours.contains(&address))
    }

    /// Frames for these addresses are ours.
    pub fn add_listeners(&self, addresses: impl Iterator<Item = SocketAddr>) {
        if let Some(nics) = self.nics() {
            nics.steering.add_listeners(addresses);
        }
    }

    /// Frames for these addresses are the kernel's.
    pub fn remove_listeners(&self, addresses: impl Iterator<Item = SocketAddr>) {
        if let Some(nics) = self.nics() {
            nics.steering.remove_listeners(addresses);
        }
    }

    /// Frames go to a worker from now on, whose sockets these are.
    pub fn insert(&self, worker: u32, sockets: Vec<OwnedFd>) -> anyhow::Result<()> {
        match self.nics() {
            Some(nics) => nics.steering.insert(worker, sockets),
            // DPDK keeps its own.
            None => Ok(()),
        }
    }

    /// A worker is gone.
    pub fn remove(&mut self, worker: u32) {
        match &mut self.link {
            LinkSide::Kernel(nics) => nics.steering.remove(worker),
            // The next one finds out anew.
            LinkSide::Own(neighbours) if worker == 0 => neighbours.forget(),
            LinkSide::Own(_) => {}
        }
    }

    /// What keeps the programs attached without this manager.
    pub fn kept(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.nics()
            .into_iter()
            .flat_map(|nics| nics.steering.descriptors())
    }

    /// How the program of a port is attached, and what it counted; nothing where there is none.
    pub fn report(&self, port: usize) -> (String, BTreeMap<String, u64>) {
        match self.nics() {
            Some(nics) => nics.steering.report(port),
            None => ("none".into(), BTreeMap::new()),
        }
    }

    /// The link address of a port as the kernel has it.
    fn mac(&self, port: usize) -> Option<[u8; 6]> {
        self.nics()?.stations.mac(port)
    }

    /// What `worker` has to know of the ports.
    pub fn facts(&self, plan: &Plan, worker: usize) -> Vec<PortFacts> {
        let is_generic = |index: usize| {
            let attached = self.nics().and_then(|nics| nics.attached.get(index));
            attached == Some(&AttachMode::Generic)
        };
        let ports = plan.ports.iter().enumerate();
        ports
            .map(|(index, port)| PortFacts {
                ifindex: port.nic.ifindex,
                queue: worker as u32,
                mac: self.mac(index).unwrap_or(port.nic.mac),
                mtu_bytes: port.mtu_bytes,
                generic: is_generic(index),
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
    let ports = plan.ports.iter().map(|port| port.nic.ifindex);
    let ports: Vec<u32> = if config.is_on_dpdk() {
        (0..plan.ports.len()).map(neighbours::ifindex).collect()
    } else {
        ports.collect()
    };
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
