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

const OWNER: &str = "to the server that owns the key";
const ALL: &str = "to all servers";
const LOCAL: &str = "answered by the proxy";
const ANY: &str = "to any server";
const REFUSED: &str = "refused";

/// The text protocol, meta commands included.
pub const MEMCACHED_COMMANDS: &[MemcachedCommand] = &[
    command(
        "get gets gat gats",
        "split by server",
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
        "With `q`, `HD` and `VA` are dropped by the proxy; memcached before 1.6.40 shows them for a number that it created.",
    ),
    command(
        "me",
        OWNER,
        "A key in base64 (flag `b`) is routed by its bytes, here and in the other meta commands.",
    ),
    command("mn", LOCAL, "Once everything before it is answered."),
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
    command("stats", ALL, "Counts are added."),
    command("version", ANY, ""),
    command(
        "quit",
        LOCAL,
        "The connection ends once everything before it is answered.",
    ),
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
    opcode(0x07, "quit", LOCAL, ""),
    opcode(0x08, "flush", ALL, "With its delay."),
    quiet(0x09, "getq", MISS),
    opcode(
        0x0a,
        "noop",
        LOCAL,
        "Once everything before it is answered.",
    ),
    opcode(0x0b, "version", ANY, ""),
    keyed(0x0c, "getk"),
    quiet(0x0d, "getkq", MISS),
    keyed(0x0e, "append"),
    keyed(0x0f, "prepend"),
    opcode(
        0x10,
        "stat",
        ALL,
        "Counts are added. Keys that start with `detail` are unknown: they switch a server's bookkeeping.",
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
    use crate::memcached::binary::opcodes;

    #[test]
    fn every_opcode_of_the_parser_is_told_and_no_other_but_those_refused() {
        for code in 0..=u8::MAX {
            let told = MEMCACHED_OPCODES.iter().find(|told| told.code == code);
            let told = told.filter(|told| told.treatment != REFUSED);
            assert_eq!(
                told.map(|told| told.name),
                opcodes::opcode(code).map(|opcode| opcode.name),
                "{code:#04x}"
            );
        }
    }

    #[test]
    fn every_command_of_the_parser_is_told() {
        for name in MEMCACHED_COMMANDS
            .iter()
            .flat_map(|told| told.name.split(' '))
        {
            let line = format!("{name} \r\n");
            let parsed = crate::memcached::parse(line.as_bytes(), &mut crate::Resume::default());
            let told = MEMCACHED_COMMANDS
                .iter()
                .find(|told| told.name.split(' ').any(|one| one == name));
            let refused = told.is_some_and(|told| told.treatment == REFUSED);
            let says_why = matches!(&parsed, crate::Parsed::Refused(refusal)
                if matches!(refusal.reply, crate::RefusalText::Constant(text) if text.starts_with("SERVER_ERROR")));
            assert_eq!(refused, says_why, "{name}: {parsed:?}");
        }
    }
}
