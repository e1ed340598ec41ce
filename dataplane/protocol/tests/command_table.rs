//! The table of Redis commands beside what redis-server says about its commands, where it is installed.

mod driver;

use std::collections::HashMap;

use driver::server::{Server, words};
use tidegate_protocol::{Parsed, Protocol, RefusalText, Resume, Route, parse_request};

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
        RefusalText::Binary(..) => unreachable!("no Redis"),
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
        if let Route::Key | Route::Split(_) = route.expect("checked above")
            && first_key > 0
        {
            assert_eq!(key, Some(first_key), "the key of {name}");
        }
    }
    // Every command is known, and what is not taken has its reason.
    for (name, text) in refused {
        let known = text.starts_with(&format!(
            "-ERR command '{name}' is not supported by the proxy: "
        ));
        let asked = text.starts_with("-ERR unknown subcommand '")
            || text.contains("syntax error")
            || text.contains("Number of keys");
        assert!(known || asked, "{name}: {text}");
    }
}
