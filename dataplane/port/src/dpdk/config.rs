//! What to open, as types; and what capsule is told of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use capsule::config::RuntimeConfig;
use capsule_ffi::MAIN_LCORE;

use super::error::DpdkError;
use crate::BURST_MAX;
use crate::dpdk_memory::{self, CACHE, receive_ring_mbufs, transmit_mbufs};

/// Fewest entries of a ring: two bursts.
pub const RING_SIZE_MIN: u16 = 2 * BURST_MAX as u16;

/// Most entries of a ring: no card has more.
pub const RING_SIZE_MAX: u16 = 8_192;

/// Descriptors that `net_af_xdp` fills a queue with, whatever it was asked for.
const AF_XDP_FILL: usize = 2_048;

/// Megabytes that `net_af_xdp` takes for each of its devices beside the pools, where the kernel does not take mbufs of any alignment:
/// 4,096 frames, in one piece.
const AF_XDP_MEGABYTES: usize = 16;

/// What to open and how.
#[derive(Clone, Debug)]
pub struct DpdkConfig {
    /// Names the files and threads of this process: the instance.
    pub name: String,
    /// Worker n runs on the n-th core and serves queue n of every device. The main thread needs no core of its own.
    pub cores: Vec<usize>,
    /// Where mbufs are.
    pub memory: Memory,
    /// The devices, in the order in which workers get their ports.
    pub devices: Vec<DeviceConfig>,
    /// How long a device may take until it has a link.
    pub link_deadline: Duration,
}

/// Where mbufs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// In huge pages, which cards need.
    HugePages,
    /// In ordinary pages: for virtual devices only.
    Ordinary,
}

/// One device.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Which.
    pub kind: DeviceKind,
    /// Entries of each ring: a power of two. Drivers may round it.
    pub ring_size: u16,
    /// A card may be had from a driver that puts no IOMMU between it and all memory of the machine.
    pub without_iommu: bool,
}

/// Which device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A card that was given to DPDK.
    Pci(PciAddress),
    /// An interface of the kernel through packet sockets. The kernel sees every frame as well.
    AfPacket {
        /// Its name.
        interface: String,
    },
    /// Queues of an interface of the kernel through AF_XDP, with DPDK's own program, which leaves nothing to the kernel.
    AfXdp {
        /// Its name.
        interface: String,
        /// The queue of worker 0.
        start_queue: u32,
    },
    /// A loop in memory: what a queue sends, it receives. For measurements and tests.
    Loop,
    /// Takes everything, and gives empty frames or nothing. For measurements and tests.
    Null {
        /// Gives frames.
        receives: bool,
    },
}

/// The address of a device on the PCI bus, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciAddress(String);

impl FromStr for PciAddress {
    type Err = DpdkError;

    fn from_str(text: &str) -> Result<Self, DpdkError> {
        const FORM: &[u8] = b"xxxx:xx:xx.x";
        let fits = text.len() == FORM.len()
            && text.bytes().zip(FORM).all(|(byte, form)| match form {
                b'x' => byte.is_ascii_hexdigit(),
                punctuation => byte == *punctuation,
            });
        if fits {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(DpdkError::PciAddress(text.to_owned()))
        }
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl DeviceKind {
    /// DPDK's name for what this worker has of the device with this index. `net_af_xdp` does not believe in more than one queue of
    /// interfaces whose queues are not combined, such as a veth, so each worker gets a device of its own there.
    pub(super) fn name(&self, index: usize, worker: usize) -> String {
        match self {
            Self::Pci(address) => address.to_string(),
            Self::AfPacket { .. } => format!("net_af_packet{index}"),
            Self::AfXdp { .. } => format!("net_af_xdp{index}_{worker}"),
            Self::Loop => format!("net_ring{index}"),
            Self::Null { .. } => format!("net_null{index}"),
        }
    }

    /// One device of DPDK for each worker, rather than one for all.
    pub(super) fn is_split(&self) -> bool {
        matches!(self, Self::AfXdp { .. })
    }

    /// The worker's queue of what has that name.
    pub(super) fn queue(&self, worker: usize) -> u16 {
        if self.is_split() { 0 } else { worker as u16 }
    }

    /// The library of its driver. `None`: DPDK finds one by the card.
    pub(super) fn driver(&self) -> Option<&'static str> {
        match self {
            Self::Pci(_) => None,
            Self::AfPacket { .. } => Some("librte_net_af_packet"),
            Self::AfXdp { .. } => Some("librte_net_af_xdp"),
            Self::Loop => Some("librte_net_ring"),
            Self::Null { .. } => Some("librte_net_null"),
        }
    }

    /// The interface of the kernel below it.
    pub(super) fn interface(&self) -> Option<&str> {
        match self {
            Self::AfPacket { interface } | Self::AfXdp { interface, .. } => Some(interface),
            Self::Pci(_) | Self::Loop | Self::Null { .. } => None,
        }
    }

    fn arguments(&self, worker: usize, queues: usize, ring_size: u16) -> Option<String> {
        match self {
            Self::Pci(_) | Self::Loop => None,
            // Two frames to a block of one page. Frames longer than 1,982 bytes are cut off by the kernel.
            Self::AfPacket { interface } => Some(format!(
                "iface={interface},qpairs={queues},blocksz=4096,framesz=2048,framecnt={ring_size}"
            )),
            Self::AfXdp {
                interface,
                start_queue,
            } => {
                let queue = *start_queue as usize + worker;
                Some(format!(
                    "iface={interface},start_queue={queue},queue_count=1"
                ))
            }
            Self::Null { receives } => Some(format!("no-rx={}", u8::from(!receives))),
        }
    }

    /// Mbufs that one queue receives into, at most.
    fn receive_mbufs(&self, ring_size: u16) -> usize {
        let ring = usize::from(ring_size);
        match self {
            // What it sends, it copies into the pool that it receives into.
            Self::AfXdp { .. } => AF_XDP_FILL + 2 * ring,
            _ => receive_ring_mbufs(ring),
        }
    }
}

impl DpdkConfig {
    /// Mbufs of capsule's pool.
    fn receive_mbufs(&self) -> usize {
        let of_queue = |device: &DeviceConfig| device.kind.receive_mbufs(device.ring_size);
        let queue = self.devices.iter().map(of_queue).sum();
        dpdk_memory::receive_mbufs(queue, self.devices.len(), self.cores.len())
    }

    fn transmit_mbufs(&self) -> usize {
        let of_queue = |device: &DeviceConfig| transmit_mbufs(device.ring_size.into());
        self.devices.iter().map(of_queue).sum::<usize>() * self.cores.len()
    }

    /// All memory that DPDK will need, with cores on this many memory nodes.
    pub(super) fn megabytes(&self, nodes: usize) -> usize {
        let split = self.devices.iter().filter(|device| device.kind.is_split());
        let of_drivers = AF_XDP_MEGABYTES * split.count() * self.cores.len();
        let of_pools = self.receive_mbufs() * nodes.max(1) + self.transmit_mbufs();
        dpdk_memory::megabytes(of_pools) + of_drivers
    }

    /// The node of the lowest core, where capsule puts what a virtual device receives.
    pub(super) fn lowest_node(&self, core_nodes: &[i32]) -> i32 {
        let cores = self.cores.iter().zip(core_nodes);
        cores.min().map_or(0, |(_, node)| *node)
    }

    /// The memory that DPDK will need on each node: where a worker runs, the pool that is received into; next to a device,
    /// those that are sent from; and everything else where the lowest core is. The nodes are those of the cores and of the devices, below
    /// zero: anywhere.
    pub(super) fn megabytes_by_node(&self, core_nodes: &[i32], device_nodes: &[i32]) -> Vec<usize> {
        let lowest = usize::try_from(self.lowest_node(core_nodes)).unwrap_or(0);
        let number = |node: i32| usize::try_from(node).unwrap_or(lowest);
        let all = core_nodes.iter().chain(device_nodes);
        let last = all.map(|node| number(*node)).max().unwrap_or(lowest);
        let mut mbufs = vec![0; last.max(lowest) + 1];
        let mut with_cores: Vec<usize> = core_nodes.iter().map(|node| number(*node)).collect();
        with_cores.sort_unstable();
        with_cores.dedup();
        for node in &with_cores {
            mbufs[*node] += self.receive_mbufs();
        }
        for (device, node) in self.devices.iter().zip(device_nodes) {
            mbufs[number(*node)] += transmit_mbufs(device.ring_size.into()) * self.cores.len();
        }
        let mut megabytes: Vec<usize> =
            mbufs.into_iter().map(dpdk_memory::pool_megabytes).collect();
        megabytes[lowest] = 0;
        let elsewhere: usize = megabytes.iter().sum();
        megabytes[lowest] = self.megabytes(with_cores.len()).saturating_sub(elsewhere);
        megabytes
    }

    /// What capsule is told. It makes the arguments of EAL of this; `--no-pci` comes from capsule-ffi where no card is named.
    pub(super) fn for_capsule(&self, by_node: &[usize]) -> Result<RuntimeConfig, DpdkError> {
        let port = |index: usize, device: &DeviceConfig, worker: usize, cores: &[usize]| {
            let name = device.kind.name(index, worker);
            serde_json::json!({
                "name": name,
                "device": name,
                "args": device.kind.arguments(worker, self.cores.len(), device.ring_size),
                "cores": cores,
                "rxd": device.ring_size,
                "txd": device.ring_size,
                "promiscuous": false,
                "multicast": true,
            })
        };
        let mut ports = Vec::new();
        for (index, device) in self.devices.iter().enumerate() {
            let cores_each = if device.kind.is_split() {
                1
            } else {
                self.cores.len()
            };
            for (worker, cores) in self.cores.chunks(cores_each).enumerate() {
                ports.push(port(index, device, worker, cores));
            }
        }
        let whole = serde_json::json!({
            "app_name": self.name,
            "app_group": self.prefix(),
            "master_core": MAIN_LCORE,
            "mempool": { "capacity": self.receive_mbufs(), "cache_size": CACHE },
            "ports": ports,
            "dpdk_args": self.arguments(by_node),
        });
        serde_json::from_value(whole).map_err(|error| DpdkError::Eal {
            reason: error.to_string(),
            log: "nothing".to_owned(),
        })
    }

    /// Of files that no other process shares: two processes of one instance are as strange to each other as any.
    pub(super) fn prefix(&self) -> String {
        format!("{}-{}", self.name, std::process::id())
    }

    fn arguments(&self, by_node: &[usize]) -> String {
        // Either way no file is left of a process that was killed, and no other process can attach to it.
        let mut arguments = match self.memory {
            Memory::HugePages => {
                let megabytes: Vec<String> = by_node.iter().map(usize::to_string).collect();
                let megabytes = megabytes.join(",");
                format!("--no-telemetry --socket-mem {megabytes} --in-memory")
            }
            // Which know no nodes.
            Memory::Ordinary => {
                let megabytes: usize = by_node.iter().sum();
                format!("--no-telemetry -m {megabytes} --no-huge --no-shconf")
            }
        };
        let is_card = |device: &DeviceConfig| matches!(device.kind, DeviceKind::Pci(_));
        if !self.devices.iter().any(is_card) {
            arguments += " --iova-mode=va";
        }
        arguments
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
