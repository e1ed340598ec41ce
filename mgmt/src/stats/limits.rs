//! What is remembered of pools and servers that are configured no more: all of it stays in the sums, by name as far as there is room.

/// Pools that are configured no more and have an entry of their own. Why: nobody takes back more than that under their names. Too low: a
/// pool that comes back counts from zero. Too high: memory, for whoever gives each pool a new name. The others share one entry.
pub const LEFT_POOLS_MAX: usize = 256;

/// The same of servers, of one pool. Why: fleets exchange their servers by the dozen. The others share one entry.
pub const LEFT_SERVERS_MAX: usize = 1_024;
