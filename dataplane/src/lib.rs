//! The worker process: one poll loop per queue.
//!
//! A worker is started by the manager as a hidden subcommand of the same executable, with its control socket as standard
//! input. It opens one AF_XDP socket per port, gives up every privilege and every system call that it does not need, and then does nothing
//! but turn its loop: frames
//! in, TCP, proxy, frames out. It decides nothing: what to listen on, which servers there are and how they are reached comes
//! from the manager; what to do with a request is the proxy's.
//!
//! * [`worker`] goes through the start-up in order; [`opening`], [`affinity`], [`privileges`], [`assembly`] and
//!   [`seccomp`] are its steps.
//! * [`poll_loop`] is the loop; what is below the proxy it knows only through the trait of [`network`], and the proxy only
//!   through that of [`layers`], so that it can be tested without a NIC. [`packets`] is the network of frames,
//!   [`sockets`] that of the kernel's sockets.
//! * Where DPDK drives the ports, all workers are threads of one process (feature `dpdk`); what the kernel does for other ports the first
//!   one does, with [`link_layer`].
//! * [`idle`] and [`linger`] decide when to rest and when to wait for a fuller burst; [`publisher`] writes statistics.
//! * [`control`] is a thread of its own: the loop never waits for the manager. [`prepared`] is another configuration on its way from
//!   there into the loop. When the manager dies the worker goes on, and hands what is in its [`vault`] to the next.
#![forbid(unsafe_code)]

pub mod affinity;
pub mod assembly;
pub mod capture;
pub mod clock;
pub mod control;
pub mod dpdk;
pub mod events;
pub mod hand_over;
pub mod idle;
mod joints;
pub mod layers;
pub mod limits;
pub mod linger;
pub mod link_layer;
pub mod network;
pub mod opening;
pub mod packets;
pub mod poll_loop;
pub mod prepared;
pub mod privileges;
pub mod publisher;
pub mod reports;
pub mod seccomp;
pub mod sockets;
pub mod vault;
pub mod worker;
