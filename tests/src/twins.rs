//! Tidegate and nutcracker side by side: the same pools before the same servers, for tests that compare what clients get.
//!
//! nutcracker (Debian's package of twemproxy) always runs over the kernel's sockets: in a lab on its second way, on this machine
//! on further addresses of the scene's block. Where it is not installed, the tests hold Tidegate to what they expect alone, and
//! say so.

use crate::client::Connection;
use crate::client::resp::{Redis, command};
use crate::config::{LabConfig, PoolText};
use crate::host::Host;
use crate::lab::addresses::Family;
use crate::lab::process::Process;
use crate::lab::servers::ServerKind;
use crate::lab::{LabOptions, kernel_path};
use crate::plan::{EXTRAS_MAX, Plan};
use crate::scene::Scene;
use crate::stage::{Driver, Stage};
use anyhow::{Result, bail};
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Makes two tests of the function of that name, which takes the driver that it raises its [`Twins`] for: `name::kernel`, on kernel
/// sockets and this machine's loopback addresses, and `name::afxdp`, in a lab.
#[macro_export]
macro_rules! both_twins {
    ($name:ident) => {
        mod $name {
            #[test]
            fn kernel() {
                super::$name($crate::stage::Driver::Kernel);
            }

            #[test]
            fn afxdp() {
                super::$name($crate::stage::Driver::Afxdp);
            }
        }
    };
}

/// The first of a plan's further pools on which nutcracker listens, where both proxies share its addresses.
const NUTCRACKER_POOL: usize = EXTRAS_MAX as usize / 2;

/// The one on which nutcracker tells its statistics. Nobody reads them, but it always listens.
const NUTCRACKER_STATISTICS: usize = EXTRAS_MAX as usize - 1;

/// The one on which Tidegate does, in the same words.
const TIDEGATE_STATISTICS: usize = EXTRAS_MAX as usize - 2;

/// Its usual port for that, which a host of its own has free.
const STATISTICS_PORT: u16 = 22_222;

/// One pool as both are told of it.
#[derive(Clone, Debug)]
pub struct TwinPool {
    /// Its name.
    pub name: &'static str,
    /// The protocol, by the kind of server that speaks it.
    pub kind: ServerKind,
    /// Its servers.
    pub servers: Vec<SocketAddr>,
    /// Further lines for Tidegate.
    pub tidegate: Vec<&'static str>,
    /// Further lines for nutcracker.
    pub nutcracker: Vec<&'static str>,
}

/// Both, on a stage. Fields are dropped in order: the processes end before their network disappears.
#[derive(Debug)]
pub struct Twins {
    /// Where it is installed.
    nutcracker: Option<Process>,
    /// The names of the pools, in order.
    pools: Vec<&'static str>,
    /// Tidegate and what is around it.
    pub scene: Scene,
}

impl Twins {
    /// Raises the stage of `driver` with both. `None` where that cannot be: a lab without root.
    pub fn raise(
        driver: Driver,
        options: LabOptions,
        prepare: impl FnOnce(&dyn Stage),
        pools: impl FnOnce(&dyn Stage) -> Vec<TwinPool>,
    ) -> Option<Self> {
        let mut made = Vec::new();
        let scene = Scene::raise(driver, options, |stage| {
            prepare(stage);
            made = pools(stage);
            let mut config = LabConfig::without_pools(stage)
                .worker("client_reply_hold_bytes = 67108864")
                .worker("reply_hold_bytes = 134217728");
            if driver == Driver::Kernel {
                let address = stage.plan().extra_pool(TIDEGATE_STATISTICS, Family::V4);
                config
                    .top_lines
                    .push(format!("stats_listen = \"{address}\""));
            }
            let texts = made.iter().enumerate();
            texts
                .map(|(number, pool)| tidegate_pool(stage.plan(), number, pool))
                .fold(config, LabConfig::pool)
        })?;
        let nutcracker = match start_nutcracker(&scene, &made) {
            Ok(process) => process,
            Err(error) => panic!("nutcracker does not start: {error:?}"),
        };
        let pools = made.iter().map(|pool| pool.name).collect();
        Some(Self {
            nutcracker,
            pools,
            scene,
        })
    }

    /// Whether there is something to compare with.
    pub fn has_nutcracker(&self) -> bool {
        self.nutcracker.is_some()
    }

    /// Two real servers of each kind, and a pool of each kind: `redis` and `memcached`.
    pub fn usual(driver: Driver) -> Option<Self> {
        let options = LabOptions {
            memcached: 2,
            redis: 2,
            ..LabOptions::default()
        };
        Self::raise(
            driver,
            options,
            |_| {},
            |stage| {
                [
                    ("redis", ServerKind::Redis),
                    ("memcached", ServerKind::Memcached),
                ]
                .map(|(name, kind)| TwinPool {
                    name,
                    kind,
                    servers: stage
                        .servers(kind)
                        .iter()
                        .map(|server| server.address(Family::V4))
                        .collect(),
                    tidegate: vec!["timeout_ms = 20000"],
                    nutcracker: vec!["timeout: 20000"],
                })
                .to_vec()
            },
        )
    }

    /// Empties every server, so that the next dialogue finds what the one before it found.
    pub fn flush(&self) -> io::Result<()> {
        self.scene.on_server(|| {
            for server in self.scene.servers(ServerKind::Redis) {
                Redis::open(server.address(Family::V4))?.words("FLUSHALL")?;
            }
            for server in self.scene.servers(ServerKind::Memcached) {
                let mut connection = Connection::open(server.address(Family::V4))?;
                connection.send(b"flush_all\r\n")?;
                connection.line()?;
            }
            Ok(())
        })
    }

    /// Where clients reach Tidegate's pool of that name.
    pub fn tidegate(&self, pool: &str) -> SocketAddr {
        self.scene.plan().extra_pool(self.number(pool), Family::V4)
    }

    /// Where clients reach the pool of that name: by name, of each that runs, Tidegate first.
    pub fn ways(&self, pool: &str) -> Vec<(&'static str, SocketAddr)> {
        let mut ways = vec![("tidegate", self.tidegate(pool))];
        if self.has_nutcracker() {
            let address = nutcracker_address(self.scene.plan(), self.number(pool));
            ways.push(("nutcracker", address));
        }
        ways
    }

    /// On this machine: where each tells its statistics, Tidegate first.
    pub fn statistics(&self) -> [SocketAddr; 2] {
        let plan = self.scene.plan();
        [TIDEGATE_STATISTICS, NUTCRACKER_STATISTICS]
            .map(|number| plan.extra_pool(number, Family::V4))
    }

    fn number(&self, pool: &str) -> usize {
        let mut pools = self.pools.iter();
        pools
            .position(|name| *name == pool)
            .unwrap_or_else(|| panic!("there is no pool {pool}"))
    }
}

fn tidegate_pool(plan: Plan, number: usize, pool: &TwinPool) -> PoolText {
    assert!(
        number < NUTCRACKER_POOL,
        "there is no room for so many pools"
    );
    let mut text = PoolText::extra(plan, number, pool.name, pool.kind, &pool.servers)
        .with("hash = \"murmur\"")
        .with("compat = \"twemproxy\"");
    for (index, server) in text.servers.iter_mut().enumerate() {
        server.push_str(&server_name(plan, pool, index));
    }
    pool.tidegate
        .iter()
        .fold(text, |text, line| text.with(line))
}

/// What follows the address of a server in both files. The lab's addresses are always the same, and are what is hashed. On this
/// machine they change from scene to scene, and keys would land elsewhere each time; so servers have names there.
fn server_name(plan: Plan, pool: &TwinPool, index: usize) -> String {
    match plan {
        Plan::Lab => String::new(),
        Plan::Local(_) => format!(" {}-{index}", pool.name),
    }
}

/// Where nutcracker's pool `number` listens.
fn nutcracker_address(plan: Plan, number: usize) -> SocketAddr {
    match plan {
        Plan::Lab => {
            let port = plan.extra_pool(number, Family::V4).port();
            SocketAddr::new(kernel_path::vip(), port)
        }
        Plan::Local(_) => plan.extra_pool(NUTCRACKER_POOL + number, Family::V4),
    }
}

fn start_nutcracker(scene: &Scene, pools: &[TwinPool]) -> Result<Option<Process>> {
    let found = ["/usr/sbin/nutcracker", "/usr/bin/nutcracker"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    let Some(program) = found else {
        eprintln!("nutcracker is not installed: nothing is compared with it");
        return Ok(None);
    };
    let plan = scene.plan();
    let (host, statistics) = match scene.driver() {
        Driver::Afxdp | Driver::DpdkPacket | Driver::DpdkXdp => {
            let hosts = &scene.lab().hosts;
            kernel_path::build(hosts)?;
            let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), STATISTICS_PORT);
            (Host::from(&hosts.kernel_path), own)
        }
        Driver::Kernel => {
            let shared = plan.extra_pool(NUTCRACKER_STATISTICS, Family::V4);
            (Host::Here, shared)
        }
    };
    let directory = scene.stage().directory();
    let file = directory.join("nutcracker.yml");
    std::fs::write(&file, nutcracker_text(plan, pools))?;
    // Its usual log is the machine's, and not everybody's.
    let log = directory.join("nutcracker-own.log");
    let (ip, port) = (statistics.ip().to_string(), statistics.port().to_string());
    let [file, log] = [&file, &log].map(|path| path.display().to_string());
    let line = [program, "-c", &file, "-o", &log, "-a", &ip, "-s", &port].map(str::to_owned);
    let mut process = Process::start(host, directory, "nutcracker", None, &line)?;
    for number in 0..pools.len() {
        wait_until_listening(scene, &mut process, nutcracker_address(plan, number))?;
    }
    Ok(Some(process))
}

/// The pools as nutcracker's file tells them.
fn nutcracker_text(plan: Plan, pools: &[TwinPool]) -> String {
    let mut text = String::new();
    for (number, pool) in pools.iter().enumerate() {
        let _ = writeln!(
            text,
            "{}:\n  listen: {}\n  redis: {}\n  hash: murmur\n  distribution: ketama",
            pool.name,
            nutcracker_address(plan, number),
            pool.kind == ServerKind::Redis
        );
        for line in &pool.nutcracker {
            let _ = writeln!(text, "  {line}");
        }
        let _ = writeln!(text, "  servers:");
        for (index, server) in pool.servers.iter().enumerate() {
            let name = server_name(plan, pool, index);
            let _ = writeln!(text, "    - {server}:1{name}");
        }
    }
    text
}

fn wait_until_listening(scene: &Scene, process: &mut Process, address: SocketAddr) -> Result<()> {
    let started = Instant::now();
    while scene.on_client(|| Connection::open(address).is_err()) {
        if process.ended().is_some() || started.elapsed() > Duration::from_secs(10) {
            bail!("it does not listen on {address}:\n{}", process.log_text());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One request to each of them tells that a connection is still open.
const PROBES: [(ServerKind, &[u8], &[u8]); 2] = [
    (ServerKind::Redis, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    (ServerKind::Memcached, b"version\r\n", b"VERSION "),
];

/// Commands, one per line, as RESP.
pub fn commands(lines: &[&str]) -> Vec<u8> {
    let words = |line: &&str| command(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    lines.iter().flat_map(words).collect()
}

/// Everything that comes back for `request`, after which the client sends no more.
pub fn answer(to: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut connection = Connection::open(to).expect("the proxy accepts connections");
    // It may be closed before all is sent.
    let _ = connection.send(request);
    let _ = connection.finish_sending();
    connection.rest().expect("the connection ends")
}

/// Asserts what comes back for `request`, and whether the connection is closed then.
pub fn assert_answer(
    way: (&str, SocketAddr),
    kind: ServerKind,
    request: &[u8],
    reply: &[u8],
    closed: bool,
) {
    let what = format!("{} {}", way.0, request.escape_ascii());
    let mut connection = Connection::open(way.1).unwrap();
    connection.send(request).unwrap();
    let got = connection
        .exactly(reply.len())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(
        got.escape_ascii().to_string(),
        reply.escape_ascii().to_string(),
        "{what}"
    );
    if closed {
        assert!(connection.is_closed(), "{what} closes");
        return;
    }
    let (_, probe, sign) = PROBES[usize::from(kind == ServerKind::Memcached)];
    connection.send(probe).unwrap();
    let got = connection
        .exactly(sign.len())
        .unwrap_or_else(|error| panic!("{what} leaves it open: {error}"));
    assert_eq!(got, sign, "{what}");
}
