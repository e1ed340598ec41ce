//! Our addresses on a port.

use crate::Mac;
use crate::limits::{ANNOUNCE_INTERVAL_US, ANNOUNCEMENTS, DEFEND_INTERVAL_US, PROBES};
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

/// What is said of an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    /// Whether somebody else has it.
    Probe,
    /// That it is here.
    Announcement,
}

/// One of our addresses.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) address: IpAddr,
    pub(crate) broadcast: Option<Ipv4Addr>,
    probes_left: u8,
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
            probes_left: PROBES,
            announcements_left: ANNOUNCEMENTS,
            due_us: now_us,
            calm_until_us: 0,
            usurper: None,
        }
    }

    /// When something is to be said of it; `u64::MAX`: not again.
    pub(crate) fn due_us(&self) -> u64 {
        if self.announcements_left > 0 {
            self.due_us
        } else {
            u64::MAX
        }
    }

    /// What to say now that it is due: each announcement has a probe before it, as long as there are some. The caller sends it.
    pub(crate) fn say(&mut self, now_us: u64) -> Saying {
        if self.probes_left >= self.announcements_left {
            self.probes_left -= 1;
            return Saying::Probe;
        }
        self.announcements_left -= 1;
        self.due_us = now_us + ANNOUNCE_INTERVAL_US;
        Saying::Announcement
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
