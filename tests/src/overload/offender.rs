//! Those who ask for more than there is. All are bounded: in connections, in frames, and in time.

use super::{LARGE_KEY, leave_worker_alone, yield_to_all};
use crate::client::resp::command;
use crate::frames::{Segment, Wire, flag, mac_of};
use crate::lab::addresses::{Family, vip};
use crate::lab::topology::CLIENT_SIDE;
use crate::netns::Namespace;
use crate::random::Random;
use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use nix::unistd::gettid;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Connections of the flood, each with as many requests under way as the proxy and TCP take.
const FLOOD_CONNECTIONS: usize = 64;

/// Requests that the flood writes at once.
const FLOOD_REQUESTS: usize = 200;

/// SYNs in all, and in each step.
const SYNS_MAX: u64 = 100_000;
const SYNS_PER_STEP: u64 = 200;

/// The receive buffer of a slow reader, as small as the kernel makes it.
const SLOW_RECEIVE_BYTES: usize = 2_048;

/// Large values that a slow reader asks for.
const SLOW_READS: usize = 8;

/// Between two rounds of whoever does something in rounds.
const STEP: Duration = Duration::from_millis(10);

/// Between two bytes of a slow writer.
const WRITE_STEP: Duration = Duration::from_millis(50);

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offender {
    /// What `Flood` does, but from the server's host and past Tidegate: what is seen beside it is of the machine and not of Tidegate.
    Elsewhere,
    /// A tenant that asks without end, and does not wait for replies.
    Flood,
    /// SYNs from everywhere.
    Syns,
    /// Clients that ask for large values and read nothing.
    SlowReaders,
    /// Clients that send a byte at a time.
    SlowWriters,
}

/// Where they do it.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Their host.
    pub client: Namespace,
    /// Tidegate's.
    pub appliance: Namespace,
    /// The servers' host.
    pub server: Namespace,
    /// Their pool.
    pub flooded: SocketAddr,
    /// Its server.
    pub flooded_server: SocketAddr,
    /// Slow clients at a time.
    pub slow_clients: usize,
}

/// What one did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Requests, frames or bytes that it sent, or connections that it held.
    pub sent: u64,
    /// Replies that it got.
    pub answered: u64,
}

impl Offender {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Elsewhere,
        Self::Flood,
        Self::Syns,
        Self::SlowReaders,
        Self::SlowWriters,
    ];

    /// In a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::Flood => "flood",
            Self::Syns => "syns",
            Self::SlowReaders => "slow-readers",
            Self::SlowWriters => "slow-writers",
        }
    }

    /// Begins, says so, and ends when it is over. To be called on the client host.
    pub fn offend(self, ground: &Ground, begun: &AtomicBool, over: &AtomicBool) -> Result<Done> {
        leave_worker_alone()?;
        yield_to_all(gettid().as_raw())?;
        match self {
            Self::Elsewhere => {
                let (host, server) = (&ground.server, ground.flooded_server);
                host.run(|| flood(server, begun, over))
            }
            Self::Flood => flood(ground.flooded, begun, over),
            Self::Syns => send_syns(ground, begun, over),
            Self::SlowReaders => read_slowly(ground, begun, over),
            Self::SlowWriters => write_slowly(ground, begun, over),
        }
    }
}

fn is_over(over: &AtomicBool) -> bool {
    over.load(Ordering::Acquire)
}

fn open(pool: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|_| {
            let stream = TcpStream::connect(pool)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
        .collect()
}

/// Writes as much as the connection takes; how much that was, none if it is broken.
fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.write(bytes).unwrap_or(0)
}

fn flood(pool: SocketAddr, begun: &AtomicBool, over: &AtomicBool) -> Result<Done> {
    let request = command(&[b"GET", b"flood"]);
    let requests = request.repeat(FLOOD_REQUESTS);
    let reply_bytes = b"$-1\r\n".len() as u64;
    let streams = open(pool, FLOOD_CONNECTIONS)?;
    let mut at = vec![0; streams.len()];
    let mut scratch = vec![0; 64 * 1024];
    let (mut sent, mut received) = (0, 0);
    begun.store(true, Ordering::Release);
    while !is_over(over) {
        let wanted = PollFlags::POLLIN | PollFlags::POLLOUT;
        let mut polled: Vec<PollFd<'_>> = streams
            .iter()
            .map(|stream| PollFd::new(stream.as_fd(), wanted))
            .collect();
        poll(&mut polled, PollTimeout::from(10u8))?;
        for (index, stream) in streams.iter().enumerate() {
            let events = polled[index].revents().unwrap_or(PollFlags::empty());
            if events.contains(PollFlags::POLLIN) {
                received += read_all(stream, &mut scratch)?;
            }
            if events.contains(PollFlags::POLLOUT) {
                let bytes = write_some(stream, &requests[at[index]..]);
                at[index] = (at[index] + bytes) % requests.len();
                sent += bytes as u64;
            }
        }
    }
    Ok(Done {
        sent: sent / request.len() as u64,
        answered: received / reply_bytes,
    })
}

/// Reads what there is; the flood is answered, never closed.
fn read_all(mut stream: &TcpStream, scratch: &mut [u8]) -> Result<u64> {
    let mut bytes = 0;
    loop {
        match stream.read(scratch) {
            Ok(0) => bail!("the flood was closed"),
            Ok(read) => {
                if scratch[..read].contains(&b'E') {
                    bail!("the flood got an error in place of a reply");
                }
                bytes += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(bytes),
            Err(error) => return Err(error.into()),
        }
    }
}

fn send_syns(ground: &Ground, begun: &AtomicBool, over: &AtomicBool) -> Result<Done> {
    let wire = Wire::open("eth0")?;
    let macs = (wire.own_mac, mac_of(&ground.appliance, CLIENT_SIDE)?);
    let IpAddr::V4(target) = vip(Family::V4) else {
        bail!("the lab has IPv4");
    };
    let mut random = Random::new(7);
    let mut sent = 0;
    begun.store(true, Ordering::Release);
    while !is_over(over) {
        let most = SYNS_PER_STEP.min(SYNS_MAX - sent);
        for _ in 0..most {
            // Hosts of the link that do not exist, so nobody resets what the SYNs begin.
            let host = Ipv4Addr::new(10, 77, 1, 150 + random.below(100) as u8);
            let segment = Segment {
                macs,
                source: (host, 1_024 + random.below(60_000) as u16),
                destination: (target, ground.flooded.port()),
                sequence: random.bits() as u32,
                acknowledgement: 0,
                flags: flag::SYN,
                payload: Vec::new(),
            };
            wire.send(&segment.to_frame())?;
        }
        sent += most;
        std::thread::sleep(STEP);
    }
    Ok(Done { sent, answered: 0 })
}

/// A connection with a small receive buffer, which has to be set before it opens.
fn open_narrow(to: SocketAddr) -> Result<TcpStream> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::RcvBuf, &SLOW_RECEIVE_BYTES)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(socket))
}

fn read_slowly(ground: &Ground, begun: &AtomicBool, over: &AtomicBool) -> Result<Done> {
    let request = command(&[b"GET", LARGE_KEY.as_bytes()]).repeat(SLOW_READS);
    let mut streams = Vec::with_capacity(ground.slow_clients);
    for _ in 0..ground.slow_clients {
        let mut stream = open_narrow(ground.flooded)?;
        stream.write_all(&request)?;
        streams.push(stream);
    }
    begun.store(true, Ordering::Release);
    while !is_over(over) {
        std::thread::sleep(STEP);
    }
    Ok(Done {
        sent: streams.len() as u64,
        answered: 0,
    })
}

fn write_slowly(ground: &Ground, begun: &AtomicBool, over: &AtomicBool) -> Result<Done> {
    let request = command(&[b"GET", b"slow"]);
    let streams = open(ground.flooded, ground.slow_clients)?;
    let (mut sent, mut received, mut at) = (0, 0, 0);
    let mut scratch = [0; 256];
    begun.store(true, Ordering::Release);
    while !is_over(over) {
        for mut stream in &streams {
            sent += write_some(stream, &request[at..=at]) as u64;
            match stream.read(&mut scratch) {
                Ok(0) => bail!("a slow writer was closed"),
                Ok(bytes) => received += bytes as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        at = (at + 1) % request.len();
        std::thread::sleep(WRITE_STEP);
    }
    Ok(Done {
        sent,
        answered: received / b"$-1\r\n".len() as u64,
    })
}
