//! What a model memcached answers: text, meta commands and binary.

use super::peers::{name_of, value_of};
use std::ops::Range;

const OK: &[u8] = b"OK\r\n";

/// The block of a value as memcached sends it.
pub(super) fn block(key: &[u8], with_cas: bool) -> Vec<u8> {
    let Some(value) = value_of(key) else {
        return Vec::new();
    };
    let cas = if with_cas { " 7" } else { "" };
    [
        &b"VALUE "[..],
        key,
        format!(" 0 {}{cas}\r\n", value.len()).as_bytes(),
        &value,
        b"\r\n",
    ]
    .concat()
}

/// A memcached server's answer.
pub(super) fn memcached_answer(request: &[u8], words: &[Range<usize>]) -> Vec<u8> {
    let word = |index: usize| {
        words
            .get(index)
            .map_or(&b""[..], |word| &request[word.clone()])
    };
    let name = word(0);
    let keys = match name {
        b"get" | b"gets" => words.get(1..),
        b"gat" | b"gats" => words.get(2..),
        _ => None,
    };
    match keys {
        Some(keys) => {
            let mut answer = Vec::new();
            for key in keys {
                answer.extend(block(&request[key.clone()], name.ends_with(b"s")));
            }
            answer.extend(b"END\r\n");
            answer
        }
        None if matches!(name, b"mg" | b"ms" | b"md" | b"ma" | b"me") => {
            meta_answer(request, words)
        }
        None if name == b"stats" => stats(word(1), 1),
        None if matches!(name, b"flush_all" | b"verbosity" | b"cache_memlimit") => OK.to_vec(),
        None => [&b"H"[..], &name_of(request), b"\r\n"].concat(),
    }
}

/// A value for `mg` and `ma` that ask for one, else a code alone.
fn meta_answer(request: &[u8], words: &[Range<usize>]) -> Vec<u8> {
    let is_get = matches!(&request[words[0].clone()], b"mg" | b"ma");
    let asks = words
        .iter()
        .skip(2)
        .any(|word| &request[word.clone()] == b"v");
    match words.get(1).and_then(|key| value_of(&request[key.clone()])) {
        None if is_get => b"EN\r\n".to_vec(),
        Some(value) if is_get && asks => [
            format!("VA {}\r\n", value.len()).as_bytes(),
            &value,
            b"\r\n",
        ]
        .concat(),
        _ => b"HD\r\n".to_vec(),
    }
}

/// Statistics of so many servers.
pub(super) fn stats(what: &[u8], servers: usize) -> Vec<u8> {
    match what {
        b"reset" => b"RESET\r\n".to_vec(),
        b"detail" => OK.to_vec(),
        _ => format!("STAT one {servers}\r\nEND\r\n").into_bytes(),
    }
}

/// What a binary request asks for.
struct Asked<'a> {
    opcode: u8,
    opaque: &'a [u8],
    key: &'a [u8],
}

impl Asked<'_> {
    fn frame(&self, status: u16, key: &[u8], extras: &[u8], value: &[u8]) -> Vec<u8> {
        let body = (key.len() + extras.len() + value.len()) as u32;
        let mut frame = vec![0x81, self.opcode];
        frame.extend((key.len() as u16).to_be_bytes());
        frame.extend([extras.len() as u8, 0]);
        frame.extend(status.to_be_bytes());
        frame.extend(body.to_be_bytes());
        frame.extend(self.opaque);
        frame.extend([0; 8]);
        frame.extend([extras, key, value].concat());
        frame
    }
}

/// The answer to a frame, of so many servers together: of a get the value of the key, or that there is none. `loud` is the opcode
/// that servers see.
pub(super) fn binary_answer(request: &[u8], loud: u8, servers: usize) -> Vec<u8> {
    let key_bytes = usize::from(u16::from_be_bytes([request[2], request[3]]));
    let front = 24 + usize::from(request[4]);
    let asked = Asked {
        opcode: request[1],
        opaque: &request[12..16],
        key: &request[front..front + key_bytes],
    };
    let with_key = matches!(loud, 0x0c | 0x23);
    match loud {
        0x00 | 0x0c | 0x1d | 0x23 => {
            let key = if with_key { asked.key } else { b"" };
            match value_of(asked.key) {
                Some(value) => asked.frame(0, key, &[0; 4], &value),
                None => asked.frame(1, key, b"", b""),
            }
        }
        0x10 => [
            asked.frame(0, b"one", b"", servers.to_string().as_bytes()),
            asked.frame(0, b"", b"", b""),
        ]
        .concat(),
        // What changes nothing has nothing to tell.
        0x07 | 0x08 | 0x0a => asked.frame(0, b"", b"", b""),
        _ => asked.frame(0, b"", b"", &name_of(&request[24..])),
    }
}
