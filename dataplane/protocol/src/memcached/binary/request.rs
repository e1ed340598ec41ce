//! Binary requests.

use crate::memcached::MEMCACHED_KEY_BYTES_MAX;
use crate::reply::ReplyShape;
use crate::request::{
    Local, Merge, Parsed, Recovery, Refusal, RefusalText, Request, Route, incomplete,
};
use crate::rest::{Ends, RequestRest};

use super::opcodes::{Has, Opcode, Treatment, opcode};
use super::{BINARY_HEADER_BYTES, BINARY_REQUEST_MAGIC, BinaryHead, BinaryStatus, Lengths};

/// Most bytes of a body. memcached counts a value with two more bytes in 31 bits, and loses its place in the stream beyond; it
/// stores at most 1 GiB in any case.
const BODY_BYTES_MAX: u32 = i32::MAX as u32 - 1024;

/// Longest mechanism of SASL. memcached: 32.
const MECHANISM_BYTES_MAX: usize = 32;

/// Most bytes of credentials. They are compared as a whole, and no name or password is longer.
const CREDENTIALS_BYTES_MAX: u32 = 1024;

/// How the statistics start that are none: they switch a server's bookkeeping by prefix of keys, or dump it in one piece.
const SWITCH: &[u8] = b"detail";

/// Parses the frame at the front of `buf`. It looks at a header only, so there is nothing to resume.
#[inline]
pub(crate) fn parse(buf: &[u8]) -> Parsed {
    let Some(header) = buf.first_chunk::<BINARY_HEADER_BYTES>() else {
        return match buf.first() {
            Some(&magic) if magic != BINARY_REQUEST_MAGIC => bad_magic(),
            _ => incomplete(buf, BINARY_HEADER_BYTES),
        };
    };
    if header[0] != BINARY_REQUEST_MAGIC {
        return bad_magic();
    }
    let head = BinaryHead::of(header);
    let lengths = Lengths::of(header);
    let form = match opcode(head.opcode) {
        Some(form) if lengths.are_sound() && has_form(&form, lengths) => form,
        found => return refuse(found, head, lengths),
    };
    let front = BINARY_HEADER_BYTES + lengths.front();
    if buf.len() < front {
        return incomplete(buf, front);
    }
    if form.treatment == Treatment::Stat && buf[BINARY_HEADER_BYTES..].starts_with(SWITCH) {
        return refuse_whole(head, BinaryStatus::NotFound, lengths);
    }
    let whole = BINARY_HEADER_BYTES + lengths.body as usize;
    let mut request = Request {
        name: form.name,
        route: Route::Key,
        argc: 1,
        key: front - lengths.key..front,
        prefix: 0..0,
        bytes: whole,
        noreply: None,
        reply: ReplyShape::Binary(head),
    };
    match form.treatment {
        Treatment::Keyed => {}
        other => request.route = route(other),
    }
    if buf.len() >= whole {
        return Parsed::Whole(request);
    }
    if form.treatment != Treatment::Keyed {
        return incomplete(buf, whole);
    }
    request.bytes = buf.len();
    Parsed::Head {
        request,
        rest: body(lengths.body - (buf.len() - BINARY_HEADER_BYTES) as u32),
        need: whole,
    }
}

/// How a request without a key of the cache is dealt with.
fn route(treatment: Treatment) -> Route {
    match treatment {
        Treatment::Keyed => Route::Key,
        Treatment::Version => Route::Any,
        Treatment::Flush => Route::Broadcast(Merge::BinaryFlush),
        Treatment::Stat => Route::Broadcast(Merge::BinaryStats),
        Treatment::Noop => Route::Local(Local::BinaryNoop),
        Treatment::Quit => Route::Local(Local::BinaryQuit),
        Treatment::SaslMechanisms => Route::Local(Local::SaslMechanisms),
        Treatment::SaslAuth => Route::Local(Local::SaslAuth),
        Treatment::SaslStep => Route::Local(Local::SaslStep),
    }
}

/// Whether extras, key and value are as the opcode demands. memcached takes a touch or gat that is longer, and loses its place in the stream.
fn has_form(form: &Opcode, lengths: Lengths) -> bool {
    let extras = usize::from(form.extras);
    let extras_left_out = form.treatment == Treatment::Flush && lengths.extras == 0;
    let value = lengths.body as usize - lengths.front();
    let is_bounded = match form.treatment {
        Treatment::SaslAuth | Treatment::SaslStep => {
            lengths.key <= MECHANISM_BYTES_MAX && lengths.body <= CREDENTIALS_BYTES_MAX
        }
        _ => lengths.body <= BODY_BYTES_MAX,
    };
    (lengths.extras == extras || extras_left_out)
        && form.key.allows(lengths.key)
        && form.value.allows(value)
        && lengths.key <= MEMCACHED_KEY_BYTES_MAX
        && is_bounded
}

/// The refusal of a frame that is not as its opcode demands, or has none that is known. memcached ends the connection where the
/// frame contradicts itself.
#[cold]
fn refuse(form: Option<Opcode>, head: BinaryHead, lengths: Lengths) -> Parsed {
    let (status, goes_on) = match form {
        _ if !lengths.are_sound() => (BinaryStatus::UnknownCommand, false),
        None => (BinaryStatus::UnknownCommand, true),
        Some(form) if form.value != Has::No && lengths.body > BODY_BYTES_MAX => {
            (BinaryStatus::TooLarge, true)
        }
        Some(_) => (BinaryStatus::Invalid, false),
    };
    if goes_on {
        return refuse_whole(head, status, lengths);
    }
    Parsed::Refused(Refusal {
        reply: RefusalText::Binary(head, status),
        recovery: Recovery::Close,
    })
}

/// The refusal of a frame that ends where it says.
#[cold]
fn refuse_whole(head: BinaryHead, status: BinaryStatus, lengths: Lengths) -> Parsed {
    Parsed::Refused(Refusal {
        reply: RefusalText::Binary(head, status),
        recovery: Recovery::Skip {
            bytes: BINARY_HEADER_BYTES,
            rest: body(lengths.body),
        },
    })
}

/// Where the next request starts cannot be known.
#[cold]
fn bad_magic() -> Parsed {
    Parsed::Refused(Refusal {
        reply: RefusalText::Binary(BinaryHead::default(), BinaryStatus::Invalid),
        recovery: Recovery::Close,
    })
}

/// Measures the `bytes` that are left of a body.
fn body(bytes: u32) -> RequestRest {
    RequestRest {
        args_left: 0,
        body_left: bytes,
        ends: Ends::Any,
    }
}
