//! Telling the values on a subscriber's connection apart by their first bytes.
//!
//! With RESP3 a server marks what nobody asked for, and answers a PING the same way whether there are subscriptions or not; how many
//! are left is then told by the confirmations alone: the number at the end of each.

use crate::limits::CONFIRMATION_BYTES_MAX;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// More bytes have to come.
    Unknown,
    /// The answer to a request.
    Answer,
    /// A message, or something else that tells nothing about subscriptions.
    Push,
    /// A confirmation, and how many subscriptions there are now. Those to shard channels are counted apart. Behind a name that is
    /// too long the count is not looked for, and taken for 1.
    Confirmation { shard: bool, count: u64 },
}

/// The kind of the value that starts with `bytes`.
pub(super) fn kind_of(is_resp3: bool, bytes: &[u8]) -> Kind {
    match (is_resp3, bytes) {
        (true, [b'>', ..]) => count_of(bytes),
        (_, []) | (false, [b'*']) => Kind::Unknown,
        // A PING is answered by an array of two, which no push is.
        (false, [b'*', count, ..]) if *count != b'2' => Kind::Push,
        (_, [_, ..]) => Kind::Answer,
    }
}

/// Reads the push of RESP3 in `bytes`.
fn count_of(bytes: &[u8]) -> Kind {
    // Whatever is not whole within so many bytes has a name that is too long to wait for.
    let unfinished = if bytes.len() < CONFIRMATION_BYTES_MAX {
        Kind::Unknown
    } else {
        Kind::Push
    };
    let Some((head, rest)) = line(bytes) else {
        return unfinished;
    };
    if head != b">3" {
        return Kind::Push;
    }
    let Some((_, rest)) = line(rest) else {
        return unfinished;
    };
    let Some((name, rest)) = line(rest) else {
        return unfinished;
    };
    if !name.ends_with(b"subscribe") {
        return Kind::Push;
    }
    let shard = matches!(name, b"ssubscribe" | b"sunsubscribe");
    let unfinished = match unfinished {
        Kind::Push => Kind::Confirmation { shard, count: 1 },
        other => other,
    };
    let Some((header, rest)) = line(rest) else {
        return unfinished;
    };
    let channel = match number(header.get(1..).unwrap_or_default()) {
        Some(bytes) if header.starts_with(b"$") => bytes.saturating_add(2),
        // No name: there was nothing to end.
        _ => 0,
    };
    let rest = usize::try_from(channel).ok().and_then(|n| rest.get(n..));
    let Some((count, _)) = rest.and_then(line) else {
        return unfinished;
    };
    match count.strip_prefix(b":").and_then(number) {
        Some(count) => Kind::Confirmation { shard, count },
        None => Kind::Push,
    }
}

/// The line at the front, and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmation(kind: &str, channel: &str, count: u64) -> String {
        let (k, c) = (kind.len(), channel.len());
        format!(">3\r\n${k}\r\n{kind}\r\n${c}\r\n{channel}\r\n:{count}\r\n")
    }

    #[test]
    fn confirmations_tell_how_many_there_are_once_they_are_whole() {
        for (kind, shard) in [
            ("subscribe", false),
            ("unsubscribe", false),
            ("psubscribe", false),
            ("punsubscribe", false),
            ("ssubscribe", true),
            ("sunsubscribe", true),
        ] {
            let bytes = confirmation(kind, "a\r\nb", 17);
            let all = Kind::Confirmation { shard, count: 17 };
            assert_eq!(kind_of(true, bytes.as_bytes()), all);
            for cut in 0..bytes.len() {
                assert_eq!(
                    kind_of(true, &bytes.as_bytes()[..cut]),
                    Kind::Unknown,
                    "{cut}"
                );
            }
        }
        let none = b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n";
        let none = kind_of(true, none);
        assert_eq!(
            none,
            Kind::Confirmation {
                shard: false,
                count: 0
            }
        );
    }

    #[test]
    fn what_is_no_confirmation_or_too_long_to_be_read_is_passed_on() {
        let long = confirmation("subscribe", &"x".repeat(CONFIRMATION_BYTES_MAX), 1);
        let seen = &long.as_bytes()[..CONFIRMATION_BYTES_MAX];
        let some = Kind::Confirmation {
            shard: false,
            count: 1,
        };
        assert_eq!(kind_of(true, seen), some, "it may be one more");
        for bytes in [
            &b">3\r\n$7\r\nmessage\r\n"[..],
            b">4\r\n",
            b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n+no\r\n",
            b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:-1\r\n",
        ] {
            assert_eq!(kind_of(true, bytes), Kind::Push, "{}", bytes.escape_ascii());
        }
        // A length that nobody sends costs nothing.
        let huge = b">3\r\n$9\r\nsubscribe\r\n$18446744073709551615\r\n";
        assert_eq!(kind_of(true, huge), Kind::Unknown);
    }

    #[test]
    fn answers_are_told_by_their_first_bytes() {
        for bytes in [&b"+PONG\r\n"[..], b"-ERR", b"$8\r\n"] {
            assert_eq!(kind_of(false, bytes), Kind::Answer);
            assert_eq!(kind_of(true, bytes), Kind::Answer);
        }
        assert_eq!(kind_of(false, b"*2\r\n$4\r\npong"), Kind::Answer);
        assert_eq!(kind_of(false, b"*3\r\n$7\r\nmessage"), Kind::Push);
        assert_eq!(kind_of(false, b"*"), Kind::Unknown);
    }
}
