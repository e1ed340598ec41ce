//! What can be seen before EAL starts. EAL fails with a line in its log where these have words, and it starts only once.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use capsule_ffi as ffi;

use super::config::{
    DeviceConfig, DeviceKind, DpdkConfig, Memory, PciAddress, RING_SIZE_MAX, RING_SIZE_MIN,
};
use super::error::DpdkError;
use crate::cards::{Handing, UNGUARDED_GROUP, handing};
use crate::nic::Nic;

/// What was found on the way.
pub(super) struct Found {
    /// The interface below each device, where there is one.
    pub(super) interfaces: Vec<Option<Nic>>,
    /// The memory node of each core.
    pub(super) nodes: Vec<i32>,
    /// The memory that is needed, by node.
    pub(super) megabytes: Vec<usize>,
}

/// Where the kernel shows cards, and memory nodes.
const CARDS: &str = "/sys/bus/pci/devices";
const NODES: &str = "/sys/devices/system/node";

pub(super) fn look(config: &DpdkConfig) -> Result<Found, DpdkError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if config.name.is_empty() || !config.name.bytes().all(fits) {
        return Err(DpdkError::Name(config.name.clone()));
    }
    if config.devices.is_empty() || config.cores.is_empty() {
        return Err(DpdkError::Nothing);
    }
    for device in &config.devices {
        let size = device.ring_size;
        if !size.is_power_of_two() || !(RING_SIZE_MIN..=RING_SIZE_MAX).contains(&size) {
            return Err(DpdkError::RingSize(size));
        }
    }
    cores(&config.cores)?;
    let nodes = nodes(&config.cores);
    let devices = config.devices.iter();
    let interfaces = devices.map(|of_device| device(of_device, config, &nodes));
    let interfaces = interfaces.collect::<Result<_, _>>()?;
    let megabytes = memory(config, &nodes)?;
    Ok(Found {
        interfaces,
        nodes,
        megabytes,
    })
}

/// The memory node of each core.
pub(super) fn nodes(cores: &[usize]) -> Vec<i32> {
    // SAFETY: takes a number.
    let node = |core: &usize| unsafe { ffi::numa_node_of_cpu(*core as i32) };
    cores.iter().map(node).collect()
}

/// The memory that is needed, by node, if there is enough of it.
pub(super) fn memory(config: &DpdkConfig, nodes: &[i32]) -> Result<Vec<usize>, DpdkError> {
    let device_nodes = config.devices.iter().map(|device| match &device.kind {
        DeviceKind::Pci(address) => node_of(Path::new(CARDS), &address.to_string()),
        _ => -1,
    });
    let megabytes = config.megabytes_by_node(nodes, &device_nodes.collect::<Vec<_>>());
    if config.memory == Memory::HugePages {
        let all = Path::new("/sys/kernel/mm/hugepages");
        huge_pages(all, megabytes.iter().sum())?;
        huge_pages_of_nodes(Path::new(NODES), &megabytes)?;
    }
    Ok(megabytes)
}

fn cores(cores: &[usize]) -> Result<(), DpdkError> {
    let allowed = allowed_cores();
    for (index, core) in cores.iter().enumerate() {
        if cores[..index].contains(core) {
            return Err(DpdkError::CoreTwice(*core));
        }
        if !allowed.contains(core) {
            return Err(DpdkError::Core {
                core: *core,
                allowed: list(&allowed),
            });
        }
    }
    Ok(())
}

pub(super) fn allowed_cores() -> Vec<usize> {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the calling thread, and a set of this size.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    // SAFETY: below the number of bits of the set.
    let is_in = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    (0..ffi::MAIN_LCORE).filter(is_in).collect()
}

fn list(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    cores.join(", ")
}

/// Whether a device can be opened, and the interface below it, where there is one.
pub(super) fn device(
    device: &DeviceConfig,
    config: &DpdkConfig,
    nodes: &[i32],
) -> Result<Option<Nic>, DpdkError> {
    let kind = &device.kind;
    if let Some(driver) = kind.driver() {
        let directory = ffi::TIDEGATE_DRIVERS.to_string_lossy();
        is_installed(Path::new(&*directory), driver)?;
    }
    if let DeviceKind::Pci(address) = kind {
        let place = CardPlace {
            devices: Path::new(CARDS),
            vfio: Path::new("/dev/vfio"),
        };
        card(&place, address, device.without_iommu)?;
        next_to_cores(place.devices, address, nodes, &config.cores)?;
        return Ok(None);
    }
    let Some(interface) = kind.interface() else {
        return Ok(None);
    };
    if interface.contains([',', '=', '[', ']', '(', ')', '"']) {
        return Err(DpdkError::InterfaceName(interface.to_owned()));
    }
    let nic = Nic::by_name(interface)?;
    if !nic.is_up {
        return Err(DpdkError::Down {
            interface: interface.to_owned(),
        });
    }
    if let DeviceKind::AfXdp { start_queue, .. } = kind {
        let present = nic.rx_queues.saturating_sub(*start_queue);
        if (present as usize) < config.cores.len() {
            return Err(DpdkError::TooFewQueues {
                device: interface.to_owned(),
                present,
                wanted: config.cores.len(),
            });
        }
    }
    Ok(Some(nic))
}

/// `directory` has the library, with any number behind its name.
fn is_installed(directory: &Path, driver: &str) -> Result<(), DpdkError> {
    let library = format!("{driver}.so");
    let is_it = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&library);
    if fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(is_it)) {
        return Ok(());
    }
    Err(DpdkError::NoPmd {
        driver: driver.to_owned(),
        directory: directory.display().to_string(),
    })
}

/// Where the kernel shows cards.
struct CardPlace<'a> {
    devices: &'a Path,
    vfio: &'a Path,
}

/// Whether the card is ours to have. `unguarded`: without an IOMMU as well.
fn card(place: &CardPlace<'_>, address: &PciAddress, unguarded: bool) -> Result<(), DpdkError> {
    let address = address.to_string();
    let device = place.devices.join(&address);
    if !device.exists() {
        return Err(DpdkError::NoPciDevice(address));
    }
    let link = |name: &str| {
        let target = fs::read_link(device.join(name)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    };
    let Some(driver) = link("driver") else {
        return Err(DpdkError::NoDriver(address));
    };
    match handing(&driver) {
        Some(Handing::Guarded) => {
            // vfio makes a group of its own where it was told to do without an IOMMU.
            let name = fs::read_to_string(device.join("iommu_group/name")).unwrap_or_default();
            let group = link("iommu_group").and_then(|group| {
                match (name.trim() == UNGUARDED_GROUP, unguarded) {
                    (false, _) => Some(group),
                    (true, true) => Some(format!("noiommu-{group}")),
                    (true, false) => None,
                }
            });
            group_is_free(place.vfio, &address, group)
        }
        Some(Handing::Unguarded) if !unguarded => Err(DpdkError::Unguarded { address, driver }),
        Some(Handing::Unguarded | Handing::Shared) => Ok(()),
        None => Err(DpdkError::KernelDriver { address, driver }),
    }
}

/// Whether a core of a worker is next to the card.
fn next_to_cores(
    devices: &Path,
    address: &PciAddress,
    nodes: &[i32],
    cores: &[usize],
) -> Result<(), DpdkError> {
    let address = address.to_string();
    let node = node_of(devices, &address);
    if node >= 0 && !nodes.contains(&node) {
        return Err(DpdkError::Node {
            device: address,
            node,
            cores: list(cores),
        });
    }
    Ok(())
}

/// The memory node of a card; below zero: a machine with one.
fn node_of(devices: &Path, address: &str) -> i32 {
    let node = fs::read_to_string(devices.join(address).join("numa_node"));
    node.unwrap_or_default().trim().parse().unwrap_or(-1)
}

fn group_is_free(vfio: &Path, address: &str, group: Option<String>) -> Result<(), DpdkError> {
    if !vfio.exists() {
        return Err(DpdkError::NoVfio(address.to_owned()));
    }
    let Some(group) = group else {
        return Err(DpdkError::NoIommuGroup(address.to_owned()));
    };
    // A group can be open once.
    let file = File::options()
        .read(true)
        .write(true)
        .open(vfio.join(group));
    match file.as_ref().err().and_then(io::Error::raw_os_error) {
        Some(libc::EBUSY) => Err(DpdkError::InUse {
            device: address.to_owned(),
            said: "its IOMMU group is open".to_owned(),
        }),
        // Anything else EAL will say.
        _ => Ok(()),
    }
}

/// Megabytes in free huge pages of all sizes, of which `sizes` has a directory each.
fn free_megabytes(sizes: &Path) -> usize {
    let free_kb = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let size: usize = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        Some(size * free.trim().parse::<usize>().ok()?)
    };
    let entries = fs::read_dir(sizes).into_iter().flatten().flatten();
    entries.filter_map(free_kb).sum::<usize>() / 1_024
}

/// Pages of the usual size, of 2,048 KB.
fn usual_pages(megabytes: usize) -> usize {
    megabytes.div_ceil(2)
}

fn huge_pages(sizes: &Path, needed_mb: usize) -> Result<(), DpdkError> {
    let free_mb = free_megabytes(sizes);
    if free_mb >= needed_mb {
        return Ok(());
    }
    Err(DpdkError::HugePages {
        free_mb,
        needed_mb,
        pages: usual_pages(needed_mb),
    })
}

/// `nodes` has a directory for each memory node; a kernel without NUMA has none.
fn huge_pages_of_nodes(nodes: &Path, needed: &[usize]) -> Result<(), DpdkError> {
    for (node, &needed_mb) in needed.iter().enumerate() {
        let sizes = nodes.join(format!("node{node}/hugepages"));
        if !sizes.exists() {
            continue;
        }
        let free_mb = free_megabytes(&sizes);
        if free_mb < needed_mb {
            return Err(DpdkError::HugePagesOfNode {
                node,
                free_mb,
                needed_mb,
                pages: usual_pages(needed_mb),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
