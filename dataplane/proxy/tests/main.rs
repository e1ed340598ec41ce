//! A proxy between clients and servers in memory. One program: the model of its surroundings is compiled once, and not with each of the
//! files that use it. `cargo test --package tidegate-proxy --test proxy sessions::` runs one of them.

mod model;

mod acknowledgements;
mod binary;
mod binary_pool;
mod broadcast;
mod chaos;
mod chunk_faults;
mod chunks;
mod compat;
mod compat_failures;
mod faults;
mod hostile;
mod joined_fields;
mod key_watch;
mod left_behind;
mod meta;
mod order;
mod overload;
mod partial;
mod pinned_blocking;
mod pinned_chaos;
mod pinned_subscriber_dialects;
mod pinned_subscriber_ends;
mod pinned_subscribers;
mod pinned_transaction_ends;
mod pinned_transactions;
mod reconfigure;
mod reconfigure_chaos;
mod session_connections;
mod sessions;
mod slow_log;
mod slow_readers;
mod together;
mod turned_away;
