//! The load at a fixed rate. It does not wait for replies before it sends more, and measures each request from the moment at
//! which it should have been sent: a stall of the proxy, or of this program, is seen by every request that it delays.

use crate::results::Latency;
use anyhow::{Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tidegate_tests::client::resp::command;

/// Keys in use, all of them stored before the clock starts.
const KEYS: usize = 1_000;

/// Bytes of each value.
const VALUE: [u8; 100] = [b'v'; 100];

/// A reply that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// A load of GET and SET in turns.
pub struct OpenLoop {
    /// Where to connect.
    pub target: SocketAddr,
    /// Connections; requests go round.
    pub connections: usize,
    /// Requests per second.
    pub rate: u32,
    /// Requests.
    pub requests: usize,
}

/// One connection and the replies it waits for.
struct Connection {
    stream: TcpStream,
    /// When each request should have been sent, in nanoseconds, and the bytes of its reply.
    owed: VecDeque<(u64, &'static [u8])>,
    /// Bytes of the first reply that have come.
    received: usize,
}

const STORED: &[u8] = b"+OK\r\n";

/// The head of a value's reply; the value and an end of line follow.
const FOUND: &[u8] = b"$100\r\n";

fn reply_bytes(head: &[u8]) -> usize {
    if head == FOUND {
        FOUND.len() + VALUE.len() + 2
    } else {
        head.len()
    }
}

impl OpenLoop {
    /// Runs it on the calling thread, in its namespace.
    pub fn run(&self) -> Result<Latency> {
        // The kernel would otherwise add up to 50 µs to each sleep, to gather wake-ups.
        nix::sys::prctl::set_timerslack(1)?;
        let mut connections = (0..self.connections)
            .map(|_| Connection::open(self.target))
            .collect::<Result<Vec<_>>>()?;
        let started = Instant::now();
        for key in 0..KEYS {
            let now_ns = started.elapsed().as_nanos() as u64;
            connections[0].send(&request(true, key), now_ns, STORED)?;
            while !connections[0].owed.is_empty() {
                connections[0].receive(0, |_| ())?;
            }
        }
        let mut times_ns = Vec::with_capacity(self.requests);
        let interval_ns = 1_000_000_000 / u64::from(self.rate);
        let started = Instant::now();
        let mut sent = 0;
        while times_ns.len() < self.requests {
            let now_ns = started.elapsed().as_nanos() as u64;
            let mut wait_ns = PATIENCE.as_nanos() as u64;
            while sent < self.requests {
                let due_ns = (sent as u64 + 1) * interval_ns;
                if due_ns > now_ns {
                    wait_ns = due_ns - now_ns;
                    break;
                }
                let store = sent % 2 == 0;
                let head = if store { STORED } else { FOUND };
                // Both kinds reach every connection and every key.
                let place = (sent / 2) % self.connections;
                connections[place].send(&request(store, sent / 2 % KEYS), due_ns, head)?;
                sent += 1;
            }
            let ready = wait(&connections, wait_ns)?;
            if ready.is_empty() && sent == self.requests {
                bail!("{} replies never came", self.requests - times_ns.len());
            }
            for place in ready {
                let now_ns = started.elapsed().as_nanos() as u64;
                connections[place].receive(now_ns, |time_ns| times_ns.push(time_ns))?;
            }
        }
        Ok(Latency::of(&mut times_ns))
    }
}

fn request(store: bool, key: usize) -> Vec<u8> {
    let key = format!("open:{key:012}");
    if store {
        command(&[b"SET", key.as_bytes(), &VALUE])
    } else {
        command(&[b"GET", key.as_bytes()])
    }
}

/// The connections that have something to read, after at most `wait_ns`.
fn wait(connections: &[Connection], wait_ns: u64) -> Result<Vec<usize>> {
    let mut fds: Vec<PollFd<'_>> = connections
        .iter()
        .map(|connection| PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN))
        .collect();
    ppoll(
        &mut fds,
        Some(TimeSpec::from(Duration::from_nanos(wait_ns))),
        None,
    )?;
    let ready = fds
        .iter()
        .enumerate()
        .filter(|(_, fd)| fd.revents().is_some_and(|events| !events.is_empty()));
    Ok(ready.map(|(place, _)| place).collect())
}

impl Connection {
    fn open(target: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            owed: VecDeque::new(),
            received: 0,
        })
    }

    fn send(&mut self, bytes: &[u8], due_ns: u64, reply: &'static [u8]) -> Result<()> {
        // A socket buffer holds thousands of requests: it is full only when the proxy has stopped.
        self.stream.write_all(bytes)?;
        self.owed.push_back((due_ns, reply));
        Ok(())
    }

    fn receive(&mut self, now_ns: u64, mut answered: impl FnMut(u64)) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the proxy closed a connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let Some((due_ns, head)) = self.owed.front() else {
                bail!("a reply that nobody asked for");
            };
            let missing = reply_bytes(head) - self.received;
            ensure!(
                self.received > 0 || rest[0] == head[0],
                "a wrong reply: {}",
                rest.escape_ascii()
            );
            let part = missing.min(rest.len());
            rest = &rest[part..];
            self.received += part;
            if part == missing {
                answered(now_ns.saturating_sub(*due_ns));
                self.owed.pop_front();
                self.received = 0;
            }
        }
        Ok(())
    }
}
