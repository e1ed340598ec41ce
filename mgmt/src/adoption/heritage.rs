//! What workers share, made again out of what they handed over.

use super::interview::{Adoptee, Leaving};
use crate::sockets::listeners::SharedListeners;
use anyhow::Context;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use tidegate_channel::message::{
    NetworkDescriptors, PacketDescriptors, StartDescriptors, WorkerStart,
};
use tidegate_channel::paths::PathWriter;
use tidegate_config::Config;
use tidegate_port::doorbell::Doorbell;

/// Rings from each worker to each other: `rings[from][to]`.
pub type Rings = Vec<Vec<Option<OwnedFd>>>;

/// Workers that share the same things. There is at least one.
#[derive(Debug)]
pub struct Heritage {
    adoptees: Vec<Adoptee>,
}

/// What has to be the same for all workers of a manager.
fn same(one: &WorkerStart, other: &WorkerStart) -> bool {
    let ports = |start: &WorkerStart| -> Vec<_> {
        let of_queue_0 = start.ports.iter().cloned().map(|mut port| {
            port.queue = 0;
            port
        });
        of_queue_0.collect()
    };
    one.workers == other.workers
        && one.config == other.config
        && one.shared_listeners == other.shared_listeners
        && ports(one) == ports(other)
}

impl Heritage {
    /// Those that belong together with the first; the others have to leave.
    pub fn of(adoptees: Vec<Adoptee>, leaving: &mut Vec<Leaving>) -> Option<Self> {
        let mut together: Vec<Adoptee> = Vec::with_capacity(adoptees.len());
        for adoptee in adoptees {
            match together.first() {
                Some(first) if !same(&first.start, &adoptee.start) => {
                    leaving.push(adoptee.leave("it has another configuration than the others"));
                }
                Some(first) if !is_same_table(first, &adoptee) => {
                    leaving.push(adoptee.leave("it has another path table than the others"));
                }
                _ => together.push(adoptee),
            }
        }
        (!together.is_empty()).then_some(Self { adoptees: together })
    }

    fn first(&self) -> &Adoptee {
        &self.adoptees[0]
    }

    /// The configuration that they serve.
    pub fn config(&self) -> &Config {
        &self.first().start.config
    }

    /// How many workers there were.
    pub fn workers(&self) -> usize {
        self.first().start.workers as usize
    }

    /// The workers.
    pub fn adoptees(&self) -> &[Adoptee] {
        &self.adoptees
    }

    /// The workers, one by one.
    pub fn into_adoptees(self) -> Vec<Adoptee> {
        self.adoptees
    }

    /// The bell of each worker. One that died is known to the others on NICs, which ring it for its successor too.
    pub fn bells(&self) -> io::Result<Vec<Doorbell>> {
        (0..self.workers())
            .map(|worker| self.bell(worker))
            .collect()
    }

    fn bell(&self, worker: usize) -> io::Result<Doorbell> {
        let own = self.adoptees.iter().find(|one| one.worker == worker);
        let known = own.map(|one| &one.descriptors.bell).or_else(|| {
            let first = self.first();
            let (bells, ..) = first.packets().map(PacketDescriptors::lists)?;
            bells.get(place_of(worker, first.worker)?)
        });
        match known {
            Some(bell) => Ok(Doorbell::from_fd(bell.try_clone()?)),
            None => Doorbell::new(),
        }
    }

    /// The listening sockets that workers share.
    pub fn listeners(&self) -> io::Result<SharedListeners> {
        let first = self.first();
        let NetworkDescriptors::Sockets(sockets) = &first.descriptors.network else {
            return Ok(SharedListeners::default());
        };
        let sockets: io::Result<Vec<OwnedFd>> = sockets.iter().map(OwnedFd::try_clone).collect();
        let indices = first.start.shared_listeners.iter().copied();
        Ok(SharedListeners::adopt(
            self.config(),
            indices.zip(sockets?).collect(),
        ))
    }

    /// The path table, to be gone on with.
    pub fn paths(&self) -> anyhow::Result<PathWriter> {
        let packets = self.first().packets().context("there is no path table")?;
        let servers = self.config().servers().count();
        Ok(PathWriter::adopt(packets.paths.try_clone()?, servers)?)
    }

    /// Duplicates of what keeps the steering programs attached.
    pub fn steering(&self) -> io::Result<Vec<OwnedFd>> {
        self.first().kept.iter().map(OwnedFd::try_clone).collect()
    }

    /// The rings that some worker knows; those between two that died are nobody's.
    pub fn rings(&self) -> io::Result<Rings> {
        let workers = self.workers();
        let mut rings: Rings = (0..workers)
            .map(|_| (0..workers).map(|_| None).collect())
            .collect();
        for adoptee in &self.adoptees {
            let Some((_, to, from)) = adoptee.packets().map(PacketDescriptors::lists) else {
                continue;
            };
            let own = adoptee.worker;
            let others = (0..workers).filter(|other| *other != own);
            for ((other, to), from) in others.zip(to).zip(from) {
                rings[own][other] = Some(to.try_clone()?);
                rings[other][own] = Some(from.try_clone()?);
            }
        }
        Ok(rings)
    }
}

impl Adoptee {
    fn packets(&self) -> Option<&PacketDescriptors> {
        packets(&self.descriptors)
    }
}

fn packets(descriptors: &StartDescriptors) -> Option<&PacketDescriptors> {
    match &descriptors.network {
        NetworkDescriptors::Packets(packets) => Some(packets),
        NetworkDescriptors::Sockets(_) => None,
    }
}

/// Where `worker` stands in a list of all but `own`.
fn place_of(worker: usize, own: usize) -> Option<usize> {
    match worker.cmp(&own) {
        std::cmp::Ordering::Less => Some(worker),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(worker - 1),
    }
}

fn is_same_table(one: &Adoptee, other: &Adoptee) -> bool {
    let identity = |adoptee: &Adoptee| {
        let packets = adoptee.packets()?;
        let file = std::fs::File::from(packets.paths.try_clone().ok()?);
        let found = file.metadata().ok()?;
        Some((found.dev(), found.ino()))
    };
    identity(one) == identity(other)
}

/// A bell is rung without looking: each has to be one, or the manager could be made to wait.
pub(super) fn check_bells(descriptors: &StartDescriptors) -> io::Result<()> {
    let others = packets(descriptors).into_iter().flat_map(|p| &p.bells);
    std::iter::once(&descriptors.bell)
        .chain(others)
        .try_for_each(check_bell)
}

fn check_bell(bell: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let kind = std::fs::read_link(format!("/proc/self/fd/{}", bell.as_raw_fd()))?;
    if kind.to_string_lossy() != "anon_inode:[eventfd]" {
        return Err(io::Error::other("what a worker handed over is no bell"));
    }
    Ok(rustix::io::ioctl_fionbio(bell, true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_are_listed_without_oneself() {
        assert_eq!(
            [0, 1, 2].map(|worker| place_of(worker, 1)),
            [Some(0), None, Some(1)]
        );
        assert_eq!(place_of(3, 0), Some(2));
    }

    #[test]
    fn only_a_bell_is_a_bell() {
        let bell = Doorbell::new().unwrap().into_fd();
        check_bell(&bell).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(check_bell(&file.into()).is_err());
    }
}
