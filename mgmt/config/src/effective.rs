//! The configuration as it takes effect, defaults included.

use crate::compat::Compat;
use crate::config::Config;
use crate::dpdk::Pmd;
use crate::http::HttpConfig;
use crate::log_format::LogFormat;
use crate::partial::Partial;
use crate::pool::{Distribution, HashKind, PoolConfig, Protocol};
use crate::port::{AckMode, Driver, PortConfig, RssMode};
use crate::warnings::of_packets_alone;
use crate::worker::{IdleMode, Seccomp, WorkerConfig};
use std::fmt::{self, Display, Write};

impl Config {
    /// The configuration as TOML, every default written out and every password as `***`. But for passwords it parses to the
    /// same configuration.
    pub fn effective_toml(&self) -> String {
        written(|out| write_config(out, self))
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.effective_toml())
    }
}

/// One port, as it stands in [`Config::effective_toml`].
pub(crate) fn port(port: &PortConfig) -> String {
    written(|out| write_port(out, port))
}

/// One pool, likewise.
pub(crate) fn pool(pool: &PoolConfig, kernel: bool) -> String {
    written(|out| write_pool(out, pool, kernel))
}

/// The limits of workers, likewise.
pub(crate) fn worker(config: &Config) -> String {
    written(|out| write_worker(out, &config.worker, config.kernel_port().is_some()))
}

fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out);
    out
}

fn write_config(out: &mut String, config: &Config) -> fmt::Result {
    writeln!(out, "name = {}", quoted(&config.name))?;
    writeln!(out, "slowlog_entries_max = {}", config.slowlog_entries_max)?;
    let format = word(LogFormat::NAMES, config.log_format);
    writeln!(out, "log_format = {format}")?;
    match config.stats_listen {
        Some(address) => writeln!(out, "stats_listen = \"{address}\"")?,
        None => writeln!(out, "# stats_listen: none")?,
    }
    write_http(out, config.http.as_ref())?;
    for port in &config.ports {
        write_port(out, port)?;
    }
    for pool in &config.pools {
        write_pool(out, pool, config.kernel_port().is_some())?;
    }
    write_worker(out, &config.worker, config.kernel_port().is_some())
}

fn write_http(out: &mut String, http: Option<&HttpConfig>) -> fmt::Result {
    match http {
        Some(http) => writeln!(out, "http_listen = \"{}\"", http.listen)?,
        None => writeln!(out, "# http_listen: nowhere")?,
    }
    match http.and_then(|http| http.token.as_deref()) {
        Some(file) => writeln!(
            out,
            "http_token = {{ file = {} }}",
            quoted(&file.to_string_lossy())
        ),
        None => writeln!(out, "# http_token: none"),
    }
}

fn write_port(out: &mut String, port: &PortConfig) -> fmt::Result {
    writeln!(out, "\n[[port]]")?;
    writeln!(out, "driver = {}", word(Driver::NAMES, port.driver))?;
    writeln!(out, "ack = {}", word(AckMode::NAMES, port.ack))?;
    match port.driver {
        Driver::Afxdp => write_nic(out, port),
        Driver::Kernel => write_kernel(out, port),
        Driver::Dpdk => write_dpdk(out, port),
    }
}

fn write_kernel(out: &mut String, port: &PortConfig) -> fmt::Result {
    match port.workers {
        Some(workers) => writeln!(out, "workers = {workers}")?,
        None => writeln!(out, "queues = {}", port.queues)?,
    }
    writeln!(out, "reuseport = {}", port.reuseport)
}

fn write_dpdk(out: &mut String, port: &PortConfig) -> fmt::Result {
    writeln!(out, "interface = {}", quoted(&port.interface))?;
    if let Some(dpdk) = &port.dpdk {
        if dpdk.pmd == Pmd::Pci {
            writeln!(out, "without_iommu = {}", dpdk.without_iommu)?;
        } else {
            writeln!(out, "pmd = {}", word(Pmd::NAMES, dpdk.pmd))?;
        }
        writeln!(out, "addresses = [{}]", list(&dpdk.addresses))?;
        writeln!(out, "routes = [{}]", list(&dpdk.routes))?;
    }
    writeln!(out, "queues = {}", port.queues)?;
    writeln!(out, "rss = {}", word(RssMode::NAMES, port.rss))?;
    writeln!(out, "ring_size = {}", port.ring_size)?;
    write_mtu(out, port)
}

fn list(values: &[impl Display]) -> String {
    let values = values.iter().map(|value| quoted(&value.to_string()));
    values.collect::<Vec<_>>().join(", ")
}

fn write_nic(out: &mut String, port: &PortConfig) -> fmt::Result {
    writeln!(out, "interface = {}", quoted(&port.interface))?;
    writeln!(out, "queues = {}", port.queues)?;
    writeln!(out, "require_zero_copy = {}", port.require_zero_copy)?;
    writeln!(out, "rss = {}", word(RssMode::NAMES, port.rss))?;
    writeln!(out, "ring_size = {}", port.ring_size)?;
    write_mtu(out, port)
}

fn write_mtu(out: &mut String, port: &PortConfig) -> fmt::Result {
    match port.mtu_bytes {
        Some(bytes) => writeln!(out, "mtu_bytes = {bytes}"),
        None => writeln!(out, "# mtu_bytes: that of the interface"),
    }
}

fn write_pool(out: &mut String, pool: &PoolConfig, kernel: bool) -> fmt::Result {
    writeln!(out, "\n[[pool]]")?;
    writeln!(out, "name = {}", quoted(&pool.name))?;
    writeln!(out, "listen = [{}]", list(&pool.listen))?;
    if kernel {
        writeln!(out, "backlog = {}", pool.backlog)?;
    }
    writeln!(out, "protocol = {}", word(Protocol::NAMES, pool.protocol))?;
    writeln!(
        out,
        "distribution = {}",
        word(Distribution::NAMES, pool.distribution)
    )?;
    writeln!(out, "hash = {}", word(HashKind::NAMES, pool.hash))?;
    match pool.hash_tag.as_ref().map(|tag| std::str::from_utf8(tag)) {
        Some(Ok(tag)) => writeln!(out, "hash_tag = {}", quoted(tag))?,
        Some(Err(_)) | None => writeln!(out, "# hash_tag: none")?,
    }
    writeln!(out, "servers = [")?;
    for server in &pool.servers {
        let text = format!("{}:{} {}", server.address, server.weight, server.name);
        writeln!(out, "    {},", quoted(&text))?;
    }
    writeln!(out, "]")?;
    writeln!(out, "timeout_ms = {}", pool.timeout_ms.unwrap_or(0))?;
    writeln!(out, "slowlog_us = {}", pool.slowlog_us.unwrap_or(0))?;
    match pool.clients_max {
        Some(clients) => writeln!(out, "clients_max = {clients}")?,
        None => writeln!(out, "# clients_max: that of [worker]")?,
    }
    writeln!(out, "server_connections = {}", pool.server_connections)?;
    writeln!(out, "own_connections_max = {}", pool.own_connections_max)?;
    writeln!(out, "preconnect = {}", pool.preconnect)?;
    writeln!(out, "auto_eject_hosts = {}", pool.auto_eject_hosts)?;
    writeln!(
        out,
        "server_retry_timeout_ms = {}",
        pool.server_retry_timeout_ms
    )?;
    writeln!(out, "server_failure_limit = {}", pool.server_failure_limit)?;
    writeln!(
        out,
        "client_keepalive_s = {}",
        pool.client_keepalive_s.unwrap_or(0)
    )?;
    if pool.protocol == Protocol::Redis {
        writeln!(out, "databases = {}", pool.databases)?;
        writeln!(out, "database = {}", pool.database)?;
    }
    for (key, secret, user_key, user) in [
        (
            "redis_auth",
            &pool.redis_auth,
            "redis_user",
            &pool.redis_user,
        ),
        (
            "memcached_auth",
            &pool.memcached_auth,
            "memcached_user",
            &pool.memcached_user,
        ),
        (
            "server_auth",
            &pool.server_auth,
            "server_user",
            &pool.server_user,
        ),
    ] {
        match secret {
            Some(secret) => writeln!(out, "{key} = {}", secret.shown())?,
            None => writeln!(out, "# {key}: none")?,
        }
        match user {
            Some(user) => writeln!(out, "{user_key} = {}", quoted(user))?,
            None if key == "memcached_auth" => writeln!(out, "# {user_key}: none")?,
            None => writeln!(out, "# {user_key}: default")?,
        }
    }
    writeln!(out, "partial = {}", word(Partial::NAMES, pool.partial))?;
    writeln!(out, "compat = {}", word(Compat::NAMES, pool.compat))
}

fn write_worker(out: &mut String, worker: &WorkerConfig, kernel: bool) -> fmt::Result {
    let mib = worker.buffer_bytes().div_ceil(1 << 20);
    writeln!(out, "\n# The buffers of each worker take {mib} MiB.")?;
    writeln!(out, "[worker]")?;
    let numbers: [(&str, u64); 13] = [
        ("clients_max", worker.clients_max.into()),
        ("half_open_max", worker.half_open_max.into()),
        ("client_buffer_bytes", worker.client_buffer_bytes.into()),
        (
            "server_connections_max",
            worker.server_connections_max.into(),
        ),
        ("server_buffer_bytes", worker.server_buffer_bytes.into()),
        ("requests_max", worker.requests_max.into()),
        ("client_requests_max", worker.client_requests_max.into()),
        ("split_keys_max", worker.split_keys_max.into()),
        ("request_hold_bytes", worker.request_hold_bytes.into()),
        ("reply_hold_bytes", worker.reply_hold_bytes),
        ("client_reply_hold_bytes", worker.client_reply_hold_bytes),
        ("client_stall_ms", worker.client_stall_ms.into()),
        ("drain_timeout_ms", worker.drain_timeout_ms.into()),
    ];
    let without_meaning = if kernel {
        of_packets_alone(worker)
    } else {
        Vec::new()
    };
    for (key, number) in numbers {
        if !without_meaning.contains(&(key, false)) {
            writeln!(out, "{key} = {number}")?;
        }
    }
    writeln!(out, "idle = {}", word(IdleMode::NAMES, worker.idle))?;
    let (first, last) = worker.source_ports;
    if !without_meaning.contains(&("source_ports", false)) {
        writeln!(out, "source_ports = \"{first}-{last}\"")?;
    }
    match &worker.user {
        Some(user) => writeln!(out, "user = {}", quoted(user))?,
        None if kernel => writeln!(out, "# user: nobody if root starts it, else who starts it")?,
        None => writeln!(out, "# user: nobody")?,
    }
    match worker.source_address {
        Some(address) => writeln!(out, "source_address = \"{address}\"")?,
        None => writeln!(out, "# source_address: the kernel's choice for each server")?,
    }
    writeln!(out, "outlive_manager = {}", worker.outlive_manager)?;
    writeln!(out, "seccomp = {}", word(Seccomp::NAMES, worker.seccomp))
}

/// The name of a value in a file, in quotes.
fn word<T: Copy + PartialEq>(names: &[(&str, T)], value: T) -> String {
    let name = names.iter().find(|(_, named)| *named == value);
    quoted(name.map_or("", |(name, _)| name))
}

/// `text` as a TOML basic string, in quotes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\U{:08X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
