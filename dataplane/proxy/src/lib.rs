//! Sessions, routing, request order, split and merge, servers and timeouts. No I/O: driven through [`streams::Streams`]
//! and an explicit clock.
#![forbid(unsafe_code)]

pub mod routing;
pub mod streams;
