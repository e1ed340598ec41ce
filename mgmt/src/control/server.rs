//! The manager's end of the control socket: never waits for anybody.

use super::request::Request;
use super::{Answer, DESCRIPTOR_SPACE, DESCRIPTORS_MAX};
use crate::accept_pause::AcceptPause;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Clients at a time. Why: a few people and their scripts; too low: they wait for each other, too high: descriptors that the manager
/// needs for workers.
pub const CLIENTS_MAX: usize = 32;
/// Longest request. Why: the largest names a pool and some settings; too low: a long list of those is refused, too high: memory of
/// `CLIENTS_MAX` times as much.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Connections accepted per turn of the manager, so that a flood of them cannot keep it from its workers.
const ACCEPTS_PER_TURN: usize = 64;
/// A client has to send its request, and to take its answer, within this time: a forgotten one frees its place.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two lines in the log about clients that were refused.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Names a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What clients of the control socket did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlCounters {
    /// Requests taken.
    pub requests: u64,
    /// Clients that are neither the manager's user nor root.
    pub refused_foreign: u64,
    /// Requests that are none: not JSON, unknown, too long, cut off.
    pub refused_malformed: u64,
    /// Clients that were closed because of [`CLIENTS_MAX`].
    pub refused_crowded: u64,
    /// Clients that did not send their request or take their answer in time.
    pub timed_out: u64,
}

impl fmt::Display for ControlCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "so far {} requests were taken; {} of other users and {} malformed ones refused; {} clients closed for lack of places, \
             {} for being slow",
            self.requests,
            self.refused_foreign,
            self.refused_malformed,
            self.refused_crowded,
            self.timed_out
        )
    }
}

/// What a client is doing.
#[derive(Debug)]
enum Stage {
    Asks(Vec<u8>),
    Waits(Ticket),
    Takes {
        bytes: Vec<u8>,
        sent: usize,
        descriptors: Vec<OwnedFd>,
    },
}

#[derive(Debug)]
struct Client {
    socket: UnixStream,
    stage: Stage,
    /// `None`: the manager is at work for it.
    deadline: Option<Instant>,
}

/// What became of a client in a turn.
enum Step {
    Stays,
    Asked(Request),
    Leaves,
}

/// A listening control socket.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    pause: AcceptPause,
    clients: VecDeque<Client>,
    tickets: u64,
    counters: ControlCounters,
    logged: Option<Instant>,
}

impl ControlServer {
    /// Listens at `path`, for the owner alone. A socket that an earlier instance left there is replaced: the caller holds
    /// the instance's lock.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            pause: AcceptPause::default(),
            clients: VecDeque::new(),
            tickets: 0,
            counters: ControlCounters::default(),
            logged: None,
        })
    }

    /// What was counted so far.
    pub fn counters(&self) -> ControlCounters {
        self.counters
    }

    /// What to poll for.
    pub fn poll_list(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listener =
            (!self.pause.is_set()).then(|| PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        let clients = self.clients.iter().map(|client| {
            let events = match client.stage {
                // A client that waits has said everything: what it still may do is to go away, which is always told.
                Stage::Asks(_) => PollFlags::POLLIN,
                Stage::Waits(_) => PollFlags::empty(),
                Stage::Takes { .. } => PollFlags::POLLOUT,
            };
            PollFd::new(client.socket.as_fd(), events)
        });
        listener.into_iter().chain(clients)
    }

    /// When the first client has had its time, or others may come again.
    pub fn due(&self) -> Option<Instant> {
        let deadlines = self.clients.iter().filter_map(|c| c.deadline);
        deadlines.chain(self.pause.due()).min()
    }

    /// Accepts, reads and writes what can be without waiting, and returns the requests that are complete.
    pub fn turn(&mut self, now: Instant) -> Vec<(Ticket, Request)> {
        self.accept(now);
        let mut requests = Vec::new();
        for _ in 0..self.clients.len() {
            let Some(mut client) = self.clients.pop_front() else {
                break;
            };
            match client.step(now, &mut self.counters) {
                Step::Stays => {}
                Step::Leaves => continue,
                Step::Asked(request) => {
                    self.tickets += 1;
                    self.counters.requests += 1;
                    client.stage = Stage::Waits(Ticket(self.tickets));
                    client.deadline = None;
                    requests.push((Ticket(self.tickets), request));
                }
            }
            self.clients.push_back(client);
        }
        requests
    }

    /// Answers a request; nothing happens if the client is gone.
    pub fn answer(&mut self, ticket: Ticket, answer: &Answer) {
        self.answer_with(ticket, answer, Vec::new());
    }

    /// The same, with file descriptors.
    pub fn answer_with(&mut self, ticket: Ticket, answer: &Answer, descriptors: Vec<OwnedFd>) {
        let waits = |client: &&mut Client| matches!(client.stage, Stage::Waits(t) if t == ticket);
        if let Some(client) = self.clients.iter_mut().find(waits) {
            client.take(answer, descriptors, Instant::now());
            // Most answers fit the socket at once.
            let _next_turn = client.write();
        }
    }

    fn accept(&mut self, now: Instant) {
        if self.pause.holds(now) {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if self.pause.failed(now, "control socket", &error) => continue,
                Err(_) => break,
            };
            self.pause.worked();
            match is_trusted(&socket) {
                Ok(true) => {}
                Ok(false) => {
                    self.counters.refused_foreign += 1;
                    self.log(now, "a client of another user was refused");
                    continue;
                }
                Err(_gone) => continue,
            }
            if socket.set_nonblocking(true).is_err() || !self.make_room(now) {
                continue;
            }
            self.clients.push_back(Client {
                socket,
                stage: Stage::Asks(Vec::new()),
                deadline: Some(now + PATIENCE),
            });
        }
    }

    /// Whoever connected and says nothing gives way to the next; those that wait for their answer keep their place.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.clients.len() < CLIENTS_MAX {
            return true;
        }
        self.counters.refused_crowded += 1;
        self.log(now, "more clients than places: one was closed");
        let silent = self
            .clients
            .iter()
            .position(|client| !matches!(client.stage, Stage::Waits(_)));
        silent.is_some_and(|oldest| self.clients.remove(oldest).is_some())
    }

    fn log(&mut self, now: Instant, what: &str) {
        if self.logged.is_none_or(|last| now - last >= LOG_INTERVAL) {
            self.logged = Some(now);
            tracing::warn!("control socket: {what}; {}", self.counters);
        }
    }
}

impl AsFd for ControlServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Client {
    fn step(&mut self, now: Instant, counters: &mut ControlCounters) -> Step {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            counters.timed_out += 1;
            return Step::Leaves;
        }
        match &mut self.stage {
            Stage::Asks(_) => self.read(now, counters),
            Stage::Waits(_) => {
                let mut poll = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
                let polled = nix::poll::poll(&mut poll, nix::poll::PollTimeout::ZERO);
                if polled.is_ok_and(|number| number > 0) {
                    Step::Leaves
                } else {
                    Step::Stays
                }
            }
            Stage::Takes { .. } => self.write(),
        }
    }

    fn read(&mut self, now: Instant, counters: &mut ControlCounters) -> Step {
        let Stage::Asks(text) = &mut self.stage else {
            return Step::Stays;
        };
        let mut chunk = [0; 4096];
        let fault = loop {
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                match serde_json::from_slice::<Request>(&text[..end]) {
                    Ok(request) => return Step::Asked(request),
                    Err(error) => break format!("request: {error}"),
                }
            }
            if text.len() > REQUEST_BYTES_MAX {
                break format!("request: longer than {REQUEST_BYTES_MAX} bytes");
            }
            match self.socket.read(&mut chunk) {
                Ok(0) if text.is_empty() => return Step::Leaves,
                Ok(0) => break "request: it ends without a line feed".to_owned(),
                Ok(read) => text.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Stays,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_gone) => return Step::Leaves,
            }
        };
        counters.refused_malformed += 1;
        self.take(&Answer::fault(fault), Vec::new(), now);
        self.write()
    }

    fn take(&mut self, answer: &Answer, descriptors: Vec<OwnedFd>, now: Instant) {
        let bytes = serde_json::to_vec(answer).or_else(|error| {
            let fault = Answer::fault(format!("the answer cannot be written: {error}"));
            serde_json::to_vec(&fault)
        });
        debug_assert!(descriptors.len() <= DESCRIPTORS_MAX);
        let mut bytes = bytes.unwrap_or_default();
        bytes.push(b'\n');
        self.stage = Stage::Takes {
            bytes,
            sent: 0,
            descriptors,
        };
        self.deadline = Some(now + PATIENCE);
    }

    fn write(&mut self) -> Step {
        let Stage::Takes {
            bytes,
            sent,
            descriptors,
        } = &mut self.stage
        else {
            return Step::Stays;
        };
        while *sent < bytes.len() {
            let mut space = [MaybeUninit::uninit(); DESCRIPTOR_SPACE];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let list: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            if !list.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&list));
            }
            let rest = [IoSlice::new(&bytes[*sent..])];
            match sendmsg(&self.socket, &rest, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(written) => {
                    *sent += written;
                    // They travelled with the first byte.
                    descriptors.clear();
                }
                Err(Errno::AGAIN) => return Step::Stays,
                Err(Errno::INTR) => {}
                Err(_gone) => return Step::Leaves,
            }
        }
        Step::Leaves
    }
}

/// Who may command: the manager's own user, and root. The file's mode says the same; this holds when somebody changed it.
fn is_trusted(socket: &UnixStream) -> io::Result<bool> {
    let peer = getsockopt(socket, PeerCredentials)?;
    Ok(peer.uid() == 0 || peer.uid() == geteuid().as_raw())
}

#[cfg(test)]
mod tests;
