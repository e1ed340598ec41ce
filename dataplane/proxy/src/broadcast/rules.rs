//! What becomes of a field of INFO or `stats` that several servers have.
//!
//! A monitor that looks at the pool as at one server should find what that server would have: counts and bytes are those of all
//! together, a state is on if it is on anywhere, and what cannot be added up is the first server's.

/// How the values of a field are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// That of the first server that has it.
    First,
    /// All added; the first one's where they are no numbers.
    Sum,
    /// All added, but 0 where one is 0: that means "no limit".
    Limit,
    /// The largest: states, ratios, and times that something took.
    Largest,
    /// The least: how long all have been up, when the last one saved.
    Least,
    /// The first that is not `ok`.
    Worst,
    /// The field without `_human` in the name, for people.
    Human,
    /// `name=number` with commas between: numbers added, what is an average computed anew.
    Pairs,
    /// The same, each the largest.
    LargestPairs,
    /// Always this: what the pool is to its clients.
    Always(&'static str),
}

/// What reply the fields are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Redis INFO: sections of `name:value`.
    Info,
    /// memcached stats: `STAT name value`.
    Stats,
}

/// The rule for a field of INFO in the section of this name.
pub(super) fn of_info(section: &[u8], name: &[u8]) -> Rule {
    if name.ends_with(b"_human") {
        return Rule::Human;
    }
    if name.ends_with(b"_ratio") || name.ends_with(b"_perc") {
        return Rule::Largest;
    }
    match section {
        b"Clients" if name.starts_with(b"client_recent_max_") => Rule::Largest,
        b"Memory" => of_memory(name),
        b"Persistence" => of_persistence(name),
        b"Stats" if name.starts_with(b"current_") || name == b"latest_fork_usec" => Rule::Largest,
        b"Clients" | b"CPU" | b"Stats" => Rule::Sum,
        b"Replication" if name == b"role" => Rule::Always("master"),
        b"Replication" if name == b"connected_slaves" => Rule::Sum,
        b"Commandstats" | b"Errorstats" | b"Keyspace" => Rule::Pairs,
        b"Latencystats" => Rule::LargestPairs,
        b"Cluster" if name == b"cluster_enabled" => Rule::Always("0"),
        b"Server" if name.starts_with(b"uptime_") => Rule::Least,
        _ => Rule::First,
    }
}

fn of_memory(name: &[u8]) -> Rule {
    // Scripts and functions are the same on all servers.
    if name == b"active_defrag_running" || name.starts_with(b"number_of_") {
        Rule::Largest
    } else if name == b"maxmemory" {
        Rule::Limit
    } else {
        Rule::Sum
    }
}

fn of_persistence(name: &[u8]) -> Rule {
    if name.ends_with(b"_status") {
        return Rule::Worst;
    }
    let is_count = name == b"rdb_changes_since_last_save"
        || name == b"rdb_saves"
        || name == b"aof_rewrites"
        || name.starts_with(b"rdb_last_load_keys_")
        || name.ends_with(b"_size");
    if is_count {
        Rule::Sum
    } else if name == b"rdb_last_save_time" {
        Rule::Least
    } else {
        Rule::Largest
    }
}

/// The rule for a field of stats. Those of slab classes have the class in front: `items:1:age`, `1:chunk_size`.
pub(super) fn of_stats(name: &[u8]) -> Rule {
    let last = name.rsplit(|&byte| byte == b':').next().unwrap_or(name);
    match last {
        b"pid" | b"time" | b"version" | b"libevent" | b"pointer_size" | b"chunk_size"
        | b"chunks_per_page" => Rule::First,
        b"uptime" | b"accepting_conns" => Rule::Least,
        b"hash_power_level" | b"hash_is_expanding" | b"active_slabs" | b"evicted_time" => {
            Rule::Largest
        }
        _ if last.ends_with(b"_running") || last.starts_with(b"age") => Rule::Largest,
        _ => Rule::Sum,
    }
}
