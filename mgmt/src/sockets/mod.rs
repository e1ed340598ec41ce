//! What the manager does for workers over kernel sockets: less than for NICs. It checks the addresses, opens the listening
//! sockets that workers share, and sees to it that there are descriptors enough.

pub mod limits;
pub mod listeners;
pub mod plan;
pub mod preflight;
pub mod unix;
