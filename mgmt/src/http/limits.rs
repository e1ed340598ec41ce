//! What the HTTP server has at most, why, and what happens then.

use std::time::Duration;

/// Connections at a time. Why: a few people with the page open, at up to six connections each, and two Prometheus servers. At the
/// limit the oldest gives way: a browser opens it again, and whoever only holds places cannot keep others out.
pub const CONNECTIONS_MAX: usize = 48;
/// Bytes of a request's line and headers. Why: browsers send below 2 KiB. At the limit: status 431.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request. At the limit: status 431.
pub const HEADERS_MAX: usize = 64;
/// For a request's line and headers, the pause before them included. Why: longer than the page takes between two requests, so that
/// its connections stay. Then the connection is closed.
pub const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// Life of a connection. Why: whoever takes a reply byte by byte is not waited for, and others open a new one.
pub const CONNECTION_LIFE: Duration = Duration::from_mins(2);
/// After a failure to accept, which no file descriptors is a reason for.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Between two lines of the log about clients that were refused.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Between two publications. It is also the step of the history.
pub const BEAT: Duration = Duration::from_secs(1);
/// A manager that has published nothing for this long hangs.
pub const STALE: Duration = Duration::from_secs(10);

/// Points of the history: ten minutes. More would make the first answer to a page slow.
pub const POINTS_MAX: usize = 600;
/// Pools with a history of their own, the first of the configuration. The others are in the sums.
pub const HISTORY_POOLS_MAX: usize = 16;
/// Workers with a history of their own.
pub const HISTORY_WORKERS_MAX: usize = 64;

/// Entries of the slow log that are shown.
pub const SLOW_ENTRIES: u32 = 100;

/// Bytes of a token. Fewer could be guessed; more would be no word that somebody types.
pub const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
/// Bytes of the file with the token.
pub const TOKEN_FILE_BYTES_MAX: u64 = 1024;

const _: () = assert!(HEADER_BYTES_MAX >= 8192, "the least that hyper takes");
