//! Parses one request again and again, for a profiler that counts the instructions of `measured_parse`.
//!
//! `scripts/bench parse` runs it under callgrind. Arguments: the case, and how often.

use std::hint::black_box;
use tidegate_protocol::{Parsed, Protocol, Resume, parse_request};

/// The requests, by name. Keys have 30 bytes.
const CASES: [(&str, Protocol, &[u8]); 6] = [
    (
        "redis-get",
        Protocol::Redis,
        b"*2\r\n$3\r\nGET\r\n$30\r\nsession:0123456789abcdef012345\r\n",
    ),
    (
        "redis-set",
        Protocol::Redis,
        b"*3\r\n$3\r\nSET\r\n$30\r\nsession:0123456789abcdef012345\r\n$10\r\n0123456789\r\n",
    ),
    (
        "redis-eval",
        Protocol::Redis,
        b"*4\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n1\r\n$30\r\nsession:0123456789abcdef012345\r\n",
    ),
    (
        "redis-object-encoding",
        Protocol::Redis,
        b"*3\r\n$6\r\nOBJECT\r\n$8\r\nENCODING\r\n$30\r\nsession:0123456789abcdef012345\r\n",
    ),
    (
        "redis-sinter",
        Protocol::Redis,
        b"*3\r\n$6\r\nSINTER\r\n$30\r\nsession:0123456789abcdef012345\r\n$30\r\nsession:0123456789abcdef012346\r\n",
    ),
    (
        "memcached-get",
        Protocol::Memcached,
        b"get session:0123456789abcdef012345\r\n",
    ),
];

/// One look at a request as the proxy takes it: from its first byte to the ranges of its parts.
#[inline(never)]
fn measured_parse(protocol: Protocol, bytes: &[u8], resume: &mut Resume) -> Parsed {
    parse_request(protocol, bytes, resume)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let times = arguments.next().and_then(|times| times.parse::<u32>().ok());
    let case = CASES.iter().find(|case| case.0 == name);
    let (Some((_, protocol, bytes)), Some(times)) = (case, times) else {
        for (name, ..) in CASES {
            println!("{name}");
        }
        return;
    };
    for _ in 0..times {
        let mut resume = Resume::default();
        let parsed = measured_parse(*protocol, black_box(bytes), &mut resume);
        assert!(matches!(black_box(parsed), Parsed::Whole(_)), "{name}");
    }
}
