use super::{Findings, Patient, Severity, code, look, sorted, target, verdict};
use crate::host::fake::{FakeHost, card};
use crate::host::fake_pci;
use crate::plan::Facts;
use std::collections::BTreeMap;
use std::path::Path;
use tidegate_config::Config;
use tidegate_port::nic::Nic;
use tidegate_port::nic::virtio::Virtio;

const CONFIG: &str = r#"
    [[port]]
    interface = "eth1"
    queues = { 0 = 2, 1 = 3 }
    rss = "port-xor"
    ring_size = 512
    [[pool]]
    name = "sessions"
    listen = "10.0.0.10:11211"
    protocol = "memcached"
    servers = ["10.0.1.11:11211:1"]
"#;

fn nic() -> Nic {
    Nic {
        name: "eth1".into(),
        ifindex: 3,
        mac: [2, 0, 0, 0, 0, 1],
        mtu_bytes: 1_500,
        is_up: true,
        is_running: true,
        driver: Some("ice".into()),
        rx_queues: 2,
        rx_queues_max: 4,
        rss: None,
        virtio: None,
        numa_node: Some(0),
    }
}

fn facts(nic: Nic) -> Facts {
    Facts {
        nics: BTreeMap::from([("eth1".into(), Ok(nic))]),
        cores: vec![0, 1, 2, 3],
        node_cores: BTreeMap::from([(0, vec![2, 3])]),
        processors: 4,
        ..Facts::default()
    }
}

/// A dedicated host on which nothing is left to mend.
fn healthy(test: &str) -> FakeHost {
    let host = FakeHost::new(&format!("doctor-{test}"));
    card(&host, "eth1", 3);
    for feature in &mut host.nics.borrow_mut().get_mut("eth1").unwrap().features {
        feature.active = false;
    }
    host.file("proc/sys/kernel/osrelease", "6.12.0-amd64\n");
    host.file("proc/sys/kernel/unprivileged_bpf_disabled", "2\n");
    host.file("proc/sys/net/core/bpf_jit_enable", "1\n");
    host.file(
        "proc/net/protocols",
        "protocol  size\nXDP 1088 0\nTCP 2304 1\n",
    );
    host.file(
        "proc/self/limits",
        "Max open files 1024 20000 files\nMax locked memory unlimited unlimited bytes\n",
    );
    host.file("proc/self/cgroup", "0::/system.slice/tidegate.service\n");
    host.file("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n");
    host.file("sys/devices/system/cpu/isolated", "2-3\n");
    host.file("sys/devices/system/cpu/online", "0-3\n");
    host.file("sys/devices/system/cpu/possible", "0-3\n");
    for core in 0..4 {
        let cpu = format!("sys/devices/system/cpu/cpu{core}");
        host.file(
            &format!("{cpu}/topology/thread_siblings_list"),
            &format!("{core}\n"),
        );
        host.file(&format!("{cpu}/cpufreq/scaling_governor"), "performance\n");
        for (state, name, latency) in [
            ("state0", "POLL", "0"),
            ("state1", "C1", "2"),
            ("state2", "C6", "133"),
        ] {
            host.file(&format!("{cpu}/cpuidle/{state}/name"), name);
            host.file(&format!("{cpu}/cpuidle/{state}/latency"), latency);
            host.file(
                &format!("{cpu}/cpuidle/{state}/disable"),
                if state == "state2" { "1" } else { "0" },
            );
        }
    }
    for (irq, core) in [(40, "2"), (41, "3"), (42, "0")] {
        host.file(&format!("proc/irq/{irq}/smp_affinity_list"), core);
        host.file(&format!("proc/irq/{irq}/effective_affinity_list"), core);
    }
    host
}

/// Every finding of a patient as text, and the exit code.
fn examine(host: &FakeHost, config: Option<&str>, facts: &Facts) -> (String, u8) {
    let config = config.map(|text| Config::parse(text, "test").unwrap());
    let patient = Patient {
        host,
        config: config.as_ref(),
        facts,
        target: target(config.as_ref(), facts, Path::new("/no/such/directory")),
    };
    let mut findings = Findings::default();
    look(&patient, &mut findings);
    let findings = sorted(findings);
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| {
            format!(
                "{:?} {}: {} | {}",
                finding.severity, finding.about, finding.what, finding.mend
            )
        })
        .collect();
    (lines.join("\n"), code(&findings))
}

#[test]
fn nothing_is_found_on_a_host_that_is_ready() {
    let host = healthy("ready");
    let before = host.state();
    assert_eq!(
        examine(&host, Some(CONFIG), &facts(nic())),
        (String::new(), 0)
    );
    assert_eq!(examine(&host, None, &Facts::default()), (String::new(), 0));
    assert_eq!(host.state(), before);
    assert!(host.written.borrow().is_empty());
}

#[test]
fn each_thing_that_makes_it_slower_is_named_with_what_to_do() {
    let host = healthy("slower");
    host.file("proc/sys/net/core/bpf_jit_enable", "0\n");
    host.file(
        "sys/kernel/security/lockdown",
        "none integrity [confidentiality]\n",
    );
    host.file("sys/devices/system/cpu/isolated", "\n");
    host.file(
        "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
        "2-3\n",
    );
    host.file(
        "sys/devices/system/cpu/cpu3/topology/thread_siblings_list",
        "2-3\n",
    );
    host.file("sys/devices/system/cpu/cpu3/cpuidle/state2/disable", "0\n");
    host.file(
        "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "powersave\n",
    );
    host.file("sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n");
    host.file("proc/irq/9/effective_affinity_list", "3\n");
    host.file("sys/kernel/irq/9/actions", "nvme0q3\n");
    host.file("proc/irq/40/smp_affinity_list", "0-3\n");
    let mut far = facts(nic());
    far.node_cores = BTreeMap::from([(0, vec![0, 1])]);
    far.nics.get_mut("eth1").unwrap().as_mut().unwrap().driver = Some("virtio_net".into());
    {
        let mut nics = host.nics.borrow_mut();
        let features = &mut nics.get_mut("eth1").unwrap().features;
        features[0].active = true;
        features[0].changeable = false;
        features[3].active = true;
    }
    let (text, code) = examine(&host, Some(CONFIG), &far);
    for expected in [
        "bpf_jit_enable=1",
        "locked down",
        "isolcpus=2-3",
        "cores 2-3 are one core with several threads",
        "cores 3 of workers sleep as deep as C6",
        "take 133 µs to wake",
        "governor: core 2 of a worker has the governor powersave",
        "tidegate configure init governor",
        "50 % of one core",
        "interrupts 9 (nvme0q3) of other devices land on cores 2-3",
        "irqs: eth1: interrupt 40 of queue 0 is on cores 0-3",
        "cores 2-3 of workers are not on memory node 0, where eth1 is",
        "take cores of 0-1",
        "driver virtio_net is not known for zero copy",
        "rx-lro is on and the driver keeps it so",
        "rx-vlan-hw-parse is on",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!text.contains("Blocks"), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn what_keeps_it_from_running_comes_first_and_is_another_exit_code() {
    let host = healthy("blocked");
    host.file("proc/sys/kernel/osrelease", "5.4.0-generic\n");
    host.file("proc/net/protocols", "protocol  size\nTCP 2304 1\n");
    std::fs::remove_file(host.path("proc/sys/kernel/unprivileged_bpf_disabled")).unwrap();
    host.file(
        "proc/self/status",
        "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n",
    );
    host.file(
        "proc/self/limits",
        "Max locked memory 8388608 8388608 bytes\n",
    );
    host.file("sys/devices/system/cpu/isolated", "\n");
    let wrong = Nic {
        mtu_bytes: 9_000,
        is_running: false,
        rx_queues: 1,
        rx_queues_max: 8,
        driver: Some("virtio_net".into()),
        ..nic()
    };
    let (text, code) = examine(&host, Some(CONFIG), &facts(wrong));
    for expected in [
        "Linux 5.4.0-generic is older than 5.11",
        "no AF_XDP sockets",
        "loads no BPF programs",
        "missing capability CAP_NET_RAW",
        "missing capability CAP_SYS_RESOURCE",
        "eth1 has 1 receive queues, the plan needs 2",
        "eth1 has an MTU of 9000 bytes",
        "eth1 has no carrier",
        "virtio_net spreads over 6 receive queues and 2 are served",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(code, 2);
    let first_slower = text.find("Slower ").unwrap();
    assert!(!text[first_slower..].contains("Blocks "), "{text}");
}

#[test]
fn a_virtio_device_that_cannot_serve_is_explained_before_the_start() {
    let host = healthy("virtio");
    // Features by their number: offloads of the host, ctrl_guest_offloads (2), mrg_rxbuf (15), virtio 1.0 (32).
    let device = |on: &[usize]| {
        let digit = |number| if on.contains(&number) { '1' } else { '0' };
        let features: String = (0..64).map(digit).collect();
        Nic {
            driver: Some("virtio_net".into()),
            rx_queues_max: 2,
            virtio: Virtio::read(&features),
            ..nic()
        }
    };
    for (on, word, expected) in [
        (
            &[1, 7, 8, 15, 32][..],
            "Blocks interface",
            "ctrl_guest_offloads=on",
        ),
        (
            &[1, 2, 7, 32],
            "Blocks plan",
            "mrg_rxbuf=on or all of guest_tso4=off",
        ),
        (&[1, 2, 15], "Blocks interface", "any_layout=on"),
        (&[2, 15], "Slower interface", "any_layout=on"),
    ] {
        let (text, _) = examine(&host, Some(CONFIG), &facts(device(on)));
        let line = text.lines().find(|line| line.contains(expected));
        assert!(
            line.is_some_and(|line| line.starts_with(word)),
            "{expected}: {text}"
        );
        assert_eq!(
            text.matches("virtio_net").count(),
            2,
            "said once, and the copy: {text}"
        );
    }
    let fine = facts(device(&[1, 2, 7, 8, 15, 32]));
    let (text, code) = examine(&host, Some(CONFIG), &fine);
    assert_eq!(
        (text.lines().count(), code),
        (1, 1),
        "one copy per frame: {text}"
    );
}

#[test]
fn an_interface_that_is_missing_is_said_once() {
    let host = healthy("missing");
    host.nics.borrow_mut().clear();
    let mut without = facts(nic());
    without.nics.insert(
        "eth1".into(),
        Err("interface eth1 does not exist; present: lo".into()),
    );
    let (text, code) = examine(&host, Some(CONFIG), &without);
    assert_eq!(text.matches("eth1").count(), 1, "{text}");
    assert_eq!(code, 2);
}

#[test]
fn kernel_sockets_are_asked_about_files_and_cores_only() {
    let host = healthy("sockets");
    host.file("proc/net/protocols", "protocol  size\nTCP 2304 1\n");
    host.file(
        "proc/self/status",
        "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n",
    );
    let config = r#"
        [[port]]
        driver = "kernel"
        queues = { 0 = 2 }
        [[pool]]
        name = "a"
        protocol = "redis"
        listen = "127.0.0.1:1"
        servers = ["127.0.0.1:2"]
    "#;
    let here = Facts {
        cores: vec![0, 1, 2, 3],
        ..Facts::default()
    };
    assert_eq!(examine(&host, Some(config), &here), (String::new(), 0));
    host.file("proc/self/limits", "Max open files 256 1024 files\n");
    let (text, code) = examine(&host, Some(config), &here);
    assert!(text.contains("may open 1024 files"), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn without_a_configuration_a_kernel_without_af_xdp_is_no_obstacle_yet() {
    let host = healthy("none");
    host.file("proc/net/protocols", "protocol  size\nTCP 2304 1\n");
    let (text, code) = examine(&host, None, &Facts::default());
    assert!(text.contains("no driver = \"afxdp\""), "{text}");
    assert_eq!(code, 1);
}

const ON_DPDK: &str = r#"
    [[port]]
    driver = "dpdk"
    interface = "0000:3b:00.0"
    addresses = ["10.0.0.10/16"]
    queues = { 0 = 2, 1 = 3 }
    [[pool]]
    name = "sessions"
    listen = "10.0.0.10:11211"
    protocol = "memcached"
    servers = ["10.0.1.11:11211:1"]
    [worker]
    idle = "spin"
"#;

#[test]
fn what_keeps_dpdk_from_a_card_is_named() {
    let host = healthy("dpdk");
    fake_pci::card(&host, "i40e");
    let (text, code) = examine(&host, Some(ON_DPDK), &facts(nic()));
    for expected in [
        "Blocks cards: 0000:3b:00.0 is with i40e (eth2): DPDK needs it on vfio-pci | tidegate configure init cards",
        "Blocks memory: this kernel has no huge pages",
        "Blocks cards: the drivers of DPDK 22.11 are not installed",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(code, 2);
    let installed = "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_none.so.23.0";
    host.file(installed, "");
    for (node, cores) in [(0, "0-1"), (1, "2-3")] {
        host.file(
            &format!("sys/devices/system/node/node{node}/cpulist"),
            cores,
        );
    }
    let (text, _) = examine(&host, Some(ON_DPDK), &facts(nic()));
    for expected in [
        "Blocks cards: 0000:3b:00.0 (8086:1572): no driver of DPDK in /usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0",
        "Blocks cards: 0000:3b:00.0 is next to memory node 0, and none of the cores 2-3 of workers is",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn of_an_interface_under_dpdk_nothing_is_said_of_xdp_in_its_driver() {
    let host = healthy("dpdk-interface");
    let over = |pmd: &str| {
        let interface = format!("interface = \"eth1\"\n    pmd = \"{pmd}\"");
        ON_DPDK.replace("interface = \"0000:3b:00.0\"", &interface)
    };
    let mut plain = nic();
    plain.driver = Some("veth".into());
    plain.mtu_bytes = 9_000;
    for (pmd, device) in [("af_packet", "net_af_packet"), ("af_xdp", "net_af_xdp")] {
        let (text, _) = examine(&host, Some(&over(pmd)), &facts(plain.clone()));
        let expected = format!(
            "eth1 stays with the kernel, and DPDK reaches it through {device}: good for tests"
        );
        assert!(text.contains(&expected), "{text}");
        for words in ["AF_XDP takes", "zero copy", "native", "steering"] {
            assert!(!text.contains(words), "{words:?} is in\n{text}");
        }
    }
    plain.is_running = false;
    let (text, code) = examine(&host, Some(&over("af_packet")), &facts(plain));
    assert!(text.contains("eth1 has no carrier"), "{text}");
    assert_eq!(code, 2);
}

#[test]
fn a_worker_that_spins_never_sleeps() {
    let host = healthy("spins");
    host.file("sys/devices/system/cpu/cpu3/cpuidle/state2/disable", "0\n");
    let spinning = format!("{CONFIG}\n[worker]\nidle = \"spin\"\n");
    assert_eq!(examine(&host, Some(&spinning), &facts(nic())).1, 0);
    assert_eq!(examine(&host, Some(CONFIG), &facts(nic())).1, 1);
}

#[test]
fn a_verdict_has_a_word() {
    let mut findings = Findings::default();
    assert_eq!(verdict(&findings.0), "fine");
    findings.slower("a", "b", "");
    assert_eq!(verdict(&findings.0), "slower");
    findings.blocks("a", "b", "");
    assert_eq!(verdict(&findings.0), "blocked");
    assert_eq!(findings.0[1].severity, Severity::Blocks);
}
