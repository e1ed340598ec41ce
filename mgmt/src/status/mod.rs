//! `tidegate status`: what a running instance says of itself.
//!
//! The manager puts a [`report::Report`] together from shared memory whenever somebody connects to its status socket and
//! writes it as one line of JSON. The client prints it as it is, or as tables.

pub mod client;
pub mod gather;
pub mod report;
pub mod server;
pub mod table;
