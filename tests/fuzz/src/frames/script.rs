//! Scripts of frames: what the bytes of an input mean.

/// Clients that a script speaks for.
pub(crate) const CLIENTS: usize = 12;
/// Most bytes that one step sends.
pub(super) const BYTES_MAX: usize = 1_400;

/// Where a segment stands that does not stand where it should.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odd {
    pub(crate) flags: u8,
    pub(crate) sequence: i16,
    pub(crate) acknowledgement: i16,
    pub(crate) window: u16,
}

/// What is done to the next frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bend {
    /// Other bits at a place.
    Flip {
        at: usize,
        bits: u8,
        /// Checksums are made right again.
        made_right: bool,
    },
    /// Cut, or filled up, to so many bytes.
    Cut { bytes: usize },
    /// It arrives so many times.
    Repeat { times: usize },
    /// Another worker hands it over, as if it had come by this port.
    HandOver { port: u8 },
}

/// What is asked of the link layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Request, answer, solicitation, advertisement, echo: by number.
    pub(crate) kind: u8,
    /// Who speaks of whom.
    pub(crate) sender: u8,
    pub(crate) target: u8,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Open {
        who: usize,
    },
    Say {
        who: usize,
        bytes: Vec<u8>,
    },
    Acknowledge {
        who: usize,
    },
    Odd {
        who: usize,
        odd: Odd,
        bytes: Vec<u8>,
    },
    Finish {
        who: usize,
    },
    /// As much as the window takes, of a value that never ends; its last segment may be the last of all.
    Fill {
        who: usize,
        finishes: bool,
    },
    Reset {
        who: usize,
    },
    Raw {
        bytes: Vec<u8>,
    },
    Bend(Bend),
    Link(Link),
    /// Everybody takes what came, and says so.
    AcknowledgeAll,
    /// The link takes nothing; or it does again.
    Stick,
    /// A server is reached, or not.
    Path {
        server: usize,
        reached: bool,
    },
    Pass {
        ms: u64,
    },
}

/// One step: what happens, and whether the worker has its turn after it.
pub(crate) struct Step {
    pub(crate) act: Act,
    pub(crate) turns: bool,
}

/// Requests and replies that one byte means: a script that has to spell them out seldom gets far.
const PHRASES: [&[u8]; 12] = [
    b"get a\r\n",
    b"get a b c\r\n",
    b"set a 0 0 3\r\nabc\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nabc\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"END\r\n",
    b"VALUE a 0 3\r\nabc\r\nEND\r\n",
    b"STORED\r\n",
    b"$3\r\nabc\r\n",
    b"+OK\r\n",
    b"set big 0 0 4000\r\n",
];

/// An input that is read from its front.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A phrase several times over, or bytes as they stand.
    fn bytes(&mut self) -> Vec<u8> {
        let byte = usize::from(self.byte());
        if byte >= 128 {
            let phrase = PHRASES[byte % PHRASES.len()];
            let times = [1, 1, 2, 7, 30][(byte - 128) / PHRASES.len() % 5];
            let mut bytes = phrase.repeat(times);
            bytes.truncate(BYTES_MAX);
            return bytes;
        }
        let (bytes, rest) = self.0.split_at(byte.min(self.0.len()));
        self.0 = rest;
        bytes.to_vec()
    }

    /// How everything begins: the first byte.
    pub(crate) fn setting(&mut self) -> u8 {
        self.byte()
    }

    pub(crate) fn next(&mut self) -> Option<Step> {
        if self.0.is_empty() {
            return None;
        }
        let (what, who) = (self.byte(), self.byte());
        let turns = what & 0x80 == 0;
        let who = usize::from(who);
        let act = match what & 0x1f {
            0 | 1 => Act::Open { who },
            2..=5 => Act::Say {
                who,
                bytes: self.bytes(),
            },
            6..=8 => Act::Acknowledge { who },
            9 | 10 => Act::Odd {
                who,
                odd: Odd {
                    flags: self.byte(),
                    sequence: self.word() as i16,
                    acknowledgement: self.word() as i16,
                    window: self.word(),
                },
                bytes: self.bytes(),
            },
            11 => Act::Finish { who },
            12 => Act::Reset { who },
            13 => Act::Raw {
                bytes: self.bytes(),
            },
            14..=16 => Act::Bend(Bend::Flip {
                at: who,
                bits: self.byte(),
                made_right: what & 0x40 != 0,
            }),
            17 => Act::Bend(Bend::Cut {
                bytes: who * if what & 0x40 == 0 { 1 } else { 6 },
            }),
            18 => Act::Bend(Bend::Repeat {
                times: 1 + who % 80,
            }),
            19 => Act::Bend(Bend::HandOver { port: who as u8 }),
            20..=22 => Act::Link(Link {
                kind: who as u8,
                sender: self.byte(),
                target: self.byte(),
            }),
            23..=26 => Act::AcknowledgeAll,
            27 => Act::Stick,
            28 => Act::Path {
                server: who,
                reached: what & 0x40 != 0,
            },
            31 => Act::Fill {
                who,
                finishes: what & 0x40 != 0,
            },
            _ => Act::Pass {
                ms: [1, 5, 50, 200, 1_000, 3_000, 11_000, 40_000][who % 8],
            },
        };
        Some(Step { act, turns })
    }
}
