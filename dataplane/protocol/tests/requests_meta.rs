//! memcached's meta commands: what is found in a stream of them, however it is cut into pieces.

mod driver;

use driver::{ALL_HEADS, Client, Heads, play, segmentations};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::{
    Parsed, Protocol, Quiet, ReplyError, ReplyScanner, ReplyShape, Resume, Route, parse_request,
};

const BAD_FORMAT: &str = "refuse CLIENT_ERROR bad command line format";

/// Asserts what one request, and a noop behind it, give in every way in which they can arrive.
fn assert_request_gives(request: &str, expected: &str) {
    let stream = format!("{request}mn\r\n");
    for heads in ALL_HEADS {
        for pieces in segmentations(stream.as_bytes()) {
            assert_eq!(
                play(Protocol::Memcached, heads, pieces),
                [expected, "local MetaNoop"],
                "{stream:?}, {heads:?}"
            );
        }
    }
}

#[test]
fn a_request_is_routed_by_its_key_and_says_what_it_hides() {
    for (request, expected) in [
        ("mg k\r\n", "key mg k"),
        ("mg k v f t\n", "key mg k"),
        ("  mg  k  v  Oab \r\n", "key mg k"),
        ("mg k q v\r\n", "key mg k Miss"),
        ("mg k v qwerty\r\n", "key mg k Miss"),
        ("md k\r\n", "key md k"),
        ("md k I T30 q\r\n", "key md k Success"),
        ("ma k\r\n", "key ma k"),
        ("ma k q D5 MD\r\n", "key ma k Arithmetic"),
        ("me k\r\n", "key me k"),
        ("me a2V5 b\r\n", "key me key"),
        ("me k v b\r\n", "key me k"),
        ("ms k 2\r\nab\r\n", "key ms k"),
        ("ms k 02 T0 F5\nab\r\n", "key ms k"),
        ("ms k 4 q ME\r\n\r\n\r\n\r\n", "key ms k Success"),
        ("mg a2V5 b v\r\n", "key mg key"),
        ("ms a2V5 1 q b\r\nx\r\n", "key ms key Success"),
        // Flags that nobody knows yet are the server's to judge.
        ("mg k ! Z9 E1\r\n", "key mg k"),
        ("mg k v v\r\n", "key mg k"),
        ("mn x y\r\n", "local MetaNoop"),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn the_quiet_flag_is_cut_out_with_its_blanks() {
    let mut client = Client::new(Protocol::Memcached, Heads::Look);
    client.receive(b"mg k q v\r\nmg k v  q \r\nms k 1  q  T0\r\nx\r\nmd k qq\nma k v\r\n");
    let wires: Vec<&[u8]> = client.events.iter().map(|event| &event.wire[..]).collect();
    assert_eq!(
        wires,
        [
            &b"mg k v\r\n"[..],
            b"mg k v \r\n",
            b"ms k 1  T0\r\nx\r\n",
            b"md k\n",
            b"ma k v\r\n"
        ]
    );
    assert!(client.events.iter().all(|event| !event.noreply));
}

#[test]
fn a_faulty_line_is_refused() {
    let long = "k".repeat(251);
    let many = " f".repeat(18);
    for (request, expected) in [
        ("mg\r\n", "refuse ERROR"),
        ("md \r\n", "refuse ERROR"),
        ("ms\r\n", "refuse ERROR"),
        ("me\r\n", BAD_FORMAT),
        ("ms k\r\n", BAD_FORMAT),
        ("ms k x\r\n", BAD_FORMAT),
        ("ms k -1\r\n", BAD_FORMAT),
        ("ms k 2147483646\r\n", BAD_FORMAT),
        ("ms k 99999999999999999999\r\n", BAD_FORMAT),
        (&format!("mg {long}\r\n"), BAD_FORMAT),
        (&format!("ma {long} q\r\n"), BAD_FORMAT),
        ("mg a\tb\r\n", BAD_FORMAT),
        ("md k q\tv\r\n", BAD_FORMAT),
        ("me a b\tc\r\n", BAD_FORMAT),
        ("mg k q v q\r\n", "refuse CLIENT_ERROR duplicate flag"),
        (
            "md k q q\r\n",
            "refuse CLIENT_ERROR invalid or duplicate flag",
        ),
        ("mg k_y b\r\n", "refuse CLIENT_ERROR error decoding key"),
        (
            "ma k b q\r\n",
            "refuse CLIENT_ERROR invalid or duplicate flag",
        ),
        ("me a2V b\r\n", BAD_FORMAT),
        (
            &format!("mg k{many}\r\n"),
            "refuse CLIENT_ERROR options flags are too long",
        ),
        (
            &format!("md k{many}\r\n"),
            "refuse CLIENT_ERROR options flags too long",
        ),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn a_faulty_set_that_tells_its_length_is_refused_with_its_block() {
    let long = "k".repeat(251);
    let many = " f".repeat(17);
    for (request, expected) in [
        (&format!("ms {long} 6\r\nquit\r\n\r\n")[..], BAD_FORMAT),
        (
            &format!("ms k 6{many}\r\nquit\r\n\r\n"),
            "refuse CLIENT_ERROR options flags too long",
        ),
        (
            "ms k 6 q q\r\nquit\r\n\r\n",
            "refuse CLIENT_ERROR duplicate flag",
        ),
        (
            "ms k_y 6 b\r\nquit\r\n\r\n",
            "refuse CLIENT_ERROR error decoding key",
        ),
        ("ms k 6 f\tg\r\nquit\r\n\r\n", BAD_FORMAT),
        // As memcached 1.5 had it.
        ("ms k S6\r\nquit\r\n\r\n", BAD_FORMAT),
    ] {
        assert_request_gives(request, expected);
    }
    let waiting = play(
        Protocol::Memcached,
        Heads::Look,
        [&b"ms k 3 q\r\nabcdemn\r\n"[..]],
    );
    // Also from a client that wants no reply to success.
    assert_eq!(
        waiting,
        ["refuse CLIENT_ERROR bad data chunk", "local MetaNoop"]
    );
}

#[test]
fn replies_are_measured() {
    let shape = ReplyShape::Meta(Quiet::No);
    for (reply, is_error) in [
        ("VA 3 f0 Oab\r\nabc\r\n", false),
        ("VA 0\r\n\r\n", false),
        ("VA 6\r\n\r\nEN\r\n\r\n", false),
        ("HD\r\n", false),
        ("HD t-1 kkey\r\n", false),
        ("EN\r\n", false),
        ("NS\r\n", false),
        ("ME key exp=-1 la=0 cas=2 fetch=no cls=1 size=63\r\n", false),
        ("CLIENT_ERROR bad data chunk\r\n", true),
        ("SERVER_ERROR out of memory\r\n", true),
        ("ERROR\r\n", true),
    ] {
        let stream = format!("{reply}HD\r\n");
        for pieces in segmentations(stream.as_bytes()) {
            assert_eq!(
                driver::measure(shape, pieces),
                Ok((reply.len(), is_error, true)),
                "{reply:?}"
            );
        }
    }
    for (reply, error) in [
        ("VA x\r\n", ReplyError::BadLength),
        ("VA \r\n", ReplyError::BadLength),
        ("VA 1a\r\n", ReplyError::BadLength),
        ("VA 12345678901\r\n", ReplyError::BadLength),
        ("VA 1\nx\r\n", ReplyError::BadLine),
        ("VA 1\r\nxy\r\n", ReplyError::BadDataEnd),
        ("\r\n", ReplyError::UnexpectedByte(b'\r')),
        ("HD\n", ReplyError::BadLine),
    ] {
        for pieces in segmentations(reply.as_bytes()) {
            assert_eq!(driver::measure(shape, pieces), Err(error), "{reply:?}");
        }
    }
    let endless = format!("VA 1 {}", "f".repeat(600));
    assert_eq!(
        ReplyScanner::new(shape).scan(endless.as_bytes()),
        Err(ReplyError::BadLine)
    );
}

/// The words that a server gets of a meta command.
fn passed_on(stream: &[u8]) -> Option<Vec<String>> {
    let (Parsed::Whole(request) | Parsed::Head { request, .. }) =
        parse_request(Protocol::Memcached, stream, &mut Resume::default())
    else {
        return None;
    };
    if !matches!(request.route, Route::Key | Route::Base64Key) {
        return None;
    }
    let cut = request.noreply.unwrap_or(0..0);
    let sent = [&stream[..cut.start], &stream[cut.end..request.bytes]].concat();
    let line = sent.split(|&byte| byte == b'\n').next()?;
    let words = String::from_utf8_lossy(line);
    Some(words.split_whitespace().map(str::to_owned).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// A server that got the flag would not answer, and every later reply of the connection would reach the wrong client. A block
    /// that a server did not know of would act as commands.
    #[test]
    fn no_request_is_passed_on_that_the_server_would_not_answer_or_frame_differently(
        name in prop::sample::select(vec!["mg", "ms", "md", "ma", "me"]),
        words in vec(prop::sample::select(vec!["q", "q", "qx", "b", "k", "v", "0", "3", "S3", "O1", "a2V5", "T0"]), 0..24),
        blanks in prop::sample::select(vec![" ", "  "]),
    ) {
        let stream = format!("{name} {}{blanks}\r\nabc\r\n", words.join(blanks));
        if let Some(words) = passed_on(stream.as_bytes()) {
            let flags = if name == "ms" { 3 } else { 2 };
            let quiet = words.iter().skip(flags).any(|word| word.starts_with('q'));
            prop_assert!(name == "me" || !quiet, "{stream:?} becomes {words:?}");
            prop_assert!(words.len() < 20, "{stream:?}");
            if name == "ms" {
                prop_assert!(words[2].bytes().all(|byte| byte.is_ascii_digit()), "{stream:?}");
            }
        }
    }
}
