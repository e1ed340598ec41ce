//! The proxy of one worker: its tables, and the loop over streams on which something happened.

use crate::flavour::Flavour;
use crate::hold::HoldPool;
use crate::identity::Identity;
use crate::keys::KeyWatch;
use crate::limits::{
    EVENTS_MAX, EXCLUSIVE_IDLE_MAX, HOLDS_MAX, LINE_BYTES_MAX, LINK_REQUESTS_MAX,
    RESERVED_REQUESTS_SHARE, TICK_US,
};
use crate::meter::{AtHand, Commands, Turn};
use crate::notes::{NEVER_SLOW, Notes, Noting};
use crate::pinned::Pinned;
use crate::routing::Router;
use crate::slab::{NIL, Slab};
use crate::state::{
    Answer, Client, Event, Fragment, KeyRecord, Link, Pending, Pool, Role, Server, Split,
};
use crate::streams::{ServerId, StreamId, StreamStatus, Streams};
use crate::turned_away::turned_away_max;
use crate::turns::Share;
use crate::waits::WaitList;
use std::collections::VecDeque;
use tidegate_channel::counters::{PoolCounters, ServerCounters};
use tidegate_channel::flows::FlowSlots;
use tidegate_channel::meters::{Meters, OTHER_ROW, Row};
use tidegate_channel::statistics::StatisticsLayout;
use tidegate_config::{Compat, Partial, PoolConfig, WorkerConfig};
use tidegate_protocol::{REQUEST_TOKEN_BYTES_MAX, ReplyScanner, ReplyShape};

/// All sessions, server connections and requests of one worker.
pub struct Proxy {
    pub(crate) roles: Vec<Role>,
    pub(crate) clients: Vec<Client>,
    pub(crate) links: Vec<Link>,
    pub(crate) free_links: Vec<u32>,
    pub(crate) servers: Vec<Server>,
    pub(crate) pools: Vec<Pool>,
    /// Listener → pool.
    pub(crate) listeners: Vec<u16>,
    /// How many pools and servers are configured. Those behind them are on their way out.
    pub(crate) configured: crate::reconfigure::Left,
    pub(crate) pendings: Slab<Pending>,
    pub(crate) notes: Notes,
    pub(crate) key_watch: Option<Box<KeyWatch>>,
    pub(crate) splits: Slab<Split>,
    pub(crate) fragments: Slab<Fragment>,
    /// Clients with a server connection of their own.
    pub(crate) pins: Slab<Pinned>,
    /// Server connections that belong to a client, and how many there may be.
    pub(crate) own_links: usize,
    pub(crate) own_links_max: usize,
    /// Requests among those in flight that servers may keep for hours.
    pub(crate) resting: usize,
    pub(crate) keys: Slab<KeyRecord>,
    pub(crate) identities: Slab<Identity>,
    pub(crate) hold: HoldPool,
    /// Buffers for requests that are larger than a receive buffer.
    pub(crate) holds: Vec<Vec<u8>>,
    pub(crate) free_holds: Vec<u32>,
    /// By hold: the divided request that is taken in chunks through it.
    pub(crate) chunked: Vec<crate::chunks::Chunked>,
    /// For bytes that wrap around the end of a receive ring.
    pub(crate) scratch: Vec<u8>,
    /// Per server of the pool at hand, while a request is divided.
    pub(crate) parts: Vec<crate::split::Part>,
    pub(crate) touched: Vec<u16>,
    /// Of each key of the request at hand: the position of its server in the pool.
    pub(crate) owners: Vec<u16>,
    /// What several servers tell about themselves, while it is joined.
    pub(crate) fields: crate::broadcast::Fields,
    pub(crate) table_waiting: WaitList,
    /// Clients that have had their share of a turn and have more to ask. They are in the lists of their pools.
    pub(crate) waiting_for_turn: usize,
    /// Clients of more than one pool share this turn.
    pub(crate) has_tenants: bool,
    /// Whose list was visited last.
    pub(crate) next_pool: usize,
    /// The client of such a list that is visited; [`NIL`]: none.
    pub(crate) at_turn: u32,
    /// Server connections with more replies than their pool's share of a turn.
    pub(crate) links_waiting: VecDeque<u32>,
    /// Turns so far.
    pub(crate) turn_number: u64,
    /// Replies that may still be read of the server connection at hand.
    pub(crate) replies_left: u32,
    /// A server connection for which a client was called that waits elsewhere now; [`NIL`]: none.
    pub(crate) left_link: u32,
    /// A table entry came free since waiting clients were last woken.
    pub(crate) freed: bool,
    pub(crate) stall_queue: VecDeque<(u64, u32)>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) limits: ProxyLimits,
    pub(crate) now_us: u64,
    pub(crate) next_tick_us: u64,
    pub(crate) next_preconnect_us: u64,
    /// No ejected server returns before; `u64::MAX`: there is none.
    pub(crate) next_return_us: u64,
    /// Clients that wait for a server or a connection to it.
    pub(crate) waiting: usize,
    /// Open server connections that are not plain.
    pub(crate) flavoured: u32,
    /// When to look next which of those have nothing to do.
    pub(crate) next_flavour_look_us: u64,
    /// A connection was wanted and all were taken: one that is idle and not plain gives way.
    pub(crate) crowded: bool,
    pub(crate) in_flight: usize,
    /// Requests to servers so far.
    pub(crate) asked: u64,
    /// How often a server connection was taken out of use because a client does not take its reply.
    pub(crate) reliefs: u64,
    pub(crate) clients_open: usize,
    /// Pools that have clients.
    pub(crate) pools_in_use: usize,
    /// Streams of clients that were turned away and are not gone, the first of them in front.
    pub(crate) turned_away: VecDeque<u32>,
    /// Clients accepted so far.
    pub(crate) accepted: u64,
    /// Microseconds since 1970 at the zero of the clock.
    pub(crate) wall_clock_us: u64,
    pub(crate) draining: bool,
    /// When to look next after what is configured no more; `u64::MAX`: nothing of that is left.
    pub(crate) next_leave_us: u64,
    /// Until then connections of servers that left may still take the place of others.
    pub(crate) departed_until_us: u64,
    pub(crate) seed: u64,
    /// Where requests are counted by command and by server.
    pub(crate) meters: Meters,
    /// The request that is being looked at.
    pub(crate) at_hand: AtHand,
    /// What the turn came to so far.
    pub(crate) turn: Turn,
}

/// The operator's limits, as the proxy uses them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxyLimits {
    pub client_requests: u32,
    /// Entries for requests that are kept for clients with none under way.
    pub reserved_requests: usize,
    pub clients_max: usize,
    pub hold_bytes: usize,
    pub client_reply_hold_bytes: usize,
    pub client_stall_us: u64,
}

impl ProxyLimits {
    pub fn new(limits: &WorkerConfig) -> Self {
        Self {
            client_requests: limits.client_requests_max,
            reserved_requests: reserved_requests(limits),
            clients_max: limits.clients_max as usize,
            hold_bytes: limits.request_hold_bytes as usize,
            client_reply_hold_bytes: usize::try_from(limits.client_reply_hold_bytes)
                .unwrap_or(usize::MAX),
            client_stall_us: u64::from(limits.client_stall_ms) * 1000,
        }
    }
}

/// One for each client, so that none waits for others with its first request, but no more than a part of all.
fn reserved_requests(limits: &WorkerConfig) -> usize {
    let part = limits.requests_max as usize / RESERVED_REQUESTS_SHARE;
    part.min(limits.clients_max as usize)
}

impl Proxy {
    /// A proxy whose latencies nobody sees. `slots`: see [`Streams::slots`].
    pub fn new(
        pools: &[PoolConfig],
        limits: &WorkerConfig,
        slots: usize,
        seed: u64,
        now_us: u64,
    ) -> Self {
        let meters = Self::private_meters(pools);
        Self::with_meters(pools, limits, slots, seed, now_us, meters)
    }

    /// Rows for these pools that nobody reads.
    pub fn private_meters(pools: &[PoolConfig]) -> Meters {
        Meters::private(StatisticsLayout {
            queues: 0,
            pools: pools.len(),
            servers: pools.iter().map(|pool| pool.servers.len()).sum(),
            flows: FlowSlots::default(),
        })
    }

    /// Reserves everything. The rows of `meters` are for these pools and servers.
    pub fn with_meters(
        pools: &[PoolConfig],
        limits: &WorkerConfig,
        slots: usize,
        seed: u64,
        now_us: u64,
        meters: Meters,
    ) -> Self {
        let mut servers = Vec::new();
        let mut listeners = Vec::new();
        let mut states = Vec::new();
        for (p, pool) in pools.iter().enumerate() {
            listeners.extend(pool.listen.iter().map(|_| p as u16));
            let first_server = servers.len() as u16;
            servers.extend((0..pool.servers.len()).map(|index| {
                let row = meters.server(usize::from(first_server) + index);
                new_server(p as u16, index, pool, row)
            }));
            let commands = Commands::new(&meters, p);
            states.push(new_pool(pool, first_server, seed ^ p as u64, commands));
        }
        let configured = crate::reconfigure::Left {
            servers: servers.len(),
            pools: states.len(),
            ..crate::reconfigure::Left::default()
        };
        let other = meters.command(0, OTHER_ROW);
        let links_max = limits.server_connections_max as usize;
        let requests = limits.requests_max as usize;
        let hold_bytes = limits.request_hold_bytes as usize;
        let holds = HOLDS_MAX.min(limits.clients_max as usize).max(1);
        let scratch = (hold_bytes + REQUEST_TOKEN_BYTES_MAX)
            .max(limits.client_buffer_bytes as usize)
            .max(LINE_BYTES_MAX);
        let hold_capacity = hold_bytes + REQUEST_TOKEN_BYTES_MAX;
        let most_servers = pools.iter().map(|p| p.servers.len()).max().unwrap_or(0);
        Self {
            roles: vec![Role::Free; slots],
            clients: (0..slots).map(|_| Client::new(0, now_us, other)).collect(),
            links: (0..links_max).map(|_| new_link()).collect(),
            free_links: (0..links_max as u32).rev().collect(),
            servers,
            pools: states,
            listeners,
            configured,
            pendings: Slab::new(requests),
            notes: Notes::new(requests),
            key_watch: None,
            splits: Slab::new(requests),
            fragments: Slab::new(requests),
            pins: Slab::new(slots),
            own_links: 0,
            own_links_max: own_connections(pools, links_max),
            resting: 0,
            keys: Slab::new(limits.split_keys_max as usize),
            identities: Slab::new(limits.clients_max as usize),
            hold: HoldPool::new(limits.reply_hold_bytes),
            holds: (0..holds)
                .map(|_| Vec::with_capacity(hold_capacity))
                .collect(),
            free_holds: (0..holds as u32).rev().collect(),
            chunked: vec![crate::chunks::Chunked::NONE; holds],
            scratch: vec![0; scratch],
            parts: vec![crate::split::Part::default(); most_servers],
            touched: Vec::with_capacity(most_servers),
            owners: Vec::with_capacity(limits.split_keys_max as usize),
            fields: crate::broadcast::Fields::new(),
            table_waiting: WaitList::EMPTY,
            waiting_for_turn: 0,
            has_tenants: false,
            next_pool: 0,
            at_turn: NIL,
            links_waiting: VecDeque::with_capacity(links_max),
            turn_number: 0,
            replies_left: 0,
            left_link: NIL,
            freed: false,
            stall_queue: VecDeque::with_capacity(slots),
            events: VecDeque::with_capacity(EVENTS_MAX),
            limits: ProxyLimits::new(limits),
            now_us,
            next_tick_us: now_us + TICK_US,
            next_preconnect_us: now_us,
            next_return_us: u64::MAX,
            waiting: 0,
            flavoured: 0,
            next_flavour_look_us: now_us,
            crowded: false,
            in_flight: 0,
            asked: 0,
            reliefs: 0,
            clients_open: 0,
            pools_in_use: 0,
            turned_away: VecDeque::with_capacity(turned_away_max(limits.clients_max as usize)),
            accepted: 0,
            wall_clock_us: 0,
            draining: false,
            next_leave_us: u64::MAX,
            departed_until_us: 0,
            seed,
            at_hand: AtHand::new(other, 0),
            turn: Turn::new(other),
            meters,
        }
    }

    /// Works on every stream that is ready, until none is, and on some of what is more than a share of a turn: see [`Proxy::has_more`].
    // A function of its own keeps the layers apart in profiles; it is called once per burst.
    #[inline(never)]
    pub fn run<S: Streams>(&mut self, streams: &mut S, now_us: u64) {
        self.now_us = now_us;
        let mut visits = self.begin_turn();
        loop {
            while let Some(id) = streams.next_ready() {
                match self.roles[id.0 as usize] {
                    Role::Client => self.client_ready(streams, id.0),
                    Role::Link(link) => self.link_ready(streams, link),
                    Role::Free => self.accept(streams, id),
                    Role::TurnedAway => self.see_off(streams, id),
                }
            }
            if self.wake_tables(streams) {
                continue;
            }
            if !self.has_more() || !self.go_on_with_more(streams, &mut visits) {
                return self.end_turn();
            }
        }
    }

    /// Whether clients or replies wait for the next turn. Nothing else brings it about.
    #[inline]
    pub fn has_more(&self) -> bool {
        self.waiting_for_turn > 0 || !self.links_waiting.is_empty()
    }

    /// Tells what time it is for people, which is `unix_us` microseconds since 1970 when the clock of the proxy shows `now_us`. Asked
    /// for by clients only, so now and then is often enough.
    pub fn set_wall_clock(&mut self, now_us: u64, unix_us: u64) {
        self.wall_clock_us = unix_us.wrapping_sub(now_us);
    }

    /// Requests that servers have not answered: how much is likely to come back soon.
    pub fn owed(&self) -> usize {
        self.in_flight.saturating_sub(self.resting)
    }

    /// Requests that servers were asked so far.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Client connections open.
    pub fn clients_open(&self) -> usize {
        self.clients_open
    }

    /// Finishes what is under way, reads no new requests and closes clients as they are done.
    pub fn drain<S: Streams>(&mut self, streams: &mut S, now_us: u64) {
        self.now_us = now_us;
        self.draining = true;
        for slot in 0..self.roles.len() {
            if self.roles[slot] == Role::Client {
                streams.mark_ready(StreamId(slot as u32));
            }
        }
    }

    /// Resets every connection, of clients and of servers: who waits for something learns that it does not come. Nothing is done here
    /// after that.
    pub fn cut_off<S: Streams>(&mut self, streams: &mut S) {
        for (slot, role) in self.roles.iter().enumerate() {
            if *role != Role::Free {
                streams.abort(StreamId(slot as u32));
            }
        }
    }

    /// Whether every client is gone.
    pub fn is_drained(&self) -> bool {
        self.clients_open == 0
    }

    /// Counts of one pool, in configuration order.
    pub fn pool_counters(&self, pool: usize) -> PoolCounters {
        self.pools[pool].counters
    }

    /// Counts of one server, by [`ServerId`].
    pub fn server_counters(&self, server: usize) -> ServerCounters {
        let state = &self.servers[server];
        let mut counters = state.counters;
        counters.ejected = u64::from(state.ejected_until_us != 0);
        counters
    }

    /// The next thing worth a line in the log.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    fn accept<S: Streams>(&mut self, streams: &mut S, id: StreamId) {
        let listener = streams.listener(id);
        let Some((listener, &pool)) =
            listener.and_then(|l| Some((l, self.listeners.get(l.0 as usize)?)))
        else {
            // A stream that we released can still be in the ready list.
            return;
        };
        if matches!(streams.status(id), StreamStatus::Closed(_)) || self.draining {
            streams.release(id);
            return;
        }
        if self.pools[pool as usize].is_full() {
            return self.turn_away(streams, id, pool);
        }
        self.accepted += 1;
        let watched = self.clients[id.0 as usize].watched;
        let other = self.pools[pool as usize].commands.other();
        self.clients[id.0 as usize] = Client {
            watched,
            listener: listener.0,
            id: self.accepted,
            dialect: self.pools[pool as usize].parser(),
            mode: self.pools[pool as usize].first_mode(),
            ..Client::new(pool, self.now_us, other)
        };
        self.roles[id.0 as usize] = Role::Client;
        self.clients_open += 1;
        let counters = &mut self.pools[pool as usize].counters;
        self.pools_in_use += usize::from(counters.clients == 0);
        counters.clients += 1;
        counters.client_connections += 1;
        self.client_ready(streams, id.0);
    }

    #[inline]
    pub(crate) fn pool_of(&mut self, client: u32) -> &mut Pool {
        &mut self.pools[self.clients[client as usize].pool as usize]
    }

    /// Counts a reply that cannot be held under the limit that it met, and tells what its client gets instead.
    #[cold]
    pub(crate) fn not_held(&mut self, pool: u16, fault: crate::Fault) -> &'static str {
        let pool = &mut self.pools[pool as usize];
        if fault == crate::Fault::OverHold {
            pool.counters.replies_over_client_hold += 1;
        } else {
            pool.counters.replies_over_hold += 1;
        }
        pool.text(fault)
    }

    /// What a client gets for whom there is no room to hold what the proxy would answer.
    #[cold]
    pub(crate) fn no_room(&mut self, client: u32) -> Answer {
        let pool = self.clients[client as usize].pool;
        Answer::Text(self.not_held(pool, crate::Fault::HoldFull))
    }

    #[inline]
    pub(crate) fn server_id(&self, pool: u16, index: usize) -> ServerId {
        ServerId(self.pools[pool as usize].first_server + index as u16)
    }
}

/// How many own connections there may be in all: never so many that a server could not have its shared ones.
pub(crate) fn own_connections(pools: &[PoolConfig], links_max: usize) -> usize {
    let wanted = pools.iter().map(|pool| pool.own_connections_max as usize);
    let shared = pools
        .iter()
        .map(|pool| pool.servers.len() * pool.server_connections as usize);
    wanted
        .sum::<usize>()
        .min(links_max.saturating_sub(shared.sum()))
}

pub(crate) fn new_server(pool: u16, index: usize, config: &PoolConfig, row: Row) -> Server {
    Server {
        pool,
        index,
        connections: config.server_connections,
        name: config.servers[index].name.as_str().into(),
        links: vec![NIL; Flavour::count(config) * config.server_connections as usize],
        idle: Vec::with_capacity(EXCLUSIVE_IDLE_MAX),
        refused: vec![None; Flavour::count(config)],
        relieved: 0,
        relieved_at: 0,
        failures: 0,
        ejected_until_us: 0,
        waiting: WaitList::EMPTY,
        preconnected: false,
        named: 0,
        leave_by_us: 0,
        counters: ServerCounters::default(),
        row,
    }
}

pub(crate) fn new_pool(
    config: &PoolConfig,
    first_server: u16,
    seed: u64,
    commands: Commands,
) -> Pool {
    Pool {
        name: config.name.as_str().into(),
        protocol: config.protocol,
        router: Router::new(config, seed),
        first_server,
        servers: config.servers.len() as u16,
        timeout_us: config
            .timeout_ms
            .filter(|&ms| ms > 0)
            .map(|ms| u64::from(ms) * 1000),
        noting: match config.slowlog_us {
            Some(_) => Noting::Slow,
            None => Noting::Nothing,
        },
        slow_us: config.slowlog_us.map_or(NEVER_SLOW, u64::from),
        eject: config.auto_eject_hosts,
        failure_limit: config.server_failure_limit,
        retry_us: u64::from(config.server_retry_timeout_ms) * 1000,
        preconnect: config.preconnect,
        databases: config.databases as u16,
        database: config.database as u16,
        client_auth: config.redis_auth.clone().or(config.memcached_auth.clone()),
        client_user: config.redis_user.clone().or(config.memcached_user.clone()),
        clients_max: config.clients_max.unwrap_or(u32::MAX),
        own_connections_max: config.own_connections_max,
        server_auth: config.server_auth.clone(),
        server_user: config.server_user.clone(),
        misses: config.partial == Partial::Misses && config.compat == Compat::None,
        twemproxy: config.compat == Compat::Twemproxy,
        any: 0,
        routed: 0,
        former: None,
        leave_by_us: 0,
        share: Share::default(),
        turn_waiting: WaitList::EMPTY,
        counters: PoolCounters::default(),
        commands,
    }
}

fn new_link() -> Link {
    Link {
        stream: StreamId(NIL),
        open: false,
        server: 0,
        flavour: Flavour::PLAIN,
        position: NIL,
        writer: NIL,
        pin: NIL,
        fifo: VecDeque::with_capacity(LINK_REQUESTS_MAX),
        waiting: WaitList::EMPTY,
        greetings: 0,
        expired: 0,
        scanner: ReplyScanner::new(ReplyShape::Line),
        scanning: false,
        measured: 0,
        measured_done: false,
        out_of_step: false,
        progress_us: 0,
        failure_noted_us: 0,
        numbered: 0,
        began_us: 0,
        unseen: false,
        read_later: false,
    }
}
