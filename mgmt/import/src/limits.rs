//! What bounds the work and the memory of one import.

/// Largest file that is read. Why: 65,535 servers, the most there may be, with 60 bytes each. Too low: a large fleet is refused.
/// Too high: what is no configuration takes memory, up to a hundred times its size.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// Faults that are kept. Why: nobody reads more, and each character of a hostile file may be one. Too low: faults appear only when
/// others are gone. Too high: memory.
pub const FAULTS_MAX: usize = 1_000;

/// Characters of a name that faults and warnings show. Why: what Tidegate takes as a name of a pool. Too low: names cannot be told
/// apart. Too high: one long name, shown in many faults, takes memory.
pub const SHOWN_NAME_CHARS_MAX: usize = 64;

/// Largest number that is taken. Why: twemproxy reads numbers into 32 bits with a sign and lets larger ones wrap around.
pub const NUMBER_MAX: u64 = i32::MAX as u64;

/// Server connections beyond those of the pools. Why: large requests take connections of their own for as long as they last, and
/// the default leaves as many to a few dozen servers. Too low: large requests wait. Too high: memory.
pub const SPARE_SERVER_CONNECTIONS: u64 = 64;

/// What `tcpkeepalive` means in seconds. Why: twemproxy sets no time of its own, and the kernel's is two hours
/// (`net.ipv4.tcp_keepalive_time`).
pub const KERNEL_KEEPALIVE_S: u32 = 7_200;
