//! Workers on DPDK: threads of one process, each with the life of a worker.

#[cfg(feature = "dpdk")]
mod gate;
#[cfg(feature = "dpdk")]
mod threads;

#[cfg(feature = "dpdk")]
pub(crate) use threads::live;

#[cfg(not(feature = "dpdk"))]
pub(crate) use absent::live;

#[cfg(not(feature = "dpdk"))]
mod absent {
    use crate::poll_loop::Ended;
    use crate::worker::{Starting, WorkerError};
    use std::os::fd::OwnedFd;
    use tidegate_channel::message::PacketDescriptors;

    /// There is no DPDK in this program.
    pub(crate) fn live(
        _first: Starting,
        _packets: PacketDescriptors,
        _fellows: Vec<OwnedFd>,
    ) -> Result<Ended, WorkerError> {
        Err(WorkerError::NoDpdk)
    }
}
