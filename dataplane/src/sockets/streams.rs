//! The sockets as the proxy sees them.

use crate::sockets::slot::{Owner, Role};
use crate::sockets::table::SocketStreams;
use std::net::SocketAddr;
use tidegate_proxy::streams::{
    CloseReason, ConnectError, ListenerId, ServerId, StreamId, StreamStatus, Streams,
};

impl Streams for SocketStreams {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    fn next_ready(&mut self) -> Option<StreamId> {
        while let Some(slot) = self.ready.pop_front() {
            let state = self.slot_mut(slot);
            state.listed_ready = false;
            // It may have been released since.
            if state.owner == Owner::Proxy {
                self.refuse_now(slot);
                return Some(StreamId(slot));
            }
        }
        None
    }

    #[inline]
    fn mark_ready(&mut self, id: StreamId) {
        self.mark_ready_slot(id.0);
    }

    #[inline]
    fn status(&self, id: StreamId) -> StreamStatus {
        let state = self.slot(id.0);
        if state.owner != Owner::Proxy {
            return StreamStatus::Closed(CloseReason::Finished);
        }
        let ended = state
            .closed
            .or((state.eof && state.finished).then_some(CloseReason::Finished));
        match ended {
            Some(CloseReason::Finished) if !state.received.is_empty() => StreamStatus::HalfClosed,
            Some(reason) => StreamStatus::Closed(reason),
            None if state.connecting => StreamStatus::Connecting,
            None if state.eof => StreamStatus::HalfClosed,
            None => StreamStatus::Open,
        }
    }

    fn listener(&self, id: StreamId) -> Option<ListenerId> {
        match self.slot(id.0).role {
            Role::Client(listener) => Some(ListenerId(listener)),
            Role::Server => None,
        }
    }

    /// `0.0.0.0:0` for a Unix socket.
    fn peer(&self, id: StreamId) -> SocketAddr {
        self.slot(id.0).peer
    }

    #[inline]
    fn received(&self, id: StreamId) -> usize {
        let state = self.slot(id.0);
        if state.is_readable() {
            state.received.len()
        } else {
            0
        }
    }

    #[inline]
    fn receive_capacity(&self, id: StreamId) -> usize {
        self.capacity(id.0)
    }

    #[inline]
    fn peek(&mut self, id: StreamId) -> &[u8] {
        let state = self.slot(id.0);
        if !state.is_readable() {
            return &[];
        }
        state
            .received
            .parts(&self.memory[self.receive_range(id.0)])
            .0
    }

    fn copy(&mut self, id: StreamId, out: &mut [u8]) -> usize {
        let state = self.slot(id.0);
        if !state.is_readable() {
            return 0;
        }
        state
            .received
            .copy(&self.memory[self.receive_range(id.0)], out)
    }

    #[inline]
    fn consume(&mut self, id: StreamId, bytes: usize) {
        let capacity = self.capacity(id.0);
        let state = self.slot_mut(id.0);
        if !state.is_readable() {
            return;
        }
        state.received.consume(bytes, capacity);
        self.has_room(id.0);
    }

    #[inline]
    fn send_room(&self, id: StreamId) -> usize {
        let state = self.slot(id.0);
        if state.is_writable() {
            self.capacity(id.0) - state.queued.len()
        } else {
            0
        }
    }

    #[inline]
    fn send_capacity(&self, id: StreamId) -> usize {
        self.capacity(id.0)
    }

    /// What the kernel has not taken: of what it has, it does not tell.
    fn send_queued(&self, id: StreamId) -> usize {
        self.slot(id.0).queued.len()
    }

    #[inline]
    fn send(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        let range = self.send_range(id.0);
        let state = &mut self.slots[id.0 as usize];
        if !state.is_writable() {
            return 0;
        }
        let sent = state.queued.push(&mut self.memory[range], bytes);
        state.starved |= sent < bytes.len();
        if sent > 0 {
            self.mark_dirty(id.0);
        }
        sent
    }

    #[inline]
    fn forward(&mut self, from: StreamId, to: StreamId, bytes: usize) -> usize {
        if !self.slot(from.0).is_readable() || !self.slot(to.0).is_writable() {
            return 0;
        }
        let ranges = [self.receive_range(from.0), self.send_range(to.0)];
        // A receive ring and a send ring never overlap, not even those of one stream.
        let Ok([source, target]) = self.memory.get_disjoint_mut(ranges) else {
            return 0;
        };
        let mut received = self.slots[from.0 as usize].received;
        let mut queued = self.slots[to.0 as usize].queued;
        let wanted = bytes.min(received.len());
        let mut moved = 0;
        while moved < wanted {
            let (front, _) = received.parts(source);
            let part = front.len().min(wanted - moved);
            let sent = queued.push(target, &front[..part]);
            if sent == 0 {
                break;
            }
            received.consume(sent, source.len());
            moved += sent;
        }
        self.slots[from.0 as usize].received = received;
        self.slots[to.0 as usize].queued = queued;
        self.slots[to.0 as usize].starved |= moved < wanted;
        if moved > 0 {
            self.has_room(from.0);
            self.mark_dirty(to.0);
        }
        moved
    }

    fn connect(&mut self, server: ServerId) -> Result<StreamId, ConnectError> {
        self.open_server(server).map(StreamId)
    }

    fn finish(&mut self, id: StreamId) {
        let state = self.slot_mut(id.0);
        if !state.is_writable() {
            return;
        }
        state.finished = true;
        if !state.connecting {
            self.wait_for_end(id.0);
        }
    }

    fn abort(&mut self, id: StreamId) {
        let state = self.slot_mut(id.0);
        if state.owner != Owner::Proxy || state.closed.is_some() {
            return;
        }
        state.received.clear();
        self.reset(id.0, CloseReason::Finished);
    }

    fn release(&mut self, id: StreamId) {
        let state = self.slot_mut(id.0);
        if state.owner != Owner::Proxy {
            return;
        }
        state.owner = Owner::Network;
        state.reply_expected = false;
        state.finished = true;
        state.received.clear();
        let nothing_queued = state.queued.is_empty();
        if state.socket.is_none() || nothing_queued && (state.eof || state.connecting) {
            self.free(id.0);
        } else if !state.connecting {
            self.has_room(id.0);
            self.wait_for_end(id.0);
        }
    }

    #[inline]
    fn expect_reply(&mut self, id: StreamId, expected: bool) {
        self.slot_mut(id.0).reply_expected = expected;
    }
}

impl SocketStreams {
    /// Sends FIN after what is queued, and gives the peer a while to finish as well.
    pub(crate) fn wait_for_end(&mut self, slot: u32) {
        self.closing.start(slot, self.now_us);
        self.mark_dirty(slot);
    }

    /// There is room in the receive ring again: the kernel may have bytes for it.
    #[inline]
    fn has_room(&mut self, slot: u32) {
        if self.slot(slot).unread {
            self.mark_unread(slot);
        }
    }
}
