//! The table of Redis commands: what each is called, how many arguments it takes, and where it goes.
//!
//! Arity is counted as Redis counts it, with the name: a positive number is exact, a negative one the least.
//!
//! HELLO is left out on purpose: "unknown command" is the answer on which client libraries fall back to RESP2.
//!
//! A command of several keys that is not split goes to the server of its first key, whether or not that server owns the others:
//! keys that are used together belong into one hash tag.

use crate::request::{Local, Split};

/// Where a command's route is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The key is the argument at this position; the name is position 0.
    Key(u8),
    /// The number of keys is the argument at this position, the first key the next one.
    KeyCount(u8),
    /// Every argument (MSET: every second one) is a key.
    Split(Split),
    /// Any server can answer.
    Any,
    /// The proxy answers.
    Local(Local),
    /// The proxy does not take it.
    Refused,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    /// Lower-case name.
    pub(super) name: &'static str,
    pub(super) arity: i8,
    pub(super) rule: Rule,
    /// The reply to a wrong number of arguments.
    pub(super) wrong_arity: &'static str,
    /// The reply of a refused command.
    pub(super) refusal: &'static str,
}

macro_rules! commands {
    (
        $( route ($rule:expr) { $( $name:literal $arity:literal, )+ } )+
        $( refused $reason:literal { $( $refused_name:literal $refused_arity:literal, )+ } )+
    ) => {
        /// The commands of Redis 7, in no particular order.
        pub(super) const COMMANDS: &[Command] = &[
            $( $( Command {
                name: $name,
                arity: $arity,
                rule: $rule,
                wrong_arity: concat!("-ERR wrong number of arguments for '", $name, "' command\r\n"),
                refusal: concat!("-ERR command '", $name, "' needs a key\r\n"),
            }, )+ )+
            $( $( Command {
                name: $refused_name,
                arity: $refused_arity,
                rule: Rule::Refused,
                wrong_arity: concat!("-ERR wrong number of arguments for '", $refused_name, "' command\r\n"),
                refusal: concat!("-ERR command '", $refused_name, "' is not supported by the proxy: ", $reason, "\r\n"),
            }, )+ )+
        ];
    };
}

commands! {
    // Keys of any type.
    route (Rule::Key(1)) {
        "copy" -3, "dump" 2, "expire" -3, "expireat" -3, "expiretime" 2, "persist" 2, "pexpire" -3, "pexpireat" -3,
        "pexpiretime" 2, "pttl" 2, "restore" -4, "sort" -2, "sort_ro" -2, "ttl" 2, "type" 2,
    }
    // Strings and bits.
    route (Rule::Key(1)) {
        "append" 3, "bitcount" -2, "bitfield" -2, "bitfield_ro" -2, "bitpos" -3, "decr" 2, "decrby" 3, "get" 2, "getbit" 3,
        "getdel" 2, "getex" -2, "getrange" 4, "getset" 3, "incr" 2, "incrby" 3, "incrbyfloat" 3, "lcs" -3, "psetex" 4, "set" -3,
        "setbit" 4, "setex" 4, "setnx" 3, "setrange" 4, "strlen" 2, "substr" 4,
    }
    // Hashes.
    route (Rule::Key(1)) {
        "hdel" -3, "hexists" 3, "hget" 3, "hgetall" 2, "hincrby" 4, "hincrbyfloat" 4, "hkeys" 2, "hlen" 2, "hmget" -3,
        "hmset" -4, "hrandfield" -2, "hscan" -3, "hset" -4, "hsetnx" 4, "hstrlen" 3, "hvals" 2,
    }
    // Lists.
    route (Rule::Key(1)) {
        "lindex" 3, "linsert" 5, "llen" 2, "lmove" 5, "lpop" -2, "lpos" -3, "lpush" -3, "lpushx" -3, "lrange" 4, "lrem" 4,
        "lset" 4, "ltrim" 4, "rpop" -2, "rpoplpush" 3, "rpush" -3, "rpushx" -3,
    }
    // Sets.
    route (Rule::Key(1)) {
        "sadd" -3, "scard" 2, "sdiff" -2, "sdiffstore" -3, "sinter" -2, "sinterstore" -3, "sismember" 3, "smembers" 2,
        "smismember" -3, "smove" 4, "spop" -2, "srandmember" -2, "srem" -3, "sscan" -3, "sunion" -2, "sunionstore" -3,
    }
    // Sorted sets.
    route (Rule::Key(1)) {
        "zadd" -4, "zcard" 2, "zcount" 4, "zdiffstore" -4, "zincrby" 4, "zinterstore" -4, "zlexcount" 4, "zmscore" -3,
        "zpopmax" -2, "zpopmin" -2, "zrandmember" -2, "zrange" -4, "zrangebylex" -4, "zrangebyscore" -4, "zrangestore" -5,
        "zrank" 3, "zrem" -3, "zremrangebylex" 4, "zremrangebyrank" 4, "zremrangebyscore" 4, "zrevrange" -4,
        "zrevrangebylex" -4, "zrevrangebyscore" -4, "zrevrank" 3, "zscan" -3, "zscore" 3, "zunionstore" -4,
    }
    // HyperLogLogs and places.
    route (Rule::Key(1)) {
        "pfadd" -2, "pfcount" -2, "pfmerge" -2, "geoadd" -5, "geodist" -4, "geohash" -2, "geopos" -2, "georadius" -6,
        "georadius_ro" -6, "georadiusbymember" -5, "georadiusbymember_ro" -5, "geosearch" -7, "geosearchstore" -8,
    }
    // The count of keys stands before the first key. twemproxy takes the count itself for the key of the first three.
    route (Rule::KeyCount(1)) {
        "zdiff" -3, "zinter" -3, "zunion" -3, "zintercard" -3, "sintercard" -3, "lmpop" -4, "zmpop" -4,
    }
    route (Rule::KeyCount(2)) {
        "eval" -3, "evalsha" -3, "eval_ro" -3, "evalsha_ro" -3,
    }
    route (Rule::Split(Split::Mget)) { "mget" -2, }
    route (Rule::Split(Split::Mset)) { "mset" -3, }
    route (Rule::Split(Split::Sum)) { "del" -2, "exists" -2, "touch" -2, "unlink" -2, }
    route (Rule::Any) { "lolwut" -1, }
    route (Rule::Local(Local::Ping)) { "ping" -1, }
    route (Rule::Local(Local::Quit)) { "quit" -1, }
    route (Rule::Local(Local::Auth)) { "auth" -2, }
    route (Rule::Local(Local::Select)) { "select" 2, }
    route (Rule::Local(Local::Command)) { "command" -1, }

    refused "it would have to ask every server" {
        "dbsize" 1, "flushall" -1, "flushdb" -1, "keys" 2, "randomkey" 1, "scan" -2, "wait" 3,
    }
    refused "its keys may belong to different servers" {
        "bitop" -4, "msetnx" -3, "rename" 3, "renamenx" 3,
    }
    refused "it moves keys between databases or servers" {
        "migrate" -6, "move" 3, "swapdb" 3, "restore-asking" -4,
    }
    refused "it would block a connection that clients share" {
        "blmove" 6, "blmpop" -5, "blpop" -3, "brpop" -3, "brpoplpush" 4, "bzmpop" -5, "bzpopmax" -3, "bzpopmin" -3,
        "xread" -4, "xreadgroup" -7,
    }
    refused "server connections are shared, so transactions are not possible" {
        "discard" 1, "exec" 1, "multi" 1, "unwatch" 1, "watch" -2,
    }
    refused "server connections are shared, so subscriptions are not possible" {
        "monitor" 1, "psubscribe" -2, "publish" 3, "pubsub" -2, "punsubscribe" -1, "spublish" 3, "ssubscribe" -2, "subscribe" -2,
        "sunsubscribe" -1, "unsubscribe" -1,
    }
    refused "streams are not routed" {
        "xack" -4, "xadd" -5, "xautoclaim" -6, "xclaim" -6, "xdel" -3, "xgroup" -2, "xinfo" -2, "xlen" 2, "xpending" -3,
        "xrange" -4, "xrevrange" -4, "xsetid" -3, "xtrim" -4,
    }
    refused "scripts and functions have to be loaded on each server" {
        "fcall" -3, "fcall_ro" -3, "function" -2, "script" -2,
    }
    refused "it is about one server: ask the server itself" {
        "acl" -2, "bgrewriteaof" 1, "bgsave" -1, "config" -2, "debug" -2, "echo" 2, "failover" -1, "info" -1,
        "lastsave" 1, "latency" -2, "memory" -2, "module" -2, "object" -2, "pfdebug" 3, "pfselftest" 1, "psync" -3, "replconf" -1,
        "replicaof" 3, "role" 1, "save" 1, "shutdown" -1, "slaveof" 3, "slowlog" -2, "sync" 1, "time" 1,
    }
    refused "it is about one connection to one server" {
        "client" -2, "reset" 1,
    }
    refused "the proxy is no cluster node" {
        "asking" 1, "cluster" -2, "readonly" 1, "readwrite" 1,
    }
}
