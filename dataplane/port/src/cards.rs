//! The drivers of the kernel from which DPDK can have a card. The one list of them: what a worker opens, what `tidegate configure`
//! hands over and what `tidegate check` expects follow from it.

/// How a driver lets DPDK have its card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handing {
    /// Behind an IOMMU: the card reaches the memory of the process that has it, and no other.
    Guarded,
    /// With nothing in between: the card reaches all memory of the machine, and so does whoever takes over the process that has it.
    Unguarded,
    /// The driver keeps the card, and lets DPDK use it as well.
    Shared,
}

/// The driver that guards.
pub const VFIO: &str = "vfio-pci";

const DRIVERS: [(&str, Handing); 6] = [
    (VFIO, Handing::Guarded),
    ("uio_pci_generic", Handing::Unguarded),
    ("igb_uio", Handing::Unguarded),
    ("mlx4_core", Handing::Shared),
    ("mlx5_core", Handing::Shared),
    ("mana", Handing::Shared),
];

/// What vfio calls the group of a card that has no IOMMU, where the kernel was told that this may be.
pub const UNGUARDED_GROUP: &str = "vfio-noiommu";

/// How `driver` lets DPDK have its card; `None`: not at all.
pub fn handing(driver: &str) -> Option<Handing> {
    let found = DRIVERS.iter().find(|(name, _)| *name == driver);
    found.map(|(_, handing)| *handing)
}
