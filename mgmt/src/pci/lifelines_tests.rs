use super::*;
use crate::host::fake::{FakeHost, card};
use crate::netlink::answer::TableEntry;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(prefix_bits: u8, interfaces: &[u32]) -> TableEntry {
    TableEntry {
        interfaces: interfaces.to_vec(),
        prefix_bits,
        by_kernel: false,
    }
}

fn over(host: &FakeHost, interfaces: &[u32]) -> Vec<String> {
    Lifelines::gather(host).unwrap().over(interfaces)
}

/// A line of `/proc/net/tcp`: from 10.0.0.10 to 10.0.0.99.
fn line(local_port: u16, remote_port: u16, state: u8, inode: u64) -> String {
    let word = |address: [u8; 4]| u32::from_ne_bytes(address);
    format!(
        "   0: {:08X}:{local_port:04X} {:08X}:{remote_port:04X} {state:02X} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n",
        word([10, 0, 0, 10]),
        word([10, 0, 0, 99]),
    )
}

#[test]
fn default_routes_of_every_kind_are_seen() {
    let host = FakeHost::new("lifelines-routes");
    assert!(over(&host, &[3]).is_empty());
    host.network.borrow_mut().routes = vec![route(24, &[3]), route(0, &[4, 5]), route(1, &[6])];
    assert!(over(&host, &[3]).is_empty());
    for index in [4, 5, 6] {
        assert_eq!(over(&host, &[3, index]), ["the default route"]);
    }
}

#[test]
fn an_ssh_connection_is_known_by_its_port_or_by_its_process() {
    let host = FakeHost::new("lifelines-ssh");
    {
        let mut network = host.network.borrow_mut();
        network.addresses = vec![(3, ip("10.0.0.10"))];
        network.towards.insert(ip("10.0.0.99"), 4);
    }
    let tcp = |text: &str| host.file("proc/self/net/tcp", text);
    for (what, text, expected) in [
        ("listening", line(22, 0, LISTEN, 1), false),
        ("established", line(22, 50_000, ESTABLISHED, 1), true),
        ("outgoing", line(50_000, 22, ESTABLISHED, 1), true),
        ("closed", line(22, 50_000, 0x06, 1), false),
        ("something else", line(443, 50_000, ESTABLISHED, 1), false),
    ] {
        tcp(&text);
        for interface in [3, 4] {
            assert_eq!(!over(&host, &[interface]).is_empty(), expected, "{what}");
        }
        assert!(over(&host, &[5]).is_empty(), "{what}");
    }
    // On a port of the operator's choice, by the process that has it or listens there.
    host.file("proc/77/comm", "sshd-session\n");
    host.symlink("proc/77/fd/4", "socket:[900]");
    host.file("proc/78/comm", "nginx\n");
    host.symlink("proc/78/fd/4", "socket:[901]");
    tcp(&line(2_222, 50_000, ESTABLISHED, 900));
    assert_eq!(
        over(&host, &[3]),
        ["an ssh connection with 10.0.0.99:50000"]
    );
    tcp(&line(2_222, 50_000, ESTABLISHED, 901));
    assert!(over(&host, &[3]).is_empty());
    // The connection stands above the listener, and its process cannot be seen.
    tcp(&[
        line(2_222, 50_000, ESTABLISHED, 5),
        line(2_222, 0, LISTEN, 900),
    ]
    .concat());
    assert!(!over(&host, &[3]).is_empty());
}

#[test]
fn a_kernel_that_does_not_say_is_no_answer() {
    let host = FakeHost::new("lifelines-mute");
    host.network.borrow_mut().mute = true;
    assert!(Lifelines::gather(&host).is_err());
}

#[test]
fn what_is_made_of_an_interface_is_found_to_the_top() {
    let host = FakeHost::new("lifelines-above");
    for (index, name) in ["eth1", "bond0", "bond0.7", "br0"].iter().enumerate() {
        card(&host, name, index as u32 + 3);
    }
    for (lower, upper) in [
        ("eth1", "bond0"),
        ("bond0", "bond0.7"),
        ("bond0.7", "br0"),
        ("br0", "bond0"),
    ] {
        host.symlink(
            &format!("sys/class/net/{lower}/upper_{upper}"),
            &format!("../{upper}"),
        );
    }
    assert_eq!(above(&host, "eth1"), ["bond0", "bond0.7", "br0"]);
    assert!(above(&host, "eth9").is_empty());
}
