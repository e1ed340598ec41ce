//! The tables of Redis commands for readers: what `docs/compatibility.md` is made of.

use super::commands::{Command, KeySpec, Rule};
use super::lookup;
use super::subcommands::SUBCOMMANDS;
use super::table::COMMANDS;

/// What is told about one Redis command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisCommand {
    /// Lower-case name; that of a subcommand has its container's in front, as in `config|get`.
    pub name: &'static str,
    /// The number of arguments with the name; if it is negative, the least.
    pub arity: i8,
    /// What becomes of it, in a few words.
    pub treatment: &'static str,
    /// What is special about it, or why it is refused. Often empty.
    pub remark: &'static str,
    /// It is taken.
    pub is_taken: bool,
}

/// Every Redis command and subcommand that the proxy knows, sorted by name. A container without a meaning of its own is none.
pub fn redis_commands() -> Vec<RedisCommand> {
    let rows = COMMANDS.iter().chain(&SUBCOMMANDS);
    let mut all: Vec<RedisCommand> = rows
        .filter(|row| row.rule != Rule::Container)
        .map(|row| RedisCommand {
            name: row.name,
            arity: row.arity,
            treatment: treatment(row),
            remark: row.why,
            is_taken: row.rule != Rule::Refused,
        })
        .collect();
    all.sort_by_key(|command| command.name);
    all
}

fn treatment(row: &Command) -> &'static str {
    match row.rule {
        Rule::Key(_) | Rule::FirstCounted(_) => "to the server of its key",
        Rule::Together => match row.keys {
            KeySpec::SortStore | KeySpec::GeoStore(_) => {
                "to the server of its key; with STORE both keys have to belong to one server"
            }
            _ => "to the server of its keys, which have to belong to one",
        },
        Rule::Split(_) => "divided among the servers of its keys",
        Rule::Any => "to any server",
        Rule::Local(_) => "answered by the proxy",
        Rule::Broadcast(_) => "to every server, the replies become one",
        Rule::Scan => "to one server after the other",
        Rule::Channel => "to the server that serves publish and subscribe",
        Rule::Pinned(_) => "on a server connection of its own",
        Rule::Container | Rule::Refused => "refused",
    }
}

/// How many bytes the longest name has.
pub const REDIS_NAME_BYTES_MAX: usize = lookup::LONGEST_NAME_BYTES;
