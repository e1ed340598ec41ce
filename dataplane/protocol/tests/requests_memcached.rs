//! memcached requests: what is found in a stream of them, however it is cut into pieces.

mod driver;

use driver::{ALL_HEADS, Client, Heads, play, segmentations};
use tidegate_protocol::{Parsed, Protocol, Resume, parse_request};

const BAD_FORMAT: &str = "refuse CLIENT_ERROR bad command line format";
const BAD_DELAY: &str = "refuse CLIENT_ERROR invalid exptime argument";
const ADMINISTRATIVE: &str =
    "refuse SERVER_ERROR command administers one server and is not passed on by the proxy";
const USAGE: &str = "refuse CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";

fn assert_gives_with(ways: &[Heads], stream: &str, expected: &[&str]) {
    for &heads in ways {
        for pieces in segmentations(stream.as_bytes()) {
            let cuts: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
            assert_eq!(
                play(Protocol::Memcached, heads, pieces),
                expected,
                "{stream:?} in pieces of {cuts:?}, {heads:?}"
            );
        }
    }
}

/// Asserts what a stream gives in every way in which it can arrive.
fn assert_gives(stream: &str, expected: &[&str]) {
    assert_gives_with(&ALL_HEADS, stream, expected);
}

/// Asserts what one request, and a version behind it, give.
fn assert_request_gives(request: &str, expected: &str) {
    assert_gives(
        &format!("{request}version\r\n"),
        &[expected, "local Version"],
    );
}

#[test]
fn a_retrieval_of_one_key_is_routed_by_it() {
    let longest = "k".repeat(250);
    for (request, expected) in [
        ("get apple\r\n", "key get apple"),
        ("get apple\n", "key get apple"),
        ("  get   apple \r\n", "key get apple"),
        ("gets apple\r\n", "key gets apple"),
        ("gat 30 apple\r\n", "key gat apple"),
        ("gats -1 apple\r\n", "key gats apple"),
        ("get \u{fc}ber\r\n", "key get \u{fc}ber"),
        (&format!("get {longest}\r\n"), &format!("key get {longest}")),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn a_retrieval_of_several_keys_is_taken_apart_and_keeps_its_exptime() {
    for (request, expected) in [
        ("get a bc\r\n", r#"split MemcachedGet "get " "a" "bc""#),
        ("gets a a \n", r#"split MemcachedGet "gets " "a" "a""#),
        (
            "  gat  30  a  b  c\r\n",
            r#"split MemcachedGet "gat  30  " "a" "b" "c""#,
        ),
        (
            "gats -1 a b\r\n",
            r#"split MemcachedGet "gats -1 " "a" "b""#,
        ),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn a_storage_command_is_taken_with_its_block() {
    for (request, expected) in [
        ("set k 0 0 3\r\nabc\r\n", "key set k"),
        ("set k 0 0 0\r\n\r\n", "key set k"),
        ("set k 4294967295 -1 4\r\n\r\n\r\n\r\n", "key set k"),
        ("set  k 0 0 03\nabc\r\n", "key set k"),
        ("add k 1 2147483647 3\r\nabc\r\n", "key add k"),
        (
            "replace k 1 1 3 noreply\r\nabc\r\n",
            "key replace k noreply",
        ),
        ("append k 1 1 3\r\nabc\r\n", "key append k"),
        ("prepend k 1 1 3 other\r\nabc\r\n", "key prepend k"),
        ("cas k 0 0 1 18446744073709551615\r\na\r\n", "key cas k"),
        ("cas k 0 0 1 5 noreply\r\na\r\n", "key cas k noreply"),
        ("set noreply 0 0 1\r\na\r\n", "key set noreply"),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn a_line_command_is_routed_by_its_key() {
    for (request, expected) in [
        ("delete k\r\n", "key delete k"),
        ("delete noreply\r\n", "key delete noreply"),
        ("delete k 0\r\n", "key delete k"),
        ("delete k noreply\r\n", "key delete k noreply"),
        ("delete k 0  noreply \r\n", "key delete k noreply"),
        ("incr k 1\r\n", "key incr k"),
        (
            "decr k 18446744073709551615 noreply\r\n",
            "key decr k noreply",
        ),
        ("touch k -1\r\n", "key touch k"),
        ("touch k 1 other\r\n", "key touch k"),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn what_the_proxy_answers_is_told() {
    for (request, expected) in [
        ("version\r\n", "local Version"),
        ("version x\n", "local Version"),
        ("quit\r\n", "local Quit"),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn what_concerns_every_server_is_told() {
    const BAD_DELAY: &str = "refuse CLIENT_ERROR invalid exptime argument";
    const OF_ONE: &str =
        "refuse SERVER_ERROR these statistics are about one server: ask the server itself";
    for (request, expected) in [
        ("verbosity 1\r\n", "broadcast FlushAll verbosity"),
        (
            "verbosity 1 noreply\r\n",
            "broadcast FlushAll verbosity noreply",
        ),
        ("verbosity x\r\n", BAD_FORMAT),
        ("verbosity\r\n", "refuse ERROR"),
        ("cache_memlimit 64\r\n", "broadcast FlushAll cache_memlimit"),
        ("cache_memlimit x\r\n", "refuse ERROR"),
        ("cache_memlimit\r\n", "refuse ERROR"),
        ("flush_all\r\n", "broadcast FlushAll flush_all"),
        ("flush_all 0\r\n", "broadcast FlushAll flush_all"),
        ("flush_all -1\n", "broadcast FlushAll flush_all"),
        (
            "flush_all 5 noreply\r\n",
            "broadcast FlushAll flush_all noreply",
        ),
        (
            "  flush_all  noreply \r\n",
            "broadcast FlushAll flush_all noreply",
        ),
        ("flush_all x\r\n", BAD_DELAY),
        ("flush_all x noreply\r\n", "refuse "),
        ("flush_all noreply noreply\r\n", "refuse "),
        ("flush_all 1 2 3\r\n", "refuse ERROR"),
        ("stats\r\n", "broadcast Stats stats"),
        ("stats items\r\n", "broadcast Stats stats"),
        ("stats sizes_enable\r\n", "broadcast Stats stats"),
        ("stats settings\r\n", "any stats"),
        ("stats reset\r\n", "broadcast FlushAll stats"),
        ("stats detail on\r\n", "broadcast FlushAll stats"),
        ("stats detail dump\r\n", OF_ONE),
        ("stats conns\r\n", OF_ONE),
        ("stats cachedump 1 10\r\n", OF_ONE),
        ("stats noreply\r\n", "refuse ERROR"),
        ("stats a\tb\r\n", BAD_FORMAT),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn noreply_is_cut_out_with_its_blanks() {
    let mut client = Client::new(Protocol::Memcached, Heads::Look);
    client.receive(b"set k 0 0 1  noreply \r\nx\r\ndelete k noreply\nincr k 1 noreply\r\n");
    client.receive(b"flush_all noreply\r\n flush_all 5  noreply\r\nverbosity 1 noreply\r\n");
    let wires: Vec<&[u8]> = client.events.iter().map(|event| &event.wire[..]).collect();
    assert_eq!(
        wires,
        [
            &b"set k 0 0 1 \r\nx\r\n"[..],
            b"delete k\n",
            b"incr k 1\r\n",
            b"flush_all\r\n",
            b" flush_all 5\r\n",
            b"verbosity 1\r\n",
        ]
    );
}

#[test]
fn a_faulty_line_is_refused_alone() {
    let long = "k".repeat(251);
    for (request, expected) in [
        ("\r\n", "refuse ERROR"),
        ("\n", "refuse ERROR"),
        ("  \r\n", "refuse ERROR"),
        ("nosuch a b\r\n", "refuse ERROR"),
        ("GET a\r\n", "refuse ERROR"),
        ("get\r\n", "refuse ERROR"),
        ("get \r\n", "refuse ERROR"),
        ("gat 1\r\n", "refuse ERROR"),
        ("gat\r\n", "refuse ERROR"),
        (
            "gat x a\r\n",
            "refuse CLIENT_ERROR invalid exptime argument",
        ),
        (&format!("get {long}\r\n"), BAD_FORMAT),
        (&format!("get a {long} b\r\n"), BAD_FORMAT),
        ("get a\tb\r\n", BAD_FORMAT),
        ("get a\rb\r\n", BAD_FORMAT),
        ("get a\u{7f}\r\n", BAD_FORMAT),
        ("get a\0\r\n", BAD_FORMAT),
        ("get a\r\r\n", BAD_FORMAT),
        ("set k 0 0\r\n", "refuse ERROR"),
        ("set k 0 0 3 4 5 6\r\n", "refuse ERROR"),
        ("set k 0 0 -1\r\n", BAD_FORMAT),
        ("set k 0 0 +1\r\n", BAD_FORMAT),
        ("set k 0 0 x\r\n", BAD_FORMAT),
        ("set k 0 0 2147483646\r\n", BAD_FORMAT),
        ("cas k 0 0 1\r\n", "refuse ERROR"),
        ("set k 0 0 x noreply\r\n", "refuse "),
        ("delete\r\n", "refuse ERROR"),
        ("delete k 5\r\n", USAGE),
        ("delete k 5 noreply\r\n", "refuse "),
        ("delete k 0 other\r\n", USAGE),
        ("delete a b c d\r\n", "refuse ERROR"),
        (&format!("delete {long}\r\n"), BAD_FORMAT),
        (&format!("incr {long} 1 noreply\r\n"), "refuse "),
        ("incr k\r\n", "refuse ERROR"),
        ("incr k noreply\r\n", "refuse "),
        ("decr k noreply noreply\r\n", "refuse "),
        ("touch k noreply\r\n", "refuse "),
        ("touch k noreply x\r\n", BAD_FORMAT),
        ("verbosity noreply\r\n", "refuse "),
        ("incr k 1 noreply x\r\n", "refuse ERROR"),
        ("touch k\r\n", "refuse ERROR"),
        ("verbosity x\r\n", BAD_FORMAT),
        ("verbosity\r\n", "refuse ERROR"),
        ("verbosity 1 2 3\r\n", "refuse ERROR"),
        ("cache_memlimit\r\n", "refuse ERROR"),
        ("cache_memlimit x\r\n", "refuse ERROR"),
        ("cache_memlimit noreply noreply\r\n", "refuse "),
        ("flush_all x\r\n", BAD_DELAY),
        ("flush_all noreply x\r\n", BAD_DELAY),
        ("flush_all noreply noreply\r\n", "refuse "),
        ("flush_all 1 noreply x\r\n", "refuse ERROR"),
        ("stats\tx\r\n", BAD_FORMAT),
        ("slabs automove 1\r\n", ADMINISTRATIVE),
        ("shutdown\r\n", ADMINISTRATIVE),
        ("lru_crawler metadump all\r\n", ADMINISTRATIVE),
        (
            "watch\r\n",
            "refuse SERVER_ERROR watch turns a connection into a log and is not passed on by the proxy",
        ),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn a_faulty_storage_line_that_tells_its_length_is_refused_with_its_block() {
    let long = "k".repeat(251);
    for (request, expected) in [
        (&format!("set {long} 0 0 6\r\nquit\r\n\r\n")[..], BAD_FORMAT),
        ("set k x 0 6\r\nquit\r\n\r\n", BAD_FORMAT),
        ("set k 4294967296 0 6\r\nquit\r\n\r\n", BAD_FORMAT),
        ("set k 0 2147483648 6\r\nquit\r\n\r\n", BAD_FORMAT),
        ("set k 0 -2147483649 6\r\nquit\r\n\r\n", BAD_FORMAT),
        ("set k -1 0 6 noreply\r\nquit\r\n\r\n", "refuse "),
        ("set a\tb 0 0 6\r\nquit\r\n\r\n", BAD_FORMAT),
        ("cas k 0 0 6 x\r\nquit\r\n\r\n", BAD_FORMAT),
        (
            "cas k 0 0 6 18446744073709551616\r\nquit\r\n\r\n",
            BAD_FORMAT,
        ),
    ] {
        assert_request_gives(request, expected);
    }
}

#[test]
fn a_block_without_line_end_is_refused_and_the_stream_goes_on_behind_it() {
    let waiting = [Heads::Look, Heads::Wait];
    let refusal = "refuse CLIENT_ERROR bad data chunk";
    // Two bytes of the block's end are taken, whatever they are.
    assert_gives_with(
        &waiting,
        "set k 0 0 3\r\nabcdeversion\r\n",
        &[refusal, "local Version"],
    );
    assert_gives_with(
        &waiting,
        "set k 0 0 3\r\nabcd\r\nversion\r\n",
        &[refusal, "refuse ERROR", "local Version"],
    );
    assert_gives_with(
        &waiting,
        "set k 0 0 3 noreply\r\nabcdeversion\r\n",
        &["refuse ", "local Version"],
    );
}

#[test]
fn a_block_without_line_end_closes_once_its_front_was_passed_on() {
    let mut client = Client::new(Protocol::Memcached, Heads::Take);
    client.receive(b"set k 0 0 3\r\nab");
    client.receive(b"cde");
    assert_eq!(client.texts(), ["close CLIENT_ERROR bad data chunk"]);
}

#[test]
fn an_endless_line_is_given_up() {
    let too_long = "close CLIENT_ERROR line too long";
    for (stream, expected) in [
        ("x".repeat(2100), too_long),
        (format!("set k 0 0{}", " ".repeat(2100)), too_long),
        (format!("{}get a", " ".repeat(2100)), too_long),
        (format!("get{}", " a".repeat(2100)), "more"),
        ("get a ".to_owned() + &"b ".repeat(1 << 19), too_long),
    ] {
        for heads in ALL_HEADS {
            for pieces in [
                vec![stream.as_bytes()],
                stream.as_bytes().chunks(999).collect(),
            ] {
                assert_eq!(
                    play(Protocol::Memcached, heads, pieces),
                    [expected],
                    "{:?}…",
                    &stream[..12]
                );
            }
        }
    }
}

#[test]
fn a_long_retrieval_line_is_taken_apart() {
    let keys: Vec<String> = (0..5000).map(|n| format!("key-{n}")).collect();
    let stream = format!("get {}\r\n", keys.join(" "));
    let parsed = parse_request(
        Protocol::Memcached,
        stream.as_bytes(),
        &mut Resume::default(),
    );
    let Parsed::Whole(request) = parsed else {
        panic!("{parsed:?}")
    };
    let found: Vec<&str> = request
        .keys(stream.as_bytes())
        .map(|part| &stream[part.key])
        .collect();
    assert_eq!(found, keys);
}

#[test]
fn a_text_connection_does_not_become_a_binary_one() {
    let stream = b"\x80\x00\x00\x05hello";
    let expected = ["close CLIENT_ERROR a connection is binary from its first byte or not at all"];
    assert_eq!(
        play(Protocol::Memcached, Heads::Look, [&stream[..]]),
        expected
    );
}

#[test]
fn need_covers_a_block_of_known_length() {
    let parsed = parse_request(
        Protocol::Memcached,
        b"set k 0 0 1000\r\nab",
        &mut Resume::default(),
    );
    let Parsed::Head { need, request, .. } = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!(need, 16 + 1000 + 2);
    assert_eq!(request.bytes, 18);
}

#[test]
fn a_name_that_goes_on_behind_a_control_character_is_none() {
    for line in ["quit\rit", "version\tx", "mn\ra"] {
        let stream = format!("{line}\r\n");
        for pieces in segmentations(stream.as_bytes()) {
            assert_eq!(
                play(Protocol::Memcached, Heads::Look, pieces),
                ["refuse ERROR"]
            );
        }
    }
}
