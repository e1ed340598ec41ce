//! From a received frame to what becomes of it.

use crate::Mac;
use crate::arp::{Arp, Operation};
use crate::counters::Outcome;
use crate::echo;
use crate::ethernet::{self, Ends, Kind};
use crate::ndp::{self, Ndp};
use crate::neighbour::Evidence;
use crate::port::{Port, send_arp, send_ndp};
use crate::throttle::Throttle;
use smoltcp::wire::{IPV4_HEADER_LEN, Icmpv6Message, IpProtocol, Ipv4Packet, Ipv6Packet};
use std::net::IpAddr;
use tidegate_port::TxQueue;

impl Port {
    /// Takes one frame that arrived here; an answer goes into `tx`.
    pub(crate) fn take(
        &mut self,
        now_us: u64,
        frame: &[u8],
        tx: &mut impl TxQueue,
        echoes: &mut Throttle,
    ) -> Outcome {
        let Some((ends, kind, packet)) = ethernet::parse(frame) else {
            return Outcome::Malformed;
        };
        if ends.destination != self.mac && !ends.is_to_group() {
            return Outcome::NotOurs;
        }
        // Our own frames come back where the network has a loop.
        if !ethernet::is_station(ends.source) || ends.source == self.mac {
            return Outcome::Malformed;
        }
        let outcome = match kind {
            Some(Kind::Arp) => self.take_arp(now_us, ends, packet, tx),
            Some(Kind::Ipv4) => self.take_ipv4(now_us, ends, packet, tx, echoes),
            Some(Kind::Ipv6) => self.take_ipv6(now_us, ends, packet, tx, echoes),
            None => Err(Outcome::Ignored),
        };
        match outcome {
            Ok(outcome) | Err(outcome) => outcome,
        }
    }

    fn take_arp(
        &mut self,
        now_us: u64,
        ends: Ends,
        packet: &[u8],
        tx: &mut impl TxQueue,
    ) -> Result<Outcome, Outcome> {
        let arp = Arp::parse(packet)?;
        if arp.sender_mac == self.mac {
            return Err(Outcome::Malformed);
        }
        let sender = IpAddr::V4(arp.sender);
        if self.conflict(now_us, sender, arp.sender_mac) {
            return Ok(Outcome::Conflicting);
        }
        // RFC 826: "Notice that the <protocol type, sender protocol address, sender hardware address> triplet is merged into
        // the table before the opcode is looked at." Only an answer to us shows that it hears us.
        let evidence = Evidence {
            mac: Some(arp.sender_mac),
            solicited: arp.operation == Operation::Reply && ends.destination == self.mac,
            overrides: true,
        };
        let known = self.heard(now_us, sender, evidence);
        if arp.operation == Operation::Request && self.owns(IpAddr::V4(arp.target)) {
            let reply = arp.reply(self.mac);
            let sent = send_arp(tx, self.mac, &reply, reply.destination());
            return Ok(answered(sent));
        }
        Ok(learned(known))
    }

    fn take_ipv4(
        &mut self,
        now_us: u64,
        ends: Ends,
        packet: &[u8],
        tx: &mut impl TxQueue,
        echoes: &mut Throttle,
    ) -> Result<Outcome, Outcome> {
        let packet = Ipv4Packet::new_checked(packet).map_err(|_| Outcome::Malformed)?;
        if packet.version() != 4 {
            return Err(Outcome::Malformed);
        }
        // An address of ours in a frame to a group is somebody's attempt to have many answer.
        if ends.is_to_group() || !self.owns(IpAddr::V4(packet.dst_addr())) {
            return Err(Outcome::NotOurs);
        }
        let fragment = packet.more_frags() || packet.frag_offset() != 0;
        let options = usize::from(packet.header_len()) != IPV4_HEADER_LEN;
        if fragment || options || packet.next_header() != IpProtocol::Icmp {
            return Err(Outcome::Ignored);
        }
        if !packet.verify_checksum() {
            return Err(Outcome::Malformed);
        }
        let allows = || echoes.allows(now_us);
        Ok(echo::answer_ipv4(self, ends, &packet, tx, allows))
    }

    fn take_ipv6(
        &mut self,
        now_us: u64,
        ends: Ends,
        packet: &[u8],
        tx: &mut impl TxQueue,
        echoes: &mut Throttle,
    ) -> Result<Outcome, Outcome> {
        let packet = Ipv6Packet::new_checked(packet).map_err(|_| Outcome::Malformed)?;
        if packet.version() != 6 {
            return Err(Outcome::Malformed);
        }
        let destination = packet.dst_addr();
        let to_us = self.owns(IpAddr::V6(destination));
        if !to_us && !destination.is_multicast() {
            return Err(Outcome::NotOurs);
        }
        if packet.next_header() != IpProtocol::Icmpv6 {
            return Err(Outcome::Ignored);
        }
        let kind = packet.payload().first().ok_or(Outcome::Malformed)?;
        match Icmpv6Message::from(*kind) {
            Icmpv6Message::EchoRequest if !to_us || ends.is_to_group() => Err(Outcome::NotOurs),
            Icmpv6Message::EchoRequest => {
                let allows = || echoes.allows(now_us);
                Ok(echo::answer_ipv6(self, ends, &packet, tx, allows))
            }
            Icmpv6Message::NeighborSolicit | Icmpv6Message::NeighborAdvert => {
                let ndp = Ndp::parse(&packet)?;
                if ndp.mac == Some(self.mac) {
                    return Err(Outcome::Malformed);
                }
                Ok(match ndp.kind {
                    ndp::Kind::Solicitation => self.take_solicitation(now_us, ends, &ndp, tx),
                    ndp::Kind::Advertisement {
                        solicited,
                        overrides,
                    } => {
                        let evidence = Evidence {
                            mac: ndp.mac,
                            solicited,
                            overrides,
                        };
                        self.take_advertisement(now_us, ends, &ndp, evidence)
                    }
                })
            }
            _ => Err(Outcome::Ignored),
        }
    }

    fn take_solicitation(
        &mut self,
        now_us: u64,
        ends: Ends,
        ndp: &Ndp,
        tx: &mut impl TxQueue,
    ) -> Outcome {
        let mac: Mac = ndp.mac.unwrap_or(ends.source);
        let source = IpAddr::V6(ndp.source);
        if self.conflict(now_us, source, mac) {
            return Outcome::Conflicting;
        }
        // RFC 4861, section 7.2.3: what is not for us is discarded, whoever asks.
        if !self.owns(IpAddr::V6(ndp.target)) {
            return Outcome::NotOurs;
        }
        if ndp.mac.is_some() {
            let evidence = Evidence {
                mac: ndp.mac,
                solicited: false,
                overrides: true,
            };
            self.heard(now_us, source, evidence);
        }
        // RFC 4861, section 7.2.4: "If the source of the solicitation is the unspecified address, the node MUST set the
        // Solicited flag to zero and multicast the advertisement to the all-nodes address." Somebody asks whether the
        // address is free.
        let (destination, mac) = if ndp.source.is_unspecified() {
            (ndp::ALL_NODES, ndp::group_mac(ndp::ALL_NODES))
        } else {
            (ndp.source, mac)
        };
        let answer = Ndp::advertisement(ndp.target, destination, !ndp.source.is_unspecified());
        answered(send_ndp(tx, self.mac, &answer, mac))
    }

    fn take_advertisement(
        &mut self,
        now_us: u64,
        ends: Ends,
        ndp: &Ndp,
        evidence: Evidence,
    ) -> Outcome {
        let target = IpAddr::V6(ndp.target);
        // RFC 4862, section 5.4.4: an advertisement for an address of ours that we did not send.
        if self.conflict(now_us, target, ndp.mac.unwrap_or(ends.source)) {
            return Outcome::Conflicting;
        }
        learned(self.heard(now_us, target, evidence))
    }
}

fn answered(sent: bool) -> Outcome {
    if sent {
        Outcome::Answered
    } else {
        Outcome::TxFull
    }
}

fn learned(known: bool) -> Outcome {
    if known {
        Outcome::Learned
    } else {
        Outcome::NotOurs
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
