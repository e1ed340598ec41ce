//! Epoll between the loop and the streams.

use crate::capture::Tap;
use crate::network::{Network, NetworkChange};
use crate::sockets::accept::{Acceptor, Full, LISTENER_WORDS};
use crate::sockets::descriptors::{self, Descriptors};
use crate::sockets::endpoint::Endpoint;
use crate::sockets::limits::{EVENTS, GATHER_EVENTS_MIN, GATHER_TURNS_MAX, SLOTS_MAX};
use crate::sockets::listen::Listening;
use crate::sockets::table::SocketStreams;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tidegate_channel::counters::{SocketCounters, StackCounters};
use tidegate_channel::statistics::StatisticsWriter;
use tidegate_config::AckMode;
use tidegate_port::doorbell::Doorbell;
use tidegate_proxy::Change;

/// The bell's word in epoll.
const BELL_WORD: u32 = u32::MAX;

/// Everything that the sockets of a worker are told at start.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Client connections: so many, or as many as the process has descriptors for.
    pub client_slots: usize,
    /// Bytes of the receive and of the send buffer of each client connection (each).
    pub client_buffer_bytes: usize,
    /// Server connections.
    pub server_slots: usize,
    /// Those of them that servers need all the time.
    pub servers_needed: usize,
    /// Bytes of the receive and of the send buffer of each server connection (each).
    pub server_buffer_bytes: usize,
    /// Where servers are; the position is the `ServerId`.
    pub servers: Vec<Endpoint>,
    /// Source address towards servers of its family; `None`: what the kernel chooses.
    pub source_address: Option<IpAddr>,
    /// When to acknowledge.
    pub ack: AckMode,
    /// Whether the loop never sleeps: then every look asks the kernel.
    pub spin: bool,
}

/// The clients for which this process has descriptors at once.
fn clients_with_descriptors(config: &SocketConfig, listeners: usize) -> usize {
    let descriptors = Descriptors {
        limit: descriptors::limit(),
        own: descriptors::own(listeners),
        servers_needed: config.servers_needed as u64,
        servers_max: config.server_slots as u64,
    };
    usize::try_from(descriptors.clients()).unwrap_or(usize::MAX)
}

/// The kernel's sockets below a proxy.
pub struct SocketNetwork {
    pub(crate) streams: SocketStreams,
    pub(crate) acceptor: Acceptor,
    /// Taken from the kernel, not yet dealt with: the word of each, and what it says.
    pub(crate) events: Vec<(u64, EventFlags)>,
    /// The kernel was asked since the last [`Network::receive`].
    looked: bool,
    /// Events that the last look took.
    taken: usize,
    /// Turns for which requests to servers have waited.
    gathered: u32,
    pub(crate) spin: bool,
    /// Epoll forgets a descriptor that is closed: this one stays.
    _bell: Doorbell,
}

impl SocketNetwork {
    /// Listens on `listeners`, whose positions are the `ListenerId`s, and wakes for `bell`. This is the only call that allocates.
    pub fn new(
        config: &SocketConfig,
        listeners: Vec<Listening>,
        bell: Doorbell,
    ) -> std::io::Result<Self> {
        let slots = config.client_slots.saturating_add(config.server_slots);
        if slots > SLOTS_MAX {
            return Err(std::io::Error::other(format!(
                "clients_max and server_connections_max ask for {slots} connections in one worker, the most is {SLOTS_MAX}: lower them or add workers"
            )));
        }
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Edge-triggered: every ring is one event, and nobody has to silence the bell.
        let word = EventData::new_u64(u64::from(BELL_WORD));
        epoll::add(&epoll, &bell, word, EventFlags::IN | EventFlags::ET)?;
        let client_slots = clients_with_descriptors(config, listeners.len());
        let sockets = SocketConfig {
            client_slots: config.client_slots.min(client_slots),
            ..config.clone()
        };
        let streams = SocketStreams::new(&sockets, epoll);
        let full = if client_slots < config.client_slots {
            Full::Descriptors
        } else {
            Full::Slots
        };
        let acceptor = Acceptor::new(listeners, full, &streams)?;
        Ok(Self {
            streams,
            acceptor,
            events: Vec::with_capacity(EVENTS),
            looked: false,
            taken: 0,
            gathered: 0,
            spin: config.spin,
            _bell: bell,
        })
    }

    /// What the sockets counted so far.
    pub fn socket_counters(&self) -> SocketCounters {
        self.streams.counters
    }

    /// Asks the kernel for events, for at most `timeout_us`.
    fn look(&mut self, timeout_us: u64) {
        self.looked = true;
        self.events.clear();
        // Milliseconds, rounded up, are what every kernel has a call for; no timer here is finer.
        let timeout_ms = timeout_us.div_ceil(1_000);
        let timeout = Timespec {
            tv_sec: (timeout_ms / 1_000) as i64,
            tv_nsec: (timeout_ms % 1_000 * 1_000_000) as i64,
        };
        let mut space = [MaybeUninit::uninit(); EVENTS];
        self.streams.counters.waits += 1;
        // A failed wait (EINTR) is a short one.
        self.taken = 0;
        if let Ok((events, _)) = epoll::wait(&self.streams.epoll, &mut space, Some(&timeout)) {
            self.taken = events.len();
            self.streams.counters.events += self.taken as u64;
            let taken = events.iter().map(|event| (event.data.u64(), event.flags));
            self.events.extend(taken);
        }
    }

    /// Whether requests to servers wait for those of other clients, which are there already: a call per server then carries the
    /// requests of several turns. Never waits for anything, and asks only where others are likely to be there.
    fn gathers(&mut self) -> bool {
        if self.taken < GATHER_EVENTS_MIN || self.gathered == GATHER_TURNS_MAX {
            return false;
        }
        self.gathered += 1;
        self.look(0);
        !self.events.is_empty()
    }

    fn on_event(&mut self, word: u64, flags: EventFlags) {
        let (generation, number) = ((word >> 32) as u32, word as u32);
        match number {
            BELL_WORD => {}
            LISTENER_WORDS.. => {
                let index = (number - LISTENER_WORDS) as usize;
                self.acceptor.on_event(index, &mut self.streams);
            }
            slot => self.streams.on_event(slot, generation, flags),
        }
    }
}

impl Network for SocketNetwork {
    type Streams = SocketStreams;

    const LINGERS: bool = false;
    const LOOKS_ARE_FREE: bool = false;

    #[inline]
    fn streams(&mut self) -> &mut SocketStreams {
        &mut self.streams
    }

    #[inline]
    fn waiting(&mut self) -> usize {
        if self.spin && self.events.is_empty() {
            self.look(0);
        }
        self.events.len() + self.streams.unread.len()
    }

    #[inline]
    fn has_news(&mut self) -> bool {
        false
    }

    fn tick(&mut self, now_us: u64) {
        self.streams.tick(now_us);
        self.acceptor.resume(&mut self.streams);
    }

    fn receive(&mut self) {
        // A turn that did not begin with a wait: others must not starve while one stream is always busy.
        if !self.looked {
            self.look(0);
        }
        self.looked = false;
        for index in 0..self.events.len() {
            let (word, flags) = self.events[index];
            self.on_event(word, flags);
        }
        self.events.clear();
        self.streams.read_unread();
    }

    fn send(&mut self) -> bool {
        let for_servers = self.streams.send_to_clients();
        self.streams.acknowledge_read();
        if for_servers && self.gathers() {
            return true;
        }
        self.gathered = 0;
        self.streams.send_to_all();
        self.streams.acknowledge_read();
        self.acceptor.resume(&mut self.streams);
        !(self.streams.unread.is_empty()
            && self.streams.ready.is_empty()
            && self.streams.dirty.is_empty())
    }

    fn next_timer_us(&self) -> Option<u64> {
        let timers = [self.streams.next_timer_us(), self.acceptor.next_timer_us()];
        timers.into_iter().flatten().min()
    }

    fn can_wait(&self) -> bool {
        true
    }

    /// Epoll remembers what arrives, rings of the bell included.
    fn prepare_to_wait(&mut self, _bell: &Doorbell) -> bool {
        true
    }

    /// The bell is in the epoll.
    fn wait(&mut self, _bell: BorrowedFd<'_>, timeout_us: u64, nap_us: u64) {
        let nap_us = nap_us.min(timeout_us);
        if nap_us > 0 {
            std::thread::sleep(Duration::from_micros(nap_us));
            self.look(0);
            if !self.events.is_empty() {
                return;
            }
        }
        self.look(timeout_us - nap_us);
    }

    fn stop_accepting(&mut self) {
        self.acceptor.stop(&self.streams);
    }

    fn take_up(&mut self, proxy: &Change, change: &mut NetworkChange) {
        if let NetworkChange::Sockets(change) = change {
            self.take_up(proxy, change);
        }
    }

    fn counters(&self) -> StackCounters {
        self.streams.stack_counters()
    }

    fn tap(&mut self, tap: Option<Box<Tap>>) -> Option<Box<Tap>> {
        tap
    }

    fn tapped(&self, _now_us: u64) -> Option<(u64, bool)> {
        None
    }

    fn publish(&mut self, writer: &StatisticsWriter) {
        writer.write_stack(&self.streams.stack_counters());
        writer.write_sockets(&self.streams.counters);
    }
}
