//! `driver = "dpdk"`: what the file has to say in place of the kernel.

use super::{assert_one, faults, parse};
use crate::{Config, Driver, Effect, Pmd, QueueMap, Way, is_pci_address};
use std::net::IpAddr;

const CARD: &str = r#"
[[port]]
driver = "dpdk"
interface = "0000:3b:00.1"
addresses = ["192.0.2.10/24", "2001:db8::10/64"]
routes = ["default via 192.0.2.1", "10.1.0.0/16 via 192.0.2.2"]
queues = { 0 = 2, 1 = 3 }

[[port]]
driver = "dpdk"
interface = "eth2"
pmd = "af_packet"
addresses = ["198.51.100.10/24"]
queues = { 0 = 2, 1 = 3 }

[[pool]]
name = "sessions"
listen = ["192.0.2.10:11211", "[2001:db8::10]:11211"]
protocol = "memcached"
servers = ["198.51.100.7:11211:1", "203.0.113.9:11211:1"]
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The one fault with `old` replaced by `new`.
#[track_caller]
fn one(old: &str, new: &str, parts: &[&str]) {
    assert!(CARD.contains(old));
    assert_one(&faults(&CARD.replace(old, new)), parts);
}

#[test]
fn a_card_and_an_interface_become_ports() {
    let config = parse(CARD);
    assert!(config.is_on_dpdk() && config.kernel_port().is_none());
    let [card, virtual_device] = &config.ports[..] else {
        panic!("two ports");
    };
    assert_eq!((card.driver, card.ring_size), (Driver::Dpdk, 2_048));
    assert_eq!(card.dpdk.as_ref().map(|dpdk| dpdk.pmd), Some(Pmd::Pci));
    let pmd = virtual_device.dpdk.as_ref().map(|dpdk| dpdk.pmd);
    assert_eq!(pmd, Some(Pmd::AfPacket));
    assert_eq!(config.warnings(), Vec::<String>::new());
    let again = parse(&config.effective_toml());
    assert_eq!(again, config, "what is written out means the same");
}

#[test]
fn the_longest_prefix_is_the_way() {
    let config = parse(CARD);
    let way = |to: &str| {
        let Way {
            port,
            source,
            next_hop,
        } = config.way(ip(to))?;
        Some((port, source.to_string(), next_hop.to_string()))
    };
    let expected = |port: usize, source: &str, next_hop: &str| {
        Some((port, source.to_owned(), next_hop.to_owned()))
    };
    assert_eq!(way("192.0.2.77"), expected(0, "192.0.2.10", "192.0.2.77"));
    assert_eq!(
        way("198.51.100.7"),
        expected(1, "198.51.100.10", "198.51.100.7")
    );
    assert_eq!(way("10.1.2.3"), expected(0, "192.0.2.10", "192.0.2.2"));
    assert_eq!(way("10.2.2.3"), expected(0, "192.0.2.10", "192.0.2.1"));
    assert_eq!(
        way("2001:db8::99"),
        expected(0, "2001:db8::10", "2001:db8::99")
    );
    assert_eq!(way("2001:db9::99"), None);
}

#[test]
fn a_source_address_that_is_written_comes_first() {
    let config = parse(&format!(
        "{CARD}\n[worker]\nsource_address = \"198.51.100.10\"\n"
    ));
    let way = config.way(ip("10.2.2.3")).expect("a way");
    assert_eq!(way.source, ip("198.51.100.10"));
    assert_one(
        &faults(&format!(
            "{CARD}\n[worker]\nsource_address = \"198.51.100.11\"\n"
        )),
        &[
            "23:18",
            "source_address 198.51.100.11 is an address of no port",
        ],
    );
}

#[test]
fn each_mistake_is_named() {
    one(
        "interface = \"eth2\"\npmd = \"af_packet\"",
        "interface = \"eth2\"",
        &[
            "11:13",
            "port \"eth2\"",
            "\"0000:3b:00.1\" (lspci -D shows them)",
            "pmd = \"af_packet\"",
        ],
    );
    one(
        "interface = \"0000:3b:00.1\"",
        "interface = \"0000:3b:00.1\"\npmd = \"af_xdp\"",
        &["pmd has no meaning for a card"],
    );
    one("pmd = \"af_packet\"", "pmd = \"af_paket\"", &["af_packet"]);
    one(
        "pmd = \"af_packet\"",
        "pmd = \"af_packet\"\nwithout_iommu = true",
        &["without_iommu needs a card"],
    );
    one(
        "\"192.0.2.10/24\"",
        "\"192.0.2.10/33\"",
        &["\"33\" is not a number of bits from 0 to 32"],
    );
    one(
        "\"198.51.100.10/24\"",
        "\"198.51.100.10\"",
        &["write ADDRESS/BITS"],
    );
    one(
        "\"default via 192.0.2.1\"",
        "\"default 192.0.2.1\"",
        &["write \"default via GATEWAY\""],
    );
    one(
        "\"10.1.0.0/16 via 192.0.2.2\"",
        "\"10.1.0.1/16 via 192.0.2.2\"",
        &["10.1.0.1/16 is not the network's own address, write 10.1.0.0/16"],
    );
    one(
        "\"10.1.0.0/16 via 192.0.2.2\"",
        "\"10.1.0.0/16 via 2001:db8::1\"",
        &["different families"],
    );
    one(
        "\"10.1.0.0/16 via 192.0.2.2\"",
        "\"10.1.0.0/16 via 198.51.100.9\"",
        &["gateway 198.51.100.9", "no network of this port's"],
    );
    one(
        "\"10.1.0.0/16 via 192.0.2.2\"",
        "\"10.1.0.0/16 via 192.0.2.10\"",
        &["an address of ours"],
    );
    one(
        "\"198.51.100.10/24\"",
        "\"198.51.100.10/24\", \"192.0.2.10/32\"",
        &["192.0.2.10 stands in line 5 already"],
    );
    one(
        "listen = [\"192.0.2.10:11211\"",
        "listen = [\"192.0.2.11:11211\"",
        &[
            "192.0.2.11:11211 is an address of no port",
            "\"192.0.2.11/24\"",
        ],
    );
    one(
        "198.51.100.7:11211:1",
        "198.51.100.10:11212:1",
        &["an address of ours"],
    );
    one(
        "203.0.113.9:11211:1",
        "[2001:db9::9]:11211:1",
        &["no route leads there"],
    );
    one(
        "addresses = [\"198.51.100.10/24\"]\n",
        "",
        &["addresses are missing"],
    );
    one(
        "pmd = \"af_packet\"",
        "pmd = \"af_packet\"\nrequire_zero_copy = true",
        &["require_zero_copy needs driver = \"afxdp\""],
    );
    one(
        "pmd = \"af_packet\"",
        "pmd = \"af_packet\"\nring_size = 16384",
        &["8192"],
    );
    one(
        "driver = \"dpdk\"\ninterface = \"eth2\"\npmd = \"af_packet\"\naddresses = [\"198.51.100.10/24\"]",
        "interface = \"eth2\"",
        &["all ports are DPDK's"],
    );
}

#[test]
fn an_address_that_cannot_serve_is_refused() {
    one(
        "\"198.51.100.10/24\"",
        "\"198.51.100.10/24\", \"198.51.101.255/24\"",
        &[
            "13:34",
            "addresses: \"198.51.101.255/24\"",
            "is the broadcast address of its network",
            "for example 198.51.101.1/24",
        ],
    );
    one(
        "\"198.51.100.10/24\"",
        "\"198.51.100.10/24\", \"127.0.0.2/8\"",
        &["127.0.0.2 is a loopback address", "driver = \"kernel\""],
    );
    one(
        "\"198.51.100.10/24\"",
        "\"198.51.100.10/24\", \"fe80::10/64\"",
        &["fe80::10 is a link-local address"],
    );
    one(
        "\"192.0.2.10:11211\"",
        "\"192.0.2.10:11211\", \"127.0.0.1:11211\"",
        &["listen \"127.0.0.1:11211\": 127.0.0.1 is a loopback address"],
    );
    one(
        "\"198.51.100.7:11211:1\"",
        "\"198.51.100.255:11211:1\"",
        &["server 198.51.100.255:11211 cannot be: it is the broadcast address of its network"],
    );
    one(
        "default via 192.0.2.1\"",
        "default via 192.0.2.0\"",
        &["gateway 192.0.2.0 cannot be: it is the address of a network itself"],
    );
}

#[test]
fn a_network_has_one_gateway() {
    one(
        "\"10.1.0.0/16 via 192.0.2.2\"",
        "\"0.0.0.0/0 via 192.0.2.2\"",
        &[
            "6:36",
            "the default gateway of IPv4 stands in line 6 already",
            "name the networks behind it",
        ],
    );
    one(
        "\"198.51.100.10/24\"]",
        "\"198.51.100.10/24\"]\nroutes = \"default via 198.51.100.1\"",
        &["14:10", "default gateway of IPv4 stands in line 6 already"],
    );
    one(
        "\"198.51.100.10/24\"]",
        "\"198.51.100.10/24\"]\nroutes = \"10.1.0.0/16 via 198.51.100.1\"",
        &["the gateway of 10.1.0.0/16 stands in line 6 already"],
    );
    let both = CARD.replace("10.1.0.0/16 via 192.0.2.2", "default via 2001:db8::1");
    assert_eq!(faults(&both), Vec::<String>::new(), "one of each family");
}

#[test]
fn other_drivers_have_neither_addresses_nor_routes() {
    let text = CARD
        .replace("driver = \"dpdk\"", "driver = \"afxdp\"")
        .replacen("addresses", "without_iommu = true\naddresses", 1);
    let found = faults(&text);
    for key in ["pmd", "without_iommu", "addresses", "routes"] {
        let wanted = format!("{key} needs driver = \"dpdk\"");
        assert!(
            found.iter().any(|fault| fault.contains(&wanted)),
            "{found:#?}"
        );
    }
}

#[test]
fn a_card_may_do_without_an_iommu_only_where_that_is_said() {
    let may = |text: &str| {
        let config = parse(text);
        let options = config.ports[0].dpdk.as_ref().expect("a port on DPDK");
        assert_eq!(
            parse(&config.effective_toml()).ports[0].dpdk.as_ref(),
            Some(options)
        );
        options.without_iommu
    };
    assert!(!may(CARD));
    let said = CARD.replacen("addresses", "without_iommu = true\naddresses", 1);
    assert!(may(&said));
    let differences = parse(CARD).differences(&parse(&said));
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].effect, Effect::Restart);
}

#[test]
fn a_pci_address_is_written_in_full() {
    assert!(is_pci_address("0000:3b:00.1") && is_pci_address("ABCD:ef:1f.7"));
    for other in ["3b:00.1", "0000:3b:00", "0000:3b:00.x", "0000:3b:00.11", ""] {
        assert!(!is_pci_address(other), "{other}");
    }
    let map: QueueMap = "0000:3b:00.1:0=2,1=3".parse().expect("a map");
    assert_eq!(map.interface, "0000:3b:00.1");
}

#[test]
fn threads_stay_on_their_cores_and_routes_change_in_place() {
    let effects = |new: &str| -> Vec<Effect> {
        let differences = parse(CARD).differences(&parse(new));
        differences
            .into_iter()
            .map(|difference| difference.effect)
            .collect()
    };
    let moved = CARD.replace("{ 0 = 2, 1 = 3 }", "{ 0 = 2, 1 = 4 }");
    assert_eq!(effects(&moved), [Effect::Restart, Effect::Restart]);
    let routed = CARD.replace("10.1.0.0/16", "10.3.0.0/16");
    assert_eq!(effects(&routed), [Effect::InPlace]);
    let added = CARD.replace(
        "\"198.51.100.10/24\"",
        "\"198.51.100.10/24\", \"198.51.100.11/24\"",
    );
    assert_eq!(effects(&added), [Effect::Restart]);
    let as_json = serde_json::to_string(&parse(CARD)).expect("JSON");
    let again: Config = serde_json::from_str(&as_json).expect("the same");
    assert_eq!(again, parse(CARD));
}
