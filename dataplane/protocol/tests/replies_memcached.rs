//! Replies of memcached: how long they are and whether they are errors, however they are cut into pieces.

mod driver;

use driver::measure;
use driver::replies::{assert_faulty, assert_measured};
use tidegate_protocol::{
    REPLY_LINE_BYTES_MAX, REPLY_TOKEN_BYTES_MAX, ReplyError, ReplyScanner, ReplyShape, ValueHeader,
    parse_value_header,
};

#[test]
fn statistics_are_measured_up_to_their_end() {
    let long = format!("STAT ssl_ciphers {}\r\nEND\r\n", "x".repeat(1_000));
    for reply in [
        "END\r\n",
        "STAT a 1\r\nEND\r\n",
        "STAT a 1\r\nSTAT b \r\nSTAT c END\r\nEND\r\n",
        "RESET\r\n",
        "OK\r\n",
        &long,
    ] {
        assert_measured(ReplyShape::Stats, reply, false);
    }
    for reply in [
        "ERROR\r\n",
        "CLIENT_ERROR usage\r\n",
        "STAT a 1\r\nSERVER_ERROR out of memory writing stats\r\n",
    ] {
        assert_measured(ReplyShape::Stats, reply, true);
    }
    for reply in [
        "VALUE a 0 1\r\n",
        "\r\n",
        "STAT a 1\r\nRESET\r\n",
        "STAT a 1\r\nOK\r\n",
        "STAT a 1\n",
        "STATUS\r\n",
    ] {
        assert_faulty(ReplyShape::Stats, reply, ReplyError::BadLine);
    }
}

#[test]
fn memcached_lines_are_measured() {
    for reply in [
        "STORED\r\n",
        "NOT_FOUND\r\n",
        "42\r\n",
        "VERSION 1.6.18\r\n",
        "E\r\n",
    ] {
        assert_measured(ReplyShape::Line, reply, false);
    }
    for reply in [
        "ERROR\r\n",
        "CLIENT_ERROR bad data chunk\r\n",
        "SERVER_ERROR out of memory\r\n",
    ] {
        assert_measured(ReplyShape::Line, reply, true);
    }
    assert_faulty(
        ReplyShape::Line,
        "-ERR\r\n",
        ReplyError::UnexpectedByte(b'-'),
    );
    assert_faulty(ReplyShape::Line, "STORED\n", ReplyError::BadLine);
}

#[test]
fn memcached_values_are_measured() {
    let long = format!(
        "VALUE {} 4294967295 3 18446744073709551615\r\nabc\r\nEND\r\n",
        "k".repeat(250)
    );
    for reply in [
        "END\r\n",
        "VALUE k 0 0\r\n\r\nEND\r\n",
        "VALUE k 0 5\r\nEND\r\n\r\nEND\r\n",
        "VALUE k 12 3\r\nabc\r\nEND\r\n",
        "VALUE k 0 3\r\nabc\r\nVALUE l 0 1\r\nx\r\nEND\r\n",
        "VALUE k 0 3 77\r\nabc\r\nVALUE l 5 1 78\r\nx\r\nEND\r\n",
        &long,
    ] {
        assert_measured(ReplyShape::Values, reply, false);
    }
    for reply in [
        "ERROR\r\n",
        "CLIENT_ERROR bad\r\n",
        "SERVER_ERROR x\r\n",
        "VALUE k 0 1\r\na\r\nSERVER_ERROR out of memory\r\n",
    ] {
        assert_measured(ReplyShape::Values, reply, true);
    }
}

#[test]
fn memcached_garbage_is_told_apart() {
    let long = format!("VALUE {} 0 3\r\nabc\r\nEND\r\n", "k".repeat(251));
    for (reply, error) in [
        ("+OK\r\n", ReplyError::UnexpectedByte(b'+')),
        ("STORED\r\n", ReplyError::BadLine),
        ("ENDE\r\n", ReplyError::BadLine),
        ("END\n", ReplyError::BadLine),
        ("VALUE k 0 x\r\nabc\r\n", ReplyError::BadLine),
        ("VALUE k 0 -3\r\nabc\r\n", ReplyError::BadLine),
        ("VALUE k 0\r\nabc\r\n", ReplyError::BadLine),
        ("VALUE  0 3\r\nabc\r\n", ReplyError::BadLine),
        ("VALUE k\r\nl 0 3\r\nabc\r\n", ReplyError::BadLine),
        ("VALUE k 0\r\n0 3\r\nabc\r\n", ReplyError::BadLine),
        ("VALUE k 0 3 4 5\r\nabc\r\n", ReplyError::BadLine),
        ("VALUE k 0 3\nabc\r\n", ReplyError::BadLine),
        ("VALUE k 0 3\r\nabcd\r\nEND\r\n", ReplyError::BadDataEnd),
        (&long, ReplyError::BadLine),
    ] {
        assert_faulty(ReplyShape::Values, reply, error);
    }
}

#[test]
fn a_long_line_is_passed_on_in_pieces() {
    for (shape, front) in [
        (ReplyShape::Resp, "-ERR "),
        (ReplyShape::Line, "SERVER_ERROR "),
        (ReplyShape::Values, "SERVER_ERROR "),
    ] {
        let line = format!("{front}{}\r\n", "x".repeat(5000));
        for piece in [1, 7, REPLY_TOKEN_BYTES_MAX + 1, 5001, 6000] {
            assert_eq!(
                measure(shape, line.as_bytes().chunks(piece)),
                Ok((line.len(), true, true)),
                "{shape:?} by {piece}"
            );
        }
        let mut scanner = ReplyScanner::new(shape);
        let scan = scanner
            .scan(&line.as_bytes()[..=REPLY_TOKEN_BYTES_MAX])
            .expect("the front of a line");
        assert_eq!(
            (scan.bytes, scan.done),
            (REPLY_TOKEN_BYTES_MAX, false),
            "{shape:?}"
        );
        assert!(scanner.is_error());
    }
}

#[test]
fn a_line_without_end_is_given_up() {
    for (shape, front) in [
        (ReplyShape::Resp, "+"),
        (ReplyShape::Line, "S"),
        (ReplyShape::Values, "SERVER_ERROR "),
    ] {
        let line = format!("{front}{}", "x".repeat(REPLY_LINE_BYTES_MAX + 1));
        for piece in [100, 70_000] {
            assert_eq!(
                measure(shape, line.as_bytes().chunks(piece)),
                Err(ReplyError::LineTooLong),
                "{shape:?} by {piece}"
            );
        }
    }
}

#[test]
fn value_headers_are_read() {
    for (reply, expected) in [
        (
            "VALUE abc 7 12\r\nx",
            ValueHeader::Value {
                key: 6..9,
                header_bytes: 16,
                data_bytes: 12,
            },
        ),
        (
            "VALUE abc 7 12 99\r\nx",
            ValueHeader::Value {
                key: 6..9,
                header_bytes: 19,
                data_bytes: 12,
            },
        ),
        ("END\r\nx", ValueHeader::End { bytes: 5 }),
        ("ERROR\r\n", ValueHeader::Error { bytes: 7 }),
        ("SERVER_ERROR x\r\n", ValueHeader::Error { bytes: 16 }),
        ("", ValueHeader::Incomplete),
        ("E", ValueHeader::Incomplete),
        ("END\r", ValueHeader::Incomplete),
        ("VALUE", ValueHeader::Incomplete),
        ("VALUE abc 7 12\r", ValueHeader::Incomplete),
        ("VALUE abc 7 12", ValueHeader::Incomplete),
        ("SERVER_", ValueHeader::Incomplete),
        ("STORED\r\n", ValueHeader::Malformed),
        ("VALUE abc 7\r\n", ValueHeader::Malformed),
    ] {
        assert_eq!(parse_value_header(reply.as_bytes()), expected, "{reply:?}");
    }
}

/// Else a buffer that is full of such a line would wait for its end for ever.
#[test]
fn a_line_that_only_starts_like_a_value_or_an_error_is_refused_before_it_fills_a_buffer() {
    for start in ["VALE", "EN", "ERROR "] {
        let stream = [start.as_bytes(), &[b'x'; REPLY_TOKEN_BYTES_MAX]].concat();
        let refused = Err(ReplyError::BadLine);
        assert_eq!(measure(ReplyShape::Values, [&stream[..]]), refused);
        assert_eq!(measure(ReplyShape::Values, stream.chunks(1)), refused);
    }
}
