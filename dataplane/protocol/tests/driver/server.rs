//! Real servers on loopback, where they are installed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_protocol::{BinaryHead, BinaryStatus, Protocol, ReplyScanner, ReplyShape};

use super::{Client, Event, Heads, frame};

/// A server of this test's own, gone with it.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts a server on a free loopback port. `None`, and a word about it, when it is not installed.
    fn start(program: &str, arguments: impl Fn(u16) -> Vec<String>) -> Option<Self> {
        // Another process can take the port before the server does, so there is more than one try.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|listener| listener.local_addr())
                .expect("a free port")
                .port();
            let child = Command::new(program)
                .args(arguments(port))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let child = match child {
                Ok(child) => child,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    eprintln!("skipped: {program} is not installed");
                    return None;
                }
                Err(error) => panic!("{program}: {error}"),
            };
            let mut server = Self { child, port };
            for _ in 0..500 {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Some(server);
                }
                if server
                    .child
                    .try_wait()
                    .expect("the server's state")
                    .is_some()
                {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("{program} does not accept connections");
    }

    pub fn redis() -> Option<Self> {
        let words = |port: u16| {
            format!("--port {port} --bind 127.0.0.1 --appendonly no --daemonize no --save")
        };
        Self::start("redis-server", |port| {
            words(port)
                .split(' ')
                .map(str::to_owned)
                .chain([String::new()])
                .collect()
        })
    }

    pub fn memcached() -> Option<Self> {
        let words = |port: u16| format!("-u nobody -l 127.0.0.1 -p {port} -U 0 -m 16");
        Self::start("memcached", |port| {
            words(port).split(' ').map(str::to_owned).collect()
        })
    }

    fn connect(&self) -> TcpStream {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the server accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a read timeout");
        stream
    }

    /// All that the server answers to `bytes` until it closes, which `bytes` make it do.
    pub fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("the server reads");
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => answer,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
        }
    }

    /// What a client gets that sends `bytes` through the parser: each request goes to the server on a connection of its own.
    pub fn answer_through_parser(&self, protocol: Protocol, bytes: &[u8]) -> Vec<u8> {
        let mut client = Client::new(protocol, Heads::Look);
        client.receive(bytes);
        let mut stream = self.connect();
        let mut answer = Vec::new();
        for event in &client.events {
            if event.text == "local Quit" {
                break;
            }
            if let Some(refusal) = &event.refusal {
                answer.extend(refusal);
                continue;
            }
            match (&event.text[..], event.reply) {
                ("local MetaNoop", _) => answer.extend(b"MN\r\n"),
                ("local BinaryNoop", ReplyShape::Binary(head)) => {
                    answer.extend(frame(head, BinaryStatus::Success, ""));
                }
                ("local BinaryQuit", ReplyShape::Binary(head)) => {
                    if !head.is_quiet() {
                        answer.extend(frame(head, BinaryStatus::Success, ""));
                    }
                    break;
                }
                (_, ReplyShape::Binary(head)) => {
                    answer.extend(exchange_frame(&mut stream, event, head));
                }
                (_, shape) => {
                    let reply = exchange(&mut stream, event, ReplyScanner::new(shape));
                    let code = *reply.first_chunk().expect("a reply has a line");
                    if !event.noreply && !shape.hides(code) {
                        answer.extend(reply);
                    }
                }
            }
        }
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a frame as the proxy does, and returns what its client gets.
fn exchange_frame(stream: &mut TcpStream, event: &Event, head: BinaryHead) -> Vec<u8> {
    const NUMBER: u32 = 0x0102_0304;
    let mut event = event.clone();
    head.address(event.wire.first_chunk_mut().expect("a header"), NUMBER);
    let scanner = ReplyScanner::new(event.reply).expecting(NUMBER);
    let mut reply = exchange(stream, &event, scanner);
    let header = reply.first_chunk_mut().expect("a header");
    if head.hides(header) {
        return Vec::new();
    }
    head.restore(header);
    reply
}

/// Sends one request and returns its reply, measured.
fn exchange(stream: &mut TcpStream, event: &Event, mut scanner: ReplyScanner) -> Vec<u8> {
    stream.write_all(&event.wire).expect("the server reads");
    let mut reply = Vec::new();
    let mut measured = 0;
    let mut chunk = [0; 4096];
    loop {
        let bytes = stream.read(&mut chunk).expect("the server answers");
        assert!(
            bytes > 0,
            "the server closed on {:?}",
            String::from_utf8_lossy(&event.wire)
        );
        reply.extend_from_slice(&chunk[..bytes]);
        let scan = scanner.scan(&reply[measured..]).expect("a sound reply");
        measured += scan.bytes;
        if scan.done {
            assert_eq!(
                measured,
                reply.len(),
                "one reply to {:?}",
                String::from_utf8_lossy(&event.wire)
            );
            return reply;
        }
    }
}

/// Bytes as text.
pub fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
