//! Listening sockets that workers share: opened once, so that what waits in their backlog survives a worker.

use super::unix::SocketFile;
use anyhow::Context;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
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

/// Listening addresses of `new` that each worker has a socket of its own for and that are not in `old`, with their number and pool.
pub fn own<'a>(
    old: &'a Config,
    new: &'a Config,
) -> impl Iterator<Item = (u32, &'a PoolConfig, SocketAddr)> {
    let of_workers = new.kernel_port().is_some_and(|port| port.reuseport);
    let is_new = |endpoint: &Endpoint| {
        let mut listeners = old.listeners();
        listeners.all(|(_, listen)| listen.endpoint != *endpoint)
    };
    (0..)
        .zip(new.listeners())
        .filter(move |(_, (_, listen))| of_workers && is_new(&listen.endpoint))
        .filter_map(|(index, (pool, listen))| {
            Some((index, &new.pools[pool], listen.endpoint.ip()?))
        })
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

    /// Those of another configuration: the same sockets where the address is the same, new ones else.
    pub fn follow(&self, old: &Config, new: &Config) -> anyhow::Result<Self> {
        let known: BTreeMap<&Endpoint, u32> = shared(old)
            .map(|(index, _, listen)| (&listen.endpoint, index))
            .collect();
        let mut followed = Self::default();
        for (index, pool, listen) in shared(new) {
            let before = known.get(&listen.endpoint);
            let open_already = before.and_then(|before| {
                let is_it = |(index, _): &&(u32, OwnedFd)| index == before;
                self.listeners.iter().find(is_it)
            });
            let listener = if let Some((_, listener)) = open_already {
                listener.try_clone()?
            } else {
                let opened = open(listen, pool).with_context(|| format!("pool {}", pool.name))?;
                if let Endpoint::Unix(path) = &listen.endpoint {
                    followed.files.push(SocketFile::new(path));
                }
                opened
            };
            followed.listeners.push((index, listener));
        }
        Ok(followed)
    }

    /// Becomes `next`, those of `config`. The files of addresses that are still listened on stay.
    pub fn give_way_to(&mut self, next: Self, config: &Config) {
        let mut before = std::mem::replace(self, next);
        let paths = paths(config);
        let (stay, _gone) = before
            .files
            .drain(..)
            .partition(|file| paths.iter().any(|path| path == file.path()));
        let mut stay: Vec<SocketFile> = stay;
        self.files.append(&mut stay);
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
