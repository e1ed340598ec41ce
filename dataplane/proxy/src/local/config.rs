//! CONFIG GET: what client libraries and tools ask for before they begin.
//!
//! What the proxy decides it answers itself. A request that names parameters of servers, none of them secret, goes to one of them, as
//! all are expected to be alike. Nothing else is passed on: `CONFIG GET *` would tell the passwords of the servers.

use super::Arguments;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::streams::Streams;

/// Longest pattern. `*` and names are short; the work for a pattern grows with its length.
const PATTERN_BYTES_MAX: usize = 64;

/// Most patterns of one request: more than there are parameters ask for something twice.
const PATTERNS_MAX: usize = 16;

const TOO_MUCH: &str = "-ERR the proxy takes at most 16 patterns of at most 64 bytes\r\n";

/// Where the value of a parameter comes from.
#[derive(Clone, Copy)]
enum Value {
    /// The pool's databases.
    Databases,
    /// The clients that the pool may have, or the worker if it has fewer.
    ClientsMax,
    /// The same for everybody.
    Text(&'static str),
}

/// What is told, sorted by name.
const PARAMETERS: [(&str, Value); 4] = [
    ("databases", Value::Databases),
    ("maxclients", Value::ClientsMax),
    ("proto-max-bulk-len", Value::Text("536870912")),
    ("timeout", Value::Text("0")),
];

/// What a server is asked for.
const OF_SERVERS: [&str; 6] = [
    "appendfsync",
    "appendonly",
    "maxmemory",
    "maxmemory-policy",
    "notify-keyspace-events",
    "save",
];

/// Whether a request names parameters of servers, and nothing else.
pub(super) fn is_for_a_server(arguments: Arguments<'_>) -> bool {
    let is_theirs = |word: &[u8]| {
        let mut names = OF_SERVERS.iter();
        names.any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    arguments.count() > 2 && arguments.from(2).all(is_theirs)
}

impl Proxy {
    pub(super) fn config_get<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        arguments: Arguments<'_>,
    ) {
        let mut patterns = arguments.from(2);
        if arguments.count() > 2 + PATTERNS_MAX || patterns.any(|p| p.len() > PATTERN_BYTES_MAX) {
            return self.answer_text(streams, client, TOO_MUCH);
        }
        let asked = |name: &str| {
            arguments
                .from(2)
                .any(|pattern| matches(pattern, name.as_bytes()))
        };
        let pool = self.pool_of(client);
        let (databases, clients_max) = (usize::from(pool.databases), pool.clients_max as usize);
        let clients_max = clients_max.min(self.limits.clients_max);
        let mut reply = self.reply_to(client);
        reply.map(PARAMETERS.iter().filter(|(name, _)| asked(name)).count());
        for (name, value) in PARAMETERS.iter().filter(|(name, _)| asked(name)) {
            reply.bulk(name.as_bytes());
            match value {
                Value::Databases => reply.bulk(itoa(databases).bytes()),
                Value::ClientsMax => reply.bulk(itoa(clients_max).bytes()),
                Value::Text(text) => reply.bulk(text.as_bytes()),
            }
        }
        let reply = reply.finish();
        self.answer_chain(streams, client, reply);
    }
}

/// Whether `name` matches a glob pattern, in any case: `*` any bytes, `?` any one, `[a-z]` one of these, `[^a-z]` one of the others,
/// and `\` takes what follows as it is.
///
/// On a mismatch only the last `*` is tried again one byte further on, so the work is at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, n));
        } else if let Some(used) = matches_one(pattern.get(p..).unwrap_or_default(), name[n]) {
            p += used;
            n += 1;
        } else if let Some((after, from)) = retry {
            p = after;
            n = from + 1;
            retry = Some((after, n));
        } else {
            return false;
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|&byte| byte == b'*')
}

/// How many bytes at the front of a pattern match this one, if they do.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    let byte = byte.to_ascii_lowercase();
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref class @ ..] => matches_class(class, byte),
        [b'\\', escaped, ..] => (escaped.to_ascii_lowercase() == byte).then_some(2),
        [plain, ..] => (plain.to_ascii_lowercase() == byte).then_some(1),
    }
}

/// The same for what follows `[`. A class without an end goes to the end of the pattern, as in Redis.
fn matches_class(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    while let Some(&first) = class.get(at) {
        match (first, class.get(at + 1), class.get(at + 2)) {
            (b']', ..) => {
                at += 1;
                break;
            }
            (b'\\', Some(escaped), _) => {
                found |= escaped.to_ascii_lowercase() == byte;
                at += 2;
            }
            (_, Some(b'-'), Some(&last)) => {
                let (low, high) = (first.min(last), first.max(last));
                found |= (low.to_ascii_lowercase()..=high.to_ascii_lowercase()).contains(&byte);
                at += 3;
            }
            _ => {
                found |= first.to_ascii_lowercase() == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(1 + at)
}

#[cfg(test)]
mod tests {
    use super::{OF_SERVERS, PARAMETERS, matches};

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, name, matched) in [
            ("save", "save", true),
            ("SAVE", "save", true),
            ("sav", "save", false),
            ("saved", "save", false),
            ("", "save", false),
            ("*", "save", true),
            ("**", "save", true),
            ("s*e", "save", true),
            ("*a*", "save", true),
            ("*x*", "save", false),
            ("s??e", "save", true),
            ("s?e", "save", false),
            ("[r-t]ave", "save", true),
            ("[^r-t]ave", "save", false),
            ("[abs]ave", "save", true),
            ("[sv", "s", true),
            ("[]s]", "s", false),
            ("s\\ave", "save", true),
            ("s\\*", "save", false),
            ("maxmemory*", "maxmemory-policy", true),
            ("*-*-*", "proto-max-bulk-len", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                matched,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer_than_its_length_times_that_of_the_name() {
        let pattern = "*a".repeat(32);
        assert!(!matches(pattern.as_bytes(), "a".repeat(31).as_bytes()));
        assert!(matches(pattern.as_bytes(), "a".repeat(32).as_bytes()));
    }

    #[test]
    fn parameters_are_sorted_and_stand_once_and_none_is_secret() {
        assert!(PARAMETERS.is_sorted_by(|(left, _), (right, _)| left < right));
        for name in OF_SERVERS {
            assert!(!PARAMETERS.iter().any(|(own, _)| *own == name), "{name}");
            assert!(!name.contains("auth") && !name.contains("pass"), "{name}");
        }
    }
}
