//! The proxy: sessions, routing, request order, split and merge, servers and timeouts.
//!
//! There is no I/O in here. [`Proxy`] is driven through [`streams::Streams`] and an explicit clock, so that the same code runs on
//! the packet path, on sockets and in a simulation, and every outcome can be tested without a thread.
//!
//! What it promises: each request gets exactly one reply or error, or its connection closes; replies keep the order of requests
//! on a connection and never reach another client; no request is sent twice. How: a server connection answers in the order in
//! which it was asked, so each keeps a queue of whose turn it is. An entry whose client is gone or was told of a timeout stays
//! in the queue and swallows its reply. Where a reply cannot be matched beyond doubt, the connection ends.
//!
//! All tables are reserved at start and name each other by index; a request that finds a table full waits in its client's receive
//! buffer, which stops the client.
#![forbid(unsafe_code)]

pub mod mutants;
pub mod routing;
pub mod streams;

mod binary;
mod broadcast;
mod chunks;
mod compat;
mod deliver;
mod dispatch;
mod failed_parts;
mod fault;
mod flavour;
mod handshake;
mod hold;
mod identity;
mod inline;
mod keys;
mod limits;
mod links;
mod local;
mod merge;
mod meter;
mod notes;
mod pinned;
mod proxy;
mod quiet;
mod read;
mod reconfigure;
mod replies;
mod reserve;
mod session;
mod slab;
mod split;
mod state;
mod tables;
mod tick;
mod together;
mod turned_away;
mod turns;
mod upload;
mod waits;

pub use fault::Fault;
pub use keys::{BigKey, HotKey, KeyWatch};
pub use notes::{NotedKey, SlowEnd, SlowRequest};
pub use proxy::Proxy;
pub use reconfigure::{Change, ChangeError, GONE, Left};
pub use state::Event;
pub use tables::TablesInUse;
