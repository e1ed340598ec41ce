//! What commands and the service manager do with a running instance: drain it or one of its workers, put another program in its place,
//! change what it logs, watch it.

pub mod command;
pub mod drain;
pub mod log_level;
mod man;
pub mod service;
pub mod upgrade;
