//! Checksums that the device computes, or has checked.

mod common;

use common::{
    ACK, CLIENT, Handed, MACS, MemoryPort, Options, RST, SERVER, START_US, SYN, Tcp, address,
    check_sum, config, listening,
};
use tidegate_port::{ETHERNET_HEADER_BYTES, Port};
use tidegate_stack::{Arrival, QueueOracle, Stack};

const VERIFIED: Arrival = Arrival {
    port: 0,
    is_verified: true,
    is_handed_over: false,
};

struct Host {
    stack: Stack,
    ports: [MemoryPort; 1],
    handed: Handed,
}

impl Host {
    fn new(options: &Options) -> Self {
        let mut ports = [MemoryPort::new(MACS[SERVER], 64)];
        ports[0].tx.completes = true;
        Self {
            stack: Stack::new(config(options, SERVER), START_US)
                .expect("the configuration is right"),
            ports,
            handed: Handed::default(),
        }
    }

    fn take(&mut self, frame: &[u8], arrival: Arrival) {
        self.stack.tick(START_US + 10);
        let (_, tx) = self.ports[0].halves();
        self.stack.ingress(frame, arrival, tx, &mut self.handed);
        self.stack.egress(&mut self.ports);
        check_sum(&self.stack);
    }
}

fn from_client(ipv6: bool, flags: u8) -> Tcp {
    Tcp {
        sequence: 5,
        acknowledgement: if flags & ACK == 0 { 0 } else { 77 },
        ..Tcp::new(address(ipv6, CLIENT, 1_234), listening(ipv6), flags)
    }
}

/// The same frame with a checksum that was begun and not completed.
fn with_wrong_sum(ipv6: bool, segment: &Tcp) -> Vec<u8> {
    let mut frame = segment.frame(CLIENT);
    frame[tcp_at(ipv6) + 16] ^= 0x55;
    frame
}

fn tcp_at(ipv6: bool) -> usize {
    ETHERNET_HEADER_BYTES + if ipv6 { 40 } else { 20 }
}

#[test]
fn a_device_completes_the_checksum_of_whatever_is_sent() {
    for ipv6 in [false, true] {
        let options = Options {
            ipv6,
            ..Options::default()
        };
        let mut host = Host::new(&options);
        // A stray segment is reset; a SYN is answered; a SYN for what is open then is challenged, by an acknowledgement that smoltcp does not write.
        host.take(&from_client(ipv6, ACK).frame(CLIENT), VERIFIED);
        host.take(&from_client(ipv6, SYN).frame(CLIENT), VERIFIED);
        let answer = Tcp::read(host.ports[0].tx.ring.get(1));
        let opened = Tcp {
            sequence: 6,
            acknowledgement: answer.sequence.wrapping_add(1),
            ..from_client(ipv6, ACK)
        };
        host.take(&opened.frame(CLIENT), VERIFIED);
        assert_eq!(host.stack.counters().accepted, 1);
        host.take(&from_client(ipv6, SYN).frame(CLIENT), VERIFIED);
        let tx = &host.ports[0].tx;
        let flags: Vec<u8> = (0..tx.ring.len())
            .map(|frame| Tcp::read(tx.ring.get(frame)).flags)
            .collect();
        assert_eq!(flags, [RST, SYN | ACK, ACK]);
        assert_eq!(tx.completed, 3);
        for index in 0..tx.ring.len() {
            let frame = tx.ring.get(index);
            let at = tcp_at(ipv6) + 16;
            let right = Tcp::read(frame).frame(SERVER);
            assert_eq!(frame[at..at + 2], right[at..at + 2], "frame {index}");
        }
    }
}

#[test]
fn a_checksum_that_the_device_vouches_for_is_not_looked_at() {
    for ipv6 in [false, true] {
        let options = Options {
            ipv6,
            ..Options::default()
        };
        let mut host = Host::new(&options);
        let frame = with_wrong_sum(ipv6, &from_client(ipv6, SYN));
        host.take(&frame, Arrival::from(0));
        assert_eq!(host.stack.counters().frames_bad_checksum, 1);
        assert_eq!(host.ports[0].tx.ring.len(), 0);
        host.take(&frame, VERIFIED);
        assert_eq!(host.ports[0].tx.ring.len(), 1, "answered");
    }
}

#[test]
fn the_header_of_ipv4_is_always_checked() {
    let mut host = Host::new(&Options::default());
    let mut frame = from_client(false, SYN).frame(CLIENT);
    frame[ETHERNET_HEADER_BYTES + 8] -= 1;
    host.take(&frame, VERIFIED);
    assert_eq!(host.stack.counters().frames_bad_checksum, 1);
}

#[test]
fn what_the_device_said_goes_with_a_frame_that_is_handed_over() {
    let oracle = QueueOracle::PortXor { queues: 2 };
    let client = address(false, CLIENT, 1_234);
    let owner = oracle.owner(listening(false), client).expect("it knows");
    let worker = |worker| {
        Host::new(&Options {
            oracle: oracle.clone(),
            worker,
            workers: 2,
            ..Options::default()
        })
    };
    let mut other = worker(1 - owner);
    other.take(&with_wrong_sum(false, &from_client(false, SYN)), VERIFIED);
    let (to, tag, frame) = other.handed.frames.pop_front().expect("handed over");
    assert_eq!(to, owner);
    let mut owner = worker(owner);
    owner.take(&frame, Arrival::from_tag(tag));
    assert_eq!(owner.ports[0].tx.ring.len(), 1, "answered");
    // Back to who handed it over, by mistake: not once more.
    other.take(&frame, Arrival::from_tag(tag));
    let counters = other.stack.counters();
    assert_eq!(
        (counters.frames_handed_over, counters.frames_not_ours),
        (1, 1)
    );
    assert!(other.handed.frames.is_empty());
}
