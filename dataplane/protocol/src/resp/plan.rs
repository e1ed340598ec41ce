//! What the row of a command says about looking at a request: what is to be found in it, and where it goes then.

use super::commands::{Command, KeySpec, Rule};
use super::whole;
use crate::request::{Local, Route, Sought, Split};

pub(super) const BAD_KEY_COUNT: &str = "-ERR value is not an integer or out of range\r\n";
const NEGATIVE_KEY_COUNT: &str = "-ERR Number of keys can't be negative\r\n";
const NO_KEY: &str = "-ERR numkeys should be greater than 0\r\n";
const TOO_MANY_KEYS: &str = "-ERR Number of keys can't be greater than number of args\r\n";

/// How a request is looked at further.
pub(super) struct Plan {
    /// Where it goes, as far as that is known.
    pub(super) route: Route,
    /// Arguments behind the name up to the one that is sought. 0: none is.
    pub(super) until: u8,
    /// What that one is.
    pub(super) sought: Sought,
}

impl Plan {
    const fn new(route: Route, sought: Sought, until: u8) -> Self {
        Self {
            route,
            until,
            sought,
        }
    }
}

/// What is to be looked at in a request of `argc` arguments, or the error reply if it is not taken.
#[inline]
pub(super) fn plan(command: &'static Command, argc: u32) -> Result<Plan, &'static str> {
    let arity = i32::from(command.arity);
    let fits = argc == arity.unsigned_abs() || arity < 0 && argc > arity.unsigned_abs();
    if command.rule == Rule::Refused {
        return Err(command.refusal);
    }
    if !fits {
        return Err(command.wrong_arity);
    }
    if command.subcommands.1 > 0 && argc > 1 {
        return Ok(Plan::new(Route::Any, Sought::Subcommand, 1));
    }
    let plan = match command.rule {
        Rule::Key(position) => Plan::new(Route::Key, Sought::Key, position),
        Rule::Together | Rule::Pinned(_) => return plan_keys(command, argc),
        Rule::Split(Split::Mset) if argc.is_multiple_of(2) => return Err(command.wrong_arity),
        Rule::Split(Split::Mset) if argc == 3 => Plan::new(Route::Key, Sought::Key, 1),
        Rule::Split(_) if argc == 2 => Plan::new(Route::Key, Sought::Key, 1),
        Rule::Split(split) => Plan::new(Route::Split(split), Sought::Key, 1),
        Rule::Local(local) => match local {
            Local::Ping if argc > 2 => return Err(command.wrong_arity),
            Local::Auth if argc > 3 => return Err("-ERR syntax error\r\n"),
            Local::Ping | Local::Auth => {
                Plan::new(Route::Local(local), Sought::Key, argc as u8 - 1)
            }
            Local::Select => Plan::new(Route::Local(local), Sought::Key, 1),
            _ => Plan::new(Route::Local(local), Sought::Key, 0),
        },
        Rule::Any => Plan::new(Route::Any, Sought::Key, 0),
        Rule::Broadcast(merge) => Plan::new(Route::Broadcast(merge), Sought::Key, 0),
        Rule::Scan => Plan::new(Route::Scan, Sought::Key, 0),
        Rule::Channel => Plan::new(Route::Channel, Sought::Key, 0),
        // Without an argument behind the count it can only be 0.
        Rule::FirstCounted(position) if argc <= u32::from(position) + 1 => {
            return Err(command.refusal);
        }
        Rule::FirstCounted(position) => Plan::new(Route::Key, Sought::Count, position),
        Rule::Container | Rule::Refused => return Err(command.wrong_arity),
    };
    Ok(plan)
}

/// The same for a command whose keys have to belong to one server.
#[cold]
fn plan_keys(command: &'static Command, argc: u32) -> Result<Plan, &'static str> {
    let route = match command.rule {
        Rule::Pinned(pin) => Route::Pinned(pin),
        _ => Route::Together,
    };
    Ok(match command.keys {
        KeySpec::Range { first, last, step } => {
            let keys = whole::keys_in_range(argc, first, last, step);
            if !argc
                .saturating_sub(u32::from(first))
                .is_multiple_of(u32::from(step))
            {
                return Err(command.wrong_arity);
            }
            match (keys, route) {
                (0, Route::Together) => Plan::new(Route::Any, Sought::Key, 0),
                (0, _) => Plan::new(route, Sought::Key, 0),
                (1, Route::Together) => Plan::new(Route::Key, Sought::Key, first),
                _ => Plan::new(route, Sought::Key, first),
            }
        }
        KeySpec::Counted(position) | KeySpec::CountedOrNone(position) => {
            Plan::new(route, Sought::Count, position)
        }
        KeySpec::StoreCounted | KeySpec::SortStore | KeySpec::GeoStore(_) => {
            Plan::new(route, Sought::Key, 1)
        }
        KeySpec::Plain | KeySpec::Streams(_) => Plan::new(route, Sought::Key, 0),
    })
}

/// The reply to a faulty count of keys. twemproxy says nothing.
pub(super) fn count_fault(command: &Command, reply: &'static str) -> &'static str {
    match command.rule {
        Rule::FirstCounted(_) => command.refusal,
        _ => reply,
    }
}

/// Where a request goes whose count of keys is `word`, with `args_left` arguments behind it.
pub(super) fn counted(
    command: &Command,
    route: Route,
    word: &[u8],
    args_left: u32,
) -> Result<Route, &'static str> {
    let count = whole::number(word).ok_or(BAD_KEY_COUNT)?;
    if matches!(command.rule, Rule::FirstCounted(_)) {
        // How many there are is for the server to say.
        return if count > 0 { Ok(route) } else { Err(NO_KEY) };
    }
    let scripted = matches!(command.keys, KeySpec::CountedOrNone(_));
    match count {
        0 if scripted => Ok(Route::First),
        ..0 if scripted => Err(NEGATIVE_KEY_COUNT),
        ..=0 => Err(NO_KEY),
        _ if count > i64::from(args_left) => Err(TOO_MANY_KEYS),
        1 if route == Route::Together => Ok(Route::Key),
        _ => Ok(route),
    }
}
