//! Whether pools that run somewhere serve: many connections to each at the same time, every reply checked.

use crate::lab::servers::ServerKind;
use crate::load::{Load, Report};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;

/// Sizes of the values: one that shares a segment with the rest of its reply, and one that needs several.
const VALUE_BYTES: [usize; 2] = [100, 4_096];

/// Pools, and what each of them is asked.
#[derive(Clone, Debug)]
pub struct Smoke {
    /// Protocol and address of each pool.
    pub pools: Vec<(ServerKind, SocketAddr)>,
    /// Connections to each pool at a time, one thread each.
    pub connections: usize,
    /// Requests of each connection, for each size of values.
    pub requests: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One row for each pool and each size of values.
    pub rows: Vec<(String, Report)>,
}

impl Smoke {
    /// Asks all pools at once, from the calling thread's namespace.
    pub fn run(&self) -> Result<Outcome> {
        if self.pools.is_empty() {
            bail!("no pool is named: --redis ADDRESS or --memcached ADDRESS");
        }
        let mut rows = Vec::new();
        for value_bytes in VALUE_BYTES {
            rows.extend(self.round(value_bytes)?);
        }
        Ok(Outcome { rows })
    }

    /// All pools at once, so that every worker has clients of all of them.
    fn round(&self, value_bytes: usize) -> Result<Vec<(String, Report)>> {
        std::thread::scope(|scope| {
            let start = |&(kind, address): &(ServerKind, SocketAddr)| {
                let load = Load {
                    kind,
                    targets: vec![address],
                    connections: self.connections,
                    requests: self.requests,
                    value_bytes,
                };
                let name = format!(
                    "{} {address} {value_bytes} B, {} connections",
                    protocol(kind),
                    self.connections
                );
                (name, scope.spawn(move || load.run()))
            };
            let loads: Vec<_> = self.pools.iter().map(start).collect();
            loads
                .into_iter()
                .map(|(name, load)| Ok((name, load.join().ok().context("a load panicked")??)))
                .collect()
        })
    }
}

impl Outcome {
    /// Requests that have to have reached the pools.
    pub fn replies(&self) -> usize {
        self.rows.iter().map(|(_, report)| report.replies).sum()
    }

    /// What was wrong, in words. Nothing: every reply was right.
    pub fn faults(&self) -> Vec<String> {
        let wrong = self.rows.iter().filter_map(|(name, report)| {
            let first = report.first_wrong.as_ref()?;
            Some(format!(
                "{name}: {} wrong, the first: {first}",
                report.wrong
            ))
        });
        wrong.collect()
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("{}", Report::head());
        for (name, report) in &self.rows {
            println!("{}", report.row(name));
        }
    }
}

fn protocol(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::Memcached => "memcached",
        ServerKind::Redis => "redis",
    }
}
