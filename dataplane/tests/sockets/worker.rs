//! A worker on a thread of its own, in front of a server that answers gets.

use super::{PATIENCE, any_port};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate_channel::counters::LoopCounters;
use tidegate_channel::statistics::StatisticsReader;
use tidegate_config::{Config, Endpoint, Listen};
use tidegate_dataplane::clock::Clock;
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;
use tidegate_dataplane::sockets::assembly::{Standalone, standalone};

pub const REQUEST: &[u8] = b"get foo\r\n";
pub const REPLY: &[u8] = b"VALUE foo 0 3\r\nabc\r\nEND\r\n";

fn config(idle: &str, server: SocketAddr) -> Config {
    let text = format!(
        r#"
        [[port]]
        interface = "kernel"
        [[pool]]
        name = "cache"
        listen = "10.0.0.10:1"
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
    config.pools[0].listen = vec![Listen {
        endpoint: any_port(),
        mode: None,
    }];
    config
}

/// A server that answers every get of one connection after another, until its listener is asked for the last time.
pub struct Server {
    pub address: SocketAddr,
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

pub struct Scene {
    pub around: Standalone,
    pub worker: JoinHandle<(Ended, LoopCounters, u64)>,
    pub server: Server,
    pub go: mpsc::Sender<()>,
}

impl Scene {
    /// A worker on a thread of its own.
    pub fn new(idle: &str) -> Self {
        Self::towards(None, idle)
    }

    /// The same in front of another server, if one is given.
    pub fn towards(other: Option<Endpoint>, idle: &str) -> Self {
        let (server, go) = Server::start();
        let mut config = config(idle, server.address);
        if let Some(address) = other {
            config.pools[0].servers[0].address = address;
        }
        let (sender, receiver) = mpsc::channel();
        let worker = std::thread::spawn(move || {
            let clock = Clock::start();
            let (mut poll_loop, around) = standalone(&config, 1, clock).unwrap();
            sender.send(around).unwrap();
            let mut ended = None;
            let allocated = allocation_counter::measure(|| ended = Some(poll_loop.run(clock)));
            // Its connections end here, so that the server sees it.
            (ended.unwrap(), poll_loop.counters, allocated.count_total)
        });
        let around = receiver.recv().unwrap();
        Self {
            around,
            worker,
            server,
            go,
        }
    }

    pub fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.around.addresses[0]).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    pub fn seen(&mut self, what: &str, mut done: impl FnMut(&mut StatisticsReader) -> bool) {
        let started = Instant::now();
        while !done(&mut self.around.statistics) {
            assert!(started.elapsed() < PATIENCE, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How the loop ended, what it counted, and how often it took memory.
    pub fn end(mut self, command: Command) -> (Ended, LoopCounters, u64) {
        self.around.commands.send(command);
        self.wait()
    }

    pub fn wait(self) -> (Ended, LoopCounters, u64) {
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
