//! What becomes of every command and opcode of memcached, for people to read.

/// A command of the text protocol.
#[derive(Clone, Copy, Debug)]
pub struct MemcachedCommand {
    /// Its name; several that are treated alike have blanks between them.
    pub name: &'static str,
    /// What the proxy does with it.
    pub treatment: &'static str,
    /// Why, or what to know. Empty where that is evident.
    pub note: &'static str,
}

/// An opcode of the binary protocol.
#[derive(Clone, Copy, Debug)]
pub struct MemcachedOpcode {
    /// Its code.
    pub code: u8,
    /// Its name.
    pub name: &'static str,
    /// What the proxy does with it.
    pub treatment: &'static str,
    /// Why, or what to know. Empty where that is evident.
    pub note: &'static str,
}

const OWNER: &str = "to the server of its key";
const SPLIT: &str = "divided among the servers of its keys";
const ALL: &str = "to every server, the replies become one";
const LOCAL: &str = "answered by the proxy";
const ANY: &str = "to any server";
const REFUSED: &str = "refused";

/// The text protocol, meta commands included.
pub const MEMCACHED_COMMANDS: &[MemcachedCommand] = &[
    command(
        "get gets gat gats",
        SPLIT,
        "Values come in the order of the keys, and for every time that a key stands there.",
    ),
    command(
        "set add replace append prepend cas",
        OWNER,
        "A line with a fault is refused together with its data block.",
    ),
    command(
        "delete incr decr touch",
        OWNER,
        "`delete k 0` is taken, as memcached does.",
    ),
    command(
        "mg",
        OWNER,
        "With `q`, misses are dropped by the proxy: servers always answer.",
    ),
    command(
        "ms md",
        OWNER,
        "With `q`, `HD` is dropped by the proxy. The form `ms <key> S<datalen>` of memcached 1.5 is refused.",
    ),
    command(
        "ma",
        OWNER,
        "With `q`, `HD` and `VA` are dropped by the proxy; memcached before 1.6.19 shows them for a number that it created.",
    ),
    command(
        "me",
        OWNER,
        "A key in base64 (flag `b`) is routed by its bytes, here and in the other meta commands.",
    ),
    command("mn", LOCAL, MARK),
    command(
        "flush_all",
        ALL,
        "With its delay. `OK` once all servers said so.",
    ),
    command(
        "verbosity cache_memlimit",
        ALL,
        "`OK` once all servers said so.",
    ),
    command(
        "stats",
        ALL,
        "The fields are put together: [whole-pool.md](whole-pool.md). `stats settings` asks any server; `stats conns`, `cachedump`, `detail dump`, `extstore`, `proxy` and `dump` are about one server and refused.",
    ),
    command("version", ANY, "Servers of one pool should be alike."),
    command("quit", LOCAL, QUIT),
    command(
        "watch",
        REFUSED,
        "It turns a connection that clients share into a log.",
    ),
    command(
        "slabs lru lru_crawler extstore shutdown refresh_certs misbehave debugtime",
        REFUSED,
        "They administer one server: ask it directly.",
    ),
];

/// The binary protocol.
pub const MEMCACHED_OPCODES: &[MemcachedOpcode] = &[
    keyed(0x00, "get"),
    keyed(0x01, "set"),
    keyed(0x02, "add"),
    keyed(0x03, "replace"),
    keyed(0x04, "delete"),
    keyed(0x05, "increment"),
    keyed(0x06, "decrement"),
    opcode(0x07, "quit", LOCAL, QUIT),
    opcode(
        0x08,
        "flush",
        ALL,
        "With its delay. Success once all servers said so.",
    ),
    quiet(0x09, "getq", MISS),
    opcode(0x0a, "noop", LOCAL, MARK),
    opcode(0x0b, "version", ANY, "Servers of one pool should be alike."),
    keyed(0x0c, "getk"),
    quiet(0x0d, "getkq", MISS),
    keyed(0x0e, "append"),
    keyed(0x0f, "prepend"),
    opcode(
        0x10,
        "stat",
        ALL,
        "As `stats`. Keys that start with `detail` are unknown: they switch a server's bookkeeping.",
    ),
    quiet(0x11, "setq", SUCCESS),
    quiet(0x12, "addq", SUCCESS),
    quiet(0x13, "replaceq", SUCCESS),
    quiet(0x14, "deleteq", SUCCESS),
    quiet(0x15, "incrementq", SUCCESS),
    quiet(0x16, "decrementq", SUCCESS),
    opcode(0x17, "quitq", LOCAL, "No reply."),
    opcode(0x18, "flushq", ALL, "No reply when all went well."),
    quiet(0x19, "appendq", SUCCESS),
    quiet(0x1a, "prependq", SUCCESS),
    opcode(
        0x1b,
        "verbosity",
        REFUSED,
        "Unknown to memcached 1.6 as well.",
    ),
    keyed(0x1c, "touch"),
    keyed(0x1d, "gat"),
    quiet(0x1e, "gatq", MISS),
    opcode(
        0x20,
        "sasl list mechs",
        LOCAL,
        "`PLAIN`; unknown in a pool without `memcached_auth`.",
    ),
    opcode(0x21, "sasl auth", LOCAL, "Compared with `memcached_auth`."),
    opcode(
        0x22,
        "sasl step",
        LOCAL,
        "Always fails: `PLAIN` has one step.",
    ),
    keyed(0x23, "gatk"),
    quiet(0x24, "gatkq", MISS),
];

const MARK: &str = "Once everything before it is answered.";
const QUIT: &str = "The connection ends once everything before it is answered.";
const MISS: &str = "The reply to a miss is dropped by the proxy: servers always answer.";
const SUCCESS: &str = "The reply to success is dropped by the proxy: servers always answer.";

const fn command(
    name: &'static str,
    treatment: &'static str,
    note: &'static str,
) -> MemcachedCommand {
    MemcachedCommand {
        name,
        treatment,
        note,
    }
}

const fn opcode(
    code: u8,
    name: &'static str,
    treatment: &'static str,
    note: &'static str,
) -> MemcachedOpcode {
    MemcachedOpcode {
        code,
        name,
        treatment,
        note,
    }
}

const fn keyed(code: u8, name: &'static str) -> MemcachedOpcode {
    opcode(code, name, OWNER, "")
}

const fn quiet(code: u8, name: &'static str, note: &'static str) -> MemcachedOpcode {
    opcode(code, name, OWNER, note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memcached::binary::{self, BINARY_HEADER_BYTES, BINARY_REQUEST_MAGIC, opcodes};
    use crate::{Local, Parsed, RefusalText, Resume, Route};

    /// The words for what the parser decides. `None`: it does not know such a request.
    fn treatment(parsed: &Parsed) -> Option<&'static str> {
        match parsed {
            Parsed::Whole(request) => match request.route {
                Route::Key => Some(OWNER),
                Route::Split(_) => Some(SPLIT),
                Route::Broadcast(_) => Some(ALL),
                Route::Any | Route::Local(Local::Version) => Some(ANY),
                Route::Local(_) => Some(LOCAL),
                _ => None,
            },
            Parsed::Refused(refusal) => match refusal.reply {
                RefusalText::Constant(text) if text.starts_with("SERVER_ERROR") => Some(REFUSED),
                _ => None,
            },
            _ => None,
        }
    }

    /// A request of this command as memcached takes it.
    fn example(name: &str) -> String {
        let rest = match name {
            "get" | "gets" => " a b",
            "gat" | "gats" => " 60 a b",
            "set" | "add" | "replace" | "append" | "prepend" => " k 0 0 1\r\nv",
            "cas" => " k 0 0 1 7\r\nv",
            "ms" => " k 1\r\nv",
            "incr" | "decr" | "touch" => " k 1",
            "verbosity" | "cache_memlimit" => " 1",
            "mn" | "flush_all" | "stats" | "version" | "quit" => "",
            _ => " k",
        };
        format!("{name}{rest}\r\n")
    }

    #[test]
    fn every_command_is_dealt_with_as_told() {
        for told in MEMCACHED_COMMANDS {
            for name in told.name.split(' ') {
                let parsed =
                    crate::memcached::parse(example(name).as_bytes(), &mut Resume::default());
                assert_eq!(
                    treatment(&parsed),
                    Some(told.treatment),
                    "{name}: {parsed:?}"
                );
            }
        }
    }

    #[test]
    fn statistics_are_dealt_with_as_told() {
        for (what, expected) in [
            ("", ALL),
            (" items", ALL),
            (" slabs", ALL),
            (" reset", ALL),
            (" settings", ANY),
            (" conns", REFUSED),
            (" cachedump 1 1", REFUSED),
            (" detail dump", REFUSED),
            (" extstore", REFUSED),
            (" proxy", REFUSED),
            (" dump", REFUSED),
        ] {
            let line = format!("stats{what}\r\n");
            let parsed = crate::memcached::parse(line.as_bytes(), &mut Resume::default());
            assert_eq!(treatment(&parsed), Some(expected), "{what}: {parsed:?}");
        }
    }

    #[test]
    fn every_opcode_is_dealt_with_as_told_and_no_other_is_known() {
        for code in 0..=u8::MAX {
            let told = MEMCACHED_OPCODES.iter().find(|told| told.code == code);
            let Some(form) = opcodes::opcode(code) else {
                assert!(told.is_none_or(|told| told.treatment == REFUSED), "{code}");
                continue;
            };
            let key = usize::from(form.key == opcodes::Has::Yes);
            let body = usize::from(form.extras) + key;
            let mut frame = vec![0; BINARY_HEADER_BYTES + body];
            frame[0] = BINARY_REQUEST_MAGIC;
            frame[1] = code;
            frame[3] = key as u8;
            frame[4] = form.extras;
            frame[11] = body as u8;
            let parsed = binary::request::parse(&frame);
            let told = told.map(|told| (told.name, Some(told.treatment)));
            assert_eq!(
                told,
                Some((form.name, treatment(&parsed))),
                "{code}: {parsed:?}"
            );
        }
    }
}
