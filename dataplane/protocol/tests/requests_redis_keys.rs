//! Redis requests whose keys stand in unusual places, and containers with their subcommands, in all segmentations.

mod driver;

use driver::{ALL_HEADS, play, segmentations};
use tidegate_protocol::{Parsed, Protocol, Resume, parse_request};

fn command(words: &[&str]) -> String {
    let bulks: Vec<String> = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    format!("*{}\r\n{}", words.len(), bulks.concat())
}

/// What the command on this line gives, with a PING behind it that has to be found.
#[track_caller]
fn gives(line: &str, expected: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let stream = command(&words) + &command(&["PING"]);
    for heads in ALL_HEADS {
        for pieces in segmentations(stream.as_bytes()) {
            assert_eq!(
                play(Protocol::Redis, heads, pieces),
                [expected, "local Ping 1 "],
                "{line}"
            );
        }
    }
}

#[test]
fn keys_that_belong_together_are_all_found() {
    gives("RENAME a b", "together rename a b");
    gives("sdiffstore to a b", "together sdiffstore to a b");
    gives("BITOP AND to a b", "together bitop to a b");
    gives("MSETNX a 1 b 2", "together msetnx a b");
    gives("COPY a b DB 1 REPLACE", "together copy a b");
    gives("EVAL s 2 a b x", "together eval a b");
    gives("FCALL f 3 a b c", "together fcall a b c");
    gives(
        "ZUNIONSTORE to 2 a b WEIGHTS 1 2",
        "together zunionstore to a b",
    );
    gives("LMPOP 2 a b LEFT", "together lmpop a b");
    gives("PUBSUB SHARDNUMSUB a b", "together pubsub|shardnumsub a b");
}

#[test]
fn one_key_alone_may_be_passed_on_before_it_is_whole() {
    gives("SINTER a", "key sinter a");
    gives("PFCOUNT a", "key pfcount a");
    gives("MSETNX a 1", "key msetnx a");
    gives("EVALSHA s 1 a x y z", "key evalsha a");
    gives("FCALL_RO f 1 a", "key fcall_ro a");
    gives("ZINTERCARD 1 a LIMIT 3", "key zintercard a");
    gives("XADD s * f v", "key xadd s");
    let front = b"*5\r\n$4\r\nEVAL\r\n$1\r\ns\r\n$1\r\n1\r\n$1\r\nk\r\n$100000\r\n";
    let parsed = parse_request(Protocol::Redis, front, &mut Resume::default());
    assert!(matches!(parsed, Parsed::Head { .. }), "{parsed:?}");
}

#[test]
fn store_makes_a_second_key_of_what_follows_it() {
    gives("SORT a", "key sort a");
    gives("SORT a BY store LIMIT 0 1 GET store ALPHA", "key sort a");
    gives("SORT a LIMIT 0 1 Store b", "together sort a b");
    gives("SORT a STORE b STORE c", "together sort a c");
    gives("SORT a STORE", "key sort a");
    gives("GEORADIUS a 1 2 3 km", "key georadius a");
    gives(
        "GEORADIUS a 1 2 3 km STORE b STOREDIST c",
        "together georadius a c",
    );
    gives("GEORADIUSBYMEMBER a store 3 km", "key georadiusbymember a");
    gives(
        "GEORADIUSBYMEMBER a m 3 km storedist b",
        "together georadiusbymember a b",
    );
}

#[test]
fn streams_are_found_behind_the_options() {
    gives("XREAD STREAMS a 0", "key xread a");
    gives("XREAD COUNT 2 STREAMS a b 0 0", "together xread a b");
    gives("XREAD BLOCK 0 STREAMS a b $ $", "pinned Blocking xread a b");
    gives("xread block streams streams a 0", "pinned Blocking xread a");
    gives("XREADGROUP GROUP g c NOACK STREAMS a >", "key xreadgroup a");
    gives(
        "XREADGROUP GROUP streams block COUNT 1 BLOCK 9 STREAMS a >",
        "pinned Blocking xreadgroup a",
    );
    gives(
        "XREAD COUNT 1 STREAMS a b 0",
        "refuse -ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
    );
    gives("XREAD COUNT 1 a 0", "refuse -ERR syntax error");
    gives("XREAD COUNT 1 STREAMS", "refuse -ERR syntax error");
}

#[test]
fn what_needs_a_connection_of_its_own_is_told_with_its_keys() {
    gives("MULTI", "pinned Multi multi");
    gives("WATCH a b", "pinned Watch watch a b");
    gives("BLPOP a b 0", "pinned Blocking blpop a b");
    gives("BLMOVE a b LEFT RIGHT 0", "pinned Blocking blmove a b");
    gives("BLMPOP 0 2 a b LEFT", "pinned Blocking blmpop a b");
    gives("WAIT 1 0", "pinned Blocking wait");
    gives("SUBSCRIBE a b", "pinned Subscribe subscribe");
    gives("SSUBSCRIBE a b", "pinned Ssubscribe ssubscribe a b");
    gives("SUNSUBSCRIBE", "pinned Sunsubscribe sunsubscribe");
}

#[test]
fn what_goes_to_all_servers_is_told_with_how_the_replies_are_joined() {
    gives("DBSIZE", "broadcast Sum dbsize");
    gives("KEYS *", "broadcast Keys keys");
    gives("SCRIPT LOAD s", "broadcast Same script|load");
    gives("script exists a b", "broadcast AllOf script|exists");
    gives("FLUSHALL ASYNC", "broadcast Ok flushall");
    gives("SCAN 0 MATCH x", "scan scan");
    gives("PUBLISH c m", "channel publish");
}

#[test]
fn a_script_without_keys_goes_to_the_first_server() {
    gives("EVAL s 0", "first eval");
    gives("FCALL_RO f 0 x y", "first fcall_ro");
}

#[test]
fn the_second_argument_of_a_container_says_what_becomes_of_it() {
    gives("CONFIG GET save", "local ConfigGet");
    gives("cOnFiG gEt save", "local ConfigGet");
    gives("OBJECT ENCODING a", "key object|encoding a");
    gives("MEMORY USAGE a SAMPLES 5", "key memory|usage a");
    gives("XGROUP CREATE s g $ MKSTREAM", "key xgroup|create s");
    gives("XINFO STREAM s FULL", "key xinfo|stream s");
    gives("XINFO HELP", "any xinfo|help");
    gives("COMMAND", "any command");
    gives("COMMAND COUNT", "any command|count");
    gives("CLIENT SETNAME me", "local ClientSetname");
    gives("PUBSUB SHARDNUMSUB", "any pubsub|shardnumsub");
}

#[test]
fn a_subcommand_that_is_unknown_or_wrong_is_answered_as_redis_does() {
    gives(
        "CONFIG",
        "refuse -ERR wrong number of arguments for 'config' command",
    );
    gives(
        "CONFIG GET",
        "refuse -ERR wrong number of arguments for 'config|get' command",
    );
    gives(
        "CONFIG NOSUCH x",
        "refuse -ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP.",
    );
    gives(
        "COMMAND nosuch",
        "refuse -ERR unknown subcommand 'nosuch'. Try COMMAND HELP.",
    );
    gives(
        "config|get save",
        "refuse -ERR unknown command 'config|get'",
    );
    gives(
        "CLUSTER SLOTS",
        "refuse -ERR command 'cluster|slots' is not supported by the proxy: the proxy is no cluster node",
    );
    let long = "n".repeat(200);
    gives(
        &format!("XINFO {long} x"),
        &format!(
            "refuse -ERR unknown subcommand '{}'. Try XINFO HELP.",
            &long[..128]
        ),
    );
}

#[test]
fn a_count_of_keys_that_cannot_be_is_refused_as_redis_does() {
    gives(
        "EVAL s -1 a",
        "refuse -ERR Number of keys can't be negative",
    );
    gives(
        "EVAL s 2 a",
        "refuse -ERR Number of keys can't be greater than number of args",
    );
    gives(
        "EVAL s x a",
        "refuse -ERR value is not an integer or out of range",
    );
    gives(
        "EVAL s 01 a",
        "refuse -ERR value is not an integer or out of range",
    );
    gives(
        "EVAL s +1 a",
        "refuse -ERR value is not an integer or out of range",
    );
    gives(
        "EVAL s 99999999999999999999 a",
        "refuse -ERR value is not an integer or out of range",
    );
    gives(
        "LMPOP 0 a LEFT",
        "refuse -ERR numkeys should be greater than 0",
    );
    gives(
        "BLMPOP 0 0 a LEFT",
        "refuse -ERR numkeys should be greater than 0",
    );
    gives(
        "ZUNIONSTORE to 0 a",
        "refuse -ERR at least 1 input key is needed",
    );
    gives("ZUNIONSTORE to 3 a b", "refuse -ERR syntax error");
    gives(
        "MSETNX a 1 b",
        "refuse -ERR wrong number of arguments for 'msetnx' command",
    );
    let long = "1".repeat(100);
    gives(
        &format!("EVAL s {long} a"),
        "refuse -ERR value is not an integer or out of range",
    );
}

/// None of these can make the proxy wait for the bytes that they announce.
#[test]
fn what_is_too_long_to_be_a_word_is_refused_at_its_header() {
    for front in [
        "*2\r\n$6\r\nCONFIG\r\n$536870912\r\n",
        "*4\r\n$4\r\nEVAL\r\n$1\r\ns\r\n$536870912\r\n",
    ] {
        let shown = if front.contains("CONFIG") { 128 } else { 0 };
        let wire = format!("{front}{}", "x".repeat(shown));
        let parsed = parse_request(Protocol::Redis, wire.as_bytes(), &mut Resume::default());
        assert!(matches!(parsed, Parsed::Refused(_)), "{front:?}");
    }
}

#[test]
fn arguments_are_the_words_of_a_request() {
    let wire = command(&["Config", "get", "", "a b\r\n"]);
    let parsed = parse_request(Protocol::Redis, wire.as_bytes(), &mut Resume::default());
    let Parsed::Whole(request) = parsed else {
        panic!("{parsed:?}");
    };
    let words: Vec<&str> = request
        .arguments(wire.as_bytes())
        .map(|range| &wire[range])
        .collect();
    assert_eq!(words, ["Config", "get", "", "a b\r\n"]);
    assert_eq!(&wire[request.prefix], "$6\r\nConfig\r\n");
}
