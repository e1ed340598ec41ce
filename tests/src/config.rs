//! Configurations for a stage's Tidegate, as text: the tests go through the same door as an operator.

use crate::lab::addresses::{Family, on_client_leg};
use crate::lab::servers::ServerKind;
use crate::lab::topology::{CLIENT_SIDE, Nics, SERVER_LEG, SERVER_SIDE, appliance_addresses};
use crate::plan::Plan;
use crate::stage::{Driver, Stage};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A configuration under construction.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// Name of the instance.
    pub name: String,
    /// What carries its traffic.
    pub driver: Driver,
    /// Interfaces, in order; none for kernel sockets.
    pub interfaces: Vec<String>,
    /// Queues of each, or workers.
    pub queues: u32,
    /// Further lines of every `[[port]]`.
    pub port_lines: Vec<String>,
    /// Further lines in front of all tables.
    pub top_lines: Vec<String>,
    /// Whether workers go on when the manager is killed. Usually not: nobody would end them when a test is killed.
    pub outlive_manager: bool,
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
    /// The lab's pool of `kind`, on the virtual addresses of both families.
    pub fn new(name: &str, kind: ServerKind, servers: &[SocketAddr]) -> Self {
        Self::on(Plan::Lab, name, kind, servers)
    }

    /// The pool of `kind` that clients find at [`Plan::pool`].
    pub fn on(plan: Plan, name: &str, kind: ServerKind, servers: &[SocketAddr]) -> Self {
        Self::listening(name, kind, servers, plan, |family| plan.pool(kind, family))
    }

    /// A pool that clients find at [`Plan::extra_pool`].
    pub fn extra(
        plan: Plan,
        number: usize,
        name: &str,
        kind: ServerKind,
        servers: &[SocketAddr],
    ) -> Self {
        let listen = |family| plan.extra_pool(number, family);
        Self::listening(name, kind, servers, plan, listen)
    }

    fn listening(
        name: &str,
        kind: ServerKind,
        servers: &[SocketAddr],
        plan: Plan,
        listen: impl Fn(Family) -> SocketAddr,
    ) -> Self {
        let protocol = match kind {
            ServerKind::Memcached => "memcached",
            ServerKind::Redis => "redis",
        };
        let families = plan.families().iter();
        Self {
            name: name.to_owned(),
            protocol,
            listen: families.map(|family| listen(*family)).collect(),
            servers: servers.iter().map(|server| format!("{server}:1")).collect(),
            lines: Vec::new(),
        }
    }

    /// The same pool with one more line.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }
}

impl LabConfig {
    /// Everything that the stage has, and no pool. Idle workers sleep, because a stage shares its cores with everything else.
    pub fn without_pools(stage: &dyn Stage) -> Self {
        let (driver, options) = (stage.driver(), stage.options());
        let interfaces: &[&str] = match (driver, options.nics) {
            (Driver::Kernel, _) => &[],
            (_, Nics::One) => &[CLIENT_SIDE],
            (_, Nics::Two) => &[CLIENT_SIDE, SERVER_SIDE],
        };
        let port_lines = if driver.is_steered() {
            vec!["rss = \"port-xor\"".to_owned()]
        } else {
            Vec::new()
        };
        Self {
            name: stage.name().to_owned(),
            driver,
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
            queues: options.queues,
            port_lines,
            top_lines: Vec::new(),
            outlive_manager: false,
            worker_lines: vec!["idle = \"adaptive\"".to_owned()],
            pools: Vec::new(),
        }
    }

    /// Everything that the stage has, with a pool of all memcached servers and one of all Redis servers, reached over `family`.
    pub fn new(stage: &dyn Stage, family: Family) -> Self {
        let mut config = Self::without_pools(stage);
        for (name, kind) in [
            ("memcached", ServerKind::Memcached),
            ("redis", ServerKind::Redis),
        ] {
            let servers = stage.servers(kind).iter();
            let servers: Vec<SocketAddr> = servers.map(|server| server.address(family)).collect();
            if !servers.is_empty() {
                let mut pool = PoolText::on(stage.plan(), name, kind, &servers);
                // What is hashed is the name: keys land alike whatever addresses the stage got.
                for (index, server) in pool.servers.iter_mut().enumerate() {
                    let _ = write!(server, " {name}-{index}");
                }
                // Of twemproxy's hashes murmur spreads the short sequential keys of tests best.
                config.pools.push(pool.with("hash = \"murmur\""));
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

    /// Adds a line in front of all tables.
    #[must_use]
    pub fn top(mut self, line: &str) -> Self {
        self.top_lines.push(line.to_owned());
        self
    }

    /// Adds a line to `[worker]`.
    #[must_use]
    pub fn worker(mut self, line: &str) -> Self {
        self.worker_lines.push(line.to_owned());
        self
    }

    /// Workers go on when the manager is killed.
    #[must_use]
    pub fn outliving(mut self) -> Self {
        self.outlive_manager = true;
        self
    }

    /// The text of the file.
    pub fn to_toml(&self) -> String {
        let mut text = format!("name = \"{}\"\n{}\n", self.name, self.top_lines.join("\n"));
        let mut section = |head: &str, lines: &[String], more: &[String]| {
            let _ = writeln!(text, "\n{head}\n{}", [lines, more].concat().join("\n"));
        };
        let outlive = format!("outlive_manager = {}", self.outlive_manager);
        section("[worker]", &self.worker_lines, &[outlive]);
        for lines in self.ports() {
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

    /// The lines of each `[[port]]`.
    fn ports(&self) -> Vec<Vec<String>> {
        if self.driver == Driver::Kernel {
            let workers = format!("workers = {}", self.queues);
            return vec![vec!["driver = \"kernel\"".to_owned(), workers]];
        }
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let map: Vec<String> = (0..self.queues)
            .map(|queue| format!("{queue} = {}", queue % cores))
            .collect();
        let interfaces = self.interfaces.iter();
        interfaces
            .map(|interface| {
                let mut lines = vec![
                    format!("interface = \"{interface}\""),
                    format!("queues = {{ {} }}", map.join(", ")),
                ];
                match self.driver.pmd() {
                    None => lines.push("driver = \"afxdp\"".to_owned()),
                    Some(pmd) => lines.extend(self.on_dpdk(interface, pmd)),
                }
                lines
            })
            .collect()
    }

    /// What the kernel knows of other ports.
    fn on_dpdk(&self, interface: &str, pmd: &str) -> [String; 5] {
        let with_gateway = self.interfaces.len() == 1;
        let addresses = appliance_addresses(interface);
        let addresses = addresses.map(|(address, bits)| format!("\"{address}/{bits}\""));
        let routes = Family::BOTH.map(|family| {
            let (leg, via) = (SERVER_LEG[family as usize], on_client_leg(family, 2));
            format!("\"{leg} via {via}\"")
        });
        let routes = if with_gateway {
            routes.join(", ")
        } else {
            String::new()
        };
        [
            "driver = \"dpdk\"".to_owned(),
            format!("pmd = \"{pmd}\""),
            // As little memory as will do.
            "ring_size = 1024".to_owned(),
            format!("addresses = [{}]", addresses.collect::<Vec<_>>().join(", ")),
            format!("routes = [{routes}]"),
        ]
    }
}
