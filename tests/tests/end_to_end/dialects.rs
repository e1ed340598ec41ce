//! memcached's dialects against the real thing: the same random requests, text, meta and binary, bring the same bytes through the
//! proxy, from one server and from three.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::Command;
use tidegate_tests::both_drivers;
use tidegate_tests::client::Connection;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::random::Random;
use tidegate_tests::scene::Scene;

const RUNS: u64 = 6;
const REQUESTS: usize = 400;

const NOOP: u8 = 0x0a;
const VERSION: u8 = 0x0b;
const HEADER_BYTES: usize = 24;
/// Where the cas unique stands, which counts up over all that a server stores.
const CAS: std::ops::Range<usize> = 16..24;
/// The opaque of the noop that ends a run.
const LAST: u32 = 0xffff_ffff;

fn key(random: &mut Random) -> String {
    format!("k{}", random.below(12))
}

fn value(random: &mut Random) -> Vec<u8> {
    let bytes = match random.below(12) {
        0 => 0,
        1 => 20_000 + random.below(60_000),
        2..4 => 1_000 + random.below(2_000),
        _ => random.below(64),
    };
    random.bytes(bytes)
}

fn frame(opcode: u8, extras: &[u8], key: &str, value: &[u8], opaque: u32) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut frame = vec![0x80, opcode];
    frame.extend((key.len() as u16).to_be_bytes());
    frame.extend([extras.len() as u8, 0, 0, 0]);
    frame.extend(body.to_be_bytes());
    frame.extend(opaque.to_be_bytes());
    frame.extend([0; 8]);
    [&frame, extras, key.as_bytes(), value].concat()
}

fn binary_request(random: &mut Random) -> Vec<u8> {
    let opaque = random.below(1 << 30) as u32;
    let key = key(random);
    // Loud or quiet: the tables of opcodes are in pairs.
    let mut either = |loud, quiet| if random.below(2) == 0 { loud } else { quiet };
    let number = |delta: u8, expires: u8| {
        let mut extras = [0; 20];
        (extras[7], extras[15]) = (delta, 10);
        extras[16..].fill(expires);
        extras
    };
    match either(0, 1) + 2 * (opaque % 7) as u8 {
        0 | 1 => {
            let opcode = [(0x01, 0x11), (0x02, 0x12), (0x03, 0x13)][opaque as usize % 3];
            let opcode = either(opcode.0, opcode.1);
            frame(
                opcode,
                &[0, 0, 0, 5, 0, 0, 0, 0],
                &key,
                &value(random),
                opaque,
            )
        }
        2 => frame(either(0x0e, 0x19), b"", &key, b"tail", opaque),
        3 => frame(either(0x0f, 0x1a), b"", &key, b"head", opaque),
        4 => frame(either(0x04, 0x14), b"", &key, b"", opaque),
        5 => frame(either(0x05, 0x15), &number(3, 0), "n", b"", opaque),
        6 => frame(either(0x06, 0x16), &number(5, 0xff), &key, b"", opaque),
        7 => frame(either(0x1d, 0x1e), &[0, 0, 3, 0xe8], &key, b"", opaque),
        8 => frame(either(0x23, 0x24), &[0, 0, 3, 0xe8], &key, b"", opaque),
        9 => frame(0x1c, &[0, 0, 3, 0xe8], &key, b"", opaque),
        10 => frame(either(NOOP, VERSION), b"", "", b"", opaque),
        11 => frame(either(0x00, 0x09), b"", &key, b"", opaque),
        _ => frame(either(0x0c, 0x0d), b"", &key, b"", opaque),
    }
}

/// Flags of a meta command whose answers do not depend on the time, in random order.
fn flags(random: &mut Random, choice: &[&str]) -> String {
    let mut all: Vec<String> = choice.iter().map(|&flag| flag.to_owned()).collect();
    all.push(format!("O{}", random.below(1_000)));
    let mut flags = String::new();
    while !all.is_empty() {
        let flag = all.swap_remove(random.below(all.len()));
        if random.below(2) == 0 {
            flags += " ";
            flags += &flag;
        }
    }
    flags
}

fn meta_request(random: &mut Random) -> Vec<u8> {
    let key = key(random);
    match random.below(12) {
        0..4 => {
            let mode = ["", " ME", " MA", " MP", " MR", " MS"][random.below(6)];
            let flags = flags(random, &["q", "k", "F7", "T0", "I"]);
            let value = value(random);
            let head = format!("ms {key} {}{mode}{flags}\r\n", value.len());
            [head.as_bytes(), &value, b"\r\n"].concat()
        }
        4 => format!("md {key}{}\r\n", flags(random, &["q", "k"])).into_bytes(),
        5 => format!(
            "ma {key}{}\r\n",
            flags(random, &["q", "v", "k", "D7", "MD"])
        )
        .into_bytes(),
        // Counting down never costs it a digit, in whose place it would get a blank if nobody reads it at that moment.
        6 => format!("ms {key} 7 q\r\n{}\r\n", 1_500_000 + random.below(90)).into_bytes(),
        7 => [
            "mn\r\n",
            "mg\r\n",
            "mg a q q\r\n",
            "ma k M\r\n",
            "me nosuch\r\n",
            "mx\r\n",
            "mg k !\r\n",
        ][random.below(7)]
        .into(),
        8 => {
            // The key k1 to k3 in base64.
            let key = ["azE=", "azI=", "azM="][random.below(3)];
            format!(
                "mg {key} b{}\r\n",
                flags(random, &["q", "v", "k", "f", "s"])
            )
            .into_bytes()
        }
        9 => format!("get {key} {} {key}\r\n", self::key(random)).into_bytes(),
        _ => format!(
            "mg {key}{}\r\n",
            flags(random, &["q", "v", "k", "f", "s", "u"])
        )
        .into_bytes(),
    }
}

/// Sends `requests` cut at random places while `read` takes what comes back.
fn play(to: SocketAddr, requests: &[u8], seed: u64, read: Read) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut connection = Connection::open(to).unwrap();
    let mut sender = connection.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut rest = requests;
            while !rest.is_empty() {
                let most = *random.pick(&[1, 3, 30, 1_500, 10_000]);
                let (now, later) = rest.split_at((1 + random.below(most)).min(rest.len()));
                sender.write_all(now).unwrap();
                rest = later;
            }
        });
        read(&mut connection).unwrap()
    })
}

type Read = fn(&mut Connection) -> io::Result<Vec<u8>>;

/// Everything up to the last noop, without what differs between two runs.
fn binary_replies(connection: &mut Connection) -> io::Result<Vec<u8>> {
    let mut replies = Vec::new();
    loop {
        let mut header = connection.exactly(HEADER_BYTES)?;
        header[CAS].fill(0);
        let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        replies.extend(&header);
        replies.extend(connection.exactly(body as usize)?);
        if header[1] == NOOP && header[12..16] == LAST.to_be_bytes() {
            return Ok(replies);
        }
    }
}

/// Everything up to the reply of the `version` that ends each run.
fn text_replies(connection: &mut Connection) -> io::Result<Vec<u8>> {
    let mut replies = Vec::new();
    loop {
        let line = connection.line()?;
        let words: Vec<&[u8]> = line.trim_ascii_end().split(|&byte| byte == b' ').collect();
        let bytes = match words[..] {
            [b"VERSION", ..] => return Ok(replies),
            [b"VA", bytes, ..] | [b"VALUE", _, _, bytes, ..] => Some(bytes),
            _ => None,
        };
        let bytes = bytes.map(|bytes| String::from_utf8_lossy(bytes).parse::<usize>().unwrap());
        replies.extend(&line);
        if let Some(bytes) = bytes {
            replies.extend(connection.exactly(bytes + 2)?);
        }
    }
}

/// Plays the same requests to one server and to the pool, whose servers all start empty.
fn compare(scene: &mut Scene, request: fn(&mut Random) -> Vec<u8>, last: &[u8], read: Read) {
    let servers: Vec<SocketAddr> = scene
        .servers(ServerKind::Memcached)
        .iter()
        .map(|server| server.address(Family::V4))
        .collect();
    let proxy = scene.plan().pool(ServerKind::Memcached, Family::V4);
    let empty = || {
        for &server in &servers {
            let mut client = Memcached::open(server).unwrap();
            assert_eq!(client.line("flush_all").unwrap(), "OK");
        }
    };
    for seed in 0..RUNS {
        let mut random = Random::new(seed);
        let mut requests: Vec<u8> = (0..REQUESTS).flat_map(|_| request(&mut random)).collect();
        requests.extend(last);
        scene.on_server(empty);
        let direct = scene.on_server(|| play(servers[0], &requests, seed, read));
        scene.on_server(empty);
        let proxied = scene.on_client(|| play(proxy, &requests, seed + 1_000, read));
        let differs = proxied.iter().zip(&direct).position(|(a, b)| a != b);
        let at = differs.unwrap_or(proxied.len().min(direct.len()));
        let near = |bytes: &[u8]| {
            let shown = bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())].escape_ascii();
            shown.to_string()
        };
        assert!(
            proxied == direct,
            "seed {seed}: replies differ at byte {at} (lengths {} and {}):\nproxied: {}\ndirect:  {}",
            proxied.len(),
            direct.len(),
            near(&proxied),
            near(&direct)
        );
    }
}

fn one_server() -> LabOptions {
    LabOptions {
        memcached: 1,
        redis: 0,
        ..LabOptions::default()
    }
}

fn three_servers() -> LabOptions {
    LabOptions {
        redis: 0,
        ..LabOptions::default()
    }
}

fn random_frames(scene: &mut Scene) {
    compare(
        scene,
        binary_request,
        &frame(NOOP, b"", "", b"", LAST),
        binary_replies,
    );
}

fn random_meta_commands(scene: &mut Scene) {
    compare(scene, meta_request, b"version\r\n", text_replies);
}

both_drivers!(
    random_frames_bring_the_same_bytes_as_the_server_itself,
    one_server(),
    |stage| LabConfig::new(stage, Family::V4),
    random_frames
);

both_drivers!(
    random_frames_to_three_servers_bring_what_one_would,
    three_servers(),
    |stage| LabConfig::new(stage, Family::V4),
    random_frames
);

both_drivers!(
    random_meta_commands_bring_the_same_bytes_as_the_server_itself,
    one_server(),
    |stage| LabConfig::new(stage, Family::V4),
    random_meta_commands
);

both_drivers!(
    random_meta_commands_to_three_servers_bring_what_one_would,
    three_servers(),
    |stage| LabConfig::new(stage, Family::V4),
    random_meta_commands
);

both_drivers!(
    memccapable_finds_nothing_wrong_in_text,
    three_servers(),
    |stage| LabConfig::new(stage, Family::V4),
    |scene| memccapable(scene, "-a")
);

both_drivers!(
    memccapable_finds_nothing_wrong_in_binary,
    three_servers(),
    |stage| LabConfig::new(stage, Family::V4),
    |scene| memccapable(scene, "-b")
);

/// Runs libmemcached's test of servers, where it is installed.
fn memccapable(scene: &mut Scene, dialect: &str) {
    let pool = scene.plan().pool(ServerKind::Memcached, Family::V4);
    let (host, port) = (pool.ip().to_string(), pool.port().to_string());
    let outcome = scene.on_client(|| {
        Command::new("memccapable")
            .args(["-h", &host, "-p", &port, dialect])
            .output()
    });
    let output = match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return eprintln!("skipped: memccapable is not installed");
        }
        outcome => outcome.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("[FAIL]"),
        "{said}"
    );
    assert!(said.contains("[pass]"), "{said}");
}
