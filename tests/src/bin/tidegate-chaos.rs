//! Disturbs a Tidegate with real servers and real clients, and checks that it keeps its promises: `scripts/chaos`.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tidegate_tests::chaos::{self, Kind, Options, Until};
use tidegate_tests::lab::check_root;
use tidegate_tests::lab::state::remove_on_signals;
use tidegate_tests::outcome::{Carrier, chosen, exit_code, named, tell};

/// Raises a lab with Tidegate, Redis and memcached servers and clients, disturbs all of them, and checks every reply. Needs root.
#[derive(Parser)]
#[command(name = "scripts/chaos", version)]
struct Arguments {
    /// How long, in seconds. The last disturbance is seen to its end.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The same seed brings the same disturbances in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What carries Tidegate's traffic.
    #[arg(long, value_enum, default_value_t = Carrier::Afxdp)]
    driver: Carrier,
    /// Only this disturbance; may be given several times. All of them otherwise.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    only: Vec<Kind>,
    /// Clients, half of each protocol.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(2..=256))]
    clients: u16,
    /// How long nothing is disturbed after each disturbance, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pause_ms: u64,
    /// Print the tables as Markdown.
    #[arg(long)]
    markdown: bool,
    /// Where logs and all else are kept when something is wrong.
    #[arg(long, default_value = "target/chaos")]
    evidence: PathBuf,
    /// Name the disturbances there are, and end.
    #[arg(long)]
    list: bool,
}

fn kind(name: &str) -> Result<Kind, String> {
    named(Kind::ALL, Kind::name, name)
}

fn main() -> ExitCode {
    exit_code("tidegate-chaos", act(Arguments::parse()))
}

/// Whether all was right.
fn act(arguments: Arguments) -> Result<bool> {
    if arguments.list {
        for kind in Kind::ALL {
            println!("{:<16} {}", kind.name(), kind.what());
        }
        return Ok(true);
    }
    check_root()?;
    remove_on_signals()?;
    let options = Options {
        driver: arguments.driver.into(),
        seed: arguments.seed,
        until: Until::Elapsed(Duration::from_secs(arguments.seconds)),
        kinds: chosen(arguments.only, Kind::ALL),
        clients: usize::from(arguments.clients),
        pause: Duration::from_millis(arguments.pause_ms),
        evidence: arguments.evidence,
    };
    let verdict = chaos::run(&options)?;
    let tables = if arguments.markdown {
        verdict.markdown()
    } else {
        verdict.text()
    };
    let all_right = tell(&tables, &verdict.faults);
    println!("seed {}: {}", options.seed, verdict.sentence());
    Ok(all_right)
}
