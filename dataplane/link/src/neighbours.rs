//! The next hops of a port, sorted by address.

use crate::Mac;
use crate::neighbour::{Evidence, Neighbour};
use std::net::IpAddr;

/// How far asking got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All that were due; the next is due then (`u64::MAX`: never).
    Until(u64),
    /// The caller could not send more.
    Interrupted,
}

/// All next hops of a port.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    sorted: Vec<Neighbour>,
    /// How many have news.
    untold: usize,
    /// Where telling goes on, so that one that changes all the time does not keep the others from being told.
    tell_from: usize,
    /// Where asking goes on, so that those in front do not take all turns.
    ask_from: usize,
}

impl Neighbours {
    /// Takes over up to `room` next hops, with the addresses to ask with; returns how many are left out. Those that stay keep
    /// what is known of them.
    pub(crate) fn replace(
        &mut self,
        mut wanted: Vec<(IpAddr, IpAddr)>,
        room: usize,
        now_us: u64,
    ) -> usize {
        wanted.sort_unstable();
        wanted.dedup_by_key(|(address, _)| *address);
        let beyond = wanted.len().saturating_sub(room);
        wanted.truncate(room);
        let mut old = std::mem::take(&mut self.sorted).into_iter().peekable();
        let new = wanted.into_iter().map(|(address, source)| {
            while old.next_if(|old| old.address < address).is_some() {}
            match old.next_if(|old| old.address == address) {
                Some(mut stays) => {
                    stays.source = source;
                    stays
                }
                None => Neighbour::new(address, source, now_us),
            }
        });
        self.sorted = new.collect();
        self.untold = self.sorted.iter().filter(|each| each.is_news()).count();
        (self.tell_from, self.ask_from) = (0, 0);
        beyond
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// When the first is to be asked; `u64::MAX`: there is none.
    pub(crate) fn due_us(&self) -> u64 {
        let due = self.sorted.iter().map(|each| each.due_us);
        due.min().unwrap_or(u64::MAX)
    }

    /// Takes into account what a frame says of `address`. Returns when that one is to be asked next; `None`: it is a stranger.
    pub(crate) fn heard(
        &mut self,
        now_us: u64,
        address: IpAddr,
        evidence: Evidence,
    ) -> Option<u64> {
        let found = self
            .sorted
            .binary_search_by_key(&address, |each| each.address);
        let neighbour = &mut self.sorted[found.ok()?];
        note_news(&mut self.untold, neighbour, |neighbour| {
            neighbour.heard(now_us, evidence);
        });
        Some(neighbour.due_us)
    }

    /// Asks all that are due. `may_send` is called before each; `false` ends it. `send` gets a neighbour and the link address to
    /// ask it at, `None` for everybody's.
    pub(crate) fn ask_due<C>(
        &mut self,
        now_us: u64,
        context: &mut C,
        may_send: impl Fn(&mut C) -> bool,
        send: impl Fn(&mut C, &Neighbour, Option<Mac>),
    ) -> Asked {
        let mut next_us = u64::MAX;
        for _ in 0..self.sorted.len() {
            if self.ask_from >= self.sorted.len() {
                self.ask_from = 0;
            }
            let neighbour = &mut self.sorted[self.ask_from];
            if neighbour.due_us <= now_us {
                if !may_send(context) {
                    return Asked::Interrupted;
                }
                let at = note_news(&mut self.untold, neighbour, |each| each.ask(now_us));
                send(context, neighbour, at);
            }
            next_us = next_us.min(neighbour.due_us);
            self.ask_from += 1;
        }
        Asked::Until(next_us)
    }

    /// A next hop whose link address is another than was told, and that address.
    pub(crate) fn take_news(&mut self) -> Option<(IpAddr, Option<Mac>)> {
        if self.untold == 0 {
            return None;
        }
        let (front, back) = self.sorted.split_at_mut(self.tell_from);
        let mut rest = back.iter_mut().chain(front);
        let (passed, neighbour) = (1..).zip(&mut rest).find(|(_, each)| each.is_news())?;
        neighbour.told = neighbour.mac;
        let news = (neighbour.address, neighbour.mac);
        self.untold -= 1;
        self.tell_from = (self.tell_from + passed) % self.sorted.len();
        Some(news)
    }
}

/// Changes a neighbour and keeps the number of those with news right.
fn note_news<R>(
    untold: &mut usize,
    neighbour: &mut Neighbour,
    change: impl FnOnce(&mut Neighbour) -> R,
) -> R {
    *untold -= usize::from(neighbour.is_news());
    let result = change(neighbour);
    *untold += usize::from(neighbour.is_news());
    result
}

#[cfg(test)]
#[path = "neighbours_tests.rs"]
mod tests;
