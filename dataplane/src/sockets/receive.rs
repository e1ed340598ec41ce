//! Bytes from the kernel.

use crate::sockets::slot::Owner;
use crate::sockets::table::SocketStreams;
use rustix::event::epoll::EventFlags;
use rustix::io::{self, Errno};
use rustix::net::{self, RecvFlags, sockopt};
use std::io::IoSliceMut;
use tidegate_config::AckMode;
use tidegate_proxy::streams::CloseReason;

/// The peer has finished or broken off.
const HANG_UP: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);

impl SocketStreams {
    /// An edge on a connection. One of an earlier connection in the same slot means nothing.
    pub(crate) fn on_event(&mut self, slot: u32, generation: u32, flags: EventFlags) {
        let Some(state) = self.slots.get_mut(slot as usize) else {
            return;
        };
        if state.generation != generation || state.socket.is_none() {
            return;
        }
        if state.connecting {
            if !flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
                return;
            }
            self.complete_connect(slot);
        }
        let state = self.slot_mut(slot);
        if flags.contains(EventFlags::OUT) && state.write_blocked {
            state.write_blocked = false;
            self.mark_dirty(slot);
        }
        let state = self.slot_mut(slot);
        state.hung_up |= flags.intersects(HANG_UP);
        if flags.intersects(EventFlags::IN | HANG_UP) {
            self.read(slot);
        }
    }

    /// Reads from every stream that has bytes left and room for them.
    pub(crate) fn read_unread(&mut self) {
        let pass = self.unread.begin();
        for &slot in &pass {
            let state = self.slot_mut(slot);
            state.listed_unread = false;
            if state.unread {
                self.read(slot);
            }
        }
        self.unread.finish(pass);
    }

    /// Takes as much as there is room for, with one call; with a second one if the peer has hung up, to see it.
    fn read(&mut self, slot: u32) {
        let capacity = self.capacity(slot);
        loop {
            let range = self.receive_range(slot);
            let state = &mut self.slots[slot as usize];
            let Some(socket) = &state.socket else {
                return;
            };
            if state.eof {
                return;
            }
            state.unread = true;
            if state.owner == Owner::Network {
                // Nobody wants it; but a close with bytes unread would destroy the reply that is under way.
                state.received.clear();
            }
            let room = capacity - state.received.len();
            if room == 0 {
                return;
            }
            let (first, second) = state.received.free_parts(&mut self.memory[range]);
            self.counters.reads += 1;
            let outcome = if second.is_empty() {
                net::recv(socket, first, RecvFlags::empty()).map(|(_, bytes)| bytes)
            } else {
                io::readv(
                    socket,
                    &mut [IoSliceMut::new(first), IoSliceMut::new(second)],
                )
            };
            match outcome {
                Ok(0) => return self.peer_finished(slot),
                Ok(bytes) => {
                    state.received.fill(bytes);
                    state.unread = bytes == room;
                    self.counters.read_bytes += bytes as u64;
                    let again = state.hung_up && bytes < room;
                    self.after_read(slot);
                    if !again {
                        return;
                    }
                }
                Err(Errno::AGAIN) => {
                    state.unread = false;
                    return;
                }
                Err(Errno::INTR) => {}
                Err(error) => return self.fail(slot, error),
            }
        }
    }

    /// Bytes have come.
    #[inline]
    fn after_read(&mut self, slot: u32) {
        let state = self.slot_mut(slot);
        if state.owner == Owner::Network {
            if state.unread {
                self.mark_unread(slot);
            }
            return;
        }
        if state.tcp && !std::mem::take(&mut state.fresh) {
            state.owes_ack = true;
            self.mark_read(slot);
        }
        self.mark_ready_slot(slot);
    }

    /// After the proxy ran and what it wrote was sent: whatever was received and is not acknowledged by that, nor will be soon, is
    /// acknowledged now, because its sender may wait for that before it sends the rest.
    pub(crate) fn acknowledge_read(&mut self) {
        let pass = self.read.begin();
        for &slot in &pass {
            let is_server = slot >= self.clients;
            let state = self.slot_mut(slot);
            state.listed_read = false;
            if !state.owes_ack {
                continue;
            }
            if !state.queued.is_empty() && !state.write_blocked {
                // Requests that wait for others leave soon.
                self.mark_read(slot);
                continue;
            }
            state.owes_ack = false;
            let may_wait = state.reply_expected && state.received.is_empty();
            if !may_wait || self.ack == AckMode::Immediate && !is_server {
                self.quick_ack(slot);
            }
        }
        self.read.finish(pass);
    }

    /// Asks the kernel to acknowledge at once. It forgets that again by itself, hence every time.
    fn quick_ack(&mut self, slot: u32) {
        if let Some(socket) = &self.slots[slot as usize].socket {
            self.counters.quick_acks += 1;
            // A failure means a delayed acknowledgement, or that the connection is gone, which the next read tells.
            let _set = sockopt::set_tcp_quickack(socket, true);
        }
    }

    /// The peer has finished, and everything before that was received.
    fn peer_finished(&mut self, slot: u32) {
        let state = self.slot_mut(slot);
        state.eof = true;
        state.unread = false;
        let delivered = state.queued.is_empty();
        if state.shut || state.owner == Owner::Network && delivered {
            self.close(slot, CloseReason::Finished);
        } else {
            self.mark_ready_slot(slot);
        }
    }
}
