//! A process that runs out of file descriptors. Alone in its binary, because the limit is the process's.

mod sockets;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sockets::{Net, PATIENCE, config, write};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;
use tidegate_dataplane::network::Network;
use tidegate_dataplane::sockets::SocketConfig;
use tidegate_dataplane::sockets::limits::ACCEPT_RETRY_US;
use tidegate_proxy::streams::{ConnectError, ServerId, Streams};

/// Lets `count` more descriptors be opened.
fn allow(count: u64) {
    let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next + count, hard).unwrap();
}

fn turns_until_accepted(net: &mut Net, clients: u64) {
    let started = Instant::now();
    while net.network.counters().accepted < clients {
        assert!(started.elapsed() < PATIENCE, "no client was accepted");
        net.turn(|_, _| ());
    }
}

#[test]
fn clients_wait_while_there_is_no_descriptor_and_nothing_spins() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut net = Net::new(&SocketConfig {
        client_slots: 8,
        servers: vec![server.local_addr().unwrap().into()],
        ..config()
    });
    let mut clients: Vec<_> = (0..4)
        .map(|_| TcpStream::connect(net.address).unwrap())
        .collect();
    allow(1);
    turns_until_accepted(&mut net, 1);
    net.turn(|_, _| ());
    assert_eq!(net.network.socket_counters().accepts_paused_descriptors, 1);
    assert_eq!(
        net.streams().connect(ServerId(0)),
        Err(ConnectError::NoDescriptor)
    );
    let events = net.network.socket_counters().events;
    for _ in 0..5 {
        net.turn(|_, _| ());
    }
    assert_eq!(net.network.socket_counters().events, events, "no busy loop");
    // In vain, but tried: the time has come.
    assert_eq!(net.network.next_timer_us(), Some(ACCEPT_RETRY_US));
    net.now_us = ACCEPT_RETRY_US;
    net.turn(|_, _| ());
    assert_eq!(net.network.next_timer_us(), Some(2 * ACCEPT_RETRY_US));
    assert_eq!(
        net.network.socket_counters().accepts_paused_descriptors,
        1,
        "the same pause"
    );
    // A client that leaves makes place at once, but for a server that needs it.
    write(&mut clients[0], b"x");
    let first = net.next_ready("the first");
    assert_eq!(
        net.streams().connect(ServerId(0)),
        Err(ConnectError::NoDescriptor)
    );
    net.streams().abort(first);
    net.streams().release(first);
    // The proxy gave up one that it could not open; this opens, and closes, one that it could.
    for _ in 0..5 {
        net.turn(|_, _| ());
    }
    assert_eq!(net.network.counters().accepted, 1, "held for the server");
    let to_server = net.streams().connect(ServerId(0)).unwrap();
    net.streams().abort(to_server);
    net.streams().release(to_server);
    for _ in 0..5 {
        net.turn(|_, _| ());
    }
    assert_eq!(net.network.counters().accepted, 1, "a server's descriptor");
    assert_eq!(net.network.next_timer_us(), Some(2 * ACCEPT_RETRY_US));
    net.now_us += ACCEPT_RETRY_US;
    turns_until_accepted(&mut net, 2);
    net.turn(|_, _| ());
    let counters = net.network.socket_counters();
    assert_eq!(counters.accepts_paused_descriptors, 2, "another pause");
    let second = net.network.next_timer_us();
    assert_eq!(second, Some(3 * ACCEPT_RETRY_US));
    // Nobody opens a connection to a server: at once.
    write(&mut clients[1], b"x");
    let second = net.next_ready("the second");
    net.streams().abort(second);
    net.streams().release(second);
    turns_until_accepted(&mut net, 3);
    // So does the time, once somebody has raised the limit.
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    net.now_us += ACCEPT_RETRY_US;
    turns_until_accepted(&mut net, 4);
    assert_eq!(net.network.next_timer_us(), None);
}
