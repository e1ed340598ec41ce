//! Small blocking clients. They take nothing for granted: what they read is returned as the bytes that came.

pub mod memcached;
pub mod resp;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// No reply of a test takes this long; it turns a hang into a failure.
pub const HANG_GUARD: Duration = Duration::from_secs(30);

/// Repeats `attempt` until it returns true; an endless wait is a failure that says what it waited for.
pub fn eventually(what: &str, attempt: impl FnMut() -> bool) {
    eventually_within(HANG_GUARD, what, attempt);
}

/// The same with a patience of one's own.
pub fn eventually_within(patience: Duration, what: &str, mut attempt: impl FnMut() -> bool) {
    let started = Instant::now();
    while !attempt() {
        assert!(
            started.elapsed() < patience,
            "{what}: not within {patience:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A connection with a buffer for what was read ahead.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were taken out already.
    taken: usize,
    /// Bytes sent so far.
    pub sent_bytes: u64,
    /// Bytes received so far.
    pub received_bytes: u64,
}

impl Connection {
    /// Connects from any address of the calling thread's namespace.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&to, HANG_GUARD)?)
    }

    /// Connects from any address of the calling thread's namespace, unless that takes longer than `patience`.
    pub fn open_within(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&to, patience)?)
    }

    /// From now on nothing that comes may let itself be waited for longer than `patience`.
    pub fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))
    }

    /// Connects from the given address, to choose where a connection is counted, and from the given port (0: any), to choose its
    /// queue.
    pub fn open_from(from: IpAddr, port: u16, to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReuseAddr, &true)?;
        bind(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(from, port)),
        )?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Self::over(TcpStream::from(socket))
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANG_GUARD))?;
        stream.set_write_timeout(Some(HANG_GUARD))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            taken: 0,
            sent_bytes: 0,
            received_bytes: 0,
        })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Says that no more will be sent; replies can still be read.
    pub fn finish_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends it with a reset, as the death of a machine's process may.
    pub fn reset(self) -> io::Result<()> {
        reset(self.stream)
    }

    /// The next line, its `\r\n` included.
    pub fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.taken..];
            if let Some(at) = unread[searched..].iter().position(|byte| *byte == b'\n') {
                return Ok(self.take(searched + at + 1));
            }
            searched = unread.len();
            self.more()?;
        }
    }

    /// The next `count` bytes.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() - self.taken < count {
            self.more()?;
        }
        Ok(self.take(count))
    }

    /// Everything up to the end of the connection. A reset after at least one byte counts as an end, as it does for clients.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                    ) =>
                {
                    let count = self.buffer.len() - self.taken;
                    return Ok(self.take(count));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the other side has closed or reset the connection and nothing is left to read.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.len() == self.taken && self.rest().is_ok_and(|bytes| bytes.is_empty())
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let bytes = self.buffer[self.taken..self.taken + count].to_vec();
        self.taken += count;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        }
        bytes
    }

    fn more(&mut self) -> io::Result<()> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        let filled = self.buffer.len();
        // Grows with what is expected, so that large values do not take thousands of reads.
        let step = filled.clamp(16 * 1024, 4 * 1024 * 1024);
        self.buffer.resize(filled + step, 0);
        let read = self.stream.read(&mut self.buffer[filled..]);
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.received_bytes += count as u64;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Closes a socket with a reset: without lingering, nothing that it still holds is sent or kept.
pub fn reset(stream: TcpStream) -> io::Result<()> {
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &at_once)?;
    drop(stream);
    Ok(())
}
