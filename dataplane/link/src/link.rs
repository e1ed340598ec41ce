//! All ports together.

use crate::Mac;
use crate::counters::{self, Outcome};
use crate::limits::WANTED_MAX;
use crate::own::LinkPort;
use crate::port::Port;
use crate::throttle::Throttle;
use std::net::IpAddr;
use tidegate_channel::counters::LinkCounters;
use tidegate_port::TxQueue;

/// A next hop that has to stay resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Position of the port.
    pub port: u8,
    /// Our address to ask with.
    pub source: IpAddr,
    /// The next hop: a server or a gateway, on the link.
    pub next_hop: IpAddr,
}

/// Something that the owner has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A wanted next hop was resolved, has moved, or was lost.
    Neighbour {
        /// Position of the port.
        port: u8,
        /// The next hop.
        address: IpAddr,
        /// Where it is; `None`: it does not answer.
        mac: Option<Mac>,
    },
    /// Somebody else claims an address of ours. Told at most once per
    /// [`DEFEND_INTERVAL_US`](crate::limits::DEFEND_INTERVAL_US) and address.
    Conflict {
        /// Position of the port.
        port: u8,
        /// Our address.
        address: IpAddr,
        /// Who claims it.
        mac: Mac,
    },
}

/// The link layer of all ports.
#[derive(Debug)]
pub struct Link {
    ports: Box<[Port]>,
    echoes: Throttle,
    counters: LinkCounters,
}

impl Link {
    /// The link layer of `ports`. Their addresses are due to be announced at once.
    pub fn new(ports: &[LinkPort], now_us: u64) -> Self {
        Self {
            ports: ports.iter().map(|port| Port::new(port, now_us)).collect(),
            echoes: Throttle::default(),
            counters: LinkCounters::default(),
        }
    }

    /// Takes over the next hops that have to stay resolved; those that stay keep what is known of them, the others are
    /// forgotten without news. One that is named several times is asked for once. Returns how many have found no place: beyond
    /// [`WANTED_MAX`], on a port that does not exist, or with addresses that cannot be asked for. This allocates.
    #[must_use = "what found no place is never resolved"]
    pub fn set_wanted(&mut self, wanted: &[Wanted], now_us: u64) -> usize {
        let mut fitting = 0;
        let mut beyond = 0;
        let mut room = WANTED_MAX;
        for (state, port) in self.ports.iter_mut().zip(0..) {
            let of_port = wanted.iter().filter(|wanted| wanted.port == port);
            let fits = of_port.filter(|wanted| state.can_ask(wanted.source, wanted.next_hop));
            let pairs: Vec<_> = fits
                .map(|wanted| (wanted.next_hop, wanted.source))
                .collect();
            fitting += pairs.len();
            beyond += state.set_wanted(pairs, room, now_us);
            room -= state.neighbours.len();
        }
        wanted.len() - fitting + beyond
    }

    /// Takes one frame that is no TCP and arrived on the port at position `port`. An answer goes into `tx`, that port's.
    pub fn take(&mut self, now_us: u64, port: usize, frame: &[u8], tx: &mut impl TxQueue) {
        let outcome = match self.ports.get_mut(port) {
            Some(port) => port.take(now_us, frame, tx, &mut self.echoes),
            None => Outcome::NotOurs,
        };
        counters::count(&mut self.counters, outcome);
    }

    /// Sends the announcements, solicitations and probes that are due on the port at position `port`; `tx` is that port's.
    /// Costs a comparison when nothing is due.
    #[inline]
    pub fn send_due(&mut self, now_us: u64, port: usize, tx: &mut impl TxQueue) {
        if let Some(port) = self.ports.get_mut(port) {
            port.send_due(now_us, tx, &mut self.counters);
        }
    }

    /// When [`Link::send_due`] may have something to do, on any port; `None`: not before a frame arrives.
    #[inline]
    pub fn next_timer_us(&self) -> Option<u64> {
        let due = self.ports.iter().map(Port::due_us).min();
        due.filter(|due_us| *due_us != u64::MAX)
    }

    /// The next thing to know. Nothing is lost if nobody asks for a while; of several changes of one next hop the last is told.
    pub fn take_news(&mut self) -> Option<News> {
        self.ports.iter_mut().zip(0..).find_map(|(state, port)| {
            if let Some((address, mac)) = state.take_conflict() {
                return Some(News::Conflict { port, address, mac });
            }
            let (address, mac) = state.neighbours.take_news()?;
            Some(News::Neighbour { port, address, mac })
        })
    }

    /// What was counted since the start.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
