//! Cards on the PCI bus: which there are, who drives them, and what hangs together with them.
//!
//! Everything is read from `/sys`, and nothing is changed here. [`lifelines`] says what an operator would lose with an
//! interface, [`pmds`] which cards DPDK has drivers for, [`vfio`] what the kernel needs to hand one over.

pub mod lifelines;
pub mod pmds;
pub mod vfio;

use crate::host::{Host, interface_directory, value};
use std::fmt;
use tidegate_config::is_pci_address;
use tidegate_port::cards::UNGUARDED_GROUP;
pub use tidegate_port::cards::VFIO;

/// Every device on the bus.
const DEVICES: &str = "/sys/bus/pci/devices";
/// Base class of network controllers.
const NETWORK: u32 = 0x02;
/// Bridges from PCI to PCI and to CardBus. They pass on what others send, so vfio does not mind who drives them.
const BRIDGES: [u32; 2] = [0x0604, 0x0607];
/// Drivers with which a device does nothing by itself.
const QUIET: [&str; 2] = [VFIO, "pci-stub"];

/// An address on the bus, in full and in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// `None`: the text is no address, such as the name of an interface.
    pub fn parse(text: &str) -> Option<Self> {
        is_pci_address(text).then(|| Self(text.to_ascii_lowercase()))
    }

    /// Where the kernel shows the device.
    pub fn directory(&self) -> String {
        format!("{DEVICES}/{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A card as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Where it is.
    pub address: Address,
    /// Class and subclass.
    pub class: u32,
    /// Vendor and device, which its driver knows it by.
    pub id: Option<(u32, u32)>,
    /// Who drives it.
    pub driver: Option<String>,
    /// `None`: no IOMMU watches it.
    pub group: Option<Group>,
    /// The memory node next to it; `None`: a machine with one.
    pub node: Option<u32>,
    /// Interfaces that the kernel has on it, by number of the card's socket.
    pub interfaces: Vec<String>,
    /// Virtual functions that it is divided into.
    pub functions: u32,
}

/// Devices that the IOMMU cannot tell apart. One process gets all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number, which is also the name of its file below `/dev/vfio`.
    pub number: String,
    /// There is no IOMMU behind it: vfio was told to do without.
    pub is_without_iommu: bool,
    /// Other members that somebody drives, each with its driver.
    pub driven: Vec<(Address, String)>,
}

impl Card {
    /// `None`: there is no such device.
    pub fn read(host: &dyn Host, address: &Address) -> Option<Self> {
        let directory = address.directory();
        let class = hexadecimal(&value(host, &format!("{directory}/class"))?)? >> 8;
        let number = |file: &str| value(host, &format!("{directory}/{file}"));
        let identity = |file: &str| hexadecimal(&number(file)?);
        Some(Self {
            address: address.clone(),
            class,
            id: identity("vendor").zip(identity("device")),
            driver: driver(host, address),
            group: group(host, address),
            // Below zero on a machine with one node.
            node: number("numa_node").and_then(|node| node.parse().ok()),
            interfaces: interfaces(host, address),
            functions: number("sriov_numvfs")
                .and_then(|functions| functions.parse().ok())
                .unwrap_or_default(),
        })
    }

    /// Whether it is a network card.
    pub fn is_for_networks(&self) -> bool {
        self.class >> 8 == NETWORK
    }

    /// Whether the kernel drives it and has nothing on it that can be seen from here.
    pub fn is_out_of_sight(&self, host: &dyn Host) -> bool {
        let elsewhere = |name: &String| interface_directory(host, name).is_none();
        if !self.interfaces.is_empty() {
            return self.interfaces.iter().any(elsewhere);
        }
        let directory = self.address.directory();
        match self.driver.as_deref() {
            None => false,
            Some(driver) if QUIET.contains(&driver) => false,
            // A virtio card gets its interface from a second driver, which may not be there.
            Some("virtio-pci") => host.list(&directory).iter().any(|entry| {
                let second = format!("{directory}/{entry}/driver");
                entry.starts_with("virtio") && host.link(&second).is_some()
            }),
            Some(_) => true,
        }
    }
}

impl Group {
    /// The file that a process opens to have the group.
    pub fn file(&self) -> String {
        format!("/dev/vfio/{}", self.number)
    }
}

/// The card of an interface; `None`: it has none of its own.
pub fn of_interface(host: &dyn Host, interface: &str) -> Option<Address> {
    // Like ../../devices/pci0000:00/0000:00:05.0/virtio2/net/eth1, and another link where sysfs is of another namespace.
    interface_directory(host, interface)?;
    let path = host.link(&format!("/sys/class/net/{interface}"))?;
    let mut above = path.rsplit('/').skip(1);
    if above.next() != Some("net") {
        return None;
    }
    let device = above.next()?;
    if device.starts_with("virtio") {
        return Address::parse(above.next()?);
    }
    Address::parse(device)
}

/// Who drives a device.
pub fn driver(host: &dyn Host, address: &Address) -> Option<String> {
    last(&host.link(&format!("{}/driver", address.directory()))?)
}

/// The only driver that may take a device, where somebody has said so.
pub fn only_driver(host: &dyn Host, address: &Address) -> Option<String> {
    let file = format!("{}/driver_override", address.directory());
    value(host, &file).filter(|name| !name.is_empty() && name != "(null)")
}

/// Interfaces on a card, by number of the card's socket.
pub fn interfaces(host: &dyn Host, address: &Address) -> Vec<String> {
    let directory = address.directory();
    let virtio = host.list(&directory).into_iter();
    let places = virtio
        .filter(|entry| entry.starts_with("virtio"))
        .map(|entry| format!("{directory}/{entry}/net"))
        .chain([format!("{directory}/net")]);
    let mut found: Vec<(u32, String)> = places
        .flat_map(|place| {
            let names = host.list(&place);
            let numbered = names.into_iter().map(move |name| (place.clone(), name));
            numbered.collect::<Vec<_>>()
        })
        .map(|(place, name)| {
            let port = value(host, &format!("{place}/{name}/dev_port"));
            let port = port.and_then(|port| port.parse().ok());
            (port.unwrap_or_default(), name)
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

fn group(host: &dyn Host, address: &Address) -> Option<Group> {
    let number = last(&host.link(&format!("{}/iommu_group", address.directory()))?)?;
    let directory = format!("/sys/kernel/iommu_groups/{number}");
    let members = host.list(&format!("{directory}/devices"));
    let driven = members
        .iter()
        .filter_map(|member| Address::parse(member))
        .filter(|member| member != address && !is_bridge(host, member))
        .filter_map(|member| Some((member.clone(), driver(host, &member)?)))
        .filter(|(_, driver)| !QUIET.contains(&driver.as_str()))
        .collect();
    Some(Group {
        is_without_iommu: value(host, &format!("{directory}/name")).as_deref()
            == Some(UNGUARDED_GROUP),
        number,
        driven,
    })
}

fn is_bridge(host: &dyn Host, address: &Address) -> bool {
    let class = value(host, &format!("{}/class", address.directory()));
    let class = class.as_deref().and_then(hexadecimal);
    class.is_some_and(|class| BRIDGES.contains(&(class >> 8)))
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The last part of a path.
fn last(path: &str) -> Option<String> {
    path.rsplit('/').next().map(str::to_owned)
}

#[cfg(test)]
mod tests;
