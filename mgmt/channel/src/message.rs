//! The control messages.
//!
//! A worker's life in messages: `Start` → `Sockets` → `Inserted` → `Ready`, then whatever the manager wants, each
//! acknowledged by its generation. A worker over kernel sockets has nothing to insert: it answers `Start` with `Ready`. A worker that
//! cannot go on says `Failed` with the reason before it exits. On DPDK all workers are threads of one process, each with a control socket
//! and a life of its own; the first one's is the process's, and brings the others' with `Fellows`.
//!
//! With `Keep` a worker that is ready may outlive its manager. One that does hands everything over to the manager that knocks at its
//! door: `Handover` and `Kept` are the first that it says there, then all goes on as before. `Drain` and `Stop` are understood by workers
//! of every build, whatever else changes: a manager of another one ends them so.

use crate::flows::FlowRecord;
use crate::keys::{KeysSeen, WatchKeys};
use crate::slow::SlowEntry;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use tidegate_config::Config;

/// Most workers of one manager: each gets three descriptors per other worker in one message
/// ([`crate::control::DESCRIPTORS_MAX`]).
pub const WORKERS_MAX: usize = 64;
const _: () =
    assert!(COMMON_DESCRIPTORS + 1 + 3 * (WORKERS_MAX - 1) <= crate::control::DESCRIPTORS_MAX);

const _: () = assert!(
    tidegate_config::limits::PORTS_MAX <= crate::paths::STATIONS,
    "every port has a place for our link address in the path table"
);

/// Most listening sockets that workers share: they travel in one message.
pub const SHARED_LISTENERS_MAX: usize = crate::control::DESCRIPTORS_MAX - COMMON_DESCRIPTORS;

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
    /// There are more workers in your process. Comes with the control sockets of workers 1, 2, … and before [`Self::Start`]; each of
    /// them finds a start of its own there.
    Fellows,
    /// Begin. Comes with the descriptors of [`StartDescriptors`].
    Start,
    /// The worker's sockets are in the steering map.
    Inserted,
    /// From here on outlive the manager. Comes with the worker's [`Door`](crate::door::Door) and, behind it, with whatever else the
    /// next manager has to get.
    Keep,
    /// Take no new clients, finish what is owed, then exit; at the deadline exit anyway.
    Drain {
        /// Milliseconds from now.
        deadline_ms: u32,
    },
    /// Make ready to take up another configuration. Comes with the descriptors of [`StartDescriptors`], as a new start with it would,
    /// and behind them with listening sockets of this worker alone. Refused with a reason if it cannot be.
    Prepare {
        /// Which of [`Config::listeners`] those sockets are, in their order.
        opened: Vec<u32>,
    },
    /// Take up what was prepared. Acknowledged when the loop works by it.
    TakeUp,
    /// What was prepared is not wanted any more.
    Forget,
    /// Exit now.
    Stop,
    /// Log by this filter from now on (`info`, `tidegate_stack=debug`, …).
    LogLevel {
        /// The filter.
        filter: String,
    },
    /// Watch keys for a while, then say what was seen. A watch under way is over.
    WatchKeys(WatchKeys),
    /// Copy frames. Comes with a [`CaptureOrder`](crate::capture::CaptureOrder) as a payload file, and the ring that the copies go
    /// to. A capture under way ends.
    Capture,
    /// End the capture of this number.
    EndCapture {
        /// Its number.
        id: u64,
    },
    /// Tell the neighbours of a port where its addresses are now. Said to one worker, on ports that the kernel has as well; all of
    /// them learn our link address from the path table.
    Announce(Announce),
    /// Say that you are there.
    Ping,
}

/// Most addresses of an [`Announce`]. Why: an appliance listens on a handful, and a message has room for that many. Too low: neighbours of
/// the others keep the old link address until they ask by themselves, up to a minute. Too high: the message is too large to be sent.
pub const ANNOUNCED_MAX: usize = 256;

/// A port whose link address changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Index of the port in the configuration.
    pub port: u8,
    /// Its link address now.
    pub mac: [u8; 6],
    /// Our addresses there, at most [`ANNOUNCED_MAX`].
    pub addresses: Vec<IpAddr>,
}

/// A link address as people write it: `02:00:00:00:00:01`.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
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
    /// Requests that took long.
    Slow {
        /// The requests, at most [`SLOW_BATCH`](crate::slow::SLOW_BATCH).
        entries: Vec<SlowEntry>,
        /// How many more there were since the last message.
        lost: u64,
    },
    /// To a manager that knocked: who the worker is. Comes with what it got with [`ToWorker::Start`].
    Handover(Handover),
    /// The rest. Comes with what the worker got with [`ToWorker::Keep`], but for the door.
    Kept,
    /// The message of this generation was taken, and is not carried out.
    Refused {
        /// Its number.
        generation: u64,
        /// Why, for the operator.
        reason: String,
    },
    /// What was seen of keys; several messages make up one answer.
    Keys(KeysSeen),
    /// Where a neighbour is, on ports of which the kernel knows nothing. Said by worker 0, of each neighbour that it looks for.
    Neighbour(NeighbourSeen),
    /// A server does not answer what is sent to it, on ports that the kernel has as well: its next hop may have moved.
    ServerSilent {
        /// The server.
        address: IpAddr,
    },
    /// The worker cannot go on and exits.
    Failed {
        /// Why, for the operator.
        reason: String,
        /// Whether trying again is pointless.
        permanent: bool,
    },
}

/// A neighbour that a worker looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourSeen {
    /// Index of the port in the configuration.
    pub port: u8,
    /// The neighbour.
    pub address: IpAddr,
    /// Its link-layer address; `None`: it does not answer.
    pub mac: Option<[u8; 6]>,
}

/// Who a worker is, for a manager that did not start it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// [`PROTOCOL`](crate::protocol::PROTOCOL) of its build.
    pub protocol: u64,
    /// Version of its build.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The number of the last message that it took.
    pub generation: u64,
    /// How frames reach each of its queues.
    pub modes: Vec<ObtainedMode>,
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
    /// DPDK drives the device.
    Dpdk,
}

impl std::fmt::Display for ObtainedMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
            Self::Generic => "generic",
            Self::Wire => "wire",
            Self::Dpdk => "dpdk",
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
    /// The core to run on; `None`: wherever the scheduler likes.
    pub core: Option<u32>,
    /// One per port of the configuration, in order; none for kernel sockets.
    pub ports: Vec<PortFacts>,
    /// Which of [`Config::listeners`] each shared listening socket is. The worker opens all others by itself.
    pub shared_listeners: Vec<u32>,
    /// Who to become; `None`: stay who you are.
    pub user: Option<UserIds>,
    /// Seed of everything random.
    pub seed: u64,
    /// Connections that a worker with this index left open when it died, at most [`ORPHANS_MAX`](crate::flows::ORPHANS_MAX).
    pub orphans: Vec<FlowRecord>,
    /// Where its clock of TCP timestamps begins, in microseconds: no earlier than where that of the one before is now.
    pub timestamps_us: u64,
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
    /// What the device says when it is open: its Toeplitz key and table, or a software hash where it says neither.
    Device {
        /// Number of workers.
        workers: u32,
        /// It has to say.
        required: bool,
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

/// Payload, statistics page and bell: the descriptors that every worker gets.
const COMMON_DESCRIPTORS: usize = 3;

/// The descriptors that come with [`ToWorker::Start`].
#[derive(Debug)]
pub struct StartDescriptors {
    /// [`WorkerStart`] as a payload file.
    pub payload: OwnedFd,
    /// Statistics page, of this worker alone.
    pub statistics: OwnedFd,
    /// An eventfd that wakes it.
    pub bell: OwnedFd,
    /// What depends on where its bytes come from.
    pub network: NetworkDescriptors,
}

/// Descriptors of a worker's network.
#[derive(Debug)]
pub enum NetworkDescriptors {
    /// Frames.
    Packets(PacketDescriptors),
    /// Listening sockets that workers share, in the order of [`WorkerStart::shared_listeners`].
    Sockets(Vec<OwnedFd>),
}

/// Descriptors of a worker on the queues of NICs.
#[derive(Debug)]
pub struct PacketDescriptors {
    /// Path table, read-only.
    pub paths: OwnedFd,
    /// One eventfd for every other worker that wakes it, ascending.
    pub bells: Vec<OwnedFd>,
    /// Hand-over rings to every other worker, ascending.
    pub hand_over_to: Vec<OwnedFd>,
    /// Hand-over rings from every other worker, ascending.
    pub hand_over_from: Vec<OwnedFd>,
}

impl PacketDescriptors {
    /// Bells of the others, rings to them, rings from them.
    pub fn lists(&self) -> (&[OwnedFd], &[OwnedFd], &[OwnedFd]) {
        (&self.bells, &self.hand_over_to, &self.hand_over_from)
    }
}

impl StartDescriptors {
    /// The list in the order in which it travels; the payload is first.
    pub fn into_list(self) -> Vec<OwnedFd> {
        let mut list = vec![self.payload, self.statistics, self.bell];
        match self.network {
            NetworkDescriptors::Packets(packets) => {
                list.push(packets.paths);
                list.extend(packets.bells);
                list.extend(packets.hand_over_to);
                list.extend(packets.hand_over_from);
            }
            NetworkDescriptors::Sockets(listeners) => list.extend(listeners),
        }
        list
    }

    /// The reverse of [`Self::into_list`]. `None` when the number does not fit what `start`, read from the payload, says.
    pub fn from_list(list: Vec<OwnedFd>, start: &WorkerStart) -> Option<Self> {
        let over_sockets = start.config.kernel_port().is_some();
        let others = (start.workers as usize).checked_sub(1)?;
        let of_network = if over_sockets {
            start.shared_listeners.len()
        } else {
            1 + 3 * others
        };
        if list.len() != COMMON_DESCRIPTORS + of_network {
            return None;
        }
        let mut rest = list.into_iter();
        Some(Self {
            payload: rest.next()?,
            statistics: rest.next()?,
            bell: rest.next()?,
            network: if over_sockets {
                NetworkDescriptors::Sockets(rest.collect())
            } else {
                NetworkDescriptors::Packets(PacketDescriptors {
                    paths: rest.next()?,
                    bells: rest.by_ref().take(others).collect(),
                    hand_over_to: rest.by_ref().take(others).collect(),
                    hand_over_from: rest.collect(),
                })
            },
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

    fn descriptors(number: usize) -> Vec<OwnedFd> {
        (0..number).map(|_| descriptor()).collect()
    }

    fn start(port: &str, workers: usize, shared_listeners: Vec<u32>) -> WorkerStart {
        let text = format!(
            "[[port]]\n{port}\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.1:1\"\n\
             servers = [\"192.0.2.2:1\"]\n"
        );
        WorkerStart {
            config: Config::parse(&text, "test").unwrap(),
            worker: 0,
            workers: workers as u32,
            core: None,
            ports: Vec::new(),
            shared_listeners,
            user: None,
            seed: 1,
            orphans: Vec::new(),
            timestamps_us: 0,
        }
    }

    fn packets(workers: usize) -> WorkerStart {
        start("interface = \"eth1\"", workers, Vec::new())
    }

    fn with(network: NetworkDescriptors) -> StartDescriptors {
        StartDescriptors {
            payload: descriptor(),
            statistics: descriptor(),
            bell: descriptor(),
            network,
        }
    }

    #[test]
    fn descriptors_survive_the_list_for_any_number_of_workers() {
        for workers in [1, 2, 5, WORKERS_MAX] {
            let others = workers - 1;
            let sent = with(NetworkDescriptors::Packets(PacketDescriptors {
                paths: descriptor(),
                bells: descriptors(others),
                hand_over_to: descriptors(others),
                hand_over_from: descriptors(others),
            }));
            let list = sent.into_list();
            assert!(list.len() <= crate::control::DESCRIPTORS_MAX);
            let back = StartDescriptors::from_list(list, &packets(workers)).unwrap();
            let NetworkDescriptors::Packets(back) = back.network else {
                panic!("{back:?}");
            };
            let lengths = [back.bells, back.hand_over_to, back.hand_over_from].map(|l| l.len());
            assert_eq!(lengths, [others; 3]);
        }
    }

    #[test]
    fn listeners_survive_the_list_whatever_the_number_of_workers() {
        for (workers, listeners) in [(1, 0), (3, 2), (WORKERS_MAX, SHARED_LISTENERS_MAX)] {
            let sent = with(NetworkDescriptors::Sockets(descriptors(listeners)));
            let start = start(
                "driver = \"kernel\"",
                workers,
                (0..listeners as u32).collect(),
            );
            let list = sent.into_list();
            assert!(list.len() <= crate::control::DESCRIPTORS_MAX);
            let back = StartDescriptors::from_list(list, &start).unwrap();
            assert!(
                matches!(&back.network, NetworkDescriptors::Sockets(l) if l.len() == listeners),
                "{back:?}"
            );
        }
    }

    #[test]
    fn a_list_of_the_wrong_length_is_refused() {
        for length in [0, 1, 3, 6, 8] {
            let over_packets = StartDescriptors::from_list(descriptors(length), &packets(2));
            assert!(over_packets.is_none(), "{length} descriptors");
            let over_sockets = start("driver = \"kernel\"", 2, vec![0]);
            let over_sockets = StartDescriptors::from_list(descriptors(length), &over_sockets);
            assert!(over_sockets.is_none(), "{length} descriptors");
        }
        assert!(StartDescriptors::from_list(descriptors(4), &packets(0)).is_none());
    }

    #[test]
    fn the_longest_announcement_fits_in_a_message() {
        let longest = Announce {
            port: u8::MAX,
            mac: [0xff; 6],
            addresses: vec![IpAddr::from([0xff; 16]); ANNOUNCED_MAX],
        };
        let envelope = Envelope {
            generation: u64::MAX,
            message: ToWorker::Announce(longest),
        };
        let bytes = serde_json::to_vec(&envelope).unwrap().len();
        assert!(bytes <= crate::control::MESSAGE_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn a_link_address_is_written_as_ip_link_writes_it() {
        assert_eq!(mac_text([2, 0, 0xa, 0xff, 0, 1]), "02:00:0a:ff:00:01");
    }

    #[test]
    fn messages_survive_serialisation() {
        for message in [
            ToWorker::Start,
            ToWorker::Inserted,
            ToWorker::Keep,
            ToWorker::Drain { deadline_ms: 5 },
            ToWorker::Prepare { opened: vec![3] },
            ToWorker::TakeUp,
            ToWorker::Forget,
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

    /// Whoever changes these leaves managers of the next build no way to end the workers of this one in order.
    #[test]
    fn what_workers_of_every_build_understand_stays_as_it_is() {
        let said = |message| {
            let envelope = Envelope {
                generation: 9,
                message,
            };
            serde_json::to_string(&envelope).unwrap()
        };
        assert_eq!(
            said(ToWorker::Drain { deadline_ms: 5 }),
            r#"{"generation":9,"message":{"drain":{"deadline_ms":5}}}"#
        );
        assert_eq!(said(ToWorker::Stop), r#"{"generation":9,"message":"stop"}"#);
    }
}
