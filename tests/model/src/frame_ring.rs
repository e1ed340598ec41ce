//! The product's ring of frames, over [`memory`] of loom's.

#[path = "../../../dataplane/port/src/frame_ring/consumer.rs"]
mod consumer;
pub mod memory;
#[path = "../../../dataplane/port/src/frame_ring/producer.rs"]
mod producer;

pub use consumer::{Consumer, Popped};
use memory::SharedRing;
pub use memory::create_fd;
pub use producer::Producer;
pub use tidegate_port::frame_ring::RingError;

/// Longest frame of a model: the first byte tells frames apart, the second that they are whole.
pub const FRAME_BYTES_MAX: usize = 2;

/// A ring between two threads of a model.
pub fn in_process(slots: usize) -> Result<(Producer, Consumer), RingError> {
    let ring = SharedRing::new(slots);
    Ok((Producer::new(ring.clone()), Consumer::new(ring)))
}
