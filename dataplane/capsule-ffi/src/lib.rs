//! DPDK 22.11 under the names that capsule 0.1.5 expects.
//!
//! capsule was written for DPDK 19.11, which no supported distribution has any more. It reaches DPDK through one crate, and
//! `[patch.crates-io]` in the workspace puts this one in its place; capsule itself stays as it was published.
//!
//! * The bindings are generated from the installed headers (`build.rs`), with what those have only as inline functions or macros
//!   in `shim.c`.
//! * [`rte_eal_init`] and [`rte_thread_set_affinity`] are wrapped: arguments were renamed since, cards that nobody named are
//!   never touched, and a thread that DPDK did not start has to be registered to have a cache of its own in memory pools.
//! * [`rte_eth_dev_configure`] is wrapped: it asks for what the device has of checksums, and not for a spread that it has not.
//! * `renamed`: constants that were given other names.
//! * `kni`: the kernel interface that DPDK gave up. Every call fails.
//!
//! Two things of the original are not here: `libpcap` (capsule's feature `pcap-dump`), and the rest of DPDK.

mod affinity;
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unsafe_op_in_unsafe_fn,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}
mod configure;
mod eal;
mod kni;
mod renamed;

pub use affinity::{MAIN_LCORE, numa_node_of_cpu, place_main, rte_thread_set_affinity};
pub use bindings::*;
pub use configure::rte_eth_dev_configure;
pub use eal::{eal_is_up, rte_eal_init};
pub use kni::*;
pub use renamed::*;
