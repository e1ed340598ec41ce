//! A client that knows what every reply may be.

use super::dialect::{Answer, Client, Dialect, Request, token};
use super::oracle::{Counter, Fault, Register, Span};
use super::stand::{End, Ends, Finding, Order, Stand};
use crate::client::Connection;
use crate::lab::addresses::Family;
use crate::lab::servers::ServerKind;
use crate::random::Random;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// Keys of each client: enough to lie on all servers.
pub const KEYS: usize = 12;

/// How long a client waits for a reply. It has no keep-alive: if its connection is gone, it has to be told. A worker that hangs is killed
/// after five seconds to six and a half, and its successor tells whoever asked it, at the second try at the latest.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long it waits for a connection: a lost SYN is sent again after a second, and again after two more.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Requests of a pipeline, with the one that reads everything.
const PIPELINE_MAX: usize = 6;

/// Keys of one request that stores several.
const WRITE_MANY: usize = 4;

/// The pause between two rounds, and after one that failed. The machine has other things to do than to ask.
const PAUSE: Duration = Duration::from_millis(5);
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// Rounds after which a client takes a new connection, on average.
const ROUNDS_OF_A_CONNECTION: usize = 200;

/// Exchanges that are kept to be shown.
const KEPT: usize = 24;
/// Bytes that are shown of each.
const SHOWN_BYTES: usize = 600;

/// A client, and what it knows.
#[derive(Debug)]
pub struct Witness {
    number: usize,
    dialect: Dialect,
    /// The server of each key, and that of the counter.
    servers: Vec<usize>,
    counter_server: usize,
    pool: SocketAddr,
    random: Random,
    registers: Vec<Register>,
    counter: Counter,
    next_token: u64,
    needs_counter: bool,
    exchanges: VecDeque<String>,
}

/// Why a round ended early.
enum Broken {
    Lost(io::Error),
    Wrong(Fault),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::InvalidData {
            Self::Wrong(Fault::Wrong(error.to_string()))
        } else {
            Self::Lost(error)
        }
    }
}

/// The names that client `number` uses.
pub fn dialect(number: usize, kind: ServerKind) -> Dialect {
    Dialect {
        kind,
        keys: (0..KEYS)
            .map(|slot| format!("chaos-{number}-{slot}"))
            .collect(),
        counter: format!("chaos-{number}-count"),
    }
}

impl Witness {
    /// Client `number`, whose keys have been placed and hold the value of token 0, its counter 0.
    pub fn new(stand: &Stand, number: usize, kind: ServerKind, family: Family, seed: u64) -> Self {
        let dialect = dialect(number, kind);
        Self {
            number,
            servers: dialect
                .keys
                .iter()
                .map(|key| stand.server_of(key))
                .collect(),
            counter_server: stand.server_of(&dialect.counter),
            pool: stand.plan.pool(kind, family),
            random: Random::new(seed ^ (number as u64 + 1) << 32),
            registers: (0..KEYS).map(|_| Register::new(0)).collect(),
            counter: Counter::default(),
            next_token: 1,
            needs_counter: false,
            exchanges: VecDeque::with_capacity(KEPT),
            dialect,
        }
    }

    /// Asks until it is told to end, or sees something wrong.
    pub fn live(mut self, stand: &Stand) {
        let mut client: Option<Client> = None;
        loop {
            if stand.order() != Order::Ask {
                client = None;
                stand.closed(self.number, None);
                if stand.next_order(self.number) == Order::End {
                    return;
                }
            }
            let Some(open) = &mut client else {
                client = self.connect(stand);
                continue;
            };
            match self.round(stand, open) {
                Ok(errors) => {
                    stand.count_errors(errors);
                    stand.round(self.number, errors == 0);
                    std::thread::sleep(if errors == 0 { PAUSE } else { ERROR_PAUSE });
                    if self.random.below(ROUNDS_OF_A_CONNECTION) == 0 {
                        client = None;
                        stand.closed(self.number, None);
                    }
                }
                Err(Broken::Lost(error)) => {
                    let silent =
                        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    self.note(format!("the connection ended: {error}"));
                    let how = if silent { End::Silent } else { End::Closed };
                    stand.closed(self.number, Some(how));
                    client = None;
                }
                Err(Broken::Wrong(fault)) => {
                    return stand.found(Finding {
                        client: self.number,
                        fault,
                        exchanges: self.exchanges.into(),
                    });
                }
            }
        }
    }

    fn connect(&mut self, stand: &Stand) -> Option<Client> {
        let open = || -> io::Result<Connection> {
            let connection = Connection::open_within(self.pool, CONNECT_PATIENCE)?;
            connection.wait_at_most(PATIENCE)?;
            Ok(connection)
        };
        let opened = open().and_then(|connection| {
            let ends = Ends {
                client: connection.stream().local_addr()?,
                pool: self.pool,
            };
            Ok((connection, ends))
        });
        match opened {
            Ok((connection, ends)) => {
                self.note(format!("a connection from {}", ends.client));
                stand.opened(self.number, ends);
                Some(Client::over(self.dialect.kind, connection))
            }
            Err(error) => {
                self.note(format!("no connection: {error}"));
                stand.refused(self.number);
                std::thread::sleep(ERROR_PAUSE);
                None
            }
        }
    }

    /// Sends a pipeline and reads its replies; how many of them were errors.
    fn round(&mut self, stand: &Stand, client: &mut Client) -> Result<usize, Broken> {
        let requests = self.pipeline();
        let ages = stand.ages(self.dialect.kind);
        let servers = self.servers.clone();
        let sent: Vec<u64> = servers.iter().map(|server| ages.of(*server)).collect();
        let counter_sent = ages.of(self.counter_server);
        let mut bytes = Vec::new();
        for request in &requests {
            self.begin(request, stand.calms());
            bytes.extend(self.dialect.encode(request));
        }
        self.note(format!("sent {}", shown(&bytes)));
        stand.count_requests(requests.len());
        client.connection().send(&bytes)?;
        let mut errors = 0;
        for request in &requests {
            let answer = self.dialect.read(client, request)?;
            self.note(format!("got  {}", answer.shown()));
            let span = |slot: usize| Span {
                sent: sent[slot],
                now: ages.of(servers[slot]),
            };
            let counter_span = Span {
                sent: counter_sent,
                now: ages.of(self.counter_server),
            };
            errors += usize::from(answer == Answer::Failed);
            self.settle(request, answer, span, counter_span, stand.calms())
                .map_err(Broken::Wrong)?;
        }
        Ok(errors)
    }

    /// Requests in a random order. The last one reads all keys: what went wrong is to show at once.
    fn pipeline(&mut self) -> Vec<Request> {
        let mut requests = Vec::with_capacity(PIPELINE_MAX);
        if self.needs_counter {
            requests.push(Request::MakeCounter);
        }
        let mut counts = false;
        for _ in 1..PIPELINE_MAX - self.random.below(PIPELINE_MAX - 1) {
            let request = match self.random.below(6) {
                0 if !counts => {
                    counts = true;
                    Request::Count
                }
                1 => Request::WriteMany(
                    self.several()
                        .into_iter()
                        .map(|slot| self.write(slot))
                        .collect(),
                ),
                2 => Request::ReadMany(self.several()),
                3 => Request::Read(self.random.below(KEYS)),
                _ => {
                    let slot = self.random.below(KEYS);
                    let (slot, token) = self.write(slot);
                    Request::Write(slot, token)
                }
            };
            if self.dialect.has(&request) {
                requests.push(request);
            }
        }
        requests.push(Request::ReadMany((0..KEYS).collect()));
        requests
    }

    /// Some keys, each once.
    fn several(&mut self) -> Vec<usize> {
        let first = self.random.below(KEYS);
        (0..WRITE_MANY)
            .map(|step| (first + step * 5) % KEYS)
            .collect()
    }

    fn write(&mut self, slot: usize) -> (usize, u64) {
        self.next_token += 1;
        (slot, self.next_token)
    }

    /// A request is about to be sent.
    fn begin(&mut self, request: &Request, calms: u64) {
        match request {
            Request::Write(slot, token) => self.registers[*slot].writing(*token, calms),
            Request::WriteMany(pairs) => {
                for (slot, token) in pairs {
                    self.registers[*slot].writing(*token, calms);
                }
            }
            Request::Count => self.counter.counting(calms),
            Request::Read(_) | Request::ReadMany(_) | Request::MakeCounter => {}
        }
    }

    /// A reply has come. After an error everything stays in doubt.
    fn settle(
        &mut self,
        request: &Request,
        answer: Answer,
        span: impl Fn(usize) -> Span,
        counter_span: Span,
        calms: u64,
    ) -> Result<(), Fault> {
        match (request, answer) {
            (Request::Write(slot, token), Answer::Done) => {
                self.registers[*slot].written(*token, span(*slot));
            }
            (Request::WriteMany(pairs), Answer::Done) => {
                for (slot, token) in pairs {
                    self.registers[*slot].written(*token, span(*slot));
                }
            }
            (Request::Read(slot), Answer::Values(values)) => {
                self.settle_read(&[*slot], &values, &span, calms)?;
            }
            (Request::ReadMany(slots), Answer::Values(values)) => {
                self.settle_read(slots, &values, &span, calms)?;
            }
            (Request::Count, Answer::Count(count)) => self.counter.counted(count, counter_span)?,
            (Request::Count, Answer::NoCounter) => {
                self.needs_counter = true;
                self.counter.missing(counter_span)?;
            }
            (Request::MakeCounter, Answer::Done) => self.needs_counter = false,
            _ => {}
        }
        Ok(())
    }

    fn settle_read(
        &mut self,
        slots: &[usize],
        values: &[Option<Vec<u8>>],
        span: impl Fn(usize) -> Span,
        calms: u64,
    ) -> Result<(), Fault> {
        for (slot, found) in slots.iter().zip(values) {
            let key = &self.dialect.keys[*slot];
            let foreign =
                |found: &Vec<u8>| Fault::Wrong(format!("{key} has the value {}", shown(found)));
            let found = found
                .as_ref()
                .map(|found| token(key, found).ok_or_else(|| foreign(found)))
                .transpose()?;
            self.registers[*slot]
                .read(found, span(*slot), calms)
                .map_err(|fault| named(key, fault))?;
        }
        Ok(())
    }

    fn note(&mut self, what: String) {
        if self.exchanges.len() == KEPT {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(what);
    }
}

fn named(key: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Wrong(what) => Fault::Wrong(format!("{key}: {what}")),
        Fault::Lost(what) => Fault::Lost(format!("{key}: {what}")),
    }
}

fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(SHOWN_BYTES);
    let more = if end < bytes.len() { "…" } else { "" };
    format!(
        "{}{more} ({} bytes)",
        bytes[..end].escape_ascii(),
        bytes.len()
    )
}
