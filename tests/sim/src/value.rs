//! Tokens and values. A token belongs to one key of one request; what is stored or read under it follows from it alone, so that a
//! reply that belongs to another request shows.

use crate::random::mix;

/// Keys that clients share.
pub const SHARED_KEYS: u64 = 48;

/// How many bytes the value of a token has.
pub fn bytes_of(token: u64) -> usize {
    let hash = mix(token ^ 0x5151);
    let more = (hash >> 32) as usize;
    match hash % 200 {
        0..=169 => 8 + more % 120,
        170..=195 => 500 + more % 3_000,
        196..=198 => 5_000 + more % 20_000,
        _ => 70_000 + more % 30_000,
    }
}

/// Whether servers know a value for a key of this token alone.
pub fn is_known(token: u64) -> bool {
    !mix(token ^ 0x7272).is_multiple_of(6)
}

/// The number that goes with a token.
pub fn number_of(token: u64) -> u64 {
    1 + mix(token ^ 0x9191) % 1_000_000_007
}

/// Appends `bytes` bytes that name the token and, if it was written there, the shared key.
pub fn write(out: &mut Vec<u8>, key: Option<u64>, token: u64, bytes: usize) {
    let start = out.len();
    let unit = unit(key, token);
    while out.len() - start < bytes {
        let n = unit.len().min(start + bytes - out.len());
        out.extend_from_slice(&unit[..n]);
    }
}

fn unit(key: Option<u64>, token: u64) -> Vec<u8> {
    match key {
        None => format!("{token};").into_bytes(),
        Some(key) => format!("{key}={token};").into_bytes(),
    }
}

/// Whether `value` is what [`write()`] makes.
pub fn is_value(value: &[u8], key: Option<u64>, token: u64) -> bool {
    let unit = unit(key, token);
    value.len() == bytes_of(token)
        && value
            .chunks(unit.len())
            .all(|chunk| chunk == &unit[..chunk.len()])
}

/// The shared key and the token that a value names, if it is whole.
pub fn read(value: &[u8]) -> Option<(u64, u64)> {
    let end = value.iter().position(|&byte| byte == b';')?;
    let text = std::str::from_utf8(&value[..end]).ok()?;
    let (key, token) = text.split_once('=')?;
    let (key, token) = (key.parse().ok()?, token.parse().ok()?);
    is_value(value, Some(key), token).then_some((key, token))
}

/// A key: a letter that says what it is for, and a number.
pub fn key(kind: u8, number: u64) -> String {
    format!("{}:{number:07}", char::from(kind))
}

/// The letter and the number of a key.
pub fn parse_key(key: &[u8]) -> Option<(u8, u64)> {
    let [kind, b':', digits @ ..] = key else {
        return None;
    };
    Some((*kind, std::str::from_utf8(digits).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_whose_it_is_and_is_nobody_elses() {
        for token in 0..500 {
            let mut bytes = Vec::new();
            write(&mut bytes, Some(7), token, bytes_of(token));
            assert_eq!(read(&bytes), Some((7, token)));
            assert!(!is_value(&bytes, Some(7), token + 1));
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            assert_eq!(read(&bytes), None, "every byte counts");
        }
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        assert_eq!(parse_key(key(b'c', 42).as_bytes()), Some((b'c', 42)));
        assert_eq!(parse_key(b"c42"), None);
    }
}
