//! The kernel network interface of DPDK 19.11. Its kernel module is gone, so every call says that it is not supported.

#![allow(non_camel_case_types, clippy::missing_safety_doc)]

use crate::bindings::{rte_mbuf, rte_mempool};
use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

/// An interface; there is none.
#[derive(Debug)]
pub enum rte_kni {}

/// What an interface was to be.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct rte_kni_conf {
    pub name: [c_char; 32],
    pub group_id: u16,
    pub mbuf_size: u32,
    pub mac_addr: [u8; 6],
}

/// What the kernel was to ask for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct rte_kni_ops {
    pub port_id: u16,
    pub change_mtu: Option<unsafe extern "C" fn(u16, c_uint) -> c_int>,
    pub config_network_if: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
    pub config_mac_address: Option<unsafe extern "C" fn(u16, *mut u8) -> c_int>,
    pub config_promiscusity: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
}

/// Not supported.
pub unsafe fn rte_kni_init(_most: c_uint) -> c_int {
    -libc::ENOTSUP
}

/// Nothing to close.
pub unsafe fn rte_kni_close() {}

/// Not supported.
pub unsafe fn rte_kni_alloc(
    _pool: *mut rte_mempool,
    _conf: *const rte_kni_conf,
    _ops: *mut rte_kni_ops,
) -> *mut rte_kni {
    ptr::null_mut()
}

/// Not supported.
pub unsafe fn rte_kni_release(_kni: *mut rte_kni) -> c_int {
    -libc::ENOTSUP
}

/// No name.
pub unsafe fn rte_kni_get_name(_kni: *const rte_kni) -> *const c_char {
    c"".as_ptr()
}

/// Receives nothing.
pub unsafe fn rte_kni_rx_burst(
    _kni: *mut rte_kni,
    _mbufs: *mut *mut rte_mbuf,
    _count: c_uint,
) -> c_uint {
    0
}

/// Sends nothing.
pub unsafe fn rte_kni_tx_burst(
    _kni: *mut rte_kni,
    _mbufs: *mut *mut rte_mbuf,
    _count: c_uint,
) -> c_uint {
    0
}

/// Not supported.
pub unsafe fn rte_kni_handle_request(_kni: *mut rte_kni) -> c_int {
    -libc::ENOTSUP
}
