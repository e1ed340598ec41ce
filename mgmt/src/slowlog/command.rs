//! `tidegate slowlog`.

use super::{Ask, Report, table};
use crate::control::client::ask;
use crate::control::request::Request;
use anyhow::Context;
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::Path;

/// Entries that are shown when nobody says how many.
const ENTRIES: u32 = 20;

/// What is asked of the slow log.
#[derive(Args)]
pub struct SlowlogArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Show the latest entries; the same without a word.
    Get {
        /// How many at most.
        #[arg(default_value_t = ENTRIES)]
        entries: u32,
    },
    /// Show how many there are.
    Len,
    /// Forget them.
    Reset,
}

/// Asks, and prints the answer.
pub fn run(args: &SlowlogArgs, root: &Path) -> anyhow::Result<()> {
    let what = match args.what {
        None => Ask::Get { entries: ENTRIES },
        Some(What::Get { entries }) => Ask::Get { entries },
        Some(What::Len) => Ask::Len {},
        Some(What::Reset) => Ask::Reset {},
    };
    let answer = ask(root, args.name.as_deref(), &Request::Slowlog(what.clone()))?;
    let out = if args.json {
        format!("{answer}\n")
    } else {
        let report: Report = serde_json::from_value(answer)
            .context("the manager is of another version: try --json")?;
        match what {
            Ask::Get { .. } => table::render(&report),
            Ask::Len {} => format!("{}\n", report.len),
            Ask::Reset {} => String::new(),
        }
    };
    // A reader that went away (`| head`) is no error of ours.
    let _closed = std::io::stdout().write_all(out.as_bytes());
    Ok(())
}
