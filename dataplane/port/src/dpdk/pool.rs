//! Pools of mbufs.

use std::ffi::CString;
use std::ptr::NonNull;

use capsule_ffi as ffi;

use super::device::Device;
use super::error::DpdkError;
use crate::dpdk_memory::{CACHE, transmit_mbufs};

/// Memory nodes that are looked at. More have never been built.
const NODES_MAX: usize = 64;

/// A pool. It lives until EAL is cleaned up, with which every port ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool(NonNull<ffi::rte_mempool>);

impl Pool {
    /// Mbufs that are out.
    pub(super) fn in_use(self) -> u32 {
        // SAFETY: the pool lives; the count may be off by what other threads move meanwhile.
        unsafe { ffi::rte_mempool_in_use_count(self.0.as_ptr()) }
    }

    /// Fills all places, or none.
    #[inline]
    pub(super) fn take_all(self, places: &mut [*mut ffi::rte_mbuf]) -> bool {
        let count = places.len() as u32;
        // SAFETY: the pool lives, and there are `count` places.
        unsafe { ffi::_rte_pktmbuf_alloc_bulk(self.0.as_ptr(), places.as_mut_ptr(), count) == 0 }
    }

    /// One mbuf.
    pub(super) fn take_one(self) -> Option<*mut ffi::rte_mbuf> {
        // SAFETY: the pool lives.
        let mbuf = unsafe { ffi::_rte_pktmbuf_alloc(self.0.as_ptr()) };
        (!mbuf.is_null()).then_some(mbuf)
    }

    fn node(self) -> i32 {
        // SAFETY: the pool lives, and its node never changes.
        unsafe { self.0.as_ref().socket_id }
    }
}

fn named(name: &str) -> Option<Pool> {
    let name = CString::new(name).ok()?;
    // SAFETY: a terminated string.
    NonNull::new(unsafe { ffi::rte_mempool_lookup(name.as_ptr()) }).map(Pool)
}

/// The pool that capsule made for a memory node. It numbers them as it makes them.
pub(super) fn for_reception(node: i32) -> Option<Pool> {
    (0..NODES_MAX)
        .map_while(|number| named(&format!("mempool{number}")))
        .find(|pool| pool.node() == node)
}

/// Makes the pool that one queue sends from.
pub(super) fn for_transmission(
    device: &Device,
    queue: u16,
    ring_size: u16,
) -> Result<Pool, DpdkError> {
    let mbufs = transmit_mbufs(usize::from(ring_size));
    let name = CString::new(format!("send{}.{queue}", device.id())).unwrap_or_default();
    // SAFETY: a terminated string; no private area.
    let pool = unsafe {
        ffi::rte_pktmbuf_pool_create(
            name.as_ptr(),
            mbufs as u32,
            CACHE,
            0,
            ffi::RTE_MBUF_DEFAULT_BUF_SIZE as u16,
            device.node(),
        )
    };
    NonNull::new(pool).map(Pool).ok_or_else(|| {
        // SAFETY: no arguments.
        let code = unsafe { ffi::_rte_errno() };
        DpdkError::Pool {
            device: device.name().to_owned(),
            mbufs,
            source: std::io::Error::from_raw_os_error(code),
        }
    })
}
