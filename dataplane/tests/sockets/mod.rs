//! A socket network turned by hand, and plain sockets of the standard library as its peers.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod worker;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tidegate_config::AckMode;
use tidegate_dataplane::network::Network;
use tidegate_dataplane::sockets::listen::local_address;
use tidegate_dataplane::sockets::{
    Endpoint, ListenOptions, Listening, SocketConfig, SocketNetwork, SocketStreams, listen,
};
use tidegate_port::doorbell::Doorbell;
use tidegate_proxy::streams::{ServerId, StreamId, StreamStatus, Streams};

/// Far beyond what any step takes; only a failure waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const OPTIONS: ListenOptions = ListenOptions {
    backlog: 64,
    reuse_port: true,
    keepalive_s: None,
    mode: None,
};

pub fn config() -> SocketConfig {
    SocketConfig {
        client_slots: 4,
        client_buffer_bytes: 1_000,
        server_slots: 4,
        servers_needed: 1,
        server_buffer_bytes: 1_000,
        servers: Vec::new(),
        source_address: None,
        ack: AckMode::Immediate,
        spin: false,
    }
}

/// A network with one listener, and its clock.
pub struct Net {
    pub network: SocketNetwork,
    pub address: SocketAddr,
    pub bell: Doorbell,
    pub now_us: u64,
    /// The last turn left something that can be done at once.
    pub pending: bool,
}

impl Net {
    pub fn new(config: &SocketConfig) -> Self {
        let socket = listen(&any_port(), &OPTIONS).unwrap();
        let address = local_address(socket.as_fd()).unwrap();
        let listening = Listening {
            socket,
            shared: false,
        };
        Self::with(config, vec![listening], address)
    }

    pub fn with(config: &SocketConfig, listeners: Vec<Listening>, address: SocketAddr) -> Self {
        let bell = Doorbell::new().unwrap();
        let network = SocketNetwork::new(config, listeners, bell.try_clone().unwrap()).unwrap();
        Self {
            network,
            address,
            bell,
            now_us: 0,
            pending: false,
        }
    }

    /// A network whose only server is `server`.
    pub fn towards(server: impl Into<Endpoint>) -> Self {
        Self::new(&SocketConfig {
            servers: vec![server.into()],
            ..config()
        })
    }

    pub fn streams(&mut self) -> &mut SocketStreams {
        self.network.streams()
    }

    /// One turn, which waits a moment for arrivals; `work` is done for every stream that is ready.
    pub fn turn(&mut self, mut work: impl FnMut(&mut SocketStreams, StreamId)) {
        self.network.tick(self.now_us);
        let moment_us = if self.pending { 0 } else { 1_000 };
        self.network.wait(self.bell.as_fd(), moment_us, 0);
        self.network.receive();
        let streams = self.network.streams();
        while let Some(id) = streams.next_ready() {
            work(streams, id);
        }
        self.pending = self.network.send();
    }

    /// Turns until `done`.
    pub fn turn_until(
        &mut self,
        what: &str,
        mut work: impl FnMut(&mut SocketStreams, StreamId),
        mut done: impl FnMut(&mut SocketStreams) -> bool,
    ) {
        let started = Instant::now();
        while !done(self.streams()) {
            assert!(started.elapsed() < PATIENCE, "{what} did not happen");
            self.turn(&mut work);
        }
    }

    /// Turns until `done`, without work.
    pub fn until(&mut self, what: &str, done: impl FnMut(&mut SocketStreams) -> bool) {
        self.turn_until(what, |_, _| (), done);
    }

    /// The next stream that is ready.
    pub fn next_ready(&mut self, what: &str) -> StreamId {
        let mut found = None;
        let started = Instant::now();
        while found.is_none() {
            assert!(started.elapsed() < PATIENCE, "{what} did not happen");
            self.turn(|_, id| found = found.or(Some(id)));
        }
        found.unwrap()
    }

    /// A client and its stream.
    pub fn client(&mut self) -> (TcpStream, StreamId) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        let id = self.next_ready("the accept");
        (client, id)
    }

    /// A stream to the server and the server's end of it.
    pub fn server(&mut self, listener: &TcpListener) -> (TcpStream, StreamId) {
        let id = self.streams().connect(ServerId(0)).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        self.until("the connect", |streams| {
            streams.status(id) == StreamStatus::Open
        });
        (server, id)
    }

    /// Everything received on `id`, consumed.
    pub fn take(&mut self, id: StreamId) -> Vec<u8> {
        let streams = self.streams();
        let mut bytes = vec![0; streams.received(id)];
        assert_eq!(streams.copy(id, &mut bytes), bytes.len());
        streams.consume(id, bytes.len());
        bytes
    }
}

pub fn any_port() -> Endpoint {
    Endpoint::Ip("127.0.0.1:0".parse().unwrap())
}

/// Bytes that are easy to compare and never periodic in a ring's size.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| (index % 251) as u8 ^ (index / 251) as u8)
        .collect()
}

/// What the peer gets until we finish.
pub fn read_to_end(peer: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

pub fn read_exactly(peer: &mut impl Read, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    peer.read_exact(&mut out).unwrap();
    out
}

pub fn write(peer: &mut impl Write, bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
}
