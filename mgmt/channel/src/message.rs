//! The control messages.
//!
//! A worker's life in messages: `Start` → `Sockets` → `Inserted` → `Ready`, then whatever the manager wants, each
//! acknowledged by its generation. A worker that cannot go on says `Failed` with the reason before it exits.

use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use tidegate_config::Config;

/// Most workers of one manager: each gets three descriptors per other worker in one message
/// ([`crate::control::DESCRIPTORS_MAX`]).
pub const WORKERS_MAX: usize = 64;
const _: () = assert!(FIXED_DESCRIPTORS + 3 * WORKERS_MAX <= crate::control::DESCRIPTORS_MAX);

/// A message of the manager and its number; the worker acknowledges the number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Counts the manager's messages to this worker from 1.
    pub generation: u64,
    /// The message.
    pub message: T,
}

/// What the manager says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToWorker {
    /// Begin. Comes with the descriptors of [`StartDescriptors`].
    Start,
    /// The worker's sockets are in the steering map.
    Inserted,
    /// Take no new clients, finish what is owed, then exit; at the deadline exit anyway.
    Drain {
        /// Milliseconds from now.
        deadline_ms: u32,
    },
    /// Exit now.
    Stop,
    /// Log by this filter from now on (`info`, `tidegate_stack=debug`, …).
    LogLevel {
        /// The filter.
        filter: String,
    },
    /// Say that you are there.
    Ping,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromWorker {
    /// The sockets are open. Comes with one descriptor per port, in order.
    Sockets {
        /// How frames reach each of them.
        modes: Vec<ObtainedMode>,
    },
    /// Privileges are dropped, the poll loop runs.
    Ready,
    /// The message of this generation was taken.
    Acknowledged {
        /// Its number.
        generation: u64,
    },
    /// The worker cannot go on and exits.
    Failed {
        /// Why, for the operator.
        reason: String,
        /// Whether trying again is pointless.
        permanent: bool,
    },
}

/// How frames reach a queue, as obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObtainedMode {
    /// AF_XDP, the NIC writes into the worker's memory.
    ZeroCopy,
    /// AF_XDP in the driver, one copy per frame.
    Copy,
    /// AF_XDP behind the kernel's generic hook.
    Generic,
    /// Shared memory.
    Wire,
}

impl std::fmt::Display for ObtainedMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
            Self::Generic => "generic",
            Self::Wire => "wire",
        })
    }
}

/// Everything a worker has to know, passed as a payload file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStart {
    /// The whole configuration.
    pub config: Config,
    /// Index of this worker.
    pub worker: u32,
    /// Number of workers.
    pub workers: u32,
    /// The core to run on.
    pub core: u32,
    /// One per port of the configuration, in order.
    pub ports: Vec<PortFacts>,
    /// Who to become.
    pub user: UserIds,
    /// Seed of everything random.
    pub seed: u64,
}

/// What the manager found out about a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFacts {
    /// Index of the interface.
    pub ifindex: u32,
    /// The queue that belongs to this worker.
    pub queue: u32,
    /// Address of the interface.
    pub mac: [u8; 6],
    /// MTU to use.
    pub mtu_bytes: u32,
    /// Whether the steering program runs in the kernel's generic hook.
    pub generic: bool,
    /// How the queue of a tuple is known.
    pub oracle: Oracle,
}

/// Which worker owns a tuple.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Oracle {
    /// There is one worker.
    Single,
    /// `((source port ^ destination port) >> 1) % queues`.
    PortXor {
        /// Number of queues.
        queues: u32,
    },
    /// The NIC's own function.
    Toeplitz {
        /// RSS key.
        key: Vec<u8>,
        /// RSS indirection table.
        indirection: Vec<u32>,
    },
    /// Unknown: a software hash decides.
    Software {
        /// Number of workers.
        workers: u32,
    },
}

/// The unprivileged user of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    /// Name, for messages.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

const FIXED_DESCRIPTORS: usize = 3;

/// The descriptors that come with [`ToWorker::Start`], in this order.
#[derive(Debug)]
pub struct StartDescriptors {
    /// [`WorkerStart`] as a payload file.
    pub payload: OwnedFd,
    /// Statistics page, of this worker alone.
    pub statistics: OwnedFd,
    /// Path table, read-only.
    pub paths: OwnedFd,
    /// One eventfd per worker, this one's included, that wakes it.
    pub bells: Vec<OwnedFd>,
    /// Hand-over rings to every other worker, ascending.
    pub hand_over_to: Vec<OwnedFd>,
    /// Hand-over rings from every other worker, ascending.
    pub hand_over_from: Vec<OwnedFd>,
}

impl StartDescriptors {
    /// The list in the order in which it travels.
    pub fn into_list(self) -> Vec<OwnedFd> {
        let mut list = vec![self.payload, self.statistics, self.paths];
        list.extend(self.bells);
        list.extend(self.hand_over_to);
        list.extend(self.hand_over_from);
        list
    }

    /// The reverse of [`Self::into_list`]. `None` when the number fits no number of workers.
    pub fn from_list(list: Vec<OwnedFd>) -> Option<Self> {
        // n bells and twice n - 1 rings.
        let workers = (list.len() + 2).checked_sub(FIXED_DESCRIPTORS)? / 3;
        if workers == 0 || FIXED_DESCRIPTORS + 3 * workers - 2 != list.len() {
            return None;
        }
        let mut rest = list.into_iter();
        Some(Self {
            payload: rest.next()?,
            statistics: rest.next()?,
            paths: rest.next()?,
            bells: rest.by_ref().take(workers).collect(),
            hand_over_to: rest.by_ref().take(workers - 1).collect(),
            hand_over_from: rest.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn descriptor() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn descriptors_survive_the_list_for_any_number_of_workers() {
        for workers in [1, 2, 5, WORKERS_MAX] {
            let others = || (1..workers).map(|_| descriptor()).collect();
            let start = StartDescriptors {
                payload: descriptor(),
                statistics: descriptor(),
                paths: descriptor(),
                bells: (0..workers).map(|_| descriptor()).collect(),
                hand_over_to: others(),
                hand_over_from: others(),
            };
            let back = StartDescriptors::from_list(start.into_list()).unwrap();
            assert_eq!(back.bells.len(), workers);
            assert_eq!(
                (back.hand_over_to.len(), back.hand_over_from.len()),
                (workers - 1, workers - 1)
            );
        }
    }

    #[test]
    fn a_list_of_the_wrong_length_is_refused() {
        for length in [0, 1, 2, 3, 5, 6, 8, 9] {
            let list = (0..length).map(|_| descriptor()).collect();
            assert!(
                StartDescriptors::from_list(list).is_none(),
                "{length} descriptors"
            );
        }
    }

    #[test]
    fn messages_survive_serialisation() {
        for message in [
            ToWorker::Start,
            ToWorker::Inserted,
            ToWorker::Drain { deadline_ms: 5 },
            ToWorker::Stop,
            ToWorker::LogLevel {
                filter: "debug".into(),
            },
            ToWorker::Ping,
        ] {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<ToWorker>(&text).unwrap(), message);
        }
        let failed = FromWorker::Failed {
            reason: "no core 9".into(),
            permanent: true,
        };
        let text = serde_json::to_string(&failed).unwrap();
        assert_eq!(serde_json::from_str::<FromWorker>(&text).unwrap(), failed);
    }
}
