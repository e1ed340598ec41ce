//! The server as clients meet it: over sockets, friendly and not.

use super::limits::{CONNECTIONS_MAX, HEADER_BYTES_MAX};
use super::{Http, Opened, sample};
use crate::slowlog::tests::slow;
use crate::slowlog::{Ask, SlowLog};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidegate_config::HttpConfig;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port.
struct Server {
    http: Http,
    address: SocketAddr,
    token_file: Option<PathBuf>,
}

impl Server {
    fn silent(token: Option<&str>) -> Self {
        let token_file = token.map(|token| {
            let random = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
            let path = std::env::temp_dir().join(format!("tidegate-http-token-{random}"));
            std::fs::write(&path, token).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path
        });
        let opened = Opened::open(
            &HttpConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                token: token_file.clone(),
            },
            "",
        );
        let opened = opened.unwrap();
        let address = opened.listener.local_addr().unwrap();
        Self {
            http: Http::start(opened).unwrap(),
            address,
            token_file,
        }
    }

    fn new(token: Option<&str>) -> Self {
        let server = Self::silent(token);
        server.publish();
        server
    }

    fn publish(&self) {
        let mut log = SlowLog::new(3);
        log.add(1, vec![slow("a\\xff")], 5);
        let slow = log.answer(&Ask::Get { entries: 3 });
        let board = &self.http.board;
        board.publish(Instant::now(), sample::stats(), slow);
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and reads until the connection ends.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be refused before all of it was sent.
        let _refused = stream.write_all(request);
        let mut reply = Vec::new();
        let _reset = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn ask(&self, line: &str, headers: &str) -> String {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
            self.address
        );
        self.raw(request.as_bytes())
    }

    fn get(&self, path: &str) -> (u16, String) {
        split(&self.ask(&format!("GET {path}"), ""))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(file) = &self.token_file {
            let _gone = std::fs::remove_file(file);
        }
    }
}

/// Status and body.
fn split(reply: &str) -> (u16, String) {
    let status = reply
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}

#[test]
fn every_path_is_answered() {
    let server = Server::new(None);
    for (path, words) in [
        ("/", "<!doctype html>"),
        ("/style.css", "prefers-color-scheme"),
        ("/main.js", "import"),
        ("/icon.svg", "<svg"),
        ("/metrics", "tidegate_info{"),
        ("/healthz", "ok\n"),
        ("/api/stats", "\"name\":\"shop\""),
        ("/api/history", "\"seq\":0"),
        ("/api/history?from=0", "\"seq\":0"),
        ("/api/history?from=1", "[]"),
        ("/api/slowlog", "\"key\":\"a\\\\xff\""),
        ("/api/slowlog", "\"lost\":5"),
        ("/api/events", "["),
    ] {
        let (status, body) = server.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.contains(words), "{path}: {words:?} is not in {body}");
    }
    let (_, body) = server.get("/api/stats");
    let stats: crate::stats::model::Stats = serde_json::from_str(&body).unwrap();
    assert_eq!(stats, sample::stats());
    server.publish();
    assert!(server.get("/api/history?from=1").1.contains("\"seq\":1"));
}

#[test]
fn metrics_are_open_metrics_for_those_who_ask_for_it() {
    let server = Server::new(None);
    let of_prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                         text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, is_open) in [
        (of_prometheus, true),
        ("application/openmetrics-text", true),
        (
            "text/plain, Application/OpenMetrics-Text; Version=1.0.0",
            true,
        ),
        ("application/openmetrics-text;version=0.0.1", false),
        ("application/openmetrics-text;q=0, text/plain", false),
        ("*/*", false),
        ("text/plain;version=0.0.4", false),
    ] {
        let reply = server.ask("GET /metrics", &format!("Accept: {accept}\r\n"));
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        let head = reply.to_lowercase();
        assert_eq!(head.contains(kind), is_open, "{accept}: {head}");
        assert_eq!(reply.ends_with("# EOF\n"), is_open, "{accept}");
        let counters = if is_open {
            "tidegate_pool_requests counter"
        } else {
            "tidegate_pool_requests_total counter"
        };
        assert!(reply.contains(counters), "{accept}");
    }
}

#[test]
fn every_reply_forbids_what_a_page_could_be_made_to_do() {
    let server = Server::new(None);
    for path in ["/", "/metrics", "/nothing", "/api/stats"] {
        let reply = server.ask(&format!("GET {path}"), "").to_lowercase();
        for header in [
            "content-security-policy: default-src 'self'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "x-frame-options: deny",
            "cache-control: no-store",
        ] {
            assert!(reply.contains(header), "{path}: {header}: {reply}");
        }
        assert!(!reply.contains("access-control-allow"), "{reply}");
    }
}

#[test]
fn wrong_requests_get_a_status_and_a_sentence() {
    let server = Server::new(None);
    for (line, headers, status, words) in [
        ("GET /nothing", "", 404, "there is /"),
        ("GET /api", "", 404, "there is /"),
        ("GET /../etc/passwd", "", 404, "there is /"),
        ("POST /", "", 405, "only GET and HEAD"),
        ("DELETE /api/stats", "", 405, "only GET and HEAD"),
        (
            "GET /",
            "Content-Length: 5\r\n",
            413,
            "no request here has a body",
        ),
        (
            "GET /",
            "Transfer-Encoding: chunked\r\n",
            413,
            "no request here",
        ),
        ("GET /", "Host: 127.0.0.1\r\n", 400, "one Host header"),
        ("GET http://evil.example/api/stats", "", 421, "another host"),
        ("GET /api/history?from=-1", "", 400, "from=NUMBER"),
        ("GET /api/history?from=", "", 400, "from=NUMBER"),
        (
            "GET /api/history?from=99999999999999999999",
            "",
            400,
            "from=NUMBER",
        ),
        ("GET /api/history?x", "", 400, "from=NUMBER"),
    ] {
        let (found, body) = split(&server.ask(line, headers));
        assert_eq!(found, status, "{line} {headers}: {body}");
        assert!(body.contains(words), "{line}: {words:?} is not in {body}");
    }
    let rebound = b"GET /api/stats HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(split(&server.raw(rebound)).0, 421);
    let hostless = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(split(&server.raw(hostless)).0, 400);
    assert_eq!(split(&server.raw(b"GET / HTTP/1.0\r\n\r\n")).0, 200);
}

#[test]
fn a_head_has_no_body() {
    let server = Server::new(None);
    let (status, body) = split(&server.ask("HEAD /metrics", ""));
    assert_eq!((status, body.as_str()), (200, ""));
}

#[test]
fn garbage_and_excess_end_with_their_connection() {
    let server = Server::new(None);
    let long = "x".repeat(2 * HEADER_BYTES_MAX);
    let many = "a: b\r\n".repeat(200);
    for request in [
        "\0\0\0\0\r\n\r\n".to_owned(),
        "*1\r\n$4\r\nPING\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\na: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n".to_owned(),
    ] {
        let (status, _) = split(&server.raw(request.as_bytes()));
        assert!(
            matches!(status, 400 | 413 | 414 | 431),
            "{status} for {:?}",
            &request[..request.len().min(60)]
        );
    }
    assert_eq!(server.get("/healthz").0, 200);
}

#[test]
fn those_who_only_hold_places_do_not_keep_others_out() {
    let server = Server::new(None);
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        let mut stream = server.connect();
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        silent.push(stream);
    }
    assert_eq!(server.get("/healthz").0, 200);
    let mut reply = Vec::new();
    // The first of them gave way: its connection ended without an answer.
    let _reset = silent[0].read_to_end(&mut reply);
    assert!(reply.is_empty());
}

#[test]
fn a_token_guards_what_is_told_and_not_the_empty_page() {
    const TOKEN: &str = "letters-and-digits-0123";
    let server = Server::new(Some(TOKEN));
    for path in [
        "/metrics",
        "/api/stats",
        "/api/history",
        "/api/slowlog",
        "/api/events",
    ] {
        for headers in [
            String::new(),
            "Authorization: Bearer wrong\r\n".to_owned(),
            format!("Authorization: Basic {TOKEN}\r\n"),
        ] {
            let reply = server.ask(&format!("GET {path}"), &headers);
            assert_eq!(split(&reply).0, 401, "{path}");
            assert!(reply.to_lowercase().contains("www-authenticate: bearer"));
            assert!(!reply.contains("shop") && !reply.contains(TOKEN));
        }
        let right = format!("Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(split(&server.ask(&format!("GET {path}"), &right)).0, 200);
    }
    for path in ["/", "/style.css", "/healthz"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
    // Prometheus asks by the name that it knows.
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: edge-1.example:9119\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(split(&server.raw(request.as_bytes())).0, 200);
}

#[test]
fn before_the_first_second_it_says_so() {
    let server = Server::silent(None);
    for path in ["/healthz", "/metrics", "/api/stats"] {
        let (status, body) = server.get(path);
        assert_eq!(status, 503, "{path}");
        assert!(body.contains("starting"), "{path}: {body}");
    }
    assert_eq!(server.get("/api/history").1, "[]");
    assert_eq!(server.get("/").0, 200);
}

#[test]
fn what_cannot_be_opened_is_all_told_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let faults = Opened::open(
        &HttpConfig {
            listen,
            token: Some("/nonexistent/token".into()),
        },
        "",
    );
    let faults = faults.unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("/nonexistent/token"), "{faults:?}");
    let port = listen.port().to_string();
    assert!(
        faults[1].contains("in use") && faults[1].contains(&port),
        "{faults:?}"
    );
}

#[test]
fn it_ends_with_its_owner() {
    let server = Server::new(None);
    let address = server.address;
    let mut open = server.connect();
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    let mut rest = Vec::new();
    let _reset = open.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn whatever_a_client_says_there_is_a_page_for_the_next() {
    const RIGHT: &[u8] = b"GET /api/history?from=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\
        Transfer-Encoding: chunked\r\nAuthorization: Bearer abc\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let server = Server::new(None);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    for round in 0..200 {
        let mut request = RIGHT.to_vec();
        for _ in 0..random(5) {
            let at = random(request.len() + 1);
            let until = (at + random(40)).min(request.len());
            match random(3) {
                0 => drop(request.drain(at..until)),
                1 => drop(request.splice(at..until, [random(256) as u8])),
                _ => {
                    let piece = request[at..until].repeat(1 + random(300));
                    drop(request.splice(at..at, piece));
                }
            }
        }
        let mut stream = server.connect();
        let _refused = stream.write_all(&request);
        let _gone = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = Vec::new();
        let _reset = stream.read_to_end(&mut reply);
        let sound = reply.is_empty() || reply.starts_with(b"HTTP/1.");
        assert!(sound, "round {round}: {}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(server.get("/healthz").0, 200);
}
