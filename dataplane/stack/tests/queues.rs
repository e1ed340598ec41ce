//! Several workers: whose flow is it, and which source port brings the reply back.

mod common;

use common::{
    ACK, CLIENT, FIN, Handed, MACS, MemoryPort, Options, RST, SERVER, START_US, SYN, Tcp, address,
    check_sum, config, listening, path,
};
use std::collections::HashSet;
use tidegate_port::{Port, RxQueue};
use tidegate_proxy::streams::{ConnectError, ServerId, Streams};
use tidegate_stack::{QueueOracle, Stack};

const TOEPLITZ_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

fn oracles(workers: u32) -> [QueueOracle; 3] {
    let indirection = (0..128).map(|entry| entry % workers).collect();
    [
        QueueOracle::PortXor { queues: workers },
        QueueOracle::Toeplitz {
            key: TOEPLITZ_KEY.to_vec(),
            indirection,
        },
        QueueOracle::Software { workers },
    ]
}

struct Worker {
    stack: Stack,
    ports: [MemoryPort; 1],
    handed: Handed,
    now_us: u64,
}

impl Worker {
    /// Worker `worker` of the listening host.
    fn new(options: &Options, worker: u32, workers: u32) -> Self {
        let options = Options {
            worker,
            workers,
            ..options.clone()
        };
        let mut stack =
            Stack::new(config(&options, SERVER), START_US).expect("the configuration is right");
        stack.set_path(ServerId(0), Some(path(options.ipv6, SERVER)));
        Self {
            stack,
            ports: [MemoryPort::new(MACS[SERVER], 64)],
            handed: Handed::default(),
            now_us: START_US + 10,
        }
    }

    fn ingress(&mut self, frame: &[u8]) {
        self.stack.tick(self.now_us);
        let (_, tx) = self.ports[0].halves();
        self.stack.ingress(frame, 0, tx, &mut self.handed);
    }

    fn egress(&mut self) -> Vec<Tcp> {
        self.stack.egress(&mut self.ports);
        self.ports[0].rx.release();
        self.ports[0].take_sent()
    }
}

#[test]
fn source_ports_bring_replies_to_the_own_queue() {
    for ipv6 in [false, true] {
        for oracle in oracles(4) {
            let options = Options {
                ipv6,
                oracle: oracle.clone(),
                server_slots: 64,
                ..Options::default()
            };
            let mut all = HashSet::new();
            for number in 0..4 {
                let mut worker = Worker::new(&options, number, 4);
                for _ in 0..64 {
                    worker.stack.connect(ServerId(0)).expect("there are ports");
                }
                let sent = worker.egress();
                assert_eq!(sent.len(), 64);
                for syn in sent {
                    assert!((40_000..=49_999).contains(&syn.source.port()));
                    if !matches!(oracle, QueueOracle::Software { .. }) {
                        assert_eq!(oracle.owner(syn.source, syn.destination), Some(number));
                    }
                    assert!(
                        all.insert(syn.source.port()),
                        "two workers never share a port"
                    );
                }
            }
        }
    }
}

#[test]
fn source_ports_run_out_with_an_error_and_come_back_rested() {
    let options = Options {
        source_ports: (40_000, 40_007),
        ..Options::default()
    };
    let mut worker = Worker::new(&options, 0, 1);
    let ids: Vec<_> = (0..8)
        .map(|_| worker.stack.connect(ServerId(0)).expect("there are ports"))
        .collect();
    let ports: HashSet<u16> = worker
        .egress()
        .iter()
        .map(|syn| syn.source.port())
        .collect();
    assert_eq!(ports.len(), 8);
    assert_eq!(worker.stack.connect(ServerId(0)), Err(ConnectError::NoPort));
    worker.stack.abort(ids[3]);
    worker.stack.release(ids[3]);
    worker.egress();
    worker.stack.connect(ServerId(0)).expect("one came back");
}

#[test]
fn a_port_that_was_given_up_rests_for_a_turn_of_the_range() {
    let options = Options {
        source_ports: (40_000, 40_031),
        ..Options::default()
    };
    let mut worker = Worker::new(&options, 0, 1);
    let mut ports = Vec::new();
    for _ in 0..32 {
        let id = worker.stack.connect(ServerId(0)).expect("there are ports");
        ports.extend(worker.egress().iter().map(|syn| syn.source.port()));
        worker.stack.abort(id);
        worker.stack.release(id);
        worker.egress();
    }
    let different: HashSet<u16> = ports.iter().copied().collect();
    assert_eq!(different.len(), 32);
}

#[test]
fn a_frame_of_another_workers_flow_is_handed_over_and_never_reset() {
    for oracle in oracles(2) {
        let options = Options {
            oracle: oracle.clone(),
            ..Options::default()
        };
        let mut workers = [Worker::new(&options, 0, 2), Worker::new(&options, 1, 2)];
        for port in 1_000..1_064 {
            let client = address(false, CLIENT, port);
            let owner = oracle
                .owner(listening(false), client)
                .expect("these oracles know") as usize;
            for flags in [SYN, ACK] {
                let frame = Tcp {
                    sequence: 5,
                    ..Tcp::new(client, listening(false), flags)
                }
                .frame(CLIENT);
                workers[1 - owner].ingress(&frame);
                assert_eq!(workers[1 - owner].egress(), []);
                let (worker, port, handed) = workers[1 - owner]
                    .handed
                    .frames
                    .pop_front()
                    .expect("it was handed over");
                assert_eq!((worker as usize, port, &handed), (owner, 0, &frame));
                workers[owner].ingress(&handed);
                assert!(
                    workers[owner].handed.frames.is_empty(),
                    "the owner keeps it"
                );
                workers[owner].egress();
            }
        }
        for worker in &mut workers {
            let counters = worker.stack.counters();
            assert!(counters.wrong_queue > 0);
            assert_eq!(counters.wrong_queue, counters.frames_handed_over);
            check_sum(&worker.stack);
        }
    }
}

#[test]
fn a_full_hand_over_ring_is_counted() {
    let options = Options {
        oracle: QueueOracle::PortXor { queues: 2 },
        ..Options::default()
    };
    let mut worker = Worker::new(&options, 0, 2);
    worker.handed.full = true;
    let other = address(false, CLIENT, 6_377);
    worker.ingress(&Tcp::new(other, listening(false), ACK).frame(CLIENT));
    assert_eq!(worker.stack.counters().frames_hand_over_full, 1);
    check_sum(&worker.stack);
}

#[test]
fn in_software_mode_the_source_port_names_the_owner() {
    let options = Options {
        oracle: QueueOracle::Software { workers: 2 },
        ..Options::default()
    };
    let mut first = Worker::new(&options, 0, 2);
    for (port, handed) in [(44_999, 0), (45_000, 1)] {
        let reply = Tcp::new(
            address(false, CLIENT, 6_379),
            address(false, SERVER, port),
            ACK,
        );
        first.ingress(&reply.frame(CLIENT));
        assert_eq!(first.handed.frames.len(), handed);
    }
    assert_eq!(
        first.stack.counters().frames_unknown_flow,
        1,
        "an unknown flow of our own is reset"
    );
}

#[test]
fn an_unknown_flow_of_ours_is_reset_and_a_stranger_is_dropped() {
    for ipv6 in [false, true] {
        let options = Options {
            ipv6,
            ..Options::default()
        };
        let mut worker = Worker::new(&options, 0, 1);
        let client = address(ipv6, CLIENT, 1_234);
        let stray = Tcp {
            sequence: 5,
            acknowledgement: 77,
            ..Tcp::new(client, listening(ipv6), ACK)
        };
        worker.ingress(&stray.frame(CLIENT));
        let sent = worker.egress();
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (sent[0].flags & RST, sent[0].sequence, sent[0].destination),
            (RST, 77, client)
        );
        // Never a RST for a RST.
        worker.ingress(
            &Tcp {
                flags: RST,
                ..stray.clone()
            }
            .frame(CLIENT),
        );
        assert_eq!(worker.egress(), []);
        worker.ingress(
            &Tcp {
                destination: address(ipv6, SERVER, 22),
                ..stray
            }
            .frame(CLIENT),
        );
        assert_eq!(worker.egress(), []);
        let counters = worker.stack.counters();
        assert_eq!(
            (counters.frames_unknown_flow, counters.frames_not_ours),
            (2, 1)
        );
        check_sum(&worker.stack);
    }
}

#[test]
fn paths_can_be_missing_and_move() {
    let options = Options::default();
    let mut worker = Worker::new(&options, 0, 1);
    worker.stack.set_path(ServerId(0), None);
    assert_eq!(
        worker.stack.connect(ServerId(0)),
        Err(ConnectError::NoRoute)
    );
    assert_eq!(
        worker.stack.connect(ServerId(9)),
        Err(ConnectError::NoRoute)
    );
    worker
        .stack
        .set_path(ServerId(0), Some(path(false, SERVER)));
    worker
        .stack
        .connect(ServerId(0))
        .expect("there is a path again");
    worker.stack.egress(&mut worker.ports);
    assert_eq!(worker.ports[0].tx.ring.get(0)[..6], MACS[CLIENT]);
    // The router changes: living connections follow, from their next segment on.
    let mut moved = path(false, SERVER);
    moved.next_hop_mac = [2, 0, 0, 0, 0, 9];
    worker.stack.set_path(ServerId(0), Some(moved));
    worker.stack.tick(START_US + 1_100_000);
    worker.stack.egress(&mut worker.ports);
    assert_eq!(worker.ports[0].tx.ring.len(), 2);
    assert_eq!(worker.ports[0].tx.ring.get(1)[..6], moved.next_hop_mac);
}

/// How a client opens a connection.
fn opening() -> Tcp {
    Tcp {
        sequence: 9,
        ..Tcp::new(address(false, CLIENT, 1_234), listening(false), SYN)
    }
}

/// What it sends when it has got the answer.
fn after(answer: &Tcp) -> Tcp {
    Tcp {
        sequence: 10,
        acknowledgement: answer.sequence + 1,
        flags: ACK,
        ..opening()
    }
}

/// A worker whose client has opened a connection, and a request of it.
fn opened() -> (Worker, Tcp) {
    let mut worker = Worker::new(&Options::default(), 0, 1);
    worker.ingress(&opening().frame(CLIENT));
    worker.stack.egress(&mut worker.ports);
    let answer = Tcp::read(worker.ports[0].tx.ring.get(0));
    let request = Tcp {
        payload: b"hello".to_vec(),
        ..after(&answer)
    };
    (worker, request)
}

/// The frame of `segment` from the station whose address ends in `last`.
fn sent_by(segment: &Tcp, last: u8) -> Vec<u8> {
    let mut frame = segment.frame(CLIENT);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, last]);
    frame
}

/// The ends of the stations' addresses that the worker has sent to.
fn sent_to(worker: &mut Worker) -> Vec<u8> {
    worker.stack.egress(&mut worker.ports);
    let sent = worker.ports[0].take_frames();
    sent.iter().map(|frame| frame[5]).collect()
}

#[test]
fn nobody_takes_answers_away_who_does_not_know_the_connection() {
    let (mut worker, request) = opened();
    worker.ingress(&request.frame(CLIENT));
    assert_eq!(sent_to(&mut worker), [1, 1]);
    let known = Tcp {
        sequence: 15,
        payload: Vec::new(),
        ..request.clone()
    };
    let forged = |flags, by: i32| Tcp {
        sequence: known.sequence.wrapping_add_signed(by),
        flags,
        ..known.clone()
    };
    // The buffer has 4,096 bytes: within them before what is expected, and within the window behind it, a sender knows.
    for by in [-4_097, 4_097, 1 << 30, i32::MIN] {
        for flags in [ACK, FIN | ACK, SYN, SYN | ACK, RST, RST | ACK, 0] {
            worker.ingress(&sent_by(&forged(flags, by), 7));
            let bytes = Tcp {
                payload: b"forged".to_vec(),
                ..forged(flags, by.wrapping_sub(6))
            };
            if by < 0 {
                worker.ingress(&sent_by(&bytes, 7));
            }
            assert!(!sent_to(&mut worker).contains(&7), "{flags} {by}");
        }
    }
    for flags in [0, RST] {
        worker.now_us += 500_000;
        worker.ingress(&sent_by(&forged(flags, 1), 7));
        assert_eq!(
            sent_to(&mut worker),
            [1_u8].repeat(usize::from(flags == RST))
        );
    }
    // An acknowledgement that cannot be is answered, not followed.
    worker.now_us += 500_000;
    let mut wrong = forged(ACK, 0);
    wrong.acknowledgement = wrong.acknowledgement.wrapping_add(1 << 20);
    worker.ingress(&sent_by(&wrong, 7));
    assert_eq!(sent_to(&mut worker), [1]);
    check_sum(&worker.stack);
}

#[test]
fn answers_follow_a_client_that_repeats_itself_by_another_router() {
    // It hears nothing: its SYN, its request and its keep-alive come again from another station.
    let mut worker = Worker::new(&Options::default(), 0, 1);
    worker.ingress(&opening().frame(CLIENT));
    assert_eq!(sent_to(&mut worker), [1]);
    worker.ingress(&sent_by(&opening(), 7));
    worker.stack.tick(START_US + 1_100_000);
    assert_eq!(sent_to(&mut worker), [7]);

    let (mut worker, request) = opened();
    worker.ingress(&request.frame(CLIENT));
    assert_eq!(sent_to(&mut worker), [1, 1]);
    worker.ingress(&sent_by(&request, 7));
    assert_eq!(sent_to(&mut worker), [7]);
    let alive = Tcp {
        sequence: 14,
        payload: Vec::new(),
        ..request
    };
    worker.ingress(&sent_by(&alive, 8));
    assert_eq!(sent_to(&mut worker), [8]);
}

#[test]
fn answers_follow_a_client_to_its_new_ethernet_address() {
    let (mut worker, request) = opened();
    let mut frame = sent_by(&request, 7);
    worker.ingress(&frame);
    worker.stack.egress(&mut worker.ports);
    let acknowledgement = worker.ports[0].tx.ring.get(1);
    assert_eq!(acknowledgement[..6], [2, 0, 0, 0, 0, 7]);
    // A frame with a wrong checksum teaches nothing.
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 8]);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    worker.ingress(&frame);
    worker.stack.egress(&mut worker.ports);
    assert_eq!(worker.stack.counters().frames_bad_checksum, 1);
    assert_eq!(worker.ports[0].tx.ring.len(), 2);
}

/// A worker with two ports.
struct Pair {
    stack: Stack,
    ports: [MemoryPort; 2],
    handed: Handed,
    now_us: u64,
}

impl Pair {
    fn new() -> Self {
        let mut config = config(&Options::default(), SERVER);
        config.ports.push(config.ports[0].clone());
        let mut stack = Stack::new(config, START_US).expect("the configuration is right");
        stack.set_path(ServerId(0), Some(path(false, SERVER)));
        Self {
            stack,
            ports: [0, 1].map(|_| MemoryPort::new(MACS[SERVER], 64)),
            handed: Handed::default(),
            now_us: START_US,
        }
    }

    /// Has a client open a connection by the first port. Returns what it sends next.
    fn open(&mut self) -> Tcp {
        let [answers, _] = self.turn(&opening(), 0);
        after(&answers[0])
    }

    /// Takes `segment` from `port`, has a pass, and returns what left by either port.
    fn turn(&mut self, segment: &Tcp, port: usize) -> [Vec<Tcp>; 2] {
        self.now_us += 1_000_000;
        self.stack.tick(self.now_us);
        let (_, tx) = self.ports[port].halves();
        let frame = segment.frame(CLIENT);
        self.stack.ingress(&frame, port, tx, &mut self.handed);
        self.sent()
    }

    fn sent(&mut self) -> [Vec<Tcp>; 2] {
        self.stack.egress(&mut self.ports);
        self.ports.each_mut().map(MemoryPort::take_sent)
    }
}

#[test]
fn what_came_by_another_port_is_answered_by_the_flows_own() {
    let mut worker = Pair::new();
    let known = worker.open();
    worker.turn(&known, 0);
    // None of these comes from somebody who knows the connection, by the port that the forger is at.
    let forged = |by: i32, flags, bytes| Tcp {
        sequence: known.sequence.wrapping_add_signed(by),
        payload: vec![7; bytes],
        flags,
        ..known.clone()
    };
    let cases = [
        forged(500_000, SYN, 0),
        forged(-6_000, ACK, 5),
        forged(6_000, ACK, 5),
        forged(1 << 30, ACK, 0),
        forged(i32::MIN, ACK, 5),
    ];
    for segment in cases {
        let [own, other] = worker.turn(&segment, 1);
        assert_eq!(other, [], "{segment:?}");
        let [answer] = &own[..] else {
            panic!("{segment:?}: {own:?}");
        };
        assert_eq!(
            (answer.sequence, answer.acknowledgement, answer.flags),
            (known.acknowledgement, known.sequence, ACK)
        );
    }
    check_sum(&worker.stack);
}

#[test]
fn a_client_is_answered_by_the_port_that_it_moved_to() {
    let mut worker = Pair::new();
    let known = worker.open();
    // Behind a gap, which is answered at once, and by the same station.
    let request = |sequence, bytes| Tcp {
        sequence,
        payload: vec![7; bytes],
        ..known.clone()
    };
    worker.turn(&request(10, 5), 0);
    for sequence in [25, 15] {
        let [old, new] = worker.turn(&request(sequence, 10), 1);
        assert_eq!((old.len(), new.len()), (0, 1), "{sequence}");
    }
    let id = worker.stack.next_ready().expect("it was accepted");
    worker.stack.send(id, b"reply");
    let [old, new] = worker.sent();
    assert_eq!((old.len(), new.len()), (0, 1));
    check_sum(&worker.stack);
}

#[test]
fn a_server_is_answered_by_the_port_of_its_path() {
    let mut worker = Pair::new();
    worker.stack.connect(ServerId(0)).expect("there is room");
    let [opened, _] = worker.sent();
    let answer = Tcp {
        sequence: 99,
        acknowledgement: opened[0].sequence + 1,
        ..Tcp::new(opened[0].destination, opened[0].source, SYN | ACK)
    };
    let [own, other] = worker.turn(&answer, 1);
    assert_eq!((own.len(), other.len()), (1, 0));
    // Behind a gap, which is answered at once.
    let reply = Tcp {
        sequence: 110,
        flags: ACK,
        payload: b"reply".to_vec(),
        ..answer
    };
    let [own, other] = worker.turn(&reply, 1);
    assert_eq!(other, []);
    assert_eq!((own.len(), own[0].acknowledgement), (1, 100));
    assert_eq!(worker.stack.counters().answers_tx_full, 0);
    check_sum(&worker.stack);
}
