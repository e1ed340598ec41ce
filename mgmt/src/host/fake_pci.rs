//! Cards of a machine for tests, and drivers that take them and let them go as the kernel's do.

use super::fake::{FakeHost, FakeNic};
use std::collections::BTreeMap;
use std::io;

/// What is in the slots, by address.
pub type Slots = BTreeMap<String, FakeCard>;

/// A card.
#[derive(Clone, Debug)]
pub struct FakeCard {
    /// The driver that takes it when nobody says otherwise.
    pub driver: String,
    /// The name that its interface gets when that comes.
    pub interface: String,
    /// The index that its interface gets; the next one gets the next.
    pub index: u32,
    /// Its driver has its interface on a device of its own.
    pub virtio: bool,
    /// vfio-pci does not take it.
    pub refuses: bool,
}

/// Where the card of [`card`] is.
pub const CARD: &str = "0000:3b:00.0";

/// Puts a card with the interface eth2 into a slot, on a machine with an IOMMU and vfio.
pub fn card(host: &FakeHost, driver: &str) {
    put(host, CARD, driver, "eth2", 7);
    host.file("sys/class/iommu/dmar0/devices", "");
    load(host, "vfio-pci");
    load(host, "vfio_iommu_type1");
}

/// Puts a card into a slot, with its interface up and an IOMMU group.
pub fn put(host: &FakeHost, address: &str, driver: &str, interface: &str, group: u32) {
    let directory = format!("sys/devices/pci0000:00/{address}");
    for (file, text) in [
        ("class", "0x020000\n"),
        ("vendor", "0x8086\n"),
        ("device", "0x1572\n"),
        ("numa_node", "0\n"),
        ("driver_override", "(null)\n"),
    ] {
        host.file(&format!("{directory}/{file}"), text);
    }
    host.symlink(
        &format!("sys/bus/pci/devices/{address}"),
        &format!("../../../devices/pci0000:00/{address}"),
    );
    host.symlink(
        &format!("{directory}/iommu_group"),
        &format!("../../../kernel/iommu_groups/{group}"),
    );
    host.symlink(
        &format!("sys/kernel/iommu_groups/{group}/devices/{address}"),
        &format!("../../../../devices/pci0000:00/{address}"),
    );
    host.file("sys/bus/pci/drivers_probe", "");
    load(host, driver);
    let card = FakeCard {
        driver: driver.into(),
        interface: interface.into(),
        index: 10 * group,
        virtio: driver == "virtio-pci",
        refuses: false,
    };
    host.slots.borrow_mut().insert(address.into(), card);
    host.bind(address, driver);
    let net = host.net_directory(address);
    host.file(&format!("{net}/{interface}/flags"), "0x1003\n");
}

/// Loads a driver.
pub fn load(host: &FakeHost, driver: &str) {
    if driver == "vfio_iommu_type1" {
        host.file(&format!("sys/module/{driver}/refcnt"), "0\n");
        return;
    }
    for file in ["bind", "unbind"] {
        host.file(&format!("sys/bus/pci/drivers/{driver}/{file}"), "");
    }
}

impl FakeHost {
    /// What the kernel does when something is written to a file of the bus. `None`: it is not one of those.
    pub fn write_to_pci(&self, path: &str, text: &str) -> Option<io::Result<()>> {
        let rest = path.strip_prefix("/sys/bus/pci/")?;
        if !self.path(path).exists() {
            return Some(Err(io::ErrorKind::NotFound.into()));
        }
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            ["devices", address, "driver_override"] => {
                let shown = match text.trim() {
                    "" => "(null)",
                    driver => driver,
                };
                self.file(
                    &format!("sys/devices/pci0000:00/{address}/driver_override"),
                    &format!("{shown}\n"),
                );
            }
            ["devices", address, "driver", "unbind"] => self.unbind(address),
            ["drivers", driver, "bind"] => self.bind(text, driver),
            ["drivers_probe"] => self.probe(text),
            _ => return None,
        }
        Some(Ok(()))
    }

    fn probe(&self, address: &str) {
        let directory = format!("sys/devices/pci0000:00/{address}");
        let only = std::fs::read_to_string(self.path(&format!("{directory}/driver_override")));
        let card = self.slots.borrow()[address].clone();
        match only.unwrap().trim() {
            "(null)" => self.bind(address, &card.driver),
            "vfio-pci" if card.refuses => {}
            only => self.bind(address, only),
        }
    }

    fn bind(&self, address: &str, driver: &str) {
        let directory = format!("sys/devices/pci0000:00/{address}");
        let driver_link = format!("{directory}/driver");
        if self.path(&driver_link).is_symlink() {
            return;
        }
        self.symlink(&driver_link, &format!("../../../bus/pci/drivers/{driver}"));
        let card = self.slots.borrow()[address].clone();
        if driver != card.driver {
            return;
        }
        if card.virtio {
            let virtio = format!("{directory}/virtio4");
            self.symlink(
                &format!("{virtio}/driver"),
                "../../../../bus/virtio/drivers/virtio_net",
            );
        }
        let net = self.net_directory(address);
        let interface = &card.interface;
        for (file, text) in [
            ("ifindex", format!("{}\n", card.index)),
            ("mtu", "1500\n".into()),
            ("flags", "0x1002\n".into()),
            ("dev_port", "0\n".into()),
        ] {
            self.file(&format!("{net}/{interface}/{file}"), &text);
        }
        let shown = net.trim_start_matches("sys/");
        self.symlink(
            &format!("sys/class/net/{interface}"),
            &format!("../../{shown}/{interface}"),
        );
        let nic = FakeNic {
            index: card.index,
            ..FakeNic::default()
        };
        self.nics.borrow_mut().insert(interface.clone(), nic);
    }

    fn unbind(&self, address: &str) {
        let directory = format!("sys/devices/pci0000:00/{address}");
        std::fs::remove_file(self.path(&format!("{directory}/driver"))).unwrap();
        let net = self.net_directory(address);
        for interface in self.files_of(&net) {
            std::fs::remove_file(self.path(&format!("sys/class/net/{interface}"))).unwrap();
            self.nics.borrow_mut().remove(&interface);
        }
        for gone in ["net", "virtio4"] {
            let _was_not_there = std::fs::remove_dir_all(self.path(&format!("{directory}/{gone}")));
        }
    }

    /// Where the interfaces of a card are.
    pub fn net_directory(&self, address: &str) -> String {
        let between = if self.slots.borrow()[address].virtio {
            "/virtio4"
        } else {
            ""
        };
        format!("sys/devices/pci0000:00/{address}{between}/net")
    }

    /// What the kernel does when an interface gets another name.
    pub fn rename_interface(&self, from: &str, to: &str) {
        let link = self.path(&format!("sys/class/net/{from}"));
        let target = std::fs::read_link(&link).unwrap();
        let target = target.to_string_lossy().into_owned();
        let directory = format!("sys/{}", target.trim_start_matches("../"));
        let (net, _) = directory.rsplit_once('/').unwrap();
        std::fs::rename(self.path(&directory), self.path(&format!("{net}/{to}"))).unwrap();
        std::fs::remove_file(link).unwrap();
        let (above, _) = target.rsplit_once('/').unwrap();
        self.symlink(&format!("sys/class/net/{to}"), &format!("{above}/{to}"));
        let nic = self.nics.borrow_mut().remove(from).unwrap();
        self.nics.borrow_mut().insert(to.into(), nic);
    }

    fn files_of(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(directory)).into_iter();
        let names = entries.flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    }
}
