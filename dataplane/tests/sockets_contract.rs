//! What the proxy may rely on: every call of `Streams` over kernel sockets.

mod sockets;

use sockets::{Net, PATIENCE, config, pattern, read_exactly, read_to_end, write};
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use tidegate_dataplane::network::Network;
use tidegate_dataplane::sockets::limits::{CLOSE_US, CONNECT_US};
use tidegate_dataplane::sockets::{SocketConfig, SocketStreams};
use tidegate_proxy::streams::{
    CloseReason, ConnectError, ListenerId, ServerId, StreamId, StreamStatus, Streams,
};

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_client_is_told_of_and_read_and_answered() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    let streams = net.streams();
    assert_eq!(streams.slots(), 8);
    assert_eq!(streams.status(id), StreamStatus::Open);
    assert_eq!(streams.listener(id), Some(ListenerId(0)));
    assert_eq!(streams.peer(id), client.local_addr().unwrap());
    assert_eq!(
        (streams.receive_capacity(id), streams.send_capacity(id)),
        (1_000, 1_000)
    );
    assert_eq!((streams.received(id), streams.send_room(id)), (0, 1_000));
    write(&mut client, b"hello");
    assert_eq!(net.next_ready("the bytes"), id);
    let streams = net.streams();
    assert_eq!(streams.received(id), 5);
    assert_eq!(streams.peek(id), b"hello");
    let mut part = [0; 3];
    assert_eq!((streams.copy(id, &mut part), &part), (3, b"hel"));
    streams.consume(id, 3);
    assert_eq!(streams.peek(id), b"lo");
    assert_eq!(streams.send(id, b"world"), 5);
    assert_eq!((streams.send_queued(id), streams.send_room(id)), (5, 995));
    net.turn(|_, _| ());
    assert_eq!(net.streams().send_queued(id), 0);
    assert_eq!(read_exactly(&mut client, 5), b"world");
    let counters = net.network.counters();
    assert_eq!((counters.accepted, counters.clients_open), (1, 1));
    let sockets = net.network.socket_counters();
    assert_eq!((sockets.read_bytes, sockets.write_bytes), (5, 5));
    assert_eq!(sockets.writes, 1);
}

#[test]
fn mark_ready_asks_for_one_more_look() {
    let mut net = Net::new(&config());
    let (_client, id) = net.client();
    let streams = net.streams();
    assert_eq!(streams.next_ready(), None);
    streams.mark_ready(id);
    streams.mark_ready(id);
    assert_eq!(streams.next_ready(), Some(id));
    assert_eq!(streams.next_ready(), None);
}

#[test]
fn bytes_wait_for_a_connection_under_way() {
    let listener = listener();
    let mut net = Net::towards(listener.local_addr().unwrap());
    let streams = net.streams();
    let id = streams.connect(ServerId(0)).unwrap();
    assert_eq!(streams.listener(id), None);
    assert_eq!(streams.peer(id), listener.local_addr().unwrap());
    assert_eq!(streams.send(id, b"early"), 5);
    let (mut server, _) = listener.accept().unwrap();
    net.until("the connect", |streams| streams.send_queued(id) == 0);
    assert_eq!(net.streams().status(id), StreamStatus::Open);
    assert_eq!(read_exactly(&mut server, 5), b"early");
    assert_eq!(net.network.counters().connected, 1);
    assert_eq!(net.network.counters().servers_open, 1);
}

#[test]
fn what_is_queued_and_finished_while_connecting_arrives_although_released() {
    let listener = listener();
    let mut net = Net::towards(listener.local_addr().unwrap());
    let streams = net.streams();
    let id = streams.connect(ServerId(0)).unwrap();
    streams.send(id, b"early");
    streams.finish(id);
    assert_eq!(streams.send_room(id), 0);
    streams.release(id);
    let (mut server, _) = listener.accept().unwrap();
    net.turn(|_, _| ());
    assert_eq!(read_to_end(&mut server), b"early");
    drop(server);
    let started = std::time::Instant::now();
    while net.network.counters().servers_open > 0 {
        assert!(started.elapsed() < PATIENCE, "the slot did not come back");
        net.turn(|_, _| ());
    }
}

#[test]
fn large_transfers_cross_small_rings_in_both_directions_at_once() {
    let mut net = Net::new(&config());
    let (mut client, _) = net.client();
    let bytes = pattern(3_000_000);
    let mut reader = client.try_clone().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || {
        write(&mut client, &sent);
        client.shutdown(Shutdown::Write).unwrap();
    });
    let reader = std::thread::spawn(move || read_to_end(&mut reader));
    // An echo: what has no room now is forwarded when the stream says that there is.
    let mut over = false;
    let mut echo = |streams: &mut SocketStreams, id: StreamId| {
        let received = streams.received(id);
        streams.forward(id, id, received);
        if streams.status(id) == StreamStatus::HalfClosed && streams.received(id) == 0 {
            streams.finish(id);
            streams.release(id);
            over = true;
        }
    };
    let started = std::time::Instant::now();
    while !reader.is_finished() {
        assert!(started.elapsed() < 3 * PATIENCE, "the transfer stopped");
        net.turn(&mut echo);
    }
    assert!(over && reader.join().unwrap() == bytes);
    writer.join().unwrap();
    assert_eq!(net.network.counters().clients_open, 0);
}

#[test]
fn forward_moves_between_streams_across_the_ends_of_both_rings() {
    let listener = listener();
    let mut net = Net::towards(listener.local_addr().unwrap());
    let (mut client, from) = net.client();
    let (mut server, to) = net.server(&listener);
    let bytes = pattern(20_000);
    for part in bytes.chunks(700) {
        write(&mut client, part);
        let mut moved = 0;
        net.turn_until(
            "the move",
            |_, _| (),
            |streams| {
                moved += streams.forward(from, to, 300);
                moved == part.len()
            },
        );
        net.turn(|_, _| ());
        assert_eq!(read_exactly(&mut server, part.len()), part);
    }
}

#[test]
fn a_peer_that_finishes_can_still_be_answered() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    write(&mut client, b"last");
    client.shutdown(Shutdown::Write).unwrap();
    net.until("the end", |streams| {
        streams.status(id) == StreamStatus::HalfClosed
    });
    assert_eq!(net.take(id), b"last");
    let streams = net.streams();
    assert_eq!(streams.status(id), StreamStatus::HalfClosed);
    assert_eq!(streams.send(id, b"answer"), 6);
    streams.finish(id);
    assert_eq!((streams.send(id, b"more"), streams.send_room(id)), (0, 0));
    assert_eq!(
        streams.status(id),
        StreamStatus::Closed(CloseReason::Finished)
    );
    net.turn(|_, _| ());
    assert_eq!(read_to_end(&mut client), b"answer");
    assert_eq!(net.network.counters().clients_open, 1);
    net.streams().release(id);
    assert_eq!(net.network.counters().clients_open, 0);
}

#[test]
fn a_stream_with_nothing_left_to_do_is_gone_at_once() {
    let mut net = Net::new(&config());
    let (client, id) = net.client();
    drop(client);
    net.until("the end", |streams| {
        streams.status(id) == StreamStatus::HalfClosed
    });
    net.streams().finish(id);
    net.streams().release(id);
    assert_eq!(net.network.counters().clients_open, 0);
    assert_eq!(net.network.next_timer_us(), None);
}

#[test]
fn a_stream_that_we_finished_can_still_be_read() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    net.streams().send(id, b"bye");
    net.streams().finish(id);
    net.turn(|_, _| ());
    assert_eq!(read_to_end(&mut client), b"bye");
    assert_eq!(net.streams().status(id), StreamStatus::Open);
    write(&mut client, b"late");
    drop(client);
    net.until("the end", |streams| {
        streams.status(id) == StreamStatus::HalfClosed
    });
    assert_eq!(net.take(id), b"late");
    assert_eq!(
        net.streams().status(id),
        StreamStatus::Closed(CloseReason::Finished)
    );
    net.streams().release(id);
    assert_eq!(net.network.counters().clients_open, 0);
}

#[test]
fn a_refusing_server_is_told_as_such() {
    let address = listener().local_addr().unwrap();
    let mut net = Net::towards(address);
    let id = net.streams().connect(ServerId(0)).unwrap();
    let refused = StreamStatus::Closed(CloseReason::Refused);
    net.until("the refusal", |streams| streams.status(id) == refused);
    assert_eq!(net.streams().send(id, b"x"), 0);
    net.streams().release(id);
    let counters = net.network.counters();
    assert_eq!((counters.connects_failed, counters.servers_open), (1, 0));
}

#[test]
fn a_server_that_does_not_answer_times_out() {
    // Once its backlog is full, the kernel drops further attempts.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let loopback: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&socket, &loopback).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let mut net = Net::towards(listener.local_addr().unwrap());
    let ids: Vec<_> = (0..4)
        .map(|_| net.streams().connect(ServerId(0)).unwrap())
        .collect();
    for _ in 0..10 {
        net.turn(|_, _| ());
    }
    let last = ids[3];
    assert_eq!(net.streams().status(last), StreamStatus::Connecting);
    let due_us = net.network.next_timer_us().unwrap();
    assert_eq!(due_us, CONNECT_US);
    net.now_us = CONNECT_US - 1;
    net.turn(|_, _| ());
    assert_eq!(net.streams().status(last), StreamStatus::Connecting);
    net.now_us = CONNECT_US;
    net.turn(|_, _| ());
    let timed_out = StreamStatus::Closed(CloseReason::TimedOut);
    assert_eq!(net.streams().status(last), timed_out);
    assert!(net.network.counters().connects_failed > 0);
}

#[test]
fn a_reset_takes_along_what_was_received() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    write(&mut client, b"half a req");
    net.until("the bytes", |streams| streams.received(id) > 0);
    rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    let reset = StreamStatus::Closed(CloseReason::Reset);
    net.until("the reset", |streams| streams.status(id) == reset);
    assert_eq!(net.streams().received(id), 0);
    assert!(net.streams().peek(id).is_empty());
    net.streams().release(id);
    let counters = net.network.counters();
    assert_eq!((counters.resets_received, counters.clients_open), (1, 0));
}

#[test]
fn abort_resets_the_peer() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    net.streams().send(id, b"never");
    net.streams().abort(id);
    assert_eq!(
        net.streams().status(id),
        StreamStatus::Closed(CloseReason::Finished)
    );
    let error = client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(net.network.counters().clients_open, 1);
    net.streams().release(id);
    let counters = net.network.counters();
    assert_eq!((counters.resets_sent, counters.clients_open), (1, 0));
}

#[test]
fn a_peer_that_trickles_is_read_byte_by_byte() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    client.set_nodelay(true).unwrap();
    let bytes = pattern(200);
    for (index, byte) in bytes.iter().enumerate() {
        write(&mut client, &[*byte]);
        net.until("the byte", |streams| streams.received(id) == index + 1);
    }
    assert_eq!(net.take(id), bytes);
}

#[test]
fn a_full_receive_ring_is_read_on_once_there_is_room() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    let bytes = pattern(5_500);
    write(&mut client, &bytes);
    client.shutdown(Shutdown::Write).unwrap();
    net.until("a full ring", |streams| streams.received(id) == 1_000);
    for _ in 0..5 {
        net.turn(|_, _| ());
    }
    let reads = net.network.socket_counters().reads;
    assert_eq!(reads, 1, "a full ring costs no system call");
    let mut received = Vec::new();
    let started = std::time::Instant::now();
    while received.len() < bytes.len() {
        assert!(started.elapsed() < PATIENCE, "it stopped");
        received.extend(net.take(id));
        assert!(net.network.waiting() > 0 || received.len() == bytes.len());
        net.turn(|_, _| ());
    }
    assert_eq!(received, bytes);
    net.until("the end", |streams| {
        streams.status(id) == StreamStatus::HalfClosed
    });
}

#[test]
fn a_peer_that_does_not_read_stops_the_sender_and_then_gets_everything() {
    let mut net = Net::new(&SocketConfig {
        client_buffer_bytes: 65_536,
        ..config()
    });
    let (mut client, id) = net.client();
    let bytes = pattern(65_536);
    let mut sent = Vec::new();
    // The kernel's buffers take some megabytes, then nothing moves any more.
    while net.network.socket_counters().write_blocked == 0 || net.streams().send_room(id) > 0 {
        let count = net.streams().send(id, &bytes);
        sent.extend_from_slice(&bytes[..count]);
        net.turn(|_, _| ());
        assert!(sent.len() < 100_000_000, "it never stopped");
    }
    let before = net.network.socket_counters();
    for _ in 0..5 {
        net.turn(|_, id| panic!("{id:?} is told of, but nothing happened"));
    }
    let after = net.network.socket_counters();
    assert_eq!(before.writes, after.writes, "no system calls in vain");
    let reader = std::thread::spawn(move || read_to_end(&mut client));
    assert_eq!(net.next_ready("the news of room"), id);
    assert!(net.streams().send_room(id) > 0);
    net.streams().finish(id);
    net.streams().release(id);
    let started = std::time::Instant::now();
    while !reader.is_finished() {
        assert!(started.elapsed() < PATIENCE, "the rest did not come");
        net.turn(|_, _| ());
    }
    assert!(reader.join().unwrap() == sent);
}

#[test]
fn a_released_stream_delivers_its_reply_although_the_peer_goes_on_sending() {
    let mut net = Net::new(&SocketConfig {
        client_buffer_bytes: 65_536,
        ..config()
    });
    let (mut client, id) = net.client();
    let bytes = pattern(60_000);
    write(&mut client, &bytes);
    net.until("bytes", |streams| streams.received(id) > 0);
    net.streams().send(id, &bytes);
    net.streams().release(id);
    assert_eq!(net.streams().next_ready(), None, "it is no longer ours");
    write(&mut client, &bytes);
    for _ in 0..5 {
        net.turn(|_, _| ());
    }
    write(&mut client, &bytes);
    assert_eq!(net.network.counters().clients_open, 1);
    assert!(read_to_end(&mut client) == bytes);
    drop(client);
    let started = std::time::Instant::now();
    while net.network.counters().clients_open > 0 {
        assert!(started.elapsed() < PATIENCE, "the slot did not come back");
        net.turn(|_, _| ());
    }
    assert_eq!(net.network.counters().flows_timed_out, 0);
}

#[test]
fn a_released_stream_whose_peer_never_closes_goes_away_at_the_deadline() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    net.streams().send(id, b"reply");
    net.streams().release(id);
    net.turn(|_, _| ());
    assert_eq!(net.network.next_timer_us(), Some(CLOSE_US));
    net.now_us = CLOSE_US;
    net.turn(|_, _| ());
    let counters = net.network.counters();
    assert_eq!((counters.flows_timed_out, counters.clients_open), (1, 0));
    assert_eq!(counters.resets_sent, 0, "the kernel goes on delivering");
    assert_eq!(read_to_end(&mut client), b"reply");
}

#[test]
fn a_peer_that_never_reads_is_reset_at_the_deadline() {
    let mut net = Net::new(&SocketConfig {
        client_buffer_bytes: 65_536,
        ..config()
    });
    let (_client, id) = net.client();
    let bytes = pattern(65_536);
    while net.network.socket_counters().write_blocked == 0 || net.streams().send_room(id) > 0 {
        net.streams().send(id, &bytes);
        net.turn(|_, _| ());
    }
    net.streams().finish(id);
    net.now_us = CLOSE_US;
    net.turn(|_, _| ());
    let timed_out = StreamStatus::Closed(CloseReason::TimedOut);
    assert_eq!(net.streams().status(id), timed_out);
    let counters = net.network.counters();
    assert_eq!((counters.flows_timed_out, counters.resets_sent), (1, 1));
    net.streams().release(id);
    assert_eq!(net.network.counters().clients_open, 0);
}

#[test]
fn server_slots_run_out_and_come_back() {
    let listener = listener();
    let mut net = Net::towards(listener.local_addr().unwrap());
    let ids: Vec<_> = (0..4)
        .map(|_| net.streams().connect(ServerId(0)).unwrap())
        .collect();
    assert_eq!(
        net.streams().connect(ServerId(0)),
        Err(ConnectError::NoSlot)
    );
    net.streams().abort(ids[2]);
    net.streams().release(ids[2]);
    assert_eq!(net.streams().connect(ServerId(0)), Ok(ids[2]));
    assert_eq!(
        net.streams().connect(ServerId(7)),
        Err(ConnectError::NoRoute)
    );
}

#[test]
fn a_source_address_is_used_and_one_that_we_do_not_have_is_an_error() {
    let listener = listener();
    let source = |address: &str| SocketConfig {
        servers: vec![listener.local_addr().unwrap().into()],
        source_address: Some(address.parse().unwrap()),
        ..config()
    };
    let mut net = Net::new(&source("127.0.0.9"));
    net.streams().connect(ServerId(0)).unwrap();
    let (_server, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.9");
    let mut net = Net::new(&source("192.0.2.1"));
    assert_eq!(
        net.streams().connect(ServerId(0)),
        Err(ConnectError::NoRoute)
    );
}

#[test]
fn an_event_of_the_connection_before_means_nothing_to_the_next_in_its_slot() {
    let mut net = Net::new(&SocketConfig {
        client_slots: 2,
        ..config()
    });
    let (client, id) = net.client();
    net.streams().release(id);
    net.turn(|_, _| ());
    // Our FIN was acknowledged: that is an event, too.
    net.turn(|_, _| ());
    let before = net.network.socket_counters().reads;
    // The kernel reports the new client first, then the end of the old one; meanwhile the old one's deadline passes.
    let _next = TcpStream::connect(net.address).unwrap();
    drop(client);
    net.network.wait(net.bell.as_fd(), 1_000_000, 0);
    assert_eq!(net.network.waiting(), 2);
    net.network.tick(CLOSE_US);
    assert_eq!(net.network.counters().clients_open, 0);
    net.network.receive();
    assert_eq!(net.streams().next_ready(), Some(id), "the slot is reused");
    assert_eq!(net.streams().status(id), StreamStatus::Open);
    assert_eq!(net.network.socket_counters().reads, before);
}

#[test]
fn nobody_starves_beside_a_stream_that_is_always_busy() {
    let mut net = Net::new(&config());
    let (mut busy, busy_id) = net.client();
    let bytes = pattern(100_000);
    write(&mut busy, &bytes);
    net.until("bytes", |streams| streams.received(busy_id) == 1_000);
    net.streams().consume(busy_id, 1_000);
    let mut other = TcpStream::connect(net.address).unwrap();
    write(&mut other, b"me too");
    // The loop does not wait while there is something to do at once.
    assert!(net.network.waiting() > 0);
    let mut seen = false;
    for _ in 0..20 {
        net.network.receive();
        let streams = net.network.streams();
        while let Some(id) = streams.next_ready() {
            let received = streams.received(id);
            seen |= id != busy_id && received > 0;
            streams.consume(id, received);
        }
        assert!(seen || net.network.send());
    }
    assert!(seen, "the other was not served");
}
