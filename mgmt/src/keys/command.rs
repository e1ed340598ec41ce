//! `tidegate hotkeys` and `tidegate bigkeys`.

use super::{Ask, Report, table};
use crate::control::client::{self, ask};
use crate::control::request::Request;
use crate::out::shown;
use clap::Args;
use std::path::Path;
use tidegate_channel::keys::HOT_TOLD;

/// What is watched, and how.
#[derive(Args)]
pub struct KeysArgs {
    /// Name of the pool; without it all are watched.
    pool: Option<String>,
    /// How long to watch.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(super::SECONDS_MAX)))]
    seconds: u32,
    /// Count one key in so many, at random.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(super::SAMPLE_MAX)))]
    sample: u32,
    /// Keys to show, of the 64 that are told at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=HOT_TOLD as i64))]
    top: u16,
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
    /// Print JSON: all that were told.
    #[arg(long)]
    json: bool,
}

/// Watches, and prints the most frequent keys.
pub fn hot(args: &KeysArgs, root: &Path) -> anyhow::Result<()> {
    print(args, root, table::hot)
}

/// Watches, and prints the keys with the largest values.
pub fn big(args: &KeysArgs, root: &Path) -> anyhow::Result<()> {
    print(args, root, table::big)
}

fn print(args: &KeysArgs, root: &Path, render: fn(&Report, usize) -> String) -> anyhow::Result<()> {
    let request = Request::Keys(Ask {
        pool: args.pool.clone(),
        seconds: args.seconds,
        sample: args.sample,
    });
    let answer = ask(root, args.name.as_deref(), &request)?;
    let out = if args.json {
        format!("{answer}\n")
    } else {
        let report: Report = client::read(answer)?;
        shown(&render(&report, usize::from(args.top)))
    };
    client::print(&out);
    Ok(())
}
