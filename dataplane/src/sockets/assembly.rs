//! Puts a worker over kernel sockets together. Everything that it ever allocates, it allocates here.

use crate::clock::Clock;
use crate::control::{self, CommandSender, Commands};
use crate::events;
use crate::idle::Idle;
use crate::linger::Linger;
use crate::network::Network;
use crate::opening;
use crate::poll_loop::PollLoop;
use crate::publisher::{Publisher, unix_time_s};
use crate::reports::Reports;
use crate::sockets::descriptors::servers_needed;
use crate::sockets::endpoint::Endpoint;
use crate::sockets::listen::{ListenOptions, Listening, listen, local_address};
use crate::sockets::network::{SocketConfig, SocketNetwork};
use crate::worker::WorkerError;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use tidegate_channel::counters::LoopCounters;
use tidegate_channel::meters::Meters;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader, StatisticsWriter};
use tidegate_config::{AckMode, Config, IdleMode};
use tidegate_port::doorbell::Doorbell;
use tidegate_proxy::Proxy;
use tidegate_proxy::streams::Streams;

/// A worker over kernel sockets.
pub type SocketWorker = PollLoop<SocketNetwork, Proxy>;

/// What a worker is connected to, apart from its sockets.
pub struct SocketSurroundings {
    /// Its statistics page.
    pub statistics: StatisticsWriter,
    /// Counts by command in the same page.
    pub meters: Meters,
    /// The layout of that page.
    pub layout: StatisticsLayout,
    /// From the control thread.
    pub commands: Commands,
    /// To the manager, for what it wants to know of single requests.
    pub reports: Reports,
    /// Wakes it.
    pub bell: Doorbell,
}

/// Joins sockets and proxy. `listeners` are in the order of [`Config::listeners`]; connections go to `servers`, which are in
/// the order of [`Config::servers`].
pub fn assemble(
    config: &Config,
    listeners: Vec<Listening>,
    servers: Vec<Endpoint>,
    seed: u64,
    surroundings: SocketSurroundings,
    clock: Clock,
) -> Result<SocketWorker, WorkerError> {
    let now_us = clock.now_ns() / 1_000;
    let sockets = socket_config(config, servers);
    let bell = surroundings.bell;
    let mut network = SocketNetwork::new(&sockets, listeners, bell.try_clone()?)?;
    network.tick(now_us);
    let slots = network.streams().slots();
    Ok(PollLoop {
        network,
        proxy: opening::build_proxy(config, seed, slots, surroundings.meters, now_us),
        events: events::spawn(config, surroundings.reports)?,
        commands: surroundings.commands,
        bell,
        publisher: Publisher::new(surroundings.statistics, surroundings.layout),
        idle: Idle::new(config.worker.idle, SocketNetwork::LOOKS_ARE_FREE),
        linger: Linger::default(),
        counters: LoopCounters {
            started_unix_s: unix_time_s(),
            ..LoopCounters::default()
        },
    })
}

fn socket_config(config: &Config, servers: Vec<Endpoint>) -> SocketConfig {
    let limits = &config.worker;
    SocketConfig {
        client_slots: limits.clients_max as usize,
        client_buffer_bytes: limits.client_buffer_bytes as usize,
        server_slots: limits.server_connections_max as usize,
        servers_needed: servers_needed(config) as usize,
        server_buffer_bytes: limits.server_buffer_bytes as usize,
        servers,
        source_address: limits.source_address,
        ack: config
            .ports
            .first()
            .map_or(AckMode::Immediate, |port| port.ack),
        spin: limits.idle == IdleMode::Spin,
    }
}

/// What stands around a worker that has no manager.
pub struct Standalone {
    /// What it counts.
    pub statistics: StatisticsReader,
    /// Tells it to end.
    pub commands: CommandSender,
    /// Wakes it.
    pub bell: Doorbell,
    /// Where it listens, with the ports that the kernel chose; Unix sockets are left out.
    pub addresses: Vec<SocketAddr>,
}

/// A worker without a manager, with listeners of its own: for benchmarks and tests.
pub fn standalone(
    config: &Config,
    seed: u64,
    clock: Clock,
) -> Result<(SocketWorker, Standalone), WorkerError> {
    let layout = StatisticsLayout::of(config, 0);
    let page = layout.create()?;
    let bell = Doorbell::new()?;
    let (sender, commands) = control::commands(bell.try_clone()?);
    let surroundings = SocketSurroundings {
        statistics: StatisticsWriter::map(&page, layout)?,
        meters: Meters::map(&page, layout)?,
        layout,
        commands,
        reports: Reports::nowhere(),
        bell: bell.try_clone()?,
    };
    let listeners = listeners(config, Vec::new())?;
    let addresses = listeners
        .iter()
        .filter_map(|listener| local_address(listener.socket.as_fd()))
        .collect();
    let servers = servers(config);
    let poll_loop = assemble(config, listeners, servers, seed, surroundings, clock)?;
    let standalone = Standalone {
        statistics: StatisticsReader::map(&page, layout)?,
        commands: sender,
        bell,
        addresses,
    };
    Ok((poll_loop, standalone))
}

/// The servers of a configuration.
pub fn servers(config: &Config) -> Vec<Endpoint> {
    let servers = config.servers();
    servers.map(|(_, server)| server.address.clone()).collect()
}

/// One listener per address of the configuration. Those that are given with their number are shared with other workers; the
/// worker opens the rest for itself alone.
pub fn listeners(
    config: &Config,
    shared: Vec<(u32, OwnedFd)>,
) -> Result<Vec<Listening>, WorkerError> {
    let mut shared: BTreeMap<u32, OwnedFd> = shared.into_iter().collect();
    (0..)
        .zip(config.listeners())
        .map(|(index, (pool, address))| {
            if let Some(socket) = shared.remove(&index) {
                return Ok(Listening {
                    socket,
                    shared: true,
                });
            }
            let pool = &config.pools[pool];
            let options = ListenOptions {
                backlog: pool.backlog,
                reuse_port: true,
                keepalive_s: pool.client_keepalive_s,
                mode: address.mode,
            };
            Ok(Listening {
                socket: listen(&address.endpoint, &options)?,
                shared: false,
            })
        })
        .collect()
}
