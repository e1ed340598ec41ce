//! What differs between two configurations, in sentences, and what each difference costs a running instance.
//!
//! Settings are compared as [`Config::effective_toml`] writes them, so that one which is written out is compared as well; what a
//! change of it means stands in the tables of this file. A pool is the same if it has the same name; a server is the same if it has
//! the same address in the same pool, whatever its name, its weight and its place in the file.

use crate::config::Config;
use crate::effective;
use crate::endpoint::{Endpoint, Listen};
use crate::pool::PoolConfig;
use crate::port::Driver;
use crate::queues::Queues;
use crate::secret::Secret;
use crate::server::ServerConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// What has to happen so that a difference takes effect. The later ones take in the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The running workers take it up between two bursts; nobody notices.
    InPlace,
    /// The same, but clients that are connected get what they are owed and are closed: what they have agreed on is no more.
    Reconnect,
    /// The workers are replaced, one after the other; each finishes what it owes first.
    Replace,
    /// It cannot be done while the instance runs.
    Restart,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it costs.
    pub effect: Effect,
    /// What was, and what is to be.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::InPlace => "",
            Effect::Reconnect => " (its clients are asked to reconnect)",
            Effect::Replace => " (the workers are replaced one after the other)",
            Effect::Restart => " (needs a restart)",
        };
        write!(f, "{}{effect}", self.text)
    }
}

use Effect::{InPlace, Reconnect, Replace, Restart};

const OF_POOL: &[(&str, Effect)] = &[
    ("backlog", InPlace),
    ("protocol", Reconnect),
    ("distribution", InPlace),
    ("hash", InPlace),
    ("hash_tag", InPlace),
    ("timeout_ms", InPlace),
    ("clients_max", InPlace),
    ("server_connections", InPlace),
    ("own_connections_max", InPlace),
    ("preconnect", InPlace),
    ("auto_eject_hosts", InPlace),
    ("server_retry_timeout_ms", InPlace),
    ("server_failure_limit", InPlace),
    ("client_keepalive_s", InPlace),
    ("databases", Reconnect),
    ("database", Reconnect),
    ("redis_user", InPlace),
    ("memcached_user", InPlace),
    ("server_user", InPlace),
    ("partial", InPlace),
    ("slowlog_us", InPlace),
    ("compat", Reconnect),
];

const OF_PORT: &[(&str, Effect)] = &[
    ("driver", Restart),
    ("interface", Restart),
    ("workers", Restart),
    ("reuseport", Restart),
    ("require_zero_copy", Restart),
    ("ack", InPlace),
    ("rss", Restart),
    ("ring_size", Replace),
    ("mtu_bytes", Restart),
    ("pmd", Restart),
    ("without_iommu", Restart),
    ("addresses", Restart),
    ("routes", InPlace),
];

const OF_WORKER: &[(&str, Effect)] = &[
    ("clients_max", Replace),
    ("half_open_max", InPlace),
    ("client_buffer_bytes", Replace),
    ("server_connections_max", Replace),
    ("server_buffer_bytes", Replace),
    ("requests_max", InPlace),
    ("client_requests_max", InPlace),
    ("split_keys_max", InPlace),
    ("request_hold_bytes", Replace),
    ("reply_hold_bytes", Replace),
    ("client_reply_hold_bytes", InPlace),
    ("client_stall_ms", InPlace),
    ("drain_timeout_ms", InPlace),
    ("idle", InPlace),
    ("source_ports", Restart),
    ("user", Restart),
    ("source_address", Restart),
    ("outlive_manager", Replace),
    ("seccomp", Replace),
];

/// Keys whose values are compared by a function of their own.
const APART: &[&str] = &[
    "name",
    "listen",
    "servers",
    "queues",
    "redis_auth",
    "memcached_auth",
    "server_auth",
];

impl Config {
    /// Everything in which `new` differs from this configuration. Nothing: they mean the same.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut found = Found::default();
        if self.name != new.name {
            found.value(Restart, "name", &self.name, &new.name);
        }
        let (old_entries, entries) = (self.slowlog_entries_max, new.slowlog_entries_max);
        if old_entries != entries {
            found.value(InPlace, "slowlog_entries_max", &old_entries, &entries);
        }
        if self.log_format != new.log_format {
            let (old, new) = (self.log_format.name(), new.log_format.name());
            found.value(Restart, "log_format", &old, &new);
        }
        if self.stats_listen != new.stats_listen {
            let words = |address: Option<SocketAddr>| match address {
                Some(address) => address.to_string(),
                None => "none".to_owned(),
            };
            let (old, new) = (words(self.stats_listen), words(new.stats_listen));
            found.value(Restart, "stats_listen", &old, &new);
        }
        self.compare_http(new, &mut found);
        self.compare_ports(new, &mut found);
        self.compare_pools(new, &mut found);
        found.settings(
            "worker",
            OF_WORKER,
            &effective::worker(self),
            &effective::worker(new),
        );
        found.0
    }

    /// `new` as far as running workers can take it up: what replaces workers is as it is here.
    #[must_use]
    pub fn in_place_part(&self, new: &Self) -> Self {
        let mut part = new.clone();
        let (limits, old) = (&mut part.worker, &self.worker);
        limits.clients_max = old.clients_max;
        limits.client_buffer_bytes = old.client_buffer_bytes;
        limits.server_connections_max = old.server_connections_max;
        limits.server_buffer_bytes = old.server_buffer_bytes;
        limits.request_hold_bytes = old.request_hold_bytes;
        limits.reply_hold_bytes = old.reply_hold_bytes;
        limits.half_open_max = limits.half_open_max.min(old.clients_max);
        for pool in &mut part.pools {
            pool.clients_max = pool.clients_max.map(|clients| clients.min(old.clients_max));
        }
        for (port, old) in part.ports.iter_mut().zip(&self.ports) {
            port.ring_size = old.ring_size;
        }
        part
    }

    fn compare_http(&self, new: &Self, found: &mut Found) {
        let listen = |config: &Self| match &config.http {
            Some(http) => http.listen.to_string(),
            None => "nowhere".to_owned(),
        };
        let token = |config: &Self| match config.http.as_ref().and_then(|http| http.token.as_ref())
        {
            Some(file) => file.display().to_string(),
            None => "none".to_owned(),
        };
        let pairs = [
            ("http_listen", listen(self), listen(new)),
            ("http_token", token(self), token(new)),
        ];
        for (key, old, new) in pairs {
            if old != new {
                found.value(Restart, key, &old, &new);
            }
        }
    }

    fn compare_ports(&self, new: &Self, found: &mut Found) {
        let names = |config: &Self| -> Vec<String> {
            let ports = config.ports.iter();
            ports.map(|port| port.interface.clone()).collect()
        };
        if names(self) != names(new) {
            return found.list(Restart, "the ports", &names(self), &names(new));
        }
        for (port, other) in self.ports.iter().zip(&new.ports) {
            let label = format!("port {}", port.interface);
            let (old, new) = (effective::port(port), effective::port(other));
            found.settings(&label, OF_PORT, &old, &new);
            if port.queues != other.queues {
                // The threads of DPDK are bound to their cores for good.
                let moves = port.driver != Driver::Dpdk;
                let effect = if moves && same_queues(&port.queues, &other.queues) {
                    InPlace
                } else {
                    Restart
                };
                let label = format!("{label}: queues");
                found.value(effect, &label, &port.queues, &other.queues);
            }
        }
    }

    fn compare_pools(&self, new: &Self, found: &mut Found) {
        let kernel = new.kernel_port().is_some();
        for pool in &self.pools {
            match new.pools.iter().find(|other| other.name == pool.name) {
                Some(other) => found.pool(pool, other, kernel),
                None => found.add(Reconnect, format!("pool {} is removed", pool.name)),
            }
        }
        for pool in &new.pools {
            if !self.pools.iter().any(|other| other.name == pool.name) {
                let (name, listen) = (&pool.name, joined(&pool.listen));
                let servers = pool.servers.len();
                let text = format!("pool {name} is added: listens on {listen}, {servers} servers");
                found.add(InPlace, text);
            }
        }
        let stay = |of: &Self, other: &Self| -> Vec<String> {
            let names = of.pools.iter().map(|pool| pool.name.clone());
            names
                .filter(|name| other.pools.iter().any(|pool| pool.name == *name))
                .collect()
        };
        let (before, after) = (stay(self, new), stay(new, self));
        if before != after {
            found.list(InPlace, "the order of the pools", &before, &after);
        }
    }
}

/// Whether two maps name the same queues; the cores may differ.
fn same_queues(old: &Queues, new: &Queues) -> bool {
    match (old.map(), new.map()) {
        (Some(old), Some(new)) => old.keys().eq(new.keys()),
        _ => false,
    }
}

impl PoolConfig {
    /// Whether clients of this pool can be clients of `new` without noticing: what they agreed on with the proxy is the same.
    pub fn keeps_clients(&self, new: &Self) -> bool {
        self.name == new.name
            && self.protocol == new.protocol
            && self.compat == new.compat
            && self.database == new.database
            && self.databases <= new.databases
    }

    /// Whether every key has the server at the same position of the file in both.
    pub fn routes_as(&self, new: &Self) -> bool {
        let ring = |pool: &Self| {
            let servers = pool.servers.iter();
            servers
                .map(|server| (server.name.clone(), server.weight))
                .collect::<Vec<_>>()
        };
        self.distribution == new.distribution
            && self.hash == new.hash
            && self.hash_tag == new.hash_tag
            && ring(self) == ring(new)
            && self
                .places(new)
                .iter()
                .copied()
                .eq((0..self.servers.len()).map(Some))
    }

    /// Where each server of this pool is in `new`; `None`: it is there no more. The same address twice is told apart by the name,
    /// then by the order.
    pub fn places(&self, new: &Self) -> Vec<Option<usize>> {
        let mut free: BTreeMap<&Endpoint, Vec<usize>> = BTreeMap::new();
        for (place, server) in new.servers.iter().enumerate() {
            free.entry(&server.address).or_default().push(place);
        }
        let mut places = vec![None; self.servers.len()];
        for by_name in [true, false] {
            for (server, place) in self.servers.iter().zip(&mut places) {
                let Some(others) = free.get_mut(&server.address).filter(|_| place.is_none()) else {
                    continue;
                };
                let is_it = |other: &usize| !by_name || new.servers[*other].name == server.name;
                if let Some(found) = others.iter().position(is_it) {
                    *place = Some(others.remove(found));
                }
            }
        }
        places
    }
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, effect: Effect, text: String) {
        self.0.push(Difference { effect, text });
    }

    fn value(
        &mut self,
        effect: Effect,
        what: &str,
        old: &dyn fmt::Display,
        new: &dyn fmt::Display,
    ) {
        self.add(effect, format!("{what} was {old}, is {new}"));
    }

    fn list(&mut self, effect: Effect, what: &str, old: &[String], new: &[String]) {
        self.value(effect, what, &old.join(", "), &new.join(", "));
    }

    /// Compares the settings of two tables as they are written.
    fn settings(&mut self, label: &str, effects: &[(&str, Effect)], old: &str, new: &str) {
        let (old, new) = (settings(old), settings(new));
        let keys: std::collections::BTreeSet<&str> =
            old.keys().chain(new.keys()).copied().collect();
        for key in keys.into_iter().filter(|key| !APART.contains(key)) {
            let value = |of: &BTreeMap<&str, String>| of.get(key).cloned();
            let (old, new) = (value(&old), value(&new));
            if old != new {
                let none = || "not set".to_owned();
                let (old, new) = (old.unwrap_or_else(none), new.unwrap_or_else(none));
                self.value(
                    effect_of(effects, key),
                    &format!("{label}: {key}"),
                    &old,
                    &new,
                );
            }
        }
    }

    fn pool(&mut self, old: &PoolConfig, new: &PoolConfig, kernel: bool) {
        let label = format!("pool {}", old.name);
        let before = self.0.len();
        let written = |pool| effective::pool(pool, kernel);
        self.settings(&label, OF_POOL, &written(old), &written(new));
        if old.keeps_clients(new) {
            // More databases than before are nobody's loss.
            for difference in &mut self.0[before..] {
                difference.effect = InPlace;
            }
        }
        self.listeners(&label, old, new);
        self.servers(&label, old, new);
        for (key, old, new) in [
            ("redis_auth", &old.redis_auth, &new.redis_auth),
            ("memcached_auth", &old.memcached_auth, &new.memcached_auth),
            ("server_auth", &old.server_auth, &new.server_auth),
        ] {
            self.secret(&format!("{label}: {key}"), old.as_ref(), new.as_ref());
        }
    }

    fn secret(&mut self, what: &str, old: Option<&Secret>, new: Option<&Secret>) {
        let text = match (old, new) {
            (None, Some(_)) => "is set",
            (Some(_), None) => "is not set any more",
            (old, new) if old != new => "is another password",
            _ => return,
        };
        self.add(InPlace, format!("{what} {text}"));
    }

    fn listeners(&mut self, label: &str, old: &PoolConfig, new: &PoolConfig) {
        for listen in &old.listen {
            let is_it = |other: &&Listen| other.endpoint == listen.endpoint;
            match new.listen.iter().find(is_it) {
                None => self.add(Reconnect, format!("{label}: listens no more on {listen}")),
                Some(other) if other.mode != listen.mode => {
                    self.value(InPlace, &format!("{label}: listen"), listen, other);
                }
                Some(_) => {}
            }
        }
        for listen in &new.listen {
            if !old
                .listen
                .iter()
                .any(|other| other.endpoint == listen.endpoint)
            {
                self.add(InPlace, format!("{label}: listens on {listen}"));
            }
        }
    }

    fn servers(&mut self, label: &str, old: &PoolConfig, new: &PoolConfig) {
        let places = old.places(new);
        for (server, place) in old.servers.iter().zip(&places) {
            let Some(other) = place.map(|place| &new.servers[place]) else {
                let text = format!("{label}: server {} is removed", shown(server));
                self.add(InPlace, text);
                continue;
            };
            let what = format!("{label}: server {}", server.address);
            if server.name != other.name {
                self.value(InPlace, &format!("{what}: name"), &server.name, &other.name);
            }
            if server.weight != other.weight {
                let what = format!("{what}: weight");
                self.value(InPlace, &what, &server.weight, &other.weight);
            }
        }
        for (place, server) in new.servers.iter().enumerate() {
            if !places.contains(&Some(place)) {
                self.add(
                    InPlace,
                    format!("{label}: server {} is added", shown(server)),
                );
            }
        }
        let stay: Vec<usize> = places.iter().copied().flatten().collect();
        if !stay.is_sorted() {
            self.add(
                InPlace,
                format!("{label}: the servers stand in another order"),
            );
        }
    }
}

/// What a change of a setting means. One that nobody has thought of is not changed while the instance runs.
fn effect_of(effects: &[(&str, Effect)], key: &str) -> Effect {
    let known = effects.iter().find(|(known, _)| *known == key);
    debug_assert!(known.is_some(), "{key} stands in no table of effects");
    known.map_or(Restart, |(_, effect)| *effect)
}

/// Key → value of a table. A default that has no value stands in a comment, as `# key: words`.
fn settings(written: &str) -> BTreeMap<&str, String> {
    let mut settings = BTreeMap::new();
    for line in written.lines() {
        let (key, value) = match line.strip_prefix("# ") {
            None => match line.split_once(" = ") {
                Some(setting) => setting,
                None => continue,
            },
            Some(comment) => match comment.split_once(": ") {
                Some(setting) => setting,
                None => continue,
            },
        };
        let is_key = |key: &str| !key.is_empty() && !key.contains([' ', '"', '[']);
        if is_key(key) {
            settings.insert(key, value.to_owned());
        }
    }
    settings
}

/// Settings of a configuration for which no table of this file has a word.
#[cfg(test)]
pub(crate) fn without_effect(config: &Config) -> Vec<String> {
    let kernel = config.kernel_port().is_some();
    let pools = config
        .pools
        .iter()
        .map(|pool| effective::pool(pool, kernel));
    let ports = config.ports.iter().map(effective::port);
    let tables = pools
        .map(|pool| (OF_POOL, pool))
        .chain(ports.map(|port| (OF_PORT, port)))
        .chain([(OF_WORKER, effective::worker(config))]);
    let mut missing = Vec::new();
    for (effects, written) in tables {
        let keys = settings(&written).into_keys().map(str::to_owned);
        let is_known = |key: &String| effects.iter().any(|(known, _)| known == key);
        missing.extend(keys.filter(|key| !is_known(key) && !APART.contains(&key.as_str())));
    }
    missing
}

fn joined(listen: &[Listen]) -> String {
    let all: Vec<String> = listen.iter().map(ToString::to_string).collect();
    all.join(", ")
}

fn shown(server: &ServerConfig) -> String {
    let ServerConfig {
        address,
        name,
        weight,
    } = server;
    format!("{address} (name {name}, weight {weight})")
}
