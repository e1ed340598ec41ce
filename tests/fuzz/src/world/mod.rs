//! A whole proxy between model clients and model servers.
//!
//! The input is a script: what clients send and in which portions, what befalls them and the servers, and when. The script is
//! played, everybody recovers, and then the books have to balance.

mod judge;
mod memcached;
mod peers;
mod redis;
mod script;
mod turns;

use crate::cuts::Choices;
use crate::streams::ModelStreams;
use peers::{Client, Server};
use script::{Act, Next, Script, Setting};
use std::sync::OnceLock;
use tidegate_config::{Compat, Config, PoolConfig, Protocol, WorkerConfig};
use tidegate_proxy::streams::{CloseReason, ListenerId, StreamId, StreamStatus, Streams};
use tidegate_proxy::{Change, GONE, Proxy, TablesInUse};

/// Clients at once.
pub(crate) const CLIENTS: usize = 3;
/// Servers that there are, not all of which need be configured.
const SERVERS: usize = 3;
/// How far the clock goes on in each turn.
const TURN_US: u64 = 200;
/// The pool's `timeout_ms`: one that is met, and one that only ends what nothing else does, such as a reply without its end.
const TIMEOUTS_MS: [u32; 2] = [100, 10];

/// The settings that scripts vary: small tables and buffers, so that every limit is met.
fn settings(protocol: Protocol) -> (PoolConfig, WorkerConfig) {
    static BOTH: OnceLock<Config> = OnceLock::new();
    let config = BOTH.get_or_init(|| {
        let pool = |protocol: &str, port: u16| {
            format!(
                "[[pool]]\nname = \"{protocol}\"\nprotocol = \"{protocol}\"\nlisten = \"127.0.0.1:{port}\"\ndistribution = \"modula\"\n\
                 servers = [\"127.0.0.1:1:1 a\", \"127.0.0.1:2:1 b\", \"127.0.0.1:3:1 c\"]\n"
            )
        };
        let text = format!(
            "[[port]]\ndriver = \"kernel\"\nworkers = 1\n{}{}",
            pool("redis", 10),
            pool("memcached", 11)
        );
        Config::parse(&text, "fuzz").expect("the configuration is sound")
    });
    let of = |pool: &&PoolConfig| pool.protocol == protocol;
    let pool = config.pools.iter().find(of).expect("one of each").clone();
    let mut worker = config.worker.clone();
    worker.clients_max = CLIENTS as u32 * 2;
    worker.client_buffer_bytes = 512;
    worker.server_connections_max = 12;
    worker.server_buffer_bytes = 8192;
    worker.client_requests_max = 32;
    worker.request_hold_bytes = 4096;
    worker.reply_hold_bytes = 1 << 20;
    worker.client_reply_hold_bytes = 256 << 10;
    worker.client_stall_ms = 50;
    (pool, worker)
}

fn vary(setting: Setting, pool: &mut PoolConfig, worker: &mut WorkerConfig) {
    pool.servers.truncate(setting.servers);
    pool.server_connections = setting.connections;
    pool.auto_eject_hosts = setting.ejects;
    pool.server_retry_timeout_ms = 20;
    pool.server_failure_limit = 1;
    pool.preconnect = setting.preconnects;
    pool.timeout_ms = Some(TIMEOUTS_MS[usize::from(setting.times_out)]);
    if setting.twemproxy {
        pool.compat = Compat::Twemproxy;
    }
    vary_tables(setting.tight_tables, worker);
    if setting.tight_holds {
        worker.reply_hold_bytes = 4 << 10;
        worker.client_reply_hold_bytes = 1 << 10;
    }
}

fn vary_tables(are_tight: bool, worker: &mut WorkerConfig) {
    (worker.requests_max, worker.split_keys_max) = if are_tight { (12, 16) } else { (128, 256) };
}

/// Everything at once.
pub(crate) struct World {
    proxy: Proxy,
    /// The configuration in force.
    pool: PoolConfig,
    limits: WorkerConfig,
    streams: ModelStreams,
    /// All that may be configured.
    servers: Vec<Server>,
    /// Which of them the proxy means by a number.
    named: Vec<usize>,
    /// As many as were configured at some time.
    counts: Vec<usize>,
    /// The configured ones were exchanged for others at some time.
    moved: bool,
    clients: Vec<Client>,
    /// So many of the first ones need no looking after.
    over: usize,
    now_us: u64,
    /// When the proxy wants to be told the time.
    due_us: Option<u64>,
    choices: Choices,
    setting: Setting,
    protocol: Protocol,
    /// No server said what is not the answer to a request.
    honest: bool,
    /// Nothing happened for which a connection may be closed.
    calm: bool,
}

impl World {
    fn new(protocol: Protocol, setting: Setting, choices: Choices) -> Self {
        let (mut pool, mut worker) = settings(protocol);
        vary(setting, &mut pool, &mut worker);
        let slots = (worker.clients_max + worker.server_connections_max) as usize;
        let streams = ModelStreams::new(
            slots,
            worker.client_buffer_bytes as usize,
            worker.server_buffer_bytes as usize,
        );
        let mut world = Self {
            proxy: Proxy::new(std::slice::from_ref(&pool), &worker, slots, 1, 0),
            named: (0..pool.servers.len()).collect(),
            counts: vec![pool.servers.len()],
            moved: false,
            pool,
            limits: worker,
            streams,
            servers: (0..SERVERS).map(|_| Server::new(protocol, slots)).collect(),
            clients: Vec::new(),
            over: 0,
            now_us: 0,
            due_us: Some(0),
            choices,
            setting,
            protocol,
            honest: true,
            calm: !setting.times_out && !setting.tight_holds,
        };
        for _ in 0..CLIENTS {
            world.connect();
        }
        world
    }

    fn connect(&mut self) {
        if let Some(id) = self.streams.open(Some(ListenerId(0)), None) {
            let serial = self.streams.serial;
            self.clients.push(Client::new(id, serial));
        }
    }

    /// The client that a script means by a number: the last ones that came.
    fn client(&self, number: usize) -> usize {
        let first = self.clients.len().saturating_sub(CLIENTS);
        first + number % (self.clients.len() - first)
    }

    /// The server that a script means by a number: one that is configured.
    fn server(&self, number: usize) -> usize {
        self.named[number % self.pool.servers.len()]
    }

    /// Another configuration is taken up, between two turns as in a worker.
    fn reconfigure(&mut self, next: Next) {
        let (all, _) = settings(self.protocol);
        let (mut pool, mut limits) = (self.pool.clone(), self.limits.clone());
        let places: Vec<usize> = (0..SERVERS).filter(|&n| next.has(n)).collect();
        pool.servers = places.iter().map(|&n| all.servers[n].clone()).collect();
        pool.server_connections = next.connections;
        pool.auto_eject_hosts ^= next.toggles_ejection;
        pool.timeout_ms = Some(TIMEOUTS_MS[usize::from(next.times_out)]);
        vary_tables(next.tight_tables, &mut limits);
        let [before, after] = [&self.pool, &pool].map(std::slice::from_ref);
        let change = Change::new(
            (before, &self.limits),
            (after, &limits),
            self.proxy.left(),
            2,
            Proxy::private_meters(after),
        );
        // Too much may be on its way out; an operator is told so.
        let Ok(mut change) = change else { return };
        self.calm &= !next.times_out;
        self.proxy
            .reconfigure(&mut self.streams, &mut change, self.now_us);
        let to = change.servers_to();
        self.streams.follow(to, change.listeners_to());
        self.moved |= self.named[..self.pool.servers.len()] != places;
        if !self.counts.contains(&places.len()) {
            self.counts.push(places.len());
        }
        let mut named = places;
        let mut leaving: Vec<_> = to.iter().copied().zip(self.named.iter().copied()).collect();
        leaving.retain(|&(to, _)| to != GONE && usize::from(to) >= named.len());
        leaving.sort_unstable();
        named.extend(leaving.into_iter().map(|(_, server)| server));
        self.named = named;
        (self.pool, self.limits) = (pool, limits);
        self.due_us = Some(self.now_us);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send { client, bytes } => {
                let client = self.client(client);
                let client = &mut self.clients[client];
                if !client.sends_no_more {
                    client.sends.extend(bytes);
                }
            }
            Act::Finish { client } => {
                let client = self.client(client);
                self.clients[client].sends_no_more = true;
            }
            Act::Deafen { client } => {
                let client = self.client(client);
                self.clients[client].deaf ^= true;
                self.calm = false;
            }
            Act::Vanish { client } => {
                let client = self.client(client);
                self.vanish(client);
                self.turn();
                self.connect();
            }
            Act::Say { server, bytes } => self.say(server, &bytes),
            Act::Answer { server, bytes } => {
                self.calm = false;
                self.honest = false;
                let server = self.server(server);
                self.servers[server].answers.push_back(bytes);
            }
            Act::Trouble { server, trouble } => {
                let server = self.server(server);
                self.calm = false;
                self.servers[server].trouble(trouble);
                if trouble.ends_connections() {
                    self.end_connections(server);
                }
            }
            Act::Reconfigure(next) => self.reconfigure(next),
            Act::Pass { turns } => self.pass(turns as u64 * TURN_US),
        }
    }

    /// A server says something that nobody asked for, on all its connections.
    fn say(&mut self, server: usize, bytes: &[u8]) {
        self.calm = false;
        self.honest = false;
        let server = self.server(server);
        for slot in 0..self.streams.slots.len() {
            if let Some(stream) = &mut self.streams.slots[slot]
                && stream
                    .server
                    .is_some_and(|id| self.named[usize::from(id.0)] == server)
                && stream.status == StreamStatus::Open
                && !stream.released
            {
                stream.received.push(bytes);
                self.streams.mark_ready(StreamId(slot as u32));
            }
        }
    }

    /// The connections of a server break.
    fn end_connections(&mut self, server: usize) {
        for slot in 0..self.streams.slots.len() {
            if let Some(stream) = &mut self.streams.slots[slot]
                && stream
                    .server
                    .is_some_and(|id| self.named[usize::from(id.0)] == server)
                && !stream.released
                && !stream.aborted
            {
                stream.status = if self.choices.below(2) == 0 {
                    StreamStatus::Closed(CloseReason::Reset)
                } else {
                    StreamStatus::HalfClosed
                };
                self.streams.mark_ready(StreamId(slot as u32));
            }
        }
    }

    /// A client's connection breaks.
    fn vanish(&mut self, client: usize) {
        let client = &mut self.clients[client];
        if client.finished || client.reset {
            return;
        }
        client.reset = true;
        client.vanished = true;
        if let Some(stream) = Self::own(&mut self.streams, client)
            && !stream.released
        {
            stream.status = StreamStatus::Closed(CloseReason::Reset);
            stream.received.clear();
            self.streams.mark_ready(client.id);
        }
    }

    fn recover(&mut self) {
        for server in &mut self.servers {
            server.recover();
        }
        for client in &mut self.clients {
            client.deaf = false;
        }
    }

    /// A client may wait for ever: a command that waits has no timeout, and a server that says anything may not answer it.
    fn may_wait(&self) -> bool {
        !self.honest && self.proxy.tables_in_use().pins > 0
    }

    /// With every reply delivered, nothing is left but what clients have for as long as they stay.
    fn assert_delivered(&self) {
        let tables = self.proxy.tables_in_use();
        let left = TablesInUse {
            identities: 0,
            pins: 0,
            // What stands in front of a transaction whose server is not known yet.
            reply_hold_bytes: tables.reply_hold_bytes * usize::from(tables.pins == 0),
            ..tables
        };
        assert!(
            self.may_wait() || left.is_idle(),
            "with every reply delivered: {tables:?}"
        );
        let open = self.proxy.clients_open();
        assert!(
            tables.identities <= open && tables.pins <= open,
            "{tables:?}"
        );
    }

    fn assert_idle(&self, when: &str) {
        let tables = self.proxy.tables_in_use();
        assert!(tables.is_idle(), "{when}: {tables:?}");
    }
}

/// Plays the script that `input` is, and judges what came of it.
///
/// # Panics
/// When a promise is broken.
pub fn check(protocol: Protocol, input: &[u8]) {
    let mut script = Script::new(input);
    let setting = script.setting();
    let mut world = World::new(protocol, setting, Choices::new(input));
    while let Some(act) = script.next() {
        world.act(act);
        world.turn();
    }
    world.recover();
    world.settle();
    if judge::judge(&world) {
        world.assert_delivered();
    }
    for client in 0..world.clients.len() {
        world.vanish(client);
    }
    world.settle();
    assert_eq!(world.proxy.clients_open(), 0, "every client has left");
    world.assert_idle("with every client gone");
}
