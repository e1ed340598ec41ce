//! Who drives a card: the kernel, or vfio-pci, through which DPDK has it.
//!
//! A card changes hands in three steps: the only driver that may take it is named, the one that has it lets go, and the bus
//! is told to look again. Whoever is killed in between leaves a card that is on the way, which either direction goes on from.
//! With the driver an interface goes, and its name, its MTU and whether it was up are kept to be given back. One that has more to
//! lose (addresses, routes, a bond above it) is not taken from the kernel in the first place.

use crate::host::{Host, interface_directory, value};
use crate::pci::vfio::MODULES;
use crate::pci::{self, Address, Card, VFIO};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// Looks for an interface that has to come back. Why: with a moment of 50 ms it is ten seconds, which is longer than the firmware of
/// any card takes. Too low: an interface that comes late stays down. Too high: one that never comes is waited for.
const LOOKS_MAX: u32 = 200;
/// Of these, looks for one that udev has to rename. Why: it does so within milliseconds after it heard of the interface.
const RENAME_LOOKS_MAX: u32 = 40;
/// The bit of an interface that is up.
const UP: u32 = 1;

/// The driver of a card, and what the kernel has on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Who drives it.
    pub driver: Option<String>,
    /// Who alone may take it, where that was said.
    pub only: Option<String>,
    /// Its interfaces, by number of the card's socket.
    pub interfaces: Vec<Kept>,
}

/// What is given back to an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu_bytes: u32,
    /// It was up.
    pub up: bool,
}

impl Binding {
    /// What DPDK needs.
    pub fn of_vfio() -> Self {
        Self {
            driver: Some(VFIO.to_owned()),
            only: Some(VFIO.to_owned()),
            interfaces: Vec::new(),
        }
    }

    /// How it is now; `None`: there is no such card.
    pub fn get(host: &dyn Host, address: &Address) -> Option<Self> {
        value(host, &format!("{}/class", address.directory()))?;
        let interfaces = pci::interfaces(host, address);
        let kept = interfaces.iter().filter_map(|name| Kept::get(host, name));
        Some(Self {
            driver: pci::driver(host, address),
            only: pci::only_driver(host, address),
            interfaces: kept.collect(),
        })
    }

    /// Brings a card here.
    pub fn set(&self, host: &dyn Host, address: &Address) -> io::Result<()> {
        let Some(now) = Self::get(host, address) else {
            return Err(io::Error::other("it is no longer there"));
        };
        if self.driver.as_deref() != Some(VFIO) || self.only.as_deref() != Some(VFIO) {
            return self.give_back(host, address, &now);
        }
        let given = hand_over(host, address, &now);
        if given.is_err() {
            // An operator without the interface is worse off than with it.
            let _said_by_the_first = now.give_back(host, address, &Self::of_vfio());
        }
        given
    }

    /// What undoing has to bring it to; `None`: somebody else has taken it since.
    pub fn way_back(now: &Self, before: &Self, after: &Self) -> Option<Self> {
        if now.driver == before.driver && now.only == before.only {
            // Down as it came back: whoever brought it was stopped before the rest. Otherwise somebody uses it as it is.
            let fresh = now.interfaces.iter().all(|kept| !kept.up);
            return Some(if fresh { before } else { now }.clone());
        }
        let drivers = [&before.driver, &None, &after.driver];
        let only = [&before.only, &after.only];
        (drivers.contains(&&now.driver) && only.contains(&&now.only)).then(|| before.clone())
    }

    /// From DPDK to the kernel, or to nobody.
    fn give_back(&self, host: &dyn Host, address: &Address, now: &Self) -> io::Result<()> {
        let directory = address.directory();
        let driver = pci::driver(host, address);
        if driver.is_some() && driver != self.driver {
            let group = Card::read(host, address).and_then(|card| card.group);
            if group.is_some_and(|group| host.is_taken(&group.file())) {
                return Err(io::Error::other(
                    "a process uses it: end that process first (fuser -v /dev/vfio/*)",
                ));
            }
            host.write(&format!("{directory}/driver/unbind"), &address.to_string())?;
        }
        if now.only != self.only {
            // An empty write changes nothing, an empty line empties the file.
            let only = self.only.as_deref().unwrap_or("\n");
            host.write(&format!("{directory}/driver_override"), only)?;
        }
        let Some(driver) = &self.driver else {
            return Ok(());
        };
        if pci::driver(host, address).is_none() {
            let file = format!("/sys/bus/pci/drivers/{driver}/bind");
            host.write(&file, &address.to_string()).map_err(|error| {
                io::Error::other(format!(
                    "{driver} does not take it back ({error}): modprobe {driver}, then the same again"
                ))
            })?;
        }
        self.restore(host, address)
    }

    /// Gives the interfaces back what they had.
    fn restore(&self, host: &dyn Host, address: &Address) -> io::Result<()> {
        if self.interfaces.is_empty() {
            return Ok(());
        }
        let names = self.names_when_back(host, address)?;
        for (name, kept) in names.iter().zip(&self.interfaces) {
            if *name != kept.name {
                host.rename(name, &kept.name)?;
            }
            kept.set(host)?;
        }
        Ok(())
    }

    /// The names of the interfaces once all of them are there, and once udev had the time to give them theirs.
    fn names_when_back(&self, host: &dyn Host, address: &Address) -> io::Result<Vec<String>> {
        let renames = host.list("/run/udev").iter().any(|file| file == "control");
        for look in 0..LOOKS_MAX {
            let names = pci::interfaces(host, address);
            let wanted = self.interfaces.iter().map(|kept| &kept.name);
            let all = names.len() >= self.interfaces.len();
            if all && (names.iter().eq(wanted) || !renames || look >= RENAME_LOOKS_MAX) {
                return Ok(names);
            }
            host.wait();
        }
        Err(io::Error::other(format!(
            "its driver has it again, and {} is not back in this network namespace: dmesg says why, or ip link in the \
             machine's own",
            self.interface_list()
        )))
    }

    fn interface_list(&self) -> String {
        let names = self.interfaces.iter().map(|kept| kept.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }
}

/// From the kernel to DPDK.
fn hand_over(host: &dyn Host, address: &Address, now: &Binding) -> io::Result<()> {
    let directory = address.directory();
    for module in MODULES.iter().filter(|module| !module.is_loaded(host)) {
        host.load(module.name)?;
    }
    host.write(&format!("{directory}/driver_override"), VFIO)?;
    if now.driver.is_some() {
        host.write(&format!("{directory}/driver/unbind"), &address.to_string())?;
    }
    host.write("/sys/bus/pci/drivers_probe", &address.to_string())?;
    match pci::driver(host, address) {
        Some(driver) if driver == VFIO => Ok(()),
        _ => Err(io::Error::other(
            "vfio-pci does not take it (dmesg says why), and it was given back",
        )),
    }
}

impl Kept {
    fn get(host: &dyn Host, name: &str) -> Option<Self> {
        let directory = interface_directory(host, name)?;
        Some(Self {
            name: name.to_owned(),
            mtu_bytes: value(host, &format!("{directory}/mtu"))?.parse().ok()?,
            up: flags(host, &directory)? & UP != 0,
        })
    }

    fn set(&self, host: &dyn Host) -> io::Result<()> {
        let directory = format!("/sys/class/net/{}", self.name);
        let mtu = self.mtu_bytes.to_string();
        if value(host, &format!("{directory}/mtu")).as_deref() != Some(&mtu) {
            host.write(&format!("{directory}/mtu"), &mtu)?;
        }
        let flags = flags(host, &directory).unwrap_or_default();
        if self.up && flags & UP == 0 {
            host.write(&format!("{directory}/flags"), &format!("{:#x}", flags | UP))?;
        }
        Ok(())
    }
}

fn flags(host: &dyn Host, directory: &str) -> Option<u32> {
    let flags = value(host, &format!("{directory}/flags"))?;
    u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.driver.as_deref().unwrap_or("no driver"))?;
        if self.interfaces.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.interface_list())
    }
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
