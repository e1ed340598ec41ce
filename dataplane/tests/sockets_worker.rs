//! A worker over kernel sockets: the loop, the sockets and the real proxy in front of a server that answers gets.

mod sockets;

use sockets::{PATIENCE, read_exactly, read_to_end, write};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate_channel::counters::LoopCounters;
use tidegate_channel::statistics::StatisticsReader;
use tidegate_config::Config;
use tidegate_dataplane::clock::Clock;
use tidegate_dataplane::control::Command;
use tidegate_dataplane::limits::SLEEP_MAX_US;
use tidegate_dataplane::poll_loop::Ended;
use tidegate_dataplane::sockets::assembly::{Standalone, standalone};

const REQUEST: &[u8] = b"get foo\r\n";
const REPLY: &[u8] = b"VALUE foo 0 3\r\nabc\r\nEND\r\n";

fn config(idle: &str, server: SocketAddr) -> Config {
    let text = format!(
        r#"
        [[port]]
        interface = "kernel"
        [[pool]]
        name = "cache"
        listen = "127.0.0.1:1"
        protocol = "memcached"
        servers = ["{server}:1"]
        [worker]
        idle = "{idle}"
        clients_max = 64
        half_open_max = 16
        server_connections_max = 16
        "#
    );
    let mut config = Config::parse(&text, "test").unwrap();
    config.pools[0].listen = vec!["127.0.0.1:0".parse().unwrap()];
    config
}

/// A server that answers every get of one connection after another, until its listener is asked for the last time.
struct Server {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

/// Answers gets on one connection, once `go` says so.
fn serve(mut stream: TcpStream, go: &mpsc::Receiver<()>) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut pending = Vec::new();
    let mut bytes = [0; 4_096];
    let mut allowed = false;
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        pending.extend_from_slice(&bytes[..count]);
        while pending.len() >= REQUEST.len() {
            assert_eq!(&pending[..REQUEST.len()], REQUEST);
            pending.drain(..REQUEST.len());
            allowed = allowed || go.recv().is_ok();
            if !allowed || stream.write_all(REPLY).is_err() {
                return;
            }
        }
    }
}

impl Server {
    fn start() -> (Self, mpsc::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (go, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // The proxy opens one connection; the end of the test connects once more.
            if let Ok((stream, _)) = listener.accept() {
                serve(stream, &wait);
            }
        });
        (Self { address, thread }, go)
    }

    fn stop(self) {
        let _unused = TcpStream::connect(self.address);
        self.thread.join().unwrap();
    }
}

struct Scene {
    around: Standalone,
    worker: JoinHandle<(Ended, LoopCounters)>,
    server: Server,
    go: mpsc::Sender<()>,
}

impl Scene {
    fn new(idle: &str) -> Self {
        let (server, go) = Server::start();
        let config = config(idle, server.address);
        let (sender, receiver) = mpsc::channel();
        let worker = std::thread::spawn(move || {
            let clock = Clock::start();
            let (mut poll_loop, around) = standalone(&config, 1, clock).unwrap();
            sender.send(around).unwrap();
            let ended = poll_loop.run(clock);
            // Its connections end here, so that the server sees it.
            (ended, poll_loop.counters)
        });
        let around = receiver.recv().unwrap();
        Self {
            around,
            worker,
            server,
            go,
        }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.around.addresses[0]).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    fn seen(&mut self, what: &str, mut done: impl FnMut(&mut StatisticsReader) -> bool) {
        let started = Instant::now();
        while !done(&mut self.around.statistics) {
            assert!(started.elapsed() < PATIENCE, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(mut self, command: Command) -> (Ended, LoopCounters) {
        self.around.commands.send(command);
        self.wait()
    }

    fn wait(self) -> (Ended, LoopCounters) {
        let started = Instant::now();
        while !self.worker.is_finished() {
            assert!(started.elapsed() < PATIENCE, "the worker does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = self.worker.join().unwrap();
        drop(self.go);
        self.server.stop();
        ended
    }
}

#[test]
fn requests_cross_the_loop_whether_it_spins_or_sleeps() {
    for idle in ["spin", "adaptive"] {
        let scene = Scene::new(idle);
        scene.go.send(()).unwrap();
        let mut client = scene.client();
        for _ in 0..100 {
            write(&mut client, REQUEST);
            assert_eq!(read_exactly(&mut client, REPLY.len()), REPLY);
        }
        write(&mut client, &REQUEST.repeat(50));
        assert_eq!(
            read_exactly(&mut client, 50 * REPLY.len()),
            REPLY.repeat(50)
        );
        let (ended, counters) = scene.end(Command::Stop);
        assert_eq!(ended, Ended::Stopped);
        assert_eq!(counters.sleeps == 0, idle == "spin");
        assert_eq!(counters.lingers, 0);
    }
}

#[test]
fn a_request_costs_few_system_calls() {
    let mut scene = Scene::new("adaptive");
    scene.go.send(()).unwrap();
    let mut client = scene.client();
    let request = |client: &mut TcpStream| {
        write(client, REQUEST);
        assert_eq!(read_exactly(client, REPLY.len()), REPLY);
    };
    request(&mut client);
    scene.seen("publication", |statistics| {
        statistics.read().pools[0].replies == 1
    });
    let before = scene.around.statistics.read().clone();
    const REQUESTS: u64 = 1_000;
    for _ in 0..REQUESTS {
        request(&mut client);
    }
    scene.seen("publication", |statistics| {
        statistics.read().pools[0].replies == REQUESTS + 1
    });
    let after = scene.around.statistics.read().clone();
    // One of each towards the client and one towards the server.
    let (before_sockets, after_sockets) = (&before.sockets, &after.sockets);
    assert_eq!(after_sockets.reads - before_sockets.reads, 2 * REQUESTS);
    assert_eq!(after_sockets.writes - before_sockets.writes, 2 * REQUESTS);
    let quick_acks = after_sockets.quick_acks - before_sockets.quick_acks;
    assert_eq!(quick_acks, 2 * REQUESTS, "armed anew after every receive");
    // A wait per arrival; a few more for publications.
    let waits = after_sockets.waits - before_sockets.waits;
    assert!(waits <= 3 * REQUESTS, "{waits} waits");
    scene.end(Command::Stop);
}

#[test]
fn an_idle_worker_sleeps_and_a_client_or_a_command_wakes_it() {
    let mut scene = Scene::new("adaptive");
    scene.seen("a sleep", |statistics| statistics.read_loop().sleeps > 0);
    let first = scene.around.statistics.read_loop();
    // It has a heartbeat all the same.
    scene.seen("a heartbeat", |statistics| {
        statistics.read_loop().heartbeat > first.heartbeat + 1
    });
    let later = scene.around.statistics.read_loop();
    let turns = later.turns - first.turns;
    assert!(turns < 1_000, "{turns} turns while idle");
    scene.go.send(()).unwrap();
    let mut client = scene.client();
    write(&mut client, REQUEST);
    assert_eq!(read_exactly(&mut client, REPLY.len()), REPLY);
    assert_eq!(scene.end(Command::ManagerGone).0, Ended::ManagerGone);
    const { assert!(SLEEP_MAX_US < 1_000_000) };
}

#[test]
fn statistics_add_up_after_requests() {
    let mut scene = Scene::new("adaptive");
    scene.go.send(()).unwrap();
    let mut client = scene.client();
    write(&mut client, REQUEST);
    read_exactly(&mut client, REPLY.len());
    drop(client);
    scene.seen("publication", |statistics| {
        let seen = statistics.read();
        seen.pools[0].client_eof == 1 && seen.stack.clients_open == 0
    });
    let seen = scene.around.statistics.read().clone();
    assert_eq!((seen.pools[0].requests, seen.servers[0].replies), (1, 1));
    assert_eq!((seen.stack.accepted, seen.stack.connected), (1, 1));
    assert_eq!((seen.stack.servers_open, seen.stack.resets_sent), (1, 0));
    let bytes = (REQUEST.len() + REPLY.len()) as u64;
    assert_eq!(seen.sockets.read_bytes, bytes);
    assert_eq!(seen.sockets.write_bytes, bytes);
    assert!(seen.sockets.waits > 0 && seen.sockets.events > 0);
    scene.end(Command::Stop);
}

#[test]
fn a_server_that_is_gone_is_an_error_for_the_client() {
    let scene = Scene::new("adaptive");
    // The server's one connection is not the proxy's: from then on nobody listens.
    drop(TcpStream::connect(scene.server.address).unwrap());
    let started = Instant::now();
    while TcpStream::connect(scene.server.address).is_ok() {
        assert!(started.elapsed() < PATIENCE, "the server goes on listening");
        std::thread::yield_now();
    }
    let mut client = scene.client();
    write(&mut client, REQUEST);
    let error = b"SERVER_ERROR Connection refused\r\n";
    assert_eq!(read_exactly(&mut client, error.len()), error);
    scene.end(Command::Stop);
}

#[test]
fn a_drain_delivers_what_is_owed_and_closes_in_order() {
    let mut scene = Scene::new("adaptive");
    let mut client = scene.client();
    write(&mut client, REQUEST);
    scene.seen("the request", |statistics| {
        statistics.read().servers[0].requests == 1
    });
    scene.around.commands.send(Command::Drain {
        deadline_us: 15_000_000,
    });
    let address = scene.around.addresses[0];
    let started = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(started.elapsed() < PATIENCE, "it goes on listening");
        std::thread::yield_now();
    }
    assert!(!scene.worker.is_finished(), "a reply is owed");
    scene.go.send(()).unwrap();
    assert_eq!(read_to_end(&mut client), REPLY);
    drop(client);
    assert_eq!(scene.wait().0, Ended::Drained);
}

#[test]
fn a_drain_ends_at_its_deadline_with_what_is_owed_named() {
    let mut scene = Scene::new("adaptive");
    let mut client = scene.client();
    write(&mut client, REQUEST);
    scene.seen("the request", |statistics| {
        statistics.read().servers[0].requests == 1
    });
    let (ended, _) = scene.end(Command::Drain {
        deadline_us: 50_000,
    });
    assert_eq!(ended, Ended::DeadlinePassed { owed: 1 });
}
