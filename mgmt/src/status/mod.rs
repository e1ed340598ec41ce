//! `tidegate status`: what a running instance says of itself.
//!
//! The manager puts a [`report::Report`] together from shared memory whenever it is asked. The command prints it as it is, or as
//! tables.

pub mod client;
pub mod gather;
pub mod report;
pub mod table;
