//! Workers on DPDK: threads of one process, each with the life of a worker.

#[cfg(feature = "dpdk")]
mod devices;
#[cfg(feature = "dpdk")]
mod gate;
#[cfg(feature = "dpdk")]
mod threads;

#[cfg(feature = "dpdk")]
pub use devices::foresee;
#[cfg(feature = "dpdk")]
pub(crate) use threads::live;

#[cfg(not(feature = "dpdk"))]
pub use absent::foresee;
#[cfg(not(feature = "dpdk"))]
pub(crate) use absent::live;

/// Something that will keep workers on DPDK from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// The port and its key that are to blame; `None`: the machine is.
    pub key: Option<(usize, &'static str)>,
    /// It may be over by the next look, and while an instance runs it says nothing: what is missing may be what that has.
    pub passes: bool,
    /// What is wrong, and what to do about it.
    pub what: String,
}

#[cfg(not(feature = "dpdk"))]
mod absent {
    use super::Foreseen;
    use crate::poll_loop::Ended;
    use crate::worker::{Starting, WorkerError};
    use std::os::fd::OwnedFd;
    use tidegate_channel::message::PacketDescriptors;
    use tidegate_config::Config;

    /// Without DPDK nothing is known of its devices.
    pub fn foresee(_config: &Config) -> Vec<Foreseen> {
        Vec::new()
    }

    /// There is no DPDK in this program.
    pub(crate) fn live(
        _first: Starting,
        _packets: PacketDescriptors,
        _fellows: Vec<OwnedFd>,
    ) -> Result<Ended, WorkerError> {
        Err(WorkerError::NoDpdk)
    }
}
