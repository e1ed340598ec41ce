//! A worker without a manager on one end of a wire, and a peer on the other that is client and server at once.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate_channel::paths::PathEntry;
use tidegate_config::{AckMode, Config};
use tidegate_dataplane::assembly::{PacketWorker, Standalone, standalone};
use tidegate_dataplane::clock::Clock;
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;
use tidegate_port::wire::{self, WireConfig, WirePort};
use tidegate_port::{Port, RxQueue, TxQueue};
use tidegate_proxy::streams::{CloseReason, ServerId, StreamId, StreamStatus, Streams};
use tidegate_stack::{HandOver, Listener, Path, QueueOracle, Stack, StackConfig, StackPort};

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MTU_BYTES: usize = 1_500;
/// Far beyond what any step takes; only a failure waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

fn config(idle: &str) -> Config {
    let text = format!(
        r#"
        [[port]]
        interface = "wire"
        queues = {{ 0 = 0 }}
        [[pool]]
        name = "cache"
        listen = "10.0.0.1:11211"
        protocol = "memcached"
        servers = ["10.0.0.3:11301:1"]
        [worker]
        idle = "{idle}"
        clients_max = 64
        half_open_max = 16
        server_connections_max = 16
        "#
    );
    Config::parse(&text, "test").unwrap()
}

struct NoWorkers;

impl HandOver for NoWorkers {
    fn hand_over(&mut self, _worker: u32, _port: u8, _frame: &[u8]) -> bool {
        false
    }
}

/// Client and server on the far end of the wire.
pub struct Peer {
    port: WirePort,
    pub stack: Stack,
    started: Instant,
    /// What the client received.
    pub received: Vec<u8>,
    /// How the client's connection ended.
    pub closed: Option<CloseReason>,
    /// Whether the server answers.
    pub answers: bool,
}

impl Peer {
    fn new(port: WirePort) -> Self {
        let listener = Listener {
            address: "10.0.0.3:11301".parse().unwrap(),
            keepalive_us: None,
        };
        let config = StackConfig {
            client_slots: 8,
            client_buffer_bytes: 4_096,
            server_slots: 8,
            server_buffer_bytes: 4_096,
            half_open_max: 8,
            listeners: vec![listener],
            ports: vec![StackPort {
                mac: PEER_MAC,
                mtu_bytes: MTU_BYTES,
                ack: AckMode::Immediate,
                oracle: QueueOracle::Single,
            }],
            servers: 1,
            worker: 0,
            workers: 1,
            source_ports: (50_000, 50_100),
            seed: 7,
        };
        let stack = Stack::new(config, 0).unwrap();
        let mut peer = Self {
            port,
            stack,
            started: Instant::now(),
            received: Vec::new(),
            closed: None,
            answers: true,
        };
        peer.finds_worker_at(OUR_MAC);
        peer
    }

    pub fn finds_worker_at(&mut self, next_hop_mac: [u8; 6]) {
        let path = Path {
            port: 0,
            source: "10.0.0.2".parse().unwrap(),
            destination: "10.0.0.1:11211".parse().unwrap(),
            next_hop_mac,
        };
        self.stack.set_path(ServerId(0), Some(path));
    }

    pub fn turn(&mut self) {
        self.stack.tick(self.started.elapsed().as_micros() as u64);
        let (rx, tx) = self.port.halves();
        for frame in 0..rx.burst(64) {
            self.stack.ingress(rx.frame(frame), 0, tx, &mut NoWorkers);
        }
        rx.release();
        while let Some(id) = self.stack.next_ready() {
            if self.stack.listener(id).is_some() {
                self.serve(id);
            } else {
                self.read(id);
            }
        }
        self.stack.egress(std::slice::from_mut(&mut self.port));
        self.port.halves().1.flush();
    }

    fn serve(&mut self, id: StreamId) {
        // Not in place: a request may lie across the end of the ring.
        let mut request = vec![0; self.stack.received(id)];
        self.stack.copy(id, &mut request);
        if request.ends_with(b"\r\n") && self.answers {
            self.stack.consume(id, request.len());
            self.stack.send(id, b"VALUE foo 0 3\r\nabc\r\nEND\r\n");
        }
    }

    fn read(&mut self, id: StreamId) {
        let mut bytes = vec![0; self.stack.received(id)];
        self.stack.copy(id, &mut bytes);
        self.stack.consume(id, bytes.len());
        self.received.extend(bytes);
        match self.stack.status(id) {
            StreamStatus::HalfClosed => self.stack.finish(id),
            StreamStatus::Closed(reason) => {
                self.closed = Some(reason);
                self.stack.release(id);
            }
            StreamStatus::Connecting | StreamStatus::Open => {}
        }
    }

    pub fn request(&mut self) -> StreamId {
        let id = self.stack.connect(ServerId(0)).unwrap();
        self.request_on(id);
        id
    }

    pub fn request_on(&mut self, id: StreamId) {
        assert_eq!(self.stack.send(id, b"get foo\r\n"), 9);
    }

    pub fn finish(&mut self, id: StreamId) {
        self.stack.finish(id);
    }

    pub fn turn_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < PATIENCE, "{what} did not happen");
            self.turn();
            std::thread::yield_now();
        }
    }
}

pub struct Scene {
    pub peer: Peer,
    pub around: Standalone,
    pub worker: JoinHandle<(Ended, PacketWorker<WirePort>, u64)>,
}

/// A worker on a thread of its own.
pub fn scene(idle: &str, bells: bool) -> Scene {
    let (ours, theirs) = wire::create_shared(64, bells).unwrap();
    let port = |fds, mac| {
        let config = WireConfig {
            mac,
            mtu_bytes: MTU_BYTES,
        };
        wire::open(fds, config).unwrap()
    };
    let peer = Peer::new(port(theirs, PEER_MAC));
    let ports = vec![port(ours, OUR_MAC)];
    let config = config(idle);
    let (sender, receiver) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let clock = Clock::start();
        let (mut poll_loop, around) = standalone(config, ports, 1, clock).unwrap();
        sender.send(around).unwrap();
        let mut ended = None;
        let allocated = allocation_counter::measure(|| ended = Some(poll_loop.run(clock)));
        (ended.unwrap(), poll_loop, allocated.count_total)
    });
    let around = receiver.recv().unwrap();
    Scene {
        peer,
        around,
        worker,
    }
}

impl Scene {
    pub fn reach_server(&mut self) {
        let path = PathEntry {
            port: 0,
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.3:11301".parse().unwrap(),
            next_hop_mac: PEER_MAC,
        };
        self.around.paths.set(0, Some(path));
        self.around.bell.ring();
    }

    /// How the loop ended, the worker, and how often its loop took memory.
    pub fn end(mut self, command: Command) -> (Ended, PacketWorker<WirePort>, u64) {
        self.around.commands.send(command);
        let worker = self.worker;
        self.peer
            .turn_until("the worker's end", |_| worker.is_finished());
        worker.join().unwrap()
    }
}

/// What the server answers.
pub const REPLY: &[u8] = b"VALUE foo 0 3\r\nabc\r\nEND\r\n";
