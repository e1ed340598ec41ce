//! A worker with more clients than it has file descriptors for. Alone in its binary, because the limit is the process's.

mod sockets;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::net::{self, AddressFamily, SocketType};
use sockets::worker::{REPLY, REQUEST, Scene};
use sockets::{PATIENCE, read_exactly, write};
use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;
use tidegate_config::Endpoint;
use tidegate_dataplane::control::Command;

/// Clients: more than fit.
const CLIENTS: usize = 40;

/// Descriptors that the worker may open, and the server's end of its connections.
const DESCRIPTORS: u64 = 30;

/// Lets `count` more descriptors be opened.
fn allow(count: u64) {
    let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next + count, hard).unwrap();
}

/// A socket that is connected later, when there is no descriptor left.
fn unconnected() -> OwnedFd {
    net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
}

fn connect(socket: OwnedFd, address: SocketAddr) -> TcpStream {
    net::connect(&socket, &address).unwrap();
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// The worker's next connection to `server`.
fn accept(server: &TcpListener) -> TcpStream {
    let started = Instant::now();
    loop {
        match server.accept() {
            Ok((connection, _)) => {
                connection.set_nonblocking(false).unwrap();
                connection.set_read_timeout(Some(PATIENCE)).unwrap();
                return connection;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(started.elapsed() < PATIENCE, "the worker does not connect");
        std::thread::yield_now();
    }
}

/// Every client asks and is answered.
fn ask(clients: &mut [TcpStream], server: &mut TcpStream) {
    for client in &mut *clients {
        write(client, REQUEST);
    }
    for _ in &*clients {
        assert_eq!(read_exactly(server, REQUEST.len()), REQUEST);
        write(server, REPLY);
    }
    for client in clients {
        assert_eq!(read_exactly(client, REPLY.len()), REPLY);
    }
}

#[test]
fn a_server_that_comes_back_is_reached_though_clients_wait_for_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let sockets: Vec<_> = (0..CLIENTS).map(|_| unconnected()).collect();
    let server = Endpoint::Ip(listener.local_addr().unwrap());
    // One more for the listener of the scene's own server.
    allow(DESCRIPTORS + 1);
    let mut scene = Scene::towards(Some(server), "adaptive");
    // The server beside it is not needed.
    drop(TcpStream::connect(scene.server.address).unwrap());
    let address = scene.around.addresses[0];
    let mut clients: Vec<_> = sockets
        .into_iter()
        .map(|socket| connect(socket, address))
        .collect();
    scene.seen("the pause", |statistics| {
        statistics.read().sockets.accepts_paused_descriptors == 1
    });
    // They are accepted in the order in which they came.
    let served = scene.around.statistics.read().stack.clients_open as usize;
    assert!((8..CLIENTS).contains(&served), "{served} clients");

    // It breaks and comes back again and again.
    for broken in 1..=5 {
        write(&mut clients[0], REQUEST);
        let mut server = accept(&listener);
        assert_eq!(read_exactly(&mut server, REQUEST.len()), REQUEST);
        write(&mut server, REPLY);
        assert_eq!(read_exactly(&mut clients[0], REPLY.len()), REPLY);
        ask(&mut clients[..served], &mut server);
        drop(server);
        scene.seen("the end of the connection", |statistics| {
            let seen = statistics.read().stack;
            (seen.connected, seen.servers_open) == (broken, 0)
        });
    }
    let seen = scene.around.statistics.read().clone();
    assert_eq!(seen.stack.accepted, served as u64);
    assert_eq!(seen.sockets.accepts_paused_descriptors, 1);
    assert_eq!(seen.sockets.accepts_paused_slots, 0);
    assert!(seen.sockets.events < 1_000, "it does not spin");

    // Who leaves makes place for who waits.
    drop(clients.remove(0));
    scene.seen("the next client", |statistics| {
        let seen = statistics.read();
        seen.stack.accepted == served as u64 + 1 && seen.sockets.accepts_paused_descriptors == 2
    });
    write(&mut clients[0], REQUEST);
    let mut server = accept(&listener);
    assert_eq!(read_exactly(&mut server, REQUEST.len()), REQUEST);
    write(&mut server, REPLY);
    assert_eq!(read_exactly(&mut clients[0], REPLY.len()), REPLY);
    ask(&mut clients[..served], &mut server);
    drop(clients);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    scene.end(Command::Stop);
}
