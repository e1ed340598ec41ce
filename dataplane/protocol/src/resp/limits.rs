//! The limits of a RESP request. All are those of Redis itself: a lower one would refuse what the server takes, a higher one would
//! pass on what the server answers by closing a connection that other clients share.

/// Most arguments of one request, the name included. Redis: 1024 * 1024.
pub const REDIS_ARGUMENTS_MAX: u32 = 1024 * 1024;

/// Most bytes of one argument. Redis: `proto-max-bulk-len`, 512 MiB by default.
pub const REDIS_BULK_BYTES_MAX: u32 = 512 * 1024 * 1024;

/// Most bytes of an inline command. Redis: `PROTO_INLINE_MAX_SIZE`, 64 KiB.
pub const REDIS_INLINE_BYTES_MAX: usize = 64 * 1024;
