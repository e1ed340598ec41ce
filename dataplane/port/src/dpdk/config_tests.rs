use super::*;
use crate::dpdk::checks;

fn config(kinds: Vec<DeviceKind>, memory: Memory) -> DpdkConfig {
    let device = |kind| DeviceConfig {
        kind,
        ring_size: 1_024,
        without_iommu: false,
    };
    DpdkConfig {
        name: "shop".to_owned(),
        cores: vec![2, 3],
        memory,
        devices: kinds.into_iter().map(device).collect(),
        link_deadline: Duration::from_secs(10),
    }
}

#[test]
fn a_pci_address_is_written_in_full() {
    let address: PciAddress = "0000:3B:00.1".parse().unwrap();
    assert_eq!(address.to_string(), "0000:3b:00.1");
    for text in [
        "",
        "3b:00.1",
        "0000:3b:00",
        "0000:3g:00.1",
        "0000:3b:00.1 ",
        "0000:3b:00,1",
    ] {
        let error = text.parse::<PciAddress>().unwrap_err();
        assert!(error.to_string().contains("lspci -D"), "{error}");
    }
}

#[test]
fn devices_become_arguments() {
    let kinds = vec![
        DeviceKind::AfPacket {
            interface: "eth1".to_owned(),
        },
        DeviceKind::AfXdp {
            interface: "eth2".to_owned(),
            start_queue: 4,
        },
        DeviceKind::Null { receives: false },
        DeviceKind::Loop,
        DeviceKind::Pci("0000:3b:00.1".parse().unwrap()),
    ];
    let config = config(kinds, Memory::HugePages);
    let told = config.for_capsule(&[64, 128]).unwrap();
    let ports: Vec<(&str, Option<&str>)> = told
        .ports
        .iter()
        .map(|port| (&*port.device, port.args.as_deref()))
        .collect();
    let packet = "iface=eth1,qpairs=2,blocksz=4096,framesz=2048,framecnt=1024";
    assert_eq!(
        ports,
        [
            ("net_af_packet0", Some(packet)),
            (
                "net_af_xdp1_0",
                Some("iface=eth2,start_queue=4,queue_count=1")
            ),
            (
                "net_af_xdp1_1",
                Some("iface=eth2,start_queue=5,queue_count=1")
            ),
            ("net_null2", Some("no-rx=1")),
            ("net_ring3", None),
            ("0000:3b:00.1", None),
        ]
    );
    assert!(!told.secondary, "never beside another process on one pool");
    let arguments = told.dpdk_args.unwrap();
    assert!(
        arguments.contains("--socket-mem 64,128 --in-memory"),
        "{arguments}"
    );
    assert!(
        !arguments.contains("--no-huge") && !arguments.contains("--iova-mode"),
        "{arguments}"
    );
}

#[test]
fn memory_is_reckoned_before_it_is_asked_for() {
    let null = || vec![DeviceKind::Null { receives: true }];
    let config = config(null(), Memory::Ordinary);
    let by_node = config.megabytes_by_node(&[0, 0], &[-1]);
    assert_eq!(by_node, [config.megabytes(1)]);
    let told = config.for_capsule(&by_node).unwrap();
    let arguments = told.dpdk_args.unwrap();
    assert!(
        arguments.contains("--no-huge") && arguments.contains("--iova-mode=va"),
        "{arguments}"
    );
    let megabytes = config.megabytes(1);
    assert!(
        arguments.contains(&format!("-m {megabytes}")),
        "{arguments}"
    );
    let mbufs = told.mempool.capacity + 2 * transmit_mbufs(1_024);
    assert!(
        megabytes * 1_024 * 1_024 > mbufs * 2_432,
        "an mbuf has 2,432 bytes and a header"
    );
    assert!(config.megabytes(2) > megabytes);
}

#[test]
fn memory_is_on_the_nodes_of_cores_and_devices() {
    let card = |function| DeviceKind::Pci(format!("0000:3b:00.{function}").parse().unwrap());
    let two = config(vec![card(0), card(1)], Memory::HugePages);
    let sum = |by_node: &[usize]| by_node.iter().sum::<usize>();
    // The lowest core is on node 1, and nothing is on node 0.
    let by_node = two.megabytes_by_node(&[1, 1], &[1, 1]);
    assert_eq!(by_node, [0, two.megabytes(1)]);
    // A card without a node is counted to the lowest core.
    assert_eq!(two.megabytes_by_node(&[1, 1], &[-1, 1]), by_node);
    // One core and one card on each of two nodes.
    let by_node = two.megabytes_by_node(&[0, 1], &[0, 1]);
    assert_eq!(by_node.len(), 2);
    assert_eq!(sum(&by_node), two.megabytes(2));
    let of_node = dpdk_memory::pool_megabytes(two.receive_mbufs() + 2 * transmit_mbufs(1_024));
    assert_eq!(by_node[1], of_node);
    assert!(by_node[0] > of_node, "DPDK itself is there");
}

#[test]
fn what_cannot_work_is_refused_before_dpdk_starts() {
    let refused = |change: fn(&mut DpdkConfig)| {
        let mut config = config(vec![DeviceKind::Loop], Memory::Ordinary);
        config.cores = checks::allowed_cores()[..1].to_vec();
        change(&mut config);
        checks::look(&config).err().unwrap().to_string()
    };
    let expect = |text: String, part: &str| assert!(text.contains(part), "{text}");
    expect(
        refused(|config| config.name = "a b".to_owned()),
        "cannot name",
    );
    expect(
        refused(|config| config.devices.clear()),
        "at least one device",
    );
    expect(refused(|config| config.cores.clear()), "one core");
    expect(
        refused(|config| config.devices[0].ring_size = 100),
        "power of two",
    );
    expect(
        refused(|config| config.cores.push(config.cores[0])),
        "named twice",
    );
    expect(
        refused(|config| config.cores[0] = 126),
        "cannot run on core 126",
    );
    expect(
        refused(|config| {
            let interface = "a,b".to_owned();
            config.devices[0].kind = DeviceKind::AfPacket { interface };
        }),
        "rename it",
    );
    expect(
        refused(|config| {
            let nowhere = "ffff:ff:1f.7".parse().unwrap();
            config.devices[0].kind = DeviceKind::Pci(nowhere);
        }),
        "there is no PCI device ffff:ff:1f.7",
    );
}
