//! `tidegate capture`: both directions of what passes the ports, and nothing that it does can harm a worker.

use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidegate_tests::client::HANG_GUARD;
use tidegate_tests::client::resp::Value;
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::process::Process;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::lab::{LabOptions, program};
use tidegate_tests::scene::{self, Scene, redis_vip};
use tidegate_tests::stage::{Driver, Role};

/// A captured frame.
struct Frame {
    interface: u32,
    outbound: bool,
    wire_bytes: usize,
    bytes: Vec<u8>,
}

/// A segment of TCP over IPv4.
struct Segment<'a> {
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

const SYN: u8 = 2;

/// The frames of a pcapng file as far as it is whole, and the names of its interfaces.
fn frames(file: &Path) -> (Vec<Frame>, Vec<String>) {
    let text = std::fs::read(file).unwrap_or_default();
    let (mut frames, mut names) = (Vec::new(), Vec::new());
    let mut rest = &text[..];
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..at + 4).map(|word| word.try_into().unwrap());
        word.map(u32::from_le_bytes)
    };
    while let (Some(kind), Some(length)) = (word(rest, 0), word(rest, 4)) {
        let Some(block) = rest.get(..length as usize) else {
            break;
        };
        match kind {
            1 => {
                let bytes = usize::from(u16::from_le_bytes([block[18], block[19]]));
                names.push(String::from_utf8(block[20..20 + bytes].to_vec()).unwrap());
            }
            6 => {
                let captured = word(block, 20).unwrap() as usize;
                let options = (28 + captured).next_multiple_of(4);
                frames.push(Frame {
                    interface: word(block, 8).unwrap(),
                    outbound: word(block, options + 4) == Some(2),
                    wire_bytes: word(block, 24).unwrap() as usize,
                    bytes: block[28..28 + captured].to_vec(),
                });
            }
            _ => {}
        }
        rest = &rest[length as usize..];
    }
    (frames, names)
}

fn segment(frame: &Frame) -> Segment<'_> {
    let ip = &frame.bytes[14..];
    let tcp = &ip[20..];
    let address = |at: usize, port: usize| -> SocketAddr {
        let ip = Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        SocketAddrV4::new(ip, u16::from_be_bytes([tcp[port], tcp[port + 1]])).into()
    };
    let end = usize::from(u16::from_be_bytes([ip[2], ip[3]])).min(ip.len());
    let payload = 20 + usize::from(tcp[12] >> 4) * 4;
    Segment {
        source: address(12, 0),
        destination: address(16, 2),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        flags: tcp[13],
        payload: ip.get(payload..end).unwrap_or_default(),
    }
}

/// What was said in one direction of a connection, and whether its frames went out.
fn said(frames: &[Frame], from: SocketAddr, to: SocketAddr) -> (Vec<u8>, bool) {
    let mut pieces = BTreeMap::new();
    let mut outbound = Vec::new();
    for frame in frames {
        let segment = segment(frame);
        if (segment.source, segment.destination) == (from, to) {
            outbound.push(frame.outbound);
            if segment.flags & SYN != 0 {
                pieces.insert(0, &[][..]);
            } else if !segment.payload.is_empty() {
                pieces.insert(segment.sequence, segment.payload);
            }
        }
    }
    assert!(!outbound.is_empty(), "nothing from {from} to {to}");
    assert!(pieces.contains_key(&0), "the beginning from {from} to {to}");
    assert!(outbound.iter().all(|way| *way == outbound[0]));
    (
        pieces.into_values().flatten().copied().collect(),
        outbound[0],
    )
}

/// A running `tidegate capture` of the Redis pool.
struct Capturing {
    process: Process,
    file: PathBuf,
}

impl Capturing {
    fn start(scene: &Scene, name: &str, file: &Path, more: &[&str]) -> Self {
        let tidegate = program("tidegate").unwrap();
        let mut words = vec![tidegate.to_str().unwrap(), "capture", "--pool", "redis"];
        words.extend(["--name", scene.stage().name(), "-w", file.to_str().unwrap()]);
        words.extend(more);
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let host = scene.stage().host(Role::Appliance);
        let process = Process::start(host, scene.stage().directory(), name, None, &words).unwrap();
        Self {
            process,
            file: file.to_owned(),
        }
    }

    /// Asks from both workers until frames of both are in the file: from then on nothing is missed.
    fn wait_until_it_sees(&mut self, scene: &mut Scene) {
        let started = Instant::now();
        let mut connections =
            [0, 1].map(|worker| scene.connection_of(worker, 7, redis_vip(Family::V4)));
        loop {
            for connection in &mut connections {
                connection
                    .send(b"*2\r\n$3\r\nGET\r\n$5\r\nprobe\r\n")
                    .unwrap();
                assert_eq!(connection.line().unwrap(), b"$-1\r\n");
            }
            let (frames, names) = frames(&self.file);
            let of_worker = |worker: u32| {
                let suffix = format!(":{worker}");
                let name = |frame: &Frame| names[frame.interface as usize].clone();
                frames.iter().any(|frame| name(frame).ends_with(&suffix))
            };
            if of_worker(0) && of_worker(1) {
                return;
            }
            assert!(
                started.elapsed() < HANG_GUARD && self.process.ended().is_none(),
                "nothing is captured: {}",
                self.process.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        self.process.signal(signal);
        let ended = self.process.wait(HANG_GUARD).expect("it ends");
        ended.code()
    }
}

/// A dialogue with a secret in it, on a connection of its own; returns the client's address.
fn converse(scene: &Scene) -> SocketAddr {
    scene.on_client(|| {
        let mut client = scene::redis_client(Family::V4);
        assert_eq!(client.words("SET k hunter2").unwrap(), Value::ok());
        assert_eq!(client.words("GET k").unwrap(), Value::bulk(b"hunter2"));
        client.connection.stream().local_addr().unwrap()
    })
}

const REQUESTS: &[u8] =
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$7\r\nhunter2\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
const REPLIES: &[u8] = b"+OK\r\n$7\r\nhunter2\r\n";

#[test]
fn both_directions_of_a_conversation_are_in_the_file() {
    let Some(mut scene) = Scene::usual() else {
        return;
    };
    let vip = redis_vip(Family::V4);
    let file = scene.stage().directory().join("whole.pcapng");
    let mut capture = Capturing::start(&scene, "whole", &file, &["--snaplen", "2000"]);
    capture.wait_until_it_sees(&mut scene);
    let client = converse(&scene);
    assert_eq!(
        capture.end(Signal::SIGINT),
        Some(0),
        "{}",
        capture.process.log_text()
    );
    assert!(
        capture.process.log_text().contains(" frames\n"),
        "{}",
        capture.process.log_text()
    );
    let (whole, names) = frames(&file);
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(said(&whole, client, vip), (REQUESTS.to_vec(), false));
    assert_eq!(said(&whole, vip, client), (REPLIES.to_vec(), true));
    // And on to the server that owns the key.
    let servers = scene.servers(ServerKind::Redis).iter();
    let servers: Vec<SocketAddr> = servers.map(|server| server.address(Family::V4)).collect();
    let with_secret = |outbound: bool| {
        whole.iter().any(|frame| {
            let segment = segment(frame);
            let server = if outbound {
                segment.destination
            } else {
                segment.source
            };
            frame.outbound == outbound
                && servers.contains(&server)
                && segment.payload.windows(7).any(|part| part == b"hunter2")
        })
    };
    assert!(with_secret(true), "the request to the server");
    assert!(with_secret(false), "the server's reply");

    // Unless somebody wants more, only headers are kept.
    let file = scene.stage().directory().join("headers.pcapng");
    let mut capture = Capturing::start(&scene, "headers", &file, &[]);
    capture.wait_until_it_sees(&mut scene);
    let client = converse(&scene);
    assert_eq!(capture.end(Signal::SIGTERM), Some(0));
    let (headers, _) = frames(&file);
    assert_eq!(said(&headers, client, vip), (Vec::new(), false));
    assert!(
        headers
            .iter()
            .any(|frame| frame.wire_bytes > frame.bytes.len())
    );
    let text = std::fs::read(&file).unwrap();
    assert!(!text.windows(7).any(|part| part == b"hunter2"));
}

#[test]
fn a_full_disk_or_a_killed_command_ends_the_capture_and_harms_nobody() {
    let Some(mut scene) = Scene::usual() else {
        return;
    };
    let pids = |scene: &Scene| -> Vec<i32> {
        let status = scene.appliance.status().unwrap();
        status.workers().iter().map(|worker| worker.pid).collect()
    };
    let before = pids(&scene);
    let full = Path::new("/dev/full");
    let mut capture = Capturing::start(&scene, "full", full, &[]);
    let ended = capture.process.wait(HANG_GUARD).expect("it ends by itself");
    let said = capture.process.log_text();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    converse(&scene);

    for name in ["killed", "next", "limited"] {
        let file = scene.stage().directory().join(format!("{name}.pcapng"));
        let more: &[&str] = if name == "limited" {
            &["--max-frames", "5"]
        } else {
            &[]
        };
        // At once, although the manager has not seen the end of the one before.
        let mut capture = Capturing::start(&scene, name, &file, more);
        if name == "limited" {
            while capture.process.ended().is_none() {
                converse(&scene);
            }
            assert_eq!(frames(&file).0.len(), 5);
            break;
        }
        capture.wait_until_it_sees(&mut scene);
        assert_eq!(capture.end(Signal::SIGKILL), None);
        converse(&scene);
    }
    assert_eq!(pids(&scene), before, "no worker has ended");
}

#[test]
fn over_kernel_sockets_tcpdump_is_named() {
    let options = LabOptions {
        memcached: 0,
        redis: 1,
        ..LabOptions::default()
    };
    scene::play(
        Driver::Kernel,
        options,
        |stage| LabConfig::new(stage, Family::V4),
        |scene| {
            let file = scene.stage().directory().join("none.pcapng");
            let name = scene.stage().name();
            let words = [
                "capture",
                "--pool",
                "redis",
                "--name",
                name,
                "-w",
                file.to_str().unwrap(),
            ];
            let output = scene.appliance.ask(&words).unwrap();
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("use tcpdump -i any"), "{said}");
            assert!(!file.exists());
        },
    );
}
