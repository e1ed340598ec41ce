//! Everything that a change needs, made in advance.

use super::GONE;
use crate::limits::{LEAVING_POOLS_MAX, LEAVING_SERVERS_MAX};
use crate::meter::Commands;
use crate::notes::Notes;
use crate::proxy::{new_pool, new_server, own_connections};
use crate::routing::Router;
use crate::slab::Slab;
use crate::split::Part;
use crate::state::{Former, Fragment, KeyRecord, Pending, Pool, Server, Split};
use tidegate_channel::meters::Meters;
use tidegate_config::{PoolConfig, WorkerConfig};

/// How much is configured no more and not at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Servers.
    pub servers: usize,
    /// Pools.
    pub pools: usize,
    /// Servers behind the configured ones in the tables, at their end or not: the next change takes those away that are.
    pub server_places: usize,
    /// Pools likewise.
    pub pool_places: usize,
}

/// Why a change cannot be made now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Too much is on its way out.
    #[error(
        "{servers} servers and {pools} pools would be on their way out of the configuration, of which there may be {LEAVING_SERVERS_MAX} and {LEAVING_POOLS_MAX}: wait until earlier ones are done, or change less at once"
    )]
    Leaving {
        /// Servers.
        servers: usize,
        /// Pools.
        pools: usize,
    },
    /// More servers than numbers.
    #[error(
        "{servers} servers, those that leave included, are more than there are numbers: change the configuration in two steps"
    )]
    Servers {
        /// How many there would be.
        servers: usize,
    },
}

/// A server with another number of shared connections than before.
pub(super) struct Relaid {
    pub server: u16,
    /// Places in the new number, and after the change those of before.
    pub links: Vec<u32>,
    pub connections_before: u32,
}

/// A timeout that is shorter than before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shorter {
    pub timeout_us: u64,
    /// `None`: there was none.
    pub before_us: Option<u64>,
}

/// Another configuration, ready to be taken up: see [`Proxy::reconfigure`](crate::Proxy::reconfigure).
pub struct Change {
    pub(super) pools: Vec<Pool>,
    pub(super) servers: Vec<Server>,
    pub(super) listeners: Vec<u16>,
    /// What is in force until then.
    pub(super) before: Left,
    /// What is configured.
    pub(super) configured: Left,
    /// For each new pool the old one that goes on in it, and for servers likewise.
    pub(super) pool_from: Vec<u16>,
    pub(super) server_from: Vec<u16>,
    /// Old number → new number; [`GONE`] for what is no more. Those behind the configured ones are known only when the change happens.
    pub(super) pools_to: Vec<u16>,
    pub(super) servers_to: Vec<u16>,
    /// The same of listeners: where clients belong, and where the address is.
    pub(super) clients_to: Vec<u16>,
    pub(super) listeners_to: Vec<u16>,
    /// By new pool: its keys have the servers that they had.
    pub(super) routes_as_before: Vec<bool>,
    /// By new pool: where the servers of the old one began.
    pub(super) servers_began: Vec<u16>,
    /// By new pool: clients have to say who they are, and had not before.
    pub(super) locks: Vec<bool>,
    /// By new pool: its timeout, if it is shorter than before.
    pub(super) shorter: Vec<Option<Shorter>>,
    pub(super) relaid: Vec<Relaid>,
    /// By old pool: somebody needs it.
    pub(super) alive: Vec<bool>,
    /// Pools that leave with all their servers: the first, how many, and the new number of the pool.
    pub(super) blocks: Vec<(u16, u16, u16)>,
    /// What nobody needs any more.
    pub(super) old_pools: Vec<Pool>,
    pub(super) old_servers: Vec<Server>,
    /// Where its pools and servers are counted, and after the change where they were before.
    pub(super) meters: Option<Meters>,
    pub(super) limits: WorkerConfig,
    pub(super) own_links_max: usize,
    pub(super) leave_us: u64,
    pub(super) pendings: Slab<Pending>,
    pub(super) notes: Notes,
    pub(super) splits: Slab<Split>,
    pub(super) fragments: Slab<Fragment>,
    pub(super) keys: Slab<KeyRecord>,
    pub(super) owners: Vec<u16>,
    pub(super) parts: Vec<Part>,
    pub(super) touched: Vec<u16>,
}

/// A configuration as the proxy knows it.
pub type Configured<'a> = (&'a [PoolConfig], &'a WorkerConfig);

impl Change {
    /// Makes what leads from `old`, which is in force, to `new`. `left`: what is on its way out already, or was a moment ago. `seed`
    /// decides the choices of routing at random. `meters` has the rows of `new`.
    pub fn new(
        (old, old_limits): Configured<'_>,
        (new, limits): Configured<'_>,
        left: Left,
        seed: u64,
        meters: Meters,
    ) -> Result<Self, ChangeError> {
        let count = |pools: &[PoolConfig]| pools.iter().map(|pool| pool.servers.len()).sum();
        let before = Left {
            servers: count(old),
            pools: old.len(),
            ..Left::default()
        };
        let configured = Left {
            servers: count(new),
            pools: new.len(),
            ..Left::default()
        };
        let mut change = Self {
            pools: Vec::with_capacity(new.len() + old.len() + left.pool_places),
            servers: Vec::with_capacity(configured.servers + before.servers + left.server_places),
            listeners: Vec::new(),
            before,
            configured,
            pool_from: vec![GONE; new.len()],
            server_from: vec![GONE; configured.servers],
            pools_to: Vec::with_capacity(old.len() + left.pool_places),
            servers_to: Vec::with_capacity(before.servers + left.server_places),
            clients_to: Vec::new(),
            listeners_to: Vec::new(),
            routes_as_before: vec![false; new.len()],
            servers_began: vec![0; new.len()],
            locks: vec![false; new.len()],
            shorter: vec![None; new.len()],
            relaid: Vec::new(),
            alive: Vec::with_capacity(old.len() + left.pool_places),
            blocks: Vec::with_capacity(old.len() + left.pool_places),
            old_pools: Vec::with_capacity(old.len() + left.pool_places),
            old_servers: Vec::with_capacity(before.servers + left.server_places),
            meters: None,
            limits: limits.clone(),
            own_links_max: own_connections(new, old_limits.server_connections_max as usize),
            leave_us: longest_us(old, limits),
            pendings: larger(old_limits.requests_max, limits.requests_max),
            notes: Notes::new(room(old_limits.requests_max, limits.requests_max)),
            splits: larger(old_limits.requests_max, limits.requests_max),
            fragments: larger(old_limits.requests_max, limits.requests_max),
            keys: larger(old_limits.split_keys_max, limits.split_keys_max),
            owners: Vec::with_capacity(limits.split_keys_max as usize),
            parts: Vec::new(),
            touched: Vec::new(),
        };
        for (p, pool) in new.iter().enumerate() {
            change.add_pool(old, p, pool, seed, &meters);
        }
        change.follow_listeners(old, new);
        let most = new.iter().map(|pool| pool.servers.len()).max().unwrap_or(0);
        change.parts = vec![Part::default(); most];
        change.touched = Vec::with_capacity(most);
        change.check(left)?;
        change.meters = Some(meters);
        Ok(change)
    }

    fn add_pool(
        &mut self,
        old: &[PoolConfig],
        p: usize,
        pool: &PoolConfig,
        seed: u64,
        meters: &Meters,
    ) {
        let first = self.servers.len();
        self.listeners.extend(pool.listen.iter().map(|_| p as u16));
        let servers = (0..pool.servers.len()).map(|index| {
            let row = meters.server(first + index);
            new_server(p as u16, index, pool, row)
        });
        self.servers.extend(servers);
        let mut state = new_pool(
            pool,
            first as u16,
            seed ^ p as u64,
            Commands::new(meters, p),
        );
        if let Some(o) = old.iter().position(|other| other.keeps_clients(pool)) {
            let before = &old[o];
            let began = old[..o]
                .iter()
                .map(|pool| pool.servers.len())
                .sum::<usize>();
            self.pool_from[p] = o as u16;
            self.servers_began[p] = began as u16;
            self.routes_as_before[p] = before.routes_as(pool);
            if !self.routes_as_before[p] {
                state.former = Some(Former {
                    router: Router::empty(),
                    servers: vec![GONE; before.servers.len()].into(),
                });
            }
            let has_lock =
                |pool: &PoolConfig| pool.redis_auth.is_some() || pool.memcached_auth.is_some();
            self.locks[p] = has_lock(pool) && !has_lock(before);
            let timeout = |pool: &PoolConfig| pool.timeout_ms.filter(|&ms| ms > 0);
            let longer = |before: Option<u32>, ms| before.is_none_or(|before| before > ms);
            let us = |ms: u32| u64::from(ms) * 1000;
            self.shorter[p] = timeout(pool)
                .filter(|&ms| longer(timeout(before), ms))
                .map(|ms| Shorter {
                    timeout_us: us(ms),
                    before_us: timeout(before).map(us),
                });
            for (index, place) in before.places(pool).into_iter().enumerate() {
                if let Some(place) = place {
                    self.follow_server(first + place, began + index, before.server_connections);
                }
            }
        }
        self.pools.push(state);
    }

    fn follow_server(&mut self, server: usize, from: usize, connections_before: u32) {
        self.server_from[server] = from as u16;
        let state = &self.servers[server];
        if state.connections != connections_before {
            self.relaid.push(Relaid {
                server: server as u16,
                links: Vec::new(),
                connections_before,
            });
        }
    }

    fn follow_listeners(&mut self, old: &[PoolConfig], new: &[PoolConfig]) {
        let all = |pools: &'_ [PoolConfig]| -> Vec<(usize, tidegate_config::Endpoint)> {
            let of = |(p, pool): (usize, &PoolConfig)| {
                let listen = pool.listen.clone().into_iter();
                listen.map(move |listen| (p, listen.endpoint))
            };
            pools.iter().enumerate().flat_map(of).collect()
        };
        let places: std::collections::BTreeMap<_, _> = all(new)
            .into_iter()
            .enumerate()
            .map(|(place, (pool, endpoint))| (endpoint, (place as u16, pool)))
            .collect();
        for (pool, endpoint) in all(old) {
            let found = places.get(&endpoint);
            let goes_on = found.filter(|(_, new)| usize::from(self.pool_from[*new]) == pool);
            let number = |found: Option<&(u16, usize)>| found.map_or(GONE, |(place, _)| *place);
            self.listeners_to.push(number(found));
            self.clients_to.push(number(goes_on));
        }
    }

    fn check(&self, left: Left) -> Result<(), ChangeError> {
        let stay = |from: &[u16]| from.iter().filter(|&&from| from != GONE).count();
        let servers = self.before.servers - stay(&self.server_from) + left.servers;
        let pools = self.before.pools - stay(&self.pool_from) + left.pools;
        if servers > LEAVING_SERVERS_MAX || pools > LEAVING_POOLS_MAX {
            return Err(ChangeError::Leaving { servers, pools });
        }
        let servers = self.configured.servers + servers;
        if servers >= usize::from(GONE) {
            return Err(ChangeError::Servers { servers });
        }
        Ok(())
    }

    /// Once it has happened: the new number of each server that there was, [`GONE`] for one without. Numbers from
    /// [`Self::configured_servers`] on are those of servers that are on their way out, below [`Self::servers_max`].
    pub fn servers_to(&self) -> &[u16] {
        &self.servers_to
    }

    /// Old listening address → new one, whatever pool it belongs to; [`GONE`] for one that is no more.
    pub fn listeners_to(&self) -> &[u16] {
        &self.listeners_to
    }

    /// How many servers are configured.
    pub fn configured_servers(&self) -> usize {
        self.configured.servers
    }

    /// The most servers that there are after the change, those that leave included.
    pub fn servers_max(&self) -> usize {
        self.servers.capacity().max(self.configured.servers)
    }
}

/// How long that which leaves has: as long as a reply may take, but at least what a worker that ends would give it.
fn longest_us(pools: &[PoolConfig], limits: &WorkerConfig) -> u64 {
    let timeouts = pools.iter().filter_map(|pool| pool.timeout_ms);
    let longest_ms = timeouts.max().unwrap_or(0).max(limits.drain_timeout_ms);
    u64::from(longest_ms) * 1000
}

/// Room for a table that grows.
fn larger<T>(old: u32, new: u32) -> Slab<T> {
    Slab::new(room(old, new))
}

fn room(old: u32, new: u32) -> usize {
    if new > old { new as usize } else { 0 }
}
