//! What crosses the process boundary between the manager and its workers: control messages, shared-memory layouts and
//! the table of counters.
//!
//! Three things cross, each in the way that suits it:
//!
//! * **Control** ([`control`], [`message`]): typed messages over a `SOCK_SEQPACKET` socket pair, each acknowledged by its
//!   generation number, with descriptors attached where needed. What does not fit a packet travels as a sealed memory
//!   file ([`payload`]).
//! * **Statistics** ([`statistics`]): the worker writes words, the manager reads them. One sequence lock per block, no
//!   system call and no waiting on either side. How long requests took is counted there directly ([`meters`]).
//! * **Paths** ([`paths`]): the manager writes where each server is reached, the workers read. They cannot map it writable.
//!
//! A worker outlives its manager. The next one finds it behind its [`door`], and whether the two understand each other says
//! [`protocol`].
//!
//! Neither side believes what the other left in shared memory: files are sealed against truncation before they are
//! mapped, sizes and offsets come from the configuration alone, and a sequence lock that never settles is reported as
//! "no news", not waited for. All `unsafe` is in [`shm`].
#![deny(unsafe_code)]

pub mod capture;
pub mod control;
pub mod counter_row;
pub mod counters;
pub mod door;
pub mod flows;
pub mod histogram;
pub mod keys;
pub mod limits;
pub mod message;
pub mod meters;
pub mod paths;
pub mod payload;
pub mod protocol;
pub mod seqlock;
#[cfg(test)]
mod seqlock_tests;
pub mod series;
#[allow(
    unsafe_code,
    reason = "mapping shared memory; each block says why it is sound"
)]
pub mod shm;
pub mod slow;
pub mod statistics;
