//! Tidegate and nutcracker side by side: the same pools before the same servers, for tests that compare what clients get.
//!
//! nutcracker (Debian's package of twemproxy) runs on the lab's second way, over the kernel's sockets. Where it is not installed,
//! the tests hold Tidegate to what they expect alone, and say so.

use crate::client::Connection;
use crate::client::resp::{Redis, command};
use crate::config::{LabConfig, PoolText};
use crate::lab::addresses::{self, Family, MEMCACHED_PORT, REDIS_PORT};
use crate::lab::process::Process;
use crate::lab::servers::ServerKind;
use crate::lab::{Lab, LabOptions, kernel_path};
use crate::scene::Scene;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One pool as both are told of it.
#[derive(Clone, Debug)]
pub struct TwinPool {
    /// Its name.
    pub name: &'static str,
    /// The protocol, by the kind of server that speaks it.
    pub kind: ServerKind,
    /// Its servers.
    pub servers: Vec<SocketAddr>,
    /// The port of both virtual addresses.
    pub port: u16,
    /// Further lines for Tidegate.
    pub tidegate: Vec<&'static str>,
    /// Further lines for nutcracker.
    pub nutcracker: Vec<&'static str>,
}

/// Both, in a lab. Fields are dropped in order: the processes end before their network disappears.
#[derive(Debug)]
pub struct Twins {
    /// Where it is installed.
    nutcracker: Option<Process>,
    /// Tidegate and the lab.
    pub scene: Scene,
}

impl Twins {
    /// Raises a lab with both. `None` without root.
    pub fn raise(
        options: LabOptions,
        prepare: impl FnOnce(&Lab),
        pools: impl FnOnce(&Lab) -> Vec<TwinPool>,
    ) -> Option<Self> {
        let mut made = Vec::new();
        let scene = Scene::raise(options, |lab| {
            prepare(lab);
            made = pools(lab);
            let config = LabConfig::without_pools(lab)
                .worker("client_reply_hold_bytes = 67108864")
                .worker("reply_hold_bytes = 134217728");
            made.iter().map(tidegate_pool).fold(config, LabConfig::pool)
        })?;
        let nutcracker = match start_nutcracker(&scene.lab, &made) {
            Ok(process) => process,
            Err(error) => panic!("nutcracker does not start: {error:?}"),
        };
        Some(Self { nutcracker, scene })
    }

    /// Whether there is something to compare with.
    pub fn has_nutcracker(&self) -> bool {
        self.nutcracker.is_some()
    }

    /// Two real servers of each kind, and a pool of each kind on its usual port.
    pub fn usual() -> Option<Self> {
        let options = LabOptions {
            memcached: 2,
            redis: 2,
            ..LabOptions::default()
        };
        Self::raise(
            options,
            |_| {},
            |lab| {
                [
                    ("redis", ServerKind::Redis, REDIS_PORT, &lab.redis),
                    (
                        "memcached",
                        ServerKind::Memcached,
                        MEMCACHED_PORT,
                        &lab.memcached,
                    ),
                ]
                .map(|(name, kind, port, servers)| TwinPool {
                    name,
                    kind,
                    servers: servers
                        .iter()
                        .map(|server| server.address(Family::V4))
                        .collect(),
                    port,
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
            for server in &self.scene.lab.redis {
                Redis::open(server.address(Family::V4))?.words("FLUSHALL")?;
            }
            for server in &self.scene.lab.memcached {
                let mut connection = Connection::open(server.address(Family::V4))?;
                connection.send(b"flush_all\r\n")?;
                connection.line()?;
            }
            Ok(())
        })
    }

    /// Where clients reach the pool on `port`: by name, of each that runs, Tidegate first.
    pub fn ways(&self, port: u16) -> Vec<(&'static str, SocketAddr)> {
        let family = Family::V4;
        let mut ways = vec![("tidegate", SocketAddr::new(addresses::vip(family), port))];
        if self.has_nutcracker() {
            ways.push(("nutcracker", SocketAddr::new(kernel_path::vip(), port)));
        }
        ways
    }
}

fn tidegate_pool(pool: &TwinPool) -> PoolText {
    let text = PoolText::new(pool.name, pool.kind, &pool.servers)
        .on_port(pool.port)
        .with("hash = \"murmur\"")
        .with("compat = \"twemproxy\"");
    pool.tidegate
        .iter()
        .fold(text, |text, line| text.with(line))
}

fn start_nutcracker(lab: &Lab, pools: &[TwinPool]) -> Result<Option<Process>> {
    let found = ["/usr/sbin/nutcracker", "/usr/bin/nutcracker"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    let Some(program) = found else {
        eprintln!("nutcracker is not installed: nothing is compared with it");
        return Ok(None);
    };
    kernel_path::build(&lab.hosts)?;
    let mut config = String::new();
    for pool in pools {
        let _ = writeln!(
            config,
            "{}:\n  listen: {}:{}\n  redis: {}\n  hash: murmur\n  distribution: ketama",
            pool.name,
            kernel_path::vip(),
            pool.port,
            pool.kind == ServerKind::Redis
        );
        for line in &pool.nutcracker {
            let _ = writeln!(config, "  {line}");
        }
        let _ = writeln!(config, "  servers:");
        for server in &pool.servers {
            let _ = writeln!(config, "    - {server}:1");
        }
    }
    let file = lab.directory().join("nutcracker.yml");
    std::fs::write(&file, config)?;
    let file = file
        .to_str()
        .context("the lab's directory has a plain name")?;
    let line = [program, "-c", file, "-a", "127.0.0.1"].map(str::to_owned);
    let host = &lab.hosts.kernel_path;
    let process = Process::start(host, lab.directory(), "nutcracker", None, &line)?;
    for pool in pools {
        wait_until_listening(
            lab,
            &process,
            SocketAddr::new(kernel_path::vip(), pool.port),
        )?;
    }
    Ok(Some(process))
}

fn wait_until_listening(lab: &Lab, process: &Process, address: SocketAddr) -> Result<()> {
    let started = Instant::now();
    while lab.hosts.client.run(|| Connection::open(address).is_err()) {
        if started.elapsed() > Duration::from_secs(10) {
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
