//! Saying something and taking down what comes back.

use super::{Dialect, Turn};
use crate::client::HANG_GUARD;
use crate::host::Host;
use crate::random::Random;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A request that ends an exchange, and the end of its reply.
type Ending = (Vec<u8>, Vec<u8>);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The reply to the opening.
    pub opening: Vec<u8>,
    /// The replies, that to the ending included if it came.
    pub replies: Vec<u8>,
    /// The connection ended before the reply to the ending.
    pub closed: bool,
}

impl Outcome {
    /// The same without what may name its server.
    #[must_use]
    pub fn without_opening(self) -> Self {
        Self {
            opening: Vec::new(),
            ..self
        }
    }

    fn shown(&self, from: usize) -> String {
        let end = (from + 200).min(self.replies.len());
        let text = self.replies[from.min(end)..end].escape_ascii();
        let end = match (self.closed, end < self.replies.len()) {
            (_, true) => " …",
            (true, false) => " and closed",
            (false, false) => "",
        };
        format!("{text}{end}")
    }
}

/// Whom to ask, and where from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the client is.
    pub host: Host,
    /// The server's address, or the pool's.
    pub address: SocketAddr,
}

fn connect(to: &Peer) -> io::Result<TcpStream> {
    let connect = || TcpStream::connect_timeout(&to.address, HANG_GUARD);
    let stream = to.host.run(connect)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANG_GUARD))?;
    stream.set_write_timeout(Some(HANG_GUARD))?;
    Ok(stream)
}

/// Reads until `end` is the end of what came, or the connection's.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> io::Result<(Vec<u8>, bool)> {
    let mut got = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while !got.ends_with(end) {
        match stream.read(&mut piece) {
            Ok(0) => return Ok((got, true)),
            Ok(bytes) => got.extend_from_slice(&piece[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok((got, true));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let tail = &got[got.len().saturating_sub(200)..];
                let text = format!("no end after {} bytes: {}", got.len(), tail.escape_ascii());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((got, false))
}

/// Sends `requests` and the ending while what comes back is read; with a seed, cut at random places.
pub fn exchange(
    to: &Peer,
    opening: &[u8],
    requests: &[u8],
    ending: &Ending,
    seed: Option<u64>,
) -> io::Result<Outcome> {
    let mut stream = connect(to)?;
    let opening = open(&mut stream, opening)?;
    let mut sender = stream.try_clone()?;
    let whole = [requests, &ending.0[..]].concat();
    std::thread::scope(|scope| {
        // What is sent to a closed connection fails, and what was read before that tells.
        scope.spawn(move || match seed {
            Some(seed) => send_in_pieces(&mut sender, &whole, &mut Random::new(seed)),
            None => sender.write_all(&whole),
        });
        let (replies, closed) = read_until(&mut stream, &ending.1)?;
        Ok(Outcome {
            opening,
            replies,
            closed,
        })
    })
}

/// Says the opening, if there is one, and returns its reply, whatever that is: what comes up to the reply to a PING.
fn open(stream: &mut TcpStream, opening: &[u8]) -> io::Result<Vec<u8>> {
    if opening.is_empty() {
        return Ok(Vec::new());
    }
    stream.write_all(opening)?;
    Ok(read_until(stream, b"+PONG\r\n")?.0)
}

fn send_in_pieces(to: &mut TcpStream, whole: &[u8], random: &mut Random) -> io::Result<()> {
    let mut rest = whole;
    while !rest.is_empty() {
        let most = *random.pick(&[1, 3, 30, 1_500, 10_000, 60_000]);
        let (now, later) = rest.split_at((1 + random.below(most)).min(rest.len()));
        to.write_all(now)?;
        if random.below(20) == 0 {
            std::thread::yield_now();
        }
        rest = later;
    }
    Ok(())
}

/// A connection on which one turn is answered before the next is asked.
pub(super) struct Speaker {
    stream: TcpStream,
    ending: fn(u64) -> Ending,
    asked: u64,
}

impl Speaker {
    pub(super) fn open(to: &Peer, opening: &[u8], ending: fn(u64) -> Ending) -> io::Result<Self> {
        let mut stream = connect(to)?;
        open(&mut stream, opening)?;
        Ok(Self {
            stream,
            ending,
            asked: 0,
        })
    }

    pub(super) fn ask(&mut self, bytes: &[u8]) -> io::Result<Outcome> {
        self.asked += 1;
        let (last, end) = (self.ending)(self.asked);
        self.stream.write_all(&[bytes, &last].concat())?;
        let (replies, closed) = read_until(&mut self.stream, &end)?;
        Ok(Outcome {
            opening: Vec::new(),
            replies,
            closed,
        })
    }
}

/// Where a server and the proxy in front of one do not say the same.
#[derive(Clone, Debug)]
pub struct Difference {
    dialect: Dialect,
    seed: u64,
    direct: String,
    proxied: String,
    at: usize,
    alone: Option<(String, &'static str, String, String)>,
}

impl Difference {
    pub(super) fn new(
        dialect: Dialect,
        seed: u64,
        direct: &Outcome,
        proxied: &Outcome,
        alone: Option<(Turn, Outcome, Outcome)>,
    ) -> Self {
        let first = |left: &Outcome, right: &Outcome| {
            let pairs = left.replies.iter().zip(&right.replies);
            pairs.take_while(|(left, right)| left == right).count()
        };
        let at = first(direct, proxied);
        let alone = alone.map(|(turn, direct, proxied)| {
            let asked = turn.bytes[..turn.bytes.len().min(300)].escape_ascii();
            let from = first(&direct, &proxied).saturating_sub(40);
            let (direct, proxied) = (direct.shown(from), proxied.shown(from));
            (asked.to_string(), turn.from, direct, proxied)
        });
        let from = at.saturating_sub(60);
        Self {
            dialect,
            seed,
            direct: direct.shown(from),
            proxied: proxied.shown(from),
            at,
            alone,
        }
    }

    /// What the turn was made from, if one differs by itself.
    pub fn from(&self) -> Option<&'static str> {
        self.alone.as_ref().map(|(_, from, ..)| *from)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            dialect, seed, at, ..
        } = self;
        writeln!(out, "{dialect}, seed {seed}: replies differ at byte {at}")?;
        match &self.alone {
            Some((asked, from, direct, proxied)) => writeln!(
                out,
                "  asked alone:  {asked}\n  made from:    {from}\n  the server:   {direct}\n  the proxy:    {proxied}"
            ),
            None => writeln!(
                out,
                "  only in a pipeline\n  the server:   {}\n  the proxy:    {}",
                self.direct, self.proxied
            ),
        }
    }
}
