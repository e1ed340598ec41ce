//! What is allowed and yet seldom meant.

use crate::compat::Compat;
use crate::config::Config;
use crate::ketama::ketama_digests;
use crate::limits::{HALF_OPEN_MAX, SOURCE_PORTS};
use crate::partial::Partial;
use crate::pool::{Distribution, PoolConfig};
use crate::worker::{IdleMode, WorkerConfig};
use std::collections::BTreeMap;

impl Config {
    /// What is allowed and yet seldom meant, one sentence each. To be asked after [`Config::apply_maps`].
    pub fn warnings(&self) -> Vec<String> {
        // On DPDK that is a fault.
        let mut warnings = if self.is_on_dpdk() {
            Vec::new()
        } else {
            shared_cores(self)
        };
        if self.kernel_port().is_some() {
            warnings.extend(of_packets(&self.worker));
        }
        warnings.extend(in_the_clear(self));
        for pool in &self.pools {
            warnings.extend(servers_without_points(pool));
            if self.kernel_port().is_none() {
                warnings.extend(loopback(pool));
            }
            warnings.extend(cut_off(self, pool));
            warnings.extend(without_misses(pool));
        }
        warnings
    }
}

/// HTTP is not encrypted.
fn in_the_clear(config: &Config) -> Option<String> {
    let http = config.http.as_ref()?;
    (!http.listen.ip().is_loopback()).then(|| {
        format!(
            "http_listen = \"{}\" leaves this machine, and the token and all that is told travel in the clear: keep it to a network \
             of its own, or listen on 127.0.0.1 behind a proxy that speaks TLS",
            http.listen
        )
    })
}

/// twemproxy has a rule of its own for replies that lack a part.
fn without_misses(pool: &PoolConfig) -> Option<String> {
    let ignored = pool.partial == Partial::Misses && pool.compat == Compat::Twemproxy;
    ignored.then(|| {
        format!(
            "pool {:?}: partial = \"misses\" has no meaning with compat = \"twemproxy\": a failed server makes an error of the whole request",
            pool.name
        )
    })
}

fn shared_cores(config: &Config) -> Vec<String> {
    let mut cores: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (queue, &core) in config.queue_map().into_iter().flatten() {
        cores.entry(core).or_default().push(queue.to_string());
    }
    let cost = match config.worker.idle {
        IdleMode::Spin => {
            "with idle = \"spin\" each takes the core from the other for whole time slices"
        }
        IdleMode::Adaptive => "they share its time",
    };
    cores
        .iter()
        .filter(|(_, queues)| queues.len() > 1)
        .map(|(core, queues)| {
            let queues = queues.join(", ");
            format!("the workers of queues {queues} are all on core {core}: {cost}")
        })
        .collect()
}

fn of_packets(worker: &WorkerConfig) -> Vec<String> {
    let keys = of_packets_alone(worker).into_iter();
    keys.filter(|(_, written)| *written)
        .map(|(key, _)| {
            format!("worker: {key} has no meaning with driver = \"kernel\": the kernel's TCP has its own")
        })
        .collect()
}

/// Options of our own TCP, and whether they are written. A default that is written does no harm and counts as not written.
pub(crate) fn of_packets_alone(worker: &WorkerConfig) -> Vec<(&'static str, bool)> {
    let half_open_max = (HALF_OPEN_MAX.default as u32).min(worker.clients_max);
    vec![
        ("source_ports", worker.source_ports != SOURCE_PORTS),
        ("half_open_max", worker.half_open_max != half_open_max),
    ]
}

fn servers_without_points(pool: &PoolConfig) -> Vec<String> {
    if pool.distribution != Distribution::Ketama {
        return Vec::new();
    }
    let total = pool
        .servers
        .iter()
        .map(|server| u64::from(server.weight))
        .sum();
    pool.servers
        .iter()
        .filter(|server| ketama_digests(server.weight, total, pool.servers.len()) == 0)
        .map(|server| {
            format!(
                "pool {:?}: server {:?} gets no key: its weight {} of {total} is less than one point of the ketama ring",
                pool.name, server.name, server.weight
            )
        })
        .collect()
}

fn loopback(pool: &PoolConfig) -> Vec<String> {
    let servers = pool.servers.iter();
    let addresses = servers.filter_map(|server| server.address.ip());
    addresses
        .filter(|address| address.ip().is_loopback())
        .map(|address| {
            format!(
                "pool {:?}: the server {address} is on the loopback interface, whose frames never reach a port",
                pool.name
            )
        })
        .collect()
}

fn cut_off(config: &Config, pool: &PoolConfig) -> Option<String> {
    let drain_ms = config.worker.drain_timeout_ms;
    let timeout_ms = pool.timeout_ms?;
    (timeout_ms > drain_ms).then(|| {
        format!(
            "pool {:?}: a shutdown waits {drain_ms} ms (drain_timeout_ms) and may cut off requests that still have time (timeout_ms = {timeout_ms})",
            pool.name
        )
    })
}
