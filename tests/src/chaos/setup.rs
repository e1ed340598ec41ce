//! What is made before anybody asks: the configuration, settings of the hosts, and keys whose servers are known.

use super::arena::{FAR_END, SERVERS};
use crate::client::memcached::Memcached;
use crate::client::resp::{Redis, Value};
use crate::config::{LabConfig, PoolText};
use crate::lab::Lab;
use crate::lab::addresses::Family;
use crate::lab::servers::ServerKind;
use crate::plan::Plan;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::SocketAddr;

/// How long a request may take. Longer than it takes to send a lost frame again, a second at the least on AF_XDP: a busy machine loses
/// one now and then without being disturbed. Servers are stopped for longer and for less.
pub(super) const TIMEOUT_MS: u64 = 2_500;

/// The configuration after so many changes that workers take up as they are, and so many for which they are replaced.
pub(super) fn config(lab: &Lab, changes: u64, replacements: u64) -> LabConfig {
    let mut config = LabConfig::new(lab, Family::V4)
        .outliving()
        .every_pool(&format!("timeout_ms = {TIMEOUT_MS}"))
        .every_pool(&format!("slowlog_us = {}", 10_000 + changes % 10))
        .worker(&format!("clients_max = {}", 16_384 - replacements % 2));
    if changes % 2 == 1 {
        let servers: Vec<SocketAddr> = lab
            .redis
            .iter()
            .map(|server| server.address(Family::V4))
            .collect();
        let extra = PoolText::extra(Plan::Lab, 0, "extra", ServerKind::Redis, &servers);
        config = config.pool(extra);
    }
    config
}

/// Settings of the calling thread's namespace. IPv6 addresses stay when a link goes down and are used at once when it is up, as
/// addresses of servers are; and who gets another link address says so.
pub(super) fn bear_disturbances() -> Result<()> {
    let set = |path: &str| {
        fs::write(format!("/proc/sys/net/{path}"), "1").with_context(|| format!("net/{path}"))
    };
    set("ipv6/conf/all/keep_addr_on_down")?;
    set("ipv6/conf/all/ndisc_notify")?;
    set("ipv4/conf/all/arp_notify")?;
    let dad = format!("/proc/sys/net/ipv6/conf/{FAR_END}/accept_dad");
    if fs::exists(&dad)? {
        fs::write(dad, "0")?;
    }
    Ok(())
}

/// Stores `items` through Tidegate and says which server has each.
pub(super) fn place(
    lab: &Lab,
    kind: ServerKind,
    items: &[(String, Vec<u8>)],
) -> Result<Vec<usize>> {
    lab.hosts.client.run(|| -> Result<()> {
        let pool = Plan::Lab.pool(kind, Family::V4);
        match kind {
            ServerKind::Redis => {
                let mut client = Redis::open(pool)?;
                for (key, value) in items {
                    let reply = client.ask(&[b"SET", key.as_bytes(), value])?;
                    ensure!(reply == Value::ok(), "SET {key}: {reply:?}");
                }
            }
            ServerKind::Memcached => {
                let mut client = Memcached::open(pool)?;
                for (key, value) in items {
                    let reply = client.set(key.as_bytes(), 0, value)?;
                    ensure!(reply == "STORED", "set {key}: {reply}");
                }
            }
        }
        Ok(())
    })?;
    let has = |server: usize, key: &str| -> Result<bool> {
        let address = Plan::Lab.server(kind, server, Family::V4);
        Ok(match kind {
            ServerKind::Redis => {
                let reply = Redis::open(address)?.ask(&[b"EXISTS", key.as_bytes()])?;
                reply == Value::Integer(1)
            }
            ServerKind::Memcached => !Memcached::open(address)?.get(&[key.as_bytes()])?.is_empty(),
        })
    };
    lab.hosts.server.run(|| {
        let server_of = |(key, _): &(String, Vec<u8>)| -> Result<usize> {
            for server in 0..SERVERS {
                if has(server, key)? {
                    return Ok(server);
                }
            }
            bail!("no server has {key}")
        };
        items.iter().map(server_of).collect()
    })
}

/// A key on each server that nobody writes.
pub(super) fn probe_keys(lab: &Lab, kind: ServerKind) -> Result<Vec<String>> {
    const CANDIDATES: usize = 40;
    let items: Vec<_> = (0..CANDIDATES)
        .map(|number| (format!("chaos-probe-{number}"), b"x".to_vec()))
        .collect();
    let servers = place(lab, kind, &items)?;
    lab.hosts.client.run(|| -> Result<()> {
        let pool = Plan::Lab.pool(kind, Family::V4);
        for (key, _) in &items {
            match kind {
                ServerKind::Redis => drop(Redis::open(pool)?.words(&format!("DEL {key}"))?),
                ServerKind::Memcached => {
                    drop(Memcached::open(pool)?.line(&format!("delete {key}"))?);
                }
            }
        }
        Ok(())
    })?;
    let on = |server: usize| {
        let place = servers.iter().position(|other| *other == server);
        place
            .map(|place| items[place].0.clone())
            .with_context(|| format!("no probe lands on server {server}"))
    };
    (0..SERVERS).map(on).collect()
}
