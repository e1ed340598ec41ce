//! What the manager tells a worker of a capture.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A capture. Travels as a payload file, with the ring that the copies go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureOrder {
    /// Number of the capture.
    pub id: u64,
    /// Frames from and to these are copied.
    pub addresses: Vec<SocketAddr>,
    /// Most bytes of a frame; `None`: its headers.
    pub snaplen: Option<u32>,
    /// Most frames of the worker in a second.
    pub rate: u64,
    /// When it ends at the latest, from its beginning on.
    pub lasts_ms: u64,
}
