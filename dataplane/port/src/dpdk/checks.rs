//! What can be seen before EAL starts. EAL fails with a line in its log where these have words, and it starts only once.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use capsule_ffi as ffi;

use super::config::{DeviceKind, DpdkConfig, Memory, PciAddress, RING_SIZE_MAX, RING_SIZE_MIN};
use super::error::DpdkError;
use crate::nic::Nic;

/// Drivers of the kernel that share their card with DPDK.
const SHARING: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

/// Drivers that hand a card over.
const HANDING_OVER: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// What was found on the way.
pub(super) struct Found {
    /// The interface below each device, where there is one.
    pub(super) interfaces: Vec<Option<Nic>>,
    /// The memory node of each core.
    pub(super) nodes: Vec<i32>,
}

impl Found {
    /// How many nodes have cores.
    pub(super) fn node_count(&self) -> usize {
        let mut nodes = self.nodes.clone();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }
}

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
    // SAFETY: takes a number.
    let node = |core: &usize| unsafe { ffi::numa_node_of_cpu(*core as i32) };
    let nodes: Vec<i32> = config.cores.iter().map(node).collect();
    let kinds = config.devices.iter().map(|device| &device.kind);
    let interfaces = kinds.map(|kind| device(kind, config, &nodes));
    let found = Found {
        interfaces: interfaces.collect::<Result<_, _>>()?,
        nodes,
    };
    if config.memory == Memory::HugePages {
        huge_pages(
            Path::new("/sys/kernel/mm/hugepages"),
            config.megabytes(found.node_count()),
        )?;
    }
    Ok(found)
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

fn device(kind: &DeviceKind, config: &DpdkConfig, nodes: &[i32]) -> Result<Option<Nic>, DpdkError> {
    if let Some(driver) = kind.driver() {
        let directory = ffi::TIDEGATE_DRIVERS.to_string_lossy();
        is_installed(Path::new(&*directory), driver)?;
    }
    if let DeviceKind::Pci(address) = kind {
        let groups = Path::new("/dev/vfio");
        return card(
            Path::new("/sys/bus/pci/devices"),
            groups,
            address,
            nodes,
            &config.cores,
        )
        .map(|()| None);
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

/// Whether the card is ours to have.
fn card(
    devices: &Path,
    vfio: &Path,
    address: &PciAddress,
    nodes: &[i32],
    cores: &[usize],
) -> Result<(), DpdkError> {
    let address = address.to_string();
    let device = devices.join(&address);
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
    if driver == "vfio-pci" {
        // vfio makes a group of its own where it was told to do without an IOMMU.
        let name = fs::read_to_string(device.join("iommu_group/name")).unwrap_or_default();
        let group = link("iommu_group").filter(|_| name.trim() != "vfio-noiommu");
        group_is_free(vfio, &address, group)?;
    } else if !HANDING_OVER.contains(&&*driver) && !SHARING.contains(&&*driver) {
        return Err(DpdkError::KernelDriver { address, driver });
    }
    let node = fs::read_to_string(device.join("numa_node")).unwrap_or_default();
    let node = node.trim().parse().unwrap_or(-1);
    // Below zero: a machine with one.
    if node >= 0 && !nodes.contains(&node) {
        return Err(DpdkError::Node {
            device: address,
            node,
            cores: list(cores),
        });
    }
    Ok(())
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

/// `sizes` has a directory for each size of page.
fn huge_pages(sizes: &Path, needed_mb: usize) -> Result<(), DpdkError> {
    const USUAL_KB: usize = 2_048;
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
    let free_mb = entries.filter_map(free_kb).sum::<usize>() / 1_024;
    if free_mb >= needed_mb {
        return Ok(());
    }
    Err(DpdkError::HugePages {
        free_mb,
        needed_mb,
        pages: (needed_mb * 1_024).div_ceil(USUAL_KB),
    })
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
