//! The word that whoever asks has to know.

use super::limits::{TOKEN_BYTES, TOKEN_FILE_BYTES_MAX};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use std::fmt;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tidegate_config::regular_file;

/// A token. It prints as `***`.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Token {
    /// Reads it from a file that holds nothing else.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file, and nothing of what it holds.
    pub fn read(path: &Path) -> Result<Self, String> {
        let fault = |what: String| format!("http_token: {}: {what}", path.display());
        let opened = regular_file::open(path);
        let (file, about) = opened.map_err(|error| fault(error.to_string()))?;
        let mode = about.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fault(format!(
                "others than its owner may read or write it (mode {:04o}): chmod 600 {}",
                mode & 0o7777,
                path.display()
            )));
        }
        let mut text = String::new();
        let mut some = file.take(TOKEN_FILE_BYTES_MAX + 1);
        some.read_to_string(&mut text)
            .map_err(|error| fault(error.to_string()))?;
        Self::new(text.trim_end_matches(['\r', '\n'])).ok_or_else(|| {
            fault(format!(
                "it has to hold one word of {} to {} letters, digits and signs, for example of: openssl rand -hex 24",
                TOKEN_BYTES.start(),
                TOKEN_BYTES.end()
            ))
        })
    }

    /// A word that a header can carry.
    fn new(word: &str) -> Option<Self> {
        let fits = TOKEN_BYTES.contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(word.as_bytes().to_vec()))
    }

    /// Whether a request says it.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let bytes = value.as_bytes();
        let Some((scheme, word)) = bytes.split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.is(word)
    }

    /// Takes as long whichever byte is the first wrong one. How long the token is may be known.
    fn is(&self, word: &[u8]) -> bool {
        let pairs = self.0.iter().zip(word);
        let differ = pairs.fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
        self.0.len() == word.len() && differ == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const WORD: &str = "a-token-of-letters";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_the_whole_word_opens() {
        let token = Token::new(WORD).unwrap();
        let bearer = format!("Bearer {WORD}");
        assert!(token.is_in(&headers(&[&bearer])));
        assert!(token.is_in(&headers(&[&format!("bearer {WORD}")])));
        for wrong in [
            &[][..],
            &[WORD],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a-token-of-letter"],
            &["Bearer a-token-of-letters2"],
            &["Bearer b-token-of-letters"],
            &["Basic a-token-of-letters"],
            &[&bearer, &bearer],
        ] {
            assert!(!token.is_in(&headers(wrong)), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "***");
    }

    #[test]
    fn files_that_others_can_read_or_that_hold_no_word_are_refused() {
        let path = std::env::temp_dir().join(format!("tidegate-token-{}", std::process::id()));
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        assert!(write(&format!("{WORD}\n"), 0o600).is_ok());
        assert!(write(WORD, 0o400).is_ok());
        for (text, mode, words) in [
            (WORD, 0o640, "chmod 600"),
            (WORD, 0o604, "chmod 600"),
            ("", 0o600, "one word"),
            ("short", 0o600, "one word"),
            ("two words in one file", 0o600, "one word"),
            (&"x".repeat(5_000), 0o600, "one word"),
        ] {
            let fault = write(text, mode).unwrap_err();
            assert!(fault.contains(words), "{fault}");
            assert!(text.is_empty() || !fault.contains(text), "{fault}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Token::read(&path).unwrap_err().contains("No such file"));
        let device = Token::read(Path::new("/dev/zero")).unwrap_err();
        assert!(device.contains("no regular file"), "{device}");
    }
}
