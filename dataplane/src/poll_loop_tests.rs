//! The loop with its real layers, over a wire: a peer on the other end is client and server at once.

use super::*;
use crate::assembly::{Standalone, standalone};
use crate::limits::{IDLE_AWAKE_US, SLEEP_MAX_US};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate_channel::paths::PathEntry;
use tidegate_config::{AckMode, Config};
use tidegate_port::wire::{self, WireConfig, WirePort};
use tidegate_proxy::Proxy;
use tidegate_proxy::streams::{CloseReason, StreamId, StreamStatus, Streams};
use tidegate_stack::{HandOver, Listener, Path, QueueOracle, Stack, StackConfig, StackPort};

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MTU_BYTES: usize = 1_500;
/// Far beyond what any step takes; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

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
struct Peer {
    port: WirePort,
    stack: Stack,
    started: Instant,
    /// What the client received.
    received: Vec<u8>,
    /// How the client's connection ended.
    closed: Option<CloseReason>,
    /// Whether the server answers.
    answers: bool,
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
        let mut stack = Stack::new(config, 0).unwrap();
        let path = Path {
            port: 0,
            source: "10.0.0.2".parse().unwrap(),
            destination: "10.0.0.1:11211".parse().unwrap(),
            next_hop_mac: OUR_MAC,
        };
        stack.set_path(ServerId(0), Some(path));
        let started = Instant::now();
        Self {
            port,
            stack,
            started,
            received: Vec::new(),
            closed: None,
            answers: true,
        }
    }

    fn turn(&mut self) {
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
        let request = self.stack.peek(id).to_vec();
        if request.ends_with(b"\r\n") && self.answers {
            self.stack.consume(id, request.len());
            self.stack.send(id, b"VALUE foo 0 3\r\nabc\r\nEND\r\n");
        }
    }

    fn read(&mut self, id: StreamId) {
        let bytes = self.stack.peek(id).to_vec();
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

    fn request(&mut self) -> StreamId {
        let id = self.stack.connect(ServerId(0)).unwrap();
        assert_eq!(self.stack.send(id, b"get foo\r\n"), 9);
        id
    }

    fn turn_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < PATIENCE, "{what} did not happen");
            self.turn();
            std::thread::yield_now();
        }
    }
}

struct Scene {
    peer: Peer,
    around: Standalone,
    worker: JoinHandle<(Ended, PollLoop<WirePort, Stack, Proxy>)>,
}

fn scene(idle: &str, bells: bool) -> Scene {
    let (ours, theirs) = wire::create_shared(64, bells).unwrap();
    let port = |fds, mac| {
        wire::open(
            fds,
            WireConfig {
                mac,
                mtu_bytes: MTU_BYTES,
            },
        )
        .unwrap()
    };
    let peer = Peer::new(port(theirs, PEER_MAC));
    let clock = Clock::start();
    let ports = vec![port(ours, OUR_MAC)];
    let (mut poll_loop, around) = standalone(config(idle), ports, 1, clock).unwrap();
    let worker = std::thread::spawn(move || {
        let ended = poll_loop.run(clock);
        (ended, poll_loop)
    });
    Scene {
        peer,
        around,
        worker,
    }
}

impl Scene {
    fn reach_server(&mut self) {
        let path = PathEntry {
            port: 0,
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.3:11301".parse().unwrap(),
            next_hop_mac: PEER_MAC,
        };
        self.around.paths.set(0, Some(path));
        self.around.bell.ring();
    }

    fn end(mut self, command: Command) -> (Ended, PollLoop<WirePort, Stack, Proxy>) {
        self.around.commands.send(command);
        let worker = self.worker;
        self.peer
            .turn_until("the worker's end", |_| worker.is_finished());
        worker.join().unwrap()
    }
}

const REPLY: &[u8] = b"VALUE foo 0 3\r\nabc\r\nEND\r\n";

#[test]
fn a_request_crosses_the_loop_whether_it_spins_or_sleeps() {
    for (idle, bells) in [("spin", false), ("adaptive", true), ("adaptive", false)] {
        let mut scene = scene(idle, bells);
        scene.reach_server();
        scene.peer.request();
        scene
            .peer
            .turn_until("the reply", |peer| peer.received == REPLY);
        let (ended, poll_loop) = scene.end(Command::Stop);
        assert_eq!(ended, Ended::Stopped);
        assert!(poll_loop.counters.busy_turns > 0 && poll_loop.counters.busy_ns > 0);
        if !bells {
            assert_eq!(
                poll_loop.counters.sleeps, 0,
                "a wire without bells cannot be slept on"
            );
        }
    }
}

#[test]
fn an_idle_worker_sleeps_and_a_bell_or_a_frame_wakes_it() {
    let mut scene = scene("adaptive", true);
    let started = Instant::now();
    let mut reader = scene.around.statistics;
    while reader.read_loop().sleeps == 0 {
        assert!(started.elapsed() < PATIENCE, "it never slept");
        std::thread::sleep(Duration::from_micros(IDLE_AWAKE_US));
    }
    scene.around.statistics = reader;
    scene.reach_server();
    scene.peer.request();
    scene
        .peer
        .turn_until("the reply", |peer| peer.received == REPLY);
    assert_eq!(scene.end(Command::ManagerGone).0, Ended::ManagerGone);
}

#[test]
fn an_idle_worker_has_a_heartbeat_whether_it_spins_or_sleeps() {
    for idle in ["spin", "adaptive"] {
        let mut scene = scene(idle, true);
        let first = scene.around.statistics.read_loop().heartbeat;
        let started = Instant::now();
        while scene.around.statistics.read_loop().heartbeat < first + 3 {
            assert!(started.elapsed() < PATIENCE, "idle = {idle}: no heartbeat");
            std::thread::sleep(Duration::from_micros(SLEEP_MAX_US / 10));
        }
        scene.end(Command::Stop);
    }
}

#[test]
fn statistics_add_up_after_a_request() {
    let mut scene = scene("adaptive", true);
    scene.reach_server();
    scene.peer.request();
    scene
        .peer
        .turn_until("the reply", |peer| peer.received == REPLY);
    let started = Instant::now();
    loop {
        let seen = scene.around.statistics.read().clone();
        if seen.pools[0].replies == 1 {
            assert_eq!(
                (
                    seen.pools[0].requests,
                    seen.servers[0].requests,
                    seen.servers[0].replies
                ),
                (1, 1, 1)
            );
            assert_eq!((seen.stack.accepted, seen.stack.connected), (1, 1));
            break;
        }
        assert!(started.elapsed() < PATIENCE, "not published: {seen:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    scene.end(Command::Stop);
}

#[test]
fn a_drain_delivers_what_is_owed_and_closes_in_order() {
    let mut scene = scene("adaptive", true);
    scene.reach_server();
    scene.peer.answers = false;
    scene.peer.request();
    let waiting = |peer: &mut Peer| peer.stack.counters().accepted == 1;
    scene.peer.turn_until("the request at the server", waiting);
    scene.around.commands.send(Command::Drain {
        deadline_us: 15_000_000,
    });
    for _ in 0..100 {
        scene.peer.turn();
        std::thread::yield_now();
    }
    assert!(!scene.worker.is_finished(), "a reply is owed");
    scene.peer.answers = true;
    // The server looks at its waiting request again.
    for id in 0..scene.peer.stack.slots() as u32 {
        scene.peer.stack.mark_ready(StreamId(id));
    }
    let worker = scene.worker;
    scene.peer.turn_until("the end", |peer| {
        worker.is_finished() && peer.closed.is_some()
    });
    assert_eq!(scene.peer.received, REPLY);
    assert_eq!(scene.peer.closed, Some(CloseReason::Finished));
    assert_eq!(worker.join().unwrap().0, Ended::Drained);
}

#[test]
fn a_drain_ends_at_its_deadline_with_what_is_owed_named() {
    let mut scene = scene("adaptive", true);
    scene.reach_server();
    scene.peer.answers = false;
    scene.peer.request();
    let waiting = |peer: &mut Peer| peer.stack.counters().accepted == 1;
    scene.peer.turn_until("the request at the server", waiting);
    let (ended, _) = scene.end(Command::Drain {
        deadline_us: 50_000,
    });
    assert_eq!(ended, Ended::DeadlinePassed { owed: 1 });
}
