//! Clients in, as long as there is place for them.

use crate::sockets::limits::{ACCEPT_RETRY_US, ACCEPTS_PER_TURN};
use crate::sockets::listen::Listening;
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
    /// Out of descriptors or memory, until one is closed or this time comes.
    Descriptors { retry_us: u64 },
}

/// The listeners of a worker.
pub(crate) struct Acceptor {
    /// In the order of their numbers.
    listeners: Vec<Listening>,
    pause: Pause,
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
    pub(crate) fn new(listeners: Vec<Listening>, streams: &SocketStreams) -> Result<Self, Errno> {
        let acceptor = Self {
            listeners,
            pause: Pause::None,
        };
        acceptor.register(streams)?;
        Ok(acceptor)
    }

    /// Of a shared listener only one sleeping worker is woken.
    fn register(&self, streams: &SocketStreams) -> Result<(), Errno> {
        for (index, listener) in self.listeners.iter().enumerate() {
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
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        if self.pause != Pause::None {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if streams.free_clients.is_empty() {
                streams.counters.accepts_paused_slots += 1;
                return self.pause(Pause::Slots, streams);
            }
            match accept(listener, index, streams) {
                Accepted::Client => {}
                Accepted::Lost => streams.counters.accept_errors += 1,
                Accepted::Nobody => return,
                Accepted::OutOfDescriptors => {
                    streams.counters.accepts_paused_descriptors += 1;
                    // A descriptor that was given back on the way here is no reason to hope.
                    streams.descriptor_freed = false;
                    let retry_us = streams.now_us + ACCEPT_RETRY_US;
                    return self.pause(Pause::Descriptors { retry_us }, streams);
                }
            }
        }
    }

    /// Epoll would report the waiting clients again and again.
    fn pause(&mut self, pause: Pause, streams: &SocketStreams) {
        self.pause = pause;
        for listener in &self.listeners {
            // It may not be registered, if registering failed before.
            let _removed = epoll::delete(&streams.epoll, &listener.socket);
        }
    }

    /// Listens again, if what was missing is there.
    pub(crate) fn resume(&mut self, streams: &mut SocketStreams) {
        let freed = std::mem::take(&mut streams.descriptor_freed);
        let go_on = match self.pause {
            Pause::None => false,
            Pause::Slots => !streams.free_clients.is_empty(),
            Pause::Descriptors { retry_us } => freed || streams.now_us >= retry_us,
        };
        if !go_on {
            return;
        }
        self.pause = Pause::None;
        if self.register(streams).is_err() {
            let retry_us = streams.now_us + ACCEPT_RETRY_US;
            self.pause(Pause::Descriptors { retry_us }, streams);
        }
    }

    /// Closes the listeners. Those of a worker alone take along who waits in their backlogs; of shared ones somebody else accepts.
    pub(crate) fn stop(&mut self, streams: &SocketStreams) {
        self.pause(Pause::None, streams);
        self.listeners.clear();
    }

    pub(crate) fn next_timer_us(&self) -> Option<u64> {
        match self.pause {
            Pause::Descriptors { retry_us } => Some(retry_us),
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
