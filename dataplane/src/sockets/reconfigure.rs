//! Other listeners and servers, taken up between two turns.

use crate::sockets::accept::{Exchange, LISTENER_WORDS};
use crate::sockets::endpoint::Endpoint;
use crate::sockets::listen::{self, ListenError, Listening};
use crate::sockets::network::SocketNetwork;
use crate::sockets::slot::Role;
use std::collections::BTreeMap;
use tidegate_config::{AckMode, Config, IdleMode};
use tidegate_proxy::{Change, GONE};

/// A listener of the new configuration.
pub(crate) enum NewDoor {
    /// The old one with this number, with another backlog and other probes if they changed.
    Stays(usize, Option<(u32, Option<u32>)>),
    /// One that was opened for it. `None`: it is in use.
    Opened(Option<Listening>),
}

/// What the sockets of a worker are to be from now on, made in advance. Afterwards it has what was replaced.
pub struct SocketChange {
    exchange: Exchange,
    /// The backlogs of those that were opened and do not listen yet.
    unheard: Vec<(usize, u32)>,
    /// Those that are configured, with room for those that leave.
    servers: Vec<Endpoint>,
    ack: AckMode,
    spin: bool,
}

impl SocketChange {
    /// Makes it; `opened` are the sockets of listening addresses that are new, by their number. There are at most `servers_max` servers
    /// with those that leave.
    pub(crate) fn new(
        old: &Config,
        new: &Config,
        opened: Vec<(u32, Listening)>,
        servers_max: usize,
    ) -> Self {
        let places: BTreeMap<&Endpoint, (usize, usize)> = old
            .listeners()
            .enumerate()
            .map(|(place, (pool, listen))| (&listen.endpoint, (place, pool)))
            .collect();
        let mut opened: BTreeMap<u32, Listening> = opened.into_iter().collect();
        let mut unheard = Vec::new();
        let mut doors = Vec::new();
        for (number, (pool, listen)) in new.listeners().enumerate() {
            let pool = &new.pools[pool];
            let options = (pool.backlog, pool.client_keepalive_s);
            let place = places.get(&listen.endpoint);
            let door = opened.remove(&(number as u32));
            if let Some(&(place, before)) = place {
                // If it came along, it is one that is shared, and the same.
                let before = &old.pools[before];
                let changed = (before.backlog, before.client_keepalive_s) != options;
                doors.push(NewDoor::Stays(place, changed.then_some(options)));
                continue;
            }
            if door.as_ref().is_some_and(|listening| !listening.shared) {
                unheard.push((number, pool.backlog));
            }
            doors.push(NewDoor::Opened(door));
        }
        let mut servers = Vec::with_capacity(servers_max);
        servers.extend(new.servers().map(|(_, server)| server.address.clone()));
        Self {
            exchange: Exchange::new(doors, places.len()),
            unheard,
            servers,
            ack: new
                .ports
                .first()
                .map_or(AckMode::Immediate, |port| port.ack),
            spin: new.worker.idle == IdleMode::Spin,
        }
    }

    /// From now on connections to the new addresses succeed. Until then their sockets only keep the addresses.
    pub fn listen(&self) -> Result<(), ListenError> {
        for &(number, backlog) in &self.unheard {
            if let Some(NewDoor::Opened(Some(listening))) = self.exchange.new.get(number) {
                listen::begin(&listening.socket, backlog)?;
            }
        }
        Ok(())
    }
}

impl SocketNetwork {
    pub(crate) fn take_up(&mut self, proxy: &Change, change: &mut SocketChange) {
        let (servers_to, listeners_to) = (proxy.servers_to(), proxy.listeners_to());
        let configured = proxy.configured_servers();
        let streams = &mut self.streams;
        std::mem::swap(&mut streams.servers, &mut change.servers);
        for (old, endpoint) in change.servers.drain(..).enumerate() {
            let to = usize::from(servers_to.get(old).copied().unwrap_or(GONE));
            // What is dropped here may have a path; that is memory given back, not taken.
            if to != usize::from(GONE) && to >= configured {
                // Those that leave stand behind the others in the order in which they stood.
                debug_assert_eq!(to, streams.servers.len(), "numbers without gaps");
                streams.servers.push(endpoint);
            }
        }
        for slot in &mut streams.slots {
            if let Role::Client(listener) = &mut slot.role {
                let to = listeners_to.get(usize::from(*listener)).copied();
                *listener = to.unwrap_or(GONE);
            }
        }
        streams.ack = change.ack;
        self.spin = change.spin;
        // Numbers of listeners in events that wait are the old ones; epoll tells again who has clients.
        self.events
            .retain(|(word, _)| *word as u32 == u32::MAX || (*word as u32) < LISTENER_WORDS);
        self.acceptor
            .exchange(&mut change.exchange, &mut self.streams);
    }
}
