//! The modules of the kernel that hand a card to a process.

use super::VFIO;
use crate::host::{Host, value};

/// A module.
#[derive(Debug)]
pub struct Module {
    /// Its name.
    pub name: &'static str,
    /// A directory that has an entry of this name once it is loaded, or when it is built in.
    shown_in: &'static str,
    /// Where its file is, among the kernel's drivers.
    directory: &'static str,
}

/// All that are needed: what drives the card, and what tells the IOMMU which memory is the process's. The latter is only loaded by itself
/// where modprobe heeds soft dependencies.
pub const MODULES: [Module; 2] = [
    Module {
        name: VFIO,
        shown_in: "/sys/bus/pci/drivers",
        directory: "vfio/pci",
    },
    Module {
        name: "vfio_iommu_type1",
        shown_in: "/sys/module",
        directory: "vfio",
    },
];

impl Module {
    /// Whether it is there.
    pub fn is_loaded(&self, host: &dyn Host) -> bool {
        let shown = host.list(self.shown_in);
        shown.iter().any(|entry| entry == self.name)
    }

    /// Whether there is a file of it for the kernel that runs.
    pub fn can_be_loaded(&self, host: &dyn Host) -> bool {
        let release = value(host, "/proc/sys/kernel/osrelease").unwrap_or_default();
        let directory = format!("/lib/modules/{release}/kernel/drivers/{}", self.directory);
        // Compressed or not.
        let file = format!("{}.ko", self.name);
        let files = host.list(&directory);
        files.iter().any(|entry| entry.starts_with(&file))
    }
}
