//! Huge pages that are set aside for DPDK.

use super::cards::{bench, looked, nr_hugepages, pages};
use crate::configure::stage::Stage;
use crate::host::value;
use crate::runtime_dir::Presence;

#[test]
fn memory_is_never_lowered_and_only_what_was_added_is_taken_away() {
    let bench = bench("memory");
    pages(&bench.host, 1_000, 1_000);
    let (outcome, text) = bench.init(&[Stage::Memory]);
    assert!(
        outcome.unwrap() && text.contains("2000 MB of huge pages are free"),
        "{text}"
    );
    assert_eq!(nr_hugepages(&bench), 1_000);

    pages(&bench.host, 16, 0);
    assert!(bench.init(&[Stage::Memory]).0.unwrap());
    let reserved = nr_hugepages(&bench);
    pages(&bench.host, reserved + 64, 64);
    assert!(bench.fini(&[]).0.unwrap());
    assert_eq!(nr_hugepages(&bench), 16 + 64, "64 are somebody's");
}

#[test]
fn memory_that_the_kernel_does_not_give_is_said_with_what_to_do() {
    let bench = bench("short");
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    for most in [40, 16] {
        pages(&bench.host, 16, 0);
        bench.host.most.borrow_mut().insert(file.into(), most);
        let (outcome, text) = bench.init(&[Stage::Memory]);
        assert!(!outcome.unwrap(), "{text}");
        assert!(
            text.contains(&format!("the kernel gave {most} of ")),
            "{text}"
        );
        assert!(text.contains("on the kernel's command line"), "{text}");
        assert_eq!(bench.record_exists(), most > 16);
        assert!(bench.fini(&[]).0.unwrap());
        assert_eq!(nr_hugepages(&bench), 16);
    }
}

#[test]
fn memory_is_set_aside_on_the_nodes_of_the_cores() {
    let bench = bench("nodes");
    for (node, cores) in [(0, "0-1"), (1, "2-3")] {
        let directory = format!("sys/devices/system/node/node{node}");
        bench.host.file(&format!("{directory}/cpulist"), cores);
        let pages = format!("{directory}/hugepages/hugepages-2048kB");
        bench.host.file(&format!("{pages}/nr_hugepages"), "0\n");
        bench.host.file(&format!("{pages}/free_hugepages"), "0\n");
    }
    assert!(bench.init(&[Stage::Memory]).0.unwrap());
    let of_node = |node: u32| {
        let pages = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
        value(&bench.host, &format!("{pages}/nr_hugepages")).unwrap()
    };
    assert_eq!(of_node(0), "0");
    assert_ne!(of_node(1), "0", "the workers are on cores 2 and 3");
}

#[test]
fn a_running_instance_has_its_memory_and_a_kernel_without_says_so() {
    let mut bench = bench("has");
    bench.target.presence = Presence::Running;
    let (well, text) = looked(&bench, &[Stage::Memory]);
    assert!(
        well && text.contains("the running instance has its own"),
        "{text}"
    );
    bench.target.presence = Presence::Gone;
    bench.host.file("proc/meminfo", "MemTotal: 1 kB\n");
    let (well, text) = looked(&bench, &[Stage::Memory]);
    assert!(
        !well && text.contains("this kernel has no huge pages"),
        "{text}"
    );
}
