//! References to pools and servers, in their new numbers.

use super::GONE;
use super::change::Change;
use crate::meter::UNTIMED;
use crate::pinned::Purpose;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::Event;
use crate::streams::ServerId;
use crate::waits::WaitFor;

/// The new number. Entries that are not in use have old numbers of anything, and are written before they are read.
fn new_number(to: &[u16], old: u16) -> u16 {
    let new = to.get(usize::from(old)).copied();
    new.filter(|&new| new != GONE).unwrap_or(0)
}

impl Proxy {
    pub(super) fn translate(&mut self, change: &mut Change) {
        let pool = |old: u16| new_number(&change.pools_to, old);
        let server = |old: u16| new_number(&change.servers_to, old);
        for client in &mut self.clients {
            client.pool = pool(client.pool);
            if let WaitFor::Server(of) = &mut client.wait.what {
                *of = server(*of);
            }
        }
        for link in &mut self.links {
            link.server = server(link.server);
        }
        for pin in self.pins.all_mut() {
            pin.pool = pool(pin.pool);
        }
        for fragment in self.fragments.all_mut() {
            fragment.server = server(fragment.server);
        }
        for split in self.splits.all_mut() {
            if let Some(lost) = &mut split.lost {
                lost.server = server(lost.server);
            }
        }
        for event in &mut self.events {
            let (Event::ServerFailed { server: of, .. }
            | Event::ServerEjected { server: of }
            | Event::ServerReturned { server: of }) = event;
            *of = ServerId(server(of.0));
        }
        self.notes.translate(pool, server);
        if let Some(watch) = &mut self.key_watch {
            let to = |old: u16| change.pools_to.get(usize::from(old)).copied();
            watch.translate(|old| to(old).unwrap_or(GONE));
        }
        self.set_notes();
        self.translate_former(change);
    }

    /// Whose the keys were before.
    fn translate_former(&mut self, change: &Change) {
        for (p, pool) in self.pools.iter_mut().enumerate() {
            let Some(former) = &mut pool.former else {
                continue;
            };
            let is_new = change.routes_as_before.get(p) == Some(&false);
            for (index, server) in former.servers.iter_mut().enumerate() {
                let old = if is_new {
                    change.servers_began[p] + index as u16
                } else {
                    *server
                };
                let new = change.servers_to.get(usize::from(old));
                *server = new.copied().unwrap_or(GONE);
            }
        }
    }

    /// Requests under way get no longer than new ones would, counted from now. What may wait for hours goes on to.
    pub(super) fn shorten_deadlines(&mut self, change: &Change) {
        if change.shorter.iter().all(Option::is_none) {
            return;
        }
        for link in self.links.iter_mut().filter(|link| link.open) {
            let pool = usize::from(self.servers[usize::from(link.server)].pool);
            let Some(shorter) = change.shorter.get(pool).copied().flatten() else {
                continue;
            };
            let is_patient = link.pin != NIL && self.pins[link.pin].purpose != Purpose::Transaction;
            if is_patient {
                continue;
            }
            // The time of an upload runs when all of it is sent.
            let counted =
                link.fifo.len() - usize::from(link.writer != NIL && !link.fifo.is_empty());
            for entry in link.fifo.iter_mut().take(counted) {
                if entry.sent_us == UNTIMED {
                    continue;
                }
                // As if it had been sent when it would have the same deadline.
                let due_us = match shorter.before_us {
                    Some(before_us) => entry.sent_us + before_us,
                    None => u64::MAX,
                };
                let due_us = due_us.min(self.now_us + shorter.timeout_us);
                entry.sent_us = due_us.saturating_sub(shorter.timeout_us);
            }
        }
    }
}
