//! What a client is told when a server has no part in the answer to a request for all of them.

use super::is_for_all;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::state::{Join, Lost};
use crate::streams::Streams;
use tidegate_config::Protocol;
use tidegate_protocol::{BinaryStatus, ReplyShape, Request};

/// Longest error line of this kind. Names of servers have at most 255 bytes, and the words around them fewer than the rest.
const LINE_BYTES_MAX: usize = 768;

/// An error line in the making.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    end: usize,
}

impl Line {
    /// Appends what fits.
    fn push(&mut self, text: &str) {
        let room = &mut self.bytes[self.end..];
        let n = text.len().min(room.len());
        room[..n].copy_from_slice(&text.as_bytes()[..n]);
        self.end += n;
    }
}

impl Proxy {
    /// The line that names a server and why it did not take part. `carried_out`: how many others have done what was asked for.
    fn line_for_lost(&self, lost: Lost, carried_out: Option<usize>) -> Line {
        let server = &self.servers[lost.server as usize];
        let mut line = Line {
            bytes: [0; LINE_BYTES_MAX],
            end: 0,
        };
        line.push(match self.pools[server.pool as usize].protocol {
            Protocol::Memcached => "SERVER_ERROR server ",
            Protocol::Redis => "-ERR server ",
        });
        line.push(&server.name);
        line.push(": ");
        line.push(lost.fault.text());
        if let Some(others) = carried_out {
            line.push("; carried out by ");
            // Digits are text.
            line.push(std::str::from_utf8(itoa(others).bytes()).unwrap_or_default());
            line.push(if others == 1 { " server" } else { " servers" });
        }
        line.push("\r\n");
        line
    }

    /// Refuses a request before anybody was asked: its answer would lack this server's part.
    pub(super) fn fail_for_lost<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        lost: Lost,
    ) {
        self.count_request(client).forward_errors += 1;
        self.drop_request(streams, client, source, request.bytes);
        if request.noreply.is_none() {
            let line = self.line_for_lost(lost, None);
            let line = &line.bytes[..line.end];
            match request.reply {
                ReplyShape::Binary(head) => {
                    let words = std::str::from_utf8(line).unwrap_or_default().trim_end();
                    let words = words.strip_prefix("SERVER_ERROR ").unwrap_or(words);
                    let status = BinaryStatus::TemporaryFailure;
                    self.answer_frame(streams, client, head, status, words);
                }
                _ => self.answer_bytes(streams, client, line),
            }
        }
    }

    /// Makes an error of a joined reply that lacks the part of a server, unless the pool wants it so. True: it is an error.
    pub(super) fn judge_lost(&mut self, client: u32, split: u32) -> bool {
        let state = &self.splits[split];
        if state.has_failed() {
            return true;
        }
        let Some(lost) = state.lost else {
            return false;
        };
        let mut answered = 0;
        let mut fragment = state.first_fragment;
        while fragment != crate::slab::NIL {
            answered += usize::from(!self.fragments[fragment].lost);
            fragment = self.fragments[fragment].next;
        }
        let for_all = matches!(state.join, Join::Servers(merge) if is_for_all(merge));
        // A step of SCAN goes on with the next server.
        let suffices = answered > 0 || state.join == Join::Scan;
        if suffices && self.can_lack_parts(split) {
            self.pool_of(client).counters.replies_partial += 1;
            return false;
        }
        let line = self.line_for_lost(lost, for_all.then_some(answered));
        let text = self.pool_of(client).text(lost.fault);
        self.pool_of(client).counters.forward_errors += 1;
        let state = &mut self.splits[split];
        if !self.hold.append(&mut state.error, &line.bytes[..line.end]) {
            state.failed = Some(text);
        }
        true
    }
}
