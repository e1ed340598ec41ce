//! Speaks to irqbalance. Its socket takes one command per connection, from root only; what it answers is one line of words.

use crate::host::{Host, value};
use std::io;

/// Where each irqbalance has a socket, named for its process.
const DIRECTORY: &str = "/run/irqbalance";
/// Longest command that irqbalance takes.
const COMMAND_BYTES_MAX: usize = 16_383;

/// Whether there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// None runs.
    Absent,
    /// One runs, and has no socket that we know of.
    Mute,
    /// One runs and listens here.
    Socket(String),
}

/// Looks for it.
pub fn find(host: &dyn Host) -> Daemon {
    let sockets = host.list(DIRECTORY);
    let processes: Vec<String> = host
        .list("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| value(host, &format!("/proc/{pid}/comm")).as_deref() == Some("irqbalance"))
        .collect();
    let socket = processes
        .iter()
        .map(|pid| format!("irqbalance{pid}.sock"))
        .find(|name| sockets.contains(name));
    match socket {
        Some(name) => Daemon::Socket(format!("{DIRECTORY}/{name}")),
        None if processes.is_empty() => Daemon::Absent,
        None => Daemon::Mute,
    }
}

/// The interrupts that it leaves alone on command; `None`: it does not run or cannot be asked.
pub fn bans(host: &dyn Host) -> io::Result<Option<Vec<u32>>> {
    let Daemon::Socket(socket) = find(host) else {
        return Ok(None);
    };
    let answer = host.ask(&socket, "setup")?;
    // It hangs up on everybody but root.
    if !answer.starts_with("SLEEP ") {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(Some(parse(&answer)))
}

/// `SLEEP 10 IRQ 40 LOAD 0 DIFF 0 CLASS 5 BANNED 00000000`: each `IRQ` is one that is banned.
fn parse(answer: &str) -> Vec<u32> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    let mut bans: Vec<u32> = words
        .windows(2)
        .filter(|pair| pair[0] == "IRQ")
        .filter_map(|pair| pair[1].parse().ok())
        .collect();
    bans.sort_unstable();
    bans.dedup();
    bans
}

/// Replaces the interrupts that it leaves alone.
pub fn ban(host: &dyn Host, interrupts: &[u32]) -> io::Result<()> {
    let Daemon::Socket(socket) = find(host) else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "irqbalance does not run any more",
        ));
    };
    let list = match interrupts {
        [] => "NONE".to_owned(),
        some => {
            let words: Vec<String> = some.iter().map(u32::to_string).collect();
            words.join(" ")
        }
    };
    let command = format!("settings ban irqs {list}");
    if command.len() > COMMAND_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "more interrupts than irqbalance takes in one command: stop it instead",
        ));
    }
    host.ask(&socket, &command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_interrupts_that_are_banned() {
        let answer = "SLEEP 10 IRQ 41 LOAD 12 DIFF 3 CLASS 5 IRQ 40 LOAD 0 DIFF 0 CLASS 5 BANNED 00000000,00000003";
        assert_eq!(parse(answer), [40, 41]);
        assert_eq!(parse("SLEEP 10 BANNED 0"), Vec::<u32>::new());
        assert_eq!(parse("IRQ"), Vec::<u32>::new());
    }
}
