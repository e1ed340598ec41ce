//! Another configuration, as the worker takes it up: proxy first, then the network below.

use super::World;
use super::server::ModelServer;
use tidegate_config::{Endpoint, PoolConfig, WorkerConfig};
use tidegate_proxy::{Change, GONE, Proxy};

impl World {
    /// Takes up these pools under the limits that there are.
    pub fn change(&mut self, pools: &[PoolConfig]) {
        let limits = self.limits.clone();
        self.change_all(pools, &limits);
    }

    /// The same with other limits.
    pub fn change_all(&mut self, pools: &[PoolConfig], limits: &WorkerConfig) {
        let left = self.proxy.left();
        let old = (&self.pools[..], &self.limits);
        let meters = Proxy::private_meters(pools);
        let change = Change::new(old, (pools, limits), left, 7, meters);
        let mut change = change.expect("not too much leaves");
        self.proxy
            .reconfigure(&mut self.streams, &mut change, self.now_us);
        self.follow(&change, pools);
        drop(change);
        self.pools = pools.to_vec();
        self.limits = limits.clone();
    }

    fn follow(&mut self, change: &Change, pools: &[PoolConfig]) {
        let before: Vec<Endpoint> = addresses(&self.pools);
        let mut old: Vec<Option<ModelServer>> = self.servers.drain(..).map(Some).collect();
        let to = change.servers_to();
        assert_eq!(
            to.len(),
            old.len(),
            "every server has a new number, or none"
        );
        let protocols = pools
            .iter()
            .flat_map(|p| p.servers.iter().map(|_| p.protocol));
        for ((place, protocol), address) in (0..).zip(protocols).zip(addresses(pools)) {
            let from = to.iter().position(|&to| to == place);
            let server = if let Some(from) = from {
                old[from].take()
            } else {
                let shelf = &mut self.shelf;
                let kept = shelf
                    .iter()
                    .position(|(at, server)| *at == address && server.protocol == protocol);
                kept.map(|kept| shelf.remove(kept).1)
            };
            self.servers
                .push(server.unwrap_or_else(|| ModelServer::new(protocol)));
        }
        let mut leaving: Vec<(u16, ModelServer)> = Vec::new();
        for (from, server) in old.into_iter().enumerate() {
            let Some(server) = server else { continue };
            if to[from] != GONE {
                leaving.push((to[from], server));
            } else if let Some(address) = before.get(from) {
                self.shelf.push((address.clone(), server));
            }
        }
        leaving.sort_by_key(|(number, _)| *number);
        for (number, server) in leaving {
            assert_eq!(usize::from(number), self.servers.len(), "without gaps");
            self.servers.push(server);
        }
        self.streams.follow(to, change.listeners_to());
    }
}

fn addresses(pools: &[PoolConfig]) -> Vec<Endpoint> {
    let servers = pools.iter().flat_map(|pool| &pool.servers);
    servers.map(|server| server.address.clone()).collect()
}
