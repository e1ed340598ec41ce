//! Replies of Redis: how long they are and whether they are errors, however they are cut into pieces.

mod driver;

use driver::measure;
use driver::replies::{assert_faulty, assert_look, assert_measured};
use tidegate_protocol::{
    ArrayHeader, BulkReply, LineReply, REPLY_TOKEN_BYTES_MAX, ReplyError, ReplyFront, ReplyScanner,
    ReplyShape, ScanReply, parse_array_header, parse_bulk_reply, parse_cursor, parse_integer_reply,
    parse_reply_front, parse_scan_reply, parse_status_reply,
};

#[test]
fn resp_values_are_measured() {
    for reply in [
        "+OK\r\n",
        "+\r\n",
        ":-12\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "$3\r\na\r\n\r\n",
        "$12\r\nhello\r\nworld\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n$1\r\na\r\n$-1\r\n",
        "*3\r\n*2\r\n:1\r\n*0\r\n*-1\r\n*1\r\n*1\r\n+x\r\n",
        "*1\r\n-ERR inside\r\n",
    ] {
        assert_measured(ReplyShape::Resp, reply, false);
    }
    for reply in ["-ERR no\r\n", "-\r\n", "-OOM x\r\n"] {
        assert_measured(ReplyShape::Resp, reply, true);
    }
}

#[test]
fn one_string_is_found_in_either_version_of_the_protocol() {
    for (wire, whole) in [
        (
            "$12\r\n",
            BulkReply::Bulk {
                content_bytes: 12,
                bytes: 5,
            },
        ),
        (
            "=15\r\ntxt:",
            BulkReply::Verbatim {
                content_bytes: 11,
                bytes: 9,
            },
        ),
        ("$-1\r\n", BulkReply::Null { bytes: 5 }),
        ("_\r\n", BulkReply::Null { bytes: 3 }),
        ("-ERR no\r\n", BulkReply::Error { bytes: 9 }),
    ] {
        assert_look(parse_bulk_reply, wire, &BulkReply::Incomplete, &whole);
    }
    for wire in [
        "$-2\r\n",
        "=3\r\ntxt:",
        "=9\r\ntxtx",
        "_x",
        "*1\r\n",
        ":1\r\n",
        "$x",
    ] {
        assert_eq!(
            parse_bulk_reply(wire.as_bytes()),
            BulkReply::Malformed,
            "{wire}"
        );
    }
}

#[test]
fn cursors_of_scan_have_all_64_bits() {
    for cursor in [0, 7, 1 << 47, u64::MAX] {
        let digits = cursor.to_string();
        let wire = format!("*2\r\n${}\r\n{digits}\r\n", digits.len());
        let whole = ScanReply::Cursor {
            cursor,
            bytes: wire.len(),
        };
        assert_look(parse_scan_reply, &wire, &ScanReply::Incomplete, &whole);
    }
    let error = ScanReply::Error { bytes: 9 };
    assert_look(
        parse_scan_reply,
        "-ERR no\r\n",
        &ScanReply::Incomplete,
        &error,
    );
    for wire in [
        "*3\r\n",
        "*2\r\n:1\r\n",
        "*2\r\n$0\r\n\r\n",
        "*2\r\n$1\r\nx\r\n",
        "*2\r\n$20\r\n18446744073709551616\r\n",
        "*2\r\n$21\r\n",
        "*2\r\n$1\r\n1xx",
        "*2\r\n$-1\r\n",
    ] {
        assert_eq!(
            parse_scan_reply(wire.as_bytes()),
            ScanReply::Malformed,
            "{wire:?}"
        );
    }
    for digits in [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "0x1",
        "18446744073709551616",
        "000000000000000000001",
    ] {
        assert_eq!(parse_cursor(digits.as_bytes()), None, "{digits:?}");
    }
}

#[test]
fn error_lines_are_found_at_the_front_of_any_reply() {
    let look = |shape| move |bytes: &[u8]| parse_reply_front(shape, bytes);
    let incomplete = ReplyFront::Incomplete;
    for (shape, wire) in [
        (ReplyShape::Resp, "-ERR no\r\n"),
        (ReplyShape::Line, "ERROR\r\n"),
        (ReplyShape::Stats, "SERVER_ERROR no\r\n"),
    ] {
        let error = ReplyFront::Error { bytes: wire.len() };
        assert_look(look(shape), wire, &incomplete, &error);
    }
    assert_look(
        look(ReplyShape::Stats),
        "STAT a 1\r\n",
        &incomplete,
        &ReplyFront::Value,
    );
    assert_eq!(parse_reply_front(ReplyShape::Resp, b"$"), ReplyFront::Value);
    assert_eq!(
        parse_reply_front(ReplyShape::Line, b"?"),
        ReplyFront::Malformed
    );
    assert_eq!(
        parse_reply_front(ReplyShape::Line, b"OK\n"),
        ReplyFront::Malformed
    );
}

#[test]
fn the_elements_of_an_array_are_measured_together() {
    let mut scanner = ReplyScanner::elements(3);
    let scan = scanner
        .scan(b"$1\r\na\r\n*2\r\n:1\r\n:2\r\n-x\r\n+OK\r\n")
        .unwrap();
    assert_eq!((scan.bytes, scan.done), (23, true));
    assert!(
        !scanner.is_error(),
        "an error inside an array is an element"
    );
}

#[test]
fn resp_garbage_is_told_apart() {
    for (reply, error) in [
        ("?1\r\n", ReplyError::UnexpectedByte(b'?')),
        ("STORED\r\n", ReplyError::UnexpectedByte(b'S')),
        ("*1\r\n\r\n", ReplyError::UnexpectedByte(b'\r')),
        ("$x\r\n", ReplyError::BadLength),
        ("$-2\r\n", ReplyError::BadLength),
        ("*-2\r\n", ReplyError::BadLength),
        ("$99999999999999999999\r\n", ReplyError::BadLength),
        ("$3\r\nabcd\r\n", ReplyError::BadDataEnd),
        ("$3\r\nabc\rx", ReplyError::BadDataEnd),
        ("+OK\n", ReplyError::BadLine),
    ] {
        assert_faulty(ReplyShape::Resp, reply, error);
    }
}

#[test]
fn values_of_resp3_are_measured() {
    for reply in [
        "_\r\n",
        "#t\r\n",
        "#f\r\n",
        ",3.25\r\n",
        ",-inf\r\n",
        "(3492890328409238509324850943850943825024385\r\n",
        "=8\r\ntxt:a\r\nb\r\n",
        "%0\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n_\r\n",
        "~3\r\n$1\r\na\r\n#t\r\n,1\r\n",
        "~0\r\n",
        "*3\r\n_\r\n%1\r\n+k\r\n~1\r\n:1\r\n(1\r\n",
        "|1\r\n+ttl\r\n:60\r\n$1\r\na\r\n",
        "|0\r\n+OK\r\n",
        "*2\r\n|1\r\n+k\r\n%1\r\n:1\r\n:2\r\n:3\r\n:4\r\n",
        "*1\r\n!3\r\nERR\r\n",
    ] {
        assert_measured(ReplyShape::Resp, reply, false);
    }
    assert_measured(ReplyShape::Resp, "!21\r\nSYNTAX invalid syntax\r\n", true);
}

#[test]
fn garbage_of_resp3_is_told_apart() {
    for (reply, error) in [
        ("_x\r\n", ReplyError::BadLine),
        ("_\n\r\n", ReplyError::BadLine),
        ("#x\r\n", ReplyError::BadLine),
        ("#tt\r\n", ReplyError::BadLine),
        (",1\n", ReplyError::BadLine),
        ("%-1\r\n", ReplyError::BadLength),
        ("~-1\r\n", ReplyError::BadLength),
        ("|-1\r\n", ReplyError::BadLength),
        ("=-1\r\n", ReplyError::BadLength),
        ("!-1\r\n", ReplyError::BadLength),
        ("*?\r\n", ReplyError::BadLength),
        ("$?\r\n", ReplyError::BadLength),
        ("%?\r\n", ReplyError::BadLength),
        ("=3\r\ntxt:\r\n", ReplyError::BadDataEnd),
        (".1\r\n", ReplyError::UnexpectedByte(b'.')),
    ] {
        assert_faulty(ReplyShape::Resp, reply, error);
    }
}

#[test]
fn a_push_is_told_from_a_reply() {
    let is_push = |reply: &str| {
        let mut scanner = ReplyScanner::new(ReplyShape::Resp);
        scanner.scan(reply.as_bytes()).expect("a sound reply");
        scanner.is_push()
    };
    assert!(is_push(">1\r\n+invalidate\r\n"));
    assert!(is_push(">2\r\n"));
    assert!(!is_push("*1\r\n>1\r\n:1\r\n"));
    assert!(!is_push("+OK\r\n"));
}

#[test]
fn counts_that_overflow_are_refused() {
    for header in [
        "*999999999999999999\r\n",
        "%999999999999999999\r\n",
        "|999999999999999999\r\n",
    ] {
        let mut scanner = ReplyScanner::new(ReplyShape::Resp);
        let stream = header.repeat(20);
        assert_eq!(scanner.scan(stream.as_bytes()), Err(ReplyError::BadLength));
    }
}

#[test]
fn redis_errors_that_tell_of_a_failing_server_are_known() {
    for (reply, failing) in [
        ("-OOM command not allowed\r\n", true),
        ("-BUSY\r\n", true),
        ("-LOADING Redis is loading\r\n", true),
        ("-BUSYGROUP exists\r\n", false),
        ("-ERR OOM\r\n", false),
        ("*1\r\n-OOM x\r\n", false),
        ("+LOADING\r\n", false),
    ] {
        let mut scanner = ReplyScanner::new(ReplyShape::Resp);
        scanner.scan(reply.as_bytes()).expect("a sound reply");
        assert_eq!(scanner.redis_server_failure(), failing, "{reply:?}");
    }
}

#[test]
fn a_scanner_makes_progress_with_any_token_that_fits_its_limit() {
    let line = format!(
        "VALUE {} 4294967295 2147483647 18446744073709551615\r\n",
        "k".repeat(250)
    );
    assert!(line.len() < REPLY_TOKEN_BYTES_MAX);
    let mut scanner = ReplyScanner::new(ReplyShape::Values);
    assert_eq!(
        scanner.scan(line.as_bytes()).map(|scan| scan.bytes),
        Ok(line.len())
    );
    for front in ["VALUE k", "VALUE k 0", "VALUE k 0 ", "VALUE k 0 3 "] {
        let junk = front.to_owned() + &"1".repeat(REPLY_TOKEN_BYTES_MAX - front.len());
        assert_eq!(
            measure(ReplyShape::Values, [junk.as_bytes()]),
            Err(ReplyError::BadLine),
            "{front:?}"
        );
    }
}

#[test]
fn fronts_of_merged_replies_are_read() {
    for (reply, expected) in [
        (
            "*3\r\n$1",
            ArrayHeader::Array {
                elements: 3,
                bytes: 4,
            },
        ),
        (
            "*0\r\n",
            ArrayHeader::Array {
                elements: 0,
                bytes: 4,
            },
        ),
        ("-ERR x\r\n+", ArrayHeader::Error { bytes: 8 }),
        ("", ArrayHeader::Incomplete),
        ("*3\r", ArrayHeader::Incomplete),
        ("-ERR x\r", ArrayHeader::Incomplete),
        ("*-1\r\n", ArrayHeader::Malformed),
        ("*x\r\n", ArrayHeader::Malformed),
        ("+OK\r\n", ArrayHeader::Malformed),
    ] {
        assert_eq!(parse_array_header(reply.as_bytes()), expected, "{reply:?}");
    }
    for (reply, expected) in [
        (
            ":-3\r\n+",
            LineReply::Value {
                value: -3,
                bytes: 5,
            },
        ),
        ("-ERR x\r\n", LineReply::Error { bytes: 8 }),
        (":3", LineReply::Incomplete),
        ("", LineReply::Incomplete),
        (":x\r\n", LineReply::Malformed),
        ("$1\r\n", LineReply::Malformed),
    ] {
        assert_eq!(parse_integer_reply(reply.as_bytes()), expected, "{reply:?}");
    }
    for (reply, expected) in [
        (
            "+OK\r\n+",
            LineReply::Value {
                value: (),
                bytes: 5,
            },
        ),
        ("-OOM x\r\n", LineReply::Error { bytes: 8 }),
        ("+O", LineReply::Incomplete),
        ("+O\n", LineReply::Malformed),
        (":1\r\n", LineReply::Malformed),
    ] {
        assert_eq!(parse_status_reply(reply.as_bytes()), expected, "{reply:?}");
    }
}

#[test]
fn arrays_inside_each_other_without_end_are_given_up() {
    let deep = b"*1\r\n".repeat(usize::from(tidegate_protocol::ARRAYS_IN_A_ROW_MAX));
    let whole = [&deep[..], b":1\r\n"].concat();
    let scan = ReplyScanner::new(ReplyShape::Resp).scan(&whole);
    assert!(scan.is_ok_and(|scan| scan.done && scan.bytes == whole.len()));
    for last in ["*1\r\n", "~1\r\n", "%1\r\n", ">1\r\n", "|1\r\n", "|0\r\n"] {
        let deeper = [&deep[..], last.as_bytes()].concat();
        let scan = ReplyScanner::new(ReplyShape::Resp).scan(&deeper);
        assert_eq!(scan.err(), Some(ReplyError::TooDeep), "{last:?}");
    }
}
