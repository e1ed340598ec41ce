//! The parser beside the real servers, where they are installed: the same bytes lead to the same replies.

mod driver;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driver::{Client, Event, Heads};
use tidegate_protocol::{
    Parsed, Protocol, RefusalText, ReplyScanner, ReplyShape, Resume, Route, parse_request,
};

/// A server of this test's own, gone with it.
struct Server {
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

    fn redis() -> Option<Self> {
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

    fn memcached() -> Option<Self> {
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
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
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
    fn answer_through_parser(&self, protocol: Protocol, bytes: &[u8]) -> Vec<u8> {
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
            let reply = exchange(&mut stream, event);
            if !event.noreply {
                answer.extend(reply);
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

/// Sends one request and returns its reply, measured.
fn exchange(stream: &mut TcpStream, event: &Event) -> Vec<u8> {
    stream.write_all(&event.wire).expect("the server reads");
    let mut scanner = ReplyScanner::new(event.reply);
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

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn memcached_answers_the_same_with_the_parser_before_it() {
    // One server for either side, so that both start empty and see the same requests.
    let (Some(bare), Some(behind_parser)) = (Server::memcached(), Server::memcached()) else {
        return;
    };
    let long = "k".repeat(251);
    let longest = "k".repeat(250);
    let retrievals = [
        "set a 5 0 3\r\nabc\r\nset b 0 0 0\r\n\r\nget a\r\nget a b\r\nget nosuch\r\nget a nosuch a\r\n",
        "get a\nget  a  \r\n get a\r\ngat 100 a\r\ngat -1 nosuch\r\ngat 0 a b\r\n",
        "gat x a\r\nget\r\nget \r\ngat\r\nGET a\r\n",
        &format!("set {longest} 1 0 1\r\nx\r\nget {longest}\r\n"),
        // memcached 1.6 drops earlier replies that it has not sent when it refuses a long key, so nothing stands before these.
        &format!("get {long}\r\n"),
        &format!("get nosuch {long}\r\n"),
    ];
    let storage = [
        "set k 4294967295 -1 1\r\nx\r\nget k\r\nset k 1 2147483647 02\nab\r\nget k\r\n",
        "add k 0 0 1\r\na\r\nadd new 0 0 1\r\na\r\nreplace new 0 0 1\r\nb\r\nappend new 0 0 1\r\nc\r\nprepend new 0 0 1\r\nd\r\nget new\r\n",
        "set k 0 0 1 noreply\r\nz\r\nset k 0 0 1 other\r\ny\r\nget k\r\ncas k 0 0 1 1\r\nx\r\ncas nosuch 0 0 1 18446744073709551615\r\nx\r\n",
        "set k 0 0 3\r\nabcd\r\n",
        "set k 0 0 3\r\nabcdefgh\r\n",
        "set k 0 0 3\r\nabc\n\n",
        "set k 0 0 3\r\nabc\n\r\n",
        "set k 0 0 3\r\na\r\nversion\r\n",
        "set k 0 0 3 noreply\r\nabcd\r\n",
        "set k 0 0\r\nset k 0 0 1 2 3 4\r\ncas k 0 0 1\r\n",
        "set k 0 0 -1\r\nset k 0 0 x\r\nset k 0 0 2147483647\r\nset k 0 0 -1 noreply\r\n",
        &format!(
            "set big 0 0 2000000\r\n{}\r\nget big\r\n",
            "x".repeat(2_000_000)
        ),
    ];
    let others = [
        "set n 0 0 1\r\n5\r\nincr n 3\r\ndecr n 100\r\nincr n x\r\nincr n\r\nincr nosuch 1\r\nincr n 1 noreply\r\nincr n 1 other\r\n",
        "set d 0 0 1\r\n5\r\ndelete d 0\r\ndelete d\r\ndelete d 5\r\ndelete d 5 noreply\r\ndelete d 0 noreply\r\ndelete d a b c\r\ndelete\r\n",
        "set t 0 0 1\r\n5\r\ntouch t 100\r\ntouch t x\r\ntouch t\r\ntouch t 0 noreply\r\ntouch t 1 other\r\n",
        "delete noreply\r\nset noreply 0 0 1\r\nx\r\nget noreply\r\ndelete noreply noreply\r\nget noreply\r\n",
        &format!(
            "delete {long}\r\nincr {long} 1\r\nincr {long} 1 noreply\r\ntouch {long} 1\r\ndelete {long} noreply\r\n"
        ),
        "\r\n\n  \r\na\r\nnosuch a b\r\nversion\r\nversion x\r\n",
        "verbosity 0\r\nverbosity 0 noreply\r\nverbosity\r\n",
    ];
    for stream in retrievals.into_iter().chain(storage).chain(others) {
        let stream = format!("{stream}version\r\nquit\r\n");
        let direct = bare.answer(stream.as_bytes());
        let through = behind_parser.answer_through_parser(Protocol::Memcached, stream.as_bytes());
        let shown: String = stream.chars().take(200).collect();
        assert_eq!(words(&through), words(&direct), "{shown:?}");
    }
}

/// Where the parser means to differ, this pins what memcached does: should it change, the reasons are to be looked at again.
#[test]
fn memcached_takes_the_block_of_a_faulty_storage_line_for_commands() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let stream = b"set k x 0 9\r\nversion\r\n\r\nquit\r\n";
    let direct = words(&server.answer(stream));
    assert!(
        direct.starts_with("CLIENT_ERROR bad command line format\r\nVERSION "),
        "{direct:?}"
    );
    let through = words(&server.answer_through_parser(Protocol::Memcached, stream));
    assert_eq!(through, "CLIENT_ERROR bad command line format\r\n");
}

#[test]
fn redis_answers_the_same_with_the_parser_before_it() {
    let Some(server) = Server::redis() else {
        return;
    };
    let command = |line: &str| {
        let bulks: Vec<String> = line
            .split(' ')
            .map(|word| format!("${}\r\n{word}\r\n", word.len()))
            .collect();
        format!("*{}\r\n{}", bulks.len(), bulks.concat())
    };
    let lines = [
        "SET a 1",
        "GET a",
        "GET nosuch",
        "INCR a",
        "APPEND a x",
        "INCR a",
        "GETRANGE a 0 0",
        "mset x 1 y 2",
        "MGET x nosuch y",
        "DEL x y nosuch",
        "RPUSH l a b c",
        "LRANGE l 0 -1",
        "LRANGE nosuch 0 -1",
        "HSET h f v g w",
        "HGETALL h",
        "HGET l f",
        "SADD s m",
        "SMEMBERS s",
        "ZADD z 1 m",
        "ZRANGE z 0 -1 WITHSCORES",
        "ZDIFF 1 z",
        "ZUNION 2 z nosuch",
        "EVAL return{1,{2,{3}},'x'} 1 k",
        "EVAL return 1 k",
        "GET",
        "SET a",
        "MGET",
        "DEL",
        "GEOADD g 13.361389 38.115556 Palermo",
        "GEOPOS g Palermo nosuch",
        "HSCAN h 0",
        "SORT l ALPHA",
        "TYPE l",
        "EXISTS a a",
        "TOUCH a",
        "UNLINK a",
        "SETEX a 0 x",
        "ping",
        "PING hello",
        "ping a b",
        "SELECT",
        "select 0",
    ];
    let mut stream: String = lines.iter().map(|line| command(line)).collect();
    stream += "*0\r\n*-1\r\n\r\nPING\r\n ping hello \n\r\n";
    stream += &command("quit");
    let direct = server.answer(stream.as_bytes());
    assert!(direct.ends_with(b"+OK\r\n"));
    // The second run starts with the empty server that the first had.
    let emptied = server.answer((command("FLUSHALL") + &command("QUIT")).as_bytes());
    assert_eq!(words(&emptied), "+OK\r\n+OK\r\n");
    let through = server.answer_through_parser(Protocol::Redis, stream.as_bytes());
    // QUIT is the proxy's to answer.
    assert_eq!(words(&through) + "+OK\r\n", words(&direct));
}

#[test]
fn redis_closes_on_the_same_framing_faults_with_the_same_words() {
    let Some(server) = Server::redis() else {
        return;
    };
    for stream in [
        "*x\r\n",
        "*1\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$-1\r\n",
        "*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
        "*2\r\n$3\r\nGET\r\n$x\r\n",
        "*2\r\n$3\r\nGET\r\n$536870913\r\n",
        "*2\r\n$3\r\nGET\r\nx\r\n",
        "*99999999999\r\n",
    ] {
        let direct = server.answer(stream.as_bytes());
        let mut client = Client::new(Protocol::Redis, Heads::Look);
        client.receive(stream.as_bytes());
        assert_eq!(
            client.texts(),
            [format!("close {}", words(&direct).trim_end())],
            "{stream:?}"
        );
    }
}

/// A RESP value as far as COMMAND's reply needs it.
enum Value {
    Text(String),
    Number(i64),
    Array(Vec<Value>),
}

impl Value {
    /// Takes the value at the front of `bytes`.
    fn take(bytes: &mut &[u8]) -> Self {
        let end = bytes
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .expect("a line");
        let line = words(&bytes[1..end]);
        let kind = bytes[0];
        *bytes = &bytes[end + 2..];
        match kind {
            b'+' => Self::Text(line),
            b':' => Self::Number(line.parse().expect("a number")),
            b'$' => {
                let length: usize = line.parse().expect("a length");
                let text = words(&bytes[..length]);
                *bytes = &bytes[length + 2..];
                Self::Text(text)
            }
            b'*' => Self::Array(
                (0..line.parse::<usize>().expect("a count"))
                    .map(|_| Self::take(bytes))
                    .collect(),
            ),
            other => panic!("{other}"),
        }
    }

    fn array(&self) -> &[Self] {
        if let Self::Array(values) = self {
            values
        } else {
            panic!("no array")
        }
    }

    fn number(&self) -> i64 {
        if let Self::Number(number) = self {
            *number
        } else {
            panic!("no number")
        }
    }

    fn text(&self) -> &str {
        if let Self::Text(text) = self {
            text
        } else {
            panic!("no text")
        }
    }
}

/// What the parser says about `argc` words, of which the first is `name` and each other says its position, except a count of keys.
fn route_of(name: &str, argc: usize) -> (Option<Route>, Option<i64>, String) {
    let words: Vec<String> = (0..argc)
        .map(|position| {
            if position == 0 {
                name.to_owned()
            } else {
                position.to_string()
            }
        })
        .collect();
    let bulks: Vec<String> = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    let wire = format!("*{argc}\r\n{}", bulks.concat());
    match parse_request(Protocol::Redis, wire.as_bytes(), &mut Resume::default()) {
        Parsed::Whole(request) => (
            Some(request.route),
            wire[request.key].parse().ok(),
            String::new(),
        ),
        Parsed::Refused(refusal) => (None, None, words_of(&refusal.reply)),
        other => panic!("{other:?}"),
    }
}

fn words_of(text: &RefusalText) -> String {
    match text {
        RefusalText::Constant(text) => (*text).to_owned(),
        RefusalText::Named { before, .. } => (*before).to_owned(),
    }
}

#[test]
fn the_command_table_agrees_with_redis_on_arity_and_first_key() {
    let Some(server) = Server::redis() else {
        return;
    };
    let answer = server.answer(b"*1\r\n$7\r\nCOMMAND\r\n*1\r\n$4\r\nQUIT\r\n");
    let commands = Value::take(&mut &answer[..]);
    let mut refused = HashMap::new();
    for command in commands.array() {
        let row = command.array();
        let (name, arity, first_key) = (row[0].text(), row[1].number(), row[3].number());
        let movable = row[2]
            .array()
            .iter()
            .any(|flag| flag.text() == "movablekeys");
        let least = arity.unsigned_abs() as usize;

        // One word less than the least is refused as such, unless the command is refused anyway.
        let (_, _, too_few) = route_of(name, least.max(2) - 1);
        // A count of keys needs a key behind it.
        let enough = least.max(first_key as usize + 1) + usize::from(movable && arity < 0);
        let (route, key, text) = route_of(name, enough);
        let wrong = format!("-ERR wrong number of arguments for '{name}' command\r\n");
        match route {
            None => {
                refused.insert(name.to_owned(), text);
                continue;
            }
            Some(_) if least >= 2 => assert_eq!(too_few, wrong, "{name} with too few arguments"),
            Some(_) => {}
        }
        if arity > 0 {
            assert_eq!(
                route_of(name, least + 1).2,
                wrong,
                "{name} with too many arguments"
            );
        }
        match route.expect("checked above") {
            Route::Key | Route::Split(_) if first_key > 0 => {
                assert_eq!(key, Some(first_key), "the key of {name}");
            }
            // The first key follows their count, which was 1 or 2: the position of the count itself.
            Route::Key => assert!(movable && key > Some(1), "the key of {name}"),
            Route::Split(_) => panic!("{name} is split and has no key"),
            Route::Any | Route::Local(_) => assert_eq!(first_key, 0, "{name} has no key"),
        }
    }
    // Every command is known, and what is not taken has its reason.
    for (name, text) in refused {
        let known = text.starts_with(&format!(
            "-ERR command '{name}' is not supported by the proxy: "
        ));
        assert!(known || name == "hello", "{name}: {text}");
    }
}

#[test]
fn the_shape_of_every_reply_is_a_value() {
    // Redis requests all get one RESP value; memcached retrievals are the only ones with blocks.
    for (protocol, wire, shape) in [
        (
            Protocol::Redis,
            "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            ReplyShape::Resp,
        ),
        (Protocol::Memcached, "get k\r\n", ReplyShape::Values),
        (Protocol::Memcached, "gats 1 k\r\n", ReplyShape::Values),
        (Protocol::Memcached, "touch k 1\r\n", ReplyShape::Line),
    ] {
        let parsed = parse_request(protocol, wire.as_bytes(), &mut Resume::default());
        let Parsed::Whole(request) = parsed else {
            panic!("{parsed:?}")
        };
        assert_eq!(request.reply, shape);
    }
}
