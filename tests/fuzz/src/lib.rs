//! What is fuzzed: functions from bytes to nothing, which panic when a promise is broken.
//!
//! Two programs call them. `scripts/fuzz` lets libFuzzer look for bytes that break one (`libfuzzer`, a crate of its own, because
//! its coverage needs a compiler's unstable flags); the test of this crate replays the corpus, so that every test run goes
//! through what was found before, on any toolchain.
//!
//! - [`requests`]: a client's bytes against a request parser. However they are cut, the same requests come out; no more is taken
//!   than is there; and what is taken ends where a server sees it end, by [`framing`], which shares no code with the parser.
//! - [`replies`]: a server's bytes against the reply scanners, likewise.
//! - [`world`]: a whole proxy between model clients and model servers, with every kind of trouble. Each request gets one reply or
//!   its connection closes, each reply is the one to its request, and in the end no table has an entry left.
//! - [`frames`]: frames from the Ethernet header up, into a whole worker. Each is counted once, and no buffer and no slot is lost.
//! - [`control`], [`shared`]: messages, files and shared memory of a process that somebody else has taken over.
//! - [`configuration`]: what operators write.
//!
//! A new target is a line in [`TARGETS`], three lines in `libfuzzer/fuzz_targets`, and a folder in `corpus`.
#![forbid(unsafe_code)]

mod bends;
pub mod configuration;
pub mod control;
mod cuts;
pub mod frames;
pub mod framing;
mod queue;
pub mod replies;
pub mod requests;
pub mod shared;
pub mod world;

#[path = "../../../dataplane/proxy/tests/model/streams.rs"]
#[allow(dead_code, missing_docs, reason = "shared with the proxy's own tests")]
#[allow(clippy::all, clippy::pedantic, reason = "it is judged there")]
mod streams;

use tidegate_protocol::{Parsed, Protocol, Resume, parse_request, parse_request_as_twemproxy};

/// One function to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its program, and of its folder in the corpus.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "redis_requests",
        run: redis_requests,
    },
    Target {
        name: "memcached_requests",
        run: memcached_requests,
    },
    Target {
        name: "binary_requests",
        run: binary_requests,
    },
    Target {
        name: "twemproxy_requests",
        run: twemproxy_requests,
    },
    Target {
        name: "redis_replies",
        run: replies::redis,
    },
    Target {
        name: "memcached_replies",
        run: replies::memcached,
    },
    Target {
        name: "binary_replies",
        run: replies::binary,
    },
    Target {
        name: "redis_proxy",
        run: redis_proxy,
    },
    Target {
        name: "memcached_proxy",
        run: memcached_proxy,
    },
    Target {
        name: "frames",
        run: frames::check,
    },
    Target {
        name: "control",
        run: control::check,
    },
    Target {
        name: "shared",
        run: shared::check,
    },
    Target {
        name: "configuration",
        run: configuration::check,
    },
];

/// Runs the target of that name.
///
/// # Panics
/// When a promise is broken, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the target is in the table").run)(bytes);
}

pub(crate) fn parse_redis(buf: &[u8], resume: &mut Resume) -> Parsed {
    parse_request(Protocol::Redis, buf, resume)
}

pub(crate) fn parse_memcached(buf: &[u8], resume: &mut Resume) -> Parsed {
    parse_request(Protocol::Memcached, buf, resume)
}

pub(crate) fn parse_binary(buf: &[u8], resume: &mut Resume) -> Parsed {
    parse_request(Protocol::MemcachedBinary, buf, resume)
}

pub(crate) fn parse_redis_as_twemproxy(buf: &[u8], resume: &mut Resume) -> Parsed {
    parse_request_as_twemproxy(Protocol::Redis, buf, resume)
}

pub(crate) fn parse_memcached_as_twemproxy(buf: &[u8], resume: &mut Resume) -> Parsed {
    parse_request_as_twemproxy(Protocol::Memcached, buf, resume)
}

fn redis_requests(bytes: &[u8]) {
    requests::check(parse_redis, framing::redis, bytes);
}

fn memcached_requests(bytes: &[u8]) {
    requests::check(parse_memcached, framing::memcached, bytes);
}

fn binary_requests(bytes: &[u8]) {
    requests::check(parse_binary, framing::binary, bytes);
}

fn twemproxy_requests(bytes: &[u8]) {
    requests::check(parse_redis_as_twemproxy, framing::redis, bytes);
    requests::check(parse_memcached_as_twemproxy, framing::memcached, bytes);
}

fn redis_proxy(bytes: &[u8]) {
    world::check(tidegate_config::Protocol::Redis, bytes);
}

fn memcached_proxy(bytes: &[u8]) {
    world::check(tidegate_config::Protocol::Memcached, bytes);
}
