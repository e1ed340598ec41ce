//! The table of subcommands: what the second argument makes of a container such as CONFIG. The rest is as in the table of commands.
//!
//! Those of one container stand in a row.

use super::commands::{Command, KeySpec, Rule, SUB, plain, rows, together};
use crate::request::{Local, Merge};

/// What each container has.
const CONTAINERS: [&[Command]; 15] = [
    ACL, CLIENT, CLUSTER, COMMAND, CONFIG, FUNCTION, LATENCY, MEMORY, MODULE, OBJECT, PUBSUB,
    SCRIPT, SLOWLOG, XGROUP, XINFO,
];

/// How many there are.
const COUNT: usize = {
    let mut count = 0;
    let mut c = 0;
    while c < CONTAINERS.len() {
        count += CONTAINERS[c].len();
        c += 1;
    }
    count
};

/// All subcommands, container by container.
pub(super) const SUBCOMMANDS: [Command; COUNT] = {
    let mut all = [ACL[0]; COUNT];
    let mut at = 0;
    let mut c = 0;
    while c < CONTAINERS.len() {
        let mut i = 0;
        while i < CONTAINERS[c].len() {
            all[at] = CONTAINERS[c][i];
            at += 1;
            i += 1;
        }
        c += 1;
    }
    all
};

rows! {
    ACL:
    route (plain(Rule::Any)) "" { "acl|cat" -2, "acl|genpass" -2, "acl|help" 2, }
    refused "users are a matter of each server and of the proxy's configuration" {
        "acl|deluser" -3, "acl|dryrun" -4, "acl|getuser" 3, "acl|list" 2, "acl|load" 2, "acl|log" -2, "acl|save" 2,
        "acl|setuser" -3, "acl|users" 2, "acl|whoami" 2,
    }
}

rows! {
    CLIENT:
    route (plain(Rule::Any)) "" { "client|help" 2, }
    route (plain(Rule::Local(Local::ClientGetname))) "" { "client|getname" 2, }
    route (plain(Rule::Local(Local::ClientId))) "" { "client|id" 2, }
    route (plain(Rule::Local(Local::ClientInfo))) "" { "client|info" 2, }
    route (plain(Rule::Local(Local::ClientList))) "of the client itself alone" { "client|list" -2, }
    route (plain(Rule::Local(Local::ClientNoEvict))) "" { "client|no-evict" 3, }
    route (plain(Rule::Local(Local::ClientNoTouch))) "since Redis 7.2" { "client|no-touch" 3, }
    route (plain(Rule::Local(Local::ClientReply))) "" { "client|reply" 3, }
    route (plain(Rule::Local(Local::ClientSetinfo))) "since Redis 7.2" { "client|setinfo" 4, }
    route (plain(Rule::Local(Local::ClientSetname))) "" { "client|setname" 3, }
    refused "the proxy does not follow which keys a client keeps" {
        "client|caching" 3, "client|getredir" 2, "client|tracking" -3, "client|trackinginfo" 2,
    }
    refused "it is about other connections to one server" {
        "client|kill" -3, "client|pause" -3, "client|unblock" -3, "client|unpause" 2,
    }
}

rows! {
    CLUSTER:
    refused "the proxy is no cluster node" {
        "cluster|addslots" -3, "cluster|addslotsrange" -4, "cluster|bumpepoch" 2, "cluster|count-failure-reports" 3,
        "cluster|countkeysinslot" 3, "cluster|delslots" -3, "cluster|delslotsrange" -4, "cluster|failover" -2,
        "cluster|flushslots" 2, "cluster|forget" 3, "cluster|getkeysinslot" 4, "cluster|help" 2, "cluster|info" 2,
        "cluster|keyslot" 3, "cluster|links" 2, "cluster|meet" -4, "cluster|myid" 2, "cluster|myshardid" 2, "cluster|nodes" 2,
        "cluster|replicas" 3, "cluster|replicate" 3, "cluster|reset" -2, "cluster|saveconfig" 2, "cluster|set-config-epoch" 3,
        "cluster|setslot" -4, "cluster|shards" 2, "cluster|slaves" 3, "cluster|slots" 2,
    }
}

rows! {
    COMMAND:
    route (plain(Rule::Any)) "" {
        "command|count" 2, "command|docs" -2, "command|getkeys" -4, "command|getkeysandflags" -4, "command|help" 2,
        "command|info" -2, "command|list" -2,
    }
}

rows! {
    CONFIG:
    route (plain(Rule::Any)) "" { "config|help" 2, }
    route (plain(Rule::Local(Local::ConfigGet))) "what the proxy decides, and some of what a server was told; nothing that is secret" { "config|get" -3, }
    refused "it is about one server: ask the server itself" { "config|resetstat" 2, "config|rewrite" 2, "config|set" -4, }
}

rows! {
    FUNCTION:
    route (plain(Rule::Any)) "" { "function|dump" 2, "function|help" 2, "function|list" -2, }
    route (plain(Rule::Broadcast(Merge::Ok))) "" { "function|delete" 3, "function|flush" -2, "function|restore" -3, }
    route (plain(Rule::Broadcast(Merge::Same))) "" { "function|load" -3, }
    refused "it is about the script that one server runs, behind which it would wait" { "function|kill" 2, "function|stats" 2, }
}

rows! {
    LATENCY:
    route (plain(Rule::Any)) "" { "latency|help" 2, }
    refused "it is about one server: ask the server itself" {
        "latency|doctor" 2, "latency|graph" 3, "latency|histogram" -2, "latency|history" 3, "latency|latest" 2,
        "latency|reset" -2,
    }
}

rows! {
    MEMORY:
    route (plain(Rule::Any)) "" { "memory|help" 2, }
    route (SUB) "" { "memory|usage" -3, }
    refused "it is about one server: ask the server itself" {
        "memory|doctor" 2, "memory|malloc-stats" 2, "memory|purge" 2, "memory|stats" 2,
    }
}

rows! {
    MODULE:
    route (plain(Rule::Any)) "" { "module|help" 2, }
    refused "it is about one server: ask the server itself" {
        "module|list" 2, "module|load" -3, "module|loadex" -3, "module|unload" 3,
    }
}

rows! {
    OBJECT:
    route (plain(Rule::Any)) "" { "object|help" 2, }
    route (SUB) "" { "object|encoding" 3, "object|freq" 3, "object|idletime" 3, "object|refcount" 3, }
}

rows! {
    PUBSUB:
    route (plain(Rule::Any)) "" { "pubsub|help" 2, }
    route (plain(Rule::Channel)) "" { "pubsub|channels" -2, "pubsub|numpat" 2, "pubsub|numsub" -2, }
    route (plain(Rule::Broadcast(Merge::Keys))) "one list after the other" { "pubsub|shardchannels" -2, }
    route (together(2, -1)) "the channels are taken for keys" { "pubsub|shardnumsub" -2, }
}

rows! {
    SCRIPT:
    route (plain(Rule::Any)) "" { "script|help" 2, }
    route (plain(Rule::Broadcast(Merge::AllOf))) "1 for a script that all servers have" { "script|exists" -3, }
    route (plain(Rule::Broadcast(Merge::Ok))) "" { "script|flush" -2, }
    route (plain(Rule::Broadcast(Merge::Same))) "" { "script|load" 3, }
    refused "it is about the script that one server runs, behind which it would wait" { "script|debug" 3, "script|kill" 2, }
}

rows! {
    SLOWLOG:
    route (plain(Rule::Any)) "" { "slowlog|help" 2, }
    refused "it is about one server: ask the server itself" { "slowlog|get" -2, "slowlog|len" 2, "slowlog|reset" 2, }
}

rows! {
    XGROUP:
    route (plain(Rule::Any)) "" { "xgroup|help" 2, }
    route (SUB) "" {
        "xgroup|create" -5, "xgroup|createconsumer" 5, "xgroup|delconsumer" 5, "xgroup|destroy" 4, "xgroup|setid" -5,
    }
}

rows! {
    XINFO:
    route (plain(Rule::Any)) "" { "xinfo|help" 2, }
    route (SUB) "" { "xinfo|consumers" 4, "xinfo|groups" 3, "xinfo|stream" -3, }
}
