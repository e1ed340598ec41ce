//! How a request in chunks ends before its end: with an error, with its connection, or without its client.

use super::{Chunked, Step};
use crate::compat::Several;
use crate::fault::Fault;
use crate::proxy::Proxy;
use crate::session::Closing;
use crate::state::{Answer, Mode, Target};
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{Refusal, RefusalText};

impl Proxy {
    /// A divided request failed of which some elements were sent.
    pub(crate) fn break_off<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        split: u32,
        pending: u32,
    ) {
        self.close_client(streams, client, Closing::Broken);
        self.give_split(split);
        self.give_pending(pending);
    }

    /// A chunk cannot be sent.
    pub(super) fn fail_chunks<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
        fault: Fault,
    ) -> bool {
        let pool = self.pool_of(client);
        if fault == Fault::RequestTooLarge {
            pool.counters.requests_refused += 1;
        } else {
            pool.counters.forward_errors += 1;
        }
        let text = pool.text(fault);
        let pending = self.chunked[hold as usize].pending;
        if self.pendings[pending].begun {
            self.close_client(streams, client, Closing::Broken);
            return false;
        }
        self.begin_drop(streams, client, hold);
        let entry = &mut self.pendings[pending];
        entry.answer = Answer::Text(text);
        entry.closes = entry.several == Several::Read && fault.is_of_server();
        self.flush(streams, client);
        true
    }

    /// The request is malformed. Chunks that were sent stay sent; where its end is cannot be known, so the connection ends.
    pub(super) fn refuse_chunks<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
        refusal: &Refusal,
    ) -> bool {
        let refusal = self.worded(client, *refusal);
        let pool = self.pool_of(client);
        let text = refusal_text(&refusal, pool.text(Fault::Unfinished));
        pool.counters.requests_refused += 1;
        self.close_for_protocol(client, &refusal);
        let Chunked { pending, step, .. } = self.chunked[hold as usize];
        if self.pendings[pending].begun {
            self.close_client(streams, client, Closing::Broken);
            return false;
        }
        self.pendings[pending].silent = refusal == Refusal::SILENT;
        self.end_chunks(client, hold);
        let Step::Value { link, .. } = step else {
            self.pendings[pending].answer = Answer::Text(text);
            self.flush(streams, client);
            return false;
        };
        // The server has half a SET. The part that waits for its reply takes the words to the client.
        for entry in &self.links[link as usize].fifo {
            if let Target::Fragment(fragment) = entry.target {
                let split = self.fragments[fragment].split;
                self.splits[split].failed = Some(text);
            }
        }
        self.drop_link(streams, link);
        false
    }

    /// From now on the rest of the request is dropped.
    pub(super) fn begin_drop<S: Streams>(&mut self, streams: &mut S, client: u32, hold: u32) {
        let chunk = &mut self.chunked[hold as usize];
        chunk.step = Step::Drop(chunk.rest());
        self.holds[hold as usize].drain(..chunk.name_bytes);
        streams.mark_ready(StreamId(client));
    }

    /// Drops what the hold has of the rest. True when the receive buffer has what follows.
    pub(super) fn drop_rest<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
    ) -> bool {
        loop {
            let Step::Drop(mut rest) = self.chunked[hold as usize].step else {
                return false;
            };
            let buffer = &mut self.holds[hold as usize];
            let scan = match rest.measure(buffer) {
                Ok(scan) => scan,
                Err(refusal) => {
                    let refusal = self.worded(client, refusal);
                    self.close_for_protocol(client, &refusal);
                    self.end_chunks(client, hold);
                    return false;
                }
            };
            buffer.drain(..scan.bytes);
            if buffer.is_empty() || scan.done {
                self.end_chunks(client, hold);
                self.clients[client as usize].mode = Mode::Skip(rest);
                return true;
            }
            // The hold ends within a header, which can only be measured as a whole.
            self.chunked[hold as usize].step = Step::Drop(rest);
            let need = self.holds[hold as usize].len() + 1;
            if self.fill(streams, client, hold, need) == 0 {
                self.watch(client);
                return false;
            }
        }
    }

    /// The client is gone. Its request is nobody's already.
    pub(crate) fn abandon_chunks<S: Streams>(&mut self, streams: &mut S, hold: u32) {
        let Chunked { pending, step, .. } = self.chunked[hold as usize];
        self.give_hold(hold);
        match step {
            // No server has any of it, so nothing would ever give it back.
            Step::Gather => self.give_pending(pending),
            Step::Value { link, .. } => self.abandon_upload(streams, link),
            // It goes with the last reply of the chunk, or went with its answer.
            Step::Asked | Step::Elements | Step::Drop(_) => {}
        }
    }
}

fn refusal_text(refusal: &Refusal, otherwise: &'static str) -> &'static str {
    match refusal.reply {
        RefusalText::Constant(text) => text,
        RefusalText::Named { .. } | RefusalText::Binary(..) => otherwise,
    }
}
