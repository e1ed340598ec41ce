//! Our addresses, said anew, on ports where the kernel answers for them.
//!
//! A port whose link address changes keeps its IP addresses, and its neighbours go on sending to the link address that they know: a kernel
//! tells them by itself only if it was asked to (`arp_notify`, `ndisc_notify`). Until they ask they talk to nobody, for half a minute or
//! more, so a worker says it for all.

use crate::Mac;
use crate::limits::{
    ANNOUNCE_INTERVAL_US, ANNOUNCEMENTS, ASKS_AT_ONCE, ASKS_PAUSE_US, TX_RETRY_US,
};
use crate::port::send_announcement;
use std::net::IpAddr;
use tidegate_port::TxQueue;

/// What is to be said on one port.
#[derive(Debug)]
pub struct Announcement {
    port: u8,
    mac: Mac,
    addresses: Vec<IpAddr>,
    /// Which of them comes next.
    next: usize,
    rounds_left: u8,
    due_us: u64,
}

impl Announcement {
    /// `addresses` are at `mac` now, on the port at position `port`. It is due at once.
    pub fn new(port: u8, mac: Mac, addresses: Vec<IpAddr>) -> Self {
        Self {
            port,
            mac,
            addresses,
            next: 0,
            rounds_left: ANNOUNCEMENTS,
            due_us: 0,
        }
    }

    /// The position of the port.
    pub fn port(&self) -> u8 {
        self.port
    }

    /// When [`Announcement::send_due`] has something to do; `None`: never again.
    #[inline]
    pub fn next_timer_us(&self) -> Option<u64> {
        (self.rounds_left > 0).then_some(self.due_us)
    }

    /// Sends what is due into `tx`, that of the port.
    #[inline]
    pub fn send_due(&mut self, now_us: u64, tx: &mut impl TxQueue) {
        if self.rounds_left > 0 && self.due_us <= now_us {
            self.send(now_us, tx);
        }
    }

    #[cold]
    fn send(&mut self, now_us: u64, tx: &mut impl TxQueue) {
        let rest = self.addresses.get(self.next..).unwrap_or_default();
        for address in rest.iter().take(ASKS_AT_ONCE) {
            if !send_announcement(tx, self.mac, *address) {
                self.due_us = now_us + TX_RETRY_US;
                return;
            }
            self.next += 1;
        }
        if self.next < self.addresses.len() {
            self.due_us = now_us + ASKS_PAUSE_US;
            return;
        }
        self.next = 0;
        self.rounds_left -= 1;
        self.due_us = now_us + ANNOUNCE_INTERVAL_US;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arp::Arp;
    use crate::ethernet::BROADCAST;
    use crate::ndp::Kind;
    use crate::test_support::{
        MemoryTx, OUR_MAC, OUR_V4, OUR_V6, SECOND_US, START_US, arp_of, ndp_of,
    };
    use std::net::Ipv4Addr;

    #[test]
    fn our_addresses_are_said_twice_and_without_a_probe() {
        let mut said = Announcement::new(3, OUR_MAC, vec![OUR_V4.into(), OUR_V6.into()]);
        assert_eq!(said.port(), 3);
        for at_us in [START_US, START_US + 2 * SECOND_US] {
            assert!(said.next_timer_us().is_some_and(|due_us| due_us <= at_us));
            let mut tx = MemoryTx::new();
            said.send_due(at_us, &mut tx);
            let frames = tx.take();
            assert_eq!(frames.len(), 2);
            assert_eq!(frames[0][..6], BROADCAST);
            assert_eq!(arp_of(&frames[0]), Arp::announcement(OUR_MAC, OUR_V4));
            assert_eq!(frames[1][..6], [0x33, 0x33, 0, 0, 0, 1]);
            let ndp = ndp_of(&frames[1]);
            let kind = Kind::Advertisement {
                solicited: false,
                overrides: true,
            };
            assert_eq!((ndp.kind, ndp.mac), (kind, Some(OUR_MAC)));
            assert_eq!((ndp.source, ndp.target), (OUR_V6, OUR_V6));
            assert!(frames.iter().all(|frame| frame[6..12] == OUR_MAC));
            said.send_due(at_us + 2 * SECOND_US - 1, &mut tx);
            assert!(tx.take().is_empty());
        }
        assert_eq!(said.next_timer_us(), None);
        let mut tx = MemoryTx::new();
        said.send_due(u64::MAX, &mut tx);
        assert!(tx.take().is_empty());
    }

    #[test]
    fn many_are_said_in_portions_and_a_full_ring_loses_none() {
        let all: Vec<IpAddr> = (0..ASKS_AT_ONCE as u32 + 2)
            .map(|number| Ipv4Addr::from_bits(0x0a00_0000 + number).into())
            .collect();
        let mut said = Announcement::new(0, OUR_MAC, all.clone());
        let mut tx = MemoryTx::new();
        tx.room = 1;
        said.send_due(START_US, &mut tx);
        assert_eq!(said.next_timer_us(), Some(START_US + TX_RETRY_US));
        tx.room = 1_024;
        said.send_due(START_US + TX_RETRY_US, &mut tx);
        let next_us = START_US + TX_RETRY_US + ASKS_PAUSE_US;
        assert_eq!(said.next_timer_us(), Some(next_us));
        said.send_due(next_us, &mut tx);
        let frames = tx.take();
        let targets = frames.iter().map(|frame| arp_of(frame).target.into());
        assert_eq!(targets.collect::<Vec<IpAddr>>(), all);
    }

    #[test]
    fn a_port_without_addresses_has_nothing_to_say() {
        let mut said = Announcement::new(0, OUR_MAC, Vec::new());
        let mut tx = MemoryTx::new();
        for at_us in [START_US, START_US + 2 * SECOND_US] {
            said.send_due(at_us, &mut tx);
        }
        assert!(tx.take().is_empty());
        assert_eq!(said.next_timer_us(), None);
    }
}
