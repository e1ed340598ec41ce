//! What is known and due on one port.

use crate::Mac;
use crate::arp::{self, Arp};
use crate::ethernet::{self, Ends};
use crate::limits::{ASKS_AT_ONCE, ASKS_PAUSE_US, TX_RETRY_US};
use crate::ndp::{self, Ndp};
use crate::neighbour::Evidence;
use crate::neighbours::{Asked, Neighbours};
use crate::own::{LinkPort, Own, Saying};
use std::net::IpAddr;
use tidegate_channel::counters::LinkCounters;
use tidegate_port::TxQueue;

#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) mac: Mac,
    pub(crate) mtu_bytes: usize,
    pub(crate) own: Box<[Own]>,
    pub(crate) neighbours: Neighbours,
    /// Nothing is due before then; it may be early.
    due_us: u64,
    /// Conflicts that were not told.
    conflicts: usize,
}

/// What sending takes: the ring, and how much may still leave.
struct Sending<'a, T> {
    tx: &'a mut T,
    counters: &'a mut LinkCounters,
    mac: Mac,
    left: usize,
    /// The TX ring was full.
    is_full: bool,
}

impl<T: TxQueue> Sending<'_, T> {
    fn may_send(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        if self.tx.room() == 0 {
            self.counters.asks_tx_full += 1;
            self.is_full = true;
            return false;
        }
        true
    }

    /// When to go on after [`Self::may_send`] said no.
    fn retry_us(&self, now_us: u64) -> u64 {
        now_us
            + if self.is_full {
                TX_RETRY_US
            } else {
                ASKS_PAUSE_US
            }
    }

    fn count(&mut self, sent: bool) {
        debug_assert!(sent, "room was seen before");
        self.left -= 1;
        self.counters.asks_sent += 1;
    }

    fn arp(&mut self, arp: &Arp, destination: Mac) {
        let sent = send_arp(self.tx, self.mac, arp, destination);
        self.count(sent);
    }

    fn ndp(&mut self, ndp: &Ndp, destination: Mac) {
        let sent = send_ndp(self.tx, self.mac, ndp, destination);
        self.count(sent);
    }

    /// Says it of `address`, which is ours.
    fn say(&mut self, saying: Saying, address: IpAddr) {
        match (saying, address) {
            (Saying::Probe, IpAddr::V4(address)) => {
                let arp = Arp::probe(self.mac, address);
                self.arp(&arp, arp.destination());
            }
            (Saying::Probe, IpAddr::V6(address)) => {
                let ndp = Ndp::probe(address);
                self.ndp(&ndp, ndp::group_mac(ndp.destination));
            }
            (Saying::Announcement, address) => {
                let sent = send_announcement(self.tx, self.mac, address);
                self.count(sent);
            }
        }
    }

    /// Asks with our address `source` where `next_hop` is: at `at`, or everybody.
    fn ask(&mut self, source: IpAddr, next_hop: IpAddr, at: Option<Mac>) {
        let sent = send_ask(self.tx, self.mac, source, next_hop, at);
        self.count(sent);
    }
}

/// Whether the next hop can be asked for from `source`: both of one family, and a station.
pub(crate) fn is_askable(source: IpAddr, next_hop: IpAddr) -> bool {
    let group = match next_hop {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    };
    source.is_ipv4() == next_hop.is_ipv4() && !group && !next_hop.is_unspecified()
}

/// Asks with our addresses `mac` and `source` where `next_hop` is: at `at`, or everybody; `false`: there is no room.
pub(crate) fn send_ask(
    tx: &mut impl TxQueue,
    mac: Mac,
    source: IpAddr,
    next_hop: IpAddr,
    at: Option<Mac>,
) -> bool {
    match (source, next_hop) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let arp = Arp::request(mac, source, target);
            send_arp(tx, mac, &arp, at.unwrap_or(arp.destination()))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let group = ndp::solicited_node(target);
            let destination = if at.is_some() { target } else { group };
            let ndp = Ndp::solicitation(source, destination, target);
            send_ndp(tx, mac, &ndp, at.unwrap_or(ndp::group_mac(group)))
        }
        _ => {
            debug_assert!(false, "two families cannot be asked for");
            false
        }
    }
}

/// Says to all that our `address` is at `mac`; `false`: there is no room.
pub(crate) fn send_announcement(tx: &mut impl TxQueue, mac: Mac, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let arp = Arp::announcement(mac, address);
            send_arp(tx, mac, &arp, arp.destination())
        }
        // RFC 4861, section 7.2.6: an unsolicited advertisement, to all nodes.
        IpAddr::V6(address) => {
            let ndp = Ndp::advertisement(address, ndp::ALL_NODES, false);
            send_ndp(tx, mac, &ndp, ndp::group_mac(ndp::ALL_NODES))
        }
    }
}

/// Sends an ARP packet; `false`: there is no room.
pub(crate) fn send_arp(tx: &mut impl TxQueue, mac: Mac, arp: &Arp, destination: Mac) -> bool {
    let ends = Ends {
        destination,
        source: mac,
    };
    ethernet::send(tx, ends, ethernet::Kind::Arp, arp::PACKET_BYTES, |packet| {
        arp.write(packet);
    })
}

/// Sends a message of neighbour discovery, with our link address in it; `false`: there is no room.
pub(crate) fn send_ndp(tx: &mut impl TxQueue, mac: Mac, ndp: &Ndp, destination: Mac) -> bool {
    let ends = Ends {
        destination,
        source: mac,
    };
    ethernet::send(
        tx,
        ends,
        ethernet::Kind::Ipv6,
        ndp.packet_bytes(),
        |packet| {
            ndp.write(mac, packet);
        },
    )
}

impl Port {
    pub(crate) fn new(port: &LinkPort, now_us: u64) -> Self {
        let own = port.addresses.iter().map(|prefix| Own::new(prefix, now_us));
        Self {
            mac: port.mac,
            mtu_bytes: port.mtu_bytes,
            own: own.collect(),
            neighbours: Neighbours::default(),
            due_us: now_us,
            conflicts: 0,
        }
    }

    /// When something is to be sent at the earliest; `u64::MAX`: never.
    pub(crate) fn due_us(&self) -> u64 {
        self.due_us
    }

    /// Whether `next_hop` can be asked for with our address `source`.
    pub(crate) fn can_ask(&self, source: IpAddr, next_hop: IpAddr) -> bool {
        is_askable(source, next_hop) && !self.owns(next_hop)
    }

    /// Takes over other next hops, with the addresses to ask with; returns for how many there is no room.
    pub(crate) fn set_wanted(
        &mut self,
        wanted: Vec<(IpAddr, IpAddr)>,
        room: usize,
        now_us: u64,
    ) -> usize {
        let beyond = self.neighbours.replace(wanted, room, now_us);
        self.due_us = self.due_us.min(self.neighbours.due_us());
        beyond
    }

    /// Whether `address` is one of ours.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        self.own.iter().any(|own| own.address == address)
    }

    /// Takes into account what a frame says of `address`; `false`: it is a stranger.
    pub(crate) fn heard(&mut self, now_us: u64, address: IpAddr, evidence: Evidence) -> bool {
        let due_us = self.neighbours.heard(now_us, address, evidence);
        self.due_us = self.due_us.min(due_us.unwrap_or(u64::MAX));
        due_us.is_some()
    }

    /// Somebody at `mac` claims `address`; `false`: that is none of ours.
    pub(crate) fn conflict(&mut self, now_us: u64, address: IpAddr, mac: Mac) -> bool {
        let Some(own) = self.own.iter_mut().find(|own| own.address == address) else {
            return false;
        };
        let untold = own.has_usurper();
        own.conflict(now_us, mac);
        self.conflicts += usize::from(own.has_usurper()) - usize::from(untold);
        self.due_us = self.due_us.min(own.due_us());
        true
    }

    /// An address of ours that somebody else claims, and who.
    pub(crate) fn take_conflict(&mut self) -> Option<(IpAddr, Mac)> {
        if self.conflicts == 0 {
            return None;
        }
        self.conflicts -= 1;
        self.own
            .iter_mut()
            .find_map(|own| Some((own.address, own.take_usurper()?)))
    }

    /// Sends what is due.
    pub(crate) fn send_due(
        &mut self,
        now_us: u64,
        tx: &mut impl TxQueue,
        counters: &mut LinkCounters,
    ) {
        if now_us < self.due_us {
            return;
        }
        let mut sending = Sending {
            tx,
            counters,
            mac: self.mac,
            left: ASKS_AT_ONCE,
            is_full: false,
        };
        let mut due_us = u64::MAX;
        for own in &mut self.own {
            while own.due_us() <= now_us {
                if !sending.may_send() {
                    self.due_us = sending.retry_us(now_us);
                    return;
                }
                let saying = own.say(now_us);
                sending.say(saying, own.address);
            }
            due_us = due_us.min(own.due_us());
        }
        let asked = self.neighbours.ask_due(
            now_us,
            &mut sending,
            Sending::may_send,
            |sending, each, at| {
                sending.ask(each.source, each.address, at);
            },
        );
        self.due_us = match asked {
            Asked::Until(next_us) => due_us.min(next_us),
            Asked::Interrupted => sending.retry_us(now_us),
        };
    }
}
