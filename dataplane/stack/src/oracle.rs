//! Which worker's queue a 4-tuple arrives on.
//!
//! A worker owns one queue, and a flow lives with the worker whose queue its frames arrive on. The oracle names that worker
//! from the addresses and ports alone, so that every worker gives the same answer: for a frame that arrived elsewhere it says
//! whom to hand it to, and for a connection that we open it says which source ports bring the replies back to us.

use crate::flow_table::FlowKey;
use crate::toeplitz::{KEY_BYTES_MIN, toeplitz};
use std::net::SocketAddr;

/// How frames of one port find their queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueOracle {
    /// There is one queue, or whatever arrives is ours.
    Single,
    /// `((source port ^ destination port) >> 1) % queues`. The lowest bit says nothing: Linux connects from ports of one parity
    /// while it has any.
    PortXor {
        /// Number of queues.
        queues: u32,
    },
    /// Receive-side scaling as the NIC told it.
    Toeplitz {
        /// The hash key, at least 40 bytes.
        key: Vec<u8>,
        /// Hash modulo its length → queue.
        indirection: Vec<u32>,
    },
    /// The NIC's choice is unknown. Client flows belong to the worker that a hash names; server flows to the worker that
    /// owns the source port.
    Software {
        /// Number of workers.
        workers: u32,
    },
}

/// The key of the software hash. It is fixed because all workers have to agree, also with one that was restarted; it
/// spreads load and protects nothing.
const SOFTWARE_KEY: [u64; 2] = [0x7469_6465_6761_7465, 0x7175_6575_6520_3031];

impl QueueOracle {
    /// The worker that owns the flow between `local` and `remote`, or `None` where the addresses do not tell: then frames
    /// belong to whoever receives them.
    pub fn owner(&self, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        match self {
            Self::Single => None,
            Self::PortXor { queues } => {
                Some(u32::from((remote.port() ^ local.port()) >> 1) % queues)
            }
            Self::Toeplitz { key, indirection } => {
                let hash = toeplitz(key, remote, local) as usize;
                Some(indirection[hash % indirection.len()])
            }
            Self::Software { workers } => {
                let hash = FlowKey::new(local, remote).hash(SOFTWARE_KEY);
                Some((hash % u64::from(*workers)) as u32)
            }
        }
    }

    /// Whether the flows that we open are told apart by source port alone.
    pub(crate) fn partitions_ports(&self) -> bool {
        matches!(self, Self::Single | Self::Software { .. })
    }

    /// What is wrong with it, in words for the operator.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::PortXor { queues: 0 } => Some("a port function over 0 queues"),
            Self::Software { workers: 0 } => Some("a software hash over 0 workers"),
            Self::Toeplitz { indirection, .. } if indirection.is_empty() => {
                Some("an empty RSS indirection table")
            }
            Self::Toeplitz { key, .. } if key.len() < KEY_BYTES_MIN => {
                Some("an RSS key of less than 40 bytes")
            }
            _ => None,
        }
    }
}

/// The division of the source ports between workers: equal parts, the last one takes the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortPartition {
    pub(crate) first: u16,
    pub(crate) last: u16,
    workers: u32,
}

impl PortPartition {
    pub(crate) fn new((first, last): (u16, u16), workers: u32) -> Self {
        Self {
            first,
            last,
            workers,
        }
    }

    pub(crate) fn ports(self) -> u32 {
        (u32::from(self.last) + 1).saturating_sub(u32::from(self.first))
    }

    /// First port and number of ports of `worker`.
    pub(crate) fn share(self, worker: u32) -> (u16, u32) {
        let share = self.ports() / self.workers;
        let first = worker * share;
        let rest = if worker + 1 == self.workers {
            self.ports() - first
        } else {
            share
        };
        (self.first + first as u16, rest)
    }

    pub(crate) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The worker that owns `port`, which is in the range.
    pub(crate) fn owner(self, port: u16) -> u32 {
        let share = self.ports() / self.workers;
        (u32::from(port - self.first) / share).min(self.workers - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{PortPartition, QueueOracle};
    use std::net::SocketAddr;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("written below")
    }

    #[test]
    fn the_port_function_is_symmetric() {
        let oracle = QueueOracle::PortXor { queues: 2 };
        let (a, b) = (address("10.0.0.1:80"), address("10.0.0.2:1026"));
        assert_eq!(oracle.owner(a, b), Some(1));
        assert_eq!(oracle.owner(b, a), Some(1));
    }

    #[test]
    fn toeplitz_reads_the_indirection_table() {
        let key = (0..40).collect();
        let oracle = QueueOracle::Toeplitz {
            key,
            indirection: vec![3, 5, 7, 9],
        };
        let mut seen = std::collections::BTreeSet::new();
        for port in 1_000..1_200 {
            let remote = SocketAddr::new("10.0.0.2".parse().expect("an address"), port);
            seen.extend(oracle.owner(address("10.0.0.1:80"), remote));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 5, 7, 9]);
    }

    #[test]
    fn the_software_hash_spreads_over_all_workers() {
        let oracle = QueueOracle::Software { workers: 4 };
        let mut flows = [0; 4];
        for port in 1_000..5_000 {
            let remote = SocketAddr::new("2001:db8::2".parse().expect("an address"), port);
            let owner = oracle
                .owner(address("[2001:db8::1]:80"), remote)
                .expect("software always names an owner");
            flows[owner as usize] += 1;
        }
        assert!(
            flows.iter().all(|&flows| (800..1_200).contains(&flows)),
            "{flows:?}"
        );
    }

    #[test]
    fn every_port_has_one_owner_and_every_owner_has_ports() {
        let partition = PortPartition::new((40_000, 40_009), 3);
        let owners: Vec<u32> = (40_000..=40_009)
            .map(|port| partition.owner(port))
            .collect();
        assert_eq!(owners, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(partition.share(1), (40_003, 3));
        assert_eq!(partition.share(2), (40_006, 4));
    }

    #[test]
    fn faults_are_named() {
        assert!(
            QueueOracle::Toeplitz {
                key: vec![0; 39],
                indirection: vec![0]
            }
            .fault()
            .is_some()
        );
        assert!(
            QueueOracle::Toeplitz {
                key: vec![0; 40],
                indirection: vec![]
            }
            .fault()
            .is_some()
        );
        assert!(QueueOracle::PortXor { queues: 0 }.fault().is_some());
        assert!(QueueOracle::Software { workers: 0 }.fault().is_some());
        assert_eq!(QueueOracle::Single.fault(), None);
    }
}
