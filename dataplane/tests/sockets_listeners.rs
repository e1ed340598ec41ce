//! Listening: where it is possible, who gets which client, and what happens when there is no place for one.

mod sockets;

use nix::sys::stat::{Mode, umask};
use rustix::net::{SocketFlags, sockopt};
use sockets::{Net, OPTIONS, PATIENCE, any_port, config, read_exactly, read_to_end, write};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidegate_config::AckMode;
use tidegate_dataplane::network::Network;
use tidegate_dataplane::sockets::limits::{
    PROBE_INTERVAL_S, PROBES_MAX, UNSENT_BYTES_MAX, USER_TIMEOUT_MS,
};
use tidegate_dataplane::sockets::listen::local_address;
use tidegate_dataplane::sockets::{
    Endpoint, ListenError, ListenOptions, Listening, SocketConfig, listen,
};
use tidegate_proxy::streams::{CloseReason, ServerId, StreamStatus, Streams};

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unix(path: &Path) -> Endpoint {
    Endpoint::Unix(path.to_owned())
}

#[test]
fn accepted_connections_inherit_every_option_of_their_listener() {
    let options = ListenOptions {
        keepalive_s: Some(77),
        ..OPTIONS
    };
    let listener = listen(&any_port(), &options).unwrap();
    let address = local_address(listener.as_fd()).unwrap();
    let _client = TcpStream::connect(address).unwrap();
    let socket = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
    assert!(sockopt::tcp_nodelay(&socket).unwrap());
    assert!(sockopt::socket_keepalive(&socket).unwrap());
    let seconds = Duration::from_secs;
    assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), seconds(77));
    let interval = sockopt::tcp_keepintvl(&socket).unwrap();
    assert_eq!(interval, seconds(PROBE_INTERVAL_S));
    assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), PROBES_MAX);
    assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), USER_TIMEOUT_MS);
    let unsent = socket2::SockRef::from(&socket).tcp_notsent_lowat();
    assert_eq!(unsent.unwrap(), UNSENT_BYTES_MAX);
}

#[test]
fn an_address_in_use_and_one_that_we_do_not_have_are_named() {
    let alone = ListenOptions {
        reuse_port: false,
        ..OPTIONS
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen(&Endpoint::Ip(address), &alone).unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }));
    assert!(!error.is_permanent());
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("{address}: address in use")),
        "{text}"
    );
    let foreign: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let text = listen(&Endpoint::Ip(foreign), &alone)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("192.0.2.1:80: address not available"),
        "{text}"
    );
    assert!(text.contains("ip addr add"), "{text}");
}

#[test]
fn both_families_can_have_one_port() {
    let v4 = listen(&any_port(), &OPTIONS).unwrap();
    let port = local_address(v4.as_fd()).unwrap().port();
    let any = SocketAddr::new("::".parse().unwrap(), port);
    // Without IPV6_V6ONLY it would collide with the other on most systems. Where there is no IPv6, there is nothing to test.
    match listen(&Endpoint::Ip(any), &OPTIONS) {
        Ok(_) | Err(ListenError::NotAvailable { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_permissions_of_a_socket_file_are_those_asked_for_whatever_the_umask() {
    let folder = Folder::new("umask");
    let before = umask(Mode::from_bits_truncate(0o077));
    for mode in [0o666, 0o770, 0o600] {
        let path = folder.file(&format!("{mode:o}.sock"));
        let options = ListenOptions {
            mode: Some(mode),
            ..OPTIONS
        };
        let _socket = listen(&unix(&path), &options).unwrap();
        let found = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode);
    }
    umask(before);
}

/// The folder's owner is somebody who wants the permissions of another file changed, and puts links to it in the socket's place.
#[test]
fn a_link_in_place_of_a_socket_file_changes_no_permissions_of_others() {
    let folder = Folder::new("links");
    let (path, made) = (folder.file("a.sock"), folder.file("link"));
    let target = folder.file("target");
    fs::write(&target, b"precious").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    let served = folder.file("served.sock");
    let _served = UnixListener::bind(&served).unwrap();
    fs::set_permissions(&served, fs::Permissions::from_mode(0o600)).unwrap();
    let options = ListenOptions {
        mode: Some(0o666),
        ..OPTIONS
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::os::unix::fs::symlink(&target, &made).unwrap();
                fs::rename(&made, &path).unwrap();
                let _gone = fs::remove_file(&path);
                // Another socket of the same user, which listens elsewhere.
                fs::hard_link(&served, &made).unwrap();
                fs::rename(&made, &path).unwrap();
                let _gone = fs::remove_file(&path);
            }
        });
        for _ in 0..3_000 {
            let _any = listen(&unix(&path), &options);
        }
        done.store(true, Ordering::Relaxed);
    });
    for file in [&target, &served] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_socket_file_that_nobody_listens_on_is_replaced_and_any_other_left_alone() {
    let folder = Folder::new("files");
    let path = folder.file("stale.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let options = ListenOptions {
        mode: Some(0o640),
        ..OPTIONS
    };
    let first = listen(&unix(&path), &options).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let error = listen(&unix(&path), &options).unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    UnixStream::connect(&path).unwrap();
    drop(first);
    let file = folder.file("file");
    fs::write(&file, b"precious").unwrap();
    let error = listen(&unix(&file), &options).unwrap_err();
    assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    // Not even through a link.
    let link = folder.file("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = listen(&unix(&link), &options).unwrap_err();
    assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
    let error = listen(&unix(&folder.file("no/folder")), &options).unwrap_err();
    assert!(matches!(error, ListenError::NoFolder { .. }), "{error}");
    let error = listen(&unix(&folder.file(&"x".repeat(120))), &options).unwrap_err();
    assert!(matches!(error, ListenError::TooLong { .. }), "{error}");
}

#[test]
fn unix_sockets_serve_clients_and_reach_servers() {
    let folder = Folder::new("both");
    let (front, back) = (folder.file("front.sock"), folder.file("back.sock"));
    let server = UnixListener::bind(&back).unwrap();
    let listening = Listening {
        socket: listen(&unix(&front), &OPTIONS).unwrap(),
        shared: true,
    };
    let config = SocketConfig {
        servers: vec![unix(&back), unix(&folder.file("nobody.sock"))],
        ..config()
    };
    let mut net = Net::with(&config, vec![listening], "0.0.0.0:0".parse().unwrap());
    let mut client = UnixStream::connect(&front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let from = net.next_ready("the accept");
    assert_eq!(net.streams().peer(from).to_string(), "0.0.0.0:0");
    let to = net.streams().connect(ServerId(0)).unwrap();
    write(&mut client, b"request");
    net.until("the request", |streams| streams.received(from) == 7);
    assert_eq!(net.streams().forward(from, to, 7), 7);
    net.turn(|_, _| ());
    let (mut server, _) = server.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_exactly(&mut server, 7), b"request");
    write(&mut server, b"reply");
    drop(server);
    net.until("the reply", |streams| {
        streams.status(to) == StreamStatus::HalfClosed
    });
    assert_eq!(net.streams().forward(to, from, 5), 5);
    net.streams().release(to);
    net.streams().release(from);
    net.turn(|_, _| ());
    assert_eq!(read_to_end(&mut client), b"reply");
    assert_eq!(net.network.socket_counters().quick_acks, 0);
    let nobody = net.streams().connect(ServerId(1)).unwrap();
    let refused = StreamStatus::Closed(CloseReason::Refused);
    assert_eq!(net.streams().status(nobody), StreamStatus::Connecting);
    assert_eq!(net.streams().send(nobody, b"request"), 7, "it can wait");
    net.until("the refusal", |streams| streams.status(nobody) == refused);
    net.streams().release(nobody);
    let nobody = net.streams().connect(ServerId(1)).unwrap();
    net.streams().send(nobody, b"request");
    net.streams().release(nobody);
    assert_eq!(net.network.counters().servers_open, 0, "no slot is lost");
}

#[test]
fn clients_wait_in_the_backlog_while_every_slot_is_taken() {
    let mut net = Net::new(&SocketConfig {
        client_slots: 2,
        ..config()
    });
    let mut clients: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(net.address).unwrap())
        .collect();
    let mut ready = Vec::new();
    while ready.len() < 2 {
        net.turn(|_, id| ready.push(id));
    }
    assert_eq!(net.network.socket_counters().accepts_paused_slots, 1);
    for _ in 0..5 {
        net.turn(|_, id| panic!("{id:?} has no slot"));
    }
    let events = net.network.socket_counters().events;
    net.turn(|_, _| ());
    assert_eq!(
        net.network.socket_counters().events,
        events,
        "epoll is not asked for clients that have no place"
    );
    clients.remove(0);
    let gone = net.next_ready("the end of the first");
    net.streams().release(gone);
    assert_eq!(net.next_ready("the third"), gone);
    write(&mut clients[1], b"here");
    net.until("its bytes", |streams| streams.received(gone) == 4);
    assert_eq!(net.network.counters().accepted, 3);
}

/// Turns both networks until they have accepted `clients` together.
fn accept_all(nets: &mut [Net; 2], clients: u64) -> [u64; 2] {
    let started = Instant::now();
    loop {
        let accepted = nets.each_ref().map(|net| net.network.counters().accepted);
        if accepted.iter().sum::<u64>() == clients {
            return accepted;
        }
        assert!(started.elapsed() < PATIENCE, "{accepted:?} of {clients}");
        for net in nets.iter_mut() {
            net.turn(|_, _| ());
        }
    }
}

#[test]
fn workers_divide_the_clients_of_listeners_of_their_own() {
    let config = SocketConfig {
        client_slots: 64,
        ..config()
    };
    let first = Net::new(&config);
    let address = first.address;
    let listening = Listening {
        socket: listen(&Endpoint::Ip(address), &OPTIONS).unwrap(),
        shared: false,
    };
    let mut nets = [first, Net::with(&config, vec![listening], address)];
    let _clients: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let accepted = accept_all(&mut nets, 64);
    assert!(accepted.iter().all(|&count| count > 0), "{accepted:?}");
}

#[test]
fn workers_accept_from_one_shared_listener_and_a_full_one_leaves_it_to_the_other() {
    let options = ListenOptions {
        reuse_port: false,
        ..OPTIONS
    };
    let socket = listen(&any_port(), &options).unwrap();
    let address = local_address(socket.as_fd()).unwrap();
    let shared = |client_slots| {
        let config = SocketConfig {
            client_slots,
            ..config()
        };
        let listening = Listening {
            socket: socket.try_clone().unwrap(),
            shared: true,
        };
        Net::with(&config, vec![listening], address)
    };
    let mut nets = [shared(2), shared(30)];
    let _clients: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let accepted = accept_all(&mut nets, 20);
    assert_eq!(accepted, [2, 18], "the first in turn takes what it can");
}

#[test]
fn a_network_that_stops_accepting_refuses_clients_and_keeps_those_it_has() {
    let mut net = Net::new(&config());
    let (mut client, id) = net.client();
    net.network.stop_accepting();
    assert!(TcpStream::connect(net.address).is_err());
    write(&mut client, b"still here");
    net.until("the bytes", |streams| streams.received(id) == 10);
}

#[test]
fn the_bell_wakes_a_wait_every_time_and_needs_no_silencing() {
    let mut net = Net::new(&config());
    for _ in 0..3 {
        net.bell.ring();
        let started = Instant::now();
        net.network.wait(net.bell.as_fd(), 20_000_000, 0);
        assert!(started.elapsed() < PATIENCE, "it slept on");
        assert_eq!(net.network.waiting(), 1);
        net.network.receive();
        net.network.wait(net.bell.as_fd(), 0, 0);
        assert_eq!(net.network.waiting(), 0, "one ring is one event");
    }
    let other = net.bell.try_clone().unwrap();
    let ringer = std::thread::spawn(move || other.ring());
    net.network.wait(net.bell.as_fd(), 20_000_000, 0);
    assert_eq!(net.network.waiting(), 1);
    ringer.join().unwrap();
}

#[test]
fn with_reply_only_what_waits_for_its_rest_is_acknowledged_at_once() {
    let mut net = Net::new(&SocketConfig {
        ack: AckMode::WithReply,
        ..config()
    });
    let (mut client, id) = net.client();
    let acks = |net: &Net| net.network.socket_counters().quick_acks;
    write(&mut client, b"first");
    net.until("the first bytes", |streams| streams.received(id) == 5);
    net.take(id);
    write(&mut client, b"half a req");
    net.until("the bytes", |streams| streams.received(id) == 10);
    assert_eq!(acks(&net), 1, "its sender may wait for that");
    write(&mut client, b"uest");
    net.turn_until(
        "the rest",
        |streams, id| {
            if streams.received(id) == 14 {
                streams.consume(id, 14);
                streams.expect_reply(id, true);
            }
        },
        |streams| streams.received(id) == 0,
    );
    assert_eq!(acks(&net), 1, "the reply will carry it");
    write(&mut client, b"next");
    net.until("the next", |streams| streams.received(id) == 4);
    let before = acks(&net);
    let streams = net.streams();
    streams.consume(id, 4);
    streams.expect_reply(id, false);
    streams.send(id, b"replies");
    write(&mut client, b"one more");
    net.turn_until(
        "one more",
        |streams, id| {
            let received = streams.received(id);
            streams.consume(id, received);
            streams.send(id, b"replies");
        },
        |streams| streams.send_queued(id) == 0,
    );
    read_exactly(&mut client, 7);
    assert_eq!(acks(&net), before, "the reply carried it");
}
