//! Parsing a RESP request.

use std::ops::Range;

use super::commands::Command;
use super::limits::REDIS_ARGUMENTS_MAX;
use super::lookup::Rows;
use super::plan::{BAD_KEY_COUNT, count_fault, counted, plan};
use super::{BulkHeader, bulk_fault, bulk_header, frequent, inline, lookup, whole};
use crate::reply::ReplyShape;
use crate::request::{
    Parsed, Recovery, Refusal, RefusalText, Request, Resume, Route, Sought, incomplete,
};
use crate::rest::{Ends, RequestRest};
use crate::scan::{NumberLine, number_line};

const BAD_COUNT: Refusal = Refusal::close("-ERR Protocol error: invalid multibulk length\r\n");

/// Longest argument that can be a subcommand's name or a count; a longer one is not waited for.
const WORD_BYTES_MAX: u32 = 32;

/// Most bytes of an unknown command's name that its error reply shows, as in Redis.
const SHOWN_NAME_BYTES_MAX: u32 = 128;

/// Parses what stands at the front of `buf`.
#[inline]
pub(crate) fn parse(buf: &[u8], resume: &mut Resume) -> Parsed {
    if resume.argc == 0
        && let Some(request) = frequent::parse(Rows::OWN, buf)
    {
        return Parsed::Whole(request);
    }
    parse_general(Rows::OWN, buf, resume)
}

/// Parses what stands at the front of `buf`, and refuses what twemproxy does not take.
pub(crate) fn parse_as_twemproxy(buf: &[u8], resume: &mut Resume) -> Parsed {
    if resume.argc == 0 {
        if let Some(request) = frequent::parse(Rows::TWEMPROXY, buf) {
            return Parsed::Whole(request);
        }
        if buf.first().is_some_and(|&first| first != b'*') {
            // It has no inline commands.
            return Parsed::Refused(Refusal::SILENT);
        }
    }
    parse_general(Rows::TWEMPROXY, buf, resume)
}

/// Parses a request of any shape.
pub(super) fn parse_general(rows: Rows, buf: &[u8], resume: &mut Resume) -> Parsed {
    if resume.argc == 0
        && let Some(parsed) = front(rows, buf, resume)
    {
        return parsed;
    }
    while resume.until > 0 {
        if let Some(parsed) = walk(buf, resume) {
            return parsed;
        }
    }
    measure_rest(buf, resume)
}

#[cold]
fn refused(resume: &mut Resume, refusal: Refusal) -> Parsed {
    *resume = Resume::default();
    Parsed::Refused(refusal)
}

/// Reads the array's length and the command's name. Leaves `resume` behind the name, or returns what was decided already.
#[inline]
fn front(rows: Rows, buf: &[u8], resume: &mut Resume) -> Option<Parsed> {
    match buf.first() {
        Some(b'*') => {}
        None => return Some(incomplete(buf, 0)),
        Some(_) => return Some(inline::parse(buf, resume)),
    }
    let (count, header_end) = match number_line(buf, 1) {
        NumberLine::Number { value, end } => (value, end),
        NumberLine::Incomplete => return Some(incomplete(buf, 0)),
        NumberLine::Bad => return Some(refused(resume, BAD_COUNT)),
    };
    if count <= 0 {
        // Redis takes an empty array and the null array for nothing, and says nothing.
        return Some(Parsed::Skip { bytes: header_end });
    }
    if count > i64::from(REDIS_ARGUMENTS_MAX) {
        return Some(refused(resume, BAD_COUNT));
    }
    let argc = count as u32;
    let (name_start, name_bytes) = match bulk_header(buf, header_end) {
        BulkHeader::Bulk { start, bytes } => (start, bytes),
        BulkHeader::Incomplete => return Some(incomplete(buf, 0)),
        BulkHeader::Bad => return Some(refused(resume, bulk_fault(buf, header_end))),
    };
    let index = match name(rows, buf, name_start, name_bytes) {
        Name::Known(index) => index,
        Name::Unknown => return Some(refused(resume, unknown(name_start, name_bytes, argc))),
        Name::Incomplete { need } => return Some(incomplete(buf, need)),
        Name::BadEnd => return Some(refused(resume, super::BAD_BULK_END)),
    };
    let name_end = name_start + name_bytes as usize;
    let plan = match plan(lookup::command(index), argc) {
        Ok(plan) => plan,
        Err(reply) => return Some(refused(resume, skip_rest(reply, name_end + 2, argc - 1))),
    };
    *resume = Resume {
        at: (name_end + 2) as u32,
        rest: RequestRest::bulks(argc - 1),
        argc,
        key_start: 0,
        key_end: 0,
        name_start: header_end as u32,
        command: index,
        route: plan.route,
        until: plan.until,
        sought: plan.sought,
    };
    None
}

/// What a name is.
enum Name {
    Incomplete {
        need: usize,
    },
    /// The command at this index of the table.
    Known(u16),
    Unknown,
    /// No CR LF behind it.
    BadEnd,
}

/// Looks at the name of `bytes` bytes at `start`.
#[inline]
fn name(rows: Rows, buf: &[u8], start: usize, bytes: u32) -> Name {
    if bytes as usize > lookup::NAME_BYTES_MAX {
        // It does not have to be here whole to be unknown, only as far as the reply shows it.
        let need = start + bytes.min(SHOWN_NAME_BYTES_MAX) as usize;
        return if buf.len() < need {
            Name::Incomplete { need }
        } else {
            Name::Unknown
        };
    }
    let end = start + bytes as usize;
    match buf.get(end..end + 2) {
        Some(b"\r\n") => {
            lookup::find(rows, buf, start, bytes as usize).map_or(Name::Unknown, Name::Known)
        }
        Some(_) => Name::BadEnd,
        None => Name::Incomplete { need: end + 2 },
    }
}

/// The refusal of a command that is not in the table. What is skipped starts with its name.
#[cold]
fn unknown(name_start: usize, name_bytes: u32, argc: u32) -> Refusal {
    let reply = RefusalText::Named {
        before: "-ERR unknown command '",
        name_start: name_start as u32,
        name_bytes: name_bytes.min(SHOWN_NAME_BYTES_MAX),
        after: "'\r\n",
    };
    let rest = RequestRest {
        args_left: argc - 1,
        body_left: name_bytes + 2,
        ends: Ends::Bulk,
    };
    Refusal {
        reply,
        recovery: Recovery::Skip {
            bytes: name_start,
            rest,
        },
    }
}

/// The refusal `reply` of a request of which `args_left` arguments follow `at`.
#[cold]
fn skip_rest(reply: &'static str, at: usize, args_left: u32) -> Refusal {
    let recovery = Recovery::Skip {
        bytes: at,
        rest: RequestRest::bulks(args_left),
    };
    Refusal {
        reply: RefusalText::Constant(reply),
        recovery,
    }
}

/// Moves `resume` behind the argument that is sought and looks at it, or returns what was decided before.
#[inline]
fn walk(buf: &[u8], resume: &mut Resume) -> Option<Parsed> {
    loop {
        let at = resume.at as usize;
        let (start, bytes) = match bulk_header(buf, at) {
            BulkHeader::Bulk { start, bytes } => (start, bytes),
            BulkHeader::Incomplete => return Some(incomplete(buf, 0)),
            BulkHeader::Bad => return Some(refused(resume, bulk_fault(buf, at))),
        };
        let is_word = resume.until == 1 && resume.sought != Sought::Key;
        if is_word && bytes > WORD_BYTES_MAX {
            return Some(long_word(buf, resume, start, bytes));
        }
        let end = start + bytes as usize;
        match buf.get(end..end + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Some(refused(resume, super::BAD_BULK_END)),
            None => return Some(incomplete(buf, end + 2)),
        }
        resume.at = (end + 2) as u32;
        resume.rest.args_left -= 1;
        resume.until -= 1;
        if resume.until == 0 {
            if resume.sought == Sought::Key {
                resume.key_start = start as u32;
                resume.key_end = end as u32;
                return None;
            }
            return found_word(buf, resume, start, end);
        }
    }
}

/// The refusal of an argument that is too long for what it should be. Its header was read; it has `bytes` bytes from `start` on.
#[cold]
fn long_word(buf: &[u8], resume: &mut Resume, start: usize, bytes: u32) -> Parsed {
    let command = lookup::command(resume.command);
    let reply = match resume.sought {
        Sought::Subcommand => {
            // As much of it as the reply shows.
            let need = start + bytes.min(SHOWN_NAME_BYTES_MAX) as usize;
            if buf.len() < need {
                return incomplete(buf, need);
            }
            unknown_subcommand(command, start, bytes)
        }
        _ => RefusalText::Constant(count_fault(command, BAD_KEY_COUNT)),
    };
    let rest = RequestRest {
        args_left: resume.rest.args_left - 1,
        body_left: bytes + 2,
        ends: Ends::Bulk,
    };
    let recovery = Recovery::Skip { bytes: start, rest };
    refused(resume, Refusal { reply, recovery })
}

/// Goes by the subcommand or the count of keys that was found between `start` and `end`.
#[cold]
fn found_word(buf: &[u8], resume: &mut Resume, start: usize, end: usize) -> Option<Parsed> {
    let command = lookup::command(resume.command);
    let args_left = resume.rest.args_left;
    let word = &buf[start..end];
    let reply = if resume.sought == Sought::Subcommand {
        match lookup::find_subcommand(command, word) {
            None => unknown_subcommand(command, start, word.len() as u32),
            Some(index) => match plan(lookup::command(index), resume.argc) {
                Err(reply) => RefusalText::Constant(reply),
                Ok(plan) => {
                    resume.command = index;
                    resume.route = plan.route;
                    resume.sought = plan.sought;
                    // The subcommand itself was passed. A key never stands before it.
                    resume.until = plan.until.saturating_sub(1);
                    return None;
                }
            },
        }
    } else {
        match counted(command, resume.route, word, args_left) {
            Err(reply) => RefusalText::Constant(count_fault(command, reply)),
            Ok(route) => {
                resume.route = route;
                resume.sought = Sought::Key;
                resume.until = u8::from(route != Route::First);
                return None;
            }
        }
    };
    let recovery = Recovery::Skip {
        bytes: end + 2,
        rest: RequestRest::bulks(args_left),
    };
    Some(refused(resume, Refusal { reply, recovery }))
}

fn unknown_subcommand(container: &Command, name_start: usize, name_bytes: u32) -> RefusalText {
    RefusalText::Named {
        before: "-ERR unknown subcommand '",
        name_start: name_start as u32,
        name_bytes: name_bytes.min(SHOWN_NAME_BYTES_MAX),
        after: container.refusal,
    }
}

/// Measures what follows and puts the request together.
#[inline]
fn measure_rest(buf: &[u8], resume: &mut Resume) -> Parsed {
    let from = resume.at as usize;
    let mut at = from;
    if !resume.rest.is_done() {
        match resume.rest.measure(buf.get(from..).unwrap_or_default()) {
            Ok(scan) => at += scan.bytes,
            Err(refusal) => return refused(resume, refusal.shifted(from)),
        }
        resume.at = at as u32;
    }
    let command = lookup::command(resume.command);
    let request = Request {
        name: command.name,
        route: resume.route,
        argc: resume.argc,
        key: resume.key_start as usize..resume.key_end as usize,
        prefix: prefix_of(resume.command, resume.name_start as usize),
        bytes: at,
        noreply: None,
        reply: ReplyShape::Resp,
    };
    if resume.rest.is_done() {
        *resume = Resume::default();
        return match request.route {
            Route::Together | Route::Pinned(_) => whole::judge(command, buf, request),
            _ => Parsed::Whole(request),
        };
    }
    match request.route {
        Route::Key | Route::Any | Route::First | Route::Channel => {
            let need = (at + resume.rest.bytes_min()).max(buf.len() + 1);
            Parsed::Head {
                request,
                rest: resume.rest,
                need,
            }
        }
        // Only as far as the bulk that was begun: a fault behind it is then answered as soon as it is here.
        _ => incomplete(buf, at + resume.rest.body_left as usize),
    }
}

/// The lower-case name of the command at `index` of the table.
pub(crate) fn name_of(index: u16) -> &'static str {
    lookup::command(index).name
}

/// The wire form of the name, which starts at `name_start`, of the command at `index` of the table. Its header has as many digits as the
/// length of the name.
#[inline]
pub(crate) fn prefix_of(index: u16, name_start: usize) -> Range<usize> {
    let bytes = lookup::name_bytes(index);
    let header = if bytes > 9 { 5 } else { 4 };
    name_start..name_start + header + bytes + 2
}
