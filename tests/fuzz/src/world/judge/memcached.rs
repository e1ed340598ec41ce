//! Clients of memcached, text and binary.
//!
//! A request that asks for quiet has no reply where its server said what it does not want to see, unless something went wrong. Whose an
//! error is that comes then may have more than one explanation: each place is kept at which the next reply may begin.

use super::{Complaint, Reader, Taken, is_binary};
use crate::framing::{self, Framed, frame_bytes};
use crate::requests::{Connection, Found, is_bad_block};
use crate::world::memcached::{binary_answer, block, memcached_answer, stats};
use std::collections::BTreeSet;
use tidegate_protocol::{
    BINARY_HEADER_BYTES, BinaryHead, Local, Merge, Quiet, ReplyShape, Request, Route, Split,
};

/// Whether a request has a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replies {
    Always,
    Never,
    /// An error at most.
    Errors,
    /// Whatever its server said.
    Perhaps,
}

/// With so many places and servers that say anything, everything has an explanation.
const PLACES_MAX: usize = 64;

pub(super) fn judge(reader: Reader<'_>, asked: &Connection) {
    let mut places = BTreeSet::from([0]);
    for found in &asked.found {
        let mut next = BTreeSet::new();
        let mut complaint = None;
        if places.len() > PLACES_MAX && !reader.world.honest {
            return;
        }
        let honest = honest(reader, found);
        for &at in &places {
            match step(reader, found, honest.as_deref(), at) {
                Ok(Step::To(ends)) => next.extend(ends),
                Ok(Step::Over) => return,
                Err(what) => complaint = Some((what, at)),
            }
        }
        if next.is_empty() {
            let (what, at) = complaint.unwrap_or(("there is no explanation", 0));
            reader.fail(what, at);
        }
        places = next;
    }
    // Of the request that was only begun, an error may be known already; and a second one if its end was malformed behind that.
    let errors_max = 2 * usize::from(!asked.is_between_requests());
    let ends = |&at: &usize| {
        if is_binary(reader.client) {
            ends_with_frames(reader, at, errors_max)
        } else {
            reader.ends_with_errors(at, errors_max, None)
        }
    };
    if let Some((what, at)) = first_complaint(&places, ends) {
        reader.fail(what, at);
    }
}

/// What is wrong with the last of the places, if something is with all of them.
fn first_complaint(
    places: &BTreeSet<usize>,
    ends: impl Fn(&usize) -> Result<(), Complaint>,
) -> Option<(Complaint, usize)> {
    let mut last = None;
    for at in places {
        match ends(at) {
            Ok(()) => return None,
            Err(what) => last = Some((what, *at)),
        }
    }
    last
}

fn ends_with_frames(reader: Reader<'_>, at: usize, frames_max: usize) -> Result<(), Complaint> {
    let mut rest = reader.rest(at);
    for _ in 0..frames_max {
        let bytes = frame_bytes(rest, 0x81).filter(|&bytes| bytes <= rest.len());
        rest = &rest[bytes.unwrap_or(0)..];
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err("more frames than requests")
    }
}

enum Step {
    /// The next reply may begin at each of these.
    To(Vec<usize>),
    /// There is no more to judge.
    Over,
}

/// What honest servers say to this. `None`: that is not known, or they are not.
fn honest(reader: Reader<'_>, found: &Found) -> Option<Vec<u8>> {
    match found {
        Found::Request { request, wire } if reader.world.honest => expected(reader, request, wire),
        _ => None,
    }
}

fn step(
    reader: Reader<'_>,
    found: &Found,
    expected: Option<&[u8]>,
    at: usize,
) -> Result<Step, Complaint> {
    match found {
        Found::Refused { reply, closes } => refused(reader, found, reply, *closes, at),
        Found::Request { request, .. } => {
            let is_quit = matches!(request.route, Route::Local(Local::Quit | Local::BinaryQuit));
            let mut ends = Vec::new();
            let replies = replies(reader, request, expected);
            if !matches!(replies, Replies::Always) {
                ends.push(at);
            }
            if !matches!(replies, Replies::Never) {
                let fits = |got: &[u8]| {
                    replies != Replies::Errors && expected.is_none_or(|expected| got == expected)
                };
                match take(reader, request.reply, at, fits) {
                    Ok(Taken::To { at, .. }) => ends.push(at),
                    // It ended within the reply, or before one that was to come.
                    Ok(Taken::Ended) if ends.is_empty() || !reader.rest(at).is_empty() => {
                        return Ok(Step::Over);
                    }
                    Err(what) if ends.is_empty() => return Err(what),
                    // There was none.
                    Ok(Taken::Ended) | Err(_) => {}
                }
            }
            if is_quit {
                let places = ends.into_iter().collect();
                let ends = |&at: &usize| reader.ends_with_errors(at, 0, Some(b""));
                return match first_complaint(&places, ends) {
                    Some((what, _)) => Err(what),
                    None => Ok(Step::Over),
                };
            }
            Ok(Step::To(ends))
        }
    }
}

fn refused(
    reader: Reader<'_>,
    found: &Found,
    reply: &[u8],
    closes: bool,
    at: usize,
) -> Result<Step, Complaint> {
    let mut end = at;
    if let Some(header) = reply.first_chunk().filter(|_| is_binary(reader.client)) {
        let shape = ReplyShape::Binary(BinaryHead::of(header));
        match take(reader, shape, at, |got| got == reply)? {
            Taken::To { at, .. } => end = at,
            Taken::Ended => return Ok(Step::Over),
        }
        if closes {
            reader.ends_with_errors(end, 0, Some(b""))?;
            return Ok(Step::Over);
        }
        return Ok(Step::To(vec![end]));
    }
    if closes {
        // What was passed on before its end turned out to be malformed may have its own error.
        let seen = Some(reply).filter(|reply| !reply.is_empty());
        reader.ends_with_errors(at, 2, seen)?;
        return Ok(Step::Over);
    }
    if !reply.is_empty() {
        match take(reader, ReplyShape::Line, at, |got| got == reply)? {
            Taken::To { at, .. } => end = at,
            Taken::Ended => return Ok(Step::Over),
        }
    }
    if is_bad_block(found) {
        // Its front was passed on, so the connection could not go on behind it. If that had an error before its end was there, the
        // reason comes behind it.
        let has_ended = reader.client.is_over() && reply.starts_with(reader.rest(end));
        if has_ended || !reader.world.honest {
            return Ok(Step::Over);
        }
    }
    Ok(Step::To(vec![end]))
}

/// Takes a reply, of frames all that it consists of.
fn take(
    reader: Reader<'_>,
    shape: ReplyShape,
    at: usize,
    fits: impl FnOnce(&[u8]) -> bool,
) -> Result<Taken, Complaint> {
    let ReplyShape::Binary(head) = shape else {
        return reader.take(shape, at, fits);
    };
    let mut rest = reader.rest(at);
    loop {
        let frame = frame_bytes(rest, 0x81).and_then(|bytes| rest.split_at_checked(bytes));
        let Some((frame, later)) = frame else {
            return reader.end(at, reader.rest(at).is_empty());
        };
        let header = frame.first_chunk().expect("a frame has a header");
        if BinaryHead::of(header) != head {
            return Err("a frame that answers another request");
        }
        rest = later;
        let is_error = !matches!(frame[6..8], [0, 0 | 1 | 2 | 5]);
        // Statistics have names, and behind them comes a frame without one.
        if is_error || head.opcode != STAT || header[2..4] == [0, 0] {
            let end = reader.client.got.len() - rest.len();
            let got = &reader.client.got[at..end];
            if is_error && reader.is_undisturbed() && super::is_failure(got) {
                return Err("a server failed to which nothing happened");
            }
            if !is_error && reader.world.honest && !fits(got) {
                return Err("a frame is not the answer to its request");
            }
            return Ok(Taken::To { at: end, is_error });
        }
    }
}

const STAT: u8 = 0x10;

/// Whether there is a reply, if an honest server says `expected`.
fn replies(reader: Reader<'_>, request: &Request, expected: Option<&[u8]>) -> Replies {
    let is_quiet = match request.reply {
        ReplyShape::Meta(quiet) => quiet != Quiet::No,
        ReplyShape::Binary(head) => head.is_quiet(),
        _ => false,
    };
    let is_quit = match request.route {
        Route::Local(Local::Quit) => true,
        Route::Local(Local::BinaryQuit) => is_quiet,
        _ => false,
    };
    if request.is_silent() || is_quit {
        return Replies::Never;
    }
    if !is_quiet {
        return Replies::Always;
    }
    if !reader.world.honest {
        return Replies::Perhaps;
    }
    let is_hidden = expected.is_some_and(|expected| match request.reply {
        ReplyShape::Binary(head) => expected
            .first_chunk::<BINARY_HEADER_BYTES>()
            .is_some_and(|header| head.hides(header)),
        shape => expected
            .first_chunk()
            .is_some_and(|&code| shape.hides(code)),
    });
    if is_hidden {
        // A request that is too large is told so in any case.
        Replies::Errors
    } else {
        Replies::Always
    }
}

/// What honest servers answer. `None`: that is not known here.
fn expected(reader: Reader<'_>, request: &Request, wire: &[u8]) -> Option<Vec<u8>> {
    // Which of several numbers of servers it was is not known.
    let servers = match reader.world.counts[..] {
        [servers] => Some(servers),
        _ => None,
    };
    if let ReplyShape::Binary(head) = request.reply {
        return match request.route {
            Route::Local(Local::SaslMechanisms | Local::SaslAuth | Local::SaslStep) => None,
            Route::Broadcast(Merge::BinaryStats) => Some(binary_answer(wire, loud(head), servers?)),
            _ => Some(binary_answer(wire, loud(head), 1)),
        };
    }
    let mut sent = wire.to_vec();
    if let Some(noreply) = &request.noreply {
        sent.drain(noreply.clone());
    }
    let Framed::Request { words, .. } = framing::memcached(&sent) else {
        return None;
    };
    let word = |n: usize| words.get(n).map_or(&b""[..], |word| &sent[word.clone()]);
    Some(match request.route {
        Route::Local(Local::MetaNoop) => b"MN\r\n".to_vec(),
        Route::Split(Split::MemcachedGet) => {
            let first = if request.name.starts_with("gat") {
                2
            } else {
                1
            };
            let with_cas = request.name.ends_with('s');
            let keys = words.iter().skip(first);
            let mut blocks: Vec<_> = keys
                .map(|key| block(&sent[key.clone()], with_cas))
                .collect();
            blocks.push(b"END\r\n".to_vec());
            blocks.concat()
        }
        Route::Broadcast(Merge::Stats) => stats(word(1), servers?),
        _ => memcached_answer(&sent, &words),
    })
}

/// The opcode by which a server knows a request.
fn loud(head: BinaryHead) -> u8 {
    let mut header = [0; BINARY_HEADER_BYTES];
    head.address(&mut header, 0);
    header[1]
}
