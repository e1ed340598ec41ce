//! Next hops that TCP puts in doubt.
//!
//! TCP is the first to notice that a server has moved to another station without a word: nothing is acknowledged any more. Which
//! worker notices depends on whose connections there are, so each asks by itself, and everybody, since the station that is known
//! does not answer. The answer comes to the worker with the link layer, as everything of its kind does.

use crate::Mac;
use crate::limits::{ASK_INTERVAL_US, WANTED_MAX};
use crate::link::Wanted;
use crate::port::{is_askable, send_ask};
use tidegate_port::TxQueue;

/// In place of a number: there is no next hop to ask for.
const NONE: u16 = u16::MAX;

/// The next hops of all servers, for a worker that may ask for them. Servers behind one gateway share its pauses.
#[derive(Debug, Default)]
pub struct Doubts {
    hops: Vec<Hop>,
    /// By server, the position in `hops`.
    of_servers: Vec<u16>,
}

#[derive(Debug)]
struct Hop {
    wanted: Wanted,
    /// Not before then, whatever happens.
    rests_until_us: u64,
}

impl Doubts {
    /// With the way to each server, in the order of their numbers. Of more next hops than [`WANTED_MAX`] the last are never asked for.
    /// This allocates.
    pub fn new(ways: impl Iterator<Item = Option<Wanted>>) -> Self {
        let ways: Vec<_> = ways
            .map(|way| way.filter(|way| is_askable(way.source, way.next_hop)))
            .collect();
        let place = |wanted: &Wanted| (wanted.port, wanted.next_hop);
        let mut hops: Vec<Wanted> = ways.iter().flatten().copied().collect();
        hops.sort_unstable_by_key(place);
        hops.dedup_by_key(|wanted| place(wanted));
        hops.truncate(WANTED_MAX);
        let number = |way: &Option<Wanted>| {
            let found = hops.binary_search_by_key(&place(way.as_ref()?), place);
            Some(found.ok()? as u16)
        };
        Self {
            of_servers: ways.iter().map(|way| number(way).unwrap_or(NONE)).collect(),
            hops: hops
                .into_iter()
                .map(|wanted| Hop {
                    wanted,
                    rests_until_us: 0,
                })
                .collect(),
        }
    }

    /// By which port this server's next hop is asked for; `None`: it has none.
    pub fn port_of(&self, server: usize) -> Option<u8> {
        let hop = self.of_servers.get(server)?;
        Some(self.hops.get(usize::from(*hop))?.wanted.port)
    }

    /// This server does not answer: asks where its next hop is, at most once per [`ASK_INTERVAL_US`]. `tx` is that of
    /// [`Self::port_of`], and `mac` our address there. Returns whether something was sent.
    pub fn ask(&mut self, now_us: u64, server: usize, mac: Mac, tx: &mut impl TxQueue) -> bool {
        let hop = self.of_servers.get(server).copied().unwrap_or(NONE);
        let Some(hop) = self.hops.get_mut(usize::from(hop)) else {
            return false;
        };
        if now_us < hop.rests_until_us {
            return false;
        }
        let sent = send_ask(tx, mac, hop.wanted.source, hop.wanted.next_hop, None);
        if sent {
            hop.rests_until_us = now_us + ASK_INTERVAL_US;
        }
        sent
    }
}

const _: () = assert!(
    WANTED_MAX < NONE as usize,
    "every next hop must have a number"
);

#[cfg(test)]
#[path = "doubts_tests.rs"]
mod tests;
