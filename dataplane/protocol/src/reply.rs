//! Measuring replies.

/// The form of the reply that a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyShape {
    /// One RESP2 value, arrays included.
    Resp,
    /// One memcached line.
    Line,
    /// memcached VALUE blocks up to END, or one error line.
    Values,
}
