//! What a reply is measured to be, in any pieces.

use super::{measure, segmentations};
use tidegate_protocol::{ReplyError, ReplyShape};

/// Asserts that `reply` is measured whole in any pieces, with more bytes behind it and without.
pub fn assert_measured(shape: ReplyShape, reply: &str, is_error: bool) {
    for behind in ["", "+", "END\r\n", "$5\r\n"] {
        let stream = format!("{reply}{behind}");
        for pieces in segmentations(stream.as_bytes()) {
            let cuts: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
            let measured = measure(shape, pieces);
            assert_eq!(
                measured,
                Ok((reply.len(), is_error, true)),
                "{stream:?} in pieces of {cuts:?}"
            );
        }
    }
    // A part of a reply never looks like a whole one.
    for end in 0..reply.len() {
        let (_, _, done) =
            measure(shape, [&reply.as_bytes()[..end]]).expect("the front of a sound reply");
        assert!(!done, "{:?}", &reply[..end]);
    }
}

pub fn assert_faulty(shape: ReplyShape, reply: &str, expected: ReplyError) {
    for pieces in segmentations(reply.as_bytes()) {
        assert_eq!(measure(shape, pieces), Err(expected), "{reply:?}");
    }
}

/// `look` at every front of `wire` is `incomplete`, and at all of it `whole`, whatever follows.
pub fn assert_look<T: PartialEq + std::fmt::Debug>(
    look: impl Fn(&[u8]) -> T,
    wire: &str,
    incomplete: &T,
    whole: &T,
) {
    for end in 0..wire.len() {
        assert_eq!(
            look(&wire.as_bytes()[..end]),
            *incomplete,
            "{:?}",
            &wire[..end]
        );
    }
    for behind in ["", "x", "\r\n"] {
        assert_eq!(
            look(format!("{wire}{behind}").as_bytes()),
            *whole,
            "{wire:?}"
        );
    }
}
