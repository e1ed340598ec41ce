//! A server's bytes against the reply scanners.

use crate::cuts::pieces;
use crate::framing::resp_value;
use tidegate_protocol::{
    ARRAYS_IN_A_ROW_MAX, ArrayHeader, BinaryHead, LineReply, Quiet, REPLY_TOKEN_BYTES_MAX,
    ReplyError, ReplyScanner, ReplyShape, StatFrame, ValueHeader, parse_array_header,
    parse_integer_reply, parse_stat_frame, parse_status_reply, parse_value_header,
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
        let arrays = rest.split(|byte| b"*~>%".contains(byte)).count() - 1;
        let shallow = arrays <= usize::from(ARRAYS_IN_A_ROW_MAX);
        if let Some(end) = resp_value(rest)
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
    let quiet = [Quiet::No, Quiet::Miss, Quiet::Success, Quiet::Arithmetic];
    let shapes = [ReplyShape::Line, ReplyShape::Values].into_iter();
    for shape in shapes.chain(quiet.map(ReplyShape::Meta)) {
        each(shape, input, |rest, _| parts(rest));
    }
}

/// memcached binary: the first two bytes are the opcode of the request and a part of its opaque.
///
/// # Panics
/// When a promise is broken.
pub fn binary(input: &[u8]) {
    let Some((&[opcode, opaque], frames)) = input.split_first_chunk() else {
        return;
    };
    let head = BinaryHead {
        opcode,
        opaque: [0, 0, 0, opaque],
    };
    each(
        ReplyShape::Binary(head),
        frames,
        |rest, _| match parse_stat_frame(rest, head, u32::from(opaque)) {
            Ok(StatFrame::Stat { name, value, bytes }) => {
                assert!(bytes <= rest.len() && name.end <= bytes && value.end <= bytes);
            }
            Ok(StatFrame::End { bytes }) => assert!(bytes <= rest.len()),
            Ok(StatFrame::Error { text, bytes }) => {
                assert!(bytes <= rest.len() && text.end <= bytes);
            }
            Ok(StatFrame::Incomplete) | Err(_) => {}
        },
    );
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
