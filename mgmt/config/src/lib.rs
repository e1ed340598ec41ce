//! The configuration of Tidegate: TOML in, types that cannot be wrong out, every fault reported at once.
//!
//! [`Config::parse`] is the only way to make a [`Config`] from text. It reads as far as it can, so that an operator sees every
//! fault of a file in one go, each with its line and what would be right. One file per object of the configuration holds its
//! type and its reader: [`PortConfig`], [`PoolConfig`], [`ServerConfig`], [`WorkerConfig`]; every number stands in [`limits`].
//!
//! But for passwords that stand in a file of their own or in the environment, the crate reads no file. It knows no NIC: whether an interface exists, or how many queues it has, is for who starts the
//! appliance to find out. Its types are plain data and travel to the workers as JSON.
#![forbid(unsafe_code)]

mod address;
mod change;
mod compat;
mod config;
mod dpdk;
mod effective;
mod endpoint;
mod fault;
mod http;
mod ketama;
pub mod limits;
mod log_format;
mod partial;
mod places;
mod pool;
mod port;
mod queues;
mod reader;
pub mod regular_file;
mod relations;
mod secret;
mod server;
mod suggest;
mod warnings;
mod worker;

pub use change::{Difference, Effect};
pub use compat::Compat;
pub use config::Config;
pub use dpdk::{DpdkOptions, Pmd, Prefix, Route, RouteError, Way, is_pci_address};
pub use effective::quoted;
pub use endpoint::{Endpoint, Listen};
pub use fault::{ConfigErrors, Fault, Place};
pub use http::HttpConfig;
pub use ketama::{KETAMA_POINTS_PER_DIGEST, KETAMA_POINTS_PER_SERVER, ketama_digests};
pub use log_format::LogFormat;
pub use partial::Partial;
pub use places::Table;
pub use pool::{Distribution, HashKind, PoolConfig, Protocol, is_name};
pub use port::{AckMode, Driver, KERNEL_PORT, PortConfig, RssMode};
pub use queues::{QueueError, QueueMap, Queues, is_interface_name};
pub use secret::Secret;
pub use server::ServerConfig;
pub use suggest::did_you_mean;
pub use worker::{IdleMode, Seccomp, WorkerConfig};

#[cfg(test)]
mod tests;
