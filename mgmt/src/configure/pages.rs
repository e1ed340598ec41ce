//! Huge pages that are set aside for DPDK: how many there are on a memory node, and how many are free.

use crate::host::{Host, numbers, value};
use std::collections::BTreeMap;

/// Pages of one size on one memory node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pages {
    /// The node; `None`: the machine, which has one.
    pub node: Option<u32>,
    /// Their size.
    pub size_kb: u64,
}

impl Pages {
    /// The file that says how many there are, and takes how many there should be.
    pub fn file(&self) -> String {
        let directory = directory(self.node);
        format!("{directory}/hugepages-{}kB/nr_hugepages", self.size_kb)
    }

    /// What they are called where an operator reads it.
    pub fn place(&self) -> String {
        place(self.node)
    }
}

/// A memory node where an operator reads it.
pub fn place(node: Option<u32>) -> String {
    node.map_or_else(
        || "this machine".into(),
        |node| format!("memory node {node}"),
    )
}

fn directory(node: Option<u32>) -> String {
    match node {
        Some(node) => format!("/sys/devices/system/node/node{node}/hugepages"),
        None => "/sys/kernel/mm/hugepages".into(),
    }
}

/// The size that is taken where nobody asks for another; `None`: this kernel has no huge pages.
pub fn usual_kb(host: &dyn Host) -> Option<u64> {
    let memory = host.read("/proc/meminfo").ok()?;
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Megabytes of free pages of all sizes.
pub fn free_mb(host: &dyn Host, node: Option<u32>) -> u64 {
    let directory = directory(node);
    let of_size = |entry: &String| {
        let size_kb: u64 = entry
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free = value(host, &format!("{directory}/{entry}/free_hugepages"))?;
        size_kb.checked_mul(free.parse().ok()?)
    };
    host.list(&directory)
        .iter()
        .filter_map(of_size)
        .sum::<u64>()
        / 1_024
}

/// How many of these cores each memory node has; `None`: the machine has one node, or does not say.
pub fn nodes_of(host: &dyn Host, cores: &[u32]) -> Vec<(Option<u32>, usize)> {
    let entries = host.list("/sys/devices/system/node").into_iter();
    let nodes: Vec<(u32, Vec<u32>)> = entries
        .filter_map(|entry| {
            let list = value(host, &format!("/sys/devices/system/node/{entry}/cpulist"))?;
            Some((entry.strip_prefix("node")?.parse().ok()?, numbers(&list)))
        })
        .collect();
    let mut counts = BTreeMap::<u32, usize>::new();
    for core in cores {
        if let Some((node, _)) = nodes.iter().find(|(_, of_node)| of_node.contains(core)) {
            *counts.entry(*node).or_default() += 1;
        }
    }
    if nodes.len() < 2 || counts.is_empty() {
        return vec![(None, cores.len())];
    }
    let of_node = |(node, count)| (Some(node), count);
    counts.into_iter().map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn cores_are_counted_where_they_are() {
        let host = FakeHost::new("pages-nodes");
        assert_eq!(nodes_of(&host, &[0, 1]), [(None, 2)]);
        host.file("sys/devices/system/node/node0/cpulist", "0-1\n");
        assert_eq!(nodes_of(&host, &[0, 1]), [(None, 2)]);
        host.file("sys/devices/system/node/node1/cpulist", "2-3\n");
        assert_eq!(nodes_of(&host, &[2, 3]), [(Some(1), 2)]);
        assert_eq!(nodes_of(&host, &[0, 2, 3]), [(Some(0), 1), (Some(1), 2)]);
        assert_eq!(nodes_of(&host, &[9]), [(None, 1)]);
    }

    #[test]
    fn free_pages_of_all_sizes_count() {
        let host = FakeHost::new("pages-free");
        assert_eq!((free_mb(&host, None), usual_kb(&host)), (0, None));
        let sizes = "sys/kernel/mm/hugepages";
        host.file(&format!("{sizes}/hugepages-2048kB/free_hugepages"), "10\n");
        host.file(
            &format!("{sizes}/hugepages-1048576kB/free_hugepages"),
            "1\n",
        );
        host.file(
            "proc/meminfo",
            "MemTotal: 1 kB\nHugepagesize:       2048 kB\n",
        );
        assert_eq!(
            (free_mb(&host, None), usual_kb(&host)),
            (1_044, Some(2_048))
        );
    }
}
