//! The commands that twemproxy 0.5 takes, with the arguments it wants and the argument by which it routes.
//!
//! It knows four numbers of arguments, and beyond four only a least number of one: what is wrong with the rest is for the server to
//! say. So most arities here are looser than those of Redis, and a few are stricter: what became optional lately is not known to it.

use super::commands::Rule;
use crate::request::{Local, Split};

/// Commands with the same arity, counted with the name as in the table of commands, and the same way to their server.
struct Family {
    arity: i8,
    rule: Rule,
    names: &'static [&'static str],
}

const fn family(arity: i8, rule: Rule, names: &'static [&'static str]) -> Family {
    Family { arity, rule, names }
}

/// The least arity of most commands: a key, and whatever follows.
const KEY_AND_MORE: i8 = -2;

const FAMILIES: &[Family] = &[
    family(
        2,
        Rule::Key(1),
        &[
            "decr", "dump", "get", "getdel", "hgetall", "hkeys", "hlen", "hvals", "incr", "llen",
            "persist", "pttl", "scard", "smembers", "strlen", "ttl", "type", "zcard",
        ],
    ),
    family(
        3,
        Rule::Key(1),
        &[
            "append",
            "decrby",
            "expire",
            "expireat",
            "getbit",
            "getset",
            "hexists",
            "hget",
            "hstrlen",
            "incrby",
            "incrbyfloat",
            "lindex",
            "pexpire",
            "pexpireat",
            "rpoplpush",
            "setnx",
            "sismember",
            "zrank",
            "zrevrank",
            "zscore",
        ],
    ),
    family(
        4,
        Rule::Key(1),
        &[
            "getrange",
            "hincrby",
            "hincrbyfloat",
            "hsetnx",
            "lrange",
            "lrem",
            "lset",
            "ltrim",
            "psetex",
            "setbit",
            "setex",
            "setrange",
            "smove",
            "zcount",
            "zincrby",
            "zlexcount",
            "zremrangebylex",
            "zremrangebyrank",
            "zremrangebyscore",
        ],
    ),
    family(5, Rule::Key(1), &["linsert", "lmove"]),
    family(KEY_AND_MORE, Rule::Key(1), OPEN_ENDED),
    family(-4, Rule::FirstCounted(2), &["eval", "evalsha"]),
    family(-2, Rule::Split(Split::Mget), &["mget"]),
    family(-3, Rule::Split(Split::Mset), &["mset"]),
    family(-2, Rule::Split(Split::Sum), &["del", "touch", "unlink"]),
    family(-1, Rule::Any, &["lolwut"]),
    family(1, Rule::Local(Local::Ping), &["ping"]),
    family(-1, Rule::Local(Local::Quit), &["quit"]),
    family(2, Rule::Local(Local::Auth), &["auth"]),
    family(1, Rule::Any, &["command"]),
];

/// `exists` is here because it is not divided, `zdiff`, `zinter` and `zunion` because their count of keys passes for the key.
const OPEN_ENDED: &[&str] = &[
    "bitcount",
    "bitfield",
    "bitpos",
    "copy",
    "exists",
    "geoadd",
    "geodist",
    "geohash",
    "geopos",
    "georadius",
    "georadiusbymember",
    "geosearch",
    "geosearchstore",
    "getex",
    "hdel",
    "hmget",
    "hmset",
    "hrandfield",
    "hscan",
    "hset",
    "lpop",
    "lpos",
    "lpush",
    "lpushx",
    "pfadd",
    "pfcount",
    "pfmerge",
    "restore",
    "rpop",
    "rpush",
    "rpushx",
    "sadd",
    "sdiff",
    "sdiffstore",
    "set",
    "sinter",
    "sinterstore",
    "smismember",
    "sort",
    "spop",
    "srandmember",
    "srem",
    "sscan",
    "sunion",
    "sunionstore",
    "zadd",
    "zdiff",
    "zdiffstore",
    "zinter",
    "zinterstore",
    "zmscore",
    "zpopmax",
    "zpopmin",
    "zrandmember",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrangestore",
    "zrem",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zscan",
    "zunion",
    "zunionstore",
];

/// Arity and rule of the command `name`; [`Rule::Refused`] for one that twemproxy does not take.
pub(super) const fn arity_and_rule(name: &str) -> (i8, Rule) {
    let mut f = 0;
    while f < FAMILIES.len() {
        let family = &FAMILIES[f];
        let mut n = 0;
        while n < family.names.len() {
            if same(family.names[n], name) {
                return (family.arity, family.rule);
            }
            n += 1;
        }
        f += 1;
    }
    (-1, Rule::Refused)
}

/// How many commands twemproxy takes.
#[cfg(test)]
pub(super) fn commands() -> usize {
    FAMILIES.iter().map(|family| family.names.len()).sum()
}

/// Whether two names are the same, at compile time.
const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut i = 0;
    while i < left.len() {
        if left[i] != right[i] {
            return false;
        }
        i += 1;
    }
    true
}
