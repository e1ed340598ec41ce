//! Configurations for the lab's appliance, as text: the tests go through the same door as an operator.

use crate::lab::Lab;
use crate::lab::addresses::{self, Family, MEMCACHED_PORT, REDIS_PORT};
use crate::lab::servers::ServerKind;
use crate::lab::topology::{CLIENT_SIDE, Nics, SERVER_SIDE};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A configuration under construction.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// Name of the instance.
    pub name: String,
    /// Interfaces, in order.
    pub interfaces: Vec<String>,
    /// Queues of each.
    pub queues: u32,
    /// Further lines of every `[[port]]`.
    pub port_lines: Vec<String>,
    /// Lines of `[worker]`.
    pub worker_lines: Vec<String>,
    /// Pools, in order.
    pub pools: Vec<PoolText>,
}

/// One pool of a [`LabConfig`].
#[derive(Clone, Debug)]
pub struct PoolText {
    /// Its name.
    pub name: String,
    /// `memcached` or `redis`.
    pub protocol: &'static str,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Its servers as the file says them.
    pub servers: Vec<String>,
    /// Further lines.
    pub lines: Vec<String>,
}

impl PoolText {
    /// A pool of `kind` on its usual port of the virtual addresses of both families.
    pub fn new(name: &str, kind: ServerKind, servers: &[SocketAddr]) -> Self {
        let (protocol, port) = match kind {
            ServerKind::Memcached => ("memcached", MEMCACHED_PORT),
            ServerKind::Redis => ("redis", REDIS_PORT),
        };
        Self {
            name: name.to_owned(),
            protocol,
            listen: Family::BOTH
                .map(|family| SocketAddr::new(addresses::vip(family), port))
                .to_vec(),
            servers: servers.iter().map(|server| format!("{server}:1")).collect(),
            lines: Vec::new(),
        }
    }

    /// The same pool on another port.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        for listen in &mut self.listen {
            listen.set_port(port);
        }
        self
    }

    /// The same pool with one more line.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }
}

impl LabConfig {
    /// The lab's interfaces, all queues, and no pool. Idle workers sleep, because a lab shares its cores with everything else.
    pub fn without_pools(lab: &Lab) -> Self {
        let interfaces = match lab.options.nics {
            Nics::One => vec![CLIENT_SIDE.to_owned()],
            Nics::Two => vec![CLIENT_SIDE.to_owned(), SERVER_SIDE.to_owned()],
        };
        Self {
            name: lab.name().to_owned(),
            interfaces,
            queues: lab.options.queues,
            port_lines: vec!["rss = \"port-xor\"".to_owned()],
            worker_lines: vec!["idle = \"adaptive\"".to_owned()],
            pools: Vec::new(),
        }
    }

    /// The lab's interfaces with a pool of all memcached servers and one of all Redis servers, reached over `family`.
    pub fn new(lab: &Lab, family: Family) -> Self {
        let mut config = Self::without_pools(lab);
        for (name, kind, servers) in [
            ("memcached", ServerKind::Memcached, &lab.memcached),
            ("redis", ServerKind::Redis, &lab.redis),
        ] {
            if !servers.is_empty() {
                let servers: Vec<SocketAddr> = servers
                    .iter()
                    .map(|server| server.address(family))
                    .collect();
                // Of twemproxy's hashes murmur spreads the short sequential keys of tests best.
                config
                    .pools
                    .push(PoolText::new(name, kind, &servers).with("hash = \"murmur\""));
            }
        }
        config
    }

    /// The same configuration with one more pool.
    #[must_use]
    pub fn pool(mut self, pool: PoolText) -> Self {
        self.pools.push(pool);
        self
    }

    /// Adds a line to every pool.
    #[must_use]
    pub fn every_pool(mut self, line: &str) -> Self {
        for pool in &mut self.pools {
            pool.lines.push(line.to_owned());
        }
        self
    }

    /// Adds a line to `[worker]`.
    #[must_use]
    pub fn worker(mut self, line: &str) -> Self {
        self.worker_lines.push(line.to_owned());
        self
    }

    /// The text of the file.
    pub fn to_toml(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let map: Vec<String> = (0..self.queues)
            .map(|queue| format!("{queue} = {}", queue % cores))
            .collect();
        let mut text = format!("name = \"{}\"\n", self.name);
        let mut section = |head: &str, lines: &[String], more: &[String]| {
            let _ = writeln!(text, "\n{head}\n{}", [lines, more].concat().join("\n"));
        };
        section("[worker]", &self.worker_lines, &[]);
        for interface in &self.interfaces {
            let lines = [
                format!("interface = \"{interface}\""),
                "driver = \"afxdp\"".to_owned(),
                format!("queues = {{ {} }}", map.join(", ")),
            ];
            section("[[port]]", &lines, &self.port_lines);
        }
        for pool in &self.pools {
            let listen: Vec<String> = pool
                .listen
                .iter()
                .map(|address| format!("\"{address}\""))
                .collect();
            let servers: Vec<String> = pool
                .servers
                .iter()
                .map(|server| format!("\"{server}\""))
                .collect();
            let lines = [
                format!("name = \"{}\"", pool.name),
                format!("protocol = \"{}\"", pool.protocol),
                format!("listen = [{}]", listen.join(", ")),
                format!("servers = [{}]", servers.join(", ")),
            ];
            section("[[pool]]", &lines, &pool.lines);
        }
        text
    }
}
