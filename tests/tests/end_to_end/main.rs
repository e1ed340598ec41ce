//! Tidegate from outside, on a stage: real processes, real servers, real clients. One program, because each one more would be linked with all
//! that it tests.

mod adoption;
mod broadcast;
mod capture;
mod chaos;
mod churn;
mod clients;
mod command;
mod compat;
mod compat_failures;
mod compat_traffic;
mod dialects;
mod differential;
#[cfg(feature = "dpdk")]
mod dpdk;
mod failures;
mod fakes;
mod hostile;
mod http;
mod keys;
mod lab;
mod large_values;
mod link_address;
mod memcached;
mod nagle;
mod overload;
mod own_connections;
mod page;
mod redis;
mod redis_together;
mod reload;
mod routing;
mod sessions;
mod slowlog;
mod smoke;
mod stage;
mod stats;
mod traffic;
mod workers;
