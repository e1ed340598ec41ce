//! Properties over generated streams: nothing panics, pieces do not matter, and what was written is what is read.

mod driver;

use driver::{ALL_HEADS, Heads, measure, play};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::{
    Parsed, Protocol, Quiet, ReplyShape, Resume, Route, Split, ValueHeader, parse_array_header,
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
            "*3\r\n$6\r\nCONFIG\r\n$3\r\nget\r\n", "*4\r\n$6\r\nXGROUP\r\n$7\r\nDESTROY\r\n", "*4\r\n$4\r\nEVAL\r\n$1\r\ns\r\n$1\r\n1\r\n",
            "*4\r\n$5\r\nXREAD\r\n$7\r\nSTREAMS\r\n", "*4\r\n$4\r\nSORT\r\n$1\r\nk\r\n$5\r\nSTORE\r\n", "*3\r\n$6\r\nRENAME\r\n$1\r\na\r\n",
            "set k 0 0 2\r\n", "get k k\r\n", "VALUE k 0 2\r\n", "*2\r\n$4\r\nKEYS\r\n", "ms k 2\r\n", "%1\r\n", "~2\r\n", "|1\r\n", ">1\r\n", "=5\r\n", "!1\r\n", "_\r\n",
            "mg k v q\r\n", "ma k q", "q", "b", "md Zm9v b", "VA 2 O1\r\n", "HD\r\n", "EN\r\n", "mg k v q\r\n", "ma k q", "q", "b", "md Zm9v b", "VA 2 O1\r\n", "HD\r\n", "EN\r\n",
            "#t\r\n", "#", "_", ",1\r\n", "(1\r\n",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..12),
        1 => vec(Just(b'x'), 0..300),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

/// A value of RESP3, perhaps with others in it and attributes in front of it.
fn resp3_values() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "_\r\n",
            "#t\r\n",
            "#f\r\n",
            ",nan\r\n",
            ",-1.5e3\r\n",
            "(123456789012345678901\r\n",
            "$-1\r\n",
            ":7\r\n",
            "+OK\r\n",
            "-ERR x\r\n"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        (
            prop::sample::select(vec!["$", "=", "!"]),
            vec(any::<u8>(), 0..40)
        )
            .prop_map(|(kind, data)| [
                format!("{kind}{}\r\n", data.len()).as_bytes(),
                &data,
                b"\r\n"
            ]
            .concat()),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        let values = (
            prop::sample::select(vec!["*", "~", ">"]),
            vec(inner.clone(), 0..5),
        )
            .prop_map(|(kind, values)| {
                [
                    format!("{kind}{}\r\n", values.len()).into_bytes(),
                    values.concat(),
                ]
                .concat()
            });
        let pairs = vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
            let all: Vec<u8> = pairs
                .iter()
                .flat_map(|(key, value)| [&key[..], value].concat())
                .collect();
            [format!("%{}\r\n", pairs.len()).into_bytes(), all].concat()
        });
        let described = (inner.clone(), inner.clone(), inner)
            .prop_map(|(key, value, of)| [b"|1\r\n".to_vec(), key, value, of].concat());
        prop_oneof![2 => values, 2 => pairs, 1 => described]
    })
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
        for shape in [ReplyShape::Resp, ReplyShape::Line, ReplyShape::Values, ReplyShape::Stats, ReplyShape::Meta(Quiet::No)] {
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
    fn a_reply_of_resp3_ends_where_it_was_written_to_end(
        reply in resp3_values(),
        behind in streams(),
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let stream = [&reply[..], &behind].concat();
        for pieces in [vec![&stream[..]], cut(&stream, &cuts), stream.chunks(1).collect()] {
            let measured = measure(ReplyShape::Resp, pieces).map(|(bytes, _, done)| (bytes, done));
            prop_assert_eq!(measured, Ok((reply.len(), true)));
        }
        let part = measure(ReplyShape::Resp, [&reply[..reply.len() - 1]]);
        prop_assert!(matches!(part, Ok((_, _, false))));
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
    fn keys_that_belong_together_are_read_as_they_were_written(
        keys in keys(),
        more in vec(vec(any::<u8>(), 0..40), 0..4),
        shape in 0..5_usize,
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let word = |text: &str| text.as_bytes().to_vec();
        let count = || word(&keys.len().to_string());
        let ids = || keys.iter().map(|_| word("0"));
        let (front, behind): (Vec<Vec<u8>>, Vec<Vec<u8>>) = match shape {
            0 => (vec![word("EVAL"), word("return 1"), count()], more),
            1 => (vec![word("ZUNION"), count()], more),
            2 => (vec![word("SINTER")], Vec::new()),
            3 => (vec![word("BITOP"), word("AND")], Vec::new()),
            _ => (vec![word("XREAD"), word("COUNT"), word("7"), word("streams")], ids().collect()),
        };
        let wire = command(&[front.clone(), keys.clone(), behind].concat());
        let shown: Vec<String> = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        let name = String::from_utf8_lossy(&front[0]).to_lowercase();
        for heads in ALL_HEADS {
            prop_assert_eq!(
                play(Protocol::Redis, heads, cut(&wire, &cuts)),
                [format!("together {name} {}", shown.join(" "))]
            );
        }
    }

    #[test]
    fn a_subcommand_is_read_as_it_was_written(
        key in vec(0x21..0x7f_u8, 1..1200),
        more in vec(vec(any::<u8>(), 0..300), 0..4),
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let words = [vec![b"XGroup".to_vec(), b"CreaTE".to_vec(), key.clone(), b"g".to_vec(), b"$".to_vec()], more].concat();
        let wire = command(&words);
        let shown = String::from_utf8_lossy(&key).into_owned();
        for heads in ALL_HEADS {
            prop_assert_eq!(play(Protocol::Redis, heads, cut(&wire, &cuts)), [format!("key xgroup|create {shown}")]);
        }
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
