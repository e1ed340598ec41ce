//! Threads and the cores and memory nodes they run on.

use crate::bindings::{RTE_MAX_LCORE, rte_cpuset_t, rte_thread_register, tidegate_lcore_id};
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicI32, Ordering};

/// The core number to give capsule for its main thread. That thread only waits for signals, so it shares cores with
/// whatever else the process may run on, and needs none of its own.
pub const MAIN_LCORE: usize = RTE_MAX_LCORE as usize - 1;

/// `LCORE_ID_ANY`: a thread that DPDK does not know.
const UNKNOWN_LCORE: c_uint = c_uint::MAX;

/// The node of [`MAIN_LCORE`].
static MAIN_NODE: AtomicI32 = AtomicI32::new(0);

unsafe extern "C" {
    #[link_name = "rte_thread_set_affinity"]
    fn dpdk_thread_set_affinity(set: *mut rte_cpuset_t) -> c_int;
}

/// Says which memory node the main thread is to be counted to. capsule makes a pool of memory on each node that has a core, and
/// there should be none just for a thread that sleeps. Before `Runtime::build`.
pub fn place_main(node: i32) {
    MAIN_NODE.store(node, Ordering::Relaxed);
}

/// Pins the calling thread, after it was made known to DPDK: only threads with a number have a cache in memory pools. A set of
/// [`MAIN_LCORE`] alone pins nothing.
///
/// # Safety
///
/// `set` is readable, and EAL is initialised.
pub unsafe fn rte_thread_set_affinity(set: *mut rte_cpuset_t) -> c_int {
    // SAFETY: no arguments; EAL is initialised, as the caller promised.
    let registered = unsafe {
        if tidegate_lcore_id() == UNKNOWN_LCORE {
            rte_thread_register()
        } else {
            0
        }
    };
    // SAFETY: glibc's set and DPDK's are the same type in C; readable as the caller promised.
    let is_main = unsafe { libc::CPU_ISSET(MAIN_LCORE, &*set.cast::<libc::cpu_set_t>()) };
    if registered < 0 || is_main {
        return registered;
    }
    // SAFETY: as the caller promised.
    unsafe { dpdk_thread_set_affinity(set) }
}

/// The memory node of a core, 0 on a machine with one. libnuma would be linked for this alone.
///
/// # Safety
///
/// None; libnuma's function, in whose place this is, is called as unsafe.
pub unsafe fn numa_node_of_cpu(core: c_int) -> c_int {
    if usize::try_from(core) == Ok(MAIN_LCORE) {
        return MAIN_NODE.load(Ordering::Relaxed);
    }
    let Ok(directory) = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")) else {
        return 0;
    };
    let node = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix("node")?.parse().ok();
    directory
        .flatten()
        .find_map(|entry| node(&entry.file_name()))
        .unwrap_or(0)
}
