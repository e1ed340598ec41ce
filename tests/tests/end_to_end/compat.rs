//! Clients of twemproxy before Tidegate: the same dialogues, byte for byte, with real servers, and with nutcracker beside it.

use tidegate_tests::both_twins;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::stage::Driver;
use tidegate_tests::twins::{Twins, answer, assert_answer, commands};

both_twins!(requests_are_answered_or_closed_as_by_nutcracker);

fn requests_are_answered_or_closed_as_by_nutcracker(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    let redis: &[(&[&str], &str, bool)] = &[
        (&["PING"], "+PONG\r\n", false),
        (&["SET k v", "GET k"], "+OK\r\n$1\r\nv\r\n", false),
        (
            &["SET a 1", "SET b 2", "LPUSH a 3", "SET d 4", "GET a"],
            "+OK\r\n+OK\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n+OK\r\n$1\r\n1\r\n",
            false,
        ),
        (
            &["SET a 1", "ZREM b", "SET b 2"],
            "+OK\r\n-ERR wrong number of arguments for 'zrem' command\r\n+OK\r\n",
            false,
        ),
        (
            &["EVAL return{1,redis.call('set',KEYS[1],'1')} 1 tmp"],
            "*2\r\n:1\r\n+OK\r\n",
            false,
        ),
        (
            &["MSET k 1 l 2", "MGET l k nil l"],
            "+OK\r\n*4\r\n$1\r\n2\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n",
            false,
        ),
        (
            &["SET exists1 foo", "EXISTS exists1", "EXISTS nil"],
            "+OK\r\n:1\r\n:0\r\n",
            false,
        ),
        (
            &["AUTH any"],
            "-ERR Client sent AUTH, but no password is set\r\n",
            false,
        ),
        (&["QUIT"], "", true),
        (&["SET k v", "QUIT"], "+OK\r\n", true),
        (&["MSETNX a 1 b 2"], "", true),
        (&["MOVE a 1"], "", true),
        (&["PING x"], "", true),
        (&["SELECT 0"], "", true),
        (&["AUTH user password"], "", true),
        (&["HELLO 3"], "", true),
        (&["GET"], "", true),
        (&["MSET A A A"], "", true),
        (&["MSET A"], "", true),
        (&["EVAL x 0"], "", true),
    ];
    let raw: &[&[u8]] = &[b"\r\n", b"PING\r\n", b"*0\r\n", b"*3\r\n*abcde\r\n"];
    let memcached: &[(&str, &str, bool)] = &[
        (
            "set k 0 0 1\r\nv\r\nget k\r\n",
            "STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n",
            false,
        ),
        (
            "set n 0 0 1\r\n1\r\nincr n 1\r\nget n\r\n",
            "STORED\r\n2\r\nVALUE n 0 1\r\n2\r\nEND\r\n",
            false,
        ),
        (
            "set k 0 0 1 noreply\r\nv\r\nget k k z\r\n",
            "VALUE k 0 1\r\nv\r\nVALUE k 0 1\r\nv\r\nEND\r\n",
            false,
        ),
        ("delete k\r\n", "NOT_FOUND\r\n", false),
        (
            "incr n -1\r\n",
            "CLIENT_ERROR invalid numeric delta argument\r\n",
            false,
        ),
        ("quit\r\n", "", true),
        ("delete k 0\r\n", "", true),
        ("set k 0 -1 1\r\na\r\n", "", true),
        ("set k 0 0 1 x\r\na\r\n", "", true),
        ("set k 0 0 1\r\nab\r\n", "", true),
        ("incr k x\r\n", "", true),
        ("version x\r\n", "", true),
        ("verbosity 1\r\n", "", true),
        ("gat 1 k\r\n", "", true),
        ("gats 1 k\r\n", "", true),
        ("stats\r\n", "", true),
        ("flush_all\r\n", "", true),
        ("mg k v\r\n", "", true),
        ("nonsense\r\n", "", true),
        ("\r\n", "", true),
    ];
    let (kind, other) = (ServerKind::Redis, ServerKind::Memcached);
    for way in twins.ways("redis") {
        for (lines, reply, closed) in redis {
            twins.flush().unwrap();
            let request = commands(lines);
            twins
                .scene
                .on_client(|| assert_answer(way, kind, &request, reply.as_bytes(), *closed));
        }
        for bytes in raw {
            twins
                .scene
                .on_client(|| assert_answer(way, kind, bytes, b"", true));
        }
    }
    for way in twins.ways("memcached") {
        for (request, reply, closed) in memcached {
            twins.flush().unwrap();
            let (request, reply) = (request.as_bytes(), reply.as_bytes());
            twins
                .scene
                .on_client(|| assert_answer(way, other, request, reply, *closed));
        }
    }
}

both_twins!(earlier_requests_are_answered_before_a_bad_one_closes);

fn earlier_requests_are_answered_before_a_bad_one_closes(driver: Driver) {
    let Some(mut twins) = Twins::usual(driver) else {
        return;
    };
    twins.scene.on_client(|| {
        let to = twins.tidegate("redis");
        let request = commands(&["SET a 1", "GET a", "MGET a b", "KEYS *", "SET a 2"]);
        let replies = b"+OK\r\n$1\r\n1\r\n*2\r\n$1\r\n1\r\n$-1\r\n";
        for _ in 0..20 {
            assert_answer(("tidegate", to), ServerKind::Redis, &request, replies, true);
        }
    });
    let status = twins.scene.wait_for_status("the closed clients", |status| {
        status.pool_total("redis", "clients_closed_compat") == 20
    });
    assert_eq!(status.pool_total("redis", "clients_closed_protocol"), 0);
    assert_eq!(status.pool_total("redis", "client_errors"), 0);
}

/// Every command that either knows, and some that neither does.
const NAMES: &str = "append auth bitcount bitfield bitfield_ro bitop bitpos blpop client config copy dbsize decr decrby del \
    discard dump echo eval evalsha exec exists expire expireat expiretime flushall geoadd geodist geohash geopos georadius \
    georadius_ro georadiusbymember geosearch geosearchstore get getbit getdel getex getrange getset hdel hello hexists hget hgetall \
    hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx hstrlen hvals incr incrby incrbyfloat info keys lcs \
    lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange lrem lset ltrim mget migrate move mset msetnx multi nonsense \
    object persist pexpire pexpireat pfadd pfcount pfmerge ping psetex pttl publish quit randomkey rename restore rpop rpoplpush \
    rpush rpushx sadd scan scard script sdiff sdiffstore select set setbit setex setnx setrange sinter sintercard sinterstore \
    sismember smembers smismember smove sort sort_ro spop srandmember srem sscan strlen subscribe sunion sunionstore time touch ttl \
    type unlink wait watch xadd zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore \
    zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank \
    zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore";

// Nobody has written these bytes down: without nutcracker there is nothing to hold Tidegate to, and this is skipped.
both_twins!(every_command_with_any_number_of_arguments_gets_the_bytes_that_nutcracker_gives);

fn every_command_with_any_number_of_arguments_gets_the_bytes_that_nutcracker_gives(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    let [(_, tidegate), (_, nutcracker)] = twins.ways("redis")[..] else {
        eprintln!("skipped: nutcracker is not installed");
        return;
    };
    let requests: Vec<String> = NAMES
        .split_whitespace()
        .flat_map(|name| {
            (0..8).map(move |count| {
                let numbers = " 1".repeat(usize::max(count, 1) - 1);
                match (name, count) {
                    (_, 0) => name.to_owned(),
                    ("eval" | "evalsha", 2..) => format!("{name} return 1{}", &numbers[2..]),
                    _ => format!("{name} {name}{count}{numbers}"),
                }
            })
        })
        .collect();
    // A key of its own for each, so that no request meets the traces of another, except through `1`.
    let all = |to| {
        twins.flush().unwrap();
        twins.scene.on_client(|| {
            let answers = requests
                .iter()
                .map(|request| answer(to, &commands(&[request])));
            answers.collect::<Vec<_>>()
        })
    };
    let (ours, theirs) = (all(tidegate), all(nutcracker));
    let mut closed = 0;
    for ((request, ours), theirs) in requests.iter().zip(ours).zip(theirs) {
        assert_eq!(
            ours.escape_ascii().to_string(),
            theirs.escape_ascii().to_string(),
            "{request}"
        );
        closed += usize::from(ours.is_empty());
    }
    assert!(closed > 400 && closed < requests.len() - 400, "{closed}");
    for request in ["COMMAND", "LOLWUT", "LOLWUT VERSION 5"] {
        for to in [tidegate, nutcracker] {
            let got = twins.scene.on_client(|| answer(to, &commands(&[request])));
            assert!(got.starts_with(b"*") || got.starts_with(b"$"), "{request}");
        }
    }
}

/// Lines of memcached with their blocks: sound, odd and wrong ones.
const LINES: &[&str] = &[
    "set k 0 0 1\r\na\r\n",
    "get k\r\n",
    " get k\r\n",
    "get  k  z \r\n",
    "get k k\r\n",
    "get\r\n",
    "get \r\n",
    "GET k\r\n",
    "set  k  0  0  1 \r\na\r\n",
    "set k 0 0 0\r\n\r\n",
    "set k 01 01 01\r\na\r\n",
    "set k 4294967295 0 1\r\na\r\n",
    "set k 0 -1 1\r\na\r\n",
    "set k -1 0 1\r\na\r\n",
    "set k 0 0 -1\r\n",
    "set k 0 0 1 norep\r\na\r\n",
    "set k 0 0 1 noreply x\r\na\r\n",
    "set k 0 0 1 2 3\r\na\r\n",
    "set k 0 0\r\n",
    "set k x 0 1\r\na\r\n",
    "set k 0 x 1\r\na\r\n",
    "set k 0 0 x\r\na\r\n",
    "set k 0 0 1\r\nab\r\n",
    "add q 0 0 1\r\na\r\n",
    "add q 0 0 1\r\na\r\n",
    "replace q 0 0 1\r\nb\r\n",
    "append q 0 0 1\r\nc\r\n",
    "prepend q 0 0 1\r\nd\r\nget q\r\n",
    "cas nil 0 0 1 5\r\na\r\n",
    "cas k 0 0 1 x\r\na\r\n",
    "cas k 0 0 1\r\na\r\n",
    "cas k 0 0 1 -5\r\na\r\n",
    "cas k 0 -1 1 5\r\na\r\n",
    "delete k\r\n",
    "delete k\r\n",
    "delete  k \r\n",
    "delete k 0\r\n",
    "delete k 1\r\n",
    "delete k x\r\n",
    "delete k 0 noreply\r\n",
    "delete k noreply x\r\n",
    "delete\r\n",
    "delete q noreply\r\nget q\r\n",
    "set n 0 0 1\r\n5\r\n",
    "incr n 1\r\n",
    "decr n 2\r\n",
    "incr n -1\r\n",
    "incr n -\r\n",
    "incr n x\r\n",
    "incr n\r\n",
    "incr n 1 x\r\n",
    "incr n 1x\r\n",
    "incr n +1\r\n",
    "incr n --1\r\n",
    "incr n 1-\r\n",
    "incr n noreply\r\n",
    "incr n 1 \r\n",
    "incr n 99999999999999999999\r\n",
    "incr n 1 noreply\r\nget n\r\n",
    "incr nil 1\r\n",
    "touch n 10\r\n",
    "touch n -1\r\n",
    "touch n x\r\n",
    "touch n 10 x\r\n",
    "touch n\r\n",
    "version\r\n",
    "version \r\n",
    "version x\r\n",
    "quit\r\n",
    "quit x\r\n",
    "gat 1 k\r\n",
    "gats 1 k\r\n",
    "verbosity 1\r\n",
    "flush_all\r\n",
    "stats\r\n",
    "mg k v\r\n",
    "ms k 1\r\na\r\n",
    "mn\r\n",
    "lru_crawler enable\r\n",
    "shutdown\r\n",
    "watch\r\n",
    "nonsense\r\n",
    "\r\n",
    "\0\r\n",
    "get\0 k\r\n",
    "get k\r\nquit\r\nget k\r\n",
    "set k 0 0 1\r\nv\r\nget k nil k nil2\r\nget nil\r\n",
];

// Without nutcracker this is skipped as well.
both_twins!(every_line_of_memcached_gets_the_bytes_that_nutcracker_gives);

fn every_line_of_memcached_gets_the_bytes_that_nutcracker_gives(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    let [(_, tidegate), (_, nutcracker)] = twins.ways("memcached")[..] else {
        eprintln!("skipped: nutcracker is not installed");
        return;
    };
    let long = [250, 251].map(|bytes| format!("get {}\r\n", "x".repeat(bytes)));
    let lines: Vec<&str> = LINES
        .iter()
        .copied()
        .chain(long.iter().map(String::as_str))
        .collect();
    // `touch n -1` makes `n` expire at once, for both alike.
    let all = |to| -> Vec<Vec<u8>> {
        twins.flush().unwrap();
        twins.scene.on_client(|| {
            lines
                .iter()
                .map(|line| answer(to, line.as_bytes()))
                .collect()
        })
    };
    for ((line, ours), theirs) in lines.iter().zip(all(tidegate)).zip(all(nutcracker)) {
        assert_eq!(
            ours.escape_ascii().to_string(),
            theirs.escape_ascii().to_string(),
            "{line:?}"
        );
    }
}
