//! Opens the sockets and builds the layers, as the manager's facts say.

use tidegate_channel::message::{Oracle, PortFacts, WorkerStart};
use tidegate_channel::meters::Meters;
use tidegate_config::Config;
use tidegate_port::afxdp::{
    AfXdpConfig, AfXdpError, AfXdpPort, DEFAULT_BIND_DEADLINE, DEFAULT_IN_FLIGHT_MAX,
};
use tidegate_proxy::Proxy;
use tidegate_stack::{Listener, QueueOracle, Stack, StackConfig, StackError, StackPort};

/// Why sockets or layers could not be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpeningError {
    #[error(transparent)]
    Socket(#[from] AfXdpError),
    #[error(transparent)]
    Stack(#[from] StackError),
}

impl OpeningError {
    /// Whether the same would happen again at the next attempt. A busy queue or a lack of memory may pass.
    pub fn is_permanent(&self) -> bool {
        !matches!(
            self,
            Self::Socket(
                AfXdpError::Busy { .. } | AfXdpError::Memory { .. } | AfXdpError::Down { .. }
            )
        )
    }
}

/// Opens the worker's queue on every port.
pub fn open_ports(start: &WorkerStart) -> Result<Vec<AfXdpPort>, OpeningError> {
    let ports = start.config.ports.iter().zip(&start.ports);
    ports
        .map(|(config, facts)| {
            let port = AfXdpPort::open(&AfXdpConfig {
                ifindex: facts.ifindex,
                queue: facts.queue,
                ring_size: config.ring_size,
                mtu_bytes: facts.mtu_bytes as usize,
                mac: facts.mac,
                generic: facts.generic,
                require_zero_copy: config.require_zero_copy,
                in_flight_max: DEFAULT_IN_FLIGHT_MAX,
                bind_deadline: DEFAULT_BIND_DEADLINE,
            })?;
            Ok(port)
        })
        .collect()
}

fn oracle(facts: &PortFacts) -> QueueOracle {
    match &facts.oracle {
        Oracle::Single => QueueOracle::Single,
        Oracle::PortXor { queues } => QueueOracle::PortXor { queues: *queues },
        Oracle::Toeplitz { key, indirection } => QueueOracle::Toeplitz {
            key: key.clone(),
            indirection: indirection.clone(),
        },
        // A device that says more is asked when it is open: see `crate::dpdk`.
        Oracle::Software { workers } | Oracle::Device { workers, .. } => {
            QueueOracle::Software { workers: *workers }
        }
    }
}

/// Where the TCP of a worker listens.
pub fn stack_listeners(config: &Config) -> Vec<Listener> {
    let listeners = config.listeners().filter_map(|(pool, listen)| {
        let keepalive_s = config.pools[pool].client_keepalive_s;
        Some(Listener {
            address: listen.endpoint.ip()?,
            keepalive_us: keepalive_s.map(|seconds| u64::from(seconds) * 1_000_000),
        })
    });
    listeners.collect()
}

/// The TCP of this worker.
pub fn build_stack(
    start: &WorkerStart,
    servers: usize,
    now_us: u64,
) -> Result<Stack, OpeningError> {
    let config = &start.config;
    let limits = &config.worker;
    let ports = config.ports.iter().zip(&start.ports);
    let ports = ports.map(|(config, facts)| StackPort {
        mac: facts.mac,
        mtu_bytes: facts.mtu_bytes as usize,
        ack: config.ack,
        oracle: oracle(facts),
    });
    let stack = StackConfig {
        client_slots: limits.clients_max as usize,
        client_buffer_bytes: limits.client_buffer_bytes as usize,
        server_slots: limits.server_connections_max as usize,
        server_buffer_bytes: limits.server_buffer_bytes as usize,
        half_open_max: limits.half_open_max as usize,
        listeners: stack_listeners(config),
        ports: ports.collect(),
        servers,
        worker: start.worker,
        workers: start.workers,
        source_ports: limits.source_ports,
        seed: start.seed,
    };
    Ok(Stack::new(stack, now_us)?)
}

/// The proxy of a worker with this many stream slots.
pub fn build_proxy(config: &Config, seed: u64, slots: usize, meters: Meters, now_us: u64) -> Proxy {
    let (pools, limits) = (&config.pools, &config.worker);
    Proxy::with_meters(pools, limits, slots, proxy_seed(seed), now_us, meters)
}

/// Another number than the streams' seed, which must not be guessed from what the proxy does at random.
pub fn proxy_seed(seed: u64) -> u64 {
    seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15
}
