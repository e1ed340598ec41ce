//! What is played: everything that a seed decides, and that shrinking takes away from.

use crate::link::Weather;
use crate::random::Random;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What a pool and its clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// RESP2.
    Redis,
    /// RESP3, in the same pool as RESP2.
    Redis3,
    /// memcached's text, with meta commands.
    Text,
    /// memcached's binary protocol, in the same pool as text.
    Binary,
}

impl Dialect {
    /// Whether the pool is one of Redis.
    pub fn is_redis(self) -> bool {
        matches!(self, Self::Redis | Self::Redis3)
    }
}

/// Numbers that reloads change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The servers of each pool that are configured, a bit for each.
    pub servers: u8,
    /// Connections to each server.
    pub connections: u32,
    /// `timeout_ms`.
    pub timeout_ms: u32,
    /// `auto_eject_hosts`.
    pub ejects: bool,
    /// `requests_max`.
    pub requests_max: u32,
    /// `client_requests_max`.
    pub client_requests_max: u32,
    /// `clients_max` of each pool, if it has one.
    #[serde(default)]
    pub pool_clients_max: Option<u32>,
}

/// What befalls a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// Its process dies: connections are reset, and refused until it is back.
    Crashes,
    /// The machine is gone, and comes back without memory of its connections.
    Vanishes,
    /// It reads nothing.
    Stalls,
    /// It reads and answers later.
    AnswersLate,
    /// It sends some bytes at a time.
    Trickles,
    /// Each connection's next answer is no answer.
    SaysGarbage,
    /// Each connection ends in the middle of its next answer.
    CutsOff,
    /// Each connection is closed in order after its next answer, whatever was asked meanwhile.
    HalfCloses,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// A client asks, on a new connection if it has none.
    Ask {
        /// Which.
        client: usize,
        /// How often.
        requests: u32,
        /// What.
        seed: u64,
    },
    /// A client does not read.
    Deafen(usize),
    /// A client closes its direction when all is sent.
    Finish(usize),
    /// A client resets its connection.
    Reset(usize),
    /// A client's machine is gone without a word.
    Vanish(usize),
    /// The weather on the way to one host, or to all.
    Weather {
        /// Clients first, then servers.
        host: Option<usize>,
        /// The weather.
        weather: Weather,
    },
    /// A server is in trouble.
    Trouble {
        /// Which.
        server: usize,
        /// How.
        trouble: Trouble,
    },
    /// A worker dies, and is started again when this is over.
    Kill(usize),
    /// A worker gets no processor.
    Suspend(usize),
    /// A worker is drained, and started again when it has ended.
    Drain(usize),
    /// Another configuration.
    Reload(Setting),
}

/// An act, when it begins and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds after the start.
    pub at_us: u64,
    /// Microseconds; nothing for what is over at once.
    pub lasts_us: u64,
    /// What happens.
    pub act: Act,
}

/// A world and what befalls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// What everything random is made of that is not written down here.
    pub seed: u64,
    /// Workers, one to three.
    pub workers: usize,
    /// Workers do not know how the card spreads connections, and go by a hash of their own.
    pub software_rss: bool,
    /// Frames that the card puts on a wrong queue, of a thousand.
    pub misrouted: u16,
    /// Slots of the card's rings.
    pub ring_slots: usize,
    /// Slots of the rings between workers.
    pub hand_over_slots: usize,
    /// Acknowledgements may wait for replies.
    pub ack_with_reply: bool,
    /// Server connections are opened at start.
    pub preconnects: bool,
    /// `clients_max`.
    pub clients_max: u32,
    /// `server_connections_max`.
    pub server_connections_max: u32,
    /// `server_buffer_bytes`.
    pub server_buffer_bytes: u32,
    /// `client_reply_hold_bytes`.
    pub client_reply_hold_bytes: u32,
    /// `client_stall_ms`.
    pub client_stall_ms: u32,
    /// The numbers to begin with.
    pub setting: Setting,
    /// Servers of each pool that there are.
    pub servers: usize,
    /// The dialect of each client, which says its pool.
    pub clients: Vec<Dialect>,
    /// What happens, in order of time.
    pub events: Vec<Event>,
}

/// A `client_stall_ms` that outlasts all weather.
const PATIENT_MS: u32 = 30_000;
/// Foul weather that TCP outlasts, in microseconds: what is lost at its beginning is sent again after 1, 3 and 7 seconds.
const OUTLASTED_US: u64 = 5_000_000;

/// Servers of a pool at the most.
pub const SERVERS_MAX: usize = 3;

impl Scenario {
    /// The scenario of a seed, with about so many requests.
    pub fn of(seed: u64, requests: u32) -> Self {
        let mut random = Random::new(seed, 1);
        let workers = 1 + random.below(3) as usize;
        let servers = 1 + random.below(SERVERS_MAX as u64) as usize;
        let clients = (0..random.between(2, 10)).map(|_| {
            random.pick(&[
                Dialect::Redis,
                Dialect::Redis,
                Dialect::Redis3,
                Dialect::Text,
                Dialect::Text,
                Dialect::Binary,
            ])
        });
        let clients: Vec<_> = clients.collect();
        let mut scenario = Self {
            seed,
            workers,
            software_rss: random.one_in(3),
            misrouted: random.pick(&[0, 0, 5, 100]),
            ring_slots: random.pick(&[64, 256, 1_024]),
            hand_over_slots: random.pick(&[8, 64]),
            ack_with_reply: random.one_in(3),
            preconnects: random.one_in(3),
            clients_max: random.pick(&[4, 16, 32]),
            // Enough for every dialect to have its own to every server.
            server_connections_max: random.pick(&[30, 48]),
            server_buffer_bytes: random.pick(&[8_192, 32_768]),
            client_reply_hold_bytes: random.pick(&[8_192, 262_144]),
            client_stall_ms: random.pick(&[4_000, PATIENT_MS]),
            setting: setting(&mut random, servers),
            servers,
            clients,
            events: Vec::new(),
        };
        scenario.make_events(&mut random, requests);
        scenario.limit_pools();
        scenario
    }

    /// In some worlds pools have few places for clients, at first or by a reload.
    fn limit_pools(&mut self) {
        let mut random = Random::new(self.seed, 8);
        if !random.one_in(8) {
            return;
        }
        let reloads = self
            .events
            .iter_mut()
            .filter_map(|event| match &mut event.act {
                Act::Reload(setting) => Some(setting),
                _ => None,
            });
        for setting in reloads.chain([&mut self.setting]) {
            setting.pool_clients_max = random.pick(&[None, Some(1), Some(1), Some(2)]);
        }
    }

    /// Whether a pool may have no place for a client at some time.
    pub fn limits_pools(&self) -> bool {
        let reloads = self.events.iter().filter_map(|event| match &event.act {
            Act::Reload(setting) => Some(setting),
            _ => None,
        });
        let mut settings = reloads.chain([&self.setting]);
        settings.any(|setting| setting.pool_clients_max.is_some())
    }

    fn make_events(&mut self, random: &mut Random, requests: u32) {
        let length_us = random.between(300_000, 6_000_000);
        // Every eighth seed is calm: there nothing may fail.
        let troubles = if random.one_in(8) {
            0
        } else {
            random.between(1, 14)
        };
        let bursts = random.between(10, 60);
        for _ in 0..bursts {
            let most = u64::from(requests) * 2 / bursts;
            let event = Event {
                at_us: random.below(length_us),
                lasts_us: 0,
                act: Act::Ask {
                    client: random.below(self.clients.len() as u64) as usize,
                    requests: 1 + random.below(most.max(1)) as u32,
                    seed: random.bits(),
                },
            };
            self.events.push(event);
        }
        // Every eighth has nothing but weather, and another eighth none: there nobody probes a silent peer.
        let kinds = match random.below(8) {
            0 => 4..10,
            1 => 10..20,
            _ => 0..20,
        };
        for _ in 0..troubles {
            let event = self.trouble(random, kinds.clone(), length_us);
            self.events.push(event);
        }
        let reloads = random.below(4).saturating_sub(1);
        for _ in 0..reloads {
            self.events.push(Event {
                at_us: random.below(length_us),
                lasts_us: 0,
                act: Act::Reload(setting(random, self.servers)),
            });
        }
        self.events.sort_by_key(|event| event.at_us);
    }

    fn trouble(&self, random: &mut Random, kinds: Range<u64>, length_us: u64) -> Event {
        let client = random.below(self.clients.len() as u64) as usize;
        let server = random.below(self.pools() as u64 * self.servers as u64) as usize;
        let worker = random.below(self.workers as u64) as usize;
        let act = match kinds.start + random.below(kinds.end - kinds.start) {
            0 => Act::Deafen(client),
            1 => Act::Finish(client),
            2 => Act::Reset(client),
            3 => Act::Vanish(client),
            4..=9 => Act::Weather {
                host: (!random.one_in(3)).then(|| {
                    let hosts = self.clients.len() + self.pools() * self.servers;
                    random.below(hosts as u64) as usize
                }),
                weather: weather(random),
            },
            10..=15 => Act::Trouble {
                server,
                trouble: random.pick(&[
                    Trouble::Crashes,
                    Trouble::Vanishes,
                    Trouble::Stalls,
                    Trouble::AnswersLate,
                    Trouble::AnswersLate,
                    Trouble::Trickles,
                    Trouble::SaysGarbage,
                    Trouble::CutsOff,
                    Trouble::HalfCloses,
                ]),
            },
            16 => Act::Kill(worker),
            17 | 18 => Act::Suspend(worker),
            _ => Act::Drain(worker),
        };
        let lasts_us = match act {
            Act::Suspend(_) => random.between(100, 200_000),
            Act::Weather { .. } => random.between(10_000, 3_000_000),
            _ => random.between(1_000, 1_500_000),
        };
        Event {
            at_us: random.below(length_us),
            lasts_us,
            act,
        }
    }

    /// The scenario in words, a line for each event.
    pub fn describe(&self) -> String {
        let without = Self {
            events: Vec::new(),
            ..self.clone()
        };
        let mut lines = vec![format!("{without:?}")];
        lines.extend(self.events.iter().map(|event| format!("{event:?}")));
        lines.join("\n")
    }

    /// Pools: one of Redis, one of memcached.
    pub fn pools(&self) -> usize {
        2
    }

    /// Whether everybody is told when his connection is gone, and need not ask: the links lose no frame, and nobody waits until another
    /// client that is silent gives up its slot.
    pub fn tells_everybody(&self) -> bool {
        let is_weather = |event: &Event| matches!(event.act, Act::Weather { .. });
        !self.events.iter().any(is_weather) && self.clients_max as usize >= self.clients.len() * 2
    }

    /// Whether nothing happens that a request may fail for.
    pub fn is_calm(&self) -> bool {
        let is_patient =
            |setting: &Setting| setting.timeout_ms >= 2_500 && setting.connections == 1;
        let is_calm = |event: &Event| match &event.act {
            Act::Ask { .. } => true,
            Act::Reload(setting) => is_patient(setting),
            _ => false,
        };
        self.events.iter().all(is_calm) && is_patient(&self.setting) && self.limits_are_wide()
    }

    /// Whether nothing happens but weather that no connection is given up for.
    pub fn is_outlasted(&self) -> bool {
        let is_weather = |event: &Event| {
            matches!(
                event.act,
                Act::Ask { .. } | Act::Reload(_) | Act::Weather { .. }
            )
        };
        let foul_us: u64 = self.events.iter().map(|event| event.lasts_us).sum();
        self.events.iter().all(is_weather)
            && foul_us < OUTLASTED_US
            && self.client_stall_ms == PATIENT_MS
    }

    /// No limit is met by as many clients as there are, but those that only make them wait.
    fn limits_are_wide(&self) -> bool {
        self.clients_max as usize >= self.clients.len() * 2
            && !self.limits_pools()
            && self.server_connections_max >= 24
            && self.client_reply_hold_bytes >= 262_144
            && self.ring_slots >= 256
            && (self.hand_over_slots >= 64 || self.workers == 1)
    }
}

fn setting(random: &mut Random, servers: usize) -> Setting {
    let all = (1u8 << servers) - 1;
    let some = random.bits() as u8 & all;
    let (requests_max, client_requests_max) =
        random.pick(&[(64, 4), (64, 64), (256, 64), (2_048, 512)]);
    Setting {
        servers: if random.one_in(2) || some == 0 {
            all
        } else {
            some
        },
        connections: 1 + random.below(2) as u32,
        timeout_ms: random.pick(&[20, 100, 400, 2_500]),
        ejects: random.one_in(3),
        requests_max,
        client_requests_max,
        pool_clients_max: None,
    }
}

fn weather(random: &mut Random) -> Weather {
    let mut rate = |of: &[u16]| if random.one_in(2) { random.pick(of) } else { 0 };
    let mut weather = Weather {
        lost: rate(&[5, 30, 150]),
        doubled: rate(&[10, 100]),
        late: rate(&[20, 200]),
        damaged: rate(&[5, 50]),
        ..Weather::default()
    };
    weather.delay_us = random.pick(&[0, 0, 500, 5_000, 40_000]);
    match random.below(5) {
        0 => weather.parted = true,
        1 => weather.clogged = true,
        _ => {}
    }
    weather
}
