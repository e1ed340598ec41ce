//! What is said at the end, and what is kept for whoever has to find out why.

use super::Options;
use super::arena::Arena;
use super::census::Census;
use super::report::Table;
use crate::outcome::markdown;
use anyhow::Result;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// A row for each kind of disturbance.
    pub table: Table,
    /// What was wrong, in words. Nothing: every promise was kept.
    pub faults: Vec<String>,
    /// What was done and what came of it, with the time since the beginning.
    pub events: Vec<String>,
    /// From the first disturbance to the end.
    pub elapsed: Duration,
    /// What Tidegate took at rest, before.
    pub(super) before: Census,
    /// And after.
    pub(super) after: Census,
}

impl Verdict {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = self.table.text();
        let _ = writeln!(text, "\n{:<44}{:>12}{:>12}", "at rest", "before", "after");
        for [what, before, after] in self.after.beside(&self.before) {
            let _ = writeln!(text, "{what:<44}{before:>12}{after:>12}");
        }
        text
    }

    /// For a document.
    pub fn markdown(&self) -> String {
        let mut text = self.table.markdown();
        let rows = self.after.beside(&self.before);
        text.push('\n');
        text + &markdown(&["at rest", "before", "after"], &rows, 1..3)
    }

    /// The last lines.
    pub fn sentence(&self) -> String {
        let total = self.table.total();
        format!(
            "{} disturbances in {:.0} s, {} requests, {} errors, {} wrong replies, {} lost writes, {}",
            total.times,
            self.elapsed.as_secs_f64(),
            total.counts.requests,
            total.counts.errors,
            total.wrong,
            total.lost,
            match self.faults.len() {
                0 => "nothing that may not be".to_owned(),
                count => format!("{count} times what may not be"),
            }
        )
    }
}

/// Writes down everything of a run that tells of a fault.
pub(super) fn keep(options: &Options, arena: &mut Arena, events: &[String]) -> Result<()> {
    let directory = &options.evidence;
    fs::create_dir_all(directory)?;
    let write = |name: &str, text: &str| fs::write(directory.join(name), text);
    keep_events(options, events)?;
    if let Some(finding) = arena.stand.finding() {
        let exchanges = finding.exchanges.join("\n");
        let text = format!(
            "client {}: {:?}\n{exchanges}\n",
            finding.client, finding.fault
        );
        write("exchanges.txt", &text)?;
    }
    let said = |text: Result<String>| text.unwrap_or_else(|error| format!("{error:#}"));
    write("status.txt", &said(arena.appliance.status_text()))?;
    write("stats.txt", &said(arena.appliance.stats_text(&[])))?;
    write("slowlog.txt", &slow_log(arena))?;
    for entry in fs::read_dir(arena.lab.directory())?.flatten() {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "log" || extension == "toml")
        {
            fs::copy(&path, directory.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Writes down what was done and what came of it.
pub(super) fn keep_events(options: &Options, events: &[String]) -> Result<()> {
    fs::create_dir_all(&options.evidence)?;
    let head = format!("driver {:?}, seed {}\n", options.driver, options.seed);
    let text = head + &events.join("\n") + "\n";
    Ok(fs::write(options.evidence.join("events.txt"), text)?)
}

fn slow_log(arena: &Arena) -> String {
    let asked = arena
        .appliance
        .ask(&["slowlog", "get", "50", "--name", arena.lab.name()]);
    asked.map_or_else(
        |error| format!("{error:#}"),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
