//! The worker's end: stack and proxy over one wire, a turn at a time.

use crate::plan::{LOAD, Plan, VIP, WORKER};
use anyhow::Result;
use tidegate_config::AckMode;
use tidegate_port::wire::WirePort;
use tidegate_port::{Port, RxQueue, TxQueue};
use tidegate_proxy::Proxy;
use tidegate_proxy::streams::{ServerId, Streams};
use tidegate_stack::{HandOver, Listener, Path, QueueOracle, Stack, StackConfig, StackPort};

/// Frames taken at once, as the worker of the product does.
const BURST_FRAMES: usize = 64;

/// There is no other worker.
struct Alone;

impl HandOver for Alone {
    fn hand_over(&mut self, _: u32, _: u8, _: &[u8]) -> bool {
        false
    }
}

/// One worker.
pub struct BenchWorker {
    ports: [WirePort; 1],
    /// TCP.
    pub stack: Stack,
    /// The proxy.
    pub proxy: Proxy,
    /// Turns that were counted. Without a difference between the two kinds of turn the compiler makes one function of both,
    /// and a profiler would collect handshakes and warm-up too.
    pub measured_turns: u64,
}

impl BenchWorker {
    /// A worker that serves the plan over `port`.
    pub fn new(plan: &Plan, port: WirePort, ack: AckMode, now_us: u64) -> Result<Self> {
        let limits = plan.limits();
        let mut stack = Stack::new(
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
        for index in 0..plan.servers {
            let path = Path {
                port: 0,
                source: VIP,
                destination: plan.server(index),
                next_hop_mac: LOAD.mac,
            };
            stack.set_path(ServerId(index), Some(path));
        }
        let proxy = Proxy::new(&[plan.pool()], &limits, stack.slots(), 2, now_us);
        Ok(Self {
            ports: [port],
            stack,
            proxy,
            measured_turns: 0,
        })
    }

    /// One turn of the poll loop. True when there was anything to do.
    #[inline]
    fn turn(&mut self, now_us: u64) -> bool {
        self.stack.tick(now_us);
        let [port] = &mut self.ports;
        let (rx, tx) = port.halves();
        let frames = rx.burst(BURST_FRAMES);
        for frame in 0..frames {
            self.stack.ingress(rx.frame(frame), 0, tx, &mut Alone);
        }
        rx.release();
        self.proxy.tick(&mut self.stack, now_us);
        self.proxy.run(&mut self.stack, now_us);
        self.stack.egress(&mut self.ports);
        self.ports[0].halves().1.flush();
        frames > 0
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
