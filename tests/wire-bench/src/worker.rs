//! The worker's end: a network of one port and the proxy, a turn at a time.

use crate::plan::{LOAD, Plan, VIP, WORKER};
use anyhow::Result;
use tidegate_channel::counters::StackCounters;
use tidegate_channel::paths::{PathEntry, PathReader, PathWriter};
use tidegate_config::AckMode;
use tidegate_dataplane::hand_over::{HandOverReceivers, HandOverSenders};
use tidegate_dataplane::network::Network;
use tidegate_dataplane::packets::PacketNetwork;
use tidegate_dataplane::poll_loop::run_layers;
use tidegate_port::Port;
use tidegate_proxy::Proxy;
use tidegate_proxy::streams::Streams;
use tidegate_stack::{Listener, QueueOracle, Stack, StackConfig, StackPort};

/// One worker.
pub struct BenchWorker<P> {
    network: PacketNetwork<P, Stack>,
    proxy: Proxy,
    /// When a timer is due.
    next_timer_us: Option<u64>,
    /// Something is left to be done at once.
    pending: bool,
    /// Turns that were counted. Without a difference between the two kinds of turn the compiler makes one function of both,
    /// and a profiler would collect handshakes and warm-up too.
    pub measured_turns: u64,
}

impl<P: Port> BenchWorker<P> {
    /// A worker that serves the plan over `port`.
    pub fn new(plan: &Plan, port: P, ack: AckMode, now_us: u64) -> Result<Self> {
        let limits = plan.limits();
        let stack = Stack::new(
            StackConfig {
                client_slots: limits.clients_max as usize,
                client_buffer_bytes: limits.client_buffer_bytes as usize,
                server_slots: limits.server_connections_max as usize,
                server_buffer_bytes: limits.server_buffer_bytes as usize,
                half_open_max: limits.half_open_max as usize,
                listeners: vec![Listener {
                    address: plan.listen(),
                    keepalive_us: None,
                }],
                ports: vec![StackPort {
                    mac: WORKER.mac,
                    mtu_bytes: WORKER.mtu_bytes,
                    ack,
                    oracle: QueueOracle::Single,
                }],
                servers: plan.servers as usize,
                worker: 0,
                workers: 1,
                source_ports: limits.source_ports,
                seed: 1,
            },
            now_us,
        )?;
        let servers = usize::from(plan.servers);
        let mut paths = PathWriter::create(servers)?;
        for index in 0..plan.servers {
            let path = PathEntry {
                port: 0,
                source: VIP,
                destination: plan.server(index),
                next_hop_mac: LOAD.mac,
            };
            paths.set(usize::from(index), Some(path));
        }
        let proxy = Proxy::new(&[plan.pool()], &limits, stack.slots(), 2, now_us);
        let mut network = PacketNetwork {
            ports: vec![port],
            stack,
            senders: HandOverSenders::default(),
            receivers: HandOverReceivers::default(),
            paths: PathReader::map(paths.file(), servers, 1)?,
            tap: None,
            link: None,
            doubts: None,
            announcements: Vec::new(),
            now_us,
        };
        // The paths belong to the start: nothing else is there to be received.
        network.receive();
        Ok(Self {
            network,
            proxy,
            next_timer_us: None,
            pending: false,
            measured_turns: 0,
        })
    }

    /// What TCP counted.
    pub fn counters(&self) -> StackCounters {
        self.network.counters()
    }

    /// One turn, as the poll loop makes it when something has arrived. True when something had.
    #[inline]
    fn turn(&mut self, now_us: u64) -> bool {
        let Self { network, proxy, .. } = self;
        let waiting = network.waiting();
        let timer_due = self.next_timer_us.is_none_or(|due_us| due_us <= now_us);
        if waiting == 0 && !timer_due && !network.has_news() && !self.pending {
            return false;
        }
        self.pending = run_layers(network, proxy, now_us, timer_due);
        let timers = [network.next_timer_us(), proxy.next_timer_us()];
        self.next_timer_us = Some(timers.into_iter().flatten().min().unwrap_or(u64::MAX));
        waiting > 0
    }

    /// A turn that is not counted: handshakes, warm-up.
    #[inline(never)]
    pub fn warm_turn(&mut self, now_us: u64) -> bool {
        self.turn(now_us)
    }

    /// A turn that is counted: the function whose instructions a profiler is told to collect.
    #[inline(never)]
    pub fn measured_turn(&mut self, now_us: u64) -> bool {
        self.measured_turns += 1;
        self.turn(now_us)
    }
}
