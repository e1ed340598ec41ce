//! The parser beside the real servers, where they are installed: the same bytes lead to the same replies.

mod driver;

use driver::server::{Server, words};
use driver::{Client, Heads};
use tidegate_protocol::Protocol;

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
