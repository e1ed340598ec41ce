//! Asks pools that run somewhere, from this host, and checks every reply.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;
use std::net::SocketAddr;
use std::process::ExitCode;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::smoke::Smoke;

/// Writes and reads through pools, all of them at once, and checks every reply. Writes keys that begin with `load-`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address and port of a Redis pool; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    redis: Vec<SocketAddr>,
    /// Address and port of a memcached pool; may be given several times.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "redis")]
    memcached: Vec<SocketAddr>,
    /// Connections to each pool at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
    /// Requests of each connection, for each size of values: one in ten writes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..))]
    requests: u32,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let of = |kind, addresses: Vec<SocketAddr>| addresses.into_iter().map(move |to| (kind, to));
    let redis = of(ServerKind::Redis, arguments.redis);
    let outcome = Smoke {
        pools: redis
            .chain(of(ServerKind::Memcached, arguments.memcached))
            .collect(),
        connections: arguments.connections as usize,
        requests: arguments.requests as usize,
    }
    .run()?;
    outcome.print();
    let faults = outcome.faults();
    for fault in &faults {
        println!("NOT right: {fault}");
    }
    if !faults.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    println!("{} replies, all of them right.", outcome.replies());
    Ok(ExitCode::SUCCESS)
}
