//! memcached and redis-server as the distribution ships them.

use super::addresses::{self, Family};
use super::process::Process;
use crate::netns::Namespace;
use anyhow::{Result, bail};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Memory of each server. The largest value of the tests is 64 MiB, and memcached wants room for several of the largest.
const SERVER_MEMORY_MIB: u32 = 512;

/// Which program a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// memcached.
    Memcached,
    /// redis-server.
    Redis,
}

/// One server of the lab. It can be killed, stopped and started again.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub kind: ServerKind,
    /// Its number among its kind, from 0.
    pub index: usize,
    host: Namespace,
    directory: PathBuf,
    core: Option<u32>,
    process: Option<Process>,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub fn start(
        host: &Namespace,
        directory: &Path,
        kind: ServerKind,
        index: usize,
        core: Option<u32>,
    ) -> Result<Self> {
        let mut server = Self {
            kind,
            index,
            host: host.clone(),
            directory: directory.to_owned(),
            core,
            process: None,
        };
        server.restart()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self, family: Family) -> SocketAddr {
        match self.kind {
            ServerKind::Memcached => addresses::memcached(family, self.index),
            ServerKind::Redis => addresses::redis(family, self.index),
        }
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
        for family in Family::BOTH {
            let address = self.address(family);
            while !self
                .host
                .run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
            {
                if process.ended().is_some() || started.elapsed() > Duration::from_secs(10) {
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
        let [v4, v6] = Family::BOTH.map(|family| self.address(family));
        let line = match self.kind {
            // One thread, because the lab has few cores; items of 128 MiB, because the default limit of 1 MiB is below
            // what the proxy has to carry.
            ServerKind::Memcached => format!(
                "memcached -u nobody -l {v4},[{}]:{} -U 0 -m {SERVER_MEMORY_MIB} -c 8192 -t 1 -I 128m",
                v6.ip(),
                v6.port()
            ),
            ServerKind::Redis => format!(
                "redis-server --port {} --bind {} {} --save '' --appendonly no --protected-mode no --daemonize no --loglevel warning --dir {} \
                 --maxmemory {SERVER_MEMORY_MIB}mb --maxclients 8192",
                v4.port(),
                v4.ip(),
                v6.ip(),
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
