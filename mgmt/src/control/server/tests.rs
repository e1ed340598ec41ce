//! The control socket and its clients, well-behaved and not.

use super::*;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = format!("tidegate-control-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn says(client: UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn asked(server: &mut ControlServer) -> Vec<(Ticket, Request)> {
    let mut requests = Vec::new();
    for _ in 0..4 {
        requests.extend(server.turn(Instant::now()));
    }
    requests
}

#[test]
fn a_request_is_answered_when_its_answer_is_there() {
    let place = Place::new("answer");
    let mut server = ControlServer::listen(&place.socket()).unwrap();
    let mut client = UnixStream::connect(place.socket()).unwrap();
    client.write_all(b"{\"sta").unwrap();
    assert_eq!(asked(&mut server), []);
    client.write_all(b"tus\":{}}\n").unwrap();
    let requests = asked(&mut server);
    assert_eq!(requests.len(), 1);
    let (ticket, request) = requests[0].clone();
    assert_eq!(request, Request::Status {});
    assert_eq!(asked(&mut server), [], "a request is taken once");
    server.answer(ticket, &Answer::Ok(json!({"a": 1})));
    assert_eq!(says(client), json!({"ok": {"a": 1}}));
    asked(&mut server);
    assert!(server.clients.is_empty());
}

#[test]
fn without_descriptors_nobody_polls_for_clients_until_the_pause_is_over() {
    let place = Place::new("pause");
    let mut server = ControlServer::listen(&place.socket()).unwrap();
    let _client = UnixStream::connect(place.socket()).unwrap();
    let now = Instant::now();
    let full = io::Error::from_raw_os_error(nix::libc::EMFILE);
    assert!(!server.pause.failed(now, "test", &full));
    server.turn(now);
    assert_eq!((server.poll_list().count(), server.clients.len()), (0, 0));
    let due = server.due().unwrap();
    assert!(due > now);
    server.turn(due);
    assert_eq!((server.poll_list().count(), server.clients.len()), (2, 1));
}

#[test]
fn what_is_no_request_is_told_why() {
    let place = Place::new("garbage");
    let mut server = ControlServer::listen(&place.socket()).unwrap();
    for (sent, words) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), "expected value"),
        (b"{\"explode\":{}}\n".to_vec(), "unknown variant `explode`"),
        (b"{\"status\":{\"x\":1}}\n".to_vec(), "unknown field `x`"),
        (vec![b'x'; REQUEST_BYTES_MAX + 1], "longer than"),
        (vec![0xff; 3], "without a line feed"),
    ] {
        let mut client = UnixStream::connect(place.socket()).unwrap();
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let part = rest.len().min(16 * 1024);
            client.write_all(&rest[..part]).unwrap();
            rest = &rest[part..];
            asked(&mut server);
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(asked(&mut server), []);
        let said = says(client).to_string();
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert_eq!(server.counters().refused_malformed, 5);
}

#[test]
fn a_flood_of_silent_clients_does_not_shut_others_out() {
    let place = Place::new("flood");
    let mut server = ControlServer::listen(&place.socket()).unwrap();
    let mut silent = Vec::new();
    for _ in 0..3 * CLIENTS_MAX {
        silent.push(UnixStream::connect(place.socket()).unwrap());
        server.turn(Instant::now());
    }
    let mut client = UnixStream::connect(place.socket()).unwrap();
    client.write_all(b"{\"status\":{}}\n").unwrap();
    assert_eq!(asked(&mut server).len(), 1);
    assert!(server.clients.len() <= CLIENTS_MAX);
    assert!(server.counters().refused_crowded >= 2 * CLIENTS_MAX as u64);
    let later = Instant::now() + PATIENCE;
    server.turn(later);
    assert_eq!(server.clients.len(), 1, "only the one that waits stays");
    drop(client);
    server.turn(later);
    assert!(server.clients.is_empty(), "one that went away is forgotten");
}

#[test]
fn a_client_that_takes_nothing_loses_its_place() {
    let place = Place::new("slow");
    let mut server = ControlServer::listen(&place.socket()).unwrap();
    let mut client = UnixStream::connect(place.socket()).unwrap();
    client.write_all(b"{\"status\":{}}\n").unwrap();
    let (ticket, _) = asked(&mut server)[0].clone();
    server.answer(ticket, &Answer::Ok(json!("x".repeat(8 << 20))));
    asked(&mut server);
    assert_eq!(server.clients.len(), 1);
    server.turn(Instant::now() + 2 * PATIENCE);
    assert!(server.clients.is_empty());
    assert_eq!(server.counters().timed_out, 1);
}

#[test]
fn nobody_else_can_open_it() {
    let place = Place::new("mode");
    let _server = ControlServer::listen(&place.socket()).unwrap();
    let mode = std::fs::metadata(place.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Marsaglia's xorshift.
fn random(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize % below
}

/// A request that is nearly right.
fn bent(state: &mut u64) -> Vec<u8> {
    const RIGHT: [&str; 8] = [
        r#"{"status":{}}"#,
        r#"{"drain":{"worker":1,"deadline_ms":100}}"#,
        r#"{"log-level":{"filter":"info"}}"#,
        r#"{"reload":{"dry_run":true}}"#,
        r#"{"queues":{"port":"eth1","cores":{"0":2},"save":false}}"#,
        r#"{"set":{"edits":[{"pool":"a","key":"timeout_ms","value":"5"}],"save":true}}"#,
        r#"{"slowlog":{"get":{"entries":3}}}"#,
        r#"{"keys":{"pool":null,"seconds":1}}"#,
    ];
    const PIECES: [&str; 12] = [
        "{",
        "}",
        "[",
        "\"",
        ":",
        ",",
        "null",
        "-1",
        "1e999",
        "18446744073709551616",
        "\\ud800",
        "\n",
    ];
    let mut bytes = RIGHT[random(state, RIGHT.len())].as_bytes().to_vec();
    for _ in 0..random(state, 6) {
        let at = random(state, bytes.len() + 1);
        let until = (at + random(state, 20)).min(bytes.len());
        match random(state, 4) {
            0 => drop(bytes.drain(at..until)),
            1 => drop(bytes.splice(at..at, PIECES[random(state, PIECES.len())].bytes())),
            2 => {
                let times = 1 + random(state, 2_000);
                let piece = bytes[at..until].repeat(times);
                drop(bytes.splice(at..at, piece));
            }
            _ => drop(bytes.splice(at..until, [random(state, 256) as u8])),
        }
        // A few times what is taken.
        bytes.truncate(3 * REQUEST_BYTES_MAX);
    }
    bytes.push(b'\n');
    bytes
}

#[test]
fn whatever_a_client_says_it_gets_one_answer_and_leaves_nothing() {
    const ROUNDS: u64 = 500;
    let place = Place::new("bent");
    let mut server = ControlServer::listen(&place.socket()).unwrap();
    let mut taken = 0;
    for seed in 1..=ROUNDS {
        println!("seed {seed}");
        let sent = bent(&mut seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut client = UnixStream::connect(place.socket()).unwrap();
        let mut requests = Vec::new();
        for part in sent.chunks(16 * 1024) {
            // Whoever says too much is not heard to the end.
            let _refused = client.write_all(part);
            requests.extend(asked(&mut server));
        }
        let _gone = client.shutdown(std::net::Shutdown::Write);
        requests.extend(asked(&mut server));
        assert!(requests.len() <= 1, "{requests:?}");
        for (ticket, request) in requests {
            let again = serde_json::to_vec(&request).unwrap();
            let again: Request = serde_json::from_slice(&again).unwrap();
            assert_eq!(again, request);
            server.answer(ticket, &Answer::Ok(json!(seed)));
            taken += 1;
            assert_eq!(says(client.try_clone().unwrap()), json!({"ok": seed}));
        }
        drop(client);
        asked(&mut server);
        assert!(server.clients.is_empty(), "somebody keeps a place");
    }
    let counters = server.counters();
    assert_eq!(counters.requests, taken);
    assert_eq!(counters.requests + counters.refused_malformed, ROUNDS);
}
