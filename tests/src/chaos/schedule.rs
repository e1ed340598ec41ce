//! What is disturbed, in which order: the same seed gives the same.

use crate::random::Random;

/// What a disturbance may cost the connections of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// None of them ends.
    None,
    /// Only those of the worker that dies.
    OfTheWorker,
    /// All may end, each when it is owed nothing.
    All,
}

macro_rules! kinds {
    ($($(#[doc = $what:literal])+ $kind:ident: $name:literal, errors $errors:literal, ends $ends:ident;)*) => {
        /// A way to disturb.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[doc = $what])+ $kind,)*
        }

        impl Kind {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name in the table and on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// What is done.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!($($what),+).trim_ascii_start(),)*
                }
            }

            /// Whether requests may get an error in place of their reply.
            pub fn allows_errors(self) -> bool {
                match self {
                    $(Self::$kind => $errors,)*
                }
            }

            /// Which connections of clients may end.
            pub fn allows_ends(self) -> Ends {
                match self {
                    $(Self::$kind => Ends::$ends,)*
                }
            }
        }
    };
}

kinds! {
    /// A worker is killed
    WorkerKill: "worker-kill", errors false, ends OfTheWorker;
    /// A worker is stopped until its manager kills it
    WorkerHang: "worker-hang", errors false, ends OfTheWorker;
    /// A worker is stopped for a moment and goes on
    WorkerPause: "worker-pause", errors true, ends None;
    /// The manager is killed and started again
    ManagerKill: "manager-kill", errors false, ends None;
    /// The manager is stopped for a moment and goes on
    ManagerPause: "manager-pause", errors false, ends None;
    /// A Redis server is killed and started again, empty
    RedisKill: "redis-kill", errors true, ends None;
    /// A memcached server is killed and started again, empty
    MemcachedKill: "memcached-kill", errors true, ends None;
    /// A server is stopped for a moment and goes on
    ServerPause: "server-pause", errors true, ends None;
    /// A Redis server has no memory left for writes
    RedisFull: "redis-full", errors true, ends None;
    /// A memcached server has little memory and evicts what it had
    MemcachedFull: "memcached-full", errors true, ends None;
    /// The link to the clients goes down and comes up
    ClientLink: "client-link", errors true, ends None;
    /// The link to the servers goes down and comes up
    ServerLink: "server-link", errors true, ends None;
    /// All hosts forget their neighbours
    NeighbourFlush: "neighbour-flush", errors true, ends None;
    /// The server host gets another link address
    NewAddress: "new-address", errors true, ends None;
    /// Clients and servers take smaller packets for a moment
    SmallPackets: "small-packets", errors true, ends None;
    /// A share of all frames is lost on both links
    Loss: "loss", errors true, ends None;
    /// Single settings change
    Set: "set", errors false, ends None;
    /// The file changes, a pool comes and goes
    Reload: "reload", errors false, ends None;
    /// The file changes such that all workers are replaced
    Replace: "replace", errors false, ends All;
}

impl Kind {
    /// Whether it needs connections on every worker to show anything.
    pub fn hits_a_worker(self) -> bool {
        matches!(
            self,
            Self::WorkerKill | Self::WorkerHang | Self::WorkerPause
        )
    }

    /// Whether nothing else may be done to the manager at the same time.
    fn needs_the_manager(self) -> bool {
        matches!(
            self,
            Self::WorkerHang
                | Self::ManagerKill
                | Self::ManagerPause
                | Self::Set
                | Self::Reload
                | Self::Replace
        )
    }
}

/// One disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What is done.
    pub kind: Kind,
    /// Chooses the worker or server that is hit.
    pub target: usize,
    /// How long it lasts, where it lasts, in milliseconds.
    pub length_ms: u64,
    /// Frames lost of a hundred, where some are.
    pub percent: u32,
    /// A setting is changed meanwhile.
    pub with_set: bool,
}

/// Events without end. Every kind comes once before any comes again.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Schedule {
    /// The schedule of `seed` over `kinds`, which are not empty.
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        Self {
            random: Random::new(seed),
            kinds: kinds.to_vec(),
            left: Vec::new(),
        }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Event {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
        }
        let kind = self.left.swap_remove(self.random.below(self.left.len()));
        Event {
            kind,
            target: self.random.below(1 << 16),
            // Short enough for TCP to bear it, long enough for its timers to notice.
            length_ms: 200 + self.random.below(1_000) as u64,
            percent: 1 + self.random.below(10) as u32,
            with_set: self.random.below(4) == 0 && !kind.needs_the_manager(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::named;

    #[test]
    fn the_same_seed_gives_the_same_events() {
        let events = |seed| {
            let mut schedule = Schedule::new(seed, Kind::ALL);
            (0..100).map(|_| schedule.next_event()).collect::<Vec<_>>()
        };
        assert_eq!(events(7), events(7));
        assert_ne!(events(7), events(8));
    }

    #[test]
    fn every_kind_comes_once_in_each_round() {
        let mut schedule = Schedule::new(1, Kind::ALL);
        for _ in 0..5 {
            let mut round: Vec<Kind> = Kind::ALL
                .iter()
                .map(|_| schedule.next_event().kind)
                .collect();
            round.sort_unstable();
            assert_eq!(round, Kind::ALL);
        }
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        for kind in Kind::ALL {
            assert_eq!(named(Kind::ALL, Kind::name, kind.name()), Ok(*kind));
        }
        assert!(named(Kind::ALL, Kind::name, "earthquake").is_err());
    }
}
