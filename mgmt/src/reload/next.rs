//! What workers will share, made beside what they share.

use crate::netlink::mirror::Mirror;
use crate::packets::mirror;
use crate::shared::{Network, Shared};
use crate::sockets::listeners::{SharedListeners, own};
use anyhow::Context;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use tidegate_channel::paths::PathWriter;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader};
use tidegate_config::Config;
use tidegate_dataplane::sockets::{ListenOptions, keep};

/// A configuration that is about to be in force.
pub struct Next {
    config: Config,
    layout: StatisticsLayout,
    network: NextNetwork,
    /// By worker: the new listening addresses that are its own.
    own: Vec<Vec<(u32, OwnedFd)>>,
}

/// Where bytes will come from.
pub enum NextNetwork {
    /// The way to the servers.
    Packets(Mirror, PathWriter),
    /// The sockets that workers share.
    Sockets(SharedListeners),
}

impl Next {
    /// Makes everything for `workers` workers.
    pub fn make(shared: &mut Shared, config: Config, workers: usize) -> anyhow::Result<Self> {
        let layout = StatisticsLayout::of(&config, shared.layout.queues);
        let mut sockets: Vec<Vec<(u32, OwnedFd)>> = (0..workers).map(|_| Vec::new()).collect();
        let network = match &shared.network {
            Network::Packets(_) => {
                let mirror = mirror(&config, &shared.plan);
                NextNetwork::Packets(mirror, PathWriter::create(layout.servers)?)
            }
            Network::Sockets(listeners) => {
                let followed = listeners.follow(&shared.config, &config)?;
                for (index, pool, address) in own(&shared.config, &config) {
                    let options = ListenOptions {
                        backlog: pool.backlog,
                        reuse_port: true,
                        keepalive_s: pool.client_keepalive_s,
                        mode: None,
                    };
                    for sockets in &mut sockets {
                        let socket = keep(address, &options)
                            .with_context(|| format!("pool {}", pool.name))?;
                        sockets.push((index, socket));
                    }
                }
                NextNetwork::Sockets(followed)
            }
        };
        Ok(Self {
            config,
            layout,
            network,
            own: sockets,
        })
    }

    /// Finds out how the servers are reached. Whether that is known of all of them.
    pub fn resolve(&mut self, shared: &mut Shared) -> bool {
        match (&mut self.network, &mut shared.network) {
            // The first worker looks for new neighbours once it has made ready.
            (NextNetwork::Packets(mirror, paths), Network::Packets(packets)) => {
                packets.expect(&shared.config, &self.config);
                packets.look(&self.config, mirror, paths) || self.config.is_on_dpdk()
            }
            _ => true,
        }
    }

    /// Whether the first worker has found those that it began to look for when it made ready.
    pub fn has_ways(&mut self, shared: &mut Shared) -> bool {
        match (&mut self.network, shared.packets_mut()) {
            (NextNetwork::Packets(mirror, paths), Some(packets)) if self.config.is_on_dpdk() => {
                packets.look(&self.config, mirror, paths)
            }
            _ => true,
        }
    }

    /// What goes to a worker: the descriptors, which listening addresses the last of them are, and the page it will count in. One that was
    /// `started_with` another configuration than what is in force keeps what is made at start.
    pub fn for_worker(
        &mut self,
        shared: &Shared,
        worker: usize,
        started_with: Option<&Config>,
    ) -> anyhow::Result<(Vec<OwnedFd>, Vec<u32>, StatisticsReader)> {
        let of_worker = started_with.map(|started_with| started_with.in_place_part(&self.config));
        let config = of_worker.as_ref().unwrap_or(&self.config);
        let (descriptors, page) = shared.start_with(worker, config, Some(&self.network), &[])?;
        let mut list = descriptors.into_list();
        let own = self.own.get_mut(worker).map(std::mem::take);
        let (opened, sockets): (Vec<u32>, Vec<OwnedFd>) =
            own.unwrap_or_default().into_iter().unzip();
        list.extend(sockets);
        anyhow::ensure!(
            list.len() <= tidegate_channel::control::DESCRIPTORS_MAX,
            "too many new listening addresses at once: add them in steps"
        );
        Ok((list, opened, page))
    }

    /// From now on this is what workers share. Returns listening addresses that are no more.
    pub fn take_over(self, shared: &mut Shared) -> Vec<SocketAddr> {
        let addresses = |config: &Config| -> Vec<SocketAddr> {
            let listeners = config.listeners();
            listeners.filter_map(|(_, l)| l.endpoint.ip()).collect()
        };
        let kept = addresses(&self.config);
        let gone = addresses(&shared.config).into_iter();
        let gone = gone.filter(|address| !kept.contains(address)).collect();
        match (self.network, &mut shared.network) {
            (NextNetwork::Packets(mirror, paths), Network::Packets(packets)) => {
                packets.take_over(mirror, paths);
            }
            (NextNetwork::Sockets(listeners), Network::Sockets(old)) => {
                old.give_way_to(listeners, &self.config);
            }
            _ => {}
        }
        if let Some(map) = self.config.queue_map() {
            for (core, mapped) in shared.plan.cores.iter_mut().zip(map.values()) {
                *core = Some(*mapped);
            }
        }
        shared.config = self.config;
        shared.layout = self.layout;
        gone
    }
}
