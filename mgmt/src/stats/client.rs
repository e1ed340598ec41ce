//! `tidegate stats`.

use super::model::Stats;
use super::prometheus::{self, Format};
use super::table;
use crate::control::client::{self, ask};
use crate::control::request::Request;
use crate::out::shown;
use anyhow::bail;
use clap::Args;
use std::path::Path;

/// What to show.
#[derive(Args)]
pub struct StatsArgs {
    /// Only this pool.
    pool: Option<String>,
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Print the text that Prometheus reads, for a collector of files.
    #[arg(long, conflicts_with = "json")]
    metrics: bool,
}

/// Prints the statistics.
pub fn run(root: &Path, args: &StatsArgs) -> anyhow::Result<()> {
    let answer = ask(root, args.name.as_deref(), &Request::Stats {})?;
    let out = match (&args.pool, args.json) {
        (None, true) => format!("{answer}\n"),
        (pool, json) => {
            let mut stats: Stats = client::read(answer)?;
            if let Some(pool) = pool {
                only(&mut stats, pool)?;
            }
            match stats.pools.first() {
                _ if args.metrics => prometheus::render(&stats, Format::Text),
                Some(pool) if json => format!("{}\n", serde_json::to_string(pool)?),
                _ => shown(&table::render(&stats, args.pool.is_some())),
            }
        }
    };
    client::print(&out);
    Ok(())
}

/// Keeps one pool.
fn only(stats: &mut Stats, name: &str) -> anyhow::Result<()> {
    if stats.pools.iter().all(|pool| pool.name != name) {
        let names: Vec<&str> = stats.pools.iter().map(|pool| pool.name.as_str()).collect();
        bail!("there is no pool {name:?}; there are: {}", names.join(", "));
    }
    stats.pools.retain(|pool| pool.name == name);
    Ok(())
}
