//! The lab in which Tidegate meets real clients and real servers, and the pieces its end-to-end tests are made of.
//!
//! A lab is three hosts on one machine: a client, the appliance and a server. Each is a network namespace; veth pairs with
//! one queue per worker join them. A small program on the far end of each pair chooses the queue of every frame from its
//! two TCP ports, so the lab's "NIC" spreads connections over queues as receive-side scaling would, only predictably.
//! The servers are the memcached and redis-server of the distribution.
//!
//! Everything a lab makes disappears with it. Three layers see to that, because each has a case that it misses:
//! the [`lab::Lab`] removes itself when dropped, also while a panic unwinds; a janitor process, in a process group of its own,
//! removes it when the owner is gone without having done so (Ctrl-C, `kill -9`); and raising a lab first removes those
//! whose owner and janitor are both dead.
//!
//! The crate drives Tidegate from outside, through its command, its sockets and its frames, and knows nothing of its insides.

#![forbid(unsafe_code)]

pub mod appliance;
pub mod client;
pub mod config;
pub mod demo;
pub mod frames;
pub mod lab;
pub mod load;
pub mod netns;
pub mod random;
pub mod scene;
pub mod twins;
