//! memcached's flush and stat in binary: what all servers say becomes frames for the client.
//!
//! Statistics are held and joined as the lines that they are in text; frames are made of the joined ones.

use super::fields::LineBuffer;
use crate::fault::Fault;
use crate::hold::{Chain, Place};
use crate::limits::JOINED_LINE_BYTES_MAX;
use crate::merge::Step;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Answer, Join};
use crate::streams::Streams;
use tidegate_protocol::{
    BINARY_HEADER_BYTES, BinaryHead, BinaryStatus, Merge, ReplyShape, StatFrame, parse_stat_frame,
};

/// What a frame starts with that a server answered with an error.
const REPLY_MAGIC: u8 = 0x81;

impl Proxy {
    /// One frame of a server's reply.
    pub(super) fn frame_step(
        &mut self,
        link: u32,
        fragment: u32,
        merge: Merge,
        bytes: &[u8],
    ) -> Result<(Step, usize), Fault> {
        let state = &self.links[link as usize];
        let Some(ReplyShape::Binary(head)) = state.fifo.front().map(|entry| entry.shape) else {
            return Err(Fault::Garbage);
        };
        let frame = parse_stat_frame(bytes, head, state.front_number());
        match frame.map_err(|_| Fault::Garbage)? {
            StatFrame::Incomplete => Ok((Step::More, 0)),
            StatFrame::End { bytes } => Ok((Step::Done, bytes)),
            StatFrame::Stat { .. } if merge == Merge::BinaryFlush => Err(Fault::Garbage),
            StatFrame::Stat {
                name,
                value,
                bytes: used,
            } => {
                for part in [b"STAT ", &bytes[name], b" ", &bytes[value], b"\r\n"] {
                    self.hold_part(fragment, part);
                }
                Ok((Step::Again, used))
            }
            StatFrame::Error { bytes: used, .. } => {
                self.keep_error_frame(fragment, head, &bytes[..used]);
                Ok((Step::Done, used))
            }
        }
    }

    /// The first error becomes the answer, as the frame that it is.
    fn keep_error_frame(&mut self, fragment: u32, head: BinaryHead, frame: &[u8]) {
        let part = &self.fragments[fragment];
        let (split, server) = (part.split, part.server);
        let state = &mut self.splits[split];
        let Some((header, body)) = frame.split_first_chunk::<BINARY_HEADER_BYTES>() else {
            return;
        };
        let mut header = *header;
        head.restore(&mut header);
        if state.failed.is_none() && state.error.is_empty() {
            let is_held = self.hold.append(&mut state.error, &header)
                && self.hold.append(&mut state.error, body);
            if !is_held {
                self.hold.clear(&mut state.error);
                let pool = self.servers[server as usize].pool;
                let text = self.not_held(pool, Fault::HoldFull);
                self.splits[split].failed = Some(text);
            }
        }
    }

    /// Every server has answered: makes frames of it.
    pub(crate) fn complete_binary<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        split: u32,
        head: BinaryHead,
    ) {
        let state = &mut self.splits[split];
        let (pending, failed, join) = (state.pending, state.failed, state.join);
        let error = std::mem::replace(&mut state.error, Chain::EMPTY);
        let pool = self.clients[client as usize].pool;
        let frames = if let Some(text) = failed {
            Err(text)
        } else {
            let frames = if !error.is_empty() {
                self.error_frame(head, error)
            } else if join == Join::Servers(Merge::BinaryFlush) {
                self.pendings[pending].silent |= head.is_quiet();
                self.append_frame(Chain::EMPTY, head, b"", b"")
            } else {
                self.stat_frames(split, head)
            };
            frames.map_err(|fault| self.not_held(pool, fault))
        };
        self.give_split(split);
        let entry = &mut self.pendings[pending];
        match frames {
            Ok(chain) => {
                entry.chain = chain;
                entry.answer = Answer::Held;
            }
            Err(text) => entry.answer = Answer::Text(text),
        }
        if self.clients[client as usize].head == pending {
            self.flush(streams, client);
        }
    }

    /// An error as a frame: it is one of a server's already, or a line of the proxy's own.
    fn error_frame(&mut self, head: BinaryHead, mut error: Chain) -> Result<Chain, Fault> {
        if self.hold.front(&error).first() == Some(&REPLY_MAGIC) {
            return Ok(error);
        }
        let mut buffer: LineBuffer = [0; JOINED_LINE_BYTES_MAX];
        let mut place = Place::front(&error);
        let line = self.hold.line(&mut place, &mut buffer).unwrap_or_default();
        let words = line.strip_prefix(b"SERVER_ERROR ").unwrap_or(line);
        let header = head.reply_header(BinaryStatus::TemporaryFailure, 0, words.len() as u32);
        self.hold.clear(&mut error);
        let mut chain = Chain::EMPTY;
        if self.hold.append(&mut chain, &header) && self.hold.append(&mut chain, words) {
            return Ok(chain);
        }
        self.hold.clear(&mut chain);
        Err(Fault::HoldFull)
    }

    /// The joined statistics as frames, and an empty one behind them.
    fn stat_frames(&mut self, split: u32, head: BinaryHead) -> Result<Chain, Fault> {
        let fragment = self.splits[split].emit_fragment;
        let mut chain = Chain::EMPTY;
        if fragment != NIL {
            let mut buffer: LineBuffer = [0; JOINED_LINE_BYTES_MAX];
            let mut place = Place::front(&self.fragments[fragment].chain);
            while let Some(line) = self.hold.line(&mut place, &mut buffer) {
                let mut words = line.splitn(3, |&byte| byte == b' ').skip(1);
                let (name, value) = (words.next(), words.next());
                let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
                chain = self.append_frame(chain, head, name, value)?;
            }
        }
        self.append_frame(chain, head, b"", b"")
    }

    /// Appends a frame. If there is no room for it, nothing is held any more.
    fn append_frame(
        &mut self,
        mut chain: Chain,
        head: BinaryHead,
        name: &[u8],
        value: &[u8],
    ) -> Result<Chain, Fault> {
        let body = (name.len() + value.len()) as u32;
        let header = head.reply_header(BinaryStatus::Success, name.len() as u16, body);
        let allowed = chain.len() + BINARY_HEADER_BYTES + body as usize
            <= self.limits.client_reply_hold_bytes;
        let is_held = allowed
            && self.hold.append(&mut chain, &header)
            && self.hold.append(&mut chain, name)
            && self.hold.append(&mut chain, value);
        if is_held {
            return Ok(chain);
        }
        self.hold.clear(&mut chain);
        Err(if allowed {
            Fault::HoldFull
        } else {
            Fault::OverHold
        })
    }
}
