//! RESP2 requests: what is found in a stream of them, however it is cut into pieces.

mod driver;

use driver::{ALL_HEADS, Client, Heads, play, segmentations};
use tidegate_protocol::{Parsed, Protocol, Recovery, RequestRest, Resume, parse_request};

/// A request in words, as an array of bulks.
fn command(words: &[&str]) -> String {
    let bulks: Vec<String> = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    format!("*{}\r\n{}", words.len(), bulks.concat())
}

/// Asserts what a stream gives in every way in which it can arrive.
fn assert_gives(stream: &str, expected: &[&str]) {
    assert_gives_with(&ALL_HEADS, stream, expected);
}

fn assert_gives_with(ways: &[Heads], stream: &str, expected: &[&str]) {
    for &heads in ways {
        for pieces in segmentations(stream.as_bytes()) {
            let cuts: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
            assert_eq!(
                play(Protocol::Redis, heads, pieces),
                expected,
                "{stream:?} in pieces of {cuts:?}, {heads:?}"
            );
        }
    }
}

/// Asserts what one request, and a PING behind it, give.
fn assert_command_gives(words: &[&str], expected: &str) {
    assert_gives(
        &(command(words) + &command(&["PING"])),
        &[expected, "local Ping 1 "],
    );
}

#[test]
fn a_keyed_command_is_routed_by_its_first_key() {
    for (words, expected) in [
        (&["GET", "apple"][..], "key get apple"),
        (&["get", ""], "key get "),
        (&["gEt", "a b\r\nc"], "key get a b\r\nc"),
        (&["SET", "k", "value"], "key set k"),
        (&["SET", "k", "", "EX", "10"], "key set k"),
        (&["SUNION", "a", "b"], "together sunion a b"),
        (
            &["GEORADIUSBYMEMBER", "k", "m", "1", "km"],
            "key georadiusbymember k",
        ),
        (
            &["GEORADIUSBYMEMBER_RO", "k", "m", "1", "km"],
            "key georadiusbymember_ro k",
        ),
        (
            &["ZDIFFSTORE", "to", "1", "from"],
            "together zdiffstore to from",
        ),
        (&["LOLWUT"], "any lolwut"),
        (&["LOLWUT", "VERSION", "5"], "any lolwut"),
    ] {
        assert_command_gives(words, expected);
    }
}

#[test]
fn a_command_that_counts_its_keys_is_routed_by_the_first_of_them() {
    for (words, expected) in [
        (&["EVAL", "return 1", "1", "k"][..], "key eval k"),
        (
            &["evalsha", "abc", "2", "k", "l", "x"],
            "together evalsha k l",
        ),
        (&["ZDIFF", "2", "a", "b"], "together zdiff a b"),
        (&["ZUNION", "1", "a"], "key zunion a"),
        (
            &["ZINTER", "12", "a"],
            "refuse -ERR Number of keys can't be greater than number of args",
        ),
        (&["EVAL", "return 1", "0"], "first eval"),
        (&["EVAL", "return 1", "0", "x"], "first eval"),
        (
            &["EVAL", "return 1", "-1", "x"],
            "refuse -ERR Number of keys can't be negative",
        ),
        (
            &["EVAL", "return 1", "01", "x"],
            "refuse -ERR value is not an integer or out of range",
        ),
        (
            &["EVAL", "return 1"],
            "refuse -ERR wrong number of arguments for 'eval' command",
        ),
        (
            &["ZDIFF", "x", "a"],
            "refuse -ERR value is not an integer or out of range",
        ),
    ] {
        assert_command_gives(words, expected);
    }
}

#[test]
fn a_command_of_several_keys_is_taken_apart_into_wire_forms() {
    for (words, expected) in [
        (
            &["MGET", "a", "bc"][..],
            r#"split Mget "$4\r\nMGET\r\n" "$1\r\na\r\n" "$2\r\nbc\r\n""#,
        ),
        (
            &["del", "a", "a"],
            r#"split Sum "$3\r\ndel\r\n" "$1\r\na\r\n" "$1\r\na\r\n""#,
        ),
        (
            &["UNLINK", "a", ""],
            r#"split Sum "$6\r\nUNLINK\r\n" "$1\r\na\r\n" "$0\r\n\r\n""#,
        ),
        (
            &["TOUCH", "a", "b"],
            r#"split Sum "$5\r\nTOUCH\r\n" "$1\r\na\r\n" "$1\r\nb\r\n""#,
        ),
        (
            &["EXISTS", "a", "b"],
            r#"split Sum "$6\r\nEXISTS\r\n" "$1\r\na\r\n" "$1\r\nb\r\n""#,
        ),
        (
            &["MSET", "a", "1", "b", "22"],
            r#"split Mset "$4\r\nMSET\r\n" "$1\r\na\r\n$1\r\n1\r\n" "$1\r\nb\r\n$2\r\n22\r\n""#,
        ),
    ] {
        assert_command_gives(words, expected);
    }
}

#[test]
fn a_command_of_several_keys_with_one_key_is_not_split() {
    for (words, expected) in [
        (&["MGET", "a"][..], "key mget a"),
        (&["DEL", "a"], "key del a"),
        (&["UNLINK", "a"], "key unlink a"),
        (&["TOUCH", "a"], "key touch a"),
        (&["EXISTS", "a"], "key exists a"),
        (&["MSET", "a", "1"], "key mset a"),
    ] {
        assert_command_gives(words, expected);
    }
}

#[test]
fn what_the_proxy_answers_is_told_with_its_argument() {
    for (words, expected) in [
        (&["PING"][..], "local Ping 1 "),
        (&["ping", "hello"], "local Ping 2 hello"),
        (&["AUTH", "secret"], "local Auth 2 secret"),
        (&["AUTH", "user", "secret"], "local Auth 3 secret"),
        (&["SELECT", "0"], "local Select 2 0"),
        (&["COMMAND"], "any command"),
        (&["COMMAND", "DOCS", "get"], "any command|docs"),
        (&["QUIT"], "local Quit"),
    ] {
        assert_command_gives(words, expected);
    }
}

#[test]
fn a_refused_command_is_skipped_whole_and_the_next_one_is_served() {
    for (words, expected) in [
        (
            &["SAVE"][..],
            "refuse -ERR command 'save' is not supported by the proxy: it is about one server: ask the server itself",
        ),
        (
            &["move", "a", "1"],
            "refuse -ERR command 'move' is not supported by the proxy: it moves keys between databases or servers",
        ),
        (&["nosuch"], "refuse -ERR unknown command 'nosuch'"),
        (
            &["nosuch", "*1\r\n$4\r\nQUIT\r\n"],
            "refuse -ERR unknown command 'nosuch'",
        ),
        (
            &["no\r\nsuch\0", "a"],
            "refuse -ERR unknown command 'no??such?'",
        ),
        (&[""], "refuse -ERR unknown command ''"),
        (&["GETX", "a"], "refuse -ERR unknown command 'GETX'"),
        (
            &["GET"],
            "refuse -ERR wrong number of arguments for 'get' command",
        ),
        (
            &["GET", "a", "b"],
            "refuse -ERR wrong number of arguments for 'get' command",
        ),
        (
            &["SET", "a"],
            "refuse -ERR wrong number of arguments for 'set' command",
        ),
        (
            &["MGET"],
            "refuse -ERR wrong number of arguments for 'mget' command",
        ),
        (
            &["MSET", "a", "b", "c"],
            "refuse -ERR wrong number of arguments for 'mset' command",
        ),
        (
            &["PING", "a", "b"],
            "refuse -ERR wrong number of arguments for 'ping' command",
        ),
        (
            &["AUTH"],
            "refuse -ERR wrong number of arguments for 'auth' command",
        ),
        (&["AUTH", "a", "b", "c"], "refuse -ERR syntax error"),
        (
            &["SELECT"],
            "refuse -ERR wrong number of arguments for 'select' command",
        ),
    ] {
        assert_command_gives(words, expected);
    }
}

#[test]
fn a_long_unknown_name_is_shown_in_part() {
    let name = "n".repeat(300);
    let expected = format!("refuse -ERR unknown command '{}'", "n".repeat(128));
    assert_command_gives(&[&name, "x"], &expected);
}

#[test]
fn an_empty_array_asks_for_nothing() {
    assert_gives(
        "*0\r\n*-1\r\n*-7\r\n*1\r\n$4\r\nPING\r\n",
        &["local Ping 1 "],
    );
}

#[test]
fn a_framing_fault_closes_the_connection_with_the_words_of_redis() {
    for (stream, words) in [
        ("*x\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*1048577\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*1\n$4\r\n", "invalid multibulk length"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*1\r\n\r\n", "expected '$', got '?'"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$x\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$03\r\nabc\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$+3\r\nabc\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$536870913\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\nk", "expected '$', got 'k'"),
        (
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:1\r\n",
            "expected '$', got ':'",
        ),
        (
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nvv\r\n",
            "expected CRLF after bulk string",
        ),
        (
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\rv",
            "expected CRLF after bulk string",
        ),
        (
            "*2\r\n$3\r\nGET\r\n$1\r\nkk\r\n",
            "expected CRLF after bulk string",
        ),
        ("*1\r\n$4\r\nPINGS\r\n", "expected CRLF after bulk string"),
    ] {
        // A client that makes a fault sends less than its request needs, so waiting for that would not show it.
        let expected = format!("close -ERR Protocol error: {words}");
        assert_gives_with(&[Heads::Look, Heads::Take], stream, &[&expected]);
    }
}

#[test]
fn a_long_unknown_name_with_a_faulty_end_is_refused_before_the_fault_is_seen() {
    for bytes in [25, 127, 128, 129, 200] {
        let stream = format!("*1\r\n${bytes}\r\n{}xx", "n".repeat(bytes));
        let refusal = format!(
            "refuse -ERR unknown command '{}'",
            "n".repeat(bytes.min(128))
        );
        let close = "close -ERR Protocol error: expected CRLF after bulk string";
        assert_gives(&stream, &[&refusal, close]);
    }
}

#[test]
fn a_framing_fault_in_a_refused_command_closes_after_its_refusal() {
    assert_gives(
        "*3\r\n$6\r\nnosuch\r\n$1\r\na\r\nx",
        &[
            "refuse -ERR unknown command 'nosuch'",
            "close -ERR Protocol error: expected '$', got 'x'",
        ],
    );
}

#[test]
fn http_ends_the_connection_before_its_body_is_read_as_commands() {
    for line in [
        "POST / HTTP/1.1",
        "post /",
        "Host: cache.example",
        "HOST: x",
    ] {
        let stream = format!("{line}\r\n*1\r\n$4\r\nPING\r\n");
        let parsed = parse_request(Protocol::Redis, stream.as_bytes(), &mut Resume::default());
        let closes =
            matches!(parsed, Parsed::Refused(refusal) if refusal.recovery == Recovery::Close);
        assert!(closes, "{line}");
    }
}

#[test]
fn inline_commands_are_what_their_arrays_are() {
    let syntax = "close -ERR Protocol error: unbalanced quotes in request";
    assert_gives("PING\r\n", &["local Ping 1 "]);
    assert_gives(
        " ping \n\r\n\nPiNg x\r\nquit\r\n",
        &["local Ping 1 ", "local Ping 2 x", "local Quit"],
    );
    assert_gives(
        "PING a b\r\nPING\r\n",
        &[
            "refuse -ERR wrong number of arguments for 'ping' command",
            "local Ping 1 ",
        ],
    );
    assert_gives(
        "GET / HTTP/1.1\r\nset \"a b\" 'c'\nNOSUCH x\r\nmget a b\r\nPING \"x\r\n",
        &[
            "refuse -ERR wrong number of arguments for 'get' command",
            "key set a b",
            "refuse -ERR unknown command 'NOSUCH'",
            "split Mget \"$4\\r\\nmget\\r\\n\" \"$1\\r\\na\\r\\n\" \"$1\\r\\nb\\r\\n\"",
            syntax,
        ],
    );
}

#[test]
fn a_line_without_end_is_given_up() {
    let stream = "x".repeat((64 << 10) + 100);
    for heads in ALL_HEADS {
        for pieces in [
            vec![stream.as_bytes()],
            stream.as_bytes().chunks(1).collect(),
            stream.as_bytes().chunks(100).collect(),
        ] {
            assert_eq!(
                play(Protocol::Redis, heads, pieces),
                ["close -ERR Protocol error: too big inline request"]
            );
        }
    }
}

#[test]
fn a_large_value_is_passed_on_without_being_held() {
    let value = vec![b'v'; 1 << 20];
    let mut client = Client::new(Protocol::Redis, Heads::Take);
    client.receive(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n");
    for piece in value.chunks(1000) {
        client.receive(piece);
        assert_eq!(client.texts(), ["more"]);
    }
    client.receive(b"\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(client.texts(), ["key set k", "local Ping 1 "]);
    assert_eq!(client.events[0].wire.len(), 30 + (1 << 20) + 2);
}

#[test]
fn need_covers_a_bulk_of_known_length() {
    let mut resume = Resume::default();
    let parsed = parse_request(
        Protocol::Redis,
        b"*2\r\n$3\r\nGET\r\n$1000\r\nab",
        &mut resume,
    );
    assert_eq!(
        parsed,
        Parsed::Incomplete {
            need: 20 + 1000 + 2
        }
    );
    let parsed = parse_request(
        Protocol::Redis,
        b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nab",
        &mut Resume::default(),
    );
    let Parsed::Head { need, .. } = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!(need, 27 + 1000 + 2 + 6);
}

#[test]
fn the_rest_makes_progress_with_any_token_that_fits_its_limit() {
    // The longest header that is taken, with nothing of its bulk.
    let mut rest = rest_of(b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n");
    let scan = rest.measure(b"$536870912\r\n").expect("a sound header");
    assert_eq!((scan.bytes, scan.done), (12, false));
    // Whatever is not a header is recognised within the limit.
    for junk in [
        b"$0000000000000000000000000000000",
        b"$1111111111111111111111111111111",
        b"$-111111111111111111111111111111",
    ] {
        assert_eq!(junk.len(), tidegate_protocol::REQUEST_TOKEN_BYTES_MAX);
        assert!(
            rest_of(b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n")
                .measure(junk)
                .is_err()
        );
    }
}

fn rest_of(front: &[u8]) -> RequestRest {
    match parse_request(Protocol::Redis, front, &mut Resume::default()) {
        Parsed::Head { request, rest, .. } => {
            assert_eq!(request.bytes, front.len());
            rest
        }
        other => panic!("{other:?}"),
    }
}
