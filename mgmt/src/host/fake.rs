//! A machine for tests: a tree of files, interfaces that exist only here.

use super::fake_pci::{self, Slots};
use super::{Host, System};
use crate::netlink::answer::TableEntry;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use tidegate_port::nic::settings::{Channels, Counts, Feature, RingSizes, Rings};

/// An interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FakeNic {
    pub index: u32,
    pub channels: Option<Channels>,
    pub rings: Option<Rings>,
    pub features: Vec<Feature>,
}

/// What the kernel would say of the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FakeNetwork {
    /// Addresses with the indexes of their interfaces.
    pub addresses: Vec<(u32, IpAddr)>,
    pub routes: Vec<TableEntry>,
    /// The interface that leads to an address.
    pub towards: BTreeMap<IpAddr, u32>,
    /// Interfaces with an XDP program.
    pub programs: BTreeSet<String>,
    /// It says nothing.
    pub mute: bool,
}

/// A machine.
pub struct FakeHost {
    tree: PathBuf,
    files: System,
    pub nics: RefCell<BTreeMap<String, FakeNic>>,
    /// What may not be written: paths, and `channels`, `rings`, `feature` for interfaces.
    pub refused: RefCell<BTreeSet<String>>,
    /// All that was written, in order.
    pub written: RefCell<Vec<String>>,
    pub network: RefCell<FakeNetwork>,
    /// What is in the slots of the PCI bus.
    pub slots: RefCell<Slots>,
    /// The largest number that a file takes; it shows this in place of a larger one.
    pub most: RefCell<BTreeMap<String, u64>>,
    /// Files of devices that a process has open.
    pub taken: RefCell<BTreeSet<String>>,
}

/// A feature that can be switched.
pub fn feature(name: &str, active: bool) -> Feature {
    Feature {
        name: name.into(),
        changeable: true,
        wanted: active,
        active,
    }
}

/// A card with two of four combined channels, small rings, LRO on, and interrupts 40, 41 (queues) and 42 (events).
pub fn card(host: &FakeHost, name: &str, index: u32) {
    let counts = |combined| Counts {
        combined,
        other: 1,
        ..Counts::default()
    };
    let sizes = |rx, tx| RingSizes {
        rx,
        tx,
        ..RingSizes::default()
    };
    let nic = FakeNic {
        index,
        channels: Some(Channels {
            max: counts(4),
            now: counts(4),
        }),
        rings: Some(Rings {
            max: sizes(4_096, 4_096),
            now: sizes(512, 512),
        }),
        features: vec![
            feature("rx-lro", true),
            feature("rx-gro", true),
            feature("rx-gro-hw", false),
            feature("rx-vlan-hw-parse", true),
        ],
    };
    host.nics.borrow_mut().insert(name.into(), nic);
    let directory = format!("sys/class/net/{name}");
    host.file(&format!("{directory}/ifindex"), &index.to_string());
    for (irq, action) in [
        (40, format!("ice-{name}-TxRx-0")),
        (41, format!("ice-{name}-TxRx-1")),
        (42, format!("ice-{name}-misc")),
    ] {
        host.file(&format!("{directory}/device/msi_irqs/{irq}"), "msix");
        host.file(&format!("sys/kernel/irq/{irq}/actions"), &action);
        host.file(&format!("proc/irq/{irq}/smp_affinity_list"), "0-3\n");
    }
}

impl FakeHost {
    /// A machine with root's privileges and no interfaces.
    pub fn new(test: &str) -> Self {
        let tree =
            std::env::temp_dir().join(format!("tidegate-host-{test}-{}", std::process::id()));
        let _left_by_a_killed_run = std::fs::remove_dir_all(&tree);
        let host = Self {
            files: System::below(tree.clone()),
            tree,
            nics: RefCell::default(),
            refused: RefCell::default(),
            written: RefCell::default(),
            network: RefCell::default(),
            slots: RefCell::default(),
            most: RefCell::default(),
            taken: RefCell::default(),
        };
        host.file(
            "proc/self/status",
            "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n",
        );
        host.file("proc/sys/kernel/random/boot_id", "this-boot\n");
        host.file("proc/sys/net/ipv4/ip_local_reserved_ports", "8080\n");
        host.file(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        );
        for core in 0..4 {
            host.file(
                &format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"),
                "powersave\n",
            );
            host.file(
                &format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_available_governors"),
                "performance powersave\n",
            );
        }
        host
    }

    /// Makes or replaces a file.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Where a file of the machine really is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.tree.join(path.trim_start_matches('/'))
    }

    /// Every file and every interface, to compare.
    pub fn state(&self) -> String {
        let mut state = format!("{:#?}", self.nics.borrow());
        let mut directories = vec![self.tree.clone()];
        while let Some(directory) = directories.pop() {
            let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            entries.sort();
            for path in entries {
                if path.is_symlink() {
                    let to = std::fs::read_link(&path).unwrap();
                    writeln!(state, "{} -> {}", path.display(), to.display()).unwrap();
                } else if path.is_dir() {
                    directories.push(path);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    writeln!(state, "{}: {}", path.display(), text.trim()).unwrap();
                }
            }
        }
        state
    }

    /// Makes or replaces a symbolic link.
    pub fn symlink(&self, path: &str, to: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _there_was_none = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(to, path).unwrap();
    }

    fn say<T>(&self, what: impl FnOnce(&FakeNetwork) -> T) -> io::Result<T> {
        let network = self.network.borrow();
        if network.mute {
            return Err(io::Error::from_raw_os_error(nix::libc::EPERM));
        }
        Ok(what(&network))
    }

    fn allow(&self, what: &str) -> io::Result<()> {
        if self.refused.borrow().contains(what) {
            return Err(io::Error::from_raw_os_error(nix::libc::EPERM));
        }
        self.written.borrow_mut().push(what.to_owned());
        Ok(())
    }

    fn nic<R>(&self, interface: &str, then: impl FnOnce(&mut FakeNic) -> R) -> io::Result<R> {
        let mut nics = self.nics.borrow_mut();
        let nic = nics
            .get_mut(interface)
            .ok_or_else(|| io::Error::from_raw_os_error(nix::libc::ENODEV))?;
        Ok(then(nic))
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.tree);
    }
}

impl Host for FakeHost {
    fn read(&self, path: &str) -> io::Result<String> {
        self.files.read(path)
    }

    fn lines(&self, path: &str, say: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.files.lines(path, say)
    }

    fn bytes(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        self.files.bytes(path, most)
    }

    fn link(&self, path: &str) -> Option<String> {
        self.files.link(path)
    }

    fn is_taken(&self, path: &str) -> bool {
        self.taken.borrow().contains(path)
    }

    fn load(&self, module: &str) -> io::Result<()> {
        self.allow(module)?;
        fake_pci::load(self, module);
        Ok(())
    }

    fn wait(&self) {}

    fn addresses(&self) -> io::Result<Vec<(u32, IpAddr)>> {
        self.say(|network| network.addresses.clone())
    }

    fn routes(&self) -> io::Result<Vec<TableEntry>> {
        self.say(|network| network.routes.clone())
    }

    fn towards(&self, address: IpAddr) -> io::Result<Option<u32>> {
        self.say(|network| network.towards.get(&address).copied())
    }

    fn has_xdp(&self, interface: &str) -> io::Result<bool> {
        self.say(|network| network.programs.contains(interface))
    }

    fn rename(&self, interface: &str, name: &str) -> io::Result<()> {
        self.allow("rename")?;
        self.rename_interface(interface, name);
        Ok(())
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        self.allow(path)?;
        if let Some(outcome) = self.write_to_pci(path, text) {
            return outcome;
        }
        if let Some(most) = self.most.borrow().get(path) {
            let given = text
                .trim()
                .parse()
                .map_or(*most, |asked| most.min(&asked).to_owned());
            return self.files.write(path, &format!("{given}\n"));
        }
        // The kernel shows all choices and puts brackets around the one that holds.
        if path.ends_with("transparent_hugepage/enabled") {
            let all = ["always", "madvise", "never"];
            let shown = all.map(|one| {
                if one == text.trim() {
                    format!("[{one}]")
                } else {
                    one.to_owned()
                }
            });
            return self.files.write(path, &shown.join(" "));
        }
        self.files.write(path, text)
    }

    fn list(&self, directory: &str) -> Vec<String> {
        self.files.list(directory)
    }

    fn ask(&self, socket: &str, message: &str) -> io::Result<String> {
        self.files.ask(socket, message)
    }

    fn index(&self, interface: &str) -> Option<u32> {
        self.nic(interface, |nic| nic.index).ok()
    }

    fn channels(&self, interface: &str) -> io::Result<Option<Channels>> {
        self.nic(interface, |nic| nic.channels)
    }

    fn set_channels(&self, interface: &str, to: Counts) -> io::Result<()> {
        self.allow("channels")?;
        self.nic(interface, |nic| nic.channels.as_mut().unwrap().now = to)
    }

    fn rings(&self, interface: &str) -> io::Result<Option<Rings>> {
        self.nic(interface, |nic| nic.rings)
    }

    fn set_rings(&self, interface: &str, to: RingSizes) -> io::Result<()> {
        self.allow("rings")?;
        self.nic(interface, |nic| nic.rings.as_mut().unwrap().now = to)
    }

    fn features(&self, interface: &str) -> io::Result<Vec<Feature>> {
        self.nic(interface, |nic| nic.features.clone())
    }

    fn set_feature(&self, interface: &str, feature: &str, wanted: bool) -> io::Result<()> {
        self.allow("feature")?;
        self.nic(interface, |nic| {
            for known in nic
                .features
                .iter_mut()
                .filter(|known| known.name == feature)
            {
                known.wanted = wanted;
                known.active = wanted;
            }
        })
    }
}
