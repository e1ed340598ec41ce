//! Our addresses on a port.

use crate::Mac;
use crate::limits::{ANNOUNCE_INTERVAL_US, ANNOUNCEMENTS, DEFEND_INTERVAL_US};
use std::net::{IpAddr, Ipv4Addr};
use tidegate_config::Prefix;

/// The address that means every station of the prefix. RFC 3021: with 31 bits there is none.
fn broadcast(prefix: &Prefix) -> Option<Ipv4Addr> {
    match prefix.address {
        IpAddr::V4(address) if prefix.bits < 31 => Some(Ipv4Addr::from_bits(
            address.to_bits() | u32::MAX >> prefix.bits,
        )),
        _ => None,
    }
}

/// A port as its configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPort {
    /// Its link address.
    pub mac: Mac,
    /// Largest IP packet that a frame carries.
    pub mtu_bytes: usize,
    /// Our addresses on it.
    pub addresses: Vec<Prefix>,
}

/// One of our addresses.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) address: IpAddr,
    pub(crate) broadcast: Option<Ipv4Addr>,
    announcements_left: u8,
    due_us: u64,
    /// Until then a conflict is neither answered nor told.
    calm_until_us: u64,
    usurper: Option<Mac>,
}

impl Own {
    pub(crate) fn new(prefix: &Prefix, now_us: u64) -> Self {
        Self {
            address: prefix.address,
            broadcast: broadcast(prefix),
            announcements_left: ANNOUNCEMENTS,
            due_us: now_us,
            calm_until_us: 0,
            usurper: None,
        }
    }

    /// When it is to be announced; `u64::MAX`: not again.
    pub(crate) fn due_us(&self) -> u64 {
        if self.announcements_left > 0 {
            self.due_us
        } else {
            u64::MAX
        }
    }

    /// An announcement has left.
    pub(crate) fn announced(&mut self, now_us: u64) {
        self.announcements_left = self.announcements_left.saturating_sub(1);
        self.due_us = now_us + ANNOUNCE_INTERVAL_US;
    }

    /// `mac` claims this address too. RFC 5227, section 2.4 (c), for a host that has to keep its address: it is defended with
    /// one announcement, unless that was done within DEFEND_INTERVAL.
    pub(crate) fn conflict(&mut self, now_us: u64, mac: Mac) {
        if now_us < self.calm_until_us {
            return;
        }
        self.calm_until_us = now_us + DEFEND_INTERVAL_US;
        self.usurper = Some(mac);
        self.announcements_left = self.announcements_left.max(1);
        self.due_us = now_us;
    }

    /// Whether a conflict waits to be told.
    pub(crate) fn has_usurper(&self) -> bool {
        self.usurper.is_some()
    }

    /// Who claimed it, told once.
    pub(crate) fn take_usurper(&mut self) -> Option<Mac> {
        self.usurper.take()
    }
}
