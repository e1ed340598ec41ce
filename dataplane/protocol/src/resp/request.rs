//! Parsing a RESP2 request.

use std::ops::Range;

use super::commands::{Command, Rule};
use super::limits::REDIS_ARGUMENTS_MAX;
use super::lookup::Rows;
use super::{BulkHeader, bulk_fault, bulk_header, frequent, inline, lookup};
use crate::reply::ReplyShape;
use crate::request::{
    Local, Parsed, Recovery, Refusal, RefusalText, Request, Resume, Route, Split, incomplete,
};
use crate::rest::{Ends, RequestRest};
use crate::scan::{NumberLine, number_line};

const BAD_COUNT: Refusal = Refusal::close("-ERR Protocol error: invalid multibulk length\r\n");

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
    let command = lookup::command(resume.command);
    if resume.until_key > 0
        && let Some(parsed) = walk_to_key(buf, resume, command)
    {
        return parsed;
    }
    measure_rest(buf, resume, command)
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
    let command = lookup::command(index);
    let (until_key, fault) = check(command, argc);
    if let Some(reply) = fault {
        return Some(refused(resume, skip_rest(reply, name_end + 2, argc - 1)));
    }
    *resume = Resume {
        at: (name_end + 2) as u32,
        rest: RequestRest::bulks(argc - 1),
        argc,
        until_key,
        key_start: 0,
        key_end: 0,
        name_start: header_end as u32,
        command: index,
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

/// The position of the command's key among `argc` arguments (0: it has none), and the error reply if the command is not taken.
#[inline]
fn check(command: &'static Command, argc: u32) -> (u32, Option<&'static str>) {
    let arity = i32::from(command.arity);
    let fits = if arity >= 0 {
        argc == arity as u32
    } else {
        argc >= arity.unsigned_abs()
    };
    let (key, fits) = match command.rule {
        Rule::Key(position) => (u32::from(position), fits),
        Rule::KeyCount(position) => {
            let key = u32::from(position) + 1;
            // Without an argument there the count can only be 0.
            return (
                key,
                if !fits {
                    Some(command.wrong_arity)
                } else if argc <= key {
                    Some(command.refusal)
                } else {
                    None
                },
            );
        }
        Rule::Split(Split::Mset) => (1, fits && argc % 2 == 1),
        Rule::Split(_) | Rule::Local(Local::Select) => (1, fits),
        Rule::Local(Local::Ping) => (argc.saturating_sub(1), fits && argc <= 2),
        Rule::Local(Local::Auth) => (argc - 1, fits && argc <= 3),
        Rule::Any | Rule::Local(_) => (0, fits),
        Rule::Refused => return (0, Some(command.refusal)),
    };
    (
        key,
        if fits {
            None
        } else {
            Some(command.wrong_arity)
        },
    )
}

/// Moves `resume` behind the key, or returns what was decided before.
#[inline]
fn walk_to_key(buf: &[u8], resume: &mut Resume, command: &'static Command) -> Option<Parsed> {
    loop {
        let at = resume.at as usize;
        let (start, bytes) = match bulk_header(buf, at) {
            BulkHeader::Bulk { start, bytes } => (start, bytes as usize),
            BulkHeader::Incomplete => return Some(incomplete(buf, 0)),
            BulkHeader::Bad => return Some(refused(resume, bulk_fault(buf, at))),
        };
        let end = start + bytes;
        match buf.get(end..end + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Some(refused(resume, super::BAD_BULK_END)),
            None => {
                return Some(incomplete(buf, end + 2));
            }
        }
        resume.at = (end + 2) as u32;
        resume.rest.args_left -= 1;
        resume.until_key -= 1;
        if resume.until_key == 0 {
            resume.key_start = start as u32;
            resume.key_end = end as u32;
            return None;
        }
        // The last argument before the key of such a command is the number of keys.
        if resume.until_key == 1
            && matches!(command.rule, Rule::KeyCount(_))
            && !is_positive(&buf[start..end])
        {
            let refusal = skip_rest(command.refusal, end + 2, resume.rest.args_left);
            return Some(refused(resume, refusal));
        }
    }
}

/// Whether the digits are a number above 0 as Redis reads one. What is none would be refused by the server as well.
fn is_positive(digits: &[u8]) -> bool {
    matches!(digits, [b'1'..=b'9', more @ ..] if more.len() < 18 && more.iter().all(u8::is_ascii_digit))
}

/// Measures what follows the key and puts the request together.
#[inline]
fn measure_rest(buf: &[u8], resume: &mut Resume, command: &'static Command) -> Parsed {
    let from = resume.at as usize;
    let mut at = from;
    if !resume.rest.is_done() {
        match resume.rest.measure(buf.get(from..).unwrap_or_default()) {
            Ok(scan) => at += scan.bytes,
            Err(refusal) => return refused(resume, refusal.shifted(from)),
        }
        resume.at = at as u32;
    }
    let request = Request {
        name: command.name,
        route: route(command, resume.argc),
        argc: resume.argc,
        key: resume.key_start as usize..resume.key_end as usize,
        prefix: resume.name_start as usize..name_end(resume.name_start as usize, command),
        bytes: at,
        noreply: None,
        reply: ReplyShape::Resp,
    };
    if resume.rest.is_done() {
        *resume = Resume::default();
        return Parsed::Whole(request);
    }
    match request.route {
        Route::Key | Route::Any => {
            let need = (at + resume.rest.bytes_min()).max(buf.len() + 1);
            Parsed::Head {
                request,
                rest: resume.rest,
                need,
            }
        }
        // Only as far as the bulk that was begun: a fault behind it is then answered as soon as it is here.
        Route::Split(_) | Route::Local(_) => incomplete(buf, at + resume.rest.body_left as usize),
    }
}

/// Where a request goes whose command is at `index` of the table, and the wire form of its name, which starts at `name_start`.
pub(crate) fn front_of(index: u16, argc: u32, name_start: usize) -> (Route, Range<usize>) {
    let command = lookup::command(index);
    let prefix = name_start..name_end(name_start, command);
    (route(command, argc), prefix)
}

/// Where the name's wire form ends: its header has as many digits as the length of the name.
#[inline]
fn name_end(name_start: usize, command: &Command) -> usize {
    let bytes = command.name.len();
    let header = if bytes > 9 { 5 } else { 4 };
    name_start + header + bytes + 2
}

#[inline]
fn route(command: &Command, argc: u32) -> Route {
    match command.rule {
        Rule::Split(Split::Mset) if argc == 3 => Route::Key,
        Rule::Split(_) if argc == 2 => Route::Key,
        Rule::Split(split) => Route::Split(split),
        Rule::Any => Route::Any,
        Rule::Local(local) => Route::Local(local),
        Rule::Key(_) | Rule::KeyCount(_) | Rule::Refused => Route::Key,
    }
}
