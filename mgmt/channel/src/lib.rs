//! What crosses the process boundary between the manager and its workers: control messages, shared-memory layouts and
//! the table of counters.

pub mod counters;
