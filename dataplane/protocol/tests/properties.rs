//! Properties over generated streams: nothing panics, pieces do not matter, and what was written is what is read.

mod driver;

use driver::{ALL_HEADS, Heads, measure, play};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::{
    Parsed, Protocol, ReplyShape, Resume, Route, Split, ValueHeader, parse_array_header,
    parse_bulk_reply, parse_cursor, parse_integer_reply, parse_reply_front, parse_request,
    parse_scan_reply, parse_status_reply, parse_value_header,
};

/// Bytes of which a good part looks like one of the protocols.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(vec![
            "*", "$", "-1", "0", "1", "2", "3", "5", "12", "100", "\r\n", "\r\n", "\r\n", "\n", "\r", " ", " ", "GET", "get", "mset",
            "DEL", "eval", "PING", "quit", "select", "set", "cas", "gat", "delete", "noreply", "touch", "k", "key", "VALUE", "END", "ERROR",
            "+OK", "-OOM", ":1", "STORED", "*2\r\n$3\r\nGET\r\n$1\r\n", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n", "*3\r\n$3\r\nDEL\r\n$1\r\n",
            "set k 0 0 2\r\n", "get k k\r\n", "VALUE k 0 2\r\n", "*2\r\n$4\r\nKEYS\r\n", "ms k 2\r\n",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..12),
        1 => vec(Just(b'x'), 0..300),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

/// Cuts `stream` at `cuts`, which are taken modulo its length.
fn cut<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts
        .iter()
        .map(|cut| cut % (stream.len() + 1))
        .chain([0, stream.len()])
        .collect();
    places.sort_unstable();
    places
        .windows(2)
        .map(|window| &stream[window[0]..window[1]])
        .collect()
}

/// A Redis command of these words.
fn command(words: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        wire.extend(format!("${}\r\n", word.len()).into_bytes());
        wire.extend(word);
        wire.extend(b"\r\n");
    }
    wire
}

fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(0x21..0x7f_u8, 1..40), 2..20)
}

/// The line that a server gets of a memcached request: without what is cut out.
fn passed_on(stream: &[u8]) -> Option<String> {
    let (Parsed::Whole(request) | Parsed::Head { request, .. }) =
        parse_request(Protocol::Memcached, stream, &mut Resume::default())
    else {
        return None;
    };
    if request.route != Route::Key || request.reply != ReplyShape::Line {
        return None;
    }
    let cut = request.noreply.unwrap_or(0..0);
    let sent = [&stream[..cut.start], &stream[cut.end..request.bytes]].concat();
    let line = sent.split(|&byte| byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim_end().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// memcached goes by the last word of a line: a request that kept the word would get no reply, and every later reply of the
    /// connection would reach the wrong client.
    #[test]
    fn no_request_is_passed_on_that_the_server_would_not_answer(
        name in prop::sample::select(vec!["set", "add", "cas", "append", "incr", "decr", "touch", "delete"]),
        words in vec(prop::sample::select(vec!["noreply", "noreply", "k", "0", "1", "5", "-1"]), 0..7),
        blanks in prop::sample::select(vec![" ", "  "]),
    ) {
        let stream = format!("{name} {}{blanks}\r\nabcde\r\n", words.join(blanks));
        if let Some(line) = passed_on(stream.as_bytes()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // A key may be called so: memcached looks for the word behind the key of a delete.
            let key_alone = words[0] == "delete" && words.len() == 2;
            prop_assert!(key_alone || words.last() != Some(&"noreply"), "{stream:?} becomes {line:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn pieces_of_a_request_stream_do_not_matter(stream in streams(), cuts in vec(any::<usize>(), 0..6)) {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            let whole = play(protocol, Heads::Look, [&stream[..]]);
            prop_assert_eq!(&whole, &play(protocol, Heads::Look, cut(&stream, &cuts)));
            prop_assert_eq!(&whole, &play(protocol, Heads::Look, stream.chunks(1)));
            // Passing on the front of a request changes nothing until a data block turns out to be faulty: then it is too late to go on.
            let taken = play(protocol, Heads::Take, stream.chunks(1));
            let is_bad_chunk = |text: &String| text == "close CLIENT_ERROR bad data chunk";
            let same = if taken.last().is_some_and(is_bad_chunk) { taken.len() - 1 } else { taken.len().max(whole.len()) };
            prop_assert_eq!(taken.get(..same), whole.get(..same));
            play(protocol, Heads::Wait, cut(&stream, &cuts));
        }
    }

    #[test]
    fn pieces_of_a_reply_do_not_matter(stream in streams(), cuts in vec(any::<usize>(), 0..6)) {
        for shape in [ReplyShape::Resp, ReplyShape::Line, ReplyShape::Values, ReplyShape::Stats] {
            parse_reply_front(shape, &stream);
            let whole = measure(shape, [&stream[..]]);
            match measure(shape, cut(&stream, &cuts)) {
                Ok((bytes, error, true)) => prop_assert_eq!(whole, Ok((bytes, error, true))),
                // Less may have been passed on of a reply that is not whole.
                Ok((_, _, false)) => prop_assert!(matches!(whole, Ok((_, _, false)))),
                Err(error) => prop_assert_eq!(whole, Err(error)),
            }
        }
        parse_array_header(&stream);
        parse_integer_reply(&stream);
        parse_status_reply(&stream);
        parse_value_header(&stream);
        parse_bulk_reply(&stream);
        parse_scan_reply(&stream);
        parse_cursor(&stream);
    }

    #[test]
    fn a_keyed_redis_command_is_read_as_it_was_written(
        words in vec(vec(any::<u8>(), 0..1200), 2..12),
        cuts in vec(any::<usize>(), 0..4),
    ) {
        let mut words = words;
        words[0] = b"HdEl".to_vec();
        words.push(Vec::new());
        let wire = command(&words);
        let key = String::from_utf8_lossy(&words[1]).into_owned();
        for heads in ALL_HEADS {
            prop_assert_eq!(play(Protocol::Redis, heads, cut(&wire, &cuts)), [format!("key hdel {key}")]);
        }
    }

    #[test]
    fn a_split_redis_command_is_taken_apart_as_it_was_written(keys in keys(), name in prop::sample::select(vec!["mget", "del", "mset"])) {
        let mut words = vec![name.as_bytes().to_vec()];
        for key in &keys {
            words.push(key.clone());
            if name == "mset" {
                words.push(key.repeat(2));
            }
        }
        let wire = command(&words);
        let parsed = parse_request(Protocol::Redis, &wire, &mut Resume::default());
        let Parsed::Whole(request) = parsed else { panic!("{parsed:?}") };
        let mut rebuilt = format!("*{}\r\n", request.argc).into_bytes();
        rebuilt.extend(&wire[request.prefix.clone()]);
        let mut found = Vec::new();
        for part in request.keys(&wire) {
            found.push(wire[part.key].to_vec());
            rebuilt.extend(&wire[part.wire]);
        }
        prop_assert_eq!(found, keys);
        prop_assert_eq!(rebuilt, wire);
    }

    #[test]
    fn a_memcached_retrieval_is_taken_apart_as_it_was_written(keys in keys(), blanks in 1..3_usize) {
        let mut wire = b"gets".to_vec();
        for key in &keys {
            wire.extend(b" ".repeat(blanks));
            wire.extend(key);
        }
        wire.extend(b"\r\n");
        let parsed = parse_request(Protocol::Memcached, &wire, &mut Resume::default());
        let Parsed::Whole(request) = parsed else { panic!("{parsed:?}") };
        prop_assert_eq!(request.route, Route::Split(Split::MemcachedGet));
        prop_assert_eq!(request.bytes, wire.len());
        let found: Vec<Vec<u8>> = request.keys(&wire).map(|part| wire[part.wire].to_vec()).collect();
        prop_assert_eq!(found, keys);
    }

    #[test]
    fn a_memcached_set_is_read_as_it_was_written(
        key in vec(0x21..0x7f_u8, 1..251),
        value in vec(any::<u8>(), 0..1200),
        exptime in any::<i32>(),
        flags in any::<u32>(),
        cuts in vec(any::<usize>(), 0..4),
    ) {
        let key = String::from_utf8(key).expect("ASCII");
        let mut wire = format!("set {key} {flags} {exptime} {}\r\n", value.len()).into_bytes();
        wire.extend(&value);
        wire.extend(b"\r\n");
        for heads in ALL_HEADS {
            prop_assert_eq!(play(Protocol::Memcached, heads, cut(&wire, &cuts)), [format!("key set {key}")]);
        }
    }

    #[test]
    fn a_value_header_is_read_as_it_was_written(
        key in vec(0x21..0x7f_u8, 1..251),
        flags in any::<u32>(),
        data_bytes in 0..1_usize << 40,
        cas in any::<Option<u64>>(),
    ) {
        let key = String::from_utf8(key).expect("ASCII");
        let mut line = format!("VALUE {key} {flags} {data_bytes}");
        if let Some(cas) = cas {
            line.push(' ');
            line += &cas.to_string();
        }
        line += "\r\n";
        let expected = ValueHeader::Value { key: 6..6 + key.len(), header_bytes: line.len(), data_bytes };
        prop_assert_eq!(parse_value_header(line.as_bytes()), expected);
        for end in 0..line.len() {
            prop_assert_eq!(parse_value_header(&line.as_bytes()[..end]), ValueHeader::Incomplete);
        }
    }
}
