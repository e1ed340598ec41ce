//! memcached's meta commands and binary protocol: what a server does with them, quiet ones included, and how requests are written.

use std::collections::HashMap;

type Store = HashMap<Vec<u8>, Vec<u8>>;

pub const HEADER: usize = 24;

pub const GET: u8 = 0x00;
pub const SET: u8 = 0x01;
pub const ADD: u8 = 0x02;
pub const DELETE: u8 = 0x04;
pub const QUIT: u8 = 0x07;
pub const GETQ: u8 = 0x09;
pub const NOOP: u8 = 0x0a;
pub const VERSION: u8 = 0x0b;
pub const GETK: u8 = 0x0c;
pub const GETKQ: u8 = 0x0d;
pub const SETQ: u8 = 0x11;
pub const ADDQ: u8 = 0x12;
pub const DELETEQ: u8 = 0x14;
pub const QUITQ: u8 = 0x17;
pub const FLUSH: u8 = 0x08;
pub const STAT: u8 = 0x10;
pub const FLUSHQ: u8 = 0x18;

const NOT_FOUND: u16 = 1;
const EXISTS: u16 = 2;

/// A request.
pub fn frame(opcode: u8, key: &[u8], value: &[u8], opaque: u32) -> Vec<u8> {
    let extras: &[u8] = if matches!(opcode, SET | ADD | SETQ | ADDQ) {
        &[0; 8]
    } else {
        &[]
    };
    raw_frame(0x80, opcode, 0, extras, key, value, opaque)
}

/// Any frame.
pub fn raw_frame(
    magic: u8,
    opcode: u8,
    status: u16,
    extras: &[u8],
    key: &[u8],
    value: &[u8],
    opaque: u32,
) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut frame = vec![magic, opcode];
    frame.extend((key.len() as u16).to_be_bytes());
    frame.extend([extras.len() as u8, 0]);
    frame.extend(status.to_be_bytes());
    frame.extend(body.to_be_bytes());
    frame.extend(opaque.to_be_bytes());
    frame.extend([0; 8]);
    [&frame, extras, key, value].concat()
}

/// Opcode, status, opaque and body of a reply.
type Reply = (u8, u16, u32, Vec<u8>);

/// Every frame in `bytes`, and how many bytes are left behind them.
pub fn frames(mut bytes: &[u8]) -> (Vec<Reply>, usize) {
    let mut frames = Vec::new();
    while let Some((end, header)) = bounds(bytes) {
        assert_eq!(header[0], 0x81, "a reply");
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let status = u16::from_be_bytes([header[6], header[7]]);
        frames.push((header[1], status, word(12), bytes[HEADER..end].to_vec()));
        bytes = &bytes[end..];
    }
    (frames, bytes.len())
}

/// Where the frame at the front ends, and its header.
fn bounds(bytes: &[u8]) -> Option<(usize, [u8; HEADER])> {
    let header = *bytes.first_chunk::<HEADER>()?;
    let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    (bytes.len() >= HEADER + body).then_some((HEADER + body, header))
}

/// Bytes used and the reply of the frame at the front, if it is whole. `as_server`: it was passed on, and so is loud.
pub fn binary(store: &mut Store, input: &[u8], as_server: bool) -> Option<(usize, Vec<u8>)> {
    let (end, header) = bounds(input)?;
    assert_eq!(header[0], 0x80, "a request");
    let opcode = header[1];
    let opaque = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let key_start = HEADER + usize::from(header[4]);
    let key_end = key_start + usize::from(u16::from_be_bytes([header[2], header[3]]));
    let (key, value) = (&input[key_start..key_end], &input[key_end..end]);
    let quiet = matches!(
        opcode,
        GETQ | GETKQ | SETQ | ADDQ | DELETEQ | QUITQ | FLUSHQ
    );
    if as_server {
        assert!(
            !quiet && !matches!(opcode, NOOP | QUIT),
            "opcode {opcode:#x} is not passed on"
        );
    }
    let answer = |status: u16, extras: &[u8], key: &[u8], value: &[u8]| {
        raw_frame(0x81, opcode, status, extras, key, value, opaque)
    };
    let (status, reply) = match opcode {
        GET | GETQ | GETK | GETKQ => {
            let key = if matches!(opcode, GETK | GETKQ) {
                key
            } else {
                b""
            };
            match store.get(&input[key_start..key_end]) {
                Some(value) => (0, answer(0, &[0; 4], key, value)),
                None if key.is_empty() => (NOT_FOUND, answer(NOT_FOUND, b"", b"", b"Not found")),
                None => (NOT_FOUND, answer(NOT_FOUND, b"", key, b"")),
            }
        }
        ADD | ADDQ if store.contains_key(key) => {
            (EXISTS, answer(EXISTS, b"", b"", b"Data exists for key."))
        }
        SET | SETQ | ADD | ADDQ => {
            store.insert(key.to_vec(), value.to_vec());
            (0, answer(0, b"", b"", b""))
        }
        DELETE | DELETEQ => match store.remove(key) {
            Some(_) => (0, answer(0, b"", b"", b"")),
            None => (NOT_FOUND, answer(NOT_FOUND, b"", b"", b"Not found")),
        },
        VERSION => (0, answer(0, b"", b"", b"1.2.3")),
        FLUSH => {
            store.clear();
            (0, answer(0, b"", b"", b""))
        }
        STAT if key.is_empty() => {
            let items = store.len().to_string();
            let stats = [
                answer(0, b"", b"pid", b"7"),
                answer(0, b"", b"curr_items", items.as_bytes()),
                answer(0, b"", b"", b""),
            ];
            (0, stats.concat())
        }
        STAT => (NOT_FOUND, answer(NOT_FOUND, b"", b"", b"Not found")),
        NOOP | QUIT | QUITQ => (0, answer(0, b"", b"", b"")),
        other => panic!("the proxy sent opcode {other:#x}"),
    };
    let hidden = match opcode {
        GETQ | GETKQ => status == NOT_FOUND,
        SETQ | ADDQ | DELETEQ | QUITQ => status == 0,
        _ => false,
    };
    Some((end, if hidden { Vec::new() } else { reply }))
}

/// Bytes used and the reply of the meta command at the front, if it is whole. `as_server`: it was passed on, and so is loud.
pub fn meta(store: &mut Store, input: &[u8], as_server: bool) -> Option<(usize, Vec<u8>)> {
    let end = input.windows(2).position(|window| window == b"\r\n")?;
    let line = String::from_utf8(input[..end].to_vec()).unwrap();
    let mut used = end + 2;
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    if words[0] == "mn" {
        assert!(!as_server, "mn is not passed on");
        return Some((used, b"MN\r\n".to_vec()));
    }
    let flags = &words[if words[0] == "ms" { 3 } else { 2 }..];
    let has = |flag: &str| flags.contains(&flag);
    let quiet = has("q");
    assert!(!(as_server && quiet), "the flag q is not passed on");
    let key = words[1].as_bytes().to_vec();
    let opaque: String = flags
        .iter()
        .filter(|flag| flag.starts_with('O'))
        .flat_map(|flag| [" ", flag])
        .collect();
    let (code, rest) = match words[0] {
        "mg" => match store.get(&key) {
            Some(value) if has("v") => ("VA", [value, &b"\r\n"[..]].concat()),
            Some(_) => ("HD", Vec::new()),
            None => ("EN", Vec::new()),
        },
        "ms" => {
            let bytes: usize = words[2].parse().unwrap();
            if input.len() < used + bytes + 2 {
                return None;
            }
            let value = input[used..used + bytes].to_vec();
            used += bytes + 2;
            if has("ME") && store.contains_key(&key) {
                ("NS", Vec::new())
            } else {
                store.insert(key, value);
                ("HD", Vec::new())
            }
        }
        "md" => match store.remove(&key) {
            Some(_) => ("HD", Vec::new()),
            None => ("NF", Vec::new()),
        },
        other => panic!("the proxy sent {other}"),
    };
    let hidden = quiet
        && if words[0] == "mg" {
            code == "EN"
        } else {
            code == "HD"
        };
    if hidden {
        return Some((used, Vec::new()));
    }
    let size = if code == "VA" {
        format!(" {}", rest.len() - 2)
    } else {
        String::new()
    };
    let head = format!("{code}{size}{opaque}\r\n");
    Some((used, [head.as_bytes(), &rest].concat()))
}

/// What one server would answer to all of `requests`, which are whole.
pub fn answers(mut requests: &[u8]) -> Vec<u8> {
    let mut store = Store::new();
    let mut replies = Vec::new();
    while !requests.is_empty() {
        let (used, reply) = if requests[0] == 0x80 {
            binary(&mut store, requests, false)
        } else {
            meta(&mut store, requests, false)
        }
        .expect("a whole request");
        replies.extend(reply);
        requests = &requests[used..];
    }
    replies
}
