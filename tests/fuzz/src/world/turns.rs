//! How time goes by: what moves on connections in a turn, and how long nobody looks when nothing does.

use super::peers::Client;
use super::{TURN_US, World};
use crate::streams::{ModelStreams, Stream};
use tidegate_proxy::streams::{CloseReason, StreamId, StreamStatus, Streams};

/// How often who waits looks at the least what has become due.
const LOOK_US: u64 = 4_000;
/// Longer than anything takes that has an end.
const LONG_US: u64 = 400_000;

impl World {
    /// One turn of the network and the proxy. True when anything moved.
    pub(super) fn turn(&mut self) -> bool {
        let mut moved = false;
        while self.clients.get(self.over).is_some_and(Client::is_over) {
            self.over += 1;
        }
        for client in self.over..self.clients.len() {
            moved |= self.move_client(client);
        }
        for slot in 0..self.streams.slots.len() {
            moved |= self.move_server(slot);
        }
        self.now_us += TURN_US;
        self.streams.given = 0;
        // As in a worker: nothing is done because of time alone but what the proxy has announced.
        if self.due_us.is_some_and(|due_us| due_us <= self.now_us) {
            self.proxy.tick(&mut self.streams, self.now_us);
        }
        self.proxy.run(&mut self.streams, self.now_us);
        self.due_us = self.proxy.next_timer_us();
        while self.proxy.take_event().is_some() {}
        for client in &mut self.clients[self.over..] {
            let stream = self.streams.slots[client.id.0 as usize].as_ref();
            let own = stream.filter(|stream| stream.serial == client.serial);
            client.reset |= !client.finished && own.is_some_and(|stream| stream.aborted);
        }
        self.streams.sweep();
        moved || self.proxy.has_more()
    }

    /// Time goes by. While nothing moves, nobody looks before something is due.
    pub(super) fn pass(&mut self, time_us: u64) {
        let end_us = self.now_us + time_us;
        while self.now_us < end_us {
            if !self.turn() {
                let due_us = self.due_us.unwrap_or(end_us);
                self.now_us = due_us.clamp(self.now_us, end_us.max(self.now_us));
            }
        }
    }

    /// Turns until nothing moves for a while.
    pub(super) fn settle(&mut self) {
        // Nothing but a deadline can change anything once nothing moves. Some worlds look often nevertheless, as a worker does that has
        // other things to do; in the others the proxy has to say when.
        let looks_often = self.choices.below(8) == 0;
        let mut quiet_us = 0;
        loop {
            if self.turn() {
                quiet_us = 0;
            } else if quiet_us >= LONG_US {
                return;
            } else {
                let due_us = match self.due_us {
                    _ if looks_often => self.now_us,
                    Some(due_us) => due_us,
                    None => self.now_us + LONG_US,
                };
                let pause_us = due_us.saturating_sub(self.now_us).clamp(LOOK_US, LONG_US);
                self.now_us += pause_us;
                quiet_us += pause_us;
            }
        }
    }

    pub(super) fn own<'a>(
        streams: &'a mut ModelStreams,
        client: &Client,
    ) -> Option<&'a mut Stream> {
        let slot = streams.slots[client.id.0 as usize].as_mut();
        slot.filter(|stream| stream.serial == client.serial)
    }

    fn move_client(&mut self, client: usize) -> bool {
        let client = &mut self.clients[client];
        if client.is_over() {
            return false;
        }
        let (send, read) = (self.choices.below(700) + 1, self.choices.below(700) + 1);
        let Some(stream) = Self::own(&mut self.streams, client) else {
            client.finished = true;
            return true;
        };
        if stream.aborted {
            client.reset = true;
            return true;
        }
        let mut moved = false;
        if !client.deaf {
            moved |= stream.sent.take_to(read, &mut client.got) > 0;
        }
        if stream.finished && stream.sent.len() == 0 {
            client.finished = true;
            moved = true;
        } else if !stream.finished {
            let n = send.min(client.to_send().len());
            let n = stream.received.push(&client.to_send()[..n]);
            client.sent += n;
            moved |= n > 0;
            let done = client.sends_no_more && client.to_send().is_empty();
            if done && stream.status == StreamStatus::Open {
                stream.status = StreamStatus::HalfClosed;
                moved = true;
            }
        }
        if moved && !stream.released {
            self.streams.mark_ready(client.id);
        }
        moved
    }

    fn move_server(&mut self, slot: usize) -> bool {
        let Some(stream) = &mut self.streams.slots[slot] else {
            return false;
        };
        let Some(id) = stream.server else {
            return false;
        };
        let server = &mut self.servers[self.named[usize::from(id.0)]];
        if stream.aborted || matches!(stream.status, StreamStatus::Closed(_)) {
            return false;
        }
        let (take, give) = (self.choices.below(900) + 1, self.choices.below(900) + 1);
        let mut moved = false;
        if stream.status == StreamStatus::Connecting {
            if server.refuses {
                stream.status = StreamStatus::Closed(CloseReason::Refused);
                moved = true;
            } else if !server.stopped {
                stream.status = StreamStatus::Open;
                moved = true;
            }
        } else if !server.stopped && stream.status == StreamStatus::Open {
            let line = server.line(slot, stream.serial);
            moved |= stream.sent.take_to(take, line.input.end()) > 0;
            moved |= server.serve(slot);
            let give = if server.trickles { 1 } else { give };
            let line = &mut server.lines[slot];
            let n = stream
                .received
                .push(&line.output.bytes()[..give.min(line.output.len())]);
            line.output.take(n);
            moved |= n > 0;
        }
        if moved && !stream.released {
            self.streams.mark_ready(StreamId(slot as u32));
        }
        moved
    }
}
