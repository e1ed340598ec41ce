//! Routes and neighbours from the kernel.
//!
//! The kernel does ARP, NDP and routing on the same interfaces; this mirrors what it knows. [`query`] asks and [`answer`]
//! understands, [`events`] says when to ask again, [`mirror`] turns the answers into the path table.

pub mod answer;
pub mod events;
pub mod mirror;
pub mod query;
