//! Clients, servers and a network around one proxy, in one thread under one seed.
#![allow(dead_code)]

pub mod change;
pub mod dialects;
pub mod dialogue;
pub mod fit;
pub mod joined;
pub mod many;
pub mod redis;
pub mod server;
pub mod session;
pub mod states;
pub mod streams;
pub mod traffic;
pub mod whole;

use server::ModelServer;
use session::Session;
use std::collections::HashMap;
use std::net::SocketAddr;
use streams::ModelStreams;
use tidegate_config::{
    Compat, Distribution, Endpoint, HashKind, IdleMode, Listen, Partial, PoolConfig, Protocol,
    Seccomp, ServerConfig, WorkerConfig,
};
use tidegate_proxy::Proxy;
use tidegate_proxy::streams::{CloseReason, ListenerId, StreamId, StreamStatus, Streams};

/// A small generator; its seed is printed by every test that fails.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub fn pool(protocol: Protocol, servers: usize) -> PoolConfig {
    PoolConfig {
        name: "pool".into(),
        listen: vec![Listen::from(SocketAddr::from(([10, 0, 0, 1], 1)))],
        backlog: 1024,
        protocol,
        distribution: Distribution::Modula,
        hash: HashKind::Fnv1a32,
        hash_tag: None,
        servers: (0..servers)
            .map(|i| ServerConfig {
                address: Endpoint::Ip(format!("10.0.1.{i}:1").parse().unwrap()),
                name: format!("server-{i}"),
                weight: 1,
            })
            .collect(),
        timeout_ms: Some(400),
        slowlog_us: Some(10_000),
        server_connections: 1,
        clients_max: None,
        own_connections_max: 128,
        preconnect: false,
        auto_eject_hosts: false,
        server_retry_timeout_ms: 1000,
        server_failure_limit: 2,
        client_keepalive_s: None,
        databases: 16,
        database: 0,
        redis_auth: None,
        redis_user: None,
        memcached_auth: None,
        memcached_user: None,
        server_auth: None,
        server_user: None,
        partial: Partial::Error,
        compat: Compat::None,
    }
}

pub fn limits() -> WorkerConfig {
    WorkerConfig {
        clients_max: 64,
        half_open_max: 16,
        client_buffer_bytes: 512,
        server_connections_max: 64,
        server_buffer_bytes: 8192,
        requests_max: 4096,
        client_requests_max: 64,
        split_keys_max: 4096,
        request_hold_bytes: 4096,
        reply_hold_bytes: 4 << 20,
        client_reply_hold_bytes: 1 << 20,
        client_stall_ms: 60_000,
        idle: IdleMode::Adaptive,
        source_ports: (20_000, 29_999),
        user: None,
        drain_timeout_ms: 1000,
        source_address: None,
        outlive_manager: false,
        seccomp: Seccomp::Off,
    }
}

/// One client: what it still has to send, and what it got.
pub struct ModelClient {
    pub id: StreamId,
    pub serial: u64,
    pub to_send: Vec<u8>,
    pub got: Vec<u8>,
    pub closed: Option<CloseReason>,
    /// The proxy finished the connection in order.
    pub finished: bool,
    pub half_close_when_sent: bool,
    /// Does not read.
    pub deaf: bool,
    /// Does not close when the proxy has finished.
    pub stays: bool,
}

pub struct World {
    pub proxy: Proxy,
    pub streams: ModelStreams,
    pub servers: Vec<ModelServer>,
    /// What a server connection has received and not answered, by stream slot.
    pub inputs: HashMap<u32, Vec<u8>>,
    /// What a server was told on a connection, by serial number of the stream.
    pub sessions: HashMap<u64, Session>,
    /// Replies on the way to the proxy.
    pub outputs: HashMap<u32, Vec<u8>>,
    pub clients: Vec<ModelClient>,
    pub rng: Rng,
    pub now_us: u64,
    /// Largest piece that the network moves at once.
    pub piece: usize,
    /// What is in force.
    pub pools: Vec<PoolConfig>,
    pub limits: WorkerConfig,
    /// Servers that left, with their address: who comes back has what it had.
    pub shelf: Vec<(Endpoint, ModelServer)>,
}

impl World {
    pub fn new(pools: &[PoolConfig], limits: &WorkerConfig, seed: u64) -> Self {
        let slots = (limits.clients_max + limits.server_connections_max) as usize;
        let streams = ModelStreams::new(
            slots,
            limits.client_buffer_bytes as usize,
            limits.server_buffer_bytes as usize,
        );
        let servers = pools
            .iter()
            .flat_map(|p| p.servers.iter().map(|_| ModelServer::new(p.protocol)))
            .collect();
        Self {
            proxy: Proxy::new(pools, limits, slots, seed, 0),
            streams,
            servers,
            inputs: HashMap::new(),
            sessions: HashMap::new(),
            outputs: HashMap::new(),
            clients: Vec::new(),
            rng: Rng::new(seed),
            now_us: 0,
            piece: 700,
            pools: pools.to_vec(),
            limits: limits.clone(),
            shelf: Vec::new(),
        }
    }

    pub fn connect(&mut self, requests: Vec<u8>) -> usize {
        self.connect_at(ListenerId(0), requests)
    }

    pub fn connect_at(&mut self, listener: ListenerId, requests: Vec<u8>) -> usize {
        let id = self
            .streams
            .open(Some(listener), None)
            .expect("there is a slot");
        self.clients.push(ModelClient {
            id,
            serial: self.streams.serial,
            to_send: requests,
            got: Vec::new(),
            closed: None,
            finished: false,
            half_close_when_sent: false,
            deaf: false,
            stays: false,
        });
        self.clients.len() - 1
    }

    fn piece(&mut self) -> usize {
        1 + self.rng.below(self.piece)
    }

    fn move_client(&mut self, client: usize) -> bool {
        let (send, read) = (self.piece(), self.piece());
        let state = &mut self.clients[client];
        if state.closed.is_some() || state.finished {
            return false;
        }
        let slot = self.streams.slots[state.id.0 as usize].as_mut();
        let Some(stream) = slot.filter(|stream| stream.serial == state.serial) else {
            state.finished = true;
            return true;
        };
        let mut moved = false;
        if stream.aborted {
            state.closed = Some(CloseReason::Reset);
            return true;
        }
        if !state.deaf {
            let got = stream.sent.take(read);
            moved |= !got.is_empty();
            state.got.extend(got);
        }
        if stream.finished && stream.sent.len() == 0 {
            state.finished = true;
            if !state.stays && !stream.released {
                stream.status = StreamStatus::Closed(CloseReason::Finished);
            }
            moved = true;
        } else if !stream.finished {
            let n = send.min(state.to_send.len());
            let n = stream.received.push(&state.to_send[..n]);
            state.to_send.drain(..n);
            moved |= n > 0;
            if state.to_send.is_empty()
                && state.half_close_when_sent
                && stream.status == StreamStatus::Open
            {
                stream.status = StreamStatus::HalfClosed;
                moved = true;
            }
        }
        if moved && !stream.released {
            self.streams.mark_ready(state.id);
        }
        moved
    }

    fn move_server(&mut self, slot: u32) -> bool {
        let (take, give) = (self.piece(), self.piece());
        let Some(stream) = &mut self.streams.slots[slot as usize] else {
            return false;
        };
        let Some(server) = stream.server else {
            return false;
        };
        let model = &mut self.servers[server.0 as usize];
        if stream.aborted || matches!(stream.status, StreamStatus::Closed(_)) {
            model.states.remove(&slot);
            self.inputs.remove(&slot);
            self.outputs.remove(&slot);
            return false;
        }
        let mut moved = false;
        if stream.status == StreamStatus::Connecting {
            if self.streams.refuse.contains(&server) {
                stream.status = StreamStatus::Closed(CloseReason::Refused);
                moved = true;
            } else if model.accepts {
                stream.status = StreamStatus::Open;
                moved = true;
            }
        } else if !model.stopped && stream.status == StreamStatus::Open {
            let input = self.inputs.entry(slot).or_default();
            let data = stream.sent.take(take);
            moved |= !data.is_empty();
            input.extend(data);
            let output = self.outputs.entry(slot).or_default();
            let session = self.sessions.entry(stream.serial).or_default();
            moved |= model.serve(slot, session, input, output);
            for (other, bytes) in model.outbox.drain(..) {
                moved = true;
                self.outputs.entry(other).or_default().extend(bytes);
            }
            let output = self.outputs.entry(slot).or_default();
            let give = if model.trickles { 1 } else { give };
            let n = stream.received.push(&output[..give.min(output.len())]);
            output.drain(..n);
            moved |= n > 0;
        }
        if moved && !stream.released {
            self.streams.mark_ready(StreamId(slot));
        }
        moved
    }

    /// One round of the network and the proxy. True when anything moved.
    pub fn step(&mut self) -> bool {
        let mut moved = false;
        for client in 0..self.clients.len() {
            moved |= self.move_client(client);
        }
        for slot in 0..self.streams.slots.len() as u32 {
            moved |= self.move_server(slot);
        }
        self.now_us += 100;
        self.streams.given = 0;
        self.proxy.run(&mut self.streams, self.now_us);
        self.proxy.tick(&mut self.streams, self.now_us);
        moved |= self.proxy.has_more();
        for client in &mut self.clients {
            let stream = &self.streams.slots[client.id.0 as usize];
            let own = stream.as_ref().filter(|s| s.serial == client.serial);
            if !client.finished && own.is_some_and(|s| s.aborted) {
                client.closed = Some(CloseReason::Reset);
            }
        }
        self.streams.sweep();
        let slots = &self.streams.slots;
        let alive = |slot: &u32| {
            slots[*slot as usize]
                .as_ref()
                .is_some_and(|s| s.server.is_some())
        };
        self.inputs.retain(|slot, _| alive(slot));
        self.outputs.retain(|slot, _| alive(slot));
        for server in &mut self.servers {
            server.states.retain(|slot, _| alive(slot));
        }
        moved
    }

    /// Steps until nothing moves any more, or for at most `steps`.
    pub fn settle(&mut self, steps: usize) {
        let mut quiet = 0;
        for _ in 0..steps {
            quiet = if self.step() { 0 } else { quiet + 1 };
            if quiet > 100 {
                return;
            }
        }
    }

    /// Lets time pass while everything moves.
    pub fn pass(&mut self, us: u64) {
        let until = self.now_us + us;
        while self.now_us < until {
            self.step();
        }
    }

    /// Ends every connection of a server, as a crash does.
    pub fn crash(&mut self, server: usize) {
        for slot in 0..self.streams.slots.len() as u32 {
            let Some(stream) = &mut self.streams.slots[slot as usize] else {
                continue;
            };
            if stream.server.is_some_and(|s| s.0 as usize == server) && !stream.released {
                stream.status = StreamStatus::Closed(CloseReason::Reset);
                self.inputs.remove(&slot);
                self.outputs.remove(&slot);
                self.streams.mark_ready(StreamId(slot));
            }
        }
    }

    /// Resets the connection of a client, which is not looked at any more.
    pub fn vanish(&mut self, client: usize) {
        let state = &mut self.clients[client];
        if state.closed.is_some() || state.finished {
            return;
        }
        state.closed = Some(CloseReason::Reset);
        let id = state.id;
        let slot = self.streams.slots[id.0 as usize].as_mut();
        if let Some(stream) = slot.filter(|s| s.serial == state.serial && !s.released) {
            stream.status = StreamStatus::Closed(CloseReason::Reset);
            stream.received.clear();
            self.streams.mark_ready(id);
        }
    }

    /// The open connections to a server.
    pub fn server_slots(&self, server: usize) -> Vec<u32> {
        (0..self.streams.slots.len() as u32)
            .filter(|&slot| {
                self.streams.slots[slot as usize].as_ref().is_some_and(|s| {
                    !s.released
                        && s.status == StreamStatus::Open
                        && s.server.is_some_and(|id| id.0 as usize == server)
                })
            })
            .collect()
    }

    /// Puts bytes of a server on its first connection, whatever it was asked.
    pub fn say(&mut self, server: usize, bytes: &[u8]) {
        let slot = self.server_slots(server)[0];
        let stream = self.streams.stream(StreamId(slot));
        assert_eq!(stream.received.push(bytes), bytes.len(), "there is room");
        self.streams.mark_ready(StreamId(slot));
    }

    /// A server sends FIN in the middle of whatever it was sending, and nothing after it.
    pub fn hang_up(&mut self, server: usize) {
        for slot in self.server_slots(server) {
            let part = self.piece();
            let output = self.outputs.remove(&slot).unwrap_or_default();
            let stream = self.streams.stream(StreamId(slot));
            stream.received.push(&output[..part.min(output.len())]);
            stream.status = StreamStatus::HalfClosed;
            self.inputs.remove(&slot);
            self.streams.mark_ready(StreamId(slot));
        }
    }

    /// No table of the proxy has an entry that nobody needs.
    pub fn assert_idle(&self, what: &str) {
        let tables = self.proxy.tables_in_use();
        assert!(tables.is_idle(), "{what}: {tables:?}");
    }
}
