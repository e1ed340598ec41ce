//! The table of Redis commands beside what redis-server says about its commands, where it is installed.

mod driver;

use std::collections::{BTreeMap, BTreeSet};

use driver::server::{Server, words};
use tidegate_protocol::{
    Parsed, Protocol, RedisCommand, Resume, Route, parse_request, redis_commands,
};

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
            b'+' | b'-' => Self::Text(line),
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

/// A command as the server describes it.
struct Described {
    arity: i64,
    /// Position of the first key, if its keys do not move.
    first_key: i64,
    movable: bool,
    /// What stands there are channels.
    no_keys: bool,
    /// It has subcommands.
    container: bool,
}

/// Adds the rows of COMMAND's reply, subcommands included, to `all`.
fn describe(rows: &[Value], all: &mut BTreeMap<String, Described>) {
    for row in rows {
        let row = row.array();
        let is = |value: &Value, wanted: &str| matches!(value, Value::Text(text) if text == wanted);
        let has = |value: &Value, wanted: &str| matches!(value, Value::Array(values) if values.iter().any(|value| is(value, wanted)));
        let flags = |spec: &Value, wanted: &str| spec.array().iter().any(|part| has(part, wanted));
        let subcommands = row[9].array();
        all.insert(
            row[0].text().to_owned(),
            Described {
                arity: row[1].number(),
                first_key: row[3].number(),
                movable: has(&row[2], "movablekeys"),
                no_keys: row[8].array().iter().any(|spec| flags(spec, "not_key")),
                container: !subcommands.is_empty(),
            },
        );
        describe(subcommands, all);
    }
}

fn wire(words: &[String]) -> String {
    let bulks: Vec<String> = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    format!("*{}\r\n{}", words.len(), bulks.concat())
}

fn split(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn ask(server: &Server, requests: &[Vec<String>]) -> Vec<Value> {
    let mut all: String = requests.iter().map(|words| wire(words)).collect();
    all += &wire(&split("QUIT"));
    let answer = server.answer(all.as_bytes());
    let mut rest = &answer[..];
    requests.iter().map(|_| Value::take(&mut rest)).collect()
}

fn commands_of(server: &Server) -> BTreeMap<String, Described> {
    let mut all = BTreeMap::new();
    describe(ask(server, &[split("COMMAND")])[0].array(), &mut all);
    all
}

/// Whether it is the version of which the table is; another has other commands and numbers of arguments.
fn is_of_the_table(server: &Server) -> bool {
    let info = ask(server, &[split("INFO server")]);
    let same = info[0].text().contains("redis_version:7.0.");
    if !same {
        eprintln!("skipped: redis-server is not of version 7.0");
    }
    same
}

#[test]
fn the_table_has_the_commands_of_redis_with_their_arity_and_no_others() {
    let Some(server) = Server::redis() else {
        return;
    };
    if !is_of_the_table(&server) {
        return;
    }
    let theirs = commands_of(&server);
    let ours: BTreeMap<&str, RedisCommand> = redis_commands()
        .into_iter()
        .map(|command| (command.name, command))
        .collect();
    for (name, described) in &theirs {
        match ours.get(name.as_str()) {
            Some(row) => assert_eq!(i64::from(row.arity), described.arity, "{name}"),
            None => assert!(described.container, "{name} is missing"),
        }
    }
    for (name, row) in ours {
        let newer = row.remark.starts_with("since Redis ") || row.name == "cluster|myshardid";
        assert!(
            theirs.contains_key(name) != newer,
            "{name} is not of this version"
        );
    }
}

/// What the parser finds of keys. `None`: it refuses the request.
fn keys_found(words: &[String]) -> Option<Vec<String>> {
    let wire = wire(words);
    let parsed = parse_request(Protocol::Redis, wire.as_bytes(), &mut Resume::default());
    let Parsed::Whole(request) = parsed else {
        return None;
    };
    Some(match request.route {
        Route::Key => vec![wire[request.key].to_owned()],
        _ => request
            .keys(wire.as_bytes())
            .map(|part| wire[part.key].to_owned())
            .collect(),
    })
}

/// Requests of commands whose keys move.
const MOVING: &[&str] = &[
    "BLMPOP 0 2 a b LEFT",
    "BZMPOP 0 1 a MIN COUNT 3",
    "EVAL script 3 a b c x y",
    "EVAL script 1 a",
    "EVAL_RO script 2 a b x",
    "EVALSHA sha 2 a b x",
    "EVALSHA_RO sha 1 a",
    "FCALL f 2 a b x",
    "FCALL_RO f 1 a x",
    "GEORADIUS a 1 2 3 km STORE b",
    "GEORADIUS a 1 2 3 km",
    "GEORADIUS a 1 2 3 km ASC COUNT 3 storedist b WITHDIST",
    "GEORADIUS a 1 2 3 km STORE",
    "GEORADIUSBYMEMBER a m 3 km STORE b",
    "GEORADIUSBYMEMBER a STORE 3 km ASC",
    "LMPOP 2 a b RIGHT COUNT 1",
    "SINTERCARD 2 a b LIMIT 1",
    "SORT a",
    "SORT a BY store LIMIT 0 5 GET # DESC ALPHA STORE b",
    "SORT a GET store LIMIT store store",
    "SORT a store b STORE c",
    "SORT a STORE",
    "SORT_RO a BY x",
    "XREAD COUNT 3 STREAMS a b 0 0",
    "XREAD BLOCK 0 STREAMS a $",
    "xread block 0 streams a 0-0",
    "XREADGROUP GROUP streams c COUNT 2 BLOCK 3 NOACK STREAMS a b c > > >",
    "ZDIFF 2 a b WITHSCORES",
    "ZDIFFSTORE a 2 b c",
    "ZINTER 2 a b",
    "ZINTERCARD 1 a LIMIT 1",
    "ZINTERSTORE a 1 b WEIGHTS 2",
    "ZMPOP 1 a MIN",
    "ZUNION 1 a",
    "ZUNIONSTORE a 2 b c AGGREGATE SUM",
];

/// Requests of a command whose keys have fixed places, with each number of arguments from the least to a few more.
fn fixed(name: &str, described: &Described) -> Vec<Vec<String>> {
    let least = described.arity.unsigned_abs() as usize;
    let most = if described.arity < 0 {
        least + 4
    } else {
        least
    };
    let mut front: Vec<String> = name.split('|').map(str::to_owned).collect();
    let named = front.len();
    front.extend((named..most).map(|position| format!("w{position}")));
    (least..=most).map(|argc| front[..argc].to_vec()).collect()
}

#[test]
fn the_keys_of_every_command_are_those_that_redis_finds() {
    let Some(server) = Server::redis() else {
        return;
    };
    let theirs = commands_of(&server);
    let taken: BTreeSet<&str> = redis_commands()
        .into_iter()
        .filter(|command| command.is_taken)
        .map(|command| command.name)
        .collect();
    let mut samples: Vec<Vec<String>> = MOVING.iter().map(|line| split(line)).collect();
    let moving: BTreeSet<String> = samples
        .iter()
        .map(|words| words[0].to_lowercase())
        .collect();
    for (name, described) in &theirs {
        if !taken.contains(name.as_str()) || described.no_keys {
            continue;
        }
        if described.movable {
            assert!(moving.contains(name), "there is no request of {name}");
        } else if described.first_key > 0 {
            samples.extend(fixed(name, described));
        }
    }
    let questions: Vec<Vec<String>> = samples
        .iter()
        .map(|words| [&split("COMMAND GETKEYS")[..], words].concat())
        .collect();
    for (words, answer) in samples.iter().zip(ask(&server, &questions)) {
        match (keys_found(words), answer) {
            (Some(found), Value::Array(keys)) => {
                let keys: Vec<&str> = keys.iter().map(Value::text).collect();
                assert_eq!(found, keys, "{words:?}");
            }
            // A value is missing: redis names the keys all the same.
            (None, Value::Array(_)) => assert!(words[0].starts_with("mset"), "{words:?}"),
            // Without sources it is taken, though redis does not say where its key is.
            (Some(found), _) if words[0] == "pfmerge" => assert_eq!(found, words[1..]),
            (found, _) => panic!("{words:?} has {found:?}, for redis it has none"),
        }
    }
    assert!(samples.len() > 300, "{}", samples.len());
}
