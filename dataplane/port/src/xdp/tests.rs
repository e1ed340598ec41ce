//! The steering program, run by the kernel over named frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::MutexGuard;

use super::fixtures::*;
use super::program::{XDP_DROP, XDP_PASS, XDP_REDIRECT, assemble};
use super::*;
use crate::bpf::Program;
use crate::test_support::privileged;

const VIP4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
const SOURCE4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

fn v4(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

fn v6(address: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(address, port, 0, 0)
}

/// An AF_XDP socket that is bound to nothing: the map takes it, and the program's verdict shows.
fn socket() -> OwnedFd {
    // SAFETY: takes integers and returns a new descriptor or -1.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "AF_XDP socket");
    // SAFETY: the descriptor is new and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

struct Bench {
    maps: SteeringMaps,
    program: Program,
    socket: OwnedFd,
    _exclusive: MutexGuard<'static, ()>,
}

/// Two pools on each IP version, source ports 20,000 to 20,100. `None` without privileges.
fn bench() -> Option<Bench> {
    let exclusive = crate::test_support::exclusive();
    let maps = privileged(SteeringMaps::create(4))?;
    let program = privileged(load(&maps))?;
    for port in [11_211, 6_379] {
        maps.add_listener(v4(VIP4, port).into()).unwrap();
        maps.add_listener(v6(VIP6, port).into()).unwrap();
    }
    maps.add_source(SOURCE4.into()).unwrap();
    maps.add_source(SOURCE6.into()).unwrap();
    maps.own_ports(20_000..=20_100).unwrap();
    let socket = socket();
    maps.insert_socket(0, socket.as_fd()).unwrap();
    Some(Bench {
        maps,
        program,
        socket,
        _exclusive: exclusive,
    })
}

impl Bench {
    /// Runs the frame, and checks action, counter, and that the frame was left alone.
    fn expect(&self, name: &str, frame: &[u8], verdict: Verdict) {
        let before = self.maps.verdicts().unwrap();
        let run = self.program.test_run(frame).unwrap();
        let action = match verdict {
            Verdict::Redirected => XDP_REDIRECT,
            Verdict::DroppedNoSocket => XDP_DROP,
            _ => XDP_PASS,
        };
        let after = self.maps.verdicts().unwrap();
        let counted: Vec<Verdict> = Verdict::ALL
            .into_iter()
            .filter(|verdict| after.get(*verdict) != before.get(*verdict))
            .collect();
        assert_eq!(
            (run.action as i32, counted),
            (action, vec![verdict]),
            "{name}"
        );
        assert_eq!(after.total(), before.total() + 1, "{name}: counted once");
        assert_eq!(run.packet, frame, "{name}: the frame is left alone");
    }
}

/// Kernels before 6.8 refuse it to processes without CAP_PERFMON, and the one that runs the tests may be newer.
#[test]
fn nothing_is_stored_in_eight_bytes_of_the_stack_that_a_word_has_begun() {
    const STORE_U32: u8 = 0x63;
    const FRAME_POINTER: u8 = 10;
    let _exclusive = crate::test_support::exclusive();
    let Some(maps) = privileged(SteeringMaps::create(4)) else {
        return;
    };
    let mut begun = Vec::new();
    for instruction in assemble(&maps) {
        let [opcode, registers, low, high, ..] = instruction.to_le_bytes();
        if (opcode, registers & 0xf) != (STORE_U32, FRAME_POINTER) {
            continue;
        }
        let offset = i16::from_le_bytes([low, high]);
        assert!(!begun.contains(&(offset & !7)), "word at {offset}");
        if offset % 8 == 0 {
            begun.push(offset);
        }
    }
    assert_eq!(begun.len(), 4, "keys of both IP versions");
}

#[test]
fn our_own_tcp_goes_to_the_socket() {
    let Some(bench) = bench() else { return };
    for (name, frame) in [
        ("IPv4, first pool", tcp4(v4(VIP4, 11_211))),
        ("IPv4, second pool", tcp4(v4(VIP4, 6_379))),
        ("IPv6, first pool", tcp6(v6(VIP6, 11_211))),
        ("IPv6, second pool", tcp6(v6(VIP6, 6_379))),
        ("IPv4 reply, first port", tcp4(v4(SOURCE4, 20_000))),
        ("IPv4 reply, last port", tcp4(v4(SOURCE4, 20_100))),
        ("IPv6 reply", tcp6(v6(SOURCE6, 20_050))),
        (
            "IPv4, may be fragmented but is not",
            odd4(0x45, 0, TCP, v4(VIP4, 11_211)),
        ),
    ] {
        bench.expect(name, &frame, Verdict::Redirected);
    }
}

#[test]
fn tcp_that_is_not_ours_stays_with_the_kernel() {
    let Some(bench) = bench() else { return };
    for (name, frame) in [
        ("ssh to our own address", tcp4(v4(VIP4, 22))),
        ("our port on another address", tcp4(v4(OTHER4, 11_211))),
        ("IPv6 ssh", tcp6(v6(VIP6, 22))),
        (
            "IPv6, our port on another address",
            tcp6(v6(OTHER6, 11_211)),
        ),
        (
            "one of our source ports on another address",
            tcp4(v4(OTHER4, 20_050)),
        ),
        ("port below our source ports", tcp4(v4(SOURCE4, 19_999))),
        ("port above our source ports", tcp4(v4(SOURCE4, 20_101))),
        (
            "IPv6 port above our source ports",
            tcp6(v6(SOURCE6, 20_101)),
        ),
        ("BGP to our source address", tcp4(v4(SOURCE4, 179))),
        ("a listener is not a source address", tcp4(v4(VIP4, 20_050))),
        ("port 0", tcp4(v4(SOURCE4, 0))),
        ("port 65,535", tcp4(v4(SOURCE4, 65_535))),
    ] {
        bench.expect(name, &frame, Verdict::PassedNotOurs);
    }
}

#[test]
fn what_is_no_tcp_stays_with_the_kernel() {
    let Some(bench) = bench() else { return };
    for (name, frame) in [
        ("ARP for our address", arp(VIP4)),
        ("ping", ping4(VIP4)),
        ("IPv6 ping", icmp6(128, VIP6)),
        ("neighbour solicitation", icmp6(135, VIP6)),
        ("neighbour advertisement", icmp6(136, VIP6)),
        ("UDP to our port", odd4(0x45, 0, UDP, v4(VIP4, 11_211))),
        (
            "VRRP",
            odd4(0x45, 0, 112, v4(Ipv4Addr::new(224, 0, 0, 18), 0)),
        ),
        (
            "IPv6 UDP to our port",
            ethernet(0x86dd, &ipv6_packet(UDP, VIP6, &segment(1, 11_211))),
        ),
        (
            "IPv6, no next header",
            ethernet(0x86dd, &ipv6_packet(59, VIP6, &[])),
        ),
        ("LLDP", ethernet(0x88cc, &[0; 46])),
        ("802.3 length field", ethernet(46, &[0; 46])),
    ] {
        bench.expect(name, &frame, Verdict::PassedOther);
    }
}

#[test]
fn fragments_stay_with_the_kernel() {
    let Some(bench) = bench() else { return };
    for (name, frame) in [
        ("first fragment", odd4(0x45, 0x2000, TCP, v4(VIP4, 11_211))),
        ("middle fragment", odd4(0x45, 0x2010, TCP, v4(VIP4, 11_211))),
        ("last fragment", odd4(0x45, 0x0010, TCP, v4(VIP4, 11_211))),
        ("smallest offset", odd4(0x45, 0x0001, TCP, v4(VIP4, 11_211))),
        ("largest offset", odd4(0x45, 0x1fff, TCP, v4(VIP4, 11_211))),
        ("IPv6 fragment", extended6(44, v6(VIP6, 11_211))),
    ] {
        bench.expect(name, &frame, Verdict::PassedFragment);
    }
}

#[test]
fn options_and_extension_headers_stay_with_the_kernel() {
    let Some(bench) = bench() else { return };
    for (name, frame) in [
        (
            "IPv4 with one word of options",
            odd4(0x46, 0x4000, TCP, v4(VIP4, 11_211)),
        ),
        (
            "IPv4 with most options",
            odd4(0x4f, 0x4000, TCP, v4(VIP4, 11_211)),
        ),
        (
            "IPv4 with a header too short",
            odd4(0x44, 0x4000, TCP, v4(VIP4, 11_211)),
        ),
        (
            "IPv4 that says version 6",
            odd4(0x65, 0x4000, TCP, v4(VIP4, 11_211)),
        ),
        ("hop-by-hop options", extended6(0, v6(VIP6, 11_211))),
        ("routing", extended6(43, v6(VIP6, 11_211))),
        ("destination options", extended6(60, v6(VIP6, 11_211))),
        ("authentication header", extended6(51, v6(VIP6, 11_211))),
    ] {
        bench.expect(name, &frame, Verdict::PassedOptions);
    }
}

#[test]
fn tagged_frames_stay_with_the_kernel() {
    let Some(bench) = bench() else { return };
    let (ours4, ours6) = (tcp4(v4(VIP4, 11_211)), tcp6(v6(VIP6, 11_211)));
    for (name, frame) in [
        ("VLAN, IPv4", tagged(0x8100, &ours4)),
        ("VLAN, IPv6", tagged(0x8100, &ours6)),
        ("QinQ", tagged(0x88a8, &tagged(0x8100, &ours4))),
    ] {
        bench.expect(name, &frame, Verdict::PassedVlan);
    }
}

#[test]
fn frames_cut_short_anywhere_stay_with_the_kernel() {
    let Some(bench) = bench() else { return };
    // The kernel runs no test on less than an Ethernet header.
    for frame in [tcp4(v4(VIP4, 11_211)), tcp6(v6(VIP6, 11_211))] {
        for bytes in ETHERNET..frame.len() {
            bench.expect(
                &format!("{bytes} of {}", frame.len()),
                &frame[..bytes],
                Verdict::PassedTruncated,
            );
        }
        bench.expect("whole", &frame, Verdict::Redirected);
    }
}

const ETHERNET: usize = crate::ETHERNET_HEADER_BYTES;

#[test]
fn ours_without_a_worker_is_dropped_so_that_the_kernel_sends_no_reset() {
    let Some(bench) = bench() else { return };
    bench.maps.remove_socket(0).unwrap();
    bench.expect("IPv4", &tcp4(v4(VIP4, 11_211)), Verdict::DroppedNoSocket);
    bench.expect(
        "IPv6 reply",
        &tcp6(v6(SOURCE6, 20_050)),
        Verdict::DroppedNoSocket,
    );
    bench.expect("ssh", &tcp4(v4(VIP4, 22)), Verdict::PassedNotOurs);
}

#[test]
fn a_socket_that_dies_takes_its_entry_along() {
    let Some(mut bench) = bench() else { return };
    bench.socket = socket();
    bench.expect(
        "dead worker",
        &tcp4(v4(VIP4, 11_211)),
        Verdict::DroppedNoSocket,
    );
    bench.maps.insert_socket(0, bench.socket.as_fd()).unwrap();
    bench.expect(
        "its successor",
        &tcp4(v4(VIP4, 11_211)),
        Verdict::Redirected,
    );
}

#[test]
fn listeners_and_sources_can_be_taken_back() {
    let Some(bench) = bench() else { return };
    let mapped: SocketAddr = "[::ffff:10.0.0.10]:11211".parse().unwrap();
    assert!(
        bench.maps.remove_listener(mapped).unwrap(),
        "an IPv4-mapped address is the IPv4 address"
    );
    assert!(bench.maps.remove_source(IpAddr::V6(SOURCE6)).unwrap());
    assert!(!bench.maps.remove_source(IpAddr::V6(SOURCE6)).unwrap());
    bench.expect("listener", &tcp4(v4(VIP4, 11_211)), Verdict::PassedNotOurs);
    bench.expect("source", &tcp6(v6(SOURCE6, 20_050)), Verdict::PassedNotOurs);
    bench.expect(
        "the other listener",
        &tcp4(v4(VIP4, 6_379)),
        Verdict::Redirected,
    );
}

#[test]
fn port_ranges_are_exact_at_both_ends_of_every_word() {
    let Some(bench) = bench() else { return };
    bench.maps.own_ports(0..=0).unwrap();
    bench.maps.own_ports(63..=64).unwrap();
    bench.maps.own_ports(65_535..=65_535).unwrap();
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "an empty range is what is tested"
    )]
    bench.maps.own_ports(9..=8).unwrap();
    for (port, ours) in [
        (0, true),
        (1, false),
        (8, false),
        (62, false),
        (63, true),
        (64, true),
        (65, false),
        (65_534, false),
        (65_535, true),
    ] {
        let verdict = if ours {
            Verdict::Redirected
        } else {
            Verdict::PassedNotOurs
        };
        bench.expect(&format!("port {port}"), &tcp4(v4(SOURCE4, port)), verdict);
    }
}

#[test]
fn queues_beyond_the_map_are_refused() {
    let Some(bench) = bench() else { return };
    assert_eq!(
        bench
            .maps
            .insert_socket(4, bench.socket.as_fd())
            .unwrap_err()
            .errno(),
        Some(libc::E2BIG)
    );
}

#[test]
fn a_missing_interface_is_named() {
    if privileged(SteeringMaps::create(1)).is_none() {
        return;
    }
    let error = XdpSteering::attach(0x7fff_fff0, 1, AttachPolicy::NativeThenGeneric).unwrap_err();
    assert!(matches!(error, XdpError::NoInterface { .. }), "{error}");
}
