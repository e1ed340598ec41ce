//! What a worker left open when it died is ended by its successor, whether its ends have something to say or not.

mod common;

use common::{
    ACK, CLIENT, Handed, MACS, Options, RST, SERVER, SYN, Tcp, World, address, check_sum, config,
    listening, path,
};
use tidegate_channel::flows::{FlowRecord, FlowSlots, FlowsWriter};
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader};
use tidegate_proxy::streams::{CloseReason, ServerId, StreamStatus, Streams};
use tidegate_stack::limits::{ORPHAN_ANSWER_US, ORPHAN_PROBES_US, ORPHANS_PER_PASS};
use tidegate_stack::{Path, Stack, StackChange};

const LAYOUT: StatisticsLayout = StatisticsLayout {
    queues: 1,
    pools: 1,
    servers: 1,
    flows: FlowSlots {
        clients: 64,
        servers: 64,
    },
};

/// Writes down what `host` has open from here on.
fn record(world: &mut World, host: usize) -> StatisticsReader {
    let page = LAYOUT.create().unwrap();
    let writer = FlowsWriter::map(&page, LAYOUT).unwrap();
    world.hosts[host].stack.keep_record(writer);
    StatisticsReader::map(&page, LAYOUT).unwrap()
}

/// Puts a successor in the place of `host`, which is told of `orphans`.
fn succeed(world: &mut World, host: usize, options: &Options, orphans: &[FlowRecord]) {
    let mut config = config(options, host);
    config.seed ^= 0x5555;
    let mut stack = Stack::new(config, world.now_us).unwrap();
    stack.set_path(ServerId(0), Some(path(options.ipv6, host)));
    stack.inherit(orphans);
    world.hosts[host].stack = stack;
}

/// A connection between an address of ours, which listens or not, and a stranger.
fn stranger(port: u16) -> FlowRecord {
    FlowRecord {
        local: listening(false),
        remote: address(false, CLIENT, port),
        port: 0,
        mac: MACS[CLIENT],
        timestamps: false,
        sent_end: 1_000,
        received_end: 77,
    }
}

fn orphans_of(stack: &Stack) -> [u64; 4] {
    let c = stack.counters();
    [
        c.orphans,
        c.orphan_probes,
        c.orphans_ended,
        c.orphans_silent,
    ]
}

#[test]
fn an_end_that_only_waits_learns_that_its_connection_is_gone() {
    for ipv6 in [false, true] {
        let options = Options {
            ipv6,
            ..Options::default()
        };
        let mut world = World::new(&options);
        let page = record(&mut world, SERVER);
        let (client, server) = world.open();
        // It asks, and all that it asks is taken.
        assert_eq!(world.client().send(client, b"get a\r\n"), 7);
        world.run(4);
        assert_eq!(world.server().received(server), 7);
        let left = page.flows();
        assert_eq!(left.len(), 1);
        succeed(&mut world, SERVER, &options, &left);
        world.run(8);
        let closed = StreamStatus::Closed(CloseReason::Reset);
        assert_eq!(world.client().status(client), closed);
        assert_eq!(orphans_of(world.server()), [0, 1, 1, 0]);
        assert_eq!(world.server().counters().frames_unknown_flow, 1);
        // It is asked once more whether it was told, and says so.
        world.pass(ORPHAN_PROBES_US[1], 1_000);
        world.run(8);
        assert_eq!(orphans_of(world.server()), [0, 2, 1, 0]);
        assert_eq!(world.server().next_timer_us(), None);
        world.check_sums();
    }
}

#[test]
fn a_server_learns_that_nobody_reads_its_connection() {
    for ipv6 in [false, true] {
        let options = Options {
            ipv6,
            ..Options::default()
        };
        let mut world = World::new(&options);
        let page = record(&mut world, CLIENT);
        let (client, server) = world.open();
        assert_eq!(world.client().send(client, b"blpop a 0\r\n"), 11);
        world.run(4);
        succeed(&mut world, CLIENT, &options, &page.flows());
        world.run(8);
        let closed = StreamStatus::Closed(CloseReason::Reset);
        assert_eq!(world.server().status(server), closed);
        assert_eq!(orphans_of(world.client()), [0, 1, 1, 0]);
        world.check_sums();
    }
}

#[test]
fn the_probe_is_that_of_a_keep_alive() {
    let options = Options::default();
    let mut world = World::new(&options);
    let page = record(&mut world, SERVER);
    let (client, server) = world.open();
    world.client().send(client, b"get a\r\n");
    world.run(4);
    world.server().consume(server, 7);
    world.server().send(server, b"END\r\n");
    world.run(4);
    let left = page.flows();
    succeed(&mut world, SERVER, &options, &left);
    world.receive(SERVER);
    world.transmit(SERVER);
    let probe = &world.take_sent(SERVER)[0];
    assert_eq!((probe.flags, probe.payload.len()), (ACK, 0));
    assert_eq!(probe.sequence, left[0].sent_end.wrapping_sub(1));
    assert_eq!(probe.acknowledgement, left[0].received_end);
    // RFC 7323, section 3.2: "the TSopt MUST be sent in every non-<RST> segment for the duration of the connection".
    assert_eq!(probe.options.get(..4), Some(&[1, 1, 8, 10][..]));
    // What the client waits for begins where the dead worker stopped.
    world.client().consume(client, 5);
    world.client().send(client, b"get b\r\n");
    world.run(4);
    let reset = StreamStatus::Closed(CloseReason::Reset);
    assert_eq!(world.client().status(client), reset);
}

#[test]
fn an_end_that_missed_bytes_answers_the_second_probe() {
    let options = Options::default();
    let mut world = World::new(&options);
    let page = record(&mut world, SERVER);
    let (client, server) = world.open();
    world.client().send(client, b"get a\r\n");
    world.run(4);
    world.server().send(server, b"VALUE a 0 1\r\n1\r\nEND\r\n");
    world.transmit(SERVER);
    // They are lost together with the worker: one number before them is inside of what the client expects.
    assert_eq!(world.take_sent(SERVER).len(), 1);
    succeed(&mut world, SERVER, &options, &page.flows());
    world.run(8);
    assert_eq!(orphans_of(world.server()), [1, 1, 0, 0]);
    assert_eq!(world.client().status(client), StreamStatus::Open);
    world.pass(ORPHAN_PROBES_US[1], 1_000);
    world.run(8);
    let closed = StreamStatus::Closed(CloseReason::Reset);
    assert_eq!(world.client().status(client), closed);
    assert_eq!(orphans_of(world.server()), [0, 2, 1, 0]);
    world.check_sums();
}

#[test]
fn a_reset_that_is_lost_is_sent_again() {
    let options = Options::default();
    let mut world = World::new(&options);
    let page = record(&mut world, SERVER);
    let (client, _) = world.open();
    world.client().send(client, b"get a\r\n");
    world.run(4);
    succeed(&mut world, SERVER, &options, &page.flows());
    for turn in 0..8 {
        world.receive(SERVER);
        world.transmit(SERVER);
        if turn == 1 {
            let lost = world.take_sent(SERVER);
            assert_eq!((lost.len(), lost[0].flags), (1, RST));
        }
        world.carry(SERVER);
        world.receive(CLIENT);
        world.transmit(CLIENT);
        world.carry(CLIENT);
    }
    assert_eq!(world.client().status(client), StreamStatus::Open);
    assert_eq!(orphans_of(world.server()), [0, 1, 1, 0]);
    world.pass(ORPHAN_PROBES_US[1], 1_000);
    world.run(8);
    let closed = StreamStatus::Closed(CloseReason::Reset);
    assert_eq!(world.client().status(client), closed);
    assert_eq!(orphans_of(world.server()), [0, 2, 1, 0]);
    world.pass(ORPHAN_PROBES_US[2], 1_000);
    world.run(8);
    assert_eq!(orphans_of(world.server()), [0, 3, 1, 0]);
    assert_eq!(world.server().next_timer_us(), None, "it is sure");
    world.check_sums();
}

/// RFC 7323, section 5.3: a segment whose timestamp is older than the last is not acceptable. Linux does not even answer one that asks for
/// nothing else than where the peer stands.
#[test]
fn a_probe_is_no_older_than_what_the_dead_worker_sent() {
    let options = Options::default();
    let mut world = World::new(&options);
    world.server().begin_timestamps(5_000_000_000);
    let page = record(&mut world, SERVER);
    let (client, server) = world.open();
    world.client().send(client, b"get a\r\n");
    world.run(4);
    world.server().send(server, b"END\r\n");
    world.receive(SERVER);
    world.transmit(SERVER);
    let stamp = |tcp: &Tcp| {
        let at = tcp.options.windows(2).position(|two| two == [8, 10]);
        let value = &tcp.options[at.expect("a timestamp") + 2..][..4];
        u32::from_be_bytes(value.try_into().unwrap())
    };
    let last = stamp(&world.take_sent(SERVER)[0]);
    assert_eq!(u64::from(last), (5_000_000_000 + world.now_us) / 100);
    let left = page.flows();
    // Its clock begins at zero, and that of timestamps where the other one was.
    let mut stack = Stack::new(config(&options, SERVER), 0).unwrap();
    stack.begin_timestamps(5_000_000_000 + world.now_us);
    stack.inherit(&left);
    world.hosts[SERVER].stack = stack;
    world.now_us = 0;
    world.receive(SERVER);
    world.transmit(SERVER);
    assert_eq!(stamp(&world.take_sent(SERVER)[0]), last);
}

#[test]
fn who_never_answers_is_given_up() {
    let options = Options::default();
    let mut world = World::new(&options);
    let strangers = [stranger(1), stranger(2)];
    succeed(&mut world, SERVER, &options, &strangers);
    let began_us = world.now_us;
    let mut seen = Vec::new();
    while let Some(due_us) = world.server().next_timer_us() {
        assert!(seen.len() < 20, "{seen:?}");
        world.now_us = world.now_us.max(due_us);
        world.receive(SERVER);
        world.transmit(SERVER);
        for probe in world.take_sent(SERVER) {
            let far = probe.sequence != 999;
            assert!(probe.options.is_empty());
            assert_eq!(probe.sequence, if far { 999 + (1 << 31) } else { 999 });
            seen.push((world.now_us - began_us, probe.destination.port(), far));
        }
    }
    let expected = ORPHAN_PROBES_US.iter().enumerate();
    let expected = expected.flat_map(|(round, at)| [1, 2].map(|port| (*at, port, round % 2 == 1)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    assert_eq!(orphans_of(world.server()), [0, 10, 0, 2]);
    let took_us = world.now_us - began_us;
    assert_eq!(took_us, ORPHAN_PROBES_US[4] + ORPHAN_ANSWER_US);
    assert!(!world.server().has_pending_egress());
}

#[test]
fn who_comes_again_by_himself_is_not_probed_any_more() {
    let options = Options::default();
    let mut world = World::new(&options);
    let ends = [1, 2, 3].map(stranger);
    succeed(&mut world, SERVER, &options, &ends);
    world.receive(SERVER);
    world.transmit(SERVER);
    assert_eq!(world.take_sent(SERVER).len(), 3);
    // One says where it stands, one has no such connection, one begins another.
    let from = |port: u16, flags| Tcp::new(address(false, CLIENT, port), listening(false), flags);
    let stands = Tcp {
        acknowledgement: 1_000,
        ..from(1, ACK)
    };
    for tcp in [stands, from(2, RST), from(3, SYN)] {
        world.arrive(SERVER, &tcp.frame(CLIENT));
    }
    world.receive(SERVER);
    world.transmit(SERVER);
    let sent = world.take_sent(SERVER);
    let flags: Vec<_> = sent
        .iter()
        .map(|tcp| (tcp.destination.port(), tcp.flags))
        .collect();
    assert_eq!(flags, [(1, RST), (3, SYN | ACK)]);
    // RFC 5961, section 3.2: only a RST that "exactly matches the next expected sequence number" ends a connection.
    assert_eq!(sent[0].sequence, 1_000);
    assert_eq!(orphans_of(world.server()), [0, 3, 3, 0]);
    check_sum(world.server());
}

#[test]
fn no_port_is_used_whose_connection_the_server_still_has() {
    let options = Options {
        source_ports: (40_000, 40_003),
        ..Options::default()
    };
    let mut world = World::new(&options);
    let server = |port| FlowRecord {
        local: address(false, CLIENT, port),
        remote: listening(false),
        mac: MACS[SERVER],
        ..stranger(1)
    };
    let left: Vec<_> = [40_000, 40_001, 40_003].map(server).into();
    succeed(&mut world, CLIENT, &options, &left);
    world.client().connect(ServerId(0)).expect("one is left");
    world.transmit(CLIENT);
    let opened = world.take_sent(CLIENT);
    let opened: Vec<_> = opened.iter().filter(|tcp| tcp.flags & SYN != 0).collect();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].source.port(), 40_002);
}

/// A worker that was taken over can write what it likes before it dies.
#[test]
fn what_cannot_be_ours_is_never_sent() {
    let options = Options {
        worker: 0,
        workers: 2,
        oracle: tidegate_stack::QueueOracle::PortXor { queues: 2 },
        ..Options::default()
    };
    let mut world = World::new(&options);
    let foreign = [
        // Nobody listens there.
        FlowRecord {
            local: address(false, SERVER, 22),
            ..stranger(2)
        },
        FlowRecord {
            local: address(false, 9, 6_379),
            ..stranger(2)
        },
        // Another worker's, who sees to it.
        stranger(1),
        // A port that there is not.
        FlowRecord {
            port: 200,
            ..stranger(2)
        },
    ];
    succeed(&mut world, SERVER, &options, &foreign);
    for _ in 0..20 {
        world.receive(SERVER);
        world.transmit(SERVER);
        assert_eq!(world.take_sent(SERVER), []);
        world.now_us += 1_000_000;
    }
    assert_eq!(orphans_of(world.server()), [0, 0, 0, 3]);
}

/// Threads of one process are told of all: the key of the device's hash may be another one now.
#[test]
fn each_is_probed_by_the_one_worker_at_whose_queue_it_arrives_now() {
    let all: Vec<_> = (1..=40).map(stranger).collect();
    let mut probed = Vec::new();
    for worker in 0..2 {
        let options = Options {
            worker,
            workers: 2,
            oracle: tidegate_stack::QueueOracle::PortXor { queues: 2 },
            ..Options::default()
        };
        let mut world = World::new(&options);
        succeed(&mut world, SERVER, &options, &all);
        let left = world.server().counters().orphans;
        world.receive(SERVER);
        world.transmit(SERVER);
        let sent = world.take_sent(SERVER);
        assert!(left > 0 && sent.len() as u64 == left, "{left}");
        probed.extend(sent.iter().map(|tcp| tcp.destination.port()));
    }
    probed.sort_unstable();
    assert_eq!(probed, (1..=40).collect::<Vec<_>>());
}

#[test]
fn what_was_written_twice_is_probed_once() {
    let options = Options::default();
    let mut world = World::new(&options);
    let twice = [stranger(1), stranger(1), stranger(1)];
    succeed(&mut world, SERVER, &options, &twice);
    assert_eq!(world.server().counters().orphans, 1);
    world.receive(SERVER);
    world.transmit(SERVER);
    assert_eq!(world.take_sent(SERVER).len(), 1);
}

#[test]
fn many_are_probed_a_burst_at_a_time_and_none_is_lost_to_a_full_ring() {
    let options = Options {
        ring_frames: 16,
        ..Options::default()
    };
    let mut world = World::new(&options);
    let many: Vec<_> = (1..=1_000).map(stranger).collect();
    succeed(&mut world, SERVER, &options, &many);
    let mut ports = Vec::new();
    let mut passes = 0;
    while world.server().has_pending_egress() {
        world.receive(SERVER);
        world.transmit(SERVER);
        let sent = world.take_sent(SERVER);
        assert!(sent.len() <= 16.min(ORPHANS_PER_PASS));
        ports.extend(sent.iter().map(|tcp| tcp.destination.port()));
        passes += 1;
        assert!(passes < 1_000);
    }
    assert_eq!(ports, (1..=1_000).collect::<Vec<_>>());
}

#[test]
fn rounds_keep_their_distance_behind_a_ring_that_was_full_for_long() {
    let options = Options {
        ring_frames: 16,
        ..Options::default()
    };
    let mut world = World::new(&options);
    let many: Vec<_> = (1..=17).map(stranger).collect();
    succeed(&mut world, SERVER, &options, &many);
    world.receive(SERVER);
    world.transmit(SERVER);
    // Nothing leaves until the last round is over due.
    world.now_us += ORPHAN_PROBES_US[4];
    for _ in 0..8 {
        world.take_sent(SERVER);
        world.receive(SERVER);
        world.transmit(SERVER);
    }
    assert_eq!(orphans_of(world.server()), [17, 17, 0, 0], "one round");
    for round in 1..5 {
        world.now_us += ORPHAN_PROBES_US[1];
        for _ in 0..3 {
            world.receive(SERVER);
            world.transmit(SERVER);
            world.take_sent(SERVER);
        }
        assert_eq!(orphans_of(world.server())[1], 17 * (round + 1));
    }
}

#[test]
fn the_way_to_a_server_may_become_known_later() {
    let options = Options::default();
    let mut world = World::new(&options);
    let left = FlowRecord {
        local: address(false, CLIENT, 40_000),
        remote: listening(false),
        mac: MACS[SERVER],
        ..stranger(1)
    };
    let mut stack = Stack::new(config(&options, CLIENT), world.now_us).unwrap();
    stack.inherit(&[left]);
    world.hosts[CLIENT].stack = stack;
    world.receive(CLIENT);
    world.transmit(CLIENT);
    assert_eq!(world.take_sent(CLIENT), []);
    world
        .client()
        .set_path(ServerId(0), Some(path(false, CLIENT)));
    world.now_us += ORPHAN_PROBES_US[1];
    world.receive(CLIENT);
    world.transmit(CLIENT);
    assert_eq!(world.take_sent(CLIENT).len(), 1);
}

#[test]
fn the_record_has_what_is_open_and_nothing_else() {
    let options = Options::default();
    let mut world = World::new(&options);
    let page = record(&mut world, SERVER);
    // A handshake that does not end is none.
    let syn = Tcp::new(address(false, CLIENT, 9), listening(false), SYN);
    world.arrive(SERVER, &syn.frame(CLIENT));
    world.run(1);
    assert_eq!(page.flows(), []);
    let (client, server) = world.open();
    let one = page.flows();
    assert_eq!(one.len(), 1);
    assert_eq!((one[0].local, one[0].mac), (listening(false), MACS[CLIENT]));
    // Numbers go on with the bytes.
    world.client().send(client, b"get a\r\n");
    world.run(4);
    world.server().send(server, b"END\r\n");
    world.run(4);
    let moved = page.flows()[0];
    assert_eq!(moved.received_end, one[0].received_end.wrapping_add(7));
    assert_eq!(moved.sent_end, one[0].sent_end.wrapping_add(5));
    // Another page has it, too.
    let layout = StatisticsLayout {
        servers: 9,
        ..LAYOUT
    };
    let file = layout.create().unwrap();
    let other = StatisticsReader::map(&file, layout).unwrap();
    let writer = FlowsWriter::map(&file, layout).unwrap();
    let listener = tidegate_stack::Listener {
        address: listening(false),
        keepalive_us: None,
    };
    let mut change = StackChange::new(&[listener], (9, 9), 32, Vec::new(), writer);
    world.server().reconfigure(&mut change, &[0], &[0]);
    assert_eq!(other.flows(), [moved]);
    // In order, and it is gone.
    world.client().release(client);
    world.run(4);
    world.server().release(server);
    world.run(4);
    assert_eq!(other.flows(), []);
    check_sum(world.server());
}

#[test]
fn the_record_follows_a_path_that_moves() {
    let options = Options::default();
    let mut world = World::new(&options);
    let page = record(&mut world, CLIENT);
    world.open();
    assert_eq!(page.flows()[0].mac, MACS[SERVER]);
    let moved = Path {
        next_hop_mac: [2, 0, 0, 0, 0, 9],
        ..path(false, CLIENT)
    };
    world.client().set_path(ServerId(0), Some(moved));
    assert_eq!(page.flows()[0].mac, moved.next_hop_mac);
}

#[test]
fn frames_that_are_handed_over_end_them_as_well() {
    let options = Options::default();
    let mut world = World::new(&options);
    succeed(&mut world, SERVER, &options, &[stranger(1)]);
    world.receive(SERVER);
    world.transmit(SERVER);
    let answer = Tcp {
        acknowledgement: 1_000,
        ..Tcp::new(address(false, CLIENT, 1), listening(false), ACK)
    };
    let arrival = tidegate_stack::Arrival {
        is_handed_over: true,
        ..0.into()
    };
    let host = &mut world.hosts[SERVER];
    let (_, tx) = tidegate_port::Port::halves(&mut host.ports[0]);
    host.stack
        .ingress(&answer.frame(CLIENT), arrival, tx, &mut Handed::default());
    assert_eq!(orphans_of(world.server()), [0, 1, 1, 0]);
}
