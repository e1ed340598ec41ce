//! What is done for ports that the kernel does not see: by the first worker neighbours, and who asks for us; by all workers doubts. See
//! [`tidegate_link`].

use crate::hand_over::HandOverSenders;
use tidegate_channel::counters::LinkCounters;
use tidegate_channel::message::WorkerStart;
use tidegate_config::Config;
use tidegate_link::{Doubts, Link, LinkPort, News, Wanted};
use tidegate_port::Port;

/// The link layer of the first worker.
pub struct LinkLayer {
    link: Link,
    now_us: u64,
}

/// Whether this is the worker that has the link layer: the first, where the kernel does not see the ports.
pub fn is_for(start: &WorkerStart) -> bool {
    start.worker == 0 && start.config.is_on_dpdk()
}

/// The next hop towards each server.
fn ways(config: &Config) -> impl Iterator<Item = Option<Wanted>> {
    config.servers().map(|(_, server)| {
        let way = config.way(server.address.ip()?.ip())?;
        Some(Wanted {
            port: way.port as u8,
            source: way.source,
            next_hop: way.next_hop,
        })
    })
}

/// The next hops towards all servers.
pub fn wanted(config: &Config) -> Vec<Wanted> {
    ways(config).flatten().collect()
}

/// The doubts of a worker, where it is its business: the kernel has its own elsewhere.
pub fn doubts(config: &Config) -> Option<Box<Doubts>> {
    let of_config = || Box::new(Doubts::new(ways(config)));
    config.is_on_dpdk().then(of_config)
}

impl LinkLayer {
    /// For the ports of `start`, whose addresses are those of the configuration.
    pub fn new(start: &WorkerStart, now_us: u64) -> Self {
        let ports = start.config.ports.iter().zip(&start.ports);
        let ports: Vec<LinkPort> = ports
            .map(|(config, facts)| LinkPort {
                mac: facts.mac,
                mtu_bytes: facts.mtu_bytes as usize,
                addresses: config
                    .dpdk
                    .as_ref()
                    .map(|dpdk| dpdk.addresses.clone())
                    .unwrap_or_default(),
            })
            .collect();
        let mut layer = Self {
            link: Link::new(&ports, now_us),
            now_us,
        };
        layer.take_up(&wanted(&start.config));
        layer
    }

    /// Looks for these next hops from now on.
    #[cold]
    pub fn take_up(&mut self, wanted: &[Wanted]) {
        let left_out = self.link.set_wanted(wanted, self.now_us);
        if left_out > 0 {
            tracing::error!(
                "{left_out} next hops are not looked for: servers behind them cannot be reached"
            );
        }
    }

    /// Tells the time.
    #[inline]
    pub fn tick(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    /// Looks at the frames of this turn that are not for TCP.
    #[inline]
    pub fn take<P: Port>(&mut self, senders: &mut HandOverSenders, ports: &mut [P]) {
        if let Some(inbox) = senders.inbox() {
            inbox.empty(|port, frame| {
                if let Some(of_port) = ports.get_mut(usize::from(port)) {
                    let tx = of_port.halves().1;
                    self.link.take(self.now_us, usize::from(port), frame, tx);
                }
            });
        }
    }

    /// Sends what is due.
    #[inline]
    pub fn send_due<P: Port>(&mut self, ports: &mut [P]) {
        for (index, port) in ports.iter_mut().enumerate() {
            self.link.send_due(self.now_us, index, port.halves().1);
        }
    }

    /// When something is due.
    #[inline]
    pub fn next_timer_us(&self) -> Option<u64> {
        self.link.next_timer_us()
    }

    /// What was counted.
    pub fn counters(&self) -> LinkCounters {
        self.link.counters()
    }

    /// What was found out.
    #[inline]
    pub fn take_news(&mut self) -> Option<News> {
        self.link.take_news()
    }
}
