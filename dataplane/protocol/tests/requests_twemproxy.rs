//! What is taken of a client of twemproxy, where it goes, and what is refused without a word.

use tidegate_protocol::{
    Local, Parsed, Protocol, Refusal, Resume, Route, Split, parse_request,
    parse_request_as_twemproxy,
};

/// Most arguments that the tables below tell about, the name included.
const ARGUMENTS: usize = 11;

/// Which numbers of arguments, from one (the name alone) on, nutcracker 0.5.0 takes of which commands: `+`, it does; `-`, it closes.
const TAKEN: &[(&str, &str)] = &[
    ("+++++++++++", "lolwut"),
    ("+----------", "ping command"),
    (
        "-++++++++++",
        "copy exists restore sort bitcount bitfield bitpos getex set hdel hmget hmset hrandfield hscan hset lpop lpos \
         lpush lpushx rpop rpush rpushx sadd sdiff sdiffstore sinter sinterstore smismember spop srandmember srem sscan \
         sunion sunionstore zadd zdiffstore zinterstore zmscore zpopmax zpopmin zrandmember zrange zrangebylex \
         zrangebyscore zrangestore zrem zrevrange zrevrangebylex zrevrangebyscore zscan zunionstore pfadd pfcount \
         pfmerge geoadd geodist geohash geopos georadius georadiusbymember geosearch geosearchstore zdiff zinter zunion \
         mget del touch unlink",
    ),
    (
        "-+---------",
        "dump persist pttl ttl type decr get getdel incr strlen hgetall hkeys hlen hvals llen scard smembers zcard auth",
    ),
    ("--+-+-+-+-+", "mset"),
    (
        "--+--------",
        "expire expireat pexpire pexpireat append decrby getbit getset incrby incrbyfloat setnx hexists hget hstrlen \
         lindex rpoplpush sismember zrank zrevrank zscore",
    ),
    ("---++++++++", "eval evalsha"),
    (
        "---+-------",
        "getrange psetex setbit setex setrange hincrby hincrbyfloat hsetnx lrange lrem lset ltrim smove zcount zincrby \
         zlexcount zremrangebylex zremrangebyrank zremrangebyscore",
    ),
    ("----+------", "linsert lmove"),
];

/// Commands of which it takes none.
const NOT_TAKEN: &str = "expiretime pexpiretime sort_ro bitfield_ro lcs substr georadius_ro georadiusbymember_ro zintercard sintercard \
    lmpop zmpop eval_ro evalsha_ro select dbsize flushall keys randomkey scan wait bitop msetnx rename \
    renamenx migrate move swapdb restore-asking blmove blpop brpop brpoplpush bzpopmax bzpopmin xread discard exec \
    multi unwatch watch monitor publish subscribe xadd fcall function script acl config echo info object time \
    slowlog client reset hello cluster readonly nonsense hello";

fn command(words: &[&str]) -> Vec<u8> {
    let bulks: Vec<String> = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    format!("*{}\r\n{}", words.len(), bulks.concat()).into_bytes()
}

fn parse(protocol: Protocol, bytes: &[u8]) -> Parsed {
    parse_request_as_twemproxy(protocol, bytes, &mut Resume::default())
}

/// What is found when one byte after the other arrives, which has to be what is found at once.
fn parse_trickled(protocol: Protocol, bytes: &[u8]) -> Parsed {
    let mut resume = Resume::default();
    for end in 0..bytes.len() {
        match parse_request_as_twemproxy(protocol, &bytes[..end], &mut resume) {
            Parsed::Incomplete { .. } | Parsed::Head { .. } => {}
            decided => return decided,
        }
    }
    parse_request_as_twemproxy(protocol, bytes, &mut resume)
}

fn is_closed(protocol: Protocol, bytes: &[u8]) -> bool {
    let whole = parse(protocol, bytes);
    assert_eq!(
        whole,
        parse_trickled(protocol, bytes),
        "{}",
        bytes.escape_ascii()
    );
    match whole {
        Parsed::Refused(refusal) => {
            assert_eq!(refusal, Refusal::SILENT);
            true
        }
        Parsed::Whole(request) => {
            assert_eq!(request.bytes, bytes.len(), "{}", bytes.escape_ascii());
            false
        }
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

/// Which numbers of arguments are taken of `name`.
fn pattern(name: &str) -> String {
    (1..=ARGUMENTS)
        .map(|count| {
            let mut words = vec!["1"; count];
            words[0] = name;
            if is_closed(Protocol::Redis, &command(&words)) {
                '-'
            } else {
                '+'
            }
        })
        .collect()
}

#[test]
fn as_many_arguments_are_taken_as_twemproxy_takes() {
    for (expected, names) in TAKEN {
        for name in names.split(' ') {
            assert_eq!(pattern(name), *expected, "{name}");
            assert_eq!(pattern(&name.to_uppercase()), pattern(name), "{name}");
        }
    }
    for name in NOT_TAKEN.split(' ') {
        assert_eq!(pattern(name), "-".repeat(ARGUMENTS), "{name}");
    }
}

#[test]
fn each_request_finds_its_server_as_in_twemproxy() {
    for (words, route, key) in [
        (&["GET", "a"][..], Route::Key, "a"),
        (&["set", "a", "b"], Route::Key, "a"),
        (&["EXISTS", "a", "b", "c"], Route::Key, "a"),
        (&["MGET", "a", "b"], Route::Split(Split::Mget), "a"),
        (
            &["MSET", "a", "1", "b", "2"],
            Route::Split(Split::Mset),
            "a",
        ),
        (&["DEL", "a", "b"], Route::Split(Split::Sum), "a"),
        (&["UNLINK", "a", "b"], Route::Split(Split::Sum), "a"),
        (&["TOUCH", "a", "b"], Route::Split(Split::Sum), "a"),
        (&["MGET", "a"], Route::Key, "a"),
        (&["EVAL", "return 1", "2", "a", "b"], Route::Key, "a"),
        (&["EVALSHA", "f00", "1", "a", "x"], Route::Key, "a"),
        (&["ZDIFF", "2", "a", "b"], Route::Key, "2"),
        (&["ZINTER", "0", "a"], Route::Key, "0"),
        (&["ZUNION", "x", "a"], Route::Key, "x"),
        (&["ZUNIONSTORE", "to", "2", "a", "b"], Route::Key, "to"),
        (&["COMMAND"], Route::Any, ""),
        (&["LOLWUT", "VERSION", "5"], Route::Any, ""),
        (&["PING"], Route::Local(Local::Ping), ""),
        (&["QUIT"], Route::Local(Local::Quit), ""),
        (&["AUTH", "secret"], Route::Local(Local::Auth), "secret"),
    ] {
        let bytes = command(words);
        let Parsed::Whole(request) = parse(Protocol::Redis, &bytes) else {
            panic!("{words:?} is not taken");
        };
        assert_eq!(request.route, route, "{words:?}");
        assert_eq!(&bytes[request.key], key.as_bytes(), "{words:?}");
    }
}

#[test]
fn a_count_of_keys_has_to_be_one() {
    for count in ["0", "-1", "x", ""] {
        assert!(
            is_closed(Protocol::Redis, &command(&["EVAL", "s", count, "k", "v"])),
            "{count}"
        );
    }
}

#[test]
fn what_is_no_request_of_redis_closes() {
    for bytes in [
        "\r\n",
        "PING\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*3\r\n*abcde\r\n",
        "*x\r\n",
        "*1\r\n$3\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$-1\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\nab\r\n",
        "*2\n$3\nget\n$1\na\n",
        "*1\r\n$0\r\n\r\n",
    ] {
        assert!(is_closed(Protocol::Redis, bytes.as_bytes()), "{bytes:?}");
    }
}

#[test]
fn a_large_request_can_be_passed_on_from_its_front() {
    let bytes = command(&["SET", "k", &"x".repeat(10_000)]);
    let Parsed::Head { request, .. } = parse(Protocol::Redis, &bytes[..1000]) else {
        panic!("the front of a large request is enough");
    };
    assert_eq!(&bytes[request.key], b"k");
    let negative = b"set k 0 -1 100\r\nxx";
    assert_eq!(
        parse(Protocol::Memcached, negative),
        Parsed::Refused(Refusal::SILENT)
    );
}

#[test]
fn memcached_requests_are_taken_or_closed_as_by_twemproxy() {
    let long = |bytes: usize| format!("get {}\r\n", "x".repeat(bytes));
    for taken in [
        "get k\r\n",
        " get k\r\n",
        "get  k  z \r\n",
        "gets k\r\n",
        "get k k\r\n",
        "set k 0 0 1\r\na\r\n",
        "set  k  0  0  1 \r\na\r\n",
        "set k 0 0 0\r\n\r\n",
        "set k 01 01 01\r\na\r\n",
        "set k 4294967295 0 1\r\na\r\n",
        "set k 0 0 1 noreply\r\na\r\n",
        "add k 0 0 1\r\na\r\n",
        "replace k 0 0 1\r\na\r\n",
        "append k 0 0 1\r\na\r\n",
        "prepend k 0 0 1\r\na\r\n",
        "cas k 0 0 1 5\r\na\r\n",
        "cas k 0 0 1 5 noreply\r\na\r\n",
        "delete k\r\n",
        "delete  k \r\n",
        "delete k noreply\r\n",
        "incr n 1\r\n",
        "incr n -1\r\n",
        "incr n -\r\n",
        "incr n 1 \r\n",
        "incr n 99999999999999999999\r\n",
        "decr n 1 noreply\r\n",
        "touch n 10\r\n",
        "touch n -1\r\n",
        "touch n 10 noreply\r\n",
        "version\r\n",
        "version \r\n",
        "quit\r\n",
        &long(250),
    ] {
        assert!(
            !is_closed(Protocol::Memcached, taken.as_bytes()),
            "{taken:?}"
        );
    }
    for closed in [
        "\r\n",
        "get\r\n",
        "GET k\r\n",
        "gat 1 k\r\n",
        "gats 1 k l\r\n",
        "set k 0 -1 1\r\na\r\n",
        "set k -1 0 1\r\na\r\n",
        "set k 0 0 -1\r\n",
        "set k 0 0 1 x\r\na\r\n",
        "set k 0 0 1 norep\r\na\r\n",
        "set k 0 0 1 2 3\r\na\r\n",
        "set k 0 0\r\n",
        "set k x 0 1\r\na\r\n",
        "set k 0 0 1\r\nab\r\n",
        "cas k 0 0 1\r\na\r\n",
        "cas k 0 0 1 x\r\na\r\n",
        "cas k 0 -1 1 5\r\na\r\n",
        "cas k 0 0 1 5 x\r\na\r\n",
        "delete\r\n",
        "delete k 0\r\n",
        "delete k 0 noreply\r\n",
        "delete k x\r\n",
        "incr n\r\n",
        "incr n x\r\n",
        "incr n +1\r\n",
        "incr n 1x\r\n",
        "incr n --1\r\n",
        "incr n 1 x\r\n",
        "incr n noreply\r\n",
        "touch n x\r\n",
        "touch n 10 x\r\n",
        "version x\r\n",
        "verbosity 1\r\n",
        "flush_all\r\n",
        "stats\r\n",
        "mg k v\r\n",
        "mn\r\n",
        "\u{80}",
        "nonsense\r\n",
        &long(251),
    ] {
        let bytes: Vec<u8> = closed.chars().map(|letter| letter as u8).collect();
        assert!(is_closed(Protocol::Memcached, &bytes), "{closed:?}");
    }
}

#[test]
fn what_is_taken_is_framed_as_ever() {
    for (_, names) in TAKEN {
        for name in names.split(' ') {
            for count in 1..=ARGUMENTS {
                let mut words = vec!["1"; count];
                words[0] = name;
                let bytes = command(&words);
                let own = parse_request(Protocol::Redis, &bytes, &mut Resume::default());
                if let (Parsed::Whole(compat), Parsed::Whole(own)) =
                    (parse(Protocol::Redis, &bytes), own)
                {
                    assert_eq!((compat.bytes, compat.reply), (own.bytes, own.reply));
                }
            }
        }
    }
}
