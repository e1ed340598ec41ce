//! The configuration model of Tidegate: TOML in, types that cannot be wrong out, every fault reported at once.
#![forbid(unsafe_code)]

mod model;

pub use model::*;
