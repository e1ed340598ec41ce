//! `tidegate reload` and `tidegate queues`.

use super::Outcome;
use super::edit::Edit;
use crate::control::client::{self, ask};
use crate::control::request::Request;
use crate::out::shown;
use crate::status::report::Report;
use crate::status::table::{Table, busy};
use anyhow::bail;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// What to reload.
#[derive(Args)]
pub struct ReloadArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
    /// Say what would change, and what it would cost, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Which queues to show or move.
#[derive(Args)]
pub struct QueuesArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long, global = true)]
    name: Option<String>,
    #[command(subcommand)]
    command: Option<QueuesCommand>,
}

#[derive(Subcommand)]
enum QueuesCommand {
    /// Move running workers to other cores.
    Set {
        /// The port: an interface, or `kernel`.
        port: String,
        /// Queue=core, for example 0=3.
        #[arg(required = true, value_name = "QUEUE=CORE", value_parser = pair)]
        cores: Vec<(u32, u32)>,
        /// Write it into the configuration file, too; its comments stay.
        #[arg(long)]
        save: bool,
    },
}

/// Which settings to change.
#[derive(Args)]
pub struct SetArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Write it into the configuration file, too; its comments stay.
    #[arg(long, global = true)]
    save: bool,
    #[command(subcommand)]
    what: SetWhat,
}

#[derive(Subcommand)]
enum SetWhat {
    /// Settings of a pool.
    Pool {
        /// Its name.
        pool: String,
        /// Key=value as in the file, for example timeout_ms=50; KEY= alone goes back to the default.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Settings of the workers.
    Worker {
        /// Key=value as in the file, for example client_stall_ms=5000; KEY= alone goes back to the default.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
}

/// Keys whose values are passwords.
const PASSWORDS: [&str; 3] = ["redis_auth", "memcached_auth", "server_auth"];

impl SetWhat {
    /// Refuses a password that every process of the machine can read, without repeating it.
    fn check(&self) -> anyhow::Result<()> {
        let (Self::Pool { settings, .. } | Self::Worker { settings }) = self;
        let is_plain = |value: &str| !value.is_empty() && !value.starts_with('{');
        let plain = settings
            .iter()
            .find(|(key, value)| PASSWORDS.contains(&key.as_str()) && is_plain(value));
        match plain {
            Some((key, _)) => bail!(
                "{key}: a password on a command line can be read by every process of this machine, and by now it has to count as \
                 known: write '{key}={{ file = \"/PATH\" }}' or '{key}={{ env = \"NAME\" }}'"
            ),
            None => Ok(()),
        }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let parsed = text.split_once('=');
    let parsed = parsed.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    parsed
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE, for example timeout_ms=50"))
}

/// Changes settings, and prints what has changed.
pub fn set(root: &Path, args: &SetArgs) -> anyhow::Result<()> {
    args.what.check()?;
    let edit = match &args.what {
        SetWhat::Pool { pool, settings } => Edit::Pool {
            name: pool.clone(),
            settings: settings.clone(),
        },
        SetWhat::Worker { settings } => Edit::Worker {
            settings: settings.clone(),
        },
    };
    let request = Request::Set {
        edits: vec![edit],
        save: args.save,
    };
    change(root, args.name.as_deref(), &request)
}

fn change(root: &Path, name: Option<&str>, request: &Request) -> anyhow::Result<()> {
    let outcome: Outcome = client::read(ask(root, name, request)?)?;
    client::print(&shown(&told(&outcome, false)));
    match outcome.not_saved {
        Some(why) => bail!(why),
        None => Ok(()),
    }
}

fn pair(text: &str) -> Result<(u32, u32), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(queue, core)| Some((queue.parse().ok()?, core.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is not QUEUE=CORE, for example 0=3"))
}

/// Reloads, and prints what has changed.
pub fn reload(root: &Path, args: &ReloadArgs) -> anyhow::Result<()> {
    let request = Request::Reload {
        dry_run: args.dry_run,
    };
    let answer = ask(root, args.name.as_deref(), &request)?;
    let text = if args.json {
        format!("{answer}\n")
    } else {
        let outcome: Outcome = client::read(answer)?;
        shown(&told(&outcome, args.dry_run))
    };
    client::print(&text);
    Ok(())
}

fn told(outcome: &Outcome, dry_run: bool) -> String {
    let saved = if outcome.saved {
        "the file says so\n"
    } else {
        ""
    };
    if outcome.differences.is_empty() {
        return format!("nothing has changed\n{saved}");
    }
    let mut text = String::new();
    for difference in &outcome.differences {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{difference}");
    }
    let generation = outcome.generation;
    let end = match (dry_run, outcome.replacing) {
        (true, _) => "nothing was changed: this was a dry run".to_owned(),
        (false, false) => format!("in force: configuration {generation}"),
        (false, true) => format!(
            "in force: configuration {generation}; the workers are being replaced, see `tidegate status`"
        ),
    };
    text + &end + "\n" + saved
}

/// Shows queues, or moves them.
pub fn queues(root: &Path, args: &QueuesArgs) -> anyhow::Result<()> {
    let name = args.name.as_deref();
    let Some(QueuesCommand::Set { port, cores, save }) = &args.command else {
        let report: Report = client::read(ask(root, name, &Request::Status {})?)?;
        client::print(&table(&report));
        return Ok(());
    };
    let given = cores.len();
    let cores: BTreeMap<u32, u32> = cores.iter().copied().collect();
    if cores.len() != given {
        bail!("a queue is named twice");
    }
    let request = Request::Queues {
        port: port.clone(),
        cores,
        save: *save,
    };
    change(root, name, &request)
}

/// A line per queue.
fn table(report: &Report) -> String {
    let mut table = Table::new(&[
        "worker", "queue", "core", "pid", "busy 1s", "10s", "60s", "received", "sent", "dropped",
    ]);
    for worker in &report.workers {
        let core = worker.core.map_or("-".into(), |core| core.to_string());
        let pid = worker.pid.map_or("-".into(), |pid| pid.to_string());
        let [second, ten_seconds, minute] = busy(worker);
        let mut row = |queue: String, [received, sent, dropped]: [u64; 3]| {
            table.row(vec![
                worker.worker.to_string(),
                queue,
                core.clone(),
                pid.clone(),
                second.clone(),
                ten_seconds.clone(),
                minute.clone(),
                received.to_string(),
                sent.to_string(),
                dropped.to_string(),
            ]);
        };
        for queue in &worker.queues {
            let counters = &queue.counters;
            let dropped = counters.lost() + counters.rx_fill_ring_empty;
            let name = format!("{}:{}", queue.interface, queue.queue);
            row(name, [counters.rx_frames, counters.tx_frames, dropped]);
        }
        if worker.queues.is_empty() {
            row("kernel".into(), [worker.stack.accepted, 0, 0]);
        }
    }
    let mut text = String::new();
    table.write(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_pool(setting: (&str, &str)) -> SetWhat {
        SetWhat::Pool {
            pool: "a".into(),
            settings: vec![(setting.0.into(), setting.1.into())],
        }
    }

    #[test]
    fn passwords_on_the_command_line_are_refused_and_not_repeated() {
        for key in PASSWORDS {
            for value in ["hunter2", "\"hunter2\""] {
                let fault = of_pool((key, value)).check().unwrap_err().to_string();
                assert!(fault.contains("file = "), "{fault}");
                assert!(!fault.contains("hunter2"), "{fault}");
            }
            for value in ["", "{ file = \"/run/a\" }", "{env=\"A\"}"] {
                assert!(of_pool((key, value)).check().is_ok(), "{value}");
            }
        }
        assert!(of_pool(("hash", "murmur")).check().is_ok());
    }
}
