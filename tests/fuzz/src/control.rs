//! What manager and worker say to each other, and what they pass: each from the mouth of a process that somebody else has taken over.
//!
//! Every packet is a message or a named error; every payload file likewise. What was understood, said again, is the same.

use crate::bends::Input;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::SendFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use tidegate_channel::capture::CaptureOrder;
use tidegate_channel::control::{ControlError, ControlSocket, MESSAGE_BYTES_MAX};
use tidegate_channel::keys::{BigEntry, HotEntry, KeysSeen, ToldKey, WatchKeys};
use tidegate_channel::message::{
    Announce, Envelope, FromWorker, Handover, NeighbourSeen, ObtainedMode, Oracle, PortFacts,
    StartDescriptors, ToWorker, UserIds, WorkerStart,
};
use tidegate_channel::payload;
use tidegate_channel::slow::{SlowEnd, SlowEntry};
use tidegate_config::Config;

/// Descriptors that come with a payload, at most.
const DESCRIPTORS: usize = 12;

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what we say can be said")
}

fn from_worker() -> &'static [Vec<u8>] {
    static MESSAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let modes = vec![ObtainedMode::ZeroCopy, ObtainedMode::Generic];
        let key = ToldKey {
            pool: "sessions".into(),
            key: "a\\xff".into(),
            key_bytes: 2,
            hash: 7,
        };
        let slow = SlowEntry {
            taken_unix_us: 1,
            client: "192.0.2.1:1".into(),
            pool: "sessions".into(),
            server: Some("a".into()),
            command: "get".into(),
            key: "k".into(),
            key_bytes: 1,
            request_bytes: 9,
            reply_bytes: 5,
            queue_us: 1,
            server_us: 2,
            turn_us: 3,
            client_us: 4,
            end: SlowEnd::Replied,
        };
        let messages = [
            FromWorker::Sockets {
                modes: modes.clone(),
            },
            FromWorker::Ready,
            FromWorker::Acknowledged { generation: 3 },
            FromWorker::Slow {
                entries: vec![slow; 2],
                lost: 1,
            },
            FromWorker::Handover(Handover {
                protocol: 1,
                version: "0.1.0".into(),
                pid: 17,
                generation: 4,
                modes,
            }),
            FromWorker::Kept,
            FromWorker::Refused {
                generation: 2,
                reason: "no memory".into(),
            },
            FromWorker::Keys(KeysSeen {
                id: 1,
                passed: 2,
                counted: 1,
                floor: 0,
                hot: vec![HotEntry {
                    key: key.clone(),
                    count: 1,
                    error: 0,
                }],
                big: vec![BigEntry {
                    key,
                    bytes: 9,
                    command: "set".into(),
                }],
                last: true,
            }),
            FromWorker::ServerSilent {
                address: [192, 0, 2, 1].into(),
            },
            FromWorker::Neighbour(NeighbourSeen {
                port: 0,
                address: IpAddr::from([192, 0, 2, 7]),
                mac: Some([2; 6]),
            }),
            FromWorker::Failed {
                reason: "gone".into(),
                permanent: false,
            },
        ];
        messages.iter().map(text).collect()
    })
}

fn to_worker() -> &'static [Vec<u8>] {
    static MESSAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let messages = [
            ToWorker::Start,
            ToWorker::Drain { deadline_ms: 9 },
            ToWorker::Prepare { opened: vec![0, 1] },
            ToWorker::LogLevel {
                filter: "info".into(),
            },
            ToWorker::WatchKeys(WatchKeys {
                id: 1,
                pool: Some(0),
                sample: 1,
                lasts_ms: 1_000,
                seed: 5,
            }),
            ToWorker::EndCapture { id: 1 },
            ToWorker::Announce(Announce {
                port: 0,
                mac: [2; 6],
                addresses: vec![IpAddr::from([192, 0, 2, 8])],
            }),
            ToWorker::Ping,
        ];
        let messages = messages.into_iter().map(|message| Envelope {
            generation: 1,
            message,
        });
        messages.map(|envelope| text(&envelope)).collect()
    })
}

fn payloads() -> &'static [Vec<u8>] {
    static PAYLOADS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PAYLOADS.get_or_init(|| {
        let start = |port: &str| {
            let pool = "[[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.1:1\"\nservers = [\"192.0.2.2:1\"]\n";
            let config = Config::parse(&format!("[[port]]\n{port}\n{pool}"), "fuzz");
            text(&WorkerStart {
                config: config.expect("the configuration is sound"),
                worker: 0,
                workers: 2,
                core: Some(1),
                ports: vec![PortFacts {
                    ifindex: 2,
                    queue: 0,
                    mac: [2; 6],
                    mtu_bytes: 1_500,
                    generic: false,
                    oracle: Oracle::Toeplitz {
                        key: vec![1; 40],
                        indirection: vec![0, 1],
                    },
                }],
                shared_listeners: vec![0],
                user: Some(UserIds {
                    name: "nobody".into(),
                    uid: 65_534,
                    gid: 65_534,
                }),
                seed: 1,
                orphans: Vec::new(),
                timestamps_us: 0,
            })
        };
        let order = CaptureOrder {
            id: 1,
            addresses: vec!["192.0.2.1:1".parse().expect("an address")],
            snaplen: None,
            rate: 1_000,
            lasts_ms: 60_000,
        };
        vec![
            start("interface = \"eth1\""),
            start("driver = \"kernel\"\nworkers = 2"),
            text(&order),
        ]
    })
}

/// One packet, from a socket to what is made of it.
fn hear<T>(packet: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let (ours, theirs) = ControlSocket::pair().expect("there are descriptors");
    ours.set_nonblocking().expect("it is a socket");
    rustix::net::send(&theirs, packet, SendFlags::empty()).expect("there is room");
    match ours.receive::<T>() {
        Ok((message, descriptors)) => {
            assert!(descriptors.is_empty());
            let again: T = serde_json::from_slice(&text(&message)).expect("said again");
            assert_eq!(again, message);
        }
        Err(ControlError::TooLarge) => assert!(packet.len() > MESSAGE_BYTES_MAX),
        Err(ControlError::Closed) => assert!(packet.is_empty()),
        Err(ControlError::Malformed(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A file with these bytes, which may change later unless it is sealed.
fn file(bytes: &[u8], sealed: bool) -> OwnedFd {
    let file = rustix::fs::memfd_create("fuzz", MemfdFlags::ALLOW_SEALING).expect("memory");
    let mut file = File::from(file);
    file.write_all(bytes).expect("there is memory");
    if sealed {
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, all).expect("it can be sealed");
    }
    file.into()
}

fn read_payload(bytes: &[u8], sealed: bool, descriptors: usize) {
    let again = |bytes| payload::read::<CaptureOrder>(file(bytes, sealed));
    assert!(sealed || again(bytes).is_err(), "it could change");
    if let Ok(order) = again(bytes) {
        assert_eq!(again(&text(&order)).expect("said again"), order);
    }
    if let Ok(start) = payload::read::<WorkerStart>(file(bytes, sealed)) {
        let again = payload::read::<WorkerStart>(file(&text(&start), true));
        assert_eq!(again.expect("said again"), start);
        let list: Vec<OwnedFd> = (0..descriptors).map(|_| file(b"", false)).collect();
        if let Some(sorted) = StartDescriptors::from_list(list, &start) {
            assert_eq!(sorted.into_list().len(), descriptors);
        }
    }
}

/// Reads `input` as a packet of either side, or as a payload.
///
/// # Panics
/// When a promise is broken.
pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let kind = input.byte();
    match kind % 3 {
        0 => hear::<FromWorker>(&input.bent(from_worker())),
        1 => hear::<Envelope<ToWorker>>(&input.bent(to_worker())),
        _ => {
            let descriptors = usize::from(input.byte()) % DESCRIPTORS;
            read_payload(&input.bent(payloads()), kind < 240, descriptors);
        }
    }
}
