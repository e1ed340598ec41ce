//! What a worker tells of requests that took long.

use serde::{Deserialize, Serialize};

/// Entries of one message. Why: with the longest names and keys, escaped, they stay below
/// [`MESSAGE_BYTES_MAX`](crate::control::MESSAGE_BYTES_MAX).
pub const SLOW_BATCH: usize = 8;

/// How a slow request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowEnd {
    /// Its client got the reply.
    Replied,
    /// Its client got an error of the proxy: a timeout, a lost server.
    Failed,
    /// Its client was gone before.
    ClientGone,
}

/// A request that took longer than its pool's `slowlog_us`. Four times add up to all that it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowEntry {
    /// When it was taken, in microseconds since 1970.
    pub taken_unix_us: u64,
    /// Who asked: address and port, or `unix`.
    pub client: String,
    /// Name of the pool.
    pub pool: String,
    /// Name of the server; `None`: nobody was asked, or several.
    pub server: Option<String>,
    /// Name of the command.
    pub command: String,
    /// The front of the first key, what is not printable escaped.
    pub key: String,
    /// Bytes of the whole key.
    pub key_bytes: u32,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the reply.
    pub reply_bytes: u64,
    /// Until all of it was passed on to the server.
    pub queue_us: u64,
    /// From there until the reply began; of several servers, until all had answered.
    pub server_us: u64,
    /// From there until the client had its replies to earlier requests.
    pub turn_us: u64,
    /// From there until the client took the last of it.
    pub client_us: u64,
    /// How it ended.
    pub end: SlowEnd,
}

impl SlowEntry {
    /// How long it took in all.
    pub fn total_us(&self) -> u64 {
        let parts = [self.queue_us, self.server_us, self.turn_us, self.client_us];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ControlSocket, MESSAGE_BYTES_MAX};
    use crate::message::FromWorker;

    #[test]
    fn the_longest_batch_fits_a_message() {
        // Each byte of a key takes four characters at most, whose backslash JSON escapes once more.
        let entry = SlowEntry {
            taken_unix_us: u64::MAX,
            client: "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%4294967295]:65535".into(),
            pool: "p".repeat(64),
            server: Some("\\".repeat(255)),
            command: "c".repeat(64),
            key: "\\xff".repeat(64),
            key_bytes: u32::MAX,
            request_bytes: u64::MAX,
            reply_bytes: u64::MAX,
            queue_us: u64::MAX,
            server_us: u64::MAX,
            turn_us: u64::MAX,
            client_us: u64::MAX,
            end: SlowEnd::ClientGone,
        };
        let message = FromWorker::Slow {
            entries: vec![entry; SLOW_BATCH],
            lost: u64::MAX,
        };
        assert!(serde_json::to_vec(&message).unwrap().len() <= MESSAGE_BYTES_MAX);
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let theirs = ControlSocket::from_descriptor(theirs).unwrap();
        ours.try_send(&message).unwrap();
        assert_eq!(theirs.receive::<FromWorker>().unwrap().0, message);
    }
}
