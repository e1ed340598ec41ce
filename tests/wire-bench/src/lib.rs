//! A worker and its load over a wire: the real stack and the real proxy, with clients and servers that speak TCP through
//! the same stack on the other end. In one process and one thread it counts instructions and allocations; in two
//! processes it counts requests per second. Nothing of the kernel's network stack is in between.
//!
//! In one thread the wire can also be two devices of DPDK that are loops in memory, with the feature `dpdk`: what differs then is
//! what DPDK costs.
#![forbid(unsafe_code)]

mod count;
#[cfg(feature = "dpdk")]
pub mod dpdk;
mod load;
pub mod plan;
mod worker;

pub use count::{Counted, count};
pub use load::{Load, LoadReport};
pub use plan::{CacheProtocol, Plan};
pub use worker::BenchWorker;
