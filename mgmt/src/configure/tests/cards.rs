//! Cards of DPDK.

use super::{Bench, Presence, said};
use crate::configure::stage::Stage;
use crate::configure::{Work, check};
use crate::host::fake::{FakeHost, card as interface};
use crate::host::fake_pci::{CARD, card, put};
use crate::host::{Host, value};
use crate::netlink::answer::TableEntry;

const STAGES: [Stage; 2] = [Stage::Cards, Stage::Memory];

/// A machine with the card of eth2, which the configuration wants on DPDK.
pub fn bench(test: &str) -> Bench {
    let mut bench = Bench::new(&format!("cards-{test}"));
    card(&bench.host, "i40e");
    bench
        .host
        .file("proc/meminfo", "Hugepagesize:       2048 kB\n");
    pages(&bench.host, 16, 0);
    bench.target.ports.clear();
    bench.target.cards = vec![CARD.into()];
    bench.target.card_rings = vec![2_048];
    bench
}

pub fn pages(host: &FakeHost, all: u64, free: u64) {
    let directory = "sys/kernel/mm/hugepages/hugepages-2048kB";
    host.file(&format!("{directory}/nr_hugepages"), &format!("{all}\n"));
    host.file(&format!("{directory}/free_hugepages"), &format!("{free}\n"));
}

pub fn nr_hugepages(bench: &Bench) -> u64 {
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    value(&bench.host, file).unwrap().parse().unwrap()
}

pub fn looked(bench: &Bench, stages: &[Stage]) -> (bool, String) {
    let (outcome, text) = said(|say| Ok(check(&bench.target, &bench.host, stages, say)));
    (outcome.unwrap(), text)
}

fn index(bench: &Bench) -> u32 {
    bench.host.index("eth2").unwrap()
}

#[test]
fn a_card_and_its_memory_are_made_ready_once_and_given_back() {
    let bench = bench("whole");
    let before = bench.host.state();
    let (well, text) = looked(&bench, &[]);
    assert!(!well);
    for expected in [
        "cards      WRONG  0000:3b:00.0 is with i40e (eth2): DPDK needs it on vfio-pci",
        "dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0",
        "channels   -      no port is an interface with driver",
        "memory     WRONG  this machine: 0 MB of huge pages are free, and DPDK needs ",
        "hugepages-2048kB/nr_hugepages",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(bench.host.state(), before, "check changed something");

    let (outcome, text) = bench.init(&STAGES);
    assert!(outcome.unwrap(), "{text}");
    assert!(
        text.contains("cards      done   0000:3b:00.0: driver: i40e (eth2) → vfio-pci"),
        "{text}"
    );
    assert!(
        text.contains("memory     done   this machine: huge pages of 2048 KB: 16 → "),
        "{text}"
    );
    assert!(nr_hugepages(&bench) > 16);
    pages(&bench.host, nr_hugepages(&bench), nr_hugepages(&bench) - 16);
    let (well, text) = looked(&bench, &STAGES);
    assert!(well, "{text}");
    assert!(
        text.contains("cards      ok     0000:3b:00.0: on vfio-pci, IOMMU group 7, memory node 0"),
        "{text}"
    );
    let writes = bench.host.written.borrow().len();
    assert!(bench.init(&STAGES).0.unwrap());
    assert_eq!(bench.host.written.borrow().len(), writes);

    let (outcome, text) = bench.fini(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert!(
        text.contains("cards      undone 0000:3b:00.0: driver: i40e (eth2) again"),
        "{text}"
    );
    assert_eq!(nr_hugepages(&bench), 16);
    pages(&bench.host, 16, 0);
    assert_eq!(bench.host.state(), before);
    assert!(!bench.record_exists());
}

#[test]
fn a_card_may_be_named_by_its_interface_and_is_told_by_its_address() {
    let mut bench = bench("name");
    bench.target.cards = vec!["eth2".into()];
    let (_, text) = looked(&bench, &[Stage::Cards]);
    assert!(
        text.contains("WRONG  0000:3b:00.0 is with i40e (eth2)"),
        "{text}"
    );
    // Named twice, it is taken once.
    bench.target.cards.push(CARD.into());
    let (outcome, text) = bench.init(&[Stage::Cards]);
    assert!(outcome.unwrap(), "{text}");
    assert_eq!(text.matches("done").count(), 1, "{text}");
}

/// What is refused, how it comes about, and what is said.
#[test]
fn every_reason_to_leave_a_card_alone_is_named_with_what_to_do() {
    type Spoil = fn(&mut Bench);
    let cases: [(&str, Spoil, &[&str]); 18] = [
        (
            "missing",
            |bench| bench.target.cards = vec!["0000:99:00.0".into()],
            &["there is no PCI device 0000:99:00.0", "lspci -D"],
        ),
        (
            "word",
            |bench| bench.target.cards = vec!["eth7".into()],
            &["eth7 is neither the address of a PCI device nor an interface"],
        ),
        (
            "virtual",
            |bench| bench.target.cards = vec!["eth1".into()],
            &["eth1 is no interface of a PCI card of its own"],
        ),
        (
            "disk",
            |bench| {
                let file = format!("sys/devices/pci0000:00/{CARD}/class");
                bench.host.file(&file, "0x010802\n");
            },
            &["is no network card: its class is 0108"],
        ),
        (
            "default",
            |bench| route(bench, 0, index(bench)),
            &[
                "0000:3b:00.0 (eth2) carries the default route, which would be cut",
                "has routes",
                "ip route flush dev eth2",
            ],
        ),
        (
            "below",
            |bench| {
                interface(&bench.host, "bond0", 50);
                bench
                    .host
                    .symlink("sys/class/net/eth2/upper_bond0", "../../bond0");
                route(bench, 0, 50);
            },
            &[
                "(eth2, below bond0) carries the default route",
                "is below bond0, which would lose it for good",
                "ip link set eth2 nomaster",
            ],
        ),
        (
            "ssh",
            |bench| {
                let line = format!(
                    "0: {:08X}:0016 {:08X}:C350 01 0:0 0:0 0 0 0 7 1\n",
                    u32::from_ne_bytes([10, 0, 0, 10]),
                    u32::from_ne_bytes([10, 0, 0, 99])
                );
                bench.host.file("proc/self/net/tcp", &line);
                let towards = ("10.0.0.99".parse().unwrap(), index(bench));
                bench.host.network.borrow_mut().towards.extend([towards]);
            },
            &["carries an ssh connection with 10.0.0.99:50000, which would be cut"],
        ),
        (
            "addresses",
            |bench| {
                let index = index(bench);
                let of = |text: &str| (index, text.parse().unwrap());
                bench.host.network.borrow_mut().addresses =
                    vec![of("fe80::1"), of("192.0.2.1"), of("2001:db8::1")];
            },
            &[
                "(eth2) has addresses (192.0.2.1, 2001:db8::1)",
                "ip addr flush dev eth2",
            ],
        ),
        (
            "program",
            |bench| {
                let program = ["eth2".to_owned()];
                bench.host.network.borrow_mut().programs.extend(program);
            },
            &["is in use: an XDP program is attached", "bpftool net show"],
        ),
        (
            "mute",
            |bench| bench.host.network.borrow_mut().mute = true,
            &["cannot tell whether it carries the default route"],
        ),
        (
            "elsewhere",
            |bench| {
                bench.host.nics.borrow_mut().remove("eth2");
            },
            &["its interface is not in this network namespace"],
        ),
        (
            "functions",
            |bench| {
                let file = format!("sys/devices/pci0000:00/{CARD}/sriov_numvfs");
                bench.host.file(&file, "4\n");
            },
            &["is divided into 4 virtual functions", "/sriov_numvfs"],
        ),
        (
            "no-iommu",
            |bench| {
                let directory = format!("sys/devices/pci0000:00/{CARD}");
                let link = bench.host.path(&format!("{directory}/iommu_group"));
                std::fs::remove_file(link).unwrap();
                std::fs::remove_dir_all(bench.host.path("sys/class/iommu")).unwrap();
            },
            &["no IOMMU is on", "is not offered", "intel_iommu=on"],
        ),
        (
            "unwatched",
            |bench| {
                let file = "sys/kernel/iommu_groups/7/name";
                bench.host.file(file, "vfio-noiommu\n");
            },
            &["the IOMMU does not watch this card", "iommu_platform=on"],
        ),
        (
            "group",
            |bench| put(&bench.host, "0000:3b:00.1", "i40e", "eth3", 7),
            &["shares IOMMU group 7 with 0000:3b:00.1 (i40e)"],
        ),
        (
            "no-module",
            |bench| {
                let driver = bench.host.path("sys/bus/pci/drivers/vfio-pci");
                std::fs::remove_dir_all(driver).unwrap();
            },
            &["needs vfio-pci, which is neither loaded nor among the modules"],
        ),
        (
            "no-type1",
            |bench| {
                assert!(bench.init(&[Stage::Cards]).0.unwrap());
                std::fs::remove_file(bench.root.join("configure-shop.json")).unwrap();
                let module = bench.host.path("sys/module/vfio_iommu_type1");
                std::fs::remove_dir_all(module).unwrap();
                loadable(&bench.host);
            },
            &[
                "on vfio-pci, and vfio_iommu_type1 is not loaded",
                "modprobe vfio_iommu_type1",
            ],
        ),
        (
            "shared",
            |bench| {
                put(&bench.host, CARD, "mlx5_core", "eth2", 7);
                std::fs::remove_file(
                    bench
                        .host
                        .path(&format!("sys/devices/pci0000:00/{CARD}/driver")),
                )
                .unwrap();
                put(&bench.host, CARD, "mlx5_core", "eth2", 7);
                route(bench, 1, index(bench));
            },
            &["carries the default route, which would be cut"],
        ),
    ];
    for (name, spoil, expected) in cases {
        let mut bench = bench(name);
        spoil(&mut bench);
        let before = bench.host.state();
        let (well, text) = looked(&bench, &[Stage::Cards]);
        assert!(!well, "{name}: {text}");
        for expected in expected {
            assert!(
                text.contains(expected),
                "{name}: {expected:?} is not in\n{text}"
            );
        }
        let (outcome, text) = bench.init(&[Stage::Cards]);
        assert!(!outcome.unwrap(), "{name}: {text}");
        assert!(!bench.record_exists(), "{name}");
        let _made_for_the_record = std::fs::remove_dir_all(bench.host.path("run"));
        assert_eq!(bench.host.state(), before, "{name}: something was changed");
    }
}

fn route(bench: &Bench, prefix_bits: u8, index: u32) {
    bench.host.network.borrow_mut().routes = vec![TableEntry {
        interfaces: vec![index],
        prefix_bits,
        by_kernel: false,
    }];
}

fn loadable(host: &FakeHost) {
    host.file("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
    let vfio = "lib/modules/6.1.0-13-amd64/kernel/drivers/vfio";
    host.file(&format!("{vfio}/pci/vfio-pci.ko.xz"), "");
    host.file(&format!("{vfio}/vfio_iommu_type1.ko"), "");
}

#[test]
fn a_module_that_can_be_loaded_is_no_obstacle() {
    let bench = bench("loadable");
    std::fs::remove_dir_all(bench.host.path("sys/bus/pci/drivers/vfio-pci")).unwrap();
    std::fs::remove_dir_all(bench.host.path("sys/module/vfio_iommu_type1")).unwrap();
    loadable(&bench.host);
    let (outcome, text) = bench.init(&[Stage::Cards]);
    assert!(outcome.unwrap(), "{text}");
}

#[test]
fn cards_of_one_group_that_are_all_ours_are_all_taken() {
    let mut bench = bench("both");
    put(&bench.host, "0000:3b:00.1", "i40e", "eth3", 7);
    bench.target.cards.push("eth3".into());
    let before = bench.host.state();
    let (outcome, text) = bench.init(&[Stage::Cards]);
    assert!(outcome.unwrap(), "{text}");
    assert_eq!(text.matches("done").count(), 2, "{text}");
    assert!(bench.fini(&[]).0.unwrap());
    assert_eq!(bench.host.state(), before);
}

#[test]
fn drivers_that_dpdk_can_work_with_are_left_alone() {
    for (driver, unguarded, is_well, expected) in [
        (
            "mlx5_core",
            false,
            true,
            "stays with mlx5_core, which shares it with DPDK",
        ),
        (
            "uio_pci_generic",
            true,
            true,
            "on uio_pci_generic, where somebody put it",
        ),
        (
            "igb_uio",
            false,
            false,
            "is on igb_uio, with no IOMMU between it and all memory of the machine",
        ),
    ] {
        let mut bench = bench(driver);
        if unguarded {
            bench.target.unguarded_cards.push(CARD.into());
        }
        std::fs::remove_file(
            bench
                .host
                .path(&format!("sys/devices/pci0000:00/{CARD}/driver")),
        )
        .unwrap();
        put(&bench.host, CARD, driver, "eth2", 7);
        let (well, text) = looked(&bench, &[Stage::Cards]);
        assert!(well == is_well && text.contains(expected), "{text}");
    }
}

#[test]
fn a_card_that_fails_half_way_is_given_back_and_nothing_is_left_to_undo() {
    let bench = bench("half");
    let before = bench.host.state();
    bench.host.slots.borrow_mut().get_mut(CARD).unwrap().refuses = true;
    let (outcome, text) = bench.init(&STAGES);
    assert!(!outcome.unwrap());
    for expected in [
        "cards      FAILED 0000:3b:00.0: driver: vfio-pci does not take it",
        "not tried: memory",
        "nothing was changed",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!bench.record_exists());
    let _made_for_the_record = std::fs::remove_dir_all(bench.host.path("run"));
    assert_eq!(bench.host.state(), before);
}

#[test]
fn whoever_is_killed_between_two_steps_can_undo_or_go_on() {
    for goes_on in [false, true] {
        let bench = bench("killed");
        let before = bench.host.state();
        let (outcome, _) = bench.init(&[Stage::Cards]);
        assert!(outcome.unwrap());
        // The record of a whole change, and a card that nobody has yet.
        let unbind = format!("/sys/bus/pci/devices/{CARD}/driver/unbind");
        bench.host.write(&unbind, CARD).unwrap();
        if goes_on {
            let (outcome, text) = bench.init(&[Stage::Cards]);
            assert!(outcome.unwrap(), "{text}");
            assert!(text.contains("no driver → vfio-pci"), "{text}");
        }
        let (outcome, text) = bench.fini(&[]);
        assert!(outcome.unwrap(), "{text}");
        assert_eq!(bench.host.state(), before, "{text}");
    }
}

#[test]
fn a_card_in_use_is_not_pulled_from_under_anybody() {
    let bench = bench("use");
    let running = Work {
        presence: Presence::Running,
        ..bench.work()
    };
    let refused = said(|say| running.init(&bench.target, &STAGES, say)).0;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("\"shop\" is running"), "{error}");
    assert!(bench.init(&[Stage::Cards]).0.unwrap());
    bench.host.taken.borrow_mut().insert("/dev/vfio/7".into());
    let (outcome, text) = bench.fini(&[]);
    assert!(!outcome.unwrap());
    assert!(
        text.contains("FAILED 0000:3b:00.0: driver: a process uses it"),
        "{text}"
    );
    assert!(bench.record_exists());
    bench.host.taken.borrow_mut().clear();
    assert!(bench.fini(&[]).0.unwrap());
}

#[test]
fn what_somebody_did_with_a_card_since_is_left_alone() {
    let bench = bench("theirs");
    assert!(bench.init(&[Stage::Cards]).0.unwrap());
    let directory = format!("/sys/bus/pci/devices/{CARD}");
    bench
        .host
        .write(&format!("{directory}/driver/unbind"), CARD)
        .unwrap();
    crate::host::fake_pci::load(&bench.host, "uio_pci_generic");
    bench
        .host
        .write("/sys/bus/pci/drivers/uio_pci_generic/bind", CARD)
        .unwrap();
    let (outcome, text) = bench.fini(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert!(
        text.contains("somebody made it uio_pci_generic since, left alone"),
        "{text}"
    );
}
