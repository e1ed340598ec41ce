use super::*;
use crate::host::fake::FakeHost;
use crate::host::fake_pci::{CARD, card, put};

fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

#[test]
fn an_address_is_written_in_full() {
    assert_eq!(at("0000:3B:00.A").to_string(), "0000:3b:00.a");
    for text in [
        "",
        "3b:00.0",
        "0000:3b:00",
        "0000:3b:00.0 ",
        "0000-3b-00-0",
        "eth2",
        "0000:3g:00.0",
        "../../:00.0",
    ] {
        assert_eq!(Address::parse(text), None, "{text}");
    }
}

#[test]
fn a_card_is_described_with_all_that_hangs_together_with_it() {
    let host = FakeHost::new("pci-card");
    card(&host, "i40e");
    put(&host, "0000:3b:00.1", "i40e", "eth3", 7);
    put(&host, "0000:3a:00.0", "pcieport", "none", 7);
    host.file("sys/devices/pci0000:00/0000:3a:00.0/class", "0x060400\n");
    let found = Card::read(&host, &at(CARD)).unwrap();
    assert_eq!(
        found,
        Card {
            address: at(CARD),
            class: 0x0200,
            id: Some((0x8086, 0x1572)),
            driver: Some("i40e".into()),
            group: Some(Group {
                number: "7".into(),
                is_without_iommu: false,
                driven: vec![(at("0000:3b:00.1"), "i40e".into())],
            }),
            node: Some(0),
            interfaces: vec!["eth2".into()],
            functions: 0,
        }
    );
    assert!(found.is_for_networks() && !found.is_out_of_sight(&host));
    assert_eq!(of_interface(&host, "eth2"), Some(at(CARD)));
    assert_eq!(Card::read(&host, &at("0000:99:00.0")), None);
}

#[test]
fn the_interface_of_a_virtio_card_is_one_level_below() {
    let host = FakeHost::new("pci-virtio");
    card(&host, "virtio-pci");
    assert_eq!(interfaces(&host, &at(CARD)), ["eth2"]);
    assert_eq!(of_interface(&host, "eth2"), Some(at(CARD)));
    assert!(!Card::read(&host, &at(CARD)).unwrap().is_out_of_sight(&host));
}

#[test]
fn an_interface_without_a_card_of_its_own_has_none() {
    let host = FakeHost::new("pci-none");
    crate::host::fake::card(&host, "eth1", 3);
    assert_eq!(of_interface(&host, "eth1"), None);
    for path in [
        "virtual/net/eth1",
        "pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/net/eth1",
    ] {
        let directory = format!("sys/devices/{path}");
        host.file(&format!("{directory}/ifindex"), "3\n");
        let _was_a_directory = std::fs::remove_dir_all(host.path("sys/class/net/eth1"));
        host.symlink("sys/class/net/eth1", &format!("../../devices/{path}"));
        assert_eq!(of_interface(&host, "eth1"), None, "{path}");
    }
}

#[test]
fn an_interface_of_another_namespace_is_out_of_sight() {
    let host = FakeHost::new("pci-elsewhere");
    card(&host, "i40e");
    host.nics.borrow_mut().remove("eth2");
    assert!(Card::read(&host, &at(CARD)).unwrap().is_out_of_sight(&host));
    std::fs::remove_dir_all(host.path(&host.net_directory(CARD))).unwrap();
    assert!(Card::read(&host, &at(CARD)).unwrap().is_out_of_sight(&host));
}
