//! What the steering program looks up.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{Verdict, Verdicts};
use crate::bpf::{BpfError, Map, MapKind};

/// Most listening addresses of one interface and IP version: one per pool, and no configuration has a thousand pools.
pub const LISTENERS_MAX: u32 = 1_024;

/// Most addresses of ours that connections to servers leave from.
pub const SOURCES_MAX: u32 = 256;

/// One bit per TCP port, in words of 64.
const PORT_WORDS: u32 = 65_536 / 64;

/// {IPv4 address, port, 2 zero bytes}
pub(super) const LISTENER4_BYTES: usize = 8;
/// {IPv6 address, port, 2 zero bytes}
pub(super) const LISTENER6_BYTES: usize = 20;

/// The maps of one interface.
#[derive(Debug)]
pub struct SteeringMaps {
    /// Queue → socket.
    pub(super) sockets: Map,
    pub(super) listeners4: Map,
    pub(super) listeners6: Map,
    pub(super) sources4: Map,
    pub(super) sources6: Map,
    /// Bitmap of the ports that are ours to connect from.
    pub(super) ports: Map,
    /// [`Verdict`] → frames, per CPU.
    pub(super) verdicts: Map,
}

/// Values of the sets: only the key matters.
const PRESENT: [u8; 4] = [1, 0, 0, 0];

/// Number of maps of an interface.
pub(super) const MAPS: usize = 7;

/// Name, kind, bytes of key and value, entries.
type Shape = (&'static str, MapKind, usize, usize, u32);

/// The maps of an interface with this many queues, in the order in which they travel.
fn shapes(queues: u32) -> [Shape; MAPS] {
    let set = |name, key_bytes, entries| (name, MapKind::Hash, key_bytes, PRESENT.len(), entries);
    let verdicts = Verdict::ALL.len() as u32;
    [
        ("tg_sockets", MapKind::XskMap, 4, 4, queues),
        set("tg_listeners4", LISTENER4_BYTES, LISTENERS_MAX),
        set("tg_listeners6", LISTENER6_BYTES, LISTENERS_MAX),
        set("tg_sources4", 4, SOURCES_MAX),
        set("tg_sources6", 16, SOURCES_MAX),
        ("tg_ports", MapKind::Array, 4, 8, PORT_WORDS),
        ("tg_verdicts", MapKind::PerCpuArray, 4, 8, verdicts),
    ]
}

impl SteeringMaps {
    fn from_list(list: [Map; MAPS]) -> Self {
        let [
            sockets,
            listeners4,
            listeners6,
            sources4,
            sources6,
            ports,
            verdicts,
        ] = list;
        Self {
            sockets,
            listeners4,
            listeners6,
            sources4,
            sources6,
            ports,
            verdicts,
        }
    }

    /// The maps that another process made for an interface with this many queues, and their identifiers in the kernel.
    pub(super) fn adopt(
        queues: u32,
        list: [OwnedFd; MAPS],
    ) -> Result<(Self, [u32; MAPS]), BpfError> {
        let mut ids = [0; MAPS];
        let mut maps = Vec::with_capacity(MAPS);
        let shaped = list.into_iter().zip(shapes(queues)).zip(&mut ids);
        for ((fd, (_, kind, key_bytes, value_bytes, entries)), id) in shaped {
            let (map, found) = Map::adopt(fd, kind, key_bytes, value_bytes, entries)?;
            *id = found;
            maps.push(map);
        }
        let maps = maps.try_into().expect("as many as there are shapes");
        Ok((Self::from_list(maps), ids))
    }

    /// Their descriptors, in the order of [`Self::adopt`].
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; MAPS] {
        [
            &self.sockets,
            &self.listeners4,
            &self.listeners6,
            &self.sources4,
            &self.sources6,
            &self.ports,
            &self.verdicts,
        ]
        .map(AsFd::as_fd)
    }

    /// Empty maps for an interface with this many queues.
    pub fn create(queues: u32) -> Result<Self, BpfError> {
        let mut maps = Vec::with_capacity(MAPS);
        for (name, kind, key_bytes, value_bytes, entries) in shapes(queues) {
            maps.push(Map::create(kind, name, key_bytes, value_bytes, entries)?);
        }
        let maps = maps.try_into().expect("as many as there are shapes");
        Ok(Self::from_list(maps))
    }

    /// Frames of ours on this queue go to the socket. The map keeps no descriptor: the socket dies with its last holder, and its
    /// entry with it.
    pub fn insert_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), BpfError> {
        self.sockets
            .update(&queue.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())
    }

    /// Frames of ours on this queue are dropped from now on. The kernel does not tell whether they were already.
    pub fn remove_socket(&self, queue: u32) -> Result<(), BpfError> {
        self.sockets.delete(&queue.to_ne_bytes()).map(drop)
    }

    /// TCP to this address and port is ours.
    pub fn add_listener(&self, listener: SocketAddr) -> Result<(), BpfError> {
        let (map, key) = self.listener(listener);
        map.update(&key, &PRESENT)
    }

    /// TCP to this address and port is the kernel's again. `false`: it was already.
    pub fn remove_listener(&self, listener: SocketAddr) -> Result<bool, BpfError> {
        let (map, key) = self.listener(listener);
        map.delete(&key)
    }

    fn listener(&self, listener: SocketAddr) -> (&Map, Vec<u8>) {
        let (map, mut key) = of_version(listener.ip(), [&self.listeners4, &self.listeners6]);
        // The program stores the port as a 32-bit word whose bytes in memory are those of the packet.
        key.extend(u32::from(listener.port().to_be()).to_ne_bytes());
        (map, key)
    }

    /// TCP to this address and one of our ports is ours: connections to servers leave from it.
    pub fn add_source(&self, source: IpAddr) -> Result<(), BpfError> {
        let (map, key) = of_version(source, [&self.sources4, &self.sources6]);
        map.update(&key, &PRESENT)
    }

    /// The reverse of [`Self::add_source`]. `false`: there was none.
    pub fn remove_source(&self, source: IpAddr) -> Result<bool, BpfError> {
        let (map, key) = of_version(source, [&self.sources4, &self.sources6]);
        map.delete(&key)
    }

    /// These ports are ours to connect from. They have to be kept from the kernel as well
    /// (`net.ipv4.ip_local_reserved_ports`). One caller at a time: neighbours in the bitmap share a word.
    pub fn own_ports(&self, range: RangeInclusive<u16>) -> Result<(), BpfError> {
        if range.is_empty() {
            return Ok(());
        }
        let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
        for index in first / 64..=last / 64 {
            let key = index.to_ne_bytes();
            let mut word = [0; 8];
            self.ports.lookup(&key, &mut word)?;
            let added = (0..64)
                .filter(|bit| (first..=last).contains(&(index * 64 + bit)))
                .fold(0, |word, bit| word | 1u64 << bit);
            self.ports
                .update(&key, &(u64::from_ne_bytes(word) | added).to_ne_bytes())?;
        }
        Ok(())
    }

    /// Frames per verdict.
    pub fn verdicts(&self) -> Result<Verdicts, BpfError> {
        let mut verdicts = Verdicts::default();
        let mut per_cpu = vec![0u8; self.verdicts.value_bytes()];
        for (index, sum) in verdicts.0.iter_mut().enumerate() {
            self.verdicts
                .lookup(&(index as u32).to_ne_bytes(), &mut per_cpu)?;
            let (words, _) = per_cpu.as_chunks::<8>();
            *sum = words.iter().map(|word| u64::from_ne_bytes(*word)).sum();
        }
        Ok(verdicts)
    }
}

/// The map of the address's version, and the address as it stands in a frame.
fn of_version(address: IpAddr, [map4, map6]: [&Map; 2]) -> (&Map, Vec<u8>) {
    // An IPv4 address written as ::ffff:10.0.0.1 arrives as IPv4.
    match address.to_canonical() {
        IpAddr::V4(address) => (map4, address.octets().to_vec()),
        IpAddr::V6(address) => (map6, address.octets().to_vec()),
    }
}
