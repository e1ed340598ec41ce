//! Keys out of the bytes that a terminal sends for them: a pure function.
//!
//! The terminal is read here and not by a library, since only who reads knows that there is nothing more to come.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What comes before the final letter of a key that has no letter.
const ESCAPE: u8 = 0x1b;

/// The keys in what was read at once. What is no key of ours is left out, as a whole.
pub fn keys(mut bytes: &[u8]) -> Vec<KeyEvent> {
    let mut keys = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = match (first, rest) {
            (ESCAPE, [b'[' | b'O', rest @ ..]) => {
                let (code, rest) = sequence(rest);
                keys.extend(code.map(|code| KeyEvent::new(code, KeyModifiers::NONE)));
                rest
            }
            (ESCAPE, rest) => {
                keys.push(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
                rest
            }
            // Ctrl and a letter is the letter's place in the alphabet.
            (1..=26, rest) => {
                let letter = KeyCode::Char(char::from(first - 1 + b'a'));
                keys.push(KeyEvent::new(letter, KeyModifiers::CONTROL));
                rest
            }
            (b' '..=b'~', rest) => {
                let letter = KeyCode::Char(char::from(first));
                keys.push(KeyEvent::new(letter, KeyModifiers::NONE));
                rest
            }
            (_, rest) => rest,
        };
    }
    keys
}

/// A key that has no letter: parameters, then the byte that says which it is. What follows comes back.
fn sequence(bytes: &[u8]) -> (Option<KeyCode>, &[u8]) {
    let ends = bytes.iter().position(|byte| (b'@'..=b'~').contains(byte));
    let Some(end) = ends else {
        return (None, &[]);
    };
    let code = match (&bytes[..end], bytes[end]) {
        ([], b'A') => Some(KeyCode::Up),
        ([], b'B') => Some(KeyCode::Down),
        ([], b'H') | (b"1" | b"7", b'~') => Some(KeyCode::Home),
        ([], b'F') | (b"4" | b"8", b'~') => Some(KeyCode::End),
        (b"5", b'~') => Some(KeyCode::PageUp),
        (b"6", b'~') => Some(KeyCode::PageDown),
        _ => None,
    };
    (code, &bytes[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(bytes: &[u8]) -> Vec<KeyCode> {
        keys(bytes).into_iter().map(|key| key.code).collect()
    }

    #[test]
    fn what_terminals_send_for_our_keys_is_understood() {
        for (bytes, code) in [
            (&b"q"[..], KeyCode::Char('q')),
            (b"\x1b", KeyCode::Esc),
            (b"\x1b[A", KeyCode::Up),
            (b"\x1bOB", KeyCode::Down),
            (b"\x1b[5~", KeyCode::PageUp),
            (b"\x1b[6~", KeyCode::PageDown),
            (b"\x1b[H", KeyCode::Home),
            (b"\x1b[1~", KeyCode::Home),
            (b"\x1bOF", KeyCode::End),
            (b"\x1b[4~", KeyCode::End),
        ] {
            assert_eq!(codes(bytes), [code], "{bytes:?}");
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(keys(&[3]), [interrupt]);
    }

    #[test]
    fn several_at_once_are_several_and_others_are_none() {
        assert_eq!(
            codes(b"w\x1b[B\x1b[1;5Cp"),
            [KeyCode::Char('w'), KeyCode::Down, KeyCode::Char('p')]
        );
        assert_eq!(codes("ü\x1b[<0;12".as_bytes()), []);
        assert_eq!(codes(&[0, 0x7f, 0xff]), []);
    }
}
