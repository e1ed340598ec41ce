//! What processes share, for a model checker.
//!
//! [loom](https://docs.rs/loom) plays small programs in every interleaving of their threads, and with every value that the memory model
//! of C11 lets a load see. It has to be asked at each access, so it brings atomics of its own. The files of the product that decide in
//! which order memory is accessed are compiled here a second time, as they are, with [`frame_ring::memory`], [`doorbell`], [`shm`]
//! and [`limits`] of this crate in the places of the product's.
//!
//! A model that finds nothing may be blind. So the memory can be told to make a [`mistake`], as the product's source would if it were wrong in one place,
//! and for each a test says that the model notices.
//!
//! What loom does not do: it takes sequentially consistent accesses for acquiring and releasing ones (fences are as they should be; the
//! product uses those), and it lets no load see a store that has not been executed yet. Bytes of frames are checked for that by order
//! alone: a read and a write of one slot that nothing orders are a fault, whatever was read.
#![forbid(unsafe_code)]

pub mod doorbell;
pub mod frame_ring;
pub mod limits;
pub mod mistake;
pub mod shm;

#[path = "../../../dataplane/port/src/handover.rs"]
#[allow(dead_code, reason = "a model uses what it needs")]
pub mod handover;

#[path = "../../../mgmt/channel/src/seqlock.rs"]
pub mod seqlock;

#[path = "../../../mgmt/channel/src/paths.rs"]
#[allow(dead_code, reason = "a model uses what it needs")]
pub mod paths;

use loom::model::Builder;

/// Most changes from a thread that could have gone on to another. Loom's documentation finds two or three enough for nearly all faults;
/// without a bound the time grows with the factorial of the program's length.
const PREEMPTIONS_MAX: usize = 3;

/// Plays `program` in every way. Panics in the first that fails.
pub fn every_way(program: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(move || {
        frame_ring::memory::forget();
        shm::forget();
        program();
    });
}
