//! What DPDK leaves behind when its process is gone, be it in order or killed: the process may no longer undo anything by then, so the
//! manager does.

pub mod directory;
pub mod programs;
