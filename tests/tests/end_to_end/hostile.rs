//! Frames that nobody should send. They are dropped and counted; clients do not notice.

use std::net::{IpAddr, Ipv4Addr};
use tidegate_tests::client::resp::Value;
use tidegate_tests::config::LabConfig;
use tidegate_tests::frames::{IP_AT, Segment, TCP_AT, Wire, fix_checksums, flag, mac_of};
use tidegate_tests::lab::addresses::{self, Family, REDIS_PORT};
use tidegate_tests::lab::topology::CLIENT_SIDE;
use tidegate_tests::lab::{Lab, LabOptions};
use tidegate_tests::random::Random;
use tidegate_tests::scene::{Scene, memcached_client, redis_client};

/// A host of the client leg that does not exist: nobody answers for it, so its connections stay as the test leaves them.
fn stranger(random: &mut Random) -> (Ipv4Addr, u16) {
    (
        Ipv4Addr::new(10, 77, 1, 150 + random.below(100) as u8),
        1_024 + random.below(60_000) as u16,
    )
}

fn vip() -> Ipv4Addr {
    match addresses::vip(Family::V4) {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("asked for IPv4"),
    }
}

/// A sound SYN from a stranger to the Redis pool.
fn syn(macs: ([u8; 6], [u8; 6]), random: &mut Random) -> Segment {
    Segment {
        macs,
        source: stranger(random),
        destination: (vip(), REDIS_PORT),
        sequence: random.bits() as u32,
        acknowledgement: 0,
        flags: flag::SYN,
        payload: Vec::new(),
    }
}

/// Traffic of both protocols that has to succeed.
fn others_are_served(scene: &Scene) {
    scene.on_client(|| {
        for number in 0..16 {
            assert_eq!(
                redis_client(Family::V4)
                    .words(&format!("SET h{number} x"))
                    .unwrap(),
                Value::ok()
            );
            assert_eq!(
                memcached_client(Family::V4)
                    .set(format!("h{number}").as_bytes(), 0, b"x")
                    .unwrap(),
                "STORED"
            );
        }
    });
}

fn macs(scene: &Scene, wire: &Wire) -> ([u8; 6], [u8; 6]) {
    (
        wire.own_mac,
        mac_of(&scene.lab().hosts.appliance, CLIENT_SIDE).unwrap(),
    )
}

/// Every frame that a worker took in was delivered or dropped for one counted reason.
fn counters_add_up(scene: &mut Scene) {
    for worker in 0..2 {
        scene.wait_for_status("counters that add up", |status| {
            let parts = status.stack_counters(worker).into_iter();
            let parts =
                parts.filter(|(name, _)| name.starts_with("frames_") && name != "frames_in");
            parts.map(|(_, count)| count).sum::<u64>() == status.stack(worker, "frames_in")
        });
    }
}

#[test]
fn a_syn_flood_fills_a_bounded_table_and_clients_still_connect() {
    const FLOOD: usize = 20_000;
    let configure = |lab: &Lab| LabConfig::new(lab, Family::V4).worker("half_open_max = 256");
    let Some(mut scene) = Scene::raise_lab(LabOptions::default(), configure) else {
        return;
    };
    let before = scene.appliance.status().unwrap().workers();
    let wire = scene.on_client(|| Wire::open("eth0").unwrap());
    let macs = macs(&scene, &wire);
    let mut random = Random::new(1);
    for sent in 0..FLOOD {
        wire.send(&syn(macs, &mut random).to_frame()).unwrap();
        if sent % 2_000 == 0 {
            others_are_served(&scene);
        }
    }
    others_are_served(&scene);
    let status = scene.wait_for_status("evicted handshakes", |status| {
        (0..2).all(|worker| status.stack(worker, "half_open_evicted") > 0)
    });
    for worker in 0..2 {
        assert!(
            status.stack(worker, "half_open") <= 256,
            "worker {worker} keeps more handshakes than it may"
        );
    }
    counters_add_up(&mut scene);
    assert_eq!(
        scene.appliance.status().unwrap().workers(),
        before,
        "a worker was started again"
    );
}

/// A sound frame and what is done to it.
type Mutation = (&'static str, fn(&mut Vec<u8>));

const MUTATIONS: &[Mutation] = &[
    ("nothing but an Ethernet header", |frame| {
        frame.truncate(IP_AT);
    }),
    ("half an IP header", |frame| frame.truncate(IP_AT + 10)),
    ("half a TCP header", |frame| frame.truncate(TCP_AT + 10)),
    ("an IP length beyond the frame", |frame| {
        frame[IP_AT + 2..IP_AT + 4].copy_from_slice(&[0xff, 0xff]);
        fix_checksums(frame);
    }),
    ("an IP length below its header", |frame| {
        frame[IP_AT + 2..IP_AT + 4].copy_from_slice(&[0, 3]);
        fix_checksums(frame);
    }),
    ("a wrong IP checksum", |frame| frame[IP_AT + 10] ^= 0xff),
    ("a wrong TCP checksum", |frame| frame[TCP_AT + 16] ^= 0xff),
    ("a TCP header of no words", |frame| {
        frame[TCP_AT + 12] = 0;
        fix_checksums(frame);
    }),
    ("a TCP header longer than the frame", |frame| {
        frame[TCP_AT + 12] = 0xf0;
        fix_checksums(frame);
    }),
    ("every flag", |frame| {
        frame[TCP_AT + 13] = 0xff;
        fix_checksums(frame);
    }),
    ("no flag", |frame| {
        frame[TCP_AT + 13] = 0;
        fix_checksums(frame);
    }),
    ("an acknowledgement of nothing", |frame| {
        frame[TCP_AT + 13] = flag::ACK;
        fix_checksums(frame);
    }),
    ("a FIN to nobody", |frame| {
        frame[TCP_AT + 13] = flag::FIN | flag::ACK;
        fix_checksums(frame);
    }),
    ("a RST to nobody", |frame| {
        frame[TCP_AT + 13] = flag::RST;
        fix_checksums(frame);
    }),
    ("an option without end", |frame| {
        frame.extend([2, 0, 0, 0]);
        frame[TCP_AT + 12] = 0x60;
        frame[IP_AT + 3] += 4;
        fix_checksums(frame);
    }),
    ("an option longer than the header", |frame| {
        frame.extend([2, 200, 5, 180]);
        frame[TCP_AT + 12] = 0x60;
        frame[IP_AT + 3] += 4;
        fix_checksums(frame);
    }),
    ("a segment size of nothing", |frame| {
        frame.extend([2, 4, 0, 0]);
        frame[TCP_AT + 12] = 0x60;
        frame[IP_AT + 3] += 4;
        fix_checksums(frame);
    }),
    ("a broadcast as its source", |frame| {
        frame[IP_AT + 12..IP_AT + 16].fill(0xff);
        fix_checksums(frame);
    }),
    ("the proxy as its source", |frame| {
        frame[IP_AT + 12..IP_AT + 16].copy_from_slice(&vip().octets());
        fix_checksums(frame);
    }),
    ("a first fragment", |frame| {
        frame[IP_AT + 6] = 0x20;
        fix_checksums(frame);
    }),
    ("a later fragment", |frame| {
        frame[IP_AT + 7] = 5;
        fix_checksums(frame);
    }),
    ("data beside its SYN", |frame| {
        frame.extend(b"*1\r\n$4\r\nPING\r\n");
        frame[IP_AT + 3] += 14;
        fix_checksums(frame);
    }),
];

#[test]
fn hostile_frames_are_dropped_and_counted() {
    let Some(mut scene) = Scene::usual() else {
        return;
    };
    let before = scene.appliance.status().unwrap().workers();
    let wire = scene.on_client(|| Wire::open("eth0").unwrap());
    let macs = macs(&scene, &wire);
    let mut random = Random::new(2);
    for (name, mutate) in MUTATIONS {
        for _ in 0..20 {
            let mut frame = syn(macs, &mut random).to_frame();
            mutate(&mut frame);
            wire.send(&frame)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    for _ in 0..20_000 {
        let mut frame = syn(macs, &mut random).to_frame();
        let noise = random.below(60);
        frame.extend(random.bytes(noise));
        for _ in 0..=random.below(4) {
            let at = IP_AT + random.below(frame.len() - IP_AT);
            frame[at] = random.bits() as u8;
        }
        if random.below(2) == 0 {
            fix_checksums(&mut frame);
        }
        if random.below(4) == 0 {
            frame.truncate(IP_AT + random.below(frame.len() - IP_AT));
        }
        wire.send(&frame).unwrap();
    }
    others_are_served(&scene);
    counters_add_up(&mut scene);
    let status = scene.appliance.status().unwrap();
    let dropped = |name: &str| status.stack(0, name) + status.stack(1, name);
    assert!(
        dropped("frames_bad_checksum") >= 20,
        "wrong checksums were not counted: {:#}",
        status.0
    );
    assert_eq!(status.workers(), before, "a worker was started again");
}
