//! Which devices a configuration asks for, and what can be said of them before DPDK is started.

use super::Foreseen;
use crate::worker::WorkerError;
use std::time::Duration;
use tidegate_config::{Config, Pmd, PortConfig, RssMode};
use tidegate_port::dpdk::{self, DeviceConfig, DeviceKind, DpdkConfig, DpdkError, Memory};

/// How long a device may take until it has a link. Cards negotiate for two or three seconds.
const LINK_DEADLINE: Duration = Duration::from_secs(10);

/// What DPDK is told to open, for workers on these cores.
pub(super) fn what_to_open(config: &Config, cores: &[u32]) -> Result<DpdkConfig, WorkerError> {
    let devices = config.ports.iter().map(device);
    let devices: Vec<DeviceConfig> = devices.collect::<Result<_, _>>()?;
    let is_card = |device: &DeviceConfig| matches!(device.kind, DeviceKind::Pci(_));
    Ok(DpdkConfig {
        name: config.name.clone(),
        memory: if devices.iter().any(is_card) {
            Memory::HugePages
        } else {
            Memory::Ordinary
        },
        cores: cores.iter().map(|core| *core as usize).collect(),
        devices,
        link_deadline: LINK_DEADLINE,
    })
}

fn device(port: &PortConfig) -> Result<DeviceConfig, WorkerError> {
    let options = port.dpdk.as_ref();
    let options = options.ok_or(WorkerError::Unexpected("a port that is not DPDK's"))?;
    let interface = port.interface.clone();
    let kind = match options.pmd {
        Pmd::Pci => DeviceKind::Pci(interface.parse()?),
        Pmd::AfPacket => DeviceKind::AfPacket { interface },
        Pmd::AfXdp => DeviceKind::AfXdp {
            interface,
            start_queue: 0,
        },
    };
    Ok(DeviceConfig {
        kind,
        ring_size: port.ring_size as u16,
        without_iommu: options.without_iommu,
    })
}

/// What will keep these workers from starting, as far as it shows without a start, in the words of the start. Cores are the plan's.
pub fn foresee(config: &Config) -> Vec<Foreseen> {
    let Some(map) = config.queue_map() else {
        return Vec::new();
    };
    let cores: Vec<u32> = map.values().copied().collect();
    let devices = match what_to_open(config, &cores) {
        Ok(devices) => devices,
        Err(error) => {
            return vec![Foreseen {
                key: None,
                passes: false,
                what: error.to_string(),
            }];
        }
    };
    let of_devices = dpdk::foresee(&devices).into_iter();
    let of_devices = of_devices.map(|(device, error)| Foreseen {
        key: device.zip(key(&error)),
        passes: !error.is_permanent(),
        what: error.to_string(),
    });
    let of_spread = config.ports.iter().enumerate().filter_map(|(index, port)| {
        (cores.len() > 1).then_some(())?;
        Some(Foreseen {
            key: Some((index, "rss")),
            passes: false,
            what: untold(port)?.to_string(),
        })
    });
    of_devices.chain(of_spread).collect()
}

/// The key of a port that an error is about; `None`: it is about the machine.
fn key(error: &DpdkError) -> Option<&'static str> {
    match error {
        DpdkError::NoPciDevice(_)
        | DpdkError::PciAddress(_)
        | DpdkError::Nic(_)
        | DpdkError::InterfaceName(_)
        | DpdkError::KernelDriver { .. } => Some("interface"),
        DpdkError::TooFewQueues { .. } | DpdkError::Node { .. } => Some("queues"),
        DpdkError::RingSize(_) => Some("ring_size"),
        _ => None,
    }
}

/// `rss = "toeplitz"` on a device that has no hash of its own to tell.
fn untold(port: &PortConfig) -> Option<DpdkError> {
    let driver = match port.dpdk.as_ref()?.pmd {
        Pmd::AfPacket => "net_af_packet",
        Pmd::AfXdp => "net_af_xdp",
        Pmd::Pci => return None,
    };
    (port.rss == RssMode::Toeplitz).then(|| DpdkError::NoHash {
        device: port.interface.clone(),
        driver,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreseen(interface: &str, more: &str) -> Vec<Foreseen> {
        let text = format!(
            "[[port]]\ndriver = \"dpdk\"\ninterface = \"{interface}\"\n{more}\naddresses = [\"192.0.2.10/24\"]\nqueues = {{ 0 = 0, 1 = 1 }}\n\
             [[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.10:1\"\nservers = [\"192.0.2.11:1\"]\n"
        );
        foresee(&Config::parse(&text, "test").unwrap())
    }

    #[track_caller]
    fn find(all: &[Foreseen], key: &'static str, words: &str) {
        let is_it = |one: &&Foreseen| one.key == Some((0, key)) && one.what.contains(words);
        let found = all.iter().find(is_it);
        assert!(found.is_some_and(|one| !one.passes), "{all:?}");
    }

    #[test]
    fn what_is_missing_is_known_before_dpdk_starts_and_which_key_asks_for_it() {
        let packets = "pmd = \"af_packet\"";
        find(
            &foreseen("tg-nowhere0", packets),
            "interface",
            "tg-nowhere0 does not exist",
        );
        find(
            &foreseen("ffff:ff:1f.7", ""),
            "interface",
            "there is no PCI device ffff:ff:1f.7",
        );
    }

    #[test]
    fn a_hash_that_no_virtual_device_has_is_not_waited_for() {
        for pmd in ["af_packet", "af_xdp"] {
            let more = format!("pmd = \"{pmd}\"\nrss = \"toeplitz\"");
            let words = format!("net_{pmd} has no hash that it could tell; use rss = \"auto\"");
            find(&foreseen("tg-nowhere0", &more), "rss", &words);
            let automatic = foreseen("tg-nowhere0", &format!("pmd = \"{pmd}\""));
            let spread = (0, "rss");
            assert!(
                automatic.iter().all(|one| one.key != Some(spread)),
                "{automatic:?}"
            );
        }
    }
}
