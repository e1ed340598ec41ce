//! The stack as the proxy sees it.

use crate::flow::{Flow, Owner, Role};
use crate::stack::Stack;
use smoltcp::socket::tcp::State;
use std::net::SocketAddr;
use tidegate_proxy::streams::{
    CloseReason, ConnectError, ListenerId, ServerId, StreamId, StreamStatus, Streams,
};

impl Flow {
    /// Whether received bytes may still be read: a reset or a timeout takes them along.
    #[inline]
    fn is_readable(&self) -> bool {
        self.owner == Owner::Proxy && matches!(self.closed, None | Some(CloseReason::Finished))
    }

    #[inline]
    fn is_connecting(&self) -> bool {
        self.is_server() && matches!(self.state(), State::SynSent | State::SynReceived)
    }

    /// Whether bytes may still be queued.
    #[inline]
    fn is_writable(&self) -> bool {
        self.owner == Owner::Proxy && !self.finished && self.closed.is_none()
    }
}

impl Stack {
    #[inline]
    fn flow(&self, id: StreamId) -> &Flow {
        &self.flows[id.0 as usize]
    }

    #[inline]
    fn flow_mut(&mut self, id: StreamId) -> &mut Flow {
        &mut self.flows[id.0 as usize]
    }
}

impl Streams for Stack {
    fn slots(&self) -> usize {
        self.flows.len()
    }

    #[inline]
    fn next_ready(&mut self) -> Option<StreamId> {
        while let Some(slot) = self.ready.pop_front() {
            let flow = &mut self.flows[slot as usize];
            flow.ready = false;
            // It may have been released since, and the slot given to a connection that is not accepted yet.
            if flow.owner == Owner::Proxy {
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
        let flow = self.flow(id);
        if flow.owner != Owner::Proxy {
            return StreamStatus::Closed(CloseReason::Finished);
        }
        let ended = |reason| {
            let rest = reason == CloseReason::Finished && flow.socket().recv_queue() > 0;
            if rest {
                StreamStatus::HalfClosed
            } else {
                StreamStatus::Closed(reason)
            }
        };
        if let Some(reason) = flow.closed {
            return ended(reason);
        }
        match flow.state() {
            State::Listen | State::SynSent | State::SynReceived => StreamStatus::Connecting,
            State::Established | State::FinWait1 | State::FinWait2 => StreamStatus::Open,
            State::CloseWait => StreamStatus::HalfClosed,
            State::Closing | State::LastAck | State::TimeWait | State::Closed => {
                ended(CloseReason::Finished)
            }
        }
    }

    fn listener(&self, id: StreamId) -> Option<ListenerId> {
        match self.flow(id).role {
            Role::Client(listener) => Some(ListenerId(listener)),
            Role::Server(_) => None,
        }
    }

    fn peer(&self, id: StreamId) -> SocketAddr {
        self.table.key(id.0).remote()
    }

    #[inline]
    fn received(&self, id: StreamId) -> usize {
        let flow = self.flow(id);
        if flow.is_readable() {
            flow.socket().recv_queue()
        } else {
            0
        }
    }

    #[inline]
    fn receive_capacity(&self, id: StreamId) -> usize {
        self.flow(id).socket().recv_capacity()
    }

    #[inline]
    fn peek(&mut self, id: StreamId) -> &[u8] {
        let flow = self.flow_mut(id);
        if !flow.is_readable() {
            return &[];
        }
        flow.socket_mut().peek(usize::MAX).unwrap_or_default()
    }

    fn copy(&mut self, id: StreamId, out: &mut [u8]) -> usize {
        let flow = self.flow_mut(id);
        if !flow.is_readable() {
            return 0;
        }
        flow.socket_mut().peek_slice(out).unwrap_or_default()
    }

    #[inline]
    fn consume(&mut self, id: StreamId, bytes: usize) {
        let flow = self.flow_mut(id);
        if !flow.is_readable() {
            return;
        }
        let socket = flow.socket_mut();
        let mut left = bytes;
        // The ring gives its contents in two parts when they wrap.
        while left > 0 {
            let taken = socket.recv(|part| (part.len().min(left), part.len().min(left)));
            match taken {
                Ok(taken) if taken > 0 => left -= taken,
                _ => break,
            }
        }
        debug_assert!(left == 0, "consumed more than was received");
        // Room that became free may have to be announced.
        self.mark_dirty(id.0);
    }

    #[inline]
    fn send_room(&self, id: StreamId) -> usize {
        let flow = self.flow(id);
        if !flow.is_writable() {
            return 0;
        }
        let socket = flow.socket();
        if flow.is_connecting() {
            socket.send_capacity() - flow.staged as usize
        } else if socket.may_send() {
            socket.send_capacity() - socket.send_queue()
        } else {
            0
        }
    }

    #[inline]
    fn send_capacity(&self, id: StreamId) -> usize {
        self.flow(id).socket().send_capacity()
    }

    fn send_queued(&self, id: StreamId) -> usize {
        let flow = self.flow(id);
        if flow.closed.is_some() {
            0
        } else {
            flow.staged as usize + flow.socket().send_queue()
        }
    }

    #[inline]
    fn send(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        let flow = self.flow_mut(id);
        if !flow.is_writable() {
            return 0;
        }
        if flow.is_connecting() {
            return self.stage(id.0, bytes);
        }
        let sent = flow.queue(bytes);
        if sent > 0 {
            self.mark_dirty(id.0);
        }
        sent
    }

    #[inline]
    fn forward(&mut self, from: StreamId, to: StreamId, bytes: usize) -> usize {
        let mut moved = 0;
        while moved < bytes {
            let part = self.forward_part(from, to, bytes - moved);
            if part == 0 {
                break;
            }
            moved += part;
        }
        moved
    }

    fn connect(&mut self, server: ServerId) -> Result<StreamId, ConnectError> {
        self.open_server(server).map(StreamId)
    }

    fn finish(&mut self, id: StreamId) {
        let flow = self.flow_mut(id);
        if !flow.is_writable() {
            return;
        }
        flow.finished = true;
        if flow.is_connecting() {
            flow.finish_wanted = true;
            return;
        }
        flow.socket_mut().close();
        self.wait_for_end(id.0);
        self.mark_dirty(id.0);
    }

    fn abort(&mut self, id: StreamId) {
        let flow = self.flow_mut(id);
        if flow.owner != Owner::Proxy || flow.closed.is_some() {
            return;
        }
        flow.discard_received();
        if flow.state() == State::TimeWait {
            // RFC 9293, section 3.10.5: no RST in TIME-WAIT. The wait goes on after the release.
            return;
        }
        if flow.state() == State::SynSent && !flow.track.started {
            // The peer has not heard of the connection.
            flow.silence();
        }
        self.reset(id.0, CloseReason::Finished);
    }

    fn release(&mut self, id: StreamId) {
        let slot = id.0;
        let flow = self.flow_mut(id);
        if flow.owner != Owner::Proxy {
            return;
        }
        flow.owner = Owner::Stack;
        flow.reply_expected = false;
        if !flow.attached {
            self.free(slot);
            return;
        }
        flow.discard_received();
        match flow.state() {
            // Its RST leaves in the next egress pass and takes the slot along.
            State::Closed => {}
            State::SynSent | State::SynReceived if flow.staged == 0 => self.free(slot),
            State::SynSent | State::SynReceived => flow.finish_wanted = true,
            _ => {
                flow.socket_mut().close();
                self.wait_for_end(slot);
                self.mark_dirty(slot);
            }
        }
    }

    #[inline]
    fn expect_reply(&mut self, id: StreamId, expected: bool) {
        let flow = self.flow_mut(id);
        flow.reply_expected = expected;
        if !expected && flow.hold_until_us != 0 {
            self.mark_dirty(id.0);
        }
    }
}

impl Stack {
    /// Moves up to `bytes` contiguous received bytes; 0 once nothing can be moved.
    #[inline]
    fn forward_part(&mut self, from: StreamId, to: StreamId, bytes: usize) -> usize {
        let Self { flows, dirty, .. } = self;
        let Ok([source, target]) = flows.get_disjoint_mut([from.0 as usize, to.0 as usize]) else {
            return self.echo_part(from, bytes);
        };
        if !source.is_readable() || !target.is_writable() {
            return 0;
        }
        // From ring to ring: one copy, and one look at each.
        let taken = source.socket_mut().recv(|part| {
            let moved = target.queue_part(&part[..part.len().min(bytes)]);
            (moved, moved)
        });
        let moved = taken.unwrap_or(0);
        if moved > 0 {
            // Room that became free may have to be announced.
            source.list_dirty(from.0, dirty);
            target.list_dirty(to.0, dirty);
            return moved;
        }
        self.stage_part(from, to, bytes)
    }

    /// The same for a stream that may not be open yet: the bytes wait for that.
    #[cold]
    fn stage_part(&mut self, from: StreamId, to: StreamId, bytes: usize) -> usize {
        let Ok([source, target]) = self
            .flows
            .get_disjoint_mut([from.0 as usize, to.0 as usize])
        else {
            return 0;
        };
        if !target.is_connecting() {
            return 0;
        }
        let Ok(part) = source.socket_mut().peek(bytes) else {
            return 0;
        };
        // Not `stage`: that would borrow all flows.
        let staged = target.staged as usize;
        let at = (to.0 - self.clients) as usize * self.server_buffer_bytes + staged;
        let moved = part.len().min(self.server_buffer_bytes - staged);
        self.staging[at..at + moved].copy_from_slice(&part[..moved]);
        target.staged += moved as u32;
        self.consume(from, moved);
        self.mark_dirty(to.0);
        moved
    }

    /// A stream forwarded to itself needs a second copy: its two buffers belong to one socket.
    #[cold]
    fn echo_part(&mut self, id: StreamId, bytes: usize) -> usize {
        let mut part = [0; 512];
        let wanted = bytes.min(part.len()).min(self.send_room(id));
        let copied = self.copy(id, &mut part[..wanted]);
        let sent = self.send(id, &part[..copied]);
        self.consume(id, sent);
        sent
    }
}
