//! The other end: clients that ask in a closed loop, and servers that answer, over the same kind of stack.

use crate::plan::{CLIENTS_PER_ADDRESS, CacheProtocol, LOAD, Plan, WORKER};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tidegate_config::AckMode;
use tidegate_port::{Port, RxQueue, TxQueue};
use tidegate_proxy::streams::{ServerId, StreamId, StreamStatus, Streams};
use tidegate_stack::{HandOver, Listener, Path, QueueOracle, Stack, StackConfig, StackPort};

/// Connections that are opened at the same time, below any backlog.
const OPENING_MAX: u32 = 256;

/// Keys in use: enough to reach every server, few enough to stay out of the caches' way.
const KEYS: u64 = 1024;

struct Alone;

impl HandOver for Alone {
    fn hand_over(&mut self, _: u32, _: u8, _: &[u8]) -> bool {
        false
    }
}

/// What a stream of the load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Free,
    /// A client and how many replies it waits for, in bytes.
    Client {
        owed_bytes: usize,
        connected: bool,
    },
    /// A connection of the worker to a server.
    Server,
}

/// How a run went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests answered, all correctly.
    pub requests: u64,
    /// Time for them.
    pub seconds: f64,
}

/// Clients and servers.
pub struct Load<P> {
    plan: Plan,
    ports: [P; 1],
    stack: Stack,
    roles: Vec<Role>,
    /// Open clients, in order of opening: the first `plan.active` of them ask.
    clients: Vec<StreamId>,
    opening: u32,
    asking: bool,
    /// Replies received.
    pub answered: u64,
    next_key: u64,
    next_address: u16,
    reply: Vec<u8>,
    scratch: Vec<u8>,
    /// Server connections whose replies found no room. They are looked at again in the next turn: in the same one, nothing
    /// would have changed.
    blocked: Vec<StreamId>,
}

impl<P: Port> Load<P> {
    /// Clients and servers of the plan behind `port`.
    pub fn new(plan: Plan, port: P, now_us: u64) -> Result<Self> {
        let addresses = plan.client_addresses();
        let spare = if plan.short { 60_000 } else { 0 };
        let config = StackConfig {
            client_slots: 64 + plan.servers as usize,
            client_buffer_bytes: 256 * 1024,
            server_slots: plan.connections as usize + 64 + spare,
            server_buffer_bytes: 4096
                .max(plan.value_bytes as usize * plan.pipeline as usize * 2)
                .next_power_of_two(),
            half_open_max: 1024,
            listeners: (0..plan.servers)
                .map(|i| Listener {
                    address: plan.server(i),
                    keepalive_us: None,
                })
                .collect(),
            ports: vec![StackPort {
                mac: LOAD.mac,
                mtu_bytes: LOAD.mtu_bytes,
                ack: AckMode::Immediate,
                oracle: QueueOracle::Single,
            }],
            servers: addresses as usize,
            worker: 0,
            workers: 1,
            source_ports: (
                10_000,
                10_000
                    + if plan.short {
                        50_000
                    } else {
                        CLIENTS_PER_ADDRESS as u16 + 500
                    },
            ),
            seed: 3,
        };
        let mut stack = Stack::new(config, now_us)?;
        for index in 0..addresses {
            let source = plan.client_address(index);
            let path = Path {
                port: 0,
                source,
                destination: plan.listen(),
                next_hop_mac: WORKER.mac,
            };
            stack.set_path(ServerId(index), Some(path));
        }
        let value = vec![b'v'; plan.value_bytes as usize];
        let reply = match plan.protocol {
            CacheProtocol::Redis => {
                [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat()
            }
            CacheProtocol::Memcached => {
                let head = format!("VALUE key:000000000000 0 {}\r\n", value.len());
                [head.as_bytes(), &value, b"\r\nEND\r\n"].concat()
            }
        };
        Ok(Self {
            plan,
            ports: [port],
            roles: vec![Role::Free; stack.slots()],
            stack,
            clients: Vec::with_capacity(plan.connections as usize),
            opening: 0,
            asking: false,
            answered: 0,
            next_key: 0,
            next_address: 0,
            reply,
            scratch: vec![0; 64 * 1024],
            blocked: Vec::new(),
        })
    }

    /// One turn. True when there was anything to do.
    pub fn turn(&mut self, now_us: u64) -> Result<bool> {
        self.stack.tick(now_us);
        let [port] = &mut self.ports;
        let (rx, tx) = port.halves();
        let frames = rx.burst(64);
        for frame in 0..frames {
            self.stack.ingress(rx.frame(frame), 0, tx, &mut Alone);
        }
        rx.release();
        self.open_more()?;
        for id in std::mem::take(&mut self.blocked) {
            self.stack.mark_ready(id);
        }
        while let Some(id) = self.stack.next_ready() {
            match self.roles[id.0 as usize] {
                Role::Client { .. } => self.client_ready(id)?,
                Role::Server => self.serve(id),
                Role::Free if self.stack.listener(id).is_some() => {
                    self.roles[id.0 as usize] = Role::Server;
                    self.serve(id);
                }
                Role::Free => {}
            }
        }
        self.stack.egress(&mut self.ports);
        self.ports[0].halves().1.flush();
        Ok(frames > 0)
    }

    /// Whether every connection is open.
    pub fn is_open(&self) -> bool {
        self.plan.short || self.clients.len() == self.plan.connections as usize
    }

    /// Lets the active clients ask.
    pub fn start(&mut self) {
        self.asking = true;
        for index in 0..self.clients.len().min(self.plan.active as usize) {
            self.ask(self.clients[index]);
        }
    }

    /// Lets the `index`th client ask.
    pub fn ask_on(&mut self, index: usize) {
        self.ask(self.clients[index]);
    }

    fn open_more(&mut self) -> Result<()> {
        let most = if self.plan.short {
            self.plan.active.min(self.plan.connections)
        } else {
            self.plan.connections
        };
        while self.opening < OPENING_MAX && (self.clients.len() as u32 + self.opening) < most {
            if self.plan.short && !self.asking {
                return Ok(());
            }
            let address = self.next_address;
            self.next_address = (address + 1) % self.plan.client_addresses();
            let id = self.stack.connect(ServerId(address))?;
            self.roles[id.0 as usize] = Role::Client {
                owed_bytes: 0,
                connected: false,
            };
            self.opening += 1;
        }
        Ok(())
    }

    fn client_ready(&mut self, id: StreamId) -> Result<()> {
        let Role::Client {
            owed_bytes,
            connected,
        } = self.roles[id.0 as usize]
        else {
            return Ok(());
        };
        match self.stack.status(id) {
            StreamStatus::Connecting => return Ok(()),
            StreamStatus::Open => {}
            other => bail!("a client connection ended: {other:?}"),
        }
        if !connected {
            self.opening -= 1;
            self.clients.push(id);
            self.roles[id.0 as usize] = Role::Client {
                owed_bytes,
                connected: true,
            };
            if self.asking && self.plan.short {
                self.ask(id);
            }
            return Ok(());
        }
        let received = self.stack.received(id);
        let bytes = self.stack.peek(id);
        // The first byte of every reply is looked at: a wrong one would not go unnoticed.
        if bytes
            .first()
            .is_some_and(|first| self.reply[0] != *first && owed_bytes % self.reply.len() == 0)
        {
            bail!("a wrong reply: {:?}", String::from_utf8_lossy(bytes));
        }
        self.stack.consume(id, received);
        if received > owed_bytes {
            bail!("{received} bytes came, {owed_bytes} were owed");
        }
        let before = owed_bytes.div_ceil(self.reply.len());
        let owed_bytes = owed_bytes - received;
        let after = owed_bytes.div_ceil(self.reply.len());
        self.answered += (before - after) as u64;
        self.roles[id.0 as usize] = Role::Client {
            owed_bytes,
            connected,
        };
        if owed_bytes == 0 && received > 0 && self.asking {
            if self.plan.short {
                self.clients.retain(|&client| client != id);
                self.roles[id.0 as usize] = Role::Free;
                self.stack.finish(id);
                self.stack.release(id);
            } else {
                self.ask(id);
            }
        }
        Ok(())
    }

    /// Sends as many requests as the pipeline is deep.
    fn ask(&mut self, id: StreamId) {
        let mut request = [0u8; 64];
        for _ in 0..self.plan.pipeline {
            self.next_key =
                (self.next_key.wrapping_mul(25_214_903_917).wrapping_add(11)) % (1 << 48);
            let mut key = *b"key:000000000000";
            let mut digits = (self.next_key >> 20) % KEYS;
            for place in key[4..].iter_mut().rev() {
                *place = b'0' + (digits % 10) as u8;
                digits /= 10;
            }
            let parts: [&[u8]; 3] = match self.plan.protocol {
                CacheProtocol::Redis => [b"*2\r\n$3\r\nGET\r\n$16\r\n", &key, b"\r\n"],
                CacheProtocol::Memcached => [b"get ", &key, b"\r\n"],
            };
            let mut at = 0;
            for part in parts {
                request[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            self.stack.send(id, &request[..at]);
        }
        let owed_bytes = self.reply.len() * self.plan.pipeline as usize;
        self.roles[id.0 as usize] = Role::Client {
            owed_bytes,
            connected: true,
        };
    }

    /// Answers every whole request. All requests of a plan have the same length.
    fn serve(&mut self, id: StreamId) {
        let request = match self.plan.protocol {
            CacheProtocol::Redis => 36,
            CacheProtocol::Memcached => 22,
        };
        let whole = self.stack.received(id) / request;
        let room = self.stack.send_room(id) / self.reply.len();
        for _ in 0..whole.min(room) {
            let n = self.stack.copy(id, &mut self.scratch[..request]);
            debug_assert_eq!(n, request);
            self.stack.consume(id, request);
            if self.plan.protocol == CacheProtocol::Memcached {
                self.reply[6..22].copy_from_slice(&self.scratch[4..20]);
            }
            self.stack.send(id, &self.reply);
        }
        if whole > room {
            self.blocked.push(id);
        }
    }
}
