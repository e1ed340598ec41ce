//! Random requests of one client on keys of its own, with the replies that one server would give.

use super::Rng;
use super::server::{memcached, redis};
use std::collections::HashMap;
use tidegate_config::Protocol;

pub struct Traffic {
    pub requests: Vec<u8>,
    /// What a single server would have answered, in order.
    pub expected: Vec<u8>,
    /// Requests that get a reply.
    pub replies: usize,
    /// What each of them asked.
    pub asked: Vec<Asked>,
}

/// What a request asked, as far as it tells which replies fit.
pub enum Asked {
    /// The values of these keys.
    Values(Vec<Vec<u8>>),
    /// One of these, or a number when it ends with `:`.
    Status(&'static [&'static str]),
    /// Anything that starts like this.
    Start(&'static str),
}

pub struct Shape {
    pub requests: usize,
    pub value_bytes: usize,
    /// One value in so many is this much larger.
    pub large_one_in: usize,
    pub large_bytes: usize,
    /// One Redis request over several keys in so many has hundreds of them.
    pub many_keys_one_in: usize,
    /// One request in so many is for all servers. Only where the replies of a single server are not expected.
    pub whole_one_in: usize,
}

fn bulk(arg: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", arg.len()).as_bytes(), arg, b"\r\n"].concat()
}

pub fn resp(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend(bulk(arg));
    }
    out
}

fn key(rng: &mut Rng, client: usize) -> Vec<u8> {
    format!("c{client}:k{}", rng.below(12)).into_bytes()
}

/// A value that names the key and the request that wrote it.
fn value(rng: &mut Rng, key: &[u8], shape: &Shape, n: usize) -> Vec<u8> {
    let large = shape.large_one_in > 0 && rng.one_in(shape.large_one_in);
    let bytes = if large {
        shape.large_bytes
    } else {
        rng.below(shape.value_bytes + 1)
    };
    let mut value = [&b"["[..], key, format!("#{n}]").as_bytes()].concat();
    // Line ends and protocol words inside values must not matter.
    let filler = b"\r\nEND\r\n$-1\r\nabcdefgh";
    while value.len() < bytes {
        value.push(filler[value.len() % filler.len()]);
    }
    value
}

pub fn generate(rng: &mut Rng, protocol: Protocol, client: usize, shape: &Shape) -> Traffic {
    let mut store = HashMap::new();
    let mut traffic = Traffic {
        requests: Vec::new(),
        expected: Vec::new(),
        replies: 0,
        asked: Vec::new(),
    };
    for n in 0..shape.requests {
        if shape.whole_one_in > 0 && rng.one_in(shape.whole_one_in) {
            let (request, start) = whole_request(rng, protocol);
            traffic.requests.extend(request);
            traffic.replies += 1;
            traffic.asked.push(Asked::Start(start));
            continue;
        }
        match protocol {
            Protocol::Memcached => {
                memcached_request(rng, client, shape, n, &mut store, &mut traffic);
            }
            Protocol::Redis => redis_request(rng, client, shape, n, &mut store, &mut traffic),
        }
    }
    traffic
}

type Store = HashMap<Vec<u8>, Vec<u8>>;

fn whole_request(rng: &mut Rng, protocol: Protocol) -> (Vec<u8>, &'static str) {
    let lines: &[(&str, &str)] = match protocol {
        Protocol::Redis => &[
            ("DBSIZE", ":"),
            ("KEYS c1*", "*"),
            ("FLUSHALL", "+OK\r\n"),
            ("SCRIPT LOAD s", "$1\r\ns\r\n"),
            ("SCRIPT EXISTS s t", "*2\r\n:"),
            ("RANDOMKEY", "$"),
            ("INFO", "$"),
            ("SCAN 0 COUNT 5", "*2\r\n$"),
            ("SCAN 7", "*2\r\n$"),
        ],
        Protocol::Memcached => &[
            ("stats", "STAT "),
            ("stats reset", "RESET\r\n"),
            ("flush_all", "OK\r\n"),
        ],
    };
    let (line, start) = lines[rng.below(lines.len())];
    let request = match protocol {
        Protocol::Redis => resp(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()),
        Protocol::Memcached => format!("{line}\r\n").into_bytes(),
    };
    (request, start)
}

fn memcached_request(
    rng: &mut Rng,
    client: usize,
    shape: &Shape,
    n: usize,
    store: &mut Store,
    out: &mut Traffic,
) {
    let mut noreply = false;
    let mut asked = Asked::Status(&["STORED"]);
    let (request, reply) = match rng.below(10) {
        0..=2 => {
            let key = key(rng, client);
            let value = value(rng, &key, shape, n);
            noreply = rng.one_in(4);
            let head = [
                &b"set "[..],
                &key,
                format!(" 0 0 {}", value.len()).as_bytes(),
            ]
            .concat();
            let plain = [&head[..], b"\r\n", &value, b"\r\n"].concat();
            let (_, reply) = memcached(store, &plain).unwrap();
            let end: &[u8] = if noreply { b" noreply\r\n" } else { b"\r\n" };
            ([&head[..], end, &value, b"\r\n"].concat(), reply)
        }
        3 => {
            asked = Asked::Status(&["ERROR"]);
            (b"bogus 1 2 3\r\n".to_vec(), b"ERROR\r\n".to_vec())
        }
        4 => {
            asked = Asked::Status(&["DELETED", "NOT_FOUND"]);
            plain(
                store,
                [&b"delete "[..], &key(rng, client), b"\r\n"].concat(),
            )
        }
        choice => {
            let count = if choice <= 7 { 1 } else { 2 + rng.below(9) };
            let keys: Vec<Vec<u8>> = (0..count).map(|_| key(rng, client)).collect();
            let mut line = b"get".to_vec();
            for key in &keys {
                line.extend([&b" "[..], key].concat());
            }
            asked = Asked::Values(keys);
            line.extend(b"\r\n");
            plain(store, line)
        }
    };
    out.requests.extend(request);
    if !noreply {
        out.expected.extend(reply);
        out.replies += 1;
        out.asked.push(asked);
    }
}

fn plain(store: &mut Store, request: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let (_, reply) = memcached(store, &request).unwrap();
    (request, reply)
}

fn redis_request(
    rng: &mut Rng,
    client: usize,
    shape: &Shape,
    n: usize,
    store: &mut Store,
    out: &mut Traffic,
) {
    let large = |rng: &mut Rng| shape.many_keys_one_in > 0 && rng.one_in(shape.many_keys_one_in);
    let many = |rng: &mut Rng, name: &[u8]| {
        let most = if large(rng) { 1_500 } else { 9 };
        let keys: Vec<Vec<u8>> = (0..2 + rng.below(most)).map(|_| key(rng, client)).collect();
        let mut args: Vec<&[u8]> = vec![name];
        args.extend(keys.iter().map(Vec::as_slice));
        (resp(&args), keys)
    };
    let (request, asked) = match rng.below(12) {
        0..=2 => {
            let key = key(rng, client);
            let value = value(rng, &key, shape, n);
            (resp(&[b"SET", &key, &value]), Asked::Status(&["+OK"]))
        }
        3..=5 => {
            let key = key(rng, client);
            (resp(&[b"get", &key]), Asked::Values(vec![key]))
        }
        6 | 7 => {
            let (request, keys) = many(rng, b"MGET");
            (request, Asked::Values(keys))
        }
        8 => {
            let most = if large(rng) { 40 } else { 3 };
            let pairs: Vec<(Vec<u8>, Vec<u8>)> = (0..2 + rng.below(most))
                .map(|_| {
                    let key = key(rng, client);
                    let value = if shape.many_keys_one_in > 0 {
                        value(rng, &key, shape, n)
                    } else {
                        [&b"["[..], &key, format!("#{n}]").as_bytes()].concat()
                    };
                    (key, value)
                })
                .collect();
            let mut args: Vec<&[u8]> = vec![b"mset"];
            for (key, value) in &pairs {
                args.extend([key.as_slice(), value.as_slice()]);
            }
            (resp(&args), Asked::Status(&["+OK"]))
        }
        9 => (many(rng, b"DEL").0, Asked::Status(&[":"])),
        10 => (many(rng, b"EXISTS").0, Asked::Status(&[":"])),
        _ => {
            let (request, reply, asked): (Vec<u8>, &[u8], _) = if rng.one_in(2) {
                (resp(&[b"PING"]), b"+PONG\r\n", Asked::Status(&["+PONG"]))
            } else {
                (
                    resp(&[b"GET", b"a", b"b"]),
                    b"-ERR wrong number of arguments for 'get' command\r\n",
                    Asked::Status(&["-ERR wrong number of arguments for 'get' command"]),
                )
            };
            out.requests.extend(request);
            out.expected.extend(reply);
            out.replies += 1;
            out.asked.push(asked);
            return;
        }
    };
    let (_, reply) = redis(store, &request).unwrap();
    out.requests.extend(request);
    out.expected.extend(reply);
    out.replies += 1;
    out.asked.push(asked);
}
