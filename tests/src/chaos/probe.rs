//! How long it takes until everything serves again: new connections every few milliseconds, until all of one round are answered.
//!
//! A probe asks for a key of each server that nobody writes, so it is answered only when the worker and all its servers are there.
//! On AF_XDP a round has a connection for each worker, chosen by its source port. On sockets the kernel chooses, so a round has
//! several, and none counts before every worker has its listeners.

use crate::lab::addresses::{Family, client};
use crate::lab::servers::ServerKind;
use crate::plan::Plan;
use crate::scene::source_port;
use crate::stage::Driver;
use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Between two rounds.
const INTERVAL: Duration = Duration::from_millis(5);

/// Between two looks at the rounds under way.
const STEP: Duration = Duration::from_millis(1);

/// Rounds under way at a time. What is not answered in a quarter of a second has lost a segment; a later round has not.
const ROUNDS_MAX: usize = 50;

/// Everything recovers in less; a worker that hangs takes six and a half seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections of a round to each pool on kernel sockets: all at the same of two workers once in 32 rounds.
const SPREAD: u16 = 6;

/// The client address that only probes use: no port of theirs is taken by anybody else.
const ADDRESS: u8 = 3;

/// Source ports come again after so many connections.
const NUMBERS: u16 = 10_000;

/// What is asked of one pool, and the bytes of the answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// The protocol.
    pub kind: ServerKind,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Question {
    /// Asks for `keys`, which do not exist.
    pub fn new(kind: ServerKind, keys: &[String]) -> Self {
        let (mut request, mut answer) = (String::new(), String::new());
        for key in keys {
            match kind {
                ServerKind::Redis => {
                    let bytes = key.len();
                    let _ = write!(request, "*2\r\n$3\r\nGET\r\n${bytes}\r\n{key}\r\n");
                    answer += "$-1\r\n";
                }
                ServerKind::Memcached => {
                    let _ = write!(request, "get {key}\r\n");
                    answer += "END\r\n";
                }
            }
        }
        Self {
            kind,
            request: request.into_bytes(),
            answer: answer.into_bytes(),
        }
    }
}

/// Sends probes from the client host.
#[derive(Debug)]
pub struct Prober {
    driver: Driver,
    workers: u16,
    questions: Vec<Question>,
    next_number: u16,
}

/// One connection.
#[derive(Debug)]
struct Probe {
    stream: TcpStream,
    question: usize,
    asked: bool,
    got: Vec<u8>,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Answered,
    Failed,
}

/// Connections that began together, without those that were answered.
type Round = Vec<Probe>;

impl Prober {
    /// For a lab with so many workers.
    pub fn new(driver: Driver, workers: u16, questions: Vec<Question>) -> Self {
        Self {
            driver,
            workers,
            questions,
            next_number: 0,
        }
    }

    /// Returns when a round was answered whole that began after this was called. To be called on the client host. A round
    /// begins only while `ready` holds.
    pub fn wait(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let (started, mut next_round) = (Instant::now(), Instant::now());
        let mut rounds: VecDeque<Round> = VecDeque::new();
        while started.elapsed() < PATIENCE {
            if Instant::now() >= next_round {
                next_round = Instant::now() + INTERVAL;
                rounds.truncate(ROUNDS_MAX - 1);
                // What cannot even begin, for example without a link, has failed.
                if let (true, Ok(round)) = (ready(), self.begin_round()) {
                    rounds.push_front(round);
                }
            }
            rounds.retain_mut(|round| self.look_after(round));
            if rounds.iter().any(Vec::is_empty) {
                return Ok(());
            }
            std::thread::sleep(STEP);
        }
        bail!("new connections are not served within {PATIENCE:?}");
    }

    fn begin_round(&mut self) -> Result<Round> {
        let each = if self.driver.is_steered() {
            self.workers
        } else {
            SPREAD
        };
        let mut round = Round::new();
        for question in 0..self.questions.len() {
            let to = Plan::Lab.pool(self.questions[question].kind, Family::V4);
            for worker in 0..each {
                self.next_number = (self.next_number + 1) % NUMBERS;
                round.push(Probe {
                    stream: begin(source_port(worker & 1, self.next_number, to), to)?,
                    question,
                    asked: false,
                    got: Vec::new(),
                });
            }
        }
        Ok(round)
    }

    /// Moves a round on. False when it has failed.
    fn look_after(&self, round: &mut Round) -> bool {
        let mut failed = false;
        round.retain_mut(|probe| {
            let fate = probe.step(&self.questions[probe.question]);
            failed |= fate == Fate::Failed;
            fate != Fate::Answered
        });
        !failed
    }
}

impl Probe {
    fn step(&mut self, question: &Question) -> Fate {
        if !self.asked {
            match self.stream.write(&question.request) {
                // A new connection has room for so few bytes.
                Ok(sent) if sent == question.request.len() => self.asked = true,
                Err(error) if is_early(&error) => return Fate::Open,
                _ => return Fate::Failed,
            }
        }
        let mut bytes = [0; 512];
        match self.stream.read(&mut bytes) {
            Ok(0) => Fate::Failed,
            Ok(count) => {
                self.got.extend_from_slice(&bytes[..count]);
                if self.got == question.answer {
                    Fate::Answered
                } else if question.answer.starts_with(&self.got) {
                    Fate::Open
                } else {
                    // An error in place of an answer: a server is not there.
                    Fate::Failed
                }
            }
            Err(error) if is_early(&error) => Fate::Open,
            Err(_) => Fate::Failed,
        }
    }
}

/// Nothing has happened yet. A socket that is still connecting says that it is not connected.
fn is_early(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}

fn begin(port: u16, to: SocketAddr) -> Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    // Closed with a reset, so that nothing stays of it on either side.
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&socket, sockopt::Linger, &at_once)?;
    let from = SocketAddr::new(client(Family::V4, ADDRESS), port);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn keys() -> Vec<String> {
        vec!["a".to_owned(), "bc".to_owned()]
    }

    #[test]
    fn questions_are_for_keys_that_nobody_has() {
        let redis = Question::new(ServerKind::Redis, &keys());
        assert_eq!(
            redis.request,
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$2\r\nbc\r\n"
        );
        assert_eq!(redis.answer, b"$-1\r\n$-1\r\n");
        let memcached = Question::new(ServerKind::Memcached, &keys());
        assert_eq!(memcached.request, b"get a\r\nget bc\r\n");
        assert_eq!(memcached.answer, b"END\r\nEND\r\n");
    }

    /// What becomes of a probe whose server says `answer` and closes.
    fn fate_after(answer: &[u8]) -> Fate {
        let question = Question::new(ServerKind::Memcached, &keys());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        let mut probe = Probe {
            stream,
            question: 0,
            asked: false,
            got: Vec::new(),
        };
        assert_eq!(probe.step(&question), Fate::Open);
        let mut request = vec![0; question.request.len()];
        served.read_exact(&mut request).unwrap();
        served.write_all(answer).unwrap();
        drop(served);
        loop {
            match probe.step(&question) {
                Fate::Open => std::thread::yield_now(),
                fate => return fate,
            }
        }
    }

    #[test]
    fn only_the_whole_answer_counts() {
        assert_eq!(fate_after(b"END\r\nEND\r\n"), Fate::Answered);
        assert_eq!(fate_after(b"END\r\n"), Fate::Failed);
        assert_eq!(fate_after(b"END\r\nSERVER_ERROR x\r\n"), Fate::Failed);
        assert_eq!(fate_after(b""), Fate::Failed);
    }
}
