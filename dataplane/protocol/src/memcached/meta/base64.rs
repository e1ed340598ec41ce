//! Keys in base64: the flag `b` of the meta commands.

use crate::memcached::MEMCACHED_KEY_BYTES_MAX;

/// A key that was written in base64.
#[derive(Clone, Copy, Debug)]
pub struct DecodedKey {
    bytes: [u8; MEMCACHED_KEY_BYTES_MAX],
    length: usize,
}

impl DecodedKey {
    /// The key.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Decodes the key of a request with [`crate::Route::Base64Key`], which is hashed as the bytes that the server stores it under. `None`: it is
/// not base64 as RFC 4648 has it, or too long for a key.
///
/// memcached leaves out characters that are none of base64's. Here they are refused: a key has one spelling, or two
/// proxies could look for it on different servers.
pub fn decode_key(text: &[u8]) -> Option<DecodedKey> {
    let content = text
        .strip_suffix(b"==")
        .or_else(|| text.strip_suffix(b"="))
        .unwrap_or(text);
    let is_whole = text.len().is_multiple_of(4) && content.len() % 4 != 1;
    if !is_whole || !(1..=MEMCACHED_KEY_BYTES_MAX).contains(&text.len()) {
        return None;
    }
    let mut key = DecodedKey {
        bytes: [0; MEMCACHED_KEY_BYTES_MAX],
        length: 0,
    };
    for group in content.chunks(4) {
        let mut bits = 0;
        for &digit in group {
            bits = bits << 6 | sextet(digit)?;
        }
        // The digits that padding stands for.
        bits <<= 6 * (4 - group.len());
        let bytes = &bits.to_be_bytes()[1..group.len()];
        key.bytes[key.length..][..bytes.len()].copy_from_slice(bytes);
        key.length += bytes.len();
    }
    Some(key)
}

fn sextet(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for group in bytes.chunks(3) {
            let mut word = [0; 4];
            word[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(word);
            let digits = (0..4).map(|place| DIGITS[(bits >> (18 - 6 * place) & 63) as usize]);
            text.extend(digits.take(group.len() + 1));
            text.resize(text.len() + 3 - group.len(), b'=');
        }
        text
    }

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        for (text, key) in [
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            let decoded = decode_key(text.as_bytes()).expect(text);
            assert_eq!(decoded.bytes(), key.as_bytes());
        }
    }

    #[test]
    fn what_is_no_base64_is_told_apart() {
        let long = "A".repeat(252);
        for text in [
            "", "Z", "Zg", "Zg=", "Zm9", "=", "==", "====", "A===", "Zm9v=", "Zm9v====", "Zm 9",
            "Zm-9", "Zm=9", &long,
        ] {
            assert!(decode_key(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(key in proptest::collection::vec(any::<u8>(), 1..=186)) {
            let text = encode(&key);
            let decoded = decode_key(&text).expect("base64");
            prop_assert_eq!(decoded.bytes(), &key[..]);
        }

        #[test]
        fn anything_is_looked_at_without_harm(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_key(&text);
        }
    }
}
