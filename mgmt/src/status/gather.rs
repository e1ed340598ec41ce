//! Puts the report together from shared memory and from what the manager knows.

use super::report::{PoolReport, PortReport, QueueReport, Report, ServerReport, WorkerReport};
use crate::manager::Manager;
use crate::stats::{self, totals::Totals};
use crate::supervisor::{Counted, Slot};
use crate::worker_process::WorkerProcess;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tidegate_channel::counters::{PoolCounters, ServerCounters};
use tidegate_channel::statistics::{StatisticsLayout, WorkerStatistics};
use tidegate_config::Config;

/// What the kernel counts per interface and an operator has to see, because it is lost traffic.
const DEVICE_COUNTERS: &[&str] = &[
    "rx_dropped",
    "rx_errors",
    "rx_missed_errors",
    "tx_dropped",
    "tx_errors",
    "tx_carrier_errors",
];

/// The report of this moment.
pub fn report(manager: &mut Manager) -> Report {
    let busy = stats::gather::busy(manager);
    let shared = &manager.parts.shared;
    let config = &shared.config;
    let slots = manager.slots.iter_mut();
    let workers: Vec<WorkerReport> = slots
        .zip(busy)
        .map(|(slot, busy)| WorkerReport {
            busy_percent: Some(busy),
            ..worker_report(slot, config, shared.layout)
        })
        .collect();
    let unreachable = match shared.packets() {
        Some(packets) => packets.mirror.unreachable().collect(),
        None => BTreeMap::new(),
    };
    Report {
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        state: manager.state().into(),
        uptime_s: manager.started.elapsed().as_secs(),
        generation: manager.generation,
        unsaved: manager.not_in_the_file(),
        pools: pool_reports(config, &workers, &unreachable),
        ports: port_reports(manager),
        workers,
        control: manager.parts.control.counters(),
    }
}

fn worker_report(slot: &mut Slot, config: &Config, layout: StatisticsLayout) -> WorkerReport {
    let statistics = slot.statistics().map_or_else(
        || layout.nothing(),
        |counted| in_order_of(config, counted, slot.worker),
    );
    let process = slot.process.as_ref();
    let modes = process
        .map(|process| process.modes.as_slice())
        .unwrap_or_default();
    let queues =
        config
            .ports
            .iter()
            .zip(statistics.queues)
            .enumerate()
            .map(|(index, (port, counters))| QueueReport {
                interface: port.interface.clone(),
                queue: slot.worker as u32,
                mode: modes.get(index).copied(),
                counters,
            });
    WorkerReport {
        worker: slot.worker as u32,
        pid: process.map(WorkerProcess::pid),
        version: process.map(|process| process.version.clone()),
        core: slot.core,
        generation: slot.generation,
        state: slot.state().into(),
        uptime_s: process.map_or(0, |process| process.started.elapsed().as_secs()),
        busy_percent: None,
        restarts: slot.starts.saturating_sub(1),
        hung: slot.hung,
        forbidden_calls: slot.forbidden_calls,
        last_exit: slot.last_exit.clone(),
        queues: queues.collect(),
        poll_loop: statistics.worker,
        stack: statistics.stack,
        sockets: statistics.sockets,
        link: statistics.link,
        pools: statistics.pools,
        servers: statistics.servers,
    }
}

/// What was counted, with pools and servers as this configuration has them. A process may still go by the one before.
fn in_order_of(
    config: &Config,
    counted: Counted<WorkerStatistics>,
    worker: usize,
) -> WorkerStatistics {
    let by = counted.config(config);
    if std::ptr::eq(by, config) {
        return counted.statistics;
    }
    let mut totals = Totals::default();
    totals.add(by, worker as u32, &counted.statistics);
    let of_pool = |name: &str| totals.pools.get(name);
    let pools = config.pools.iter().map(|pool| {
        let totals = of_pool(&pool.name);
        totals.map_or_else(PoolCounters::default, |totals| totals.counters)
    });
    let servers = config.servers().map(|(pool, server)| {
        let key = (server.name.clone(), server.address.to_string());
        let totals = of_pool(&config.pools[pool].name);
        let totals = totals.and_then(|totals| totals.servers.get(&key));
        totals.map_or_else(ServerCounters::default, |totals| totals.counters)
    });
    WorkerStatistics {
        pools: pools.collect(),
        servers: servers.collect(),
        ..counted.statistics
    }
}

fn pool_reports(
    config: &Config,
    workers: &[WorkerReport],
    unreachable: &BTreeMap<IpAddr, String>,
) -> Vec<PoolReport> {
    let mut server_index = 0;
    let pools = config.pools.iter().enumerate().map(|(index, pool)| {
        let mut counters = PoolCounters::default();
        workers
            .iter()
            .filter_map(|worker| worker.pools.get(index))
            .for_each(|pool| counters.add(pool));
        let servers = pool.servers.iter().map(|server| {
            let mut counters = ServerCounters::default();
            let of_workers = workers
                .iter()
                .filter_map(|worker| worker.servers.get(server_index));
            of_workers.for_each(|server| counters.add(server));
            server_index += 1;
            ServerReport {
                name: server.name.clone(),
                address: server.address.to_string(),
                unreachable: server
                    .address
                    .ip()
                    .and_then(|address| unreachable.get(&address.ip()).cloned()),
                counters,
            }
        });
        PoolReport {
            name: pool.name.clone(),
            listen: pool.listen.iter().map(ToString::to_string).collect(),
            counters,
            servers: servers.collect(),
        }
    });
    pools.collect()
}

/// None where bytes come from kernel sockets.
pub fn port_reports(manager: &Manager) -> Vec<PortReport> {
    let Some(packets) = manager.parts.shared.packets() else {
        return Vec::new();
    };
    let ports = manager
        .parts
        .shared
        .config
        .ports
        .iter()
        .enumerate()
        .map(|(index, port)| {
            let (steering, verdicts) = packets.report(index);
            let device = DEVICE_COUNTERS.iter().filter_map(|name| {
                let path = format!("/sys/class/net/{}/statistics/{name}", port.interface);
                let value = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
                Some(((*name).to_owned(), value))
            });
            PortReport {
                interface: port.interface.clone(),
                steering,
                bypassed: packets.bypassed(index),
                link_down: packets.links.is_down(&port.interface),
                verdicts,
                device: device.collect(),
            }
        });
    ports.collect()
}
