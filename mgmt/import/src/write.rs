//! Writes pools as Tidegate's TOML, line by line with the place that each comes from.

use crate::limits::SPARE_SERVER_CONNECTIONS;
use crate::notes::START;
use crate::options::Setting;
use crate::pool::Pool;
use crate::{Options, Port};
use std::fmt::Display;
use tidegate_config::limits::{DATABASES, SERVER_CONNECTIONS_MAX};
use tidegate_config::{Compat, Distribution, HashKind, Place, quoted};

/// A text and where its lines come from.
pub(crate) struct Sheet {
    pub(crate) text: String,
    pub(crate) origins: Vec<Place>,
}

/// The whole configuration.
pub(crate) fn write(pools: &[Pool], options: &Options<'_>) -> Sheet {
    let mut sheet = Sheet {
        text: String::new(),
        origins: Vec::new(),
    };
    header(&mut sheet, pools);
    port(&mut sheet, &options.port);
    for pool in pools {
        write_pool(&mut sheet, pool, options);
    }
    worker(&mut sheet, pools);
    sheet
}

impl Sheet {
    fn line(&mut self, at: Place, line: impl Display) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
        self.origins.push(at);
    }

    fn lines(&mut self, at: Place, lines: &str) {
        for line in lines.lines() {
            self.line(at, line);
        }
    }

    /// An option. What the file of twemproxy did not say is marked, so that nobody takes it for a decision.
    fn option<T>(&mut self, pool: &Pool, key: &str, setting: &Setting<T>, value: impl Display) {
        let note = match setting.at {
            Some(_) => "",
            None => " # twemproxy's default",
        };
        let at = setting.at.unwrap_or(pool.at);
        self.line(at, format_args!("{key} = {value}{note}"));
    }
}

fn header(sheet: &mut Sheet, pools: &[Pool]) {
    sheet.lines(
        START,
        "# Made by `tidegate import` from a configuration of twemproxy: the same keys go to the same servers, by the same names.
# Every option with its meaning stands in configs/example.toml. Limits of [worker] that twemproxy does not have keep their defaults.",
    );
    if pools.iter().any(|pool| pool.redis_auth.is_some()) {
        sheet.line(START, "#");
        sheet.line(
            START,
            "# This file holds passwords: nobody but its owner should be able to read it (chmod 0600).",
        );
    }
}

fn port(sheet: &mut Sheet, port: &Port) {
    sheet.line(START, "");
    match port {
        Port::Kernel { workers } => {
            sheet.lines(
                START,
                "# The kernel's sockets, which run on any machine. To take frames from a network card instead, import once more with
# --driver afxdp --interface NAME, on the machine that has it.
[[port]]
driver = \"kernel\"
# Each worker is a process with its own connections to every server. twemproxy is one.",
            );
            sheet.line(START, format_args!("workers = {workers}"));
        }
        Port::Afxdp { interface } => {
            sheet.lines(
                START,
                "# Every queue of the card, each with a worker on a core of its own and with its own connections to every server.
[[port]]
driver = \"afxdp\"",
            );
            sheet.line(START, format_args!("interface = {}", quoted(interface)));
            sheet.line(START, "queues = \"auto\"");
        }
    }
}

fn write_pool(sheet: &mut Sheet, pool: &Pool, options: &Options<'_>) {
    let at = pool.at;
    sheet.line(at, "");
    sheet.line(at, "[[pool]]");
    sheet.line(at, format_args!("name = {}", quoted(&pool.name)));
    listen(sheet, pool);
    if options.port.has_backlog() {
        sheet.option(pool, "backlog", &pool.backlog, pool.backlog.value);
    }
    let protocol = if pool.redis.value {
        "redis"
    } else {
        "memcached"
    };
    sheet.option(pool, "protocol", &pool.redis, quoted(protocol));
    let distribution = word(Distribution::NAMES, pool.distribution.value);
    sheet.option(pool, "distribution", &pool.distribution, distribution);
    let hash = word(HashKind::NAMES, pool.hash.value);
    sheet.option(pool, "hash", &pool.hash, hash);
    if let Some(tag) = &pool.hash_tag {
        sheet.option(pool, "hash_tag", tag, quoted(&tag.value));
    }
    sheet.line(at, "servers = [");
    for server in &pool.servers {
        sheet.line(server.at, format_args!("    {},", quoted(&server.text)));
    }
    sheet.line(at, "]");
    numbers_and_flags(sheet, pool);
    if let Some(database) = &pool.database {
        let databases = u64::from(database.value) + 1;
        if databases > DATABASES.default {
            sheet.option(pool, "databases", database, databases);
        }
        sheet.option(pool, "database", database, database.value);
    }
    if let Some(password) = &pool.redis_auth {
        // twemproxy asks clients for it and sends it to the servers.
        for key in ["redis_auth", "server_auth"] {
            sheet.option(pool, key, password, quoted(password.value.reveal()));
        }
    }
    let compat = word(Compat::NAMES, options.compat);
    sheet.line(at, format_args!("compat = {compat}"));
}

fn listen(sheet: &mut Sheet, pool: &Pool) {
    let texts: Vec<String> = pool.listen.value.iter().map(|text| quoted(text)).collect();
    match texts.as_slice() {
        [one] => sheet.option(pool, "listen", &pool.listen, one),
        more => {
            let list = format!("[{}]", more.join(", "));
            sheet.option(pool, "listen", &pool.listen, list);
        }
    }
}

fn numbers_and_flags(sheet: &mut Sheet, pool: &Pool) {
    for (key, setting) in [
        ("timeout_ms", &pool.timeout_ms),
        ("server_connections", &pool.server_connections),
    ] {
        sheet.option(pool, key, setting, setting.value);
    }
    for (key, setting) in [
        ("preconnect", &pool.preconnect),
        ("auto_eject_hosts", &pool.auto_eject_hosts),
    ] {
        sheet.option(pool, key, setting, setting.value);
    }
    for (key, setting) in [
        ("server_retry_timeout_ms", &pool.server_retry_timeout_ms),
        ("server_failure_limit", &pool.server_failure_limit),
        ("client_keepalive_s", &pool.client_keepalive_s),
    ] {
        sheet.option(pool, key, setting, setting.value);
    }
}

/// More server connections than Tidegate allows for by default have to be asked for.
fn worker(sheet: &mut Sheet, pools: &[Pool]) {
    let needed: u64 = pools
        .iter()
        .map(|pool| pool.servers.len() as u64 * u64::from(pool.server_connections.value))
        .sum();
    let wanted = needed + SPARE_SERVER_CONNECTIONS;
    if wanted <= SERVER_CONNECTIONS_MAX.default {
        return;
    }
    let max = wanted.min(SERVER_CONNECTIONS_MAX.max);
    let at = pools.last().map_or(START, |pool| pool.at);
    sheet.line(at, "");
    sheet.line(at, "[worker]");
    sheet.line(
        at,
        format_args!(
            "# {needed} for the servers of all pools (servers × server_connections), and some for large requests. Each takes memory: see `tidegate check`."
        ),
    );
    sheet.line(at, format_args!("server_connections_max = {max}"));
}

/// The name of a value in a file, in quotes.
fn word<T: Copy + PartialEq>(names: &[(&str, T)], value: T) -> String {
    let name = names.iter().find(|(_, named)| *named == value);
    quoted(name.map_or("", |(name, _)| name))
}
