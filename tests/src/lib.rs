//! The stages on which Tidegate meets real clients and real servers, and the pieces its end-to-end tests are made of.
//!
//! # Two drivers, one test body
//!
//! A test of what goes in and comes out is a function over a [`scene::Scene`], and [`both_drivers!`] makes two tests of it:
//! `name::kernel` plays on this machine's loopback addresses, without root and beside others ([`local`]); `name::afxdp` plays in
//! a lab, takes turns, and is skipped without root. A body stays fit for both if it
//!
//! * asks [`Scene::plan`](scene::Scene::plan) for every address, and binds nothing that the plan does not name;
//! * runs clients with [`Scene::on_client`](scene::Scene::on_client) and what a server does with
//!   [`Scene::on_server`](scene::Scene::on_server), so that they are on the right host where there are several;
//! * reaches a certain worker by [`Scene::connection_of`](scene::Scene::connection_of) only;
//! * waits for counters with [`Scene::wait_for_status`](scene::Scene::wait_for_status), never by sleeping.
//!
//! ```no_run
//! use tidegate_tests::{both_drivers, lab::addresses::Family, scene::Scene};
//!
//! both_drivers!(what_is_stored_is_found);
//!
//! fn what_is_stored_is_found(scene: &mut Scene) {
//!     let plan = scene.plan();
//!     scene.on_client(|| {
//!         let mut client = plan.memcached(Family::V4);
//!         assert_eq!(client.set(b"key", 0, b"value").unwrap(), "STORED");
//!     });
//! }
//! # fn main() {}
//! ```
//!
//! With the feature `dpdk` the same bodies also play on DPDK, over packet sockets and over its own AF_XDP (`name::dpdk_packet`,
//! `name::dpdk_xdp`), in the lab. Where workers have to be processes of their own it is [`drivers_with_processes!`].
//!
//! A test about frames, queues or interfaces raises the lab itself: [`scene::Scene::usual`].
//! A test that compares Tidegate with nutcracker takes the driver and raises [`twins::Twins`]: [`both_twins!`].
//!
//! # The lab
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
pub mod browser;
pub mod calm;
pub mod chaos;
pub mod client;
pub mod config;
pub mod demo;
pub mod differential;
pub mod fake;
pub mod frames;
pub mod host;
pub mod http;
pub mod lab;
pub mod load;
pub mod local;
pub mod netns;
pub mod outcome;
pub mod overload;
pub mod plan;
pub mod random;
pub mod scene;
pub mod smoke;
pub mod stage;
pub mod twins;
pub mod vm;
