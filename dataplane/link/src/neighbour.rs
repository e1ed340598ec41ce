//! One next hop, and when it is asked.
//!
//! The states of RFC 4861, section 7.3.2, follow from three values. Without a link address it is INCOMPLETE. With one, it is
//! REACHABLE until its time has come, and PROBE once it has been asked. STALE and DELAY last no time here: a next hop
//! is wanted as long as it is in the table, so what is in doubt is asked at once.

use crate::Mac;
use crate::limits::{ASK_INTERVAL_US, ASK_PAUSE_US_MAX, ASKS_FAST, PROBES_MAX, REACHABLE_US};
use std::net::IpAddr;

/// What a frame says of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Where it is; `None`: where it was.
    pub(crate) mac: Option<Mac>,
    /// It answers us, so both directions work.
    pub(crate) solicited: bool,
    /// It replaces what was known.
    pub(crate) overrides: bool,
}

/// A wanted next hop.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) address: IpAddr,
    /// Our address to ask with.
    pub(crate) source: IpAddr,
    pub(crate) mac: Option<Mac>,
    /// The link address that was told last.
    pub(crate) told: Option<Mac>,
    /// Solicitations since it last answered, or since it was lost.
    asked: u32,
    /// When to ask next.
    pub(crate) due_us: u64,
    /// Not before then, whatever happens.
    rests_until_us: u64,
}

impl Neighbour {
    pub(crate) fn new(address: IpAddr, source: IpAddr, now_us: u64) -> Self {
        Self {
            address,
            source,
            mac: None,
            told: None,
            asked: 0,
            due_us: now_us,
            rests_until_us: now_us,
        }
    }

    /// Takes a frame of this neighbour into account, as RFC 4861, section 7.2.5, says.
    pub(crate) fn heard(&mut self, now_us: u64, evidence: Evidence) {
        // "If the link layer has addresses and no Target Link-Layer Address option is included, the receiving node SHOULD
        // silently discard the received advertisement", while nothing is known.
        let Some(mac) = evidence.mac.or(self.mac) else {
            return;
        };
        let moved = self.mac != Some(mac);
        // "If the Override flag is clear and the supplied link-layer address differs from that in the cache": nothing is
        // updated, but what was REACHABLE is in doubt.
        if self.mac.is_some() && moved && !evidence.overrides {
            self.doubt(now_us);
            return;
        }
        self.mac = Some(mac);
        if evidence.solicited {
            self.asked = 0;
            self.due_us = now_us + REACHABLE_US;
        } else if moved {
            self.asked = 0;
            self.doubt(now_us);
        }
    }

    /// Asks at once, unless that is under way.
    fn doubt(&mut self, now_us: u64) {
        if self.asked == 0 {
            self.due_us = self.due_us.min(now_us.max(self.rests_until_us));
        }
    }

    /// Its time has come: the link address to ask, `None` for everybody's. What is known is forgotten here if it did not
    /// answer the probes. The caller sends the solicitation.
    pub(crate) fn ask(&mut self, now_us: u64) -> Option<Mac> {
        if self.asked >= PROBES_MAX && self.mac.take().is_some() {
            self.asked = 0;
        }
        self.asked = self.asked.saturating_add(1);
        let pause_us = if self.mac.is_some() {
            ASK_INTERVAL_US
        } else {
            pause_us(self.asked)
        };
        self.rests_until_us = now_us + ASK_INTERVAL_US;
        self.due_us = now_us + pause_us;
        self.mac
    }

    /// Whether its link address is another than was told.
    pub(crate) fn is_news(&self) -> bool {
        self.mac != self.told
    }
}

/// The pause after so many solicitations without an answer.
fn pause_us(asked: u32) -> u64 {
    let doublings = asked.saturating_sub(ASKS_FAST).min(16);
    (ASK_INTERVAL_US << doublings).min(ASK_PAUSE_US_MAX)
}

#[cfg(test)]
#[path = "neighbour_tests.rs"]
mod tests;
