//! The kernel's sockets as the streams of the proxy: one epoll, no thread, no allocation after the start.
//!
//! * [`mod@listen`] opens listening sockets, for a worker alone or for all workers to share; [`endpoint`] says where.
//! * `streams` is what the proxy works with; its slots, buffers and lists are in `table`, a `slot` and its two rings
//!   (`ring`) per connection.
//! * `accept`, `connect`, `receive` and `send` are the ways in and out.
//! * [`descriptors`] says how many of them clients may have, so that some are left for servers.
//! * [`network`] joins them to the loop, [`assembly`] to a worker.
//!
//! Every connection is registered with epoll once, edge-triggered, and changed at most once, when the kernel first has no room for
//! what is to be sent: what an edge said is remembered in the slot until a system call found it used up. A turn reads once from every stream that has something, and sends once for every
//! stream that has something queued.

mod accept;
pub mod assembly;
mod connect;
mod deadlines;
pub mod descriptors;
pub mod endpoint;
pub mod limits;
pub mod listen;
mod marked;
pub mod network;
mod receive;
pub mod reconfigure;
mod ring;
mod send;
mod slot;
mod streams;
mod table;

pub use endpoint::Endpoint;
pub use listen::{ListenError, ListenOptions, Listening, keep, listen};
pub use network::{SocketConfig, SocketNetwork};
pub use table::SocketStreams;
