//! What was counted of pools and servers that are configured no more. The sums over all pools never fall, so it stays in them.

use super::limits::{LEFT_POOLS_MAX, LEFT_SERVERS_MAX};
use super::totals::{PoolTotals, Totals};
use tidegate_channel::counters::{
    LinkCounters, LoopCounters, PoolCounters, ServerCounters, SocketCounters, StackCounters,
};
use tidegate_channel::histogram::Histogram;
use tidegate_channel::statistics::WorkerStatistics;
use tidegate_config::Config;

/// Of what a worker counted under `before` that which it does not count on under `after`: a pool goes on if there is one of its name, a
/// server if its pool has one at its address.
pub fn of_page(before: &Config, after: &Config, counted: &WorkerStatistics) -> WorkerStatistics {
    let mut left = WorkerStatistics {
        worker: LoopCounters::default(),
        stack: StackCounters::default(),
        sockets: SocketCounters::default(),
        link: LinkCounters::default(),
        queues: Vec::new(),
        ..counted.clone()
    };
    let mut servers = left.servers.iter_mut().zip(&mut left.latencies);
    let pools = left.pools.iter_mut().zip(&mut left.commands);
    for (pool, (counters, commands)) in before.pools.iter().zip(pools) {
        let goes_on = after.pools.iter().find(|other| other.name == pool.name);
        if goes_on.is_some() {
            *counters = PoolCounters::default();
            commands.clear();
        }
        for (server, (counters, latency)) in pool.servers.iter().zip(&mut servers) {
            let mut others = goes_on.into_iter().flat_map(|pool| &pool.servers);
            if others.any(|other| other.address == server.address) {
                *counters = ServerCounters::default();
                *latency = Histogram::default();
            }
        }
    }
    left
}

impl Totals {
    /// Lets pools and servers that are not in `config` share an entry, if there are too many. It has no name, which none of theirs can be.
    pub fn fold(&mut self, config: &Config) {
        let is_left = |name: &str| config.pools.iter().all(|pool| pool.name != name);
        if self.pools.keys().filter(|name| is_left(name)).count() > LEFT_POOLS_MAX {
            let pools = std::mem::take(&mut self.pools);
            let mut shared = PoolTotals::default();
            for (name, pool) in pools {
                if is_left(&name) {
                    shared.add(pool);
                } else {
                    self.pools.insert(name, pool);
                }
            }
            shared.fold(|_| true);
            self.pools.insert(String::new(), shared);
        }
        for pool in &config.pools {
            let is_left = |address: &str| {
                let mut servers = pool.servers.iter();
                servers.all(|server| server.address.to_string() != address)
            };
            if let Some(totals) = self.pools.get_mut(&pool.name) {
                let most = pool.servers.len() + LEFT_SERVERS_MAX;
                if totals.servers.len() > most {
                    totals.fold(is_left);
                }
            }
        }
    }
}

impl PoolTotals {
    fn add(&mut self, other: Self) {
        self.counters.add(&other.counters);
        for (name, traffic) in &other.commands {
            self.commands.entry(name.clone()).or_default().add(traffic);
        }
        for (key, server) in other.servers {
            let totals = self.servers.entry(key).or_default();
            totals.add(&server.counters, &server.latency);
        }
    }

    /// Servers whose address has left share an entry.
    fn fold(&mut self, is_left: impl Fn(&str) -> bool) {
        for ((name, address), server) in std::mem::take(&mut self.servers) {
            let key = if is_left(&address) {
                Default::default()
            } else {
                (name, address)
            };
            let totals = self.servers.entry(key).or_default();
            totals.add(&server.counters, &server.latency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::totals::tests::{config, counted};
    use tidegate_config::Endpoint;

    fn requests(totals: &Totals) -> u64 {
        let pools = totals.pools.values();
        pools.map(|pool| pool.traffic().requests).sum()
    }

    #[test]
    fn what_is_configured_no_more_is_what_the_new_page_lacks() {
        let before = config();
        let mut after = before.clone();
        let page = counted(7, 100);
        let nothing = |page: &WorkerStatistics| {
            let mut totals = Totals::default();
            totals.add(&before, 0, page);
            let server = &totals.pools["sessions"].servers[&("b".into(), "127.0.0.1:6380".into())];
            (
                requests(&totals),
                server.counters.requests,
                totals.workers[&0].requests,
            )
        };
        assert_eq!(nothing(&of_page(&before, &after, &page)), (0, 0, 0));
        after.pools[0].servers.remove(1);
        assert_eq!(nothing(&of_page(&before, &after, &page)), (0, 7, 0));
        after.pools[0].name = "renamed".into();
        assert_eq!(nothing(&of_page(&before, &after, &page)), (7, 7, 7));
    }

    #[test]
    fn names_that_come_and_go_cost_no_memory_and_stay_in_the_sums() {
        let now = config();
        let mut other = now.clone();
        let mut totals = Totals::default();
        for number in 0..3 * LEFT_POOLS_MAX {
            other.pools[0].name = format!("pool-{number}");
            totals.add(&other, 0, &counted(1, 100));
            totals.fold(&now);
        }
        assert!(totals.pools.len() <= LEFT_POOLS_MAX + 3);
        assert_eq!(requests(&totals), 3 * LEFT_POOLS_MAX as u64);
        let mut other = now.clone();
        for number in 0..3 * LEFT_SERVERS_MAX {
            let address = format!("127.9.{}.{}:1", number / 200, number % 200 + 1);
            other.pools[0].servers[1].address = Endpoint::Ip(address.parse().unwrap());
            totals.add(&other, 0, &counted(1, 100));
            totals.fold(&now);
        }
        let pool = &totals.pools["sessions"];
        assert!(pool.servers.len() <= LEFT_SERVERS_MAX + 3);
        let servers = pool.servers.values();
        let requests: u64 = servers.map(|server| server.counters.requests).sum();
        assert_eq!(requests, 3 * LEFT_SERVERS_MAX as u64);
    }
}
