//! Clients in, as long as there is place for them.

use crate::sockets::limits::{ACCEPT_RETRY_US, ACCEPTS_PER_TURN};
use crate::sockets::listen::{self, Listening, set_tcp_options};
use crate::sockets::reconfigure::NewDoor;
use crate::sockets::table::SocketStreams;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};
use std::net::SocketAddr;

/// The words of listeners in epoll begin here, above every slot.
pub(crate) const LISTENER_WORDS: u32 = 1 << 31;

/// Why listeners are not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// They are.
    None,
    /// Every client slot is taken.
    Slots,
    /// Out of descriptors or memory, until one is closed or this time comes. `held`: one was closed, and a server may need it,
    /// so only until this time comes.
    Descriptors { retry_us: u64, held: bool },
}

/// What it means that every client slot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// These are all that were asked for.
    Slots,
    /// Other descriptors are held back for servers.
    Descriptors,
}

/// The listeners of a worker.
pub(crate) struct Acceptor {
    /// In the order of their numbers.
    doors: Vec<Door>,
    full: Full,
    pause: Pause,
    /// No client was accepted since descriptors ran out: a pause that is tried again and again counts once.
    starved: bool,
}

/// What [`Acceptor::exchange`] takes, with room for what it leaves.
pub(crate) struct Exchange {
    /// The new listeners, in the order of their numbers.
    pub(crate) new: Vec<NewDoor>,
    doors: Vec<Door>,
    old: Vec<Option<Door>>,
}

impl Exchange {
    /// `before`: how many listeners there are.
    pub(crate) fn new(new: Vec<NewDoor>, before: usize) -> Self {
        Self {
            doors: Vec::with_capacity(new.len()),
            new,
            old: Vec::with_capacity(before),
        }
    }
}

/// A listener, and how many clients are likely to wait there.
struct Door {
    listening: Listening,
    /// Clients to accept at its next event.
    batch: usize,
    /// The look that showed its last event.
    look: u64,
}

impl Door {
    fn new(listening: Listening) -> Self {
        Self {
            listening,
            batch: 1,
            look: u64::MAX,
        }
    }

    /// How many to accept now. Epoll reports a listener again while clients wait there, so one that was reported by the look
    /// before, too, has several; a single one is not worth a call that finds nobody.
    fn next_batch(&mut self, look: u64) -> usize {
        self.batch = if look.checked_sub(1) == Some(self.look) {
            (2 * self.batch).min(ACCEPTS_PER_TURN)
        } else {
            1
        };
        self.look = look;
        self.batch
    }
}

/// What came of one attempt to accept.
enum Accepted {
    Client,
    Lost,
    Nobody,
    OutOfDescriptors,
}

impl Acceptor {
    /// Listens.
    pub(crate) fn new(
        listeners: Vec<Listening>,
        full: Full,
        streams: &SocketStreams,
    ) -> Result<Self, Errno> {
        let acceptor = Self {
            doors: listeners.into_iter().map(Door::new).collect(),
            full,
            pause: Pause::None,
            starved: false,
        };
        acceptor.register(streams)?;
        Ok(acceptor)
    }

    /// Of a shared listener only one sleeping worker is woken.
    fn register(&self, streams: &SocketStreams) -> Result<(), Errno> {
        for (index, door) in self.doors.iter().enumerate() {
            let listener = &door.listening;
            let flags = if listener.shared {
                EventFlags::IN | EventFlags::EXCLUSIVE
            } else {
                EventFlags::IN
            };
            let word = EventData::new_u64(u64::from(LISTENER_WORDS | index as u32));
            match epoll::add(&streams.epoll, &listener.socket, word, flags) {
                // An attempt before this one got that far.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A listener has clients.
    pub(crate) fn on_event(&mut self, index: usize, streams: &mut SocketStreams) {
        let Some(door) = self.doors.get_mut(index) else {
            return;
        };
        if self.pause != Pause::None {
            return;
        }
        for _ in 0..door.next_batch(streams.counters.waits) {
            match accept(&door.listening, index, streams) {
                // At once, not when the next one comes: of those who sleep at a shared listener that one would wake only us.
                Accepted::Client if streams.free_clients.is_empty() => return self.fill(streams),
                Accepted::Client => self.starved = false,
                Accepted::Lost => streams.counters.accept_errors += 1,
                Accepted::Nobody => {
                    door.batch = 1;
                    return;
                }
                Accepted::OutOfDescriptors => {
                    // A descriptor that was given back on the way here is no reason to hope.
                    streams.descriptor_freed = false;
                    return self.starve(streams);
                }
            }
        }
    }

    /// Takes no clients until one leaves.
    fn fill(&mut self, streams: &mut SocketStreams) {
        self.starved = false;
        match self.full {
            Full::Slots => streams.counters.accepts_paused_slots += 1,
            Full::Descriptors => streams.counters.accepts_paused_descriptors += 1,
        }
        self.pause(Pause::Slots, streams);
    }

    /// Takes no clients until the kernel may have a descriptor.
    fn starve(&mut self, streams: &mut SocketStreams) {
        if !self.starved {
            streams.counters.accepts_paused_descriptors += 1;
        }
        self.starved = true;
        let retry_us = streams.now_us + ACCEPT_RETRY_US;
        let held = false;
        self.pause(Pause::Descriptors { retry_us, held }, streams);
    }

    /// Epoll would report the waiting clients again and again.
    fn pause(&mut self, pause: Pause, streams: &SocketStreams) {
        self.pause = pause;
        for door in &self.doors {
            // It may not be registered, if registering failed before.
            let _removed = epoll::delete(&streams.epoll, &door.listening.socket);
        }
    }

    /// Listens again, if what was missing is there.
    pub(crate) fn resume(&mut self, streams: &mut SocketStreams) {
        let freed = std::mem::take(&mut streams.descriptor_freed);
        let go_on = match self.pause {
            Pause::None => false,
            Pause::Slots => !streams.free_clients.is_empty(),
            Pause::Descriptors { held: false, .. } if freed && streams.servers_first => {
                let retry_us = streams.now_us + ACCEPT_RETRY_US;
                let held = true;
                self.pause = Pause::Descriptors { retry_us, held };
                false
            }
            Pause::Descriptors { retry_us, held } => (freed && !held) || streams.now_us >= retry_us,
        };
        if !go_on {
            return;
        }
        // It had its time.
        streams.servers_first = false;
        self.pause = Pause::None;
        if self.register(streams).is_err() {
            self.starve(streams);
        }
    }

    /// Takes other listeners in the place of these, some of which may be among them. Those that are not are left in `exchange`.
    pub(crate) fn exchange(&mut self, exchange: &mut Exchange, streams: &mut SocketStreams) {
        let pause = self.pause;
        self.pause(Pause::None, streams);
        let Exchange { new, doors, old } = exchange;
        std::mem::swap(&mut self.doors, doors);
        old.extend(doors.drain(..).map(Some));
        for door in new.drain(..) {
            let door = match door {
                NewDoor::Stays(place, changed) => {
                    let door = old.get_mut(place).and_then(Option::take);
                    if let (Some(door), Some((backlog, keepalive_s))) = (&door, changed) {
                        let socket = &door.listening.socket;
                        // A failure leaves what was; it would be a mistake of ours.
                        let _ = listen::begin(socket, backlog);
                        let _ = set_tcp_options(socket, keepalive_s.map(u64::from));
                    }
                    door
                }
                NewDoor::Opened(listening) => listening.map(Door::new),
            };
            // Numbers follow the configuration, so an empty place would move all behind it.
            debug_assert!(door.is_some(), "every listener is there");
            self.doors.extend(door);
        }
        self.pause = pause;
        if pause == Pause::None && self.register(streams).is_err() {
            self.starve(streams);
        }
    }

    /// Closes the listeners. Those of a worker alone take along who waits in their backlogs; of shared ones somebody else accepts.
    pub(crate) fn stop(&mut self, streams: &SocketStreams) {
        self.pause(Pause::None, streams);
        self.doors.clear();
    }

    pub(crate) fn next_timer_us(&self) -> Option<u64> {
        match self.pause {
            Pause::Descriptors { retry_us, .. } => Some(retry_us),
            Pause::None | Pause::Slots => None,
        }
    }
}

fn accept(listener: &Listening, index: usize, streams: &mut SocketStreams) -> Accepted {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match net::acceptfrom_with(&listener.socket, flags) {
        Ok((socket, peer)) => {
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            if streams.open_client(socket, index as u16, peer) {
                Accepted::Client
            } else {
                Accepted::OutOfDescriptors
            }
        }
        Err(Errno::AGAIN) => Accepted::Nobody,
        Err(error) if is_transient(error) => Accepted::Lost,
        // The others (MFILE, NFILE, NOBUFS, NOMEM) last: whatever it is, no busy loop.
        Err(_) => Accepted::OutOfDescriptors,
    }
}

/// accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code from accept()." They
/// concern one client.
fn is_transient(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
            | Errno::PERM
    )
}
