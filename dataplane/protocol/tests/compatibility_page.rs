//! docs/compatibility.md says what the tables of commands say. `UPDATE_DOCS=1 cargo test -p tidegate-protocol` writes it anew.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use tidegate_protocol::{MEMCACHED_COMMANDS, MEMCACHED_OPCODES, RedisCommand, redis_commands};

const HEAD: &str = "# Commands

What becomes of each command, and [how clients fare](#clients). Pools with `compat = \"twemproxy\"` take the commands of twemproxy 0.5 and no others; what that
means stands at `Compat::Twemproxy` in the documentation of `tidegate-config`.
";

const REDIS: &str = "
## Redis

The commands of Redis 7.0, and those that 7.2 and 7.4 added. A command that is not here gets the error that Redis gives to an unknown
one, without the arguments that Redis repeats, and so does a wrong number of arguments. `Arguments` counts what follows the name.

Known to differ from Redis 7.0: `EXEC` with arguments inside MULTI is refused and leaves the transaction open, where Redis ends it; in MULTI a command
whose keys cannot be counted (an odd MSET, a wrong `numkeys`) makes EXEC fail, where Redis executes the rest; in RESP3 the `message` of a PUBLISH
to oneself comes after its reply, not before; texts of errors about `numkeys`.

* *To the server of its key*: one server is all that it needs, and the key says which.
* *Divided among the servers of its keys*: each server gets its part, and the replies become one.
* *To the server of its keys, which have to belong to one*: a server needs all of them at once.
* *To any server*: the answer is the same everywhere.
* *To every server*: what it asks for or changes is spread over all of them.
* *To the server that serves publish and subscribe*: those who publish have to meet those who subscribe.
* *On a server connection of its own*: it waits, or leaves something behind on the connection, which others must not share.
* *Answered by the proxy*: it is about the client's connection, which ends here.

Keys *belong to one server* if the pool has one, or if they have the same hash tag (`hash_tag`), or by chance. If they do not, the client
gets `-CROSSSLOT` with the name of the command and the hash tag, and no server hears of it. Such a request is held as a whole, so
`request_hold_bytes` is the most that it may have. With a single key there is no such limit, except for `SORT`, `GEORADIUS`,
`GEORADIUSBYMEMBER`, `XREAD` and `XREADGROUP`, whose options say where the keys are. A pool with `distribution = \"random\"` has all keys on
every server, as far as the proxy knows: its requests go where the first key does.

| command | arguments | what becomes of it | |
|---|---|---|---|
";

const REFUSED: &str = "
### Refused

The answer is `-ERR command '…' is not supported by the proxy: ` and the reason.

| reason | commands |
|---|---|
";

const MEMCACHED: &str = "
## memcached

Every command of memcached 1.6. A name that is not here gets `ERROR`, as from memcached itself. The words mean what they mean above.
A server never gets `noreply`, the flag `q` or a quiet opcode: it always answers, and the proxy drops what the client does not want.

### Text and meta commands

| command | what becomes of it | |
|---|---|---|
";

const MEMCACHED_BINARY: &str = "
### Binary protocol

A connection is binary if its first byte is 0x80. An opcode that is not here is `Unknown command` (0x81).

| opcode | name | what becomes of it | |
|---|---|---|---|
";

const CLIENTS: &str = "
## Clients

The test suites of these clients, as their authors wrote them, through a pool of one server, and *alone*: against the server itself, with
nothing left out. Counted on 21 November 2026 with Redis 7.0.15 and memcached 1.6.18; `scripts/client-suites` counts again, and
`tests/clients/results.txt` keeps the numbers. What the authors skip themselves is not in them, nor are modules, clusters, sentinels and TLS.

`ioredis` and `node-redis` are published without their tests, and those of `memjs` talk to a server of their own making. Scripts in
`tests/clients/node` put them through their interface instead, and compare the answers with the server's own. Everywhere else
only addresses are changed; `async_test`, an attribute of redis-rs's tests that is not published, is ours.

| suite | version | passed | failed | left out | alone: passed | alone: failed |
|---|---|---|---|---|---|---|
";

const LEFT_OUT: &str = "
### Tests left out

In patterns where one stands for several. `redis-py-resp3` and `redis-rs-resp3` leave out what `redis-py` and `redis-rs` do.

| suite | reason | tests |
|---|---|---|
";

fn name(command: &RedisCommand) -> String {
    command.name.to_uppercase().replace('|', " ")
}

/// How many arguments follow the name.
fn arguments(command: &RedisCommand) -> String {
    let names = command.name.split('|').count() as i8;
    match command.arity {
        arity @ 0.. => format!("{}", arity - names),
        arity => match -arity - names {
            ..=0 => "any".to_owned(),
            least => format!("{least} or more"),
        },
    }
}

fn write_redis(page: &mut String) -> std::fmt::Result {
    let commands = redis_commands();
    page.push_str(REDIS);
    for command in commands.iter().filter(|command| command.is_taken) {
        writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            name(command),
            arguments(command),
            command.treatment,
            command.remark
        )?;
    }
    page.push_str(REFUSED);
    let refused: Vec<&RedisCommand> = commands
        .iter()
        .filter(|command| !command.is_taken)
        .collect();
    let mut reasons: Vec<&str> = refused.iter().map(|command| command.remark).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let names: Vec<String> = refused
            .iter()
            .filter(|command| command.remark == reason)
            .map(|command| format!("`{}`", name(command)))
            .collect();
        writeln!(page, "| {reason} | {} |", names.join(", "))?;
    }
    Ok(())
}

/// A cell of a row, without what would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn write_memcached(page: &mut String) -> std::fmt::Result {
    page.push_str(MEMCACHED);
    for told in MEMCACHED_COMMANDS {
        let names = told.name.replace(' ', "`, `");
        writeln!(page, "| `{names}` | {} | {} |", told.treatment, told.note)?;
    }
    page.push_str(MEMCACHED_BINARY);
    for told in MEMCACHED_OPCODES {
        writeln!(
            page,
            "| 0x{:02x} | {} | {} | {} |",
            told.code, told.name, told.treatment, told.note
        )?;
    }
    Ok(())
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The lines of a table in `tests/clients`, in `N` fields each.
fn table<const N: usize>(file: &str) -> Vec<[String; N]> {
    let text = std::fs::read_to_string(repository("tests/clients").join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<String> = line
                .split('|')
                .map(|field| field.trim().to_owned())
                .collect();
            fields
                .try_into()
                .unwrap_or_else(|_| panic!("{file}: {N} fields belong into a line: {line}"))
        })
        .collect()
}

fn write_clients(page: &mut String) -> std::fmt::Result {
    page.push_str(CLIENTS);
    for row in table::<7>("results.txt") {
        writeln!(page, "| {} |", row.join(" | "))?;
    }
    page.push_str(LEFT_OUT);
    let exclusions = table::<3>("exclusions.txt");
    let mut reasons: Vec<(&str, &str)> = Vec::new();
    for [suite, _, reason] in &exclusions {
        if !reasons.contains(&(suite, reason)) {
            reasons.push((suite, reason));
        }
    }
    for (suite, reason) in reasons {
        let tests: Vec<String> = exclusions
            .iter()
            .filter(|[of, _, because]| of == suite && because == reason)
            .map(|[_, test, _]| format!("`{}`", cell(test)))
            .collect();
        writeln!(
            page,
            "| {suite} | {} | {} |",
            cell(reason),
            tests.join(", ")
        )?;
    }
    Ok(())
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    write_redis(&mut page).expect("a string takes it");
    write_memcached(&mut page).expect("a string takes it");
    write_clients(&mut page).expect("a string takes it");
    page
}

#[test]
fn the_page_of_commands_is_what_the_tables_say() {
    let path = repository("docs/compatibility.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/compatibility.md is out of date: run UPDATE_DOCS=1 cargo test -p tidegate-protocol"
    );
}
