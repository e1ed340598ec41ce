//! The table of Redis commands: what each is called, how many arguments it takes, and where it goes.
//!
//! The commands of Redis 7.0, and those that 7.2 and 7.4 added. What is here in words goes into `docs/compatibility.md`.

use super::commands::{Command, KeySpec, ONE, Rule, pinned, plain, rows, together};
use crate::request::{Local, Merge, Pin, Split};

rows! {
    /// All commands but subcommands, in no particular order.
    COMMANDS:

    // Keys of any type.
    route (ONE) "" {
        "dump" 2, "expire" -3, "expireat" -3, "expiretime" 2, "persist" 2, "pexpire" -3, "pexpireat" -3, "pexpiretime" 2,
        "pttl" 2, "restore" -4, "ttl" 2, "type" 2,
    }
    route (ONE) "BY and GET see the keys of that server only" { "sort_ro" -2, }
    // Strings and bits.
    route (ONE) "" {
        "append" 3, "bitcount" -2, "bitfield" -2, "bitfield_ro" -2, "bitpos" -3, "decr" 2, "decrby" 3, "get" 2, "getbit" 3,
        "getdel" 2, "getex" -2, "getrange" 4, "getset" 3, "incr" 2, "incrby" 3, "incrbyfloat" 3, "psetex" 4, "set" -3,
        "setbit" 4, "setex" 4, "setnx" 3, "setrange" 4, "strlen" 2, "substr" 4,
    }
    // Hashes.
    route (ONE) "" {
        "hdel" -3, "hexists" 3, "hget" 3, "hgetall" 2, "hincrby" 4, "hincrbyfloat" 4, "hkeys" 2, "hlen" 2, "hmget" -3,
        "hmset" -4, "hrandfield" -2, "hscan" -3, "hset" -4, "hsetnx" 4, "hstrlen" 3, "hvals" 2,
    }
    route (ONE) "since Redis 7.4" {
        "hexpire" -6, "hexpireat" -6, "hexpiretime" -5, "hpersist" -5, "hpexpire" -6, "hpexpireat" -6, "hpexpiretime" -5,
        "hpttl" -5, "httl" -5,
    }
    // Lists.
    route (ONE) "" {
        "lindex" 3, "linsert" 5, "llen" 2, "lpop" -2, "lpos" -3, "lpush" -3, "lpushx" -3, "lrange" 4, "lrem" 4, "lset" 4,
        "ltrim" 4, "rpop" -2, "rpush" -3, "rpushx" -3,
    }
    // Sets.
    route (ONE) "" {
        "sadd" -3, "scard" 2, "sismember" 3, "smembers" 2, "smismember" -3, "spop" -2, "srandmember" -2, "srem" -3, "sscan" -3,
    }
    // Sorted sets.
    route (ONE) "" {
        "zadd" -4, "zcard" 2, "zcount" 4, "zincrby" 4, "zlexcount" 4, "zmscore" -3, "zpopmax" -2, "zpopmin" -2,
        "zrandmember" -2, "zrange" -4, "zrangebylex" -4, "zrangebyscore" -4, "zrank" 3, "zrem" -3, "zremrangebylex" 4,
        "zremrangebyrank" 4, "zremrangebyscore" 4, "zrevrange" -4, "zrevrangebylex" -4, "zrevrangebyscore" -4, "zrevrank" 3,
        "zscan" -3, "zscore" 3,
    }
    // HyperLogLogs and places.
    route (ONE) "" {
        "pfadd" -2, "geoadd" -5, "geodist" -4, "geohash" -2, "geopos" -2, "georadius_ro" -6, "georadiusbymember_ro" -5,
        "geosearch" -7,
    }
    // Streams.
    route (ONE) "" {
        "xack" -4, "xadd" -5, "xautoclaim" -6, "xclaim" -6, "xdel" -3, "xlen" 2, "xpending" -3, "xrange" -4, "xrevrange" -4,
        "xsetid" -3, "xtrim" -4,
    }
    route (ONE) "the channel is taken for a key" { "spublish" 3, }

    // Keys that have to belong to one server.
    route (together(1, 2)) "" {
        "copy" -3, "geosearchstore" -8, "lcs" -3, "lmove" 5, "rename" 3, "renamenx" 3, "rpoplpush" 3, "smove" 4,
        "zrangestore" -5,
    }
    route (together(1, -1)) "" {
        "pfcount" -2, "pfmerge" -2, "sdiff" -2, "sdiffstore" -3, "sinter" -2, "sinterstore" -3, "sunion" -2, "sunionstore" -3,
    }
    route (together(2, -1)) "" { "bitop" -4, }
    route ((Rule::Together, KeySpec::Range { first: 1, last: -1, step: 2 })) "all or none of them are set" { "msetnx" -3, }
    route ((Rule::Together, KeySpec::Counted(1))) "" {
        "lmpop" -4, "sintercard" -3, "zdiff" -3, "zinter" -3, "zintercard" -3, "zmpop" -4, "zunion" -3,
    }
    route ((Rule::Together, KeySpec::StoreCounted)) "" { "zdiffstore" -4, "zinterstore" -4, "zunionstore" -4, }
    route ((Rule::Together, KeySpec::SortStore)) "BY and GET see the keys of that server only" { "sort" -2, }
    route ((Rule::Together, KeySpec::GeoStore(6))) "" { "georadius" -6, }
    route ((Rule::Together, KeySpec::GeoStore(5))) "" { "georadiusbymember" -5, }
    route ((Rule::Together, KeySpec::CountedOrNone(2))) "without keys: to the first server that is not ejected" {
        "eval" -3, "eval_ro" -3, "evalsha" -3, "evalsha_ro" -3, "fcall" -3, "fcall_ro" -3,
    }
    route ((Rule::Together, KeySpec::Streams(1))) "with BLOCK: on a server connection of its own" { "xread" -4, }
    route ((Rule::Together, KeySpec::Streams(4))) "with BLOCK: on a server connection of its own" { "xreadgroup" -7, }

    route (plain(Rule::Split(Split::Mget))) "the values come in the order of the keys" { "mget" -2, }
    route (plain(Rule::Split(Split::Mset))) "each server sets its keys at once, all servers together do not" { "mset" -3, }
    route (plain(Rule::Split(Split::Sum))) "the numbers are added" { "del" -2, "exists" -2, "touch" -2, "unlink" -2, }

    route (plain(Rule::Any)) "" { "lolwut" -1, }

    route (plain(Rule::Broadcast(Merge::Ok))) "" { "flushall" -1, "flushdb" -1, }
    route (plain(Rule::Broadcast(Merge::Sum))) "the numbers are added" { "dbsize" 1, }
    route (plain(Rule::Broadcast(Merge::Keys))) "one list after the other" { "keys" 2, }
    route (plain(Rule::Broadcast(Merge::Random))) "a key of one of the servers" { "randomkey" 1, }
    route (plain(Rule::Broadcast(Merge::Info))) "a section about the proxy, and the sums of what the servers say" { "info" -1, }
    route (plain(Rule::Scan)) "the cursor walks over one server after the other" { "scan" -2, }

    route (plain(Rule::Local(Local::Ping))) "" { "ping" -1, }
    route (plain(Rule::Local(Local::Quit))) "" { "quit" -1, }
    route (plain(Rule::Local(Local::Auth))) "" { "auth" -2, }
    route (plain(Rule::Local(Local::Select))) "" { "select" 2, }
    route (plain(Rule::Local(Local::Echo))) "" { "echo" 2, }
    route (plain(Rule::Local(Local::Time))) "the proxy's clock" { "time" 1, }
    route (plain(Rule::Local(Local::Hello))) "" { "hello" -1, }
    route (plain(Rule::Local(Local::Reset))) "" { "reset" 1, }

    route (plain(Rule::Channel)) "" { "publish" 3, }

    route (plain(Rule::Pinned(Pin::Multi))) "" { "multi" 1, }
    route (plain(Rule::Pinned(Pin::Exec))) "" { "exec" 1, }
    route (plain(Rule::Pinned(Pin::Discard))) "" { "discard" 1, }
    route (pinned(Pin::Watch, 1, -1)) "" { "watch" -2, }
    route (plain(Rule::Pinned(Pin::Unwatch))) "" { "unwatch" 1, }
    route (pinned(Pin::Blocking, 1, 2)) "its keys have to belong to one server" { "blmove" 6, "brpoplpush" 4, }
    route (pinned(Pin::Blocking, 1, -2)) "its keys have to belong to one server" {
        "blpop" -3, "brpop" -3, "bzpopmax" -3, "bzpopmin" -3,
    }
    route ((Rule::Pinned(Pin::Blocking), KeySpec::Counted(2))) "its keys have to belong to one server" {
        "blmpop" -5, "bzmpop" -5,
    }
    route (plain(Rule::Pinned(Pin::Blocking))) "" { "wait" 3, }
    route (plain(Rule::Pinned(Pin::Blocking))) "since Redis 7.2" { "waitaof" 4, }
    route (plain(Rule::Pinned(Pin::Subscribe))) "" { "subscribe" -2, }
    route (plain(Rule::Pinned(Pin::Unsubscribe))) "" { "unsubscribe" -1, }
    route (plain(Rule::Pinned(Pin::Psubscribe))) "" { "psubscribe" -2, }
    route (plain(Rule::Pinned(Pin::Punsubscribe))) "" { "punsubscribe" -1, }
    route (pinned(Pin::Ssubscribe, 1, -1)) "the channels are taken for keys" { "ssubscribe" -2, }
    route (pinned(Pin::Sunsubscribe, 1, -1)) "the channels are taken for keys" { "sunsubscribe" -1, }

    refused "it moves keys between databases or servers" {
        "migrate" -6, "move" 3, "restore-asking" -4, "swapdb" 3,
    }
    refused "it is about one server: ask the server itself" {
        "bgrewriteaof" 1, "bgsave" -1, "debug" -2, "failover" -1, "lastsave" 1, "pfdebug" 3, "pfselftest" 1, "replicaof" 3,
        "role" 1, "save" 1, "shutdown" -1, "slaveof" 3,
    }
    refused "it would show what all clients of a server do" { "monitor" 1, }
    refused "it is spoken between servers" { "psync" -3, "replconf" -1, "sync" 1, }
    refused "the proxy is no cluster node" { "asking" 1, "readonly" 1, "readwrite" 1, }

    container (Rule::Container) "ACL" "acl" -2,
    container (Rule::Container) "CLIENT" "client" -2,
    container (Rule::Container) "CLUSTER" "cluster" -2,
    container (Rule::Any) "COMMAND" "command" -1,
    container (Rule::Container) "CONFIG" "config" -2,
    container (Rule::Container) "FUNCTION" "function" -2,
    container (Rule::Container) "LATENCY" "latency" -2,
    container (Rule::Container) "MEMORY" "memory" -2,
    container (Rule::Container) "MODULE" "module" -2,
    container (Rule::Container) "OBJECT" "object" -2,
    container (Rule::Container) "PUBSUB" "pubsub" -2,
    container (Rule::Container) "SCRIPT" "script" -2,
    container (Rule::Container) "SLOWLOG" "slowlog" -2,
    container (Rule::Container) "XGROUP" "xgroup" -2,
    container (Rule::Container) "XINFO" "xinfo" -2,
}
