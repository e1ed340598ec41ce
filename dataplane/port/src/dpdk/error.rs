//! What can go wrong with DPDK, in words that tell the operator what to do.

use std::io;
use std::time::Duration;

use super::config::{RING_SIZE_MAX, RING_SIZE_MIN};
use crate::nic::NicError;

/// Why DPDK could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// The ring size is not usable.
    #[error("ring_size has to be a power of two from {RING_SIZE_MIN} to {RING_SIZE_MAX}, not {0}")]
    RingSize(u16),
    /// No name for files and threads.
    #[error("{0:?} cannot name a process of DPDK: letters, digits, '-', '_' and '.' can")]
    Name(String),
    /// Nothing to serve, or nobody to serve it.
    #[error("DPDK needs at least one device and one core")]
    Nothing,
    /// A core twice.
    #[error("core {0} is named twice: each queue needs a core of its own")]
    CoreTwice(usize),
    /// A core that this process cannot use.
    #[error(
        "this process cannot run on core {core}: it may on {allowed}; choose one of these, or widen its affinity (taskset, \
         cpuset, systemd AllowedCPUs=)"
    )]
    Core {
        /// The core.
        core: usize,
        /// What there is.
        allowed: String,
    },
    /// An interface with a name that DPDK would read as something else.
    #[error(
        "DPDK cannot be told the name of interface {0:?}: rename it without ',', '=' and brackets"
    )]
    InterfaceName(String),
    /// The interface cannot be described.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// The interface is down.
    #[error("{interface} is down: ip link set {interface} up")]
    Down {
        /// The interface.
        interface: String,
    },
    /// Too few queues, or none beyond the first that is wanted.
    #[error(
        "{device} has {present} queues, and {wanted} are wanted: name fewer cores, or give it more (ethtool -L, or the \
         hypervisor)"
    )]
    TooFewQueues {
        /// The device.
        device: String,
        /// What it has.
        present: u32,
        /// One per core.
        wanted: usize,
    },
    /// No address on the PCI bus.
    #[error(
        "{0:?} is not the address of a PCI device: it looks like 0000:3b:00.1 (lspci -D shows it)"
    )]
    PciAddress(String),
    /// No such device.
    #[error("there is no PCI device {0}: lspci -D shows those that there are")]
    NoPciDevice(String),
    /// The kernel drives it.
    #[error(
        "PCI device {address} is with the kernel's driver {driver}: give it to DPDK with `tidegate configure init cards` (the \
         kernel then no longer has that interface)"
    )]
    KernelDriver {
        /// The device.
        address: String,
        /// Its driver.
        driver: String,
    },
    /// Nothing keeps it from the rest of the memory.
    #[error(
        "PCI device {address} is on {driver}, with no IOMMU between it and all memory of the machine: give it to vfio-pci \
         (dpdk-devbind.py --bind=vfio-pci {address}); or, if whoever takes over a worker may have the machine, say \
         without_iommu = true in its [[port]]"
    )]
    Unguarded {
        /// The device.
        address: String,
        /// Its driver.
        driver: String,
    },
    /// Nobody drives it.
    #[error("PCI device {0} has no driver: give it to DPDK with `tidegate configure init cards`")]
    NoDriver(String),
    /// vfio cannot keep it from the rest of the memory.
    #[error(
        "PCI device {0} is in no IOMMU group: switch the IOMMU on (firmware, and intel_iommu=on for the kernel; in a virtual \
         machine the hypervisor's), since the card could write to all memory otherwise. If it may: vfio's mode for that, and \
         without_iommu = true in its [[port]]"
    )]
    NoIommuGroup(String),
    /// /dev/vfio is not there.
    #[error("vfio is not loaded, which hands PCI device {0} to DPDK: modprobe vfio-pci")]
    NoVfio(String),
    /// Another process has it.
    #[error(
        "{device} is in use by another process ({said}): end that one, or take another queue or device"
    )]
    InUse {
        /// The device.
        device: String,
        /// How that was noticed.
        said: String,
    },
    /// No memory node of a worker.
    #[error(
        "{device} is next to memory node {node}, and no core of {cores} is: choose cores of that node (lscpu shows them)"
    )]
    Node {
        /// The device.
        device: String,
        /// Its node.
        node: i32,
        /// The cores.
        cores: String,
    },
    /// The driver is not installed.
    #[error(
        "DPDK's driver {driver} is not in {directory}: install it (Debian: librte-net packages, or dpdk)"
    )]
    NoPmd {
        /// The library, without its ending.
        driver: String,
        /// Where DPDK looks.
        directory: String,
    },
    /// Too few huge pages.
    #[error(
        "{free_mb} MB of huge pages are free, and {needed_mb} MB are needed: `tidegate configure init memory` sets aside what is missing, or \
         sysctl vm.nr_hugepages={pages}"
    )]
    HugePages {
        /// What is free.
        free_mb: usize,
        /// What is needed.
        needed_mb: usize,
        /// Pages of the usual size, in all.
        pages: usize,
    },
    /// Too few huge pages on a memory node.
    #[error(
        "{free_mb} MB of huge pages are free on memory node {node}, and {needed_mb} MB are needed there, where cores and cards are: \
         echo {pages} > /sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"
    )]
    HugePagesOfNode {
        /// The node.
        node: usize,
        /// What is free.
        free_mb: usize,
        /// What is needed.
        needed_mb: usize,
        /// Pages of the usual size.
        pages: usize,
    },
    /// DPDK can be started once.
    #[error("DPDK ran in this process before, and can only start once: start another process")]
    Again,
    /// EAL does not start.
    #[error("DPDK does not start: {reason}; it said: {log}")]
    Eal {
        /// In capsule's words.
        reason: String,
        /// DPDK's warnings.
        log: String,
    },
    /// No driver took the device.
    #[error(
        "no driver of DPDK took {device} (is the package of its driver installed?); DPDK said: {log}"
    )]
    NotFound {
        /// The device.
        device: String,
        /// DPDK's warnings.
        log: String,
    },
    /// A device does not do as it is told.
    #[error("{device} cannot be set up: {reason}; DPDK said: {log}")]
    Setup {
        /// The device, or all of them.
        device: String,
        /// In capsule's words.
        reason: String,
        /// DPDK's warnings.
        log: String,
    },
    /// No memory to send from.
    #[error(
        "no memory for {mbufs} mbufs that {device} sends from ({source}): lower ring_size, or reserve more huge pages on its \
         memory node"
    )]
    Pool {
        /// The device.
        device: String,
        /// How many.
        mbufs: usize,
        /// The answer.
        source: io::Error,
    },
    /// No carrier.
    #[error("{device} has had no link for {} ms: check cable, transceiver and the other end", waited.as_millis())]
    LinkDown {
        /// The device.
        device: String,
        /// How long was waited.
        waited: Duration,
    },
    /// Receive side scaling is not to be had.
    #[error(
        "{device} (driver {driver}) does not let {what} be read or set: say in the configuration how it spreads flows, or use \
         one queue"
    )]
    RssUnsupported {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// The key or the table.
        what: &'static str,
    },
    /// Flows between two hosts are not told apart.
    #[error(
        "{device} (driver {driver}) hashes addresses and not the ports of TCP over IPv4 and IPv6: all flows of a client arrive at one \
         queue"
    )]
    RssAddressesOnly {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
    },
    /// A virtual device: something else spreads its flows.
    #[error(
        "rss = \"toeplitz\" on {device}: {driver} has no hash that it could tell; use rss = \"auto\""
    )]
    NoHash {
        /// The device.
        device: String,
        /// Its driver.
        driver: &'static str,
    },
    /// The wrong key or table.
    #[error("{device} takes {what}, not {given}")]
    RssShape {
        /// The device.
        device: String,
        /// What it takes.
        what: String,
        /// What it was given.
        given: usize,
    },
    /// A call failed.
    #[error("cannot {action} of {device}: {source}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// The device.
        device: String,
        /// The answer.
        source: io::Error,
    },
    /// A loop could not begin.
    #[error("worker {worker}: {source}")]
    Worker {
        /// The worker, from 0.
        worker: usize,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DpdkError {
    /// Whether the same would happen again at the next attempt. What others hold may be let go, and a link may come up.
    pub fn is_permanent(&self) -> bool {
        !matches!(
            self,
            Self::InUse { .. }
                | Self::Down { .. }
                | Self::LinkDown { .. }
                | Self::HugePages { .. }
                | Self::HugePagesOfNode { .. }
        )
    }
}

/// What a return code below zero means.
pub(super) fn of_code(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_abs())
}
