//! Random requests for Redis, from templates.
//!
//! A template is one or more commands with `;` between them. In braces stands what is made up: a key of a type, a value, a number.
//! What stands in round brackets comes one to five times. Everything has one right answer: commands that draw lots, tell
//! the time or the state of the server are not here, sets have numbers for members, which Redis keeps in order, and only keys that
//! got no time counted from now are asked for theirs.

use super::{Turn, choose, value};
use crate::client::resp::command;
use crate::random::Random;

/// Words with which a template is read.
const TEMPLATES: &[&str] = &[
    // Strings.
    "SET {s} {v}",
    "SET {s} {v} NX",
    "SET {s} {v} XX GET",
    "SET {s} {v} EX 1000",
    "SET {s} {v} PXAT 4000000000000",
    "SET {s} {v} KEEPTTL",
    "SET {s} {v} BOGUS",
    "GET {s}",
    "GET {any}",
    "GETSET {s} {v}",
    "GETDEL {s}",
    "GETEX {s} PERSIST",
    "GETEX {s} EXAT 4000000000",
    "APPEND {s} {v}",
    "STRLEN {any}",
    "SETRANGE {s} {i} {w}",
    "GETRANGE {s} {i} {i}",
    "SUBSTR {s} 0 {i}",
    "SETNX {s} {v}",
    "SETEX {s} 1000 {v}",
    "PSETEX {s} 1000000 {v}",
    "SETEX {s} 0 {v}",
    "INCR {n}",
    "DECR {n}",
    "INCRBY {n} {i}",
    "DECRBY {n} {i}",
    "INCRBYFLOAT {n} {f}",
    "INCR {any}",
    "MGET ({any})",
    "MGET ({s})",
    "MSET ({s} {v})",
    "MSETNX ({s} {w})",
    "LCS {t} {t}",
    "LCS {t} {t} IDX MINMATCHLEN 1 WITHMATCHLEN",
    "SET {t} {w}",
    // Bits.
    "SETBIT {b} {i} 1",
    "GETBIT {b} {i}",
    "BITCOUNT {b}",
    "BITCOUNT {b} 0 {i} BIT",
    "BITPOS {b} 1",
    "BITOP XOR {b} ({b})",
    "BITOP NOT {b} {b}",
    "BITFIELD {b} INCRBY u8 {i} 1 GET u4 0",
    "BITFIELD {b} OVERFLOW FAIL INCRBY i5 {i} 9",
    "BITFIELD_RO {b} GET u8 {i}",
    // Keys of any type.
    "DEL ({any})",
    "UNLINK ({any})",
    "EXISTS ({any})",
    "TOUCH ({any})",
    "TYPE {any}",
    "RENAME {s} {s}",
    "RENAMENX {l} {l}",
    "COPY {s} {s} REPLACE",
    "COPY {z} {z}",
    "EXPIREAT {any} 4000000000",
    "EXPIREAT {any} 4000000001 NX",
    "PEXPIREAT {any} 4000000000000 GT",
    "EXPIRE {l} 1000 XX",
    "PEXPIRE {l} 1000000 LT",
    "EXPIRE {any} -1",
    "EXPIRETIME {z}",
    "PEXPIRETIME {z}",
    "PERSIST {any}",
    "DUMP {n}",
    "DUMP {l}",
    "RESTORE {s} 0 {v}",
    "OBJECT ENCODING {any}",
    "OBJECT REFCOUNT {l}",
    "OBJECT HELP",
    "SORT {l} ALPHA LIMIT 0 5",
    "SORT {set} DESC",
    "SORT {set} STORE {l}",
    "SORT_RO {set} LIMIT 0 5",
    // Hashes.
    "HSET {h} ({w} {w})",
    "HSET {h} {w}",
    "HMSET {h} ({w} {w})",
    "HSETNX {h} {w} {w}",
    "HGET {h} {w}",
    "HMGET {h} ({w})",
    "HGETALL {h}",
    "HKEYS {h}",
    "HVALS {h}",
    "HLEN {any}",
    "HSTRLEN {h} {w}",
    "HEXISTS {h} {w}",
    "HDEL {h} ({w})",
    "HINCRBY {h} count {i}",
    "HINCRBYFLOAT {h} float {f}",
    "HSCAN {h} 0",
    "HRANDFIELD nothing",
    // Lists.
    "LPUSH {l} ({v})",
    "RPUSH {l} ({w})",
    "LPUSHX {l} {w}",
    "RPUSHX {any} {w}",
    "LPOP {l}",
    "RPOP {l} 2",
    "LRANGE {l} 0 {i}",
    "LRANGE {l} -5 -1",
    "LLEN {any}",
    "LINDEX {l} {i}",
    "LINSERT {l} BEFORE {w} {w}",
    "LSET {l} 0 {w}",
    "LREM {l} 0 {w}",
    "LTRIM {l} 0 20",
    "LPOS {l} {w} COUNT 0",
    "LMOVE {l} {l} LEFT RIGHT",
    "RPOPLPUSH {l} {l}",
    "LMPOP 2 {l} {l} LEFT COUNT 2",
    // Sets.
    "SADD {set} ({m})",
    "SREM {set} ({m})",
    "SMEMBERS {set}",
    "SISMEMBER {set} {m}",
    "SMISMEMBER {set} ({m})",
    "SCARD {any}",
    "SMOVE {set} {set} {m}",
    "SINTER ({set})",
    "SUNION ({set})",
    "SDIFF ({set})",
    "SINTERSTORE {set} ({set})",
    "SUNIONSTORE {set} ({set})",
    "SDIFFSTORE {set} ({set})",
    "SINTERCARD 2 {set} {set} LIMIT 3",
    "SSCAN {set} 0 COUNT 1000",
    "SPOP nothing",
    "SRANDMEMBER nothing 3",
    // Sorted sets.
    "ZADD {z} ({i} {m})",
    "ZADD {z} GT CH {f} {m}",
    "ZADD {z} INCR {f} {m}",
    "ZADD {z} NX XX 1 {m}",
    "ZADD {z} nan {m}",
    "ZINCRBY {z} {f} {m}",
    "ZREM {z} ({m})",
    "ZSCORE {z} {m}",
    "ZMSCORE {z} ({m})",
    "ZCARD {any}",
    "ZCOUNT {z} -inf {i}",
    "ZLEXCOUNT {z} - +",
    "ZRANK {z} {m}",
    "ZREVRANK {z} {m}",
    "ZRANGE {z} 0 -1 WITHSCORES",
    "ZRANGE {z} 0 {i} REV",
    "ZRANGE {z} (1 {i} BYSCORE LIMIT 0 3",
    "ZREVRANGE {z} 0 3 WITHSCORES",
    "ZRANGEBYSCORE {z} -inf +inf WITHSCORES LIMIT 1 2",
    "ZREVRANGEBYSCORE {z} {i} 0",
    "ZRANGEBYLEX {z} - [5",
    "ZREVRANGEBYLEX {z} + (5",
    "ZRANGESTORE {z} {z} 0 5",
    "ZREMRANGEBYRANK {z} 5 7",
    "ZREMRANGEBYSCORE {z} 40 41",
    "ZREMRANGEBYLEX {z} [9 [91",
    "ZPOPMIN {z}",
    "ZPOPMAX {z} 2",
    "ZMPOP 2 {z} {z} MAX COUNT 2",
    "ZUNION 2 {z} {z} WITHSCORES",
    "ZINTER 2 {z} {z} WEIGHTS 2 3 WITHSCORES",
    "ZDIFF 2 {z} {z}",
    "ZUNIONSTORE {z} 2 {z} {z} AGGREGATE MAX",
    "ZINTERSTORE {z} 2 {z} {z}",
    "ZDIFFSTORE {z} 2 {z} {z}",
    "ZINTERCARD 2 {z} {z}",
    "ZSCAN {z} 0 COUNT 1000",
    "ZRANDMEMBER nothing 2",
    // HyperLogLogs and places.
    "PFADD {p} ({w})",
    "PFCOUNT ({p})",
    "PFMERGE {p} ({p})",
    "GEOADD {g} 13.361389 38.115556 {m}",
    "GEOADD {g} 2.35 48.85 {m} 15.087269 37.502669 {m}",
    "GEODIST {g} {m} {m} km",
    "GEOPOS {g} ({m})",
    "GEOHASH {g} ({m})",
    "GEOSEARCH {g} FROMLONLAT 15 37 BYRADIUS 200 km ASC",
    "GEOSEARCH {g} FROMMEMBER {m} BYBOX 400 400 km ASC COUNT 3 WITHDIST",
    "GEOSEARCHSTORE {g} {g} FROMLONLAT 15 37 BYRADIUS 2000 km ASC COUNT 9",
    "GEORADIUS {g} 15 37 200 km WITHCOORD ASC",
    "GEORADIUS {g} 15 37 2000 km STORE {z}",
    "GEORADIUSBYMEMBER {g} {m} 100 km ASC",
    "GEORADIUS_RO {g} 15 37 200 km ASC",
    // Streams.
    "XADD {x} {c}-1 ({w} {w})",
    "XADD {x} MAXLEN 20 {c}-2 f {v}",
    "XADD {x} NOMKSTREAM {c}-3 f {w}",
    "XADD {x} 0-0 f {w}",
    "XLEN {any}",
    "XRANGE {x} - + COUNT 3",
    "XREVRANGE {x} + - COUNT 2",
    "XDEL {x} {c}-1",
    "XTRIM {x} MAXLEN 10",
    "XREAD COUNT 2 STREAMS {x} 0",
    "XREAD COUNT 1 STREAMS {x} {x} 0 0",
    "XREAD COUNT 1 STREAMS {x} {x} 0",
    "XGROUP CREATE {x} group 0 MKSTREAM",
    "XGROUP CREATECONSUMER {x} group one",
    "XGROUP SETID {x} group 0",
    "XGROUP DELCONSUMER {x} group one",
    "XGROUP DESTROY {x} group",
    "XREADGROUP GROUP group two COUNT 2 STREAMS {x} >",
    "XREADGROUP GROUP group two COUNT 2 STREAMS {x} 0",
    "XACK {x} group {c}-1",
    "XPENDING {x} group",
    "XCLAIM {x} group one 0 {c}-1 JUSTID",
    "XAUTOCLAIM {x} group one 0 0 COUNT 3 JUSTID",
    "XINFO GROUPS {x}",
    "XINFO STREAM {x}",
    "XSETID {x} {c}-9",
    // Scripts and functions.
    "EVAL \"return {KEYS[1],ARGV[1]}\" 1 {s} {w}",
    "EVAL \"return redis.call('incr',KEYS[1])\" 1 {any}",
    "EVAL \"return redis.status_reply('FINE')\" 0",
    "EVAL \"return redis.error_reply('BAD luck')\" 1 {s}",
    "EVAL \"return {1,{2,{3,'x'}},false}\" 1 {s}",
    "EVAL_RO \"return redis.call('get',KEYS[1])\" 1 {s}",
    "EVAL \"syntax error\" 1 {s}",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 {s}",
    "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 {s}",
    "EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 {s}",
    "SCRIPT LOAD \"return 1\"",
    "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db ffffffffffffffffffffffffffffffffffffffff",
    "SCRIPT FLUSH",
    "FUNCTION LOAD REPLACE \"#!lua name=mine\nredis.register_function('first',function(keys,args) return keys[1] end)\"",
    "FCALL first 1 {s}",
    "FCALL_RO first 1 {s}",
    "FUNCTION LIST",
    "FUNCTION DELETE mine",
    "FUNCTION FLUSH",
    // Every server is asked.
    "DBSIZE",
    "KEYS s:1",
    "KEYS nothing*",
    "SCAN 0 MATCH s:1 COUNT 1000",
    "SCAN 0 COUNT 1000 MATCH nothing* TYPE string",
    "SCAN nonsense",
    "FLUSHDB",
    "FLUSHALL",
    // Answered by the proxy.
    "PING",
    "PING {w}",
    "PING {w} {w}",
    "ECHO {v}",
    "COMMAND COUNT",
    "COMMAND INFO get",
    "COMMAND GETKEYS SET {w} {w}",
    "CLIENT SETNAME {w}; CLIENT GETNAME",
    "CLIENT SETNAME \"two words\"",
    "CLIENT GETNAME",
    "CLIENT NO-EVICT on",
    "CLIENT REPLY SKIP; SET {s} {w}; GET {s}",
    "CLIENT REPLY OFF; SET {s} {w}; GET {s}; CLIENT REPLY ON; GET {s}",
    "CONFIG GET databases",
    "SELECT 1; SET {s} {w}; GET {s}; DBSIZE; SELECT 0; GET {s}",
    "SELECT 99; GET {s}",
    "SELECT word",
    "AUTH word",
    "AUTH default word",
    // Transactions.
    "MULTI; SET {s} {w}; GET {s}; EXEC",
    "MULTI; INCR {n}; LPUSH {s} {w}; EXEC",
    "MULTI; DISCARD",
    "MULTI; SET {s} {v}; DISCARD",
    "MULTI; EXEC",
    "MULTI; GET; EXEC",
    "MULTI; NOSUCH {w}; SET {s} {w}; EXEC",
    "MULTI; MULTI; SET {s} {w}; EXEC",
    "MULTI; WATCH {s}; SET {s} {w}; EXEC",
    "WATCH {s}; MULTI; GET {s}; EXEC",
    "WATCH {s}; SET {s} {w}; MULTI; GET {s}; EXEC",
    "WATCH {s}; UNWATCH; MULTI; GET {s}; EXEC",
    "MULTI; PING; ECHO {w}; GET {s}; EXEC",
    "MULTI; BLPOP nothing 0; EXEC",
    "MULTI; EVAL \"return 1\" 1 {s}; EXEC",
    "EXEC",
    "DISCARD",
    "UNWATCH",
    // Blocking. Often there is nothing, so none waits long.
    "BLPOP {l} 0.01",
    "BRPOP {l} {l} 0.01",
    "LPUSH {l} {w}; BLPOP {l} 0.02",
    "LPUSH {l} {w}; BLMOVE {l} {l} LEFT RIGHT 0.02",
    "LPUSH {l} {w}; BRPOPLPUSH {l} {l} 0.02",
    "LPUSH {l} {w}; BLMPOP 0.02 1 {l} LEFT COUNT 2",
    "ZADD {z} 1 {m}; BZPOPMIN {z} 0.02",
    "ZADD {z} 1 {m}; BZPOPMAX {z} {z} 0.02",
    "ZADD {z} 1 {m}; BZMPOP 0.02 1 {z} MIN",
    "BLPOP {s} 0.01",
    "BLPOP {l} word",
    "XREAD BLOCK 10 STREAMS {x} 9999999-0",
    "WAIT 0 10",
    // Channels.
    "PUBLISH {w} {v}",
    "SPUBLISH {w} {w}",
    "PUBSUB CHANNELS nothing*",
    "PUBSUB NUMSUB {w}",
    "PUBSUB NUMPAT",
    "SUBSCRIBE one two; UNSUBSCRIBE one; UNSUBSCRIBE two; GET {s}",
    "PSUBSCRIBE a* b*; PING; PUNSUBSCRIBE a*; PUNSUBSCRIBE b*; GET {s}",
    "SSUBSCRIBE one; SUNSUBSCRIBE one",
    "UNSUBSCRIBE",
    "SUBSCRIBE one; GET {s}; UNSUBSCRIBE one",
    // What is wrong with a request.
    "GET",
    "GET {s} {s}",
    "MSET {s}",
    "MGET",
    "NOSUCH {w}",
    "nosuch",
    "HSET {h}",
    "ZADD {z} 1",
    "EVAL \"return 1\" word {s}",
    "EVAL \"return 1\" -1 {s}",
    "EVAL \"return 1\" 9 {s}",
    "ZUNION 0 {z}",
    "ZUNION word {z}",
    "LMPOP 0 {l} LEFT",
    "XREAD STREAMS",
    "SINTERCARD 9 {set}",
    "OBJECT NOSUCH {s}",
    "CLIENT NOSUCH",
    "SCRIPT NOSUCH",
    "CONFIG NOSUCH",
];

/// Templates that are not compared, because the proxy has words of its own for what is wrong with them, and why it has.
const OWN_WORDS: &[(&str, &str)] = &[
    (
        "NOSUCH {w}",
        "the arguments of a command that nobody knows are not repeated",
    ),
    ("nosuch", "as above"),
    ("MULTI; NOSUCH {w}; SET {s} {w}; EXEC", "as above"),
    (
        "EVAL \"return redis.status_reply('FINE')\" 0",
        "without a key there is no server to send it to",
    ),
    (
        "EVAL \"return 1\" word {s}",
        "the count of keys is read by the proxy, and has to be one",
    ),
    ("EVAL \"return 1\" -1 {s}", "as above"),
    ("ZUNION 0 {z}", "as above"),
    ("ZUNION word {z}", "as above"),
    ("LMPOP 0 {l} LEFT", "as above"),
    ("AUTH word", "the password is the pool's, not the server's"),
    ("AUTH default word", "as above"),
];

/// Whether replies to a template can be compared.
pub fn is_comparable(index: usize) -> bool {
    !OWN_WORDS
        .iter()
        .any(|(template, _)| *template == TEMPLATES[index])
}

/// Why some templates come rarely: they empty everything, or wait.
fn weight(template: &&str) -> usize {
    let rare = ["FLUSH", "0.01", "BLOCK 10", "WAIT"];
    match *template {
        _ if rare.iter().any(|word| template.contains(word)) => 1,
        "SET {s} {v}" | "GET {s}" | "MGET ({any})" => 60,
        _ => 10,
    }
}

/// A template that is read word by word.
struct Maker<'a> {
    random: &'a mut Random,
    /// Fills in the shortest and tamest things.
    tame: bool,
}

impl Maker<'_> {
    fn key(&mut self, kind: &str) -> Vec<u8> {
        format!("{kind}:{}", self.random.below(8)).into_bytes()
    }

    fn number(&mut self) -> Vec<u8> {
        self.random.below(60).to_string().into_bytes()
    }

    fn word(&mut self, word: &str) -> Vec<u8> {
        match word {
            "{any}" => {
                let kinds = ["s", "n", "h", "l", "set", "z", "x", "g"];
                let kind = *self.random.pick(&kinds);
                self.key(kind)
            }
            "{v}" if self.tame => b"value".to_vec(),
            "{v}" => value(self.random),
            "{w}" => {
                let words = ["a", "bc", "def", "apple", "one", "two", "x y", ""];
                let count = if self.tame { 6 } else { words.len() };
                words[self.random.below(count)].as_bytes().to_vec()
            }
            "{i}" | "{m}" => self.number(),
            "{f}" => format!("{}.{}", self.random.below(20), self.random.below(100)).into_bytes(),
            // Later identifiers are larger, as those of streams have to be.
            "{c}" => self.random.below(1_000).to_string().into_bytes(),
            _ => match word.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some(("c", rest)) => {
                    let number = self.random.below(1_000);
                    format!("{number}{rest}").into_bytes()
                }
                Some((kind, "")) => self.key(kind),
                _ => word.as_bytes().to_vec(),
            },
        }
    }

    fn command(&mut self, template: &str) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        let mut rest = template.trim_start();
        while !rest.is_empty() {
            let (piece, later) = match rest.as_bytes()[0] {
                b'"' => rest[1..].split_once('"').expect("a template is sound"),
                b'(' if rest[1..].starts_with('{') => {
                    let (group, later) = rest[1..].split_once(')').expect("a template is sound");
                    for _ in 0..=self.random.below(5) {
                        words.extend(group.split(' ').map(|word| self.word(word)));
                    }
                    rest = later.trim_start();
                    continue;
                }
                _ => rest.split_once(' ').unwrap_or((rest, "")),
            };
            let quoted = rest.starts_with('"');
            words.push(if quoted {
                piece.as_bytes().to_vec()
            } else {
                self.word(piece)
            });
            rest = later.trim_start();
        }
        if !self.tame && self.random.below(4) == 0 {
            words[0].make_ascii_lowercase();
        }
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        command(&words)
    }

    fn turn(&mut self, template: &'static str) -> Turn {
        // Scripts have semicolons of their own, but no blank behind them.
        let commands: Vec<&str> = template.split("; ").collect();
        Turn {
            bytes: commands
                .iter()
                .flat_map(|command| self.command(command))
                .collect(),
            requests: commands.len(),
            from: template,
        }
    }
}

/// Random requests.
pub fn turn(random: &mut Random, known: &[bool]) -> Turn {
    let index = choose(random, TEMPLATES, known, weight);
    let tame = false;
    Maker { random, tame }.turn(TEMPLATES[index])
}

/// The templates.
pub fn templates() -> Vec<&'static str> {
    TEMPLATES.to_vec()
}

/// An example of one of them.
pub fn example(index: usize, number: u64) -> Turn {
    let random = &mut Random::new(number);
    let tame = true;
    Maker { random, tame }.turn(TEMPLATES[index])
}

/// A request that brings its argument back.
pub fn ending(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mark = format!("the-end-of-{seed:020}-{:016x}", Random::new(seed).bits());
    let end = format!("{mark}\r\n").into_bytes();
    (command(&[b"PING", mark.as_bytes()]), end)
}

/// What empties a server of keys, scripts and functions.
pub fn emptying() -> Vec<u8> {
    [
        command(&[b"FLUSHALL"]),
        command(&[b"SCRIPT", b"FLUSH"]),
        command(&[b"FUNCTION", b"FLUSH"]),
    ]
    .concat()
}

/// RESP3 from here on. The PING shows where the reply ends.
pub fn hello() -> Vec<u8> {
    [command(&[b"HELLO", b"3"]), command(&[b"PING"])].concat()
}
