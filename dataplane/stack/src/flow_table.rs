//! Which slot holds the flow of a 4-tuple.
//!
//! Open addressing with linear probing, at most half full, and deletion by shifting back, so that a table that lived
//! through millions of connections probes no further than a fresh one. The hash is keyed: whoever does not know the key
//! cannot choose addresses and ports that collide. Nothing is allocated after [`FlowTable::new`].

use crate::siphash::siphash13;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A 4-tuple, seen from us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    remote: [u64; 2],
    local: [u64; 2],
    /// Remote port in the upper, local port in the lower half.
    ports: u32,
    ipv6: bool,
}

impl FlowKey {
    /// The key of a connection between `local` and `remote`, which are of one address family.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let ports = u32::from(remote.port()) << 16 | u32::from(local.port());
        Self {
            remote: words(remote.ip()),
            local: words(local.ip()),
            ports,
            ipv6: local.is_ipv6(),
        }
    }

    /// From an IPv4 header's two addresses and a TCP header's two ports, as they arrive.
    #[inline]
    pub(crate) fn from_ipv4(source: u32, destination: u32, ports: u32) -> Self {
        Self {
            remote: [0, u64::from(source)],
            local: [0, u64::from(destination)],
            ports,
            ipv6: false,
        }
    }

    /// From an IPv6 header's two addresses and a TCP header's two ports, as they arrive.
    #[inline]
    pub(crate) fn from_ipv6(source: u128, destination: u128, ports: u32) -> Self {
        Self {
            remote: halves(source),
            local: halves(destination),
            ports,
            ipv6: true,
        }
    }

    #[inline]
    pub(crate) fn is_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Our address as a number; an IPv4 address in the low 32 bits.
    #[inline]
    pub(crate) fn local_bits(&self) -> u128 {
        u128::from(self.local[0]) << 64 | u128::from(self.local[1])
    }

    /// The peer's address as a number.
    #[inline]
    pub(crate) fn remote_bits(&self) -> u128 {
        u128::from(self.remote[0]) << 64 | u128::from(self.remote[1])
    }

    /// The ports as the TCP header of what we send has them.
    #[inline]
    pub(crate) fn ports_outward(&self) -> u32 {
        self.ports.rotate_left(16)
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(address(self.local, self.ipv6), self.local_port())
    }

    /// The other end.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(address(self.remote, self.ipv6), self.remote_port())
    }

    /// The port of our end.
    pub fn local_port(&self) -> u16 {
        self.ports as u16
    }

    /// The port of the other end.
    pub fn remote_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    #[inline]
    pub(crate) fn hash(&self, key: [u64; 2]) -> u64 {
        let ports = u64::from(self.ports);
        if self.ipv6 {
            let [a, b] = self.remote;
            let [c, d] = self.local;
            siphash13(key, [a, b, c, d, ports])
        } else {
            siphash13(key, [self.remote[1] << 32 | self.local[1], ports])
        }
    }
}

fn words(ip: IpAddr) -> [u64; 2] {
    match ip {
        IpAddr::V4(ip) => [0, u64::from(ip.to_bits())],
        IpAddr::V6(ip) => halves(ip.to_bits()),
    }
}

fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

fn address([high, low]: [u64; 2], ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()
    } else {
        Ipv4Addr::from_bits(low as u32).into()
    }
}

const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Bucket {
    hash: u32,
    slot: u32,
}

/// 4-tuple → slot.
pub struct FlowTable {
    buckets: Box<[Bucket]>,
    /// The key of each slot, so that a bucket is 8 bytes and a probe stays in one cache line.
    keys: Box<[FlowKey]>,
    mask: u32,
    len: usize,
    hash_key: [u64; 2],
}

impl FlowTable {
    /// Memory for each slot at most: two buckets, doubled by rounding to a power of two, and the key.
    pub(crate) const BYTES_PER_SLOT: usize = 4 * size_of::<Bucket>() + size_of::<FlowKey>();

    /// A table for slots `0..slots`, hashing under `hash_key`.
    pub fn new(slots: usize, hash_key: [u64; 2]) -> Self {
        let buckets = (slots * 2).next_power_of_two().max(2);
        let empty = Bucket {
            hash: 0,
            slot: EMPTY,
        };
        Self {
            buckets: vec![empty; buckets].into_boxed_slice(),
            keys: vec![FlowKey::default(); slots].into_boxed_slice(),
            mask: (buckets - 1) as u32,
            len: 0,
            hash_key,
        }
    }

    /// An empty one for other slots, under the same key.
    pub(crate) fn another(&self, slots: usize) -> Self {
        Self::new(slots, self.hash_key)
    }

    /// Flows in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot of `key`.
    #[inline]
    pub fn get(&self, key: &FlowKey) -> Option<u32> {
        let hash = key.hash(self.hash_key) as u32;
        let mut at = hash & self.mask;
        loop {
            let bucket = self.buckets[at as usize];
            if bucket.slot == EMPTY {
                return None;
            }
            if bucket.hash == hash && self.keys[bucket.slot as usize] == *key {
                return Some(bucket.slot);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// The key that `slot` had when it was last inserted.
    #[inline]
    pub fn key(&self, slot: u32) -> FlowKey {
        self.keys[slot as usize]
    }

    /// Puts `key` → `slot` in. Neither may be in the table.
    pub fn insert(&mut self, key: FlowKey, slot: u32) {
        debug_assert!(self.get(&key).is_none(), "a 4-tuple has one flow");
        assert!(self.len < self.keys.len(), "a slot is in the table once");
        let hash = key.hash(self.hash_key) as u32;
        let mut at = hash & self.mask;
        while self.buckets[at as usize].slot != EMPTY {
            at = (at + 1) & self.mask;
        }
        self.buckets[at as usize] = Bucket { hash, slot };
        self.keys[slot as usize] = key;
        self.len += 1;
    }

    /// Takes the flow of `slot` out; returns whether it was in.
    pub fn remove(&mut self, slot: u32) -> bool {
        let mut hole = self.keys[slot as usize].hash(self.hash_key) as u32 & self.mask;
        loop {
            let bucket = self.buckets[hole as usize];
            if bucket.slot == EMPTY {
                return false;
            }
            if bucket.slot == slot {
                break;
            }
            hole = (hole + 1) & self.mask;
        }
        // Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithm R: whoever would not be found any
        // more with the hole in its way moves into it.
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let bucket = self.buckets[at as usize];
            if bucket.slot == EMPTY {
                break;
            }
            let from_home = at.wrapping_sub(bucket.hash) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.buckets[hole as usize] = bucket;
                hole = at;
            }
        }
        self.buckets[hole as usize].slot = EMPTY;
        self.len -= 1;
        true
    }
}

#[cfg(test)]
#[path = "flow_table_tests.rs"]
mod tests;
