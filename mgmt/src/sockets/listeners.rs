//! Listening sockets that workers share: opened once, so that what waits in their backlog survives a worker.

use super::unix::SocketFile;
use anyhow::Context;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tidegate_config::{Config, Endpoint, Listen, PoolConfig};
use tidegate_dataplane::sockets::{self, ListenError, ListenOptions};

/// Listening addresses whose socket workers share, with their number among all and their pool: every Unix socket, since a
/// path can be bound once only; and all, where each worker is not to have its own.
pub fn shared(config: &Config) -> impl Iterator<Item = (u32, &PoolConfig, &Listen)> {
    let reuseport = config.kernel_port().is_some_and(|port| port.reuseport);
    (0..)
        .zip(config.listeners())
        .filter(move |(_, (_, listen))| !reuseport || listen.endpoint.path().is_some())
        .map(|(index, (pool, listen))| (index, &config.pools[pool], listen))
}

/// Paths of all Unix sockets that are listened on.
pub fn paths(config: &Config) -> Vec<PathBuf> {
    let listeners = config.listeners();
    listeners
        .filter_map(|(_, listen)| listen.endpoint.path().map(PathBuf::from))
        .collect()
}

/// The open sockets, and the files of those that have one.
#[derive(Debug, Default)]
pub struct SharedListeners {
    listeners: Vec<(u32, OwnedFd)>,
    files: Vec<SocketFile>,
}

impl SharedListeners {
    /// Opens them.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let mut opened = Self::default();
        for (index, pool, listen) in shared(config) {
            let listener = open(listen, pool).with_context(|| format!("pool {}", pool.name))?;
            if let Endpoint::Unix(path) = &listen.endpoint {
                opened.files.push(SocketFile::new(path));
            }
            opened.listeners.push((index, listener));
        }
        Ok(opened)
    }

    /// Takes over those that an earlier manager opened, with their numbers.
    pub fn adopt(config: &Config, listeners: Vec<(u32, OwnedFd)>) -> Self {
        let of_listeners = shared(config).filter(|(index, ..)| {
            let has = |(known, _): &(u32, OwnedFd)| known == index;
            listeners.iter().any(has)
        });
        let files = of_listeners.filter_map(|(_, _, listen)| match &listen.endpoint {
            Endpoint::Unix(path) => Some(SocketFile::new(path)),
            Endpoint::Ip(_) => None,
        });
        Self {
            files: files.collect(),
            listeners,
        }
    }

    /// Which of the configuration's listening addresses they are.
    pub fn indices(&self) -> Vec<u32> {
        self.listeners.iter().map(|(index, _)| *index).collect()
    }

    /// Duplicates for a worker, in the same order.
    pub fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        let listeners = self.listeners.iter();
        listeners
            .map(|(_, listener)| listener.try_clone())
            .collect()
    }

    /// Closes the sockets and removes their files.
    pub fn close(&mut self) {
        *self = Self::default();
    }
}

fn open(listen: &Listen, pool: &PoolConfig) -> Result<OwnedFd, ListenError> {
    let options = ListenOptions {
        backlog: pool.backlog,
        reuse_port: false,
        keepalive_s: pool.client_keepalive_s,
        mode: listen.mode,
    };
    sockets::listen(&listen.endpoint, &options)
}
