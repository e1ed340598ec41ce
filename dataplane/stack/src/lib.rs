//! TCP flows over smoltcp, one stack per RSS queue.
//!
//! smoltcp is a complete TCP for one connection, but its socket set is made for a handful: it looks at every socket for
//! every frame. Here each connection is a socket set of its own, found by its 4-tuple in a table, so a frame costs the
//! same at 10 connections and at 100,000. Around smoltcp stands what it leaves to its user: which frames are ours and
//! whose, half-open connections and TIME-WAIT under load, timers, Ethernet headers, deadlines for peers that fall silent,
//! and when an acknowledgement leaves.
//!
//! The crate knows nothing of protocols and nothing of devices. It implements
//! [`Streams`](tidegate_proxy::streams::Streams) for the proxy above and reads and writes frames of a
//! [`Port`](tidegate_port::Port) below. It makes no system call, takes no lock, reads no clock, and after [`Stack::new`]
//! it allocates nothing.
//!
//! One turn of a worker's loop is:
//!
//! 1. [`Stack::tick`] with the time: expired timers make flows dirty;
//! 2. [`Stack::ingress`] for every frame of the burst: frames change flows, which become dirty, and streams, which become
//!    ready;
//! 3. the proxy takes ready streams until there are none, reads, writes and closes;
//! 4. [`Stack::egress`] once: every dirty flow says what it has to say. An acknowledgement therefore leaves with its burst,
//!    on the reply if there is one.
//!
//! [`Stack::has_pending_egress`] tells whether a ring was full and step 4 has to be repeated soon,
//! [`Stack::next_timer_us`] how long the worker may sleep.
//!
//! Not here: ARP, neighbour discovery and ICMP, which the kernel answers on the same interface; IP fragments and IPv6
//! extension headers, which are dropped and counted; SYN cookies, because the half-open table is bounded and evicts its
//! oldest entry.
//!
//! `tests/conformance` plays what the RFCs say against it sentence by sentence, and `docs/tcp.md` explains every deviation.
#![forbid(unsafe_code)]

mod arrival;
mod bare_ack;
mod challenges;
mod checksum;
mod config;
mod connect;
mod device;
mod doubt;
mod egress;
mod flow;
pub mod flow_table;
mod frame;
mod ingress;
mod isn;
pub mod limits;
mod oracle;
mod orphans;
mod reconfigure;
mod siphash;
mod slot_lists;
mod stack;
mod station;
mod streams;
mod toeplitz;
mod wheel;

pub use arrival::Arrival;
pub use config::{Listener, Path, StackConfig, StackError, StackPort};
pub use oracle::QueueOracle;
pub use reconfigure::StackChange;
pub use stack::{HandOver, Stack};
