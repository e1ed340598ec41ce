//! memcached and redis-server as the distribution ships them.

use super::addresses::Family;
use super::process::Process;
use crate::host::Host;
use crate::plan::Plan;
use anyhow::{Result, bail};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Memory of each server. The largest value of the tests is 64 MiB, and memcached wants room for several of the largest.
pub const SERVER_MEMORY_MIB: u32 = 512;

/// Connections that a server of the lab accepts: benchmarks open thousands.
const LAB_CONNECTIONS: u32 = 8_192;

/// Connections that a server on this machine accepts. memcached wants as many descriptors, and every user has these.
const LOCAL_CONNECTIONS: u32 = 512;

/// How long a server may take to listen. Milliseconds are what it needs, seconds what it gets on a machine whose cores are taken by
/// polling workers and busy clients; this only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which program a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// memcached.
    Memcached,
    /// redis-server.
    Redis,
}

/// One server of a stage. It can be killed, stopped and started again.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub kind: ServerKind,
    /// Its number among its kind, from 0.
    pub index: usize,
    host: Host,
    directory: PathBuf,
    plan: Plan,
    core: Option<u32>,
    process: Option<Process>,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub fn start(
        host: &Host,
        directory: &Path,
        plan: Plan,
        kind: ServerKind,
        index: usize,
        core: Option<u32>,
    ) -> Result<Self> {
        let mut server = Self {
            kind,
            index,
            host: host.clone(),
            directory: directory.to_owned(),
            plan,
            core,
            process: None,
        };
        server.restart()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self, family: Family) -> SocketAddr {
        self.plan.server(self.kind, self.index, family)
    }

    /// Its process; `None` while it is down.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(nix::sys::signal::Signal::SIGKILL);
            process.wait(Duration::from_secs(5));
        }
    }

    /// Starts it, empty, after ending what runs of it.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let name = format!("{}-{}", self.program(), self.index);
        let mut process = Process::start(
            &self.host,
            &self.directory,
            &name,
            self.core,
            &self.command_line(),
        )?;
        let started = Instant::now();
        for family in self.plan.families() {
            let address = self.address(*family);
            while !self
                .host
                .run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
            {
                if process.ended().is_some() || started.elapsed() > PATIENCE {
                    bail!(
                        "{name} does not listen on {address}; it printed:\n{}",
                        process.log_text()
                    );
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.process = Some(process);
        Ok(())
    }

    fn program(&self) -> &'static str {
        match self.kind {
            ServerKind::Memcached => "memcached",
            ServerKind::Redis => "redis-server",
        }
    }

    fn command_line(&self) -> Vec<String> {
        let addresses: Vec<SocketAddr> = self
            .plan
            .families()
            .iter()
            .map(|family| self.address(*family))
            .collect();
        let list = |separator: &str, show: fn(&SocketAddr) -> String| {
            let shown: Vec<String> = addresses.iter().map(show).collect();
            shown.join(separator)
        };
        let connections = match self.plan {
            Plan::Lab => LAB_CONNECTIONS,
            Plan::Local(_) => LOCAL_CONNECTIONS,
        };
        let line = match self.kind {
            // One thread, because the lab has few cores; items of 128 MiB, because the default limit of 1 MiB is below
            // what the proxy has to carry.
            ServerKind::Memcached => format!(
                "memcached -u nobody -l {} -U 0 -m {SERVER_MEMORY_MIB} -c {connections} -t 1 -I 128m",
                list(",", ToString::to_string)
            ),
            // Over both families the port is the same.
            ServerKind::Redis => format!(
                "redis-server --port {} --bind {} --save '' --appendonly no --protected-mode no --daemonize no --loglevel warning --dir {} \
                 --maxmemory {SERVER_MEMORY_MIB}mb --maxclients {connections}",
                self.address(Family::V4).port(),
                list(" ", |address| address.ip().to_string()),
                self.directory.display()
            ),
        };
        line.split_whitespace()
            .map(|word| {
                if word == "''" {
                    String::new()
                } else {
                    word.to_owned()
                }
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing worth saving, and an orderly end takes some of them a second.
        self.kill();
    }
}
