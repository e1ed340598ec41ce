//! Sums over workers and over their restarts, by name: an entry goes on whatever else a reload adds, moves or takes away.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidegate_channel::counters::{
    LinkCounters, LoopCounters, PoolCounters, QueueCounters, ServerCounters, SocketCounters,
    StackCounters,
};
use tidegate_channel::histogram::Histogram;
use tidegate_channel::meters::CommandMeter;
use tidegate_channel::statistics::WorkerStatistics;
use tidegate_config::Config;

/// Everything that was counted up to a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// By index.
    pub workers: BTreeMap<u32, WorkerTotals>,
    /// By name.
    pub pools: BTreeMap<String, PoolTotals>,
}

/// What one worker counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTotals {
    /// The loop.
    pub poll_loop: LoopCounters,
    /// TCP and below.
    pub stack: StackCounters,
    /// The kernel's sockets.
    pub sockets: SocketCounters,
    /// ARP, neighbour discovery and echo.
    #[serde(default)]
    pub link: LinkCounters,
    /// By interface.
    pub queues: BTreeMap<String, QueueCounters>,
    /// Requests taken, over all pools.
    pub requests: u64,
}

/// What was counted of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolTotals {
    /// Its counters.
    pub counters: PoolCounters,
    /// By name.
    pub commands: BTreeMap<String, Traffic>,
    /// By name and address.
    #[serde(with = "pairs")]
    pub servers: BTreeMap<(String, String), ServerTotals>,
}

/// What was counted of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTotals {
    /// Its counters.
    pub counters: ServerCounters,
    /// From a request sent to its reply.
    pub latency: Histogram,
}

/// Requests and their replies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Those answered with an error.
    pub errors: u64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of replies.
    pub reply_bytes: u64,
    /// How long replies took.
    pub latency: Histogram,
}

/// A key of two words is no key of JSON: entries travel as a list.
mod pairs {
    use super::ServerTotals;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::BTreeMap;

    type Servers = BTreeMap<(String, String), ServerTotals>;

    pub(super) fn serialize<S: Serializer>(servers: &Servers, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(servers)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Servers, D::Error> {
        let entries = Vec::<((String, String), ServerTotals)>::deserialize(from)?;
        Ok(entries.into_iter().collect())
    }
}

impl Totals {
    /// Adds what a process of `worker` counted under this configuration.
    pub fn add(&mut self, config: &Config, worker: u32, counted: &WorkerStatistics) {
        let totals = self.workers.entry(worker).or_default();
        totals.poll_loop.add(&counted.worker);
        totals.stack.add(&counted.stack);
        totals.sockets.add(&counted.sockets);
        totals.link.add(&counted.link);
        for (port, counters) in config.ports.iter().zip(&counted.queues) {
            let queue = totals.queues.entry(port.interface.clone());
            queue.or_default().add(counters);
        }
        for pool in &counted.pools {
            totals.requests = totals.requests.saturating_add(pool.requests);
        }
        let mut servers = counted.servers.iter().zip(&counted.latencies);
        let pools = counted.pools.iter().zip(&counted.commands);
        for (pool, (counters, commands)) in config.pools.iter().zip(pools) {
            let totals = self.pools.entry(pool.name.clone()).or_default();
            totals.counters.add(counters);
            for command in commands {
                let traffic = totals.commands.entry(command.name.clone());
                traffic.or_default().add(&Traffic::from(command));
            }
            for (server, (counters, latency)) in pool.servers.iter().zip(&mut servers) {
                let key = (server.name.clone(), server.address.to_string());
                let totals = totals.servers.entry(key).or_default();
                totals.add(counters, latency);
            }
        }
    }

    /// Keeps what only grows: how things stood is over.
    pub fn clear_gauges(&mut self) {
        for worker in self.workers.values_mut() {
            worker.poll_loop = worker.poll_loop.without_gauges();
            worker.stack = worker.stack.without_gauges();
            worker.sockets = worker.sockets.without_gauges();
            worker.link = worker.link.without_gauges();
            for queue in worker.queues.values_mut() {
                *queue = queue.without_gauges();
            }
        }
        for pool in self.pools.values_mut() {
            pool.counters = pool.counters.without_gauges();
            for server in pool.servers.values_mut() {
                server.counters = server.counters.without_gauges();
            }
        }
    }
}

impl From<&CommandMeter> for Traffic {
    fn from(meter: &CommandMeter) -> Self {
        Self {
            requests: meter.requests,
            errors: meter.errors,
            request_bytes: meter.request_bytes,
            reply_bytes: meter.reply_bytes,
            latency: meter.latency.clone(),
        }
    }
}

impl From<&ServerTotals> for Traffic {
    fn from(server: &ServerTotals) -> Self {
        Self {
            requests: server.counters.requests,
            errors: server.counters.error_replies,
            request_bytes: server.counters.request_bytes,
            reply_bytes: server.counters.reply_bytes,
            latency: server.latency.clone(),
        }
    }
}

impl PoolTotals {
    /// Over all commands.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        self.commands.values().for_each(|command| sum.add(command));
        sum
    }
}

impl ServerTotals {
    /// Adds what was counted of it elsewhere, or later.
    pub(super) fn add(&mut self, counters: &ServerCounters, latency: &Histogram) {
        self.counters.add(counters);
        self.latency.add(latency);
    }
}

impl Traffic {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.reply_bytes = self.reply_bytes.saturating_add(other.reply_bytes);
        self.latency.add(&other.latency);
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            request_bytes: self.request_bytes.saturating_sub(earlier.request_bytes),
            reply_bytes: self.reply_bytes.saturating_sub(earlier.reply_bytes),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tidegate_channel::flows::FlowSlots;
    use tidegate_channel::histogram::bucket;
    use tidegate_channel::statistics::StatisticsLayout;

    /// Two pools, the first with two servers.
    pub(in crate::stats) fn config() -> Config {
        let text = r#"
            name = "edge"
            [[port]]
            driver = "kernel"
            workers = 2
            [[pool]]
            name = "sessions"
            protocol = "redis"
            listen = "127.0.0.1:22121"
            servers = ["127.0.0.1:6379:1 a", "127.0.0.1:6380:1 b"]
            [[pool]]
            name = "pages"
            protocol = "memcached"
            listen = "127.0.0.1:22122"
            servers = ["127.0.0.1:11211:1"]
        "#;
        Config::parse(text, "test.toml").unwrap()
    }

    /// What a worker counted that took `requests` of GET in the first pool, each of which took `us`.
    pub(in crate::stats) fn counted(requests: u64, us: u64) -> WorkerStatistics {
        let layout = StatisticsLayout {
            queues: 0,
            pools: 2,
            servers: 3,
            flows: FlowSlots::default(),
        };
        let mut counts = vec![0; bucket(us) + 1];
        counts[bucket(us)] = requests;
        let latency = Histogram::from_counts(requests * us, counts);
        let mut counted = layout.nothing();
        counted.pools[0] = PoolCounters {
            clients: 1,
            requests,
            ..PoolCounters::default()
        };
        counted.servers[1] = ServerCounters {
            requests,
            replies: requests,
            reply_bytes: requests * 7,
            ..ServerCounters::default()
        };
        counted.latencies[1] = latency.clone();
        counted.commands[0] = vec![CommandMeter {
            name: "get".into(),
            requests,
            request_bytes: requests * 30,
            reply_bytes: requests * 7,
            latency,
            ..CommandMeter::default()
        }];
        counted
    }

    #[test]
    fn the_next_manager_reads_what_this_one_wrote() {
        let mut totals = Totals::default();
        totals.add(&config(), 1, &counted(3, 40));
        let text = serde_json::to_string(&totals).unwrap();
        assert_eq!(serde_json::from_str::<Totals>(&text).unwrap(), totals);
    }

    #[test]
    fn counts_go_on_over_a_restart_and_gauges_do_not() {
        let config = config();
        let mut ended = Totals::default();
        ended.add(&config, 0, &counted(10, 100));
        ended.clear_gauges();
        let mut now = ended.clone();
        now.add(&config, 0, &counted(5, 200));
        now.add(&config, 1, &counted(1, 200));
        let pool = &now.pools["sessions"];
        assert_eq!((pool.counters.requests, pool.counters.clients), (16, 2));
        let traffic = pool.traffic();
        assert_eq!((traffic.requests, traffic.latency.count()), (16, 16));
        let server = &pool.servers[&("b".into(), "127.0.0.1:6380".into())];
        assert_eq!(server.latency.sum_us, 10 * 100 + 6 * 200);
        assert_eq!(now.workers[&0].requests, 15);
        let since = traffic.since(&ended.pools["sessions"].traffic());
        assert_eq!((since.requests, since.latency.count()), (6, 6));
        assert_eq!(since.request_bytes, 180);
    }
}
