//! One pool of twemproxy, with everything that its file says about it.

use crate::hosts::Hosts;
use crate::limits::KERNEL_KEEPALIVE_S;
use crate::listen;
use crate::notes::Notes;
use crate::options::{Options, Setting, shown_name};
use crate::server::{self, Server};
use crate::yaml;
use tidegate_config::limits::{
    BACKLOG, DATABASE, SERVER_CONNECTIONS, SERVER_FAILURE_LIMIT, SERVER_RETRY_TIMEOUT_MS,
    TIMEOUT_MS,
};
use tidegate_config::{Distribution, HashKind, Place, Secret};

/// twemproxy's defaults where they are not 0 or false. Those of the hash and the distribution are Tidegate's as well.
mod defaults {
    pub(super) const BACKLOG: u32 = 512;
    pub(super) const SERVER_CONNECTIONS: u32 = 1;
    pub(super) const SERVER_RETRY_TIMEOUT_MS: u32 = 30_000;
    pub(super) const SERVER_FAILURE_LIMIT: u32 = 2;
}

/// A pool, in Tidegate's terms and twemproxy's values.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) at: Place,
    pub(crate) name: String,
    pub(crate) listen: Setting<Vec<String>>,
    pub(crate) backlog: Setting<u32>,
    pub(crate) redis: Setting<bool>,
    pub(crate) distribution: Setting<Distribution>,
    pub(crate) hash: Setting<HashKind>,
    pub(crate) hash_tag: Option<Setting<String>>,
    pub(crate) servers: Vec<Server>,
    /// 0: no limit.
    pub(crate) timeout_ms: Setting<u32>,
    pub(crate) server_connections: Setting<u32>,
    pub(crate) preconnect: Setting<bool>,
    pub(crate) auto_eject_hosts: Setting<bool>,
    pub(crate) server_retry_timeout_ms: Setting<u32>,
    pub(crate) server_failure_limit: Setting<u32>,
    /// 0: never.
    pub(crate) client_keepalive_s: Setting<u32>,
    pub(crate) redis_auth: Option<Setting<Secret>>,
    /// A database that requests went to and do not any more.
    pub(crate) database: Option<Setting<u32>>,
}

/// Reads one pool, which Tidegate shall know as `name`; `None` where it cannot be a pool, which then has its faults.
/// `has_backlog` is whether the driver has one.
pub(crate) fn read(
    pool: yaml::Pool,
    name: String,
    has_backlog: bool,
    hosts: &mut Hosts<'_>,
    notes: &mut Notes,
) -> Option<Pool> {
    let at = pool.name.at;
    let label = format!("pool {}", shown_name(&pool.name.text));
    let mut options = Options::new(label, at, pool.entries, notes);
    let listen = listening(&mut options, pool.whole, hosts);
    let servers = server::read(&mut options, pool.whole, hosts);
    let redis = options.flag("redis");
    let redis_auth = redis_auth(&mut options, redis.value);
    let database = database(&mut options, redis.value, redis_auth.is_some());
    without_counterpart(&mut options);
    let read = Pool {
        at,
        name,
        listen: listen.unwrap_or(Setting {
            value: Vec::new(),
            at: None,
        }),
        backlog: backlog(&mut options, has_backlog),
        redis,
        distribution: options.choice("distribution", Distribution::NAMES),
        hash: options.choice("hash", HashKind::NAMES),
        hash_tag: hash_tag(&mut options),
        servers: servers.unwrap_or_default(),
        timeout_ms: options.fitted("timeout", 0, TIMEOUT_MS),
        server_connections: server_connections(&mut options),
        preconnect: options.flag("preconnect"),
        auto_eject_hosts: options.flag("auto_eject_hosts"),
        server_retry_timeout_ms: options.fitted(
            "server_retry_timeout",
            defaults::SERVER_RETRY_TIMEOUT_MS,
            SERVER_RETRY_TIMEOUT_MS,
        ),
        server_failure_limit: options.fitted(
            "server_failure_limit",
            defaults::SERVER_FAILURE_LIMIT,
            SERVER_FAILURE_LIMIT,
        ),
        client_keepalive_s: keepalive(&mut options),
        redis_auth,
        database,
    };
    options.finish();
    // What lacks one of these would only be told so once more.
    (!read.listen.value.is_empty() && !read.servers.is_empty()).then_some(read)
}

fn listening(
    options: &mut Options<'_>,
    whole: bool,
    hosts: &mut Hosts<'_>,
) -> Option<Setting<Vec<String>>> {
    if options.place_of("listen").is_none() && whole {
        let what = "listen is missing, for example listen: 127.0.0.1:22121";
        options.fault(options.at, what);
    }
    listen::read(options, hosts)
}

fn backlog(options: &mut Options<'_>, has_backlog: bool) -> Setting<u32> {
    if has_backlog {
        return options.fitted("backlog", defaults::BACKLOG, BACKLOG);
    }
    let backlog = options.number("backlog", defaults::BACKLOG);
    if let Some(at) = backlog.at {
        let what =
            "backlog is not carried over: on AF_XDP half_open_max of [worker] bounds what waits";
        options.warn(at, what);
    }
    backlog
}

fn hash_tag(options: &mut Options<'_>) -> Option<Setting<String>> {
    let tag = options.text("hash_tag")?;
    if tag.text.len() != 2 {
        let what = format!(
            "hash_tag = {:?} must be exactly two bytes, for example \"{{}}\" in quotes",
            tag.text
        );
        options.fault(tag.at, &what);
    }
    Some(Setting {
        value: tag.text,
        at: Some(tag.at),
    })
}

fn server_connections(options: &mut Options<'_>) -> Setting<u32> {
    const KEY: &str = "server_connections";
    let written = options.number(KEY, defaults::SERVER_CONNECTIONS);
    if let (0, Some(at)) = (written.value, written.at) {
        options.fault(at, "server_connections = 0 is not at least 1");
    }
    options.fit(KEY, written, SERVER_CONNECTIONS)
}

/// twemproxy asks for it to be sent by the kernel, at the kernel's own times.
fn keepalive(options: &mut Options<'_>) -> Setting<u32> {
    let flag = options.flag("tcpkeepalive");
    Setting {
        value: if flag.value { KERNEL_KEEPALIVE_S } else { 0 },
        at: flag.at,
    }
}

fn redis_auth(options: &mut Options<'_>, redis: bool) -> Option<Setting<Secret>> {
    let password = options.text("redis_auth")?;
    if !redis {
        options.fault(password.at, "redis_auth needs redis: true");
        return None;
    }
    Some(Setting {
        value: Secret::new(password.text),
        at: Some(password.at),
    })
}

/// The database that servers are to use, if twemproxy does use it.
fn database(options: &mut Options<'_>, redis: bool, password: bool) -> Option<Setting<u32>> {
    let number = options.number("redis_db", 0);
    let at = number.at.filter(|_| number.value > 0)?;
    let what = match (redis, password) {
        (false, _) => "redis_db is not carried over: it means nothing without redis: true",
        (true, true) => {
            "redis_db is not carried over, and nothing changes: with redis_auth twemproxy fails to select it and uses database 0, and so will Tidegate"
        }
        (true, false) if u64::from(number.value) > DATABASE.max => {
            "redis_db is NOT carried over: Tidegate knows databases up to 1023, so what is in this one is not found. Move the data to another first"
        }
        (true, false) => return Some(number),
    };
    options.warn(at, what);
    None
}

/// Options that Tidegate has no place for, since it needs none.
fn without_counterpart(options: &mut Options<'_>) {
    if let Some(at) = options.number("client_connections", 0).at {
        let what = "client_connections is not carried over: twemproxy itself does not heed it. clients_max of the pool is such a limit, of each worker";
        options.warn(at, what);
    }
    if let Some(at) = options.flag("reuseport").at {
        let what = "reuseport is not carried over: workers of one Tidegate share its addresses, see --workers and reuseport of [[port]]";
        options.warn(at, what);
    }
}
