//! Bytes to the kernel.

use crate::sockets::limits::ROOM_NEWS_DIVISOR;
use crate::sockets::table::SocketStreams;
use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendFlags, Shutdown};
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use tidegate_proxy::streams::CloseReason;

impl SocketStreams {
    /// Sends what is queued for clients, once over every stream that has something. Returns whether something is queued for
    /// servers.
    pub(crate) fn send_to_clients(&mut self) -> bool {
        let pass = self.dirty.begin();
        for &slot in &pass {
            if slot < self.clients {
                self.slot_mut(slot).listed_dirty = false;
                self.flush(slot);
            } else {
                self.dirty.push(slot);
            }
        }
        self.dirty.finish(pass);
        !self.dirty.is_empty()
    }

    /// Sends what is queued, once over every stream that has something.
    pub(crate) fn send_to_all(&mut self) {
        let pass = self.dirty.begin();
        for &slot in &pass {
            self.slot_mut(slot).listed_dirty = false;
            self.flush(slot);
        }
        self.dirty.finish(pass);
    }

    /// One call with everything that the stream has queued; then FIN, if it is due.
    fn flush(&mut self, slot: u32) {
        let range = self.send_range(slot);
        let capacity = range.len();
        let state = &mut self.slots[slot as usize];
        let Some(socket) = &state.socket else {
            return;
        };
        if state.connecting || state.write_blocked {
            return;
        }
        let queued = state.queued.len();
        if queued > 0 {
            let (first, second) = state.queued.parts(&self.memory[range]);
            self.counters.writes += 1;
            let sent = match send(socket, first, second) {
                Ok(bytes) => bytes,
                Err(Errno::AGAIN) => 0,
                Err(error) => return self.fail(slot, error),
            };
            state.queued.consume(sent, capacity);
            if sent > 0 {
                // It carries an acknowledgement, and from now on the kernel waits for more such chances.
                state.owes_ack = false;
                state.fresh = false;
            }
            self.counters.write_bytes += sent as u64;
            if sent < queued {
                state.write_blocked = true;
                self.counters.write_blocked += 1;
            }
            let news = sent > 0 && (state.starved || queued > capacity / ROOM_NEWS_DIVISOR);
            if news {
                state.starved = false;
                self.mark_ready_slot(slot);
            }
            if sent > 0 && self.closing.contains(slot) {
                self.closing.start(slot, self.now_us);
            }
            if sent < queued {
                if let Err(error) = self.ask_for_room(slot) {
                    self.fail(slot, error);
                }
                return;
            }
        }
        self.finish_if_due(slot);
    }

    /// Everything queued is with the kernel.
    fn finish_if_due(&mut self, slot: u32) {
        let state = self.slot_mut(slot);
        if !state.finished || state.shut {
            return;
        }
        if state.eof {
            return self.close(slot, CloseReason::Finished);
        }
        let Some(socket) = &state.socket else {
            return;
        };
        match net::shutdown(socket, Shutdown::Write) {
            Ok(()) => state.shut = true,
            Err(error) => self.fail(slot, error),
        }
    }
}

/// No signal: a peer that is gone is an error like others.
fn send(socket: &OwnedFd, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
    loop {
        let outcome = if second.is_empty() {
            net::send(socket, first, SendFlags::NOSIGNAL)
        } else {
            let parts = [IoSlice::new(first), IoSlice::new(second)];
            let mut nothing_else = SendAncillaryBuffer::default();
            net::sendmsg(socket, &parts, &mut nothing_else, SendFlags::NOSIGNAL)
        };
        if outcome != Err(Errno::INTR) {
            return outcome;
        }
    }
}
