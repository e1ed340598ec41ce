//! Scripts: what the bytes of an input mean.

use super::CLIENTS;

/// How the pool is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) servers: usize,
    pub(crate) connections: u32,
    pub(crate) ejects: bool,
    pub(crate) preconnects: bool,
    pub(crate) times_out: bool,
    pub(crate) twemproxy: bool,
    pub(crate) tight_tables: bool,
    pub(crate) tight_holds: bool,
}

/// What befalls a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It neither reads nor writes; or it does again.
    Stops,
    /// It sends byte by byte; or it does no longer.
    Trickles,
    /// It refuses connections; or it does no longer.
    Refuses,
    /// Its connections break.
    Breaks,
}

impl Trouble {
    pub(crate) fn ends_connections(self) -> bool {
        self == Self::Breaks
    }
}

/// Another configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    servers: u8,
    pub(crate) connections: u32,
    pub(crate) toggles_ejection: bool,
    pub(crate) times_out: bool,
    pub(crate) tight_tables: bool,
}

impl Next {
    fn new(byte: u8) -> Self {
        Self {
            // None at all is no configuration.
            servers: if byte.is_multiple_of(8) { 7 } else { byte % 8 },
            connections: 1 + u32::from(byte >> 3 & 1),
            toggles_ejection: byte & 16 != 0,
            tight_tables: byte & 32 != 0,
            times_out: byte >> 6 == 3,
        }
    }

    /// Whether it has this server.
    pub(crate) fn has(self, server: usize) -> bool {
        self.servers >> server & 1 == 1
    }
}

/// One thing that happens.
pub(crate) enum Act {
    Send {
        client: usize,
        bytes: Vec<u8>,
    },
    Finish {
        client: usize,
    },
    Deafen {
        client: usize,
    },
    Vanish {
        client: usize,
    },
    /// A server says something unasked.
    Say {
        server: usize,
        bytes: Vec<u8>,
    },
    /// A server's next answer is this.
    Answer {
        server: usize,
        bytes: Vec<u8>,
    },
    Trouble {
        server: usize,
        trouble: Trouble,
    },
    Reconfigure(Next),
    Pass {
        turns: usize,
    },
}

/// A request of so many bytes fits no buffer and no hold.
const BODY_BYTES_MAX: usize = 12_288;
/// So many requests fit neither a client's buffer nor any table.
const REQUESTS_MAX: usize = 200;

/// How many times a unit may be sent without taking long for nothing.
fn times_max(unit: &[u8]) -> usize {
    let most = BODY_BYTES_MAX / unit.len().max(1);
    let lines = unit.split(|&byte| byte == b'\n').count() - 1;
    let requests = match unit.first() {
        // Keys of one.
        Some(b'$') => 0,
        // A binary frame.
        Some(0x80) => 1,
        _ => lines,
    };
    most.min(REQUESTS_MAX.checked_div(requests).unwrap_or(most))
        .max(1)
}

/// An input that is read from its front.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let count = self.byte().map_or(0, usize::from).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes.to_vec()
    }

    /// The first two bytes.
    pub(crate) fn setting(&mut self) -> Setting {
        let (first, second) = (self.byte().unwrap_or(0), self.byte().unwrap_or(0));
        Setting {
            servers: 1 + usize::from(first % 3),
            connections: 1 + u32::from(first >> 2 & 1),
            ejects: first & 8 != 0,
            preconnects: first & 16 != 0,
            times_out: first & 32 != 0,
            tight_tables: first & 64 != 0,
            tight_holds: first & 128 != 0,
            twemproxy: second % 4 == 3,
        }
    }

    /// What happens next.
    pub(crate) fn next(&mut self) -> Option<Act> {
        let byte = self.byte()?;
        let who = usize::from(byte >> 4);
        Some(match byte & 15 {
            0..=7 => Act::Send {
                client: who % CLIENTS,
                bytes: self.bytes(),
            },
            8 => {
                // The body of something large, or many of something small.
                let times = 1 + usize::from(self.byte()?) * 8;
                let unit = self.bytes();
                let times = times.min(times_max(&unit));
                Act::Send {
                    client: who % CLIENTS,
                    bytes: unit.repeat(times),
                }
            }
            9 => Act::Say {
                server: who,
                bytes: self.bytes(),
            },
            10 | 11 => Act::Answer {
                server: who,
                bytes: self.bytes(),
            },
            12 => Act::Trouble {
                server: who % 4,
                trouble: match who / 4 {
                    0 => Trouble::Stops,
                    1 => Trouble::Trickles,
                    2 => Trouble::Refuses,
                    _ => Trouble::Breaks,
                },
            },
            13 => match who / 4 {
                0 => Act::Vanish { client: who % 4 },
                1 => Act::Finish { client: who % 4 },
                _ => Act::Deafen { client: who % 4 },
            },
            14 => Act::Pass { turns: 1 + who * 4 },
            _ => Act::Reconfigure(Next::new(self.byte()?)),
        })
    }
}
