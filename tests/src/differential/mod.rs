//! The proxy against the real thing: the same requests, cut at random places and pipelined, have to bring the same bytes from a
//! server and from a pool of one server.
//!
//! Two servers of each kind take part: one is asked directly, the other through the proxy. Neither hears anything else, so
//! their states stay equal as long as the proxy changes nothing, down to memcached's cas numbers. Everything follows from a seed.
//!
//! What a build does not support yet is found by asking it ([`Dialogue::learn`]) and left out, so that a generator can be here before
//! what it tests is.

pub mod binary;
pub mod memcached;
mod play;
pub mod redis;
mod stand;

pub use play::{Difference, Outcome, Peer, exchange};
pub use stand::Stand;

use crate::random::Random;
use std::fmt;

/// A language that clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Redis, RESP2.
    Resp2,
    /// Redis, RESP3.
    Resp3,
    /// memcached text.
    Text,
    /// memcached text and meta, mixed as clients may.
    Meta,
    /// memcached binary.
    Binary,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Resp2,
        Self::Resp3,
        Self::Text,
        Self::Meta,
        Self::Binary,
    ];

    /// Whether a Redis server speaks it.
    pub fn is_redis(self) -> bool {
        matches!(self, Self::Resp2 | Self::Resp3)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Resp2 => "resp2",
            Self::Resp3 => "resp3",
            Self::Text => "text",
            Self::Meta => "meta",
            Self::Binary => "binary",
        })
    }
}

/// Examples that are tried of each template: some of them want no reply, and so get no refusal.
const EXAMPLES: u64 = 5;

/// One thing that a client does: one request, or several that belong together, as those of a transaction.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Requests among them.
    pub requests: usize,
    /// What it was made from, to name it by.
    pub from: &'static str,
}

/// How each dialect is spoken.
struct Ways {
    /// What opens a connection. The reply is not compared: it may name its server.
    opening: fn() -> Vec<u8>,
    /// Random requests.
    turn: fn(&mut Random, &[bool]) -> Turn,
    /// A request that ends a batch, and the end of its reply, which stands nowhere else.
    ending: fn(u64) -> (Vec<u8>, Vec<u8>),
    /// The names of what [`Ways::turn`] chooses from.
    templates: fn() -> Vec<&'static str>,
    /// An example of one of them.
    example: fn(usize, u64) -> Turn,
}

impl Dialect {
    fn ways(self) -> Ways {
        match self {
            Self::Resp2 => Ways {
                opening: Vec::new,
                turn: redis::turn,
                ending: redis::ending,
                templates: redis::templates,
                example: redis::example,
            },
            Self::Resp3 => Ways {
                opening: redis::hello,
                ..Self::Resp2.ways()
            },
            Self::Text => Ways {
                opening: Vec::new,
                turn: memcached::text_turn,
                ending: memcached::ending,
                templates: memcached::text_templates,
                example: memcached::text_example,
            },
            Self::Meta => Ways {
                turn: memcached::meta_turn,
                templates: memcached::meta_templates,
                example: memcached::meta_example,
                ..Self::Text.ways()
            },
            Self::Binary => Ways {
                opening: Vec::new,
                turn: binary::turn,
                ending: binary::ending,
                templates: binary::templates,
                example: binary::example,
            },
        }
    }
}

/// What a server says directly and what it says through the proxy, in one dialect.
pub struct Dialogue {
    dialect: Dialect,
    direct: Peer,
    /// The server behind the proxy, to empty it.
    behind: Peer,
    proxy: Peer,
    /// Which templates the proxy takes.
    known: Vec<bool>,
}

impl Dialogue {
    /// Asks the proxy what it takes: an example of each template has to bring an answer that is not a refusal of the proxy's own.
    pub fn learn(dialect: Dialect, direct: Peer, behind: Peer, proxy: Peer) -> Self {
        let ways = dialect.ways();
        let count = (ways.templates)().len();
        let mut dialogue = Self {
            dialect,
            direct,
            behind,
            proxy,
            known: vec![true; count],
        };
        let compared = |index| !dialect.is_redis() || redis::is_comparable(index);
        dialogue.known = (0..count)
            .map(|index| compared(index) && dialogue.takes(&ways, index))
            .collect();
        dialogue.empty();
        dialogue
    }

    fn takes(&self, ways: &Ways, index: usize) -> bool {
        (0..EXAMPLES).all(|number| {
            let example = (ways.example)(index, number).bytes;
            let opening = (ways.opening)();
            exchange(&self.proxy, &opening, &example, &(ways.ending)(1), None)
                .is_ok_and(|outcome| !is_refusal(&outcome))
        })
    }

    /// The templates that are not compared, by name: the proxy does not take them, or has its own words for them.
    pub fn left_out(&self) -> Vec<&'static str> {
        let templates = (self.dialect.ways().templates)();
        let unknown = templates.iter().zip(&self.known);
        unknown
            .filter(|(_, known)| !**known)
            .map(|(name, _)| *name)
            .collect()
    }

    /// Whether the proxy takes anything at all in this dialect.
    pub fn has_any(&self) -> bool {
        self.known.contains(&true)
    }

    /// Brings both servers to the same state: without keys.
    fn empty(&self) {
        let (emptying, ending) = if self.dialect.is_redis() {
            (redis::emptying(), redis::ending(0))
        } else {
            (memcached::emptying(), memcached::ending(0))
        };
        let servers = [&self.direct, &self.behind];
        for server in servers {
            exchange(server, b"", &emptying, &ending, None).expect("a server can be emptied");
        }
        if !self.dialect.is_redis() {
            memcached::level(servers).expect("a server counts its stores");
        }
    }

    /// Plays one batch. `Ok` is the number of requests in it.
    pub fn batch(&self, seed: u64, turns: usize) -> Result<usize, Box<Difference>> {
        let ways = self.dialect.ways();
        let mut random = Random::new(seed);
        let turns: Vec<Turn> = (0..turns)
            .map(|_| (ways.turn)(&mut random, &self.known))
            .collect();
        self.empty();
        let whole: Vec<u8> = turns.iter().flat_map(|turn| turn.bytes.clone()).collect();
        let direct = self.say(&self.direct, &ways, &whole, seed, seed);
        let proxied = self.say(&self.proxy, &ways, &whole, seed, !seed);
        if direct == proxied {
            return Ok(turns.iter().map(|turn| turn.requests).sum());
        }
        let alone = self.first_alone(&ways, &turns);
        Err(Box::new(Difference::new(
            self.dialect,
            seed,
            &direct,
            &proxied,
            alone,
        )))
    }

    /// Says it all, cut at places that follow from `cuts`.
    fn say(&self, to: &Peer, ways: &Ways, requests: &[u8], seed: u64, cuts: u64) -> Outcome {
        let opening = (ways.opening)();
        exchange(to, &opening, requests, &(ways.ending)(seed), Some(cuts))
            .unwrap_or_else(|error| {
                panic!("{} seed {seed} at {}: {error}", self.dialect, to.address)
            })
            .without_opening()
    }

    /// The first turn that differs when each is answered before the next is asked, with both answers.
    fn first_alone(&self, ways: &Ways, turns: &[Turn]) -> Option<(Turn, Outcome, Outcome)> {
        self.empty();
        let mut direct = play::Speaker::open(&self.direct, &(ways.opening)(), ways.ending).ok()?;
        let mut proxied = play::Speaker::open(&self.proxy, &(ways.opening)(), ways.ending).ok()?;
        for turn in turns {
            let (ours, theirs) = (
                proxied.ask(&turn.bytes).ok()?,
                direct.ask(&turn.bytes).ok()?,
            );
            if ours != theirs {
                return Some((turn.clone(), theirs, ours));
            }
        }
        None
    }
}

/// Whether the proxy says that it does not take this.
fn is_refusal(outcome: &Outcome) -> bool {
    let refusals: [&[u8]; 3] = [
        b"not supported by the proxy",
        b"(the proxy serves",
        b"CROSSSLOT",
    ];
    let refused = |text: &&[u8]| contains(&outcome.replies, text);
    outcome.opening.first() == Some(&b'-') || refusals.iter().any(refused)
}

/// Whether `part` stands somewhere in `whole`.
pub(crate) fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// One of the templates that are known, every one as likely as its weight says.
fn choose<T>(
    random: &mut Random,
    templates: &[T],
    known: &[bool],
    weight: impl Fn(&T) -> usize,
) -> usize {
    let weight = |index: usize| {
        if known[index] {
            weight(&templates[index])
        } else {
            0
        }
    };
    let sum: usize = (0..templates.len()).map(weight).sum();
    let mut left = random.below(sum.max(1));
    for index in 0..templates.len() {
        if left < weight(index) {
            return index;
        }
        left -= weight(index);
    }
    0
}

/// A value: mostly short, sometimes empty, sometimes larger than a segment or a buffer. It never starts like a number: what memcached
/// leaves of the rest when it counts depends on whether replies that show it have left.
fn value(random: &mut Random) -> Vec<u8> {
    let bytes = match random.below(40) {
        0 => 0,
        1 => 20_000 + random.below(60_000),
        2..5 => 1_000 + random.below(2_000),
        _ => random.below(64),
    };
    let mut value = random.bytes(bytes);
    if let Some(first) = value.first_mut() {
        *first |= 0x80;
    }
    value
}
