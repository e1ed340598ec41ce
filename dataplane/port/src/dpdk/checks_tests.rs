//! Against directories that look like those of the kernel.

use super::*;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A directory that goes with the test.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, path: &str, content: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.join(path);
        let _before = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

const CARD: &str = "0000:3b:00.1";

#[test]
fn a_card_has_to_be_ours() {
    let tree = Tree::new("pci");
    let vfio = tree.0.join("vfio");
    let look_at = |unguarded| {
        let place = CardPlace {
            devices: &tree.0,
            vfio: &vfio,
        };
        let address = CARD.parse().unwrap();
        let outcome = card(&place, &address, unguarded)
            .and_then(|()| next_to_cores(&tree.0, &address, &[0], &[2]));
        outcome.map_err(|error| error.to_string())
    };
    let look = || look_at(false);
    let refused = |part: &str| {
        let text = look().unwrap_err();
        assert!(text.contains(part) && text.contains(CARD), "{text}");
    };
    refused("there is no PCI device");
    tree.file("0000:3b:00.1/numa_node", "-1\n");
    refused("has no driver");
    tree.link("0000:3b:00.1/driver", "../drivers/virtio-pci");
    refused("the kernel's driver virtio-pci");
    tree.link("0000:3b:00.1/driver", "../drivers/vfio-pci");
    refused("vfio is not loaded");
    tree.file("vfio/vfio", "");
    refused("in no IOMMU group");
    tree.link("0000:3b:00.1/iommu_group", "../groups/17");
    look().unwrap();
    tree.file("groups/17/name", "vfio-noiommu\n");
    refused("in no IOMMU group");
    look_at(true).unwrap();
    tree.file("groups/17/name", "DMA\n");
    tree.file("0000:3b:00.1/numa_node", "1\n");
    refused("memory node 1");
    tree.file("0000:3b:00.1/numa_node", "0\n");
    look().unwrap();
    for driver in ["uio_pci_generic", "igb_uio"] {
        tree.link("0000:3b:00.1/driver", &format!("../drivers/{driver}"));
        refused("with no IOMMU between it and all memory");
        refused("without_iommu = true");
        look_at(true).unwrap();
    }
    // Its card stays with the kernel as well.
    tree.link("0000:3b:00.1/driver", "../drivers/mlx5_core");
    look().unwrap();
}

#[test]
fn huge_pages_of_all_sizes_count() {
    let tree = Tree::new("pages");
    let text = |needed_mb| huge_pages(&tree.0, needed_mb).map_err(|error| error.to_string());
    let none = text(100).unwrap_err();
    assert!(
        none.contains("0 MB of huge pages are free, and 100 MB"),
        "{none}"
    );
    assert!(none.contains("vm.nr_hugepages=50"), "{none}");
    tree.file("hugepages-2048kB/free_hugepages", "10\n");
    assert!(
        text(21)
            .unwrap_err()
            .contains("20 MB of huge pages are free")
    );
    text(20).unwrap();
    tree.file("hugepages-1048576kB/free_hugepages", "1\n");
    text(1_044).unwrap();
}

#[test]
fn huge_pages_have_to_be_where_they_are_needed() {
    let tree = Tree::new("nodes");
    // A kernel without NUMA.
    huge_pages_of_nodes(&tree.0, &[100]).unwrap();
    tree.file("node0/hugepages/hugepages-2048kB/free_hugepages", "100\n");
    tree.file("node1/hugepages/hugepages-2048kB/free_hugepages", "10\n");
    huge_pages_of_nodes(&tree.0, &[200, 20]).unwrap();
    let text = huge_pages_of_nodes(&tree.0, &[100, 21])
        .unwrap_err()
        .to_string();
    for part in ["memory node 1", "20 MB", "21 MB", "node1/hugepages"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_driver_that_is_not_installed_is_named() {
    let tree = Tree::new("drivers");
    let error = is_installed(&tree.0, "librte_net_ring").unwrap_err();
    assert!(error.to_string().contains("librte_net_ring"), "{error}");
    tree.file("librte_net_ring.so.23", "");
    is_installed(&tree.0, "librte_net_ring").unwrap();
    assert!(is_installed(&tree.0, "librte_net_rin").is_err());
}
