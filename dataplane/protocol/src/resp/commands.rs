//! What a row of the tables of Redis commands says, and the macro that the tables are written with.
//!
//! Arity is counted as Redis counts it, with the name: a positive number is exact, a negative one the least.

use crate::request::{Local, Merge, Pin, Split};

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// To the server of its only key, the argument at this position; the name is position 0.
    Key(u8),
    /// To the server of its keys, which has to be one. If it has a single key it may be passed on before it is whole.
    Together,
    /// Every argument (MSET: every second one) is a key, and each goes to its server.
    Split(Split),
    /// Any server can answer.
    Any,
    /// The proxy answers.
    Local(Local),
    /// To every server.
    Broadcast(Merge),
    /// The cursor walks over the servers.
    Scan,
    /// To the server that serves publish and subscribe.
    Channel,
    /// It needs a server connection of its own, or ends the need.
    Pinned(Pin),
    /// The next argument says what becomes of it.
    Container,
    /// The proxy does not take it.
    Refused,
    /// As twemproxy takes EVAL: to the server of the first key, which follows the count of keys at this position.
    FirstCounted(u8),
}

/// Where the keys of a command stand, if one position does not say it all. `Request::keys` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySpec {
    /// The rule says it, or there are none.
    Plain,
    /// Every `step`th argument from `first` to `last`; a negative `last` counts from the end, -1 being the last argument.
    Range { first: u8, last: i8, step: u8 },
    /// As many as the argument at this position says, behind it. At least one.
    Counted(u8),
    /// The same, and there may be none: scripts.
    CountedOrNone(u8),
    /// The destination is argument 1, the count of the sources argument 2.
    StoreCounted,
    /// Argument 1, and the destination behind the last STORE among the options of SORT.
    SortStore,
    /// Argument 1, and the destination behind the last STORE or STOREDIST from this position on.
    GeoStore(u8),
    /// The first half of what follows STREAMS; options from this position on.
    Streams(u8),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    /// Lower-case name; that of a subcommand has its container's in front, as in `config|get`.
    pub(super) name: &'static str,
    pub(super) arity: i8,
    pub(super) rule: Rule,
    pub(super) keys: KeySpec,
    /// Its subcommands: the index of the first among them all, and how many there are.
    pub(super) subcommands: (u8, u8),
    /// The reply to a wrong number of arguments.
    pub(super) wrong_arity: &'static str,
    /// The reply of a refused command; of a container what follows the name of a subcommand that it does not have.
    pub(super) refusal: &'static str,
    /// For the documentation: what is special about it, or the reason of the refusal.
    pub(super) why: &'static str,
}

/// A key at position 1 and no other, as most commands have it.
pub(super) const ONE: (Rule, KeySpec) = (Rule::Key(1), KeySpec::Plain);

/// The key behind the name of a subcommand.
pub(super) const SUB: (Rule, KeySpec) = (Rule::Key(2), KeySpec::Plain);

/// A rule that says where the key is, or has none.
pub(super) const fn plain(rule: Rule) -> (Rule, KeySpec) {
    (rule, KeySpec::Plain)
}

/// Keys that have to belong to one server, from `first` to `last`.
pub(super) const fn together(first: u8, last: i8) -> (Rule, KeySpec) {
    let step = 1;
    (Rule::Together, KeySpec::Range { first, last, step })
}

/// An own connection for keys from `first` to `last`.
pub(super) const fn pinned(pin: Pin, first: u8, last: i8) -> (Rule, KeySpec) {
    let step = 1;
    (Rule::Pinned(pin), KeySpec::Range { first, last, step })
}

/// Rows: groups of commands with the same rule and the same remark, then refused ones with the same reason, then containers with
/// their names in capitals.
macro_rules! rows {
    (
        $(#[$doc:meta])*
        $table:ident:
        $( route ($rule:expr) $why:literal { $( $name:literal $arity:literal, )+ } )*
        $( refused $reason:literal { $( $refused_name:literal $refused_arity:literal, )+ } )*
        $( container ($container_rule:expr) $capitals:literal $container:literal $container_arity:literal, )*
    ) => {
        $(#[$doc])*
        pub(super) const $table: &[Command] = &[
            $( $( Command {
                name: $name,
                arity: $arity,
                rule: $rule.0,
                keys: $rule.1,
                subcommands: (0, 0),
                wrong_arity: concat!("-ERR wrong number of arguments for '", $name, "' command\r\n"),
                refusal: "",
                why: $why,
            }, )+ )*
            $( $( Command {
                name: $refused_name,
                arity: $refused_arity,
                rule: Rule::Refused,
                keys: KeySpec::Plain,
                subcommands: (0, 0),
                wrong_arity: concat!("-ERR wrong number of arguments for '", $refused_name, "' command\r\n"),
                refusal: concat!("-ERR command '", $refused_name, "' is not supported by the proxy: ", $reason, "\r\n"),
                why: $reason,
            }, )+ )*
            $( Command {
                name: $container,
                arity: $container_arity,
                rule: $container_rule,
                keys: KeySpec::Plain,
                subcommands: (0, 0),
                wrong_arity: concat!("-ERR wrong number of arguments for '", $container, "' command\r\n"),
                refusal: concat!("'. Try ", $capitals, " HELP.\r\n"),
                why: "",
            }, )*
        ];
    };
}

pub(super) use rows;
