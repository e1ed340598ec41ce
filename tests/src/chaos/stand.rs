//! What the clients of a run share with whoever disturbs: addresses, what servers lost, counters, and the first fault.

use super::oracle::{Ages, Fault};
use crate::lab::servers::ServerKind;
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the clients are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask.
    Ask,
    /// Close the connection and wait.
    Rest,
    /// End.
    End,
}

/// A connection of a client, by its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// The client's.
    pub client: SocketAddr,
    /// The pool's.
    pub pool: SocketAddr,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the other side.
    Closed,
    /// Nothing came for as long as the client waits.
    Silent,
}

/// The first reply that was wrong, and what came before it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Who saw it.
    pub client: usize,
    /// What it was.
    pub fault: Fault,
    /// The last requests and replies of that connection, oldest first.
    pub exchanges: Vec<String>,
}

/// Counters of all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were sent.
    pub requests: u64,
    /// Replies that were errors.
    pub errors: u64,
    /// Connections that were not to be had.
    pub refused: u64,
}

/// State of one client.
#[derive(Debug, Default)]
struct Seat {
    open: Option<Ends>,
    resting: bool,
    /// Rounds without any error, one after the other.
    clean_rounds: u32,
}

#[derive(Debug)]
struct Room {
    order: Order,
    seats: Vec<Seat>,
    ended: Vec<(Ends, End)>,
    finding: Option<Finding>,
}

/// The shared state.
#[derive(Debug)]
pub struct Stand {
    /// Who listens where.
    pub plan: Plan,
    memcached: Ages,
    redis: Ages,
    /// The server of every key.
    placing: Mutex<BTreeMap<String, usize>>,
    calms: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    refused: AtomicU64,
    room: Mutex<Room>,
    changed: Condvar,
}

impl Stand {
    /// For `clients` clients of pools with so many servers each. They rest until they are told to ask.
    pub fn new(plan: Plan, clients: usize, servers: usize) -> Self {
        Self {
            plan,
            memcached: Ages::new(servers),
            redis: Ages::new(servers),
            placing: Mutex::default(),
            calms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            room: Mutex::new(Room {
                order: Order::Rest,
                seats: (0..clients).map(|_| Seat::default()).collect(),
                ended: Vec::new(),
                finding: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// The ages of the servers of a kind.
    pub fn ages(&self, kind: ServerKind) -> &Ages {
        match kind {
            ServerKind::Memcached => &self.memcached,
            ServerKind::Redis => &self.redis,
        }
    }

    /// Notes that `key` lies on `server`.
    pub fn place(&self, key: String, server: usize) {
        self.placed().insert(key, server);
    }

    /// The server of `key`, which was placed.
    pub fn server_of(&self, key: &str) -> usize {
        self.placed()[key]
    }

    fn placed(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often everything has been calm.
    pub fn calms(&self) -> u64 {
        self.calms.load(Ordering::SeqCst)
    }

    /// The counters.
    pub fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Ordering::SeqCst),
            errors: self.errors.load(Ordering::SeqCst),
            refused: self.refused.load(Ordering::SeqCst),
        }
    }

    /// A client sent so many requests.
    pub fn count_requests(&self, count: usize) {
        self.requests.fetch_add(count as u64, Ordering::SeqCst);
    }

    /// A client got so many errors.
    pub fn count_errors(&self, count: usize) {
        self.errors.fetch_add(count as u64, Ordering::SeqCst);
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to do; a client that has to rest waits here.
    pub fn next_order(&self, client: usize) -> Order {
        let mut room = self.room();
        while room.order == Order::Rest {
            if !room.seats[client].resting {
                room.seats[client].resting = true;
                self.changed.notify_all();
            }
            room = self
                .changed
                .wait(room)
                .unwrap_or_else(PoisonError::into_inner);
        }
        room.seats[client].resting = false;
        room.order
    }

    /// The order of the moment.
    pub fn order(&self) -> Order {
        self.room().order
    }

    /// Tells all clients what to do.
    pub fn give(&self, order: Order) {
        self.room().order = order;
        self.changed.notify_all();
    }

    /// Tells all clients to rest and waits until they do. False if one of them does not within `patience`.
    pub fn rest(&self, patience: Duration) -> bool {
        self.give(Order::Rest);
        self.wait_until(patience, |room| room.seats.iter().all(|seat| seat.resting))
    }

    /// Waits until every client had `rounds` rounds without an error, from now on. Then it has been calm once more. Otherwise the
    /// clients that have not.
    pub fn wait_for_calm(&self, rounds: u32, patience: Duration) -> Result<(), Vec<usize>> {
        for seat in &mut self.room().seats {
            seat.clean_rounds = 0;
        }
        let calm = |seat: &Seat| seat.clean_rounds >= rounds;
        self.wait_until(patience, |room| {
            room.finding.is_some() || room.seats.iter().all(calm)
        });
        let room = self.room();
        let restless: Vec<usize> = (0..room.seats.len())
            .filter(|client| !calm(&room.seats[*client]))
            .collect();
        if restless.is_empty() {
            self.calms.fetch_add(1, Ordering::SeqCst);
            Ok(())
        } else {
            Err(restless)
        }
    }

    fn wait_until(&self, patience: Duration, holds: impl Fn(&Room) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut room = self.room();
        while !holds(&room) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            room = self
                .changed
                .wait_timeout(room, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// A client had a round, without an error or with some.
    pub fn round(&self, client: usize, clean: bool) {
        let mut room = self.room();
        let seat = &mut room.seats[client];
        seat.clean_rounds = if clean { seat.clean_rounds + 1 } else { 0 };
        drop(room);
        self.changed.notify_all();
    }

    /// A client has a connection.
    pub fn opened(&self, client: usize, ends: Ends) {
        self.room().seats[client].open = Some(ends);
    }

    /// A client got no connection.
    pub fn refused(&self, client: usize) {
        self.refused.fetch_add(1, Ordering::SeqCst);
        self.round(client, false);
    }

    /// A client's connection is no more, because it closed it or in another way.
    pub fn closed(&self, client: usize, how: Option<End>) {
        let mut room = self.room();
        if let (Some(ends), Some(how)) = (room.seats[client].open.take(), how) {
            room.ended.push((ends, how));
            room.seats[client].clean_rounds = 0;
        }
    }

    /// The connections that are open.
    pub fn open_connections(&self) -> Vec<Ends> {
        self.room()
            .seats
            .iter()
            .filter_map(|seat| seat.open)
            .collect()
    }

    /// The connections that ended since this was asked last.
    pub fn take_ended(&self) -> Vec<(Ends, End)> {
        std::mem::take(&mut self.room().ended)
    }

    /// A client saw something wrong. The first to say so is remembered; all are told to end.
    pub fn found(&self, finding: Finding) {
        let mut room = self.room();
        room.finding.get_or_insert(finding);
        room.order = Order::End;
        drop(room);
        self.changed.notify_all();
    }

    /// What was found.
    pub fn finding(&self) -> Option<Finding> {
        self.room().finding.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_is_when_every_client_had_rounds_without_errors() {
        let stand = Stand::new(Plan::Lab, 2, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while stand.calms() == 0 {
                    stand.round(0, true);
                    stand.round(1, true);
                }
            });
            assert_eq!(stand.wait_for_calm(2, Duration::from_mins(1)), Ok(()));
        });
        assert_eq!(stand.wait_for_calm(1, Duration::ZERO), Err(vec![0, 1]));
    }

    #[test]
    fn only_what_the_other_side_ended_is_counted_as_ended() {
        let stand = Stand::new(Plan::Lab, 1, 1);
        let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ends = Ends {
            client: end(1),
            pool: end(2),
        };
        stand.opened(0, ends);
        stand.closed(0, None);
        stand.closed(0, Some(End::Closed));
        assert!(stand.take_ended().is_empty());
        stand.opened(0, ends);
        assert_eq!(stand.open_connections(), [ends]);
        stand.closed(0, Some(End::Closed));
        assert_eq!(stand.take_ended(), [(ends, End::Closed)]);
        assert!(stand.take_ended().is_empty());
    }

    #[test]
    fn the_first_finding_ends_the_run() {
        let stand = Stand::new(Plan::Lab, 1, 1);
        for client in [3, 4] {
            stand.found(Finding {
                client,
                fault: Fault::Wrong("x".to_owned()),
                exchanges: Vec::new(),
            });
        }
        assert_eq!(stand.finding().map(|finding| finding.client), Some(3));
        assert_eq!(stand.order(), Order::End);
    }
}
