//! Puts the model together from what workers count and from what the manager knows.

use super::ejections::Ejections;
use super::history::{SHORTEST, Sample, WINDOWS};
use super::model::{
    CommandStats, Latency, PoolStats, QueueRates, QueueStats, Rates, ServerStats, Stats,
    TotalStats, Windows, WorkerRates, WorkerStats,
};
use super::totals::{PoolTotals, ServerTotals, Totals, Traffic, WorkerTotals};
use super::twemproxy;
use crate::manager::Manager;
use crate::status::gather::port_reports;
use crate::supervisor::Slot;
use crate::units::unix_ms;
use crate::worker_process::WorkerProcess;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tidegate_channel::counters::QueueCounters;
use tidegate_config::{Config, PoolConfig, Protocol};
use tidegate_port::nic;

/// Takes a sample if one is due.
pub fn sample_if_due(manager: &mut Manager, now: Instant) {
    if now >= manager.memory.due() {
        let totals = totals(manager);
        look_at_links(manager, &totals);
        let memory = &mut manager.memory;
        memory.ejections.look(memory.history.last(), &totals);
        memory.history.keep(now, totals);
    }
}

/// The kernel knows of its interfaces, and the first worker of others.
fn look_at_links(manager: &mut Manager, totals: &Totals) {
    let shared = &mut manager.parts.shared;
    let config = shared.config.clone();
    let Some(packets) = shared.packets_mut() else {
        return;
    };
    for port in &config.ports {
        let said = totals
            .workers
            .values()
            .filter_map(|worker| worker.queues.get(&port.interface))
            .any(|counters| counters.link_down != 0);
        let has_none = nic::is_running(&port.interface).is_some_and(|is_running| !is_running);
        packets.links.note(&port.interface, said || has_none);
    }
}

/// Begins anew with what adopted workers have counted.
pub fn begin(manager: &mut Manager, now: Instant) {
    let totals = totals(manager);
    manager.memory.begin(now, totals);
}

/// Serves those who connected to the statistics port.
pub fn tell(manager: &mut Manager) {
    if let Some(mut told) = manager.parts.told.take() {
        told.turn(Instant::now(), || twemproxy::render(&stats(manager)));
        manager.parts.told = Some(told);
    }
}

/// The sums of this moment.
fn totals(manager: &mut Manager) -> Totals {
    let mut totals = manager.memory.ended.clone();
    for slot in &mut manager.slots {
        let worker = slot.worker as u32;
        if let Some(counted) = slot.counted() {
            let config = counted.config(&manager.parts.shared.config);
            totals.add(config, worker, counted.statistics);
        }
    }
    totals
}

/// The model of this moment.
pub fn stats(manager: &mut Manager) -> Stats {
    let now = Instant::now();
    let totals = totals(manager);
    let shared = &manager.parts.shared;
    let config = &shared.config;
    let past = Past::of(manager, now);
    let unreachable = match shared.packets() {
        Some(packets) => packets.mirror.unreachable().collect(),
        None => BTreeMap::new(),
    };
    Stats {
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: manager.host.clone(),
        pid: std::process::id(),
        state: manager.state().into(),
        unix_ms: unix_ms(),
        uptime_s: manager.started.elapsed().as_secs(),
        total: past.total(&totals),
        pools: past.pools(config, &totals, &unreachable),
        workers: past.workers(manager, config, &totals),
        ports: port_reports(manager),
        control: manager.parts.control.counters(),
    }
}

/// How busy each worker was, per cent.
pub fn busy(manager: &mut Manager) -> Vec<Windows<f64>> {
    let totals = totals(manager);
    let past = Past::of(manager, Instant::now());
    let none = WorkerTotals::default();
    let workers = manager.slots.iter().map(|slot| {
        let worker = slot.worker as u32;
        let now = totals.workers.get(&worker).unwrap_or(&none);
        past.windows(|then, span| {
            let then = then.workers.get(&worker).unwrap_or(&none);
            worker_rates(now, then, span).busy_percent
        })
    });
    workers.collect()
}

/// The name of this machine, as the kernel knows it.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_owned()
}

/// The samples that windows begin with.
struct Past<'a> {
    now: Instant,
    samples: [&'a Sample; 4],
    ejections: &'a Ejections,
}

impl<'a> Past<'a> {
    fn of(manager: &'a Manager, now: Instant) -> Self {
        let history = &manager.memory.history;
        let [second, ten_seconds, minute] = WINDOWS.map(|window| history.before(now, window));
        Self {
            now,
            samples: [second, ten_seconds, minute, history.start()],
            ejections: &manager.memory.ejections,
        }
    }

    /// `rate` of each window, which gets what stood at its beginning and how long ago that was.
    fn windows<T>(&self, mut rate: impl FnMut(&Totals, Duration) -> T) -> Windows<T> {
        let mut of = |index: usize| {
            let sample = self.samples[index];
            let span = self.now.saturating_duration_since(sample.at);
            let is_told = span >= SHORTEST;
            rate(&sample.totals, if is_told { span } else { Duration::ZERO })
        };
        Windows {
            second: of(0),
            ten_seconds: of(1),
            minute: of(2),
            start: of(3),
        }
    }

    /// The rates of what can be found in totals.
    fn rates(&self, now: &Traffic, then: impl Fn(&Totals) -> Option<Traffic>) -> Windows<Rates> {
        self.windows(|totals, span| {
            let earlier = then(totals).unwrap_or_default();
            rates(&now.since(&earlier), span)
        })
    }

    fn total(&self, totals: &Totals) -> TotalStats {
        let traffic = everything(totals);
        let pools = || totals.pools.values();
        let servers = || pools().flat_map(|pool| pool.servers.values());
        TotalStats {
            clients: pools().map(|pool| pool.counters.clients).sum(),
            server_connections: servers().map(|server| server.counters.connections).sum(),
            client_connections: pools().map(|pool| pool.counters.client_connections).sum(),
            server_connects: servers().map(|server| server.counters.connects).sum(),
            requests: traffic.requests,
            errors: traffic.errors,
            rates: self.rates(&traffic, |then| Some(everything(then))),
        }
    }

    fn pools(
        &self,
        config: &Config,
        totals: &Totals,
        unreachable: &BTreeMap<IpAddr, String>,
    ) -> Vec<PoolStats> {
        let none = PoolTotals::default();
        let pools = config.pools.iter().map(|pool| {
            let totals = totals.pools.get(&pool.name).unwrap_or(&none);
            let traffic = totals.traffic();
            let rates = self.rates(&traffic, |then| Some(then.pools.get(&pool.name)?.traffic()));
            PoolStats {
                name: pool.name.clone(),
                protocol: protocol(pool.protocol).into(),
                listen: pool.listen.iter().map(ToString::to_string).collect(),
                counters: totals.counters,
                errors: traffic.errors,
                request_bytes: traffic.request_bytes,
                reply_bytes: traffic.reply_bytes,
                rates,
                latency: traffic.latency,
                commands: self.commands(&pool.name, totals),
                servers: self.servers(pool, totals, unreachable),
            }
        });
        pools.collect()
    }

    fn commands(&self, pool: &str, totals: &PoolTotals) -> Vec<CommandStats> {
        // The place for all others is there from the start.
        let seen = totals
            .commands
            .iter()
            .filter(|(_, traffic)| traffic.requests > 0);
        let commands = seen.map(|(name, traffic)| CommandStats {
            name: name.clone(),
            requests: traffic.requests,
            errors: traffic.errors,
            request_bytes: traffic.request_bytes,
            reply_bytes: traffic.reply_bytes,
            rates: self.rates(traffic, |then| {
                then.pools.get(pool)?.commands.get(name).cloned()
            }),
            latency: traffic.latency.clone(),
        });
        commands.collect()
    }

    fn servers(
        &self,
        pool: &PoolConfig,
        totals: &PoolTotals,
        unreachable: &BTreeMap<IpAddr, String>,
    ) -> Vec<ServerStats> {
        let none = ServerTotals::default();
        let servers = pool.servers.iter().map(|server| {
            let key = (server.name.clone(), server.address.to_string());
            let totals = totals.servers.get(&key).unwrap_or(&none);
            let rates = self.rates(&Traffic::from(totals), |then| {
                let server = then.pools.get(&pool.name)?.servers.get(&key)?;
                Some(Traffic::from(server))
            });
            let address = server.address.ip();
            let (name, address_text) = key.clone();
            let place = (pool.name.clone(), key.0.clone(), key.1.clone());
            ServerStats {
                name,
                address: address_text,
                unreachable: address.and_then(|ip| unreachable.get(&ip.ip()).cloned()),
                ejected_unix_ms: self.ejections.last(&place),
                counters: totals.counters,
                rates,
                latency: totals.latency.clone(),
            }
        });
        servers.collect()
    }

    fn workers(&self, manager: &Manager, config: &Config, totals: &Totals) -> Vec<WorkerStats> {
        let none = WorkerTotals::default();
        let workers = manager.slots.iter().map(|slot| {
            let worker = slot.worker as u32;
            let totals = totals.workers.get(&worker).unwrap_or(&none);
            let process = slot.process.as_ref();
            WorkerStats {
                worker,
                pid: process.map(WorkerProcess::pid),
                core: slot.core,
                state: slot.state().into(),
                uptime_s: process.map_or(0, |process| process.started.elapsed().as_secs()),
                restarts: slot.starts.saturating_sub(1),
                hung: slot.hung,
                forbidden_calls: slot.forbidden_calls,
                last_exit: slot.last_exit.clone(),
                rates: self.windows(|then, span| {
                    worker_rates(totals, then.workers.get(&worker).unwrap_or(&none), span)
                }),
                poll_loop: totals.poll_loop,
                stack: totals.stack,
                sockets: totals.sockets,
                link: totals.link,
                queues: self.queues(slot, config, totals),
            }
        });
        workers.collect()
    }

    fn queues(&self, slot: &Slot, config: &Config, totals: &WorkerTotals) -> Vec<QueueStats> {
        if config.kernel_port().is_some() {
            return Vec::new();
        }
        let worker = slot.worker as u32;
        let modes = slot
            .process
            .as_ref()
            .map(|process| process.modes.as_slice());
        let modes = modes.unwrap_or_default();
        let queues = config.ports.iter().enumerate().map(|(index, port)| {
            let of = |totals: &WorkerTotals| totals.queues.get(&port.interface).copied();
            let counters = of(totals).unwrap_or_default();
            QueueStats {
                interface: port.interface.clone(),
                queue: worker,
                mode: modes.get(index).copied(),
                rates: self.windows(|then, span| {
                    let then = then.workers.get(&worker).and_then(of);
                    queue_rates(&counters, &then.unwrap_or_default(), span)
                }),
                counters,
            }
        });
        queues.collect()
    }
}

/// Over all pools.
fn everything(totals: &Totals) -> Traffic {
    let mut sum = Traffic::default();
    let commands = totals
        .pools
        .values()
        .flat_map(|pool| pool.commands.values());
    commands.for_each(|command| sum.add(command));
    sum
}

fn protocol(protocol: Protocol) -> &'static str {
    let names = Protocol::NAMES.iter();
    let mut named = names.filter(|(_, named)| *named == protocol);
    named.next().map_or("", |(name, _)| name)
}

/// How much of something there was per second. No time has passed: nothing can be said.
fn per_second(number: u64, span: Duration) -> f64 {
    if span.is_zero() {
        0.0
    } else {
        number as f64 / span.as_secs_f64()
    }
}

fn rates(traffic: &Traffic, span: Duration) -> Rates {
    Rates {
        seconds: span.as_secs_f64(),
        requests_per_s: per_second(traffic.requests, span),
        errors_per_s: per_second(traffic.errors, span),
        request_bytes_per_s: per_second(traffic.request_bytes, span),
        reply_bytes_per_s: per_second(traffic.reply_bytes, span),
        latency: Latency::of(&traffic.latency),
    }
}

fn worker_rates(now: &WorkerTotals, then: &WorkerTotals, span: Duration) -> WorkerRates {
    let busy_ns = now.poll_loop.busy_ns.saturating_sub(then.poll_loop.busy_ns);
    let busy = Duration::from_nanos(busy_ns).as_secs_f64();
    let percent = if span.is_zero() {
        0.0
    } else {
        // Pages are written now and then, so a short window may have a little more than its own.
        (100.0 * busy / span.as_secs_f64()).min(100.0)
    };
    WorkerRates {
        seconds: span.as_secs_f64(),
        busy_percent: percent,
        requests_per_s: per_second(now.requests.saturating_sub(then.requests), span),
    }
}

fn queue_rates(now: &QueueCounters, then: &QueueCounters, span: Duration) -> QueueRates {
    let rate = |of: fn(&QueueCounters) -> u64| per_second(of(now).saturating_sub(of(then)), span);
    QueueRates {
        seconds: span.as_secs_f64(),
        rx_frames_per_s: rate(|queue| queue.rx_frames),
        rx_bytes_per_s: rate(|queue| queue.rx_bytes),
        tx_frames_per_s: rate(|queue| queue.tx_frames),
        tx_bytes_per_s: rate(|queue| queue.tx_bytes),
        lost_per_s: rate(QueueCounters::lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::fixture::Fixture;
    use crate::stats::totals::tests::{config, counted};
    use crate::worker_process::Stage;
    use std::rc::Rc;
    use tidegate_channel::counters::PoolCounters;
    use tidegate_channel::statistics::StatisticsWriter;

    #[test]
    fn windows_tell_what_came_in_them_and_sums_what_came_at_all() {
        let config = config();
        let now = Instant::now();
        let ago = |seconds: u64, requests: u64| {
            let mut totals = Totals::default();
            totals.add(&config, 0, &counted(requests, 100));
            Sample {
                at: now.checked_sub(Duration::from_secs(seconds)).unwrap(),
                totals: Rc::new(totals),
            }
        };
        let samples = [ago(1, 90), ago(10, 80), ago(60, 40), ago(100, 0)];
        let [second, ten_seconds, minute, start] = &samples;
        let ejections = Ejections::default();
        let past = Past {
            now,
            samples: [second, ten_seconds, minute, start],
            ejections: &ejections,
        };
        let totals = ago(0, 100).totals;
        let pools = past.pools(&config, &totals, &BTreeMap::new());
        let rates = &pools[0].rates;
        let per_s = rates
            .named()
            .map(|(_, rates)| rates.requests_per_s.to_string());
        assert_eq!(per_s, ["10", "2", "1", "1"]);
        assert_eq!(rates.minute.latency.unwrap().count, 60);
        assert_eq!(rates.minute.request_bytes_per_s.to_string(), "30");
        assert_eq!(pools[0].commands[0].name, "get");
        assert_eq!(pools[0].commands[0].rates, *rates);
        let [idle, busy] = [&pools[0].servers[0], &pools[0].servers[1]];
        assert_eq!(busy.rates.second.reply_bytes_per_s.to_string(), "70");
        assert_eq!(busy.latency.count(), 100);
        assert_eq!((idle.counters.requests, idle.latency.count()), (0, 0));
        assert_eq!(pools[1].rates.start.latency, None);
        let total = past.total(&totals);
        assert_eq!((total.requests, total.clients), (100, 1));
    }

    #[test]
    fn what_adopted_workers_had_counted_is_in_the_sums_and_in_no_window() {
        let mut fixture = Fixture::new("adopted");
        let worker = fixture.stand_in(0, Stage::Running);
        let layout = fixture.manager.parts.shared.layout;
        let count = |requests: u64| {
            let writer = StatisticsWriter::map(&worker.page, layout).unwrap();
            writer.write_pool(
                0,
                &PoolCounters {
                    requests,
                    ..PoolCounters::default()
                },
            );
        };
        count(1_000_000);
        let manager = &mut fixture.manager;
        let ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        begin(manager, ago);
        let told = |manager: &mut Manager| {
            let stats = stats(manager);
            let worker = stats.workers[0].rates.named();
            let rates = worker.map(|(_, rates)| rates.requests_per_s as u64);
            (stats.pools[0].counters.requests, rates)
        };
        assert_eq!(told(manager), (1_000_000, [0; 4]));
        // One that has just come knows nothing of the pace yet.
        begin(manager, Instant::now() + Duration::from_secs(100));
        count(1_000_500);
        assert_eq!(told(manager), (1_000_500, [0; 4]));
    }
}
