//! A server's bytes against the reply scanners.

use crate::cuts::pieces;
use crate::framing::resp2_value;
use tidegate_protocol::{
    ARRAYS_IN_A_ROW_MAX, ArrayHeader, LineReply, REPLY_TOKEN_BYTES_MAX, ReplyError, ReplyScanner,
    ReplyShape, ValueHeader, parse_array_header, parse_integer_reply, parse_status_reply,
    parse_value_header,
};

/// How one reply was measured: its bytes, whether it is an error, and whether it ends.
type Measured = Result<(usize, bool, bool), ReplyError>;

fn measure<'a>(shape: ReplyShape, pieces: impl IntoIterator<Item = &'a [u8]>) -> Measured {
    let mut scanner = ReplyScanner::new(shape);
    let mut buffer = Vec::new();
    let mut total = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let scan = scanner.scan(&buffer)?;
        assert!(scan.bytes <= buffer.len(), "only what is there is taken");
        assert_eq!(scan.done, scanner.is_done(), "both say the same");
        assert!(
            scan.done || buffer.len() - scan.bytes <= REPLY_TOKEN_BYTES_MAX,
            "what is left is shorter than a token"
        );
        buffer.drain(..scan.bytes);
        total += scan.bytes;
        if scan.done {
            break;
        }
    }
    Ok((total, scanner.is_error(), scanner.is_done()))
}

fn check(shape: ReplyShape, input: &[u8]) -> Measured {
    let whole = measure(shape, [input]);
    let same = |other: Measured, what: &str| match other {
        Ok((_, _, true)) | Err(_) => assert_eq!(whole, other, "{what}"),
        // Of a reply that is not whole the pieces decide how much was passed on.
        Ok((_, _, false)) => assert!(matches!(whole, Ok((_, _, false))), "{what}: {whole:?}"),
    };
    same(measure(shape, input.chunks(1)), "byte by byte");
    same(measure(shape, pieces(input)), "in pieces");
    whole
}

/// What stands one after the other.
fn each(shape: ReplyShape, input: &[u8], mut seen: impl FnMut(&[u8], Measured)) {
    let mut rest = input;
    while !rest.is_empty() {
        let measured = check(shape, rest);
        seen(rest, measured);
        match measured {
            Ok((bytes, _, true)) => {
                assert!(bytes > 0, "a reply has bytes");
                rest = &rest[bytes..];
            }
            _ => return,
        }
    }
}

/// Redis.
///
/// # Panics
/// When a promise is broken.
pub fn redis(input: &[u8]) {
    each(ReplyShape::Resp, input, |rest, measured| {
        let arrays = rest.split(|&byte| byte == b'*').count() - 1;
        let shallow = arrays <= usize::from(ARRAYS_IN_A_ROW_MAX);
        if let Some(end) = resp2_value(rest)
            && shallow
        {
            assert_eq!(
                measured.map(|(bytes, _, done)| (bytes, done)),
                Ok((end, true)),
                "{}",
                rest.escape_ascii()
            );
        }
        parts(rest);
    });
}

/// memcached: the forms of its replies all try the same bytes.
///
/// # Panics
/// When a promise is broken.
pub fn memcached(input: &[u8]) {
    for shape in [ReplyShape::Line, ReplyShape::Values] {
        each(shape, input, |rest, _| parts(rest));
    }
}

/// The functions that look into replies which are merged.
fn parts(buf: &[u8]) {
    let within = |bytes: usize| assert!(bytes > 0 && bytes <= buf.len(), "only what is there");
    match parse_array_header(buf) {
        ArrayHeader::Array { bytes, .. } | ArrayHeader::Error { bytes } => within(bytes),
        ArrayHeader::Incomplete | ArrayHeader::Malformed => {}
    }
    match parse_integer_reply(buf) {
        LineReply::Value { bytes, .. } | LineReply::Error { bytes } => within(bytes),
        LineReply::Incomplete | LineReply::Malformed => {}
    }
    match parse_status_reply(buf) {
        LineReply::Value { bytes, .. } | LineReply::Error { bytes } => within(bytes),
        LineReply::Incomplete | LineReply::Malformed => {}
    }
    match parse_value_header(buf) {
        ValueHeader::Value {
            key, header_bytes, ..
        } => {
            within(header_bytes);
            assert!(key.start < key.end && key.end < header_bytes);
        }
        ValueHeader::End { bytes } | ValueHeader::Error { bytes } => within(bytes),
        ValueHeader::Incomplete | ValueHeader::Malformed => {}
    }
}
