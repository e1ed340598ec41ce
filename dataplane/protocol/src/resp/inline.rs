//! Inline commands: a line of words instead of an array, for people and load balancers.
//!
//! Words are separated by blanks. In double quotes `\n`, `\r`, `\t`, `\b`, `\a` and `\xff` stand for one byte and `\` takes any
//! other byte as it is; in single quotes only `\'` is special. Servers never see such a line: [`write_inline`] makes the array of it,
//! and that goes through the same parser as any other.

use crate::request::{Parsed, Refusal, Resume, incomplete};
use crate::scan::find_byte;

use super::limits::REDIS_INLINE_BYTES_MAX;

const TOO_LONG: Refusal = Refusal::close("-ERR Protocol error: too big inline request\r\n");
const UNBALANCED: Refusal = Refusal::close("-ERR Protocol error: unbalanced quotes in request\r\n");
/// Redis waits for ever for the end of such a line.
const WITH_ZERO: Refusal = Refusal::close("-ERR Protocol error: zero byte in inline request\r\n");
/// What a browser can be made to send to a Redis port has these words at the start of a line. The commands that its body
/// smuggles in must not run, so the connection ends, as Redis ends it.
const HTTP: Refusal = Refusal::close("-ERR Protocol error: this is HTTP, not Redis\r\n");
const HTTP_NAMES: [&[u8]; 2] = [b"post", b"host:"];

/// Parses the line at the front of `buf`.
#[cold]
pub(super) fn parse(buf: &[u8], resume: &mut Resume) -> Parsed {
    let Some(line_end) = find_byte(buf, resume.at as usize, b'\n') else {
        if buf.len() > REDIS_INLINE_BYTES_MAX {
            *resume = Resume::default();
            return Parsed::Refused(TOO_LONG);
        }
        resume.at = buf.len() as u32;
        return incomplete(buf, 0);
    };
    *resume = Resume::default();
    if line_end > REDIS_INLINE_BYTES_MAX {
        return Parsed::Refused(TOO_LONG);
    }
    let bytes = line_end + 1;
    match measure(&buf[..line_end]) {
        Ok((0, _)) => Parsed::Skip { bytes },
        Ok((_, wire_bytes)) => Parsed::Inline { bytes, wire_bytes },
        Err(refusal) => Parsed::Refused(refusal),
    }
}

/// Appends the array that means the same as the inline command `line`, for which the parser found [`Parsed::Inline`].
pub fn write_inline(line: &[u8], out: &mut Vec<u8>) {
    let Ok((count, _)) = measure(line) else {
        return;
    };
    write_header(b'*', count, out);
    let mut at = 0;
    while let Ok(Some((start, end, bytes))) = next_word(line, at) {
        write_header(b'$', bytes, out);
        // It was measured, so it is sound.
        let _ = read_word(line, start, |byte| out.push(byte));
        out.extend_from_slice(b"\r\n");
        at = end;
    }
}

/// The words of a line, and the bytes of its array.
fn measure(line: &[u8]) -> Result<(usize, usize), Refusal> {
    let (mut at, mut words, mut wire_bytes) = (0, 0, 0);
    while let Some((start, end, bytes)) = next_word(line, at)? {
        let word = &line[start..end];
        if words == 0
            && HTTP_NAMES
                .iter()
                .any(|name| word.eq_ignore_ascii_case(name))
        {
            return Err(HTTP);
        }
        words += 1;
        wire_bytes += header_bytes(bytes) + bytes + 2;
        at = end;
    }
    Ok((words, header_bytes(words) + wire_bytes))
}

/// Where the next word from `at` on starts and ends, and the bytes it stands for.
fn next_word(line: &[u8], at: usize) -> Result<Option<(usize, usize, usize)>, Refusal> {
    let blanks = line[at..].iter().take_while(|&&byte| is_blank(byte));
    let start = at + blanks.count();
    if start == line.len() {
        return Ok(None);
    }
    let mut bytes = 0;
    let end = read_word(line, start, |_| bytes += 1)?;
    Ok(Some((start, end, bytes)))
}

/// Gives the bytes that the word at `at` stands for, and returns where it ends.
fn read_word(line: &[u8], mut at: usize, mut give: impl FnMut(u8)) -> Result<usize, Refusal> {
    let mut quote = None;
    loop {
        let (byte, used) = match (quote, &line[at..]) {
            (None, [] | [b' ' | b'\t' | b'\r' | b'\n', ..]) => return Ok(at),
            (Some(_), []) => return Err(UNBALANCED),
            (_, [0, ..]) => return Err(WITH_ZERO),
            (None, [mark @ (b'"' | b'\''), ..]) => {
                quote = Some(*mark);
                at += 1;
                continue;
            }
            (Some(b'"'), [b'\\', b'x', high, low, ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (digit(*high) << 4 | digit(*low), 4)
            }
            (Some(b'"'), [b'\\', escaped, ..]) if *escaped != 0 => (unescaped(*escaped), 2),
            (Some(b'\''), [b'\\', b'\'', ..]) => (b'\'', 2),
            (Some(mark), [closing, behind @ ..]) if *closing == mark => {
                let ends = behind.first().is_none_or(|&byte| is_blank(byte));
                return ends.then_some(at + 1).ok_or(UNBALANCED);
            }
            (_, [plain, ..]) => (*plain, 1),
        };
        give(byte);
        at += used;
    }
}

/// What separates words. Redis takes more for blanks between them than it takes for the end of one.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => (hex | 0x20) - b'a' + 10,
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// Bytes of a header with this number.
fn header_bytes(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1) + 3
}

fn write_header(kind: u8, number: usize, out: &mut Vec<u8>) {
    out.push(kind);
    let mut place = number.checked_ilog10().map_or(1, |log| 10usize.pow(log));
    while place > 0 {
        out.push(b'0' + (number / place % 10) as u8);
        place /= 10;
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The words of a line, or the reply to it.
    fn words(line: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        match parse(&[line.as_bytes(), b"\r\n"].concat(), &mut Resume::default()) {
            Parsed::Inline { bytes, wire_bytes } => {
                let mut wire = Vec::new();
                write_inline(line.as_bytes(), &mut wire);
                assert_eq!((bytes, wire.len()), (line.len() + 2, wire_bytes));
                Ok(read_array(&wire))
            }
            Parsed::Skip { bytes } if bytes == line.len() + 2 => Ok(Vec::new()),
            Parsed::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Takes an array of bulks apart.
    fn read_array(mut wire: &[u8]) -> Vec<Vec<u8>> {
        let number = |kind: u8, wire: &mut &[u8]| -> usize {
            let end = wire.iter().position(|&byte| byte == b'\n').unwrap();
            assert!(wire[0] == kind && wire[end - 1] == b'\r');
            let digits = std::str::from_utf8(&wire[1..end - 1]).unwrap();
            *wire = &wire[end + 1..];
            digits.parse().unwrap()
        };
        let count = number(b'*', &mut wire);
        let words = (0..count).map(|_| {
            let bytes = number(b'$', &mut wire);
            let word = wire[..bytes].to_vec();
            assert_eq!(&wire[bytes..bytes + 2], b"\r\n");
            wire = &wire[bytes + 2..];
            word
        });
        let words = words.collect();
        assert!(wire.is_empty());
        words
    }

    #[test]
    fn lines_become_the_words_that_redis_makes_of_them() {
        for (line, expected) in [
            ("PING", &["PING"][..]),
            ("  set\tk  v ", &["set", "k", "v"]),
            ("", &[]),
            (" \t \r", &[]),
            (r#"get "a b""#, &["get", "a b"]),
            (r#"get """#, &["get", ""]),
            ("get ''", &["get", ""]),
            (
                r#"get "\x41\n\r\t\a\b\q\"""#,
                &["get", "A\n\r\t\x07\x08q\""],
            ),
            (r#"get "\xzz""#, &["get", "xzz"]),
            (r"get '\n\'x'", &["get", "\\n'x"]),
            (r#"get a"b c""#, &["get", "ab c"]),
            ("get a'b c' d", &["get", "ab c", "d"]),
            (r"get a\ b", &["get", "a\\", "b"]),
            ("get a\u{b}b \u{b} c", &["get", "a\u{b}b", "c"]),
            ("GET / HTTP/1.1", &["GET", "/", "HTTP/1.1"]),
            ("0123456789 9", &["0123456789", "9"]),
        ] {
            let expected = expected.iter().map(|word| word.as_bytes().to_vec());
            assert_eq!(words(line), Ok(expected.collect()), "{line:?}");
        }
    }

    #[test]
    fn lines_that_redis_does_not_take_are_refused() {
        for (line, expected) in [
            (r#"get "a"#, UNBALANCED),
            (r#"get "a\"#, UNBALANCED),
            ("get 'a", UNBALANCED),
            (r#"get "a"b"#, UNBALANCED),
            ("get 'a'b", UNBALANCED),
            (r#"get "a\""#, UNBALANCED),
            ("get a\0", WITH_ZERO),
            ("get \"\0\"", WITH_ZERO),
            ("get \"\\\0\"", WITH_ZERO),
            ("POST / HTTP/1.1", HTTP),
            ("host: example", HTTP),
        ] {
            assert_eq!(words(line), Err(expected), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_words_in_quotes_are_what_was_written(words_in in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..8)) {
            let quoted = words_in.iter().map(|word| {
                let escaped: Vec<String> = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("\"{}\"", escaped.concat())
            });
            let line = quoted.collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line), Ok(words_in));
        }

        #[test]
        fn any_line_is_measured_as_it_is_written(line in "[a-c\"'\\\\x0 \t]{0,40}") {
            let _ = words(&line);
        }
    }
}
