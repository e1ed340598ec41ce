//! The statistics port of twemproxy: whoever connects gets one line of JSON, and nothing is read (`stats_listen`).
//!
//! Nothing waits for a client: what one does not take at once, it takes in later turns of the manager, or not in time.

use crate::accept_pause::AcceptPause;
use crate::faults::cannot_listen;
use crate::sockets::preflight::Taken;
use nix::poll::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Clients at a time. Why: a few collectors; too low: they shut each other out, too high: descriptors that the manager needs for
/// workers. At the limit the oldest gives way.
const CLIENTS_MAX: usize = 16;
/// Connections accepted per turn, so that a flood of them cannot keep the manager from its workers.
const ACCEPTS_PER_TURN: usize = 64;
/// A client has to take its line within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// A line is this old at most, and made anew at most so often, however many ask for it.
const FRESH: Duration = Duration::from_millis(100);

/// The listening socket and those who have not got all.
#[derive(Debug)]
pub struct StatsListener {
    listener: TcpListener,
    pause: AcceptPause,
    clients: VecDeque<Client>,
    line: Option<(Instant, Rc<str>)>,
}

#[derive(Debug)]
struct Client {
    socket: TcpStream,
    line: Rc<str>,
    sent: usize,
    deadline: Instant,
}

impl StatsListener {
    /// What would keep it from listening.
    pub fn fault(address: SocketAddr, taken: Taken) -> Option<String> {
        let error = TcpListener::bind(address).err();
        let error = error.filter(|error| !taken.excuses(error));
        error.map(|error| cannot_listen("stats_listen", address, &error))
    }

    /// Listens, or says why it cannot.
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        Self::listen(address).map_err(|error| cannot_listen("stats_listen", address, &error))
    }

    fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            pause: AcceptPause::default(),
            clients: VecDeque::new(),
            line: None,
        })
    }

    /// What to poll for.
    pub fn poll_list(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listener =
            (!self.pause.is_set()).then(|| PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        let clients = self.clients.iter();
        let clients = clients.map(|client| PollFd::new(client.socket.as_fd(), PollFlags::POLLOUT));
        listener.into_iter().chain(clients)
    }

    /// When the first client has had its time, or others may come again.
    pub fn due(&self) -> Option<Instant> {
        let deadline = self.clients.front().map(|client| client.deadline);
        deadline.into_iter().chain(self.pause.due()).min()
    }

    /// Accepts and writes what can be without waiting. `render` makes the line.
    pub fn turn(&mut self, now: Instant, mut render: impl FnMut() -> String) {
        let accepts = if self.pause.holds(now) {
            0
        } else {
            ACCEPTS_PER_TURN
        };
        for _ in 0..accepts {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if self.pause.failed(now, "stats_listen", &error) => continue,
                Err(_) => break,
            };
            self.pause.worked();
            if socket.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() == CLIENTS_MAX {
                self.clients.pop_front();
            }
            let line = match &self.line {
                Some((made, line)) if now.saturating_duration_since(*made) < FRESH => line.clone(),
                _ => {
                    let line: Rc<str> = render().into();
                    self.line = Some((now, line.clone()));
                    line
                }
            };
            self.clients.push_back(Client {
                socket,
                line,
                sent: 0,
                deadline: now + PATIENCE,
            });
        }
        self.clients
            .retain_mut(|client| now < client.deadline && client.takes_more());
    }
}

impl Client {
    /// Writes what can be. False: it has everything, or is gone.
    fn takes_more(&mut self) -> bool {
        while let Some(rest) = self.line.as_bytes().get(self.sent..)
            && !rest.is_empty()
        {
            match self.socket.write(rest) {
                Ok(0) => return false,
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_gone) => return false,
            }
        }
        // Closing with unread bytes would be a reset, which may overtake the line. What it sent says nothing.
        let _ends = self.socket.shutdown(Shutdown::Write);
        let _unread = self.socket.read(&mut [0; 4096]);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn listener() -> (StatsListener, SocketAddr) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = StatsListener::listen(any).unwrap();
        let address = listener.listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn whoever_connects_gets_the_line_even_if_it_says_something() {
        let (mut listener, address) = listener();
        let mut clients: Vec<TcpStream> = (0..3)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        clients[1].write_all(b"stats\r\n").unwrap();
        let mut made = 0;
        listener.turn(Instant::now(), || {
            made += 1;
            "{}\n".to_owned()
        });
        for client in &mut clients {
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "{}\n");
        }
        assert_eq!(made, 1, "those who ask at once get the same");
        assert!(listener.clients.is_empty());
    }

    #[test]
    fn clients_that_take_nothing_are_few_and_end() {
        let (mut listener, address) = listener();
        let now = Instant::now();
        let line = "x".repeat(64 << 20);
        let mut silent = Vec::new();
        for _ in 0..2 * CLIENTS_MAX {
            silent.push(TcpStream::connect(address).unwrap());
            listener.turn(now, || line.clone());
        }
        assert_eq!(listener.clients.len(), CLIENTS_MAX);
        assert_eq!(listener.due(), Some(now + PATIENCE));
        assert_eq!(listener.poll_list().count(), 1 + CLIENTS_MAX);
        listener.turn(now + PATIENCE, || line.clone());
        assert!(listener.clients.is_empty());
    }
}
