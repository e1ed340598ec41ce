//! A worker over kernel sockets: the loop, the sockets and the real proxy in front of a server that answers gets.

mod sockets;

use sockets::worker::{REPLY, REQUEST, Scene};
use sockets::{PATIENCE, read_exactly, read_to_end, write};
use std::io::Read;
use std::net::TcpStream;
use std::time::Instant;
use tidegate_config::Endpoint;
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;

#[test]
fn requests_cross_the_loop_whether_it_spins_or_sleeps() {
    for idle in ["spin", "adaptive"] {
        let scene = Scene::new(idle);
        scene.go.send(()).unwrap();
        let mut client = scene.client();
        for _ in 0..100 {
            write(&mut client, REQUEST);
            assert_eq!(read_exactly(&mut client, REPLY.len()), REPLY);
        }
        write(&mut client, &REQUEST.repeat(50));
        assert_eq!(
            read_exactly(&mut client, 50 * REPLY.len()),
            REPLY.repeat(50)
        );
        let (ended, counters, _) = scene.end(Command::Stop);
        assert_eq!(ended, Ended::Stopped);
        assert_eq!(counters.sleeps == 0, idle == "spin");
        assert_eq!(counters.lingers, 0);
    }
}

#[test]
fn a_request_costs_few_system_calls() {
    const REQUESTS: u64 = 1_000;
    let mut scene = Scene::new("adaptive");
    scene.go.send(()).unwrap();
    let mut client = scene.client();
    let request = |client: &mut TcpStream| {
        write(client, REQUEST);
        assert_eq!(read_exactly(client, REPLY.len()), REPLY);
    };
    request(&mut client);
    scene.seen("publication", |statistics| {
        statistics.read().pools[0].replies == 1
    });
    let before = scene.around.statistics.read().clone();
    for _ in 0..REQUESTS {
        request(&mut client);
    }
    scene.seen("publication", |statistics| {
        statistics.read().pools[0].replies == REQUESTS + 1
    });
    let after = scene.around.statistics.read().clone();
    // One of each towards the client and one towards the server.
    let (before_sockets, after_sockets) = (&before.sockets, &after.sockets);
    assert_eq!(after_sockets.reads - before_sockets.reads, 2 * REQUESTS);
    assert_eq!(after_sockets.writes - before_sockets.writes, 2 * REQUESTS);
    let quick_acks = after_sockets.quick_acks - before_sockets.quick_acks;
    assert_eq!(
        quick_acks, REQUESTS,
        "the client's; the server owes nothing"
    );
    // A wait per arrival; a few more for publications.
    let waits = after_sockets.waits - before_sockets.waits;
    assert!(waits <= 3 * REQUESTS, "{waits} waits");
    scene.end(Command::Stop);
}

#[test]
fn an_idle_worker_sleeps_and_a_client_or_a_command_wakes_it() {
    let mut scene = Scene::new("adaptive");
    scene.seen("a sleep", |statistics| statistics.read_loop().sleeps > 0);
    let first = scene.around.statistics.read_loop();
    // It has a heartbeat all the same.
    scene.seen("a heartbeat", |statistics| {
        statistics.read_loop().heartbeat > first.heartbeat + 1
    });
    let later = scene.around.statistics.read_loop();
    let turns = later.turns - first.turns;
    assert!(turns < 1_000, "{turns} turns while idle");
    scene.go.send(()).unwrap();
    let mut client = scene.client();
    write(&mut client, REQUEST);
    assert_eq!(read_exactly(&mut client, REPLY.len()), REPLY);
    assert_eq!(scene.end(Command::ManagerGone).0, Ended::ManagerGone);
}

#[test]
fn statistics_add_up_after_requests() {
    let mut scene = Scene::new("adaptive");
    scene.go.send(()).unwrap();
    let mut client = scene.client();
    write(&mut client, REQUEST);
    read_exactly(&mut client, REPLY.len());
    drop(client);
    scene.seen("publication", |statistics| {
        let seen = statistics.read();
        seen.pools[0].client_eof == 1 && seen.stack.clients_open == 0
    });
    let seen = scene.around.statistics.read().clone();
    assert_eq!((seen.pools[0].requests, seen.servers[0].replies), (1, 1));
    assert_eq!((seen.stack.accepted, seen.stack.connected), (1, 1));
    assert_eq!((seen.stack.servers_open, seen.stack.resets_sent), (1, 0));
    let bytes = (REQUEST.len() + REPLY.len()) as u64;
    assert_eq!(seen.sockets.read_bytes, bytes);
    assert_eq!(seen.sockets.write_bytes, bytes);
    assert!(seen.sockets.waits > 0 && seen.sockets.events > 0);
    scene.end(Command::Stop);
}

#[test]
fn a_server_that_is_gone_is_an_error_for_the_client() {
    let scene = Scene::new("adaptive");
    // The server's one connection is not the proxy's: from then on nobody listens.
    drop(TcpStream::connect(scene.server.address).unwrap());
    let started = Instant::now();
    while TcpStream::connect(scene.server.address).is_ok() {
        assert!(started.elapsed() < PATIENCE, "the server goes on listening");
        std::thread::yield_now();
    }
    let mut client = scene.client();
    write(&mut client, REQUEST);
    let error = b"SERVER_ERROR Connection refused\r\n";
    assert_eq!(read_exactly(&mut client, error.len()), error);
    scene.end(Command::Stop);
}

#[test]
fn a_server_that_refuses_at_once_is_an_error_for_every_request_and_holds_nobody_up() {
    let missing = std::env::temp_dir().join(format!("tidegate-none-{}", std::process::id()));
    let scene = Scene::towards(Some(Endpoint::Unix(missing)), "adaptive");
    // The server beside it is not needed.
    drop(TcpStream::connect(scene.server.address).unwrap());
    let mut client = scene.client();
    write(&mut client, &REQUEST.repeat(3));
    let error = b"SERVER_ERROR Connection refused\r\n";
    let errors = error.repeat(3);
    assert_eq!(read_exactly(&mut client, errors.len()), errors);
    write(&mut client, REQUEST);
    assert_eq!(read_exactly(&mut client, error.len()), error);
    assert_eq!(scene.end(Command::Stop).0, Ended::Stopped);
}

#[test]
fn a_drain_delivers_what_is_owed_and_closes_in_order() {
    let mut scene = Scene::new("adaptive");
    let mut client = scene.client();
    write(&mut client, REQUEST);
    scene.seen("the request", |statistics| {
        statistics.read().servers[0].requests == 1
    });
    scene.around.commands.send(Command::Drain {
        deadline_us: 15_000_000,
    });
    let address = scene.around.addresses[0];
    let started = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(started.elapsed() < PATIENCE, "it goes on listening");
        std::thread::yield_now();
    }
    assert!(!scene.worker.is_finished(), "a reply is owed");
    scene.go.send(()).unwrap();
    assert_eq!(read_to_end(&mut client), REPLY);
    drop(client);
    assert_eq!(scene.wait().0, Ended::Drained);
}

#[test]
fn a_drain_ends_at_its_deadline_with_what_is_owed_named() {
    let mut scene = Scene::new("adaptive");
    let mut client = scene.client();
    write(&mut client, REQUEST);
    scene.seen("the request", |statistics| {
        statistics.read().servers[0].requests == 1
    });
    let (ended, ..) = scene.end(Command::Drain {
        deadline_us: 50_000,
    });
    assert_eq!(ended, Ended::DeadlinePassed { owed: 1 });
    let end = client.read(&mut [0; 64]).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}
