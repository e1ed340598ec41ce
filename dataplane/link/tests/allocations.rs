//! After the start nothing allocates but [`Link::set_wanted`]: answering, learning, losing, conflicts, floods.
//!
//! The counting allocator is that of the whole test binary, which is why it is a binary of its own with one test.

use std::net::{IpAddr, Ipv4Addr};
use tidegate_config::Prefix;
use tidegate_link::{Link, LinkPort, News, Wanted};
use tidegate_port::{Flushed, TxQueue};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SECOND_US: u64 = 1_000_000;
const SERVERS: u32 = 100;

/// Counts frames.
struct Counting {
    frame: [u8; 2_048],
    sent: u64,
}

impl TxQueue for Counting {
    fn room(&mut self) -> usize {
        1
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.sent += 1;
        fill(&mut self.frame[..bytes])
    }

    fn show(&mut self, _look: &mut dyn FnMut(&[u8])) {}

    fn flush(&mut self) -> Flushed {
        Flushed::default()
    }
}

fn server(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0100 + number)
}

/// An ARP packet from `mac`, a request to all or a reply to us.
fn arp(operation: u8, mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..6].copy_from_slice(if operation == 1 { &[0xff; 6] } else { &OUR_MAC });
    frame[6..12].copy_from_slice(&mac);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// Two minutes in which every server answers until half of them fall silent, while somebody claims our address.
fn two_minutes(link: &mut Link, tx: &mut Counting) -> (u64, u64) {
    let (mut neighbours, mut conflicts) = (0, 0);
    for step in 0..1_200_u64 {
        let now_us = step * SECOND_US / 10;
        for number in 0..SERVERS {
            if step < 300 || number % 2 == 0 {
                let mac = [2, 0, 0, 0, 1, number as u8];
                link.take(now_us, 0, &arp(2, mac, server(number), OURS), tx);
            }
        }
        let stranger = arp(1, [2, 9, 9, 9, 9, 9], Ipv4Addr::new(10, 0, 9, 9), OURS);
        link.take(now_us, 0, &stranger, tx);
        link.take(now_us, 0, &arp(1, [2, 8, 8, 8, 8, 8], OURS, OURS), tx);
        link.take(now_us, 0, &[0x55; 60], tx);
        link.send_due(now_us, 0, tx);
        while let Some(news) = link.take_news() {
            match news {
                News::Neighbour { .. } => neighbours += 1,
                News::Conflict { .. } => conflicts += 1,
            }
        }
        let _ = (link.next_timer_us(), link.counters());
    }
    (neighbours, conflicts)
}

#[test]
fn nothing_allocates_after_the_start() {
    let one = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1_u8))));
    assert_eq!(one.count_total, 1, "the counter counts");
    let port = LinkPort {
        mac: OUR_MAC,
        mtu_bytes: 1_500,
        addresses: vec![Prefix {
            address: OURS.into(),
            bits: 16,
        }],
    };
    let mut link = Link::new(&[port], 0);
    let wanted: Vec<Wanted> = (0..SERVERS)
        .map(|number| Wanted {
            port: 0,
            source: OURS.into(),
            next_hop: IpAddr::V4(server(number)),
        })
        .collect();
    assert_eq!(link.set_wanted(&wanted, 0), 0);
    let mut tx = Counting {
        frame: [0; 2_048],
        sent: 0,
    };
    let mut told = (0, 0);
    let allocations = allocation_counter::measure(|| told = two_minutes(&mut link, &mut tx));
    assert_eq!(allocations.count_total, 0);
    assert_eq!(told, (u64::from(SERVERS + SERVERS / 2), 12));
    let counters = link.counters();
    assert_eq!(counters.frames_answered, 1_200);
    assert_eq!(counters.asks_sent + counters.frames_answered, tx.sent);
}
