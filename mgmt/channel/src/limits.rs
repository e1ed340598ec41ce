//! What bounds the way between processes, with its reason.

/// Tries of one read of a block behind a sequence lock. A writer holds the lock for well under a microsecond, so a reader that fails
/// this often meets a writer that died or lies; it then keeps what it read before. Too low: spurious "no news". Too high: a hostile
/// worker makes the manager burn time.
pub const READ_TRIES: usize = 64;
