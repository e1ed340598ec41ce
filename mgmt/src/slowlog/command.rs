//! `tidegate slowlog`.

use super::{Ask, Report, table};
use crate::control::client::{self, ask};
use crate::control::request::Request;
use crate::out::shown;
use clap::{Args, Subcommand};
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
        let report: Report = client::read(answer)?;
        match what {
            Ask::Get { .. } => shown(&table::render(&report)),
            Ask::Len {} => format!("{}\n", report.len),
            Ask::Reset {} => String::new(),
        }
    };
    client::print(&out);
    Ok(())
}
