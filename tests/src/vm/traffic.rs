//! What clients outside the machine see of an instance inside it.

use crate::appliance::Status;
use crate::client::resp::{Redis, Value};
use crate::demo;
use crate::lab::addresses::Family;
use crate::lab::servers::ServerKind;
use crate::smoke::Smoke;
use crate::vm::Ground;
use crate::vm::guest::Instance;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;

/// Connections to each pool and address at a time.
const SMOKE_CONNECTIONS: usize = 32;

/// Connections that are open when a worker is killed: so many that none of two queues is without.
pub const CONNECTIONS: usize = 32;

/// The smoke test, of `requests` requests on each connection, and whether the instance counted what was asked, on every queue.
pub fn smoke(ground: &mut Ground, instance: &Instance, requests: usize) -> Result<String> {
    let before = asked(&instance.status(&mut ground.machine)?);
    let (total_before, errors_before) = totals(ground, instance)?;
    let kinds = [ServerKind::Redis, ServerKind::Memcached];
    let pools = kinds
        .iter()
        .flat_map(|kind| Family::BOTH.map(|family| (*kind, instance.leg.pool(*kind, family))));
    let smoke = Smoke {
        pools: pools.collect(),
        connections: SMOKE_CONNECTIONS,
        requests,
    };
    let outcome = ground.hosts.client.run(|| smoke.run())?;
    outcome.print();
    let mut faults = outcome.faults();
    let expected = before + outcome.replies() as u64;
    let status = instance.wait_for(&mut ground.machine, "counters of all requests", |status| {
        asked(status) >= expected
    })?;
    demo::print_queues(&status, &mut faults);
    demo::print_losses(&status);
    println!();
    let counted = asked(&status) - before;
    let (since_start, errors) = totals(ground, instance)?;
    let sent = outcome.replies() as u64;
    if (counted, since_start - total_before, errors) != (sent, sent, errors_before) {
        faults.push(format!(
            "{sent} requests were sent, `status` counts {counted}, `stats` {} and {} errors",
            since_start - total_before,
            errors - errors_before
        ));
    }
    for host in [&ground.hosts.client, &ground.hosts.server] {
        let older = host.run(segments_with_older_timestamps)?;
        if older > 0 {
            faults.push(format!(
                "{} dropped {older} segments, because their timestamps were older than those before",
                host.name()
            ));
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(format!(
        "{} replies on {} connections",
        outcome.replies(),
        outcome.rows.len() * SMOKE_CONNECTIONS
    ))
}

/// What the host of the calling thread has dropped since it exists, because a connection's clock went back (RFC 7323: PAWS). The
/// sender does not notice: it sends again, and all is only slower.
fn segments_with_older_timestamps() -> Result<u64> {
    // Two lines for each group of counters: names, and values in the same order.
    let counters = std::fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = counters.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = lines
        .next()
        .zip(lines.next())
        .context("the kernel counts nothing of TCP")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs
        .find(|(name, _)| *name == "PAWSEstab")
        .context("the kernel does not count PAWSEstab")?;
    Ok(value.parse()?)
}

/// Requests and errors since the instance started: `stats` goes on when a worker is started again, `status` begins anew.
fn totals(ground: &mut Ground, instance: &Instance) -> Result<(u64, u64)> {
    let stats = instance.stats(&mut ground.machine)?;
    let number = |name: &str| stats["total"][name].as_u64();
    number("requests")
        .zip(number("errors"))
        .context("tidegate stats tells no totals")
}

/// Requests that all pools were asked, of the workers that run now.
fn asked(status: &Status) -> u64 {
    ["memcached", "redis"]
        .map(|pool| status.pool_total(pool, "requests"))
        .iter()
        .sum()
}

/// Opens connections that stay; how many each of two workers got.
pub fn open_connections(
    ground: &mut Ground,
    instance: &Instance,
) -> Result<(Vec<Redis>, [usize; 2])> {
    let accepted = |status: &Status| [0, 1].map(|worker| status.stack(worker, "accepted"));
    let before = accepted(&instance.status(&mut ground.machine)?);
    let to = instance.leg.pool(ServerKind::Redis, Family::V4);
    let clients = ground.hosts.client.run(|| -> Result<Vec<Redis>> {
        (0..CONNECTIONS)
            .map(|number| {
                let mut client = Redis::open(to)?;
                match client.words(&format!("SET stays-{number} x"))? {
                    reply if reply == Value::ok() => Ok(client),
                    reply => bail!("SET was answered {reply:?}"),
                }
            })
            .collect()
    })?;
    let all = before.iter().sum::<u64>() + CONNECTIONS as u64;
    let status = instance.wait_for(&mut ground.machine, "all connections", |status| {
        accepted(status).iter().sum::<u64>() >= all
    })?;
    let after = accepted(&status);
    let shares = [0, 1].map(|worker| (after[worker] - before[worker]) as usize);
    if shares.contains(&0) {
        bail!("the workers have {shares:?} of {CONNECTIONS} connections");
    }
    Ok((clients, shares))
}

/// How many of the connections have ended; all others have to serve.
pub fn count_ended(clients: &mut [Redis]) -> Result<usize> {
    let mut ended = 0;
    for client in clients {
        match client.words("PING") {
            Ok(reply) if reply == Value::Simple("PONG".to_owned()) => {}
            Ok(reply) => bail!("PING was answered {reply:?}"),
            Err(error) if is_end(error.kind()) => ended += 1,
            Err(error) => bail!("a connection neither serves nor ends: {error}"),
        }
    }
    Ok(ended)
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}
