//! System calls and wake-ups that must not be made in vain, and those that must not be missing.

mod sockets;

use sockets::{Net, OPTIONS, PATIENCE, config, pattern, read_exactly, write};
use std::cell::Cell;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use tidegate_config::AckMode;
use tidegate_dataplane::network::Network;
use tidegate_dataplane::sockets::{Endpoint, Listening, SocketConfig, listen};
use tidegate_proxy::streams::{StreamId, StreamStatus, Streams};

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// A folder of its own that goes away with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_new_client_is_no_event_before_it_sends() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    let accepted = net.network.socket_counters().events;
    for _ in 0..3 {
        net.turn(|_, id| panic!("{id:?} is told of, but nothing happened"));
    }
    assert_eq!(net.network.socket_counters().events, accepted);
    write(&mut client, b"hello");
    net.until("the bytes", |streams| streams.received(id) == 5);
    assert_eq!(net.network.socket_counters().events, accepted + 1);
}

#[test]
fn a_unix_peer_that_reads_its_replies_is_no_event() {
    const REQUESTS: u64 = 100;
    let folder = Folder::new("calls");
    let path = folder.0.join("socket");
    let socket = listen(&Endpoint::Unix(path.clone()), &OPTIONS).unwrap();
    let shared = false;
    let mut net = Net::with(&config(), vec![Listening { socket, shared }], NOWHERE);
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = net.next_ready("the accept");
    let before = net.network.socket_counters().events;
    for _ in 0..REQUESTS {
        write(&mut client, b"hello");
        net.until("the bytes", |streams| streams.received(id) == 5);
        net.streams().forward(id, id, 5);
        net.until("sending", |streams| streams.send_queued(id) == 0);
        assert_eq!(read_exactly(&mut client, 5), b"hello");
        net.turn(|_, _| ());
    }
    assert_eq!(net.network.socket_counters().events - before, REQUESTS);
}

#[test]
fn a_peer_that_stops_reading_again_and_again_gets_everything() {
    let mut net = Net::new(&SocketConfig {
        client_buffer_bytes: 65_536,
        ..config()
    });
    let (mut client, id) = net.client();
    let bytes = pattern(65_536);
    for _ in 0..3 {
        let blocked = net.network.socket_counters().write_blocked;
        let mut sent = Vec::new();
        while net.network.socket_counters().write_blocked == blocked {
            let count = net.streams().send(id, &bytes);
            sent.extend_from_slice(&bytes[..count]);
            net.turn(|_, _| ());
            assert!(sent.len() < 100_000_000, "it never stopped");
        }
        let (count, mut reader) = (sent.len(), client.try_clone().unwrap());
        let reader = std::thread::spawn(move || read_exactly(&mut reader, count));
        net.until("the rest", |streams| streams.send_queued(id) == 0);
        assert!(reader.join().unwrap() == sent);
    }
    client.shutdown(Shutdown::Write).unwrap();
    net.until("the end", |streams| {
        streams.status(id) == StreamStatus::HalfClosed
    });
    net.streams().release(id);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

/// The first bytes of a connection, taken.
fn no_longer_fresh(net: &mut Net, client: &mut TcpStream, id: StreamId) {
    write(client, b"hello");
    net.until("the first bytes", |streams| streams.received(id) == 5);
    net.take(id);
}

/// Bytes that this client sent and that are not acknowledged, as the kernel shows them.
fn unacknowledged(net: &Net, client: &TcpStream) -> u64 {
    let ports = [client.local_addr().unwrap().port(), net.address.port()];
    let ends = ports.map(|port| format!(":{port:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1].ends_with(&ends[0]) && row[2].ends_with(&ends[1]));
    let queues = row.expect("the connection is open")[4];
    u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}

#[test]
fn half_a_request_is_acknowledged_in_the_turn_that_read_it() {
    for ack in [AckMode::Immediate, AckMode::WithReply] {
        let mut net = Net::new(&SocketConfig { ack, ..config() });
        let (mut client, id) = net.client();
        let acks = |net: &Net| net.network.socket_counters().quick_acks;
        for round in 0..20 {
            write(&mut client, b"half a requ");
            net.until("the half", |streams| streams.received(id) == 11);
            assert_eq!(unacknowledged(&net, &client), 0, "{ack:?} {round}");
            let asked = u64::from(round > 0);
            assert_eq!(acks(&net), asked * round, "the first needs no call");
            write(&mut client, b"est");
            net.turn_until(
                "the rest",
                |streams, id| {
                    if streams.received(id) == 14 {
                        streams.consume(id, 14);
                        streams.send(id, b"reply");
                    }
                },
                |streams| streams.received(id) == 0,
            );
            assert_eq!(acks(&net), asked * round, "the reply acknowledged");
            assert_eq!(read_exactly(&mut client, 5), b"reply");
        }
    }
}

#[test]
fn a_server_is_acknowledged_at_once_while_it_owes_a_reply() {
    for ack in [AckMode::Immediate, AckMode::WithReply] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut net = Net::new(&SocketConfig {
            ack,
            servers: vec![listener.local_addr().unwrap().into()],
            ..config()
        });
        let (mut server, id) = net.server(&listener);
        // What the proxy says of the server after it read a reply, and the calls that follow.
        for (owes_nothing, calls) in [(false, 1), (true, 1), (false, 2)] {
            write(&mut server, b"reply");
            let taken = Cell::new(false);
            net.turn_until(
                "the reply",
                |streams, id| {
                    if streams.received(id) == 5 {
                        streams.consume(id, 5);
                        streams.expect_reply(id, owes_nothing);
                        taken.set(true);
                    }
                },
                |_| taken.get(),
            );
            assert_eq!(net.network.socket_counters().quick_acks, calls, "{ack:?}");
        }
        write(&mut server, b"half");
        net.streams().expect_reply(id, true);
        net.until("half a reply", |streams| streams.received(id) == 4);
        assert_eq!(net.network.socket_counters().quick_acks, 3, "{ack:?}");
    }
}

#[test]
fn what_cannot_be_sent_acknowledges_nothing() {
    let mut net = Net::new(&SocketConfig {
        client_buffer_bytes: 65_536,
        ack: AckMode::WithReply,
        ..config()
    });
    let (mut client, id) = net.client();
    no_longer_fresh(&mut net, &mut client, id);
    let bytes = pattern(65_536);
    while net.network.socket_counters().write_blocked == 0 {
        net.streams().send(id, &bytes);
        net.turn(|_, _| ());
    }
    let before = net.network.socket_counters().quick_acks;
    write(&mut client, b"half a requ");
    net.until("the bytes", |streams| streams.received(id) > 0);
    assert!(net.streams().send_queued(id) > 0, "still blocked");
    assert_eq!(net.network.socket_counters().quick_acks, before + 1);
    net.streams().abort(id);
    net.streams().release(id);
    drop(client);
}

#[test]
fn clients_are_accepted_one_at_a_time_until_it_is_clear_that_many_wait() {
    let mut net = Net::new(&SocketConfig {
        client_slots: 64,
        ..config()
    });
    let mut clients = Vec::new();
    for round in 1..=2 {
        let before = net.network.counters().accepted;
        clients.extend((0..20).map(|_| TcpStream::connect(net.address).unwrap()));
        let accepted: Vec<_> = (0..5)
            .map(|_| {
                net.turn(|_, _| ());
                net.network.counters().accepted - before
            })
            .collect();
        assert_eq!(accepted, [1, 3, 7, 15, 20], "round {round}");
        net.turn(|_, _| ());
    }
}

#[test]
fn a_full_worker_leaves_the_next_client_at_a_shared_listener_to_others() {
    let mut net = Net::new(&SocketConfig {
        client_slots: 1,
        ..config()
    });
    let (_client, _) = net.client();
    let events = net.network.socket_counters().events;
    let _next = TcpStream::connect(net.address).unwrap();
    net.turn(|_, id| panic!("{id:?} is told of, but there is no place"));
    assert_eq!(net.network.socket_counters().events, events, "not woken");
    assert_eq!(net.network.socket_counters().accepts_paused_slots, 1);
}
