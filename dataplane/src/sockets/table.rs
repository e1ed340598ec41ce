//! All connections of a worker: slots, buffers, lists, and how a slot comes and goes.

use crate::sockets::connect::Outgoing;
use crate::sockets::deadlines::Deadlines;
use crate::sockets::endpoint::Endpoint;
use crate::sockets::limits::{CLOSE_US, CONNECT_US};
use crate::sockets::marked::Marked;
use crate::sockets::network::SocketConfig;
use crate::sockets::slot::{Owner, Role, Slot};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tidegate_channel::counters::{SocketCounters, StackCounters};
use tidegate_config::AckMode;
use tidegate_proxy::streams::CloseReason;

/// The streams of one worker over kernel sockets.
pub struct SocketStreams {
    pub(crate) epoll: OwnedFd,
    pub(crate) now_us: u64,
    /// Slots below this are clients'.
    pub(crate) clients: u32,
    pub(crate) slots: Box<[Slot]>,
    /// The two rings of every slot. Never written before use, so the kernel backs only what is used.
    pub(crate) memory: Box<[u8]>,
    pub(crate) client_buffer_bytes: usize,
    pub(crate) server_buffer_bytes: usize,
    pub(crate) free_clients: Vec<u32>,
    pub(crate) free_servers: Vec<u32>,
    /// Streams that the proxy has to look at.
    pub(crate) ready: VecDeque<u32>,
    /// Streams that the next pass of sending looks at.
    pub(crate) dirty: Marked,
    /// Streams with room for bytes that the kernel may have.
    pub(crate) unread: Marked,
    /// Streams that were read and may have to be acknowledged.
    pub(crate) read: Marked,
    pub(crate) connecting: Deadlines,
    pub(crate) closing: Deadlines,
    pub(crate) servers: Vec<Endpoint>,
    pub(crate) outgoing: Outgoing,
    pub(crate) ack: AckMode,
    /// A descriptor was closed since the last look.
    pub(crate) descriptor_freed: bool,
    /// A server connection was closed, or not opened for want of a descriptor; none was opened and no accept tried again since.
    pub(crate) servers_first: bool,
    pub(crate) counters: SocketCounters,
    pub(crate) stack: StackCounters,
}

fn interest(room: bool) -> EventFlags {
    let always = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    if room {
        always | EventFlags::OUT
    } else {
        always
    }
}

/// The word that epoll keeps for a connection.
pub(crate) fn word(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

impl SocketStreams {
    pub(crate) fn new(config: &SocketConfig, epoll: OwnedFd) -> Self {
        let slots = config.client_slots + config.server_slots;
        let memory = 2 * config.client_slots * config.client_buffer_bytes
            + 2 * config.server_slots * config.server_buffer_bytes;
        let clients = config.client_slots as u32;
        Self {
            epoll,
            now_us: 0,
            clients,
            slots: (0..slots).map(|_| Slot::free()).collect(),
            memory: vec![0; memory].into_boxed_slice(),
            client_buffer_bytes: config.client_buffer_bytes,
            server_buffer_bytes: config.server_buffer_bytes,
            // The last one is taken first: start with the lowest.
            free_clients: (0..clients).rev().collect(),
            free_servers: (clients..slots as u32).rev().collect(),
            ready: VecDeque::with_capacity(slots),
            dirty: Marked::new(slots),
            unread: Marked::new(slots),
            read: Marked::new(slots),
            connecting: Deadlines::new(slots, CONNECT_US),
            closing: Deadlines::new(slots, CLOSE_US),
            servers: config.servers.clone(),
            outgoing: Outgoing::new(config.source_address),
            ack: config.ack,
            descriptor_freed: false,
            servers_first: false,
            counters: SocketCounters::default(),
            stack: StackCounters::default(),
        }
    }

    #[inline]
    pub(crate) fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    /// Bytes of each of the slot's two rings.
    #[inline]
    pub(crate) fn capacity(&self, slot: u32) -> usize {
        if slot < self.clients {
            self.client_buffer_bytes
        } else {
            self.server_buffer_bytes
        }
    }

    /// Where the slot's receive ring is.
    #[inline]
    pub(crate) fn receive_range(&self, slot: u32) -> Range<usize> {
        let start = if slot < self.clients {
            2 * slot as usize * self.client_buffer_bytes
        } else {
            2 * self.clients as usize * self.client_buffer_bytes
                + 2 * (slot - self.clients) as usize * self.server_buffer_bytes
        };
        start..start + self.capacity(slot)
    }

    /// Where the slot's send ring is.
    #[inline]
    pub(crate) fn send_range(&self, slot: u32) -> Range<usize> {
        let received = self.receive_range(slot);
        received.end..received.end + received.len()
    }

    #[inline]
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        if !state.listed_dirty {
            state.listed_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Tells the proxy of a stream that it has.
    #[inline]
    pub(crate) fn mark_ready_slot(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        if state.owner == Owner::Proxy && !state.listed_ready {
            state.listed_ready = true;
            self.ready.push_back(slot);
        }
    }

    #[inline]
    pub(crate) fn mark_unread(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        if !state.listed_unread {
            state.listed_unread = true;
            self.unread.push(slot);
        }
    }

    #[inline]
    pub(crate) fn mark_read(&mut self, slot: u32) {
        let state = &mut self.slots[slot as usize];
        if !state.listed_read {
            state.listed_read = true;
            self.read.push(slot);
        }
    }

    /// Registers the slot's socket with epoll, for the rest of its life. Of room to send it tells only where somebody waits for
    /// it: a Unix socket would tell after every reply that its peer reads, a new connection at once.
    pub(crate) fn register(&mut self, slot: u32) -> Result<(), Errno> {
        let state = &mut self.slots[slot as usize];
        let Some(socket) = &state.socket else {
            return Ok(());
        };
        state.room_told = state.connecting;
        let data = epoll::EventData::new_u64(word(slot, state.generation));
        epoll::add(&self.epoll, socket, data, interest(state.room_told))
    }

    /// From now on epoll tells of room to send, that which is there already included.
    pub(crate) fn ask_for_room(&mut self, slot: u32) -> Result<(), Errno> {
        let state = &mut self.slots[slot as usize];
        let Some(socket) = state.socket.as_ref().filter(|_| !state.room_told) else {
            return Ok(());
        };
        state.room_told = true;
        let data = epoll::EventData::new_u64(word(slot, state.generation));
        epoll::modify(&self.epoll, socket, data, interest(true))
    }

    /// Takes a client in. `false`: it could not be registered, and is gone. There has to be a free slot.
    pub(crate) fn open_client(
        &mut self,
        socket: OwnedFd,
        listener: u16,
        peer: Option<SocketAddr>,
    ) -> bool {
        let Some(slot) = self.free_clients.pop() else {
            return false;
        };
        self.slot_mut(slot)
            .open(Some(socket), Role::Client(listener), peer);
        if self.register(slot).is_err() {
            self.free(slot);
            return false;
        }
        self.stack.accepted += 1;
        self.mark_ready_slot(slot);
        true
    }

    /// Gives the slot back, and closes its socket if it has one.
    pub(crate) fn free(&mut self, slot: u32) {
        self.drop_socket(slot);
        let state = self.slot_mut(slot);
        state.owner = Owner::Free;
        state.generation = state.generation.wrapping_add(1);
        if slot < self.clients {
            self.free_clients.push(slot);
        } else {
            self.free_servers.push(slot);
        }
    }

    fn drop_socket(&mut self, slot: u32) {
        self.connecting.remove(slot);
        self.closing.remove(slot);
        let state = self.slot_mut(slot);
        // What waits in epoll for this socket has to mean nothing any more.
        state.connecting = false;
        state.refused = None;
        state.unread = false;
        state.queued.clear();
        if state.socket.take().is_some() {
            self.descriptor_freed = true;
            self.servers_first |= slot >= self.clients;
        }
    }

    /// The connection is over. Its socket is closed; the slot stays until the proxy releases it.
    pub(crate) fn close(&mut self, slot: u32, reason: CloseReason) {
        self.drop_socket(slot);
        let state = self.slot_mut(slot);
        state.closed.get_or_insert(reason);
        if reason != CloseReason::Finished {
            state.received.clear();
        }
        if state.owner == Owner::Network {
            self.free(slot);
        } else {
            self.mark_ready_slot(slot);
        }
    }

    /// The connection is over because the kernel says so.
    pub(crate) fn fail(&mut self, slot: u32, error: Errno) {
        let reason = close_reason(error);
        match reason {
            CloseReason::TimedOut => self.stack.flows_timed_out += 1,
            _ => self.stack.resets_received += 1,
        }
        self.close(slot, reason);
    }

    /// Closes with RST instead of FIN.
    pub(crate) fn reset(&mut self, slot: u32, reason: CloseReason) {
        if let Some(socket) = &self.slot(slot).socket
            && !self.slot(slot).connecting
        {
            // A failure only means that the peer is told by FIN.
            let _set = sockopt::set_socket_linger(socket.as_fd(), Some(Duration::ZERO));
            self.stack.resets_sent += 1;
        }
        self.close(slot, reason);
    }

    /// Sets the clock and expires what is due.
    pub(crate) fn tick(&mut self, now_us: u64) {
        self.now_us = now_us;
        while let Some(slot) = self.connecting.pop_due(now_us) {
            self.stack.connects_failed += 1;
            self.close(slot, CloseReason::TimedOut);
        }
        while let Some(slot) = self.closing.pop_due(now_us) {
            self.stack.flows_timed_out += 1;
            if self.slot(slot).shut {
                // The kernel has everything and goes on delivering it.
                self.close(slot, CloseReason::TimedOut);
            } else {
                self.reset(slot, CloseReason::TimedOut);
            }
        }
    }

    pub(crate) fn next_timer_us(&self) -> Option<u64> {
        let deadlines = [self.connecting.next_us(), self.closing.next_us()];
        deadlines.into_iter().flatten().min()
    }

    /// What was counted, with the gauges of this moment.
    pub(crate) fn stack_counters(&self) -> StackCounters {
        let servers = self.slots.len() - self.clients as usize;
        StackCounters {
            clients_open: (self.clients as usize - self.free_clients.len()) as u64,
            servers_open: (servers - self.free_servers.len()) as u64,
            ..self.stack
        }
    }
}

/// What an error of a connection means.
pub(crate) fn close_reason(error: Errno) -> CloseReason {
    match error {
        Errno::CONNREFUSED | Errno::NOENT | Errno::ACCESS | Errno::AGAIN => CloseReason::Refused,
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => CloseReason::TimedOut,
        _ => CloseReason::Reset,
    }
}
