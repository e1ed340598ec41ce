//! Disturbs a Tidegate with real servers and real clients, and checks that it keeps its promises: `scripts/chaos`.

#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tidegate_tests::chaos::{self, Kind, Options, Until};
use tidegate_tests::lab::state::remove_on_signals;
use tidegate_tests::stage::Driver;

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

#[derive(Clone, Copy, ValueEnum)]
enum Carrier {
    Afxdp,
    Kernel,
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("there are: {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    match act(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: Arguments) -> Result<ExitCode> {
    if arguments.list {
        for kind in Kind::ALL {
            println!("{:<16} {}", kind.name(), kind.what());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and needs root: run it with sudo");
    }
    remove_on_signals()?;
    let options = Options {
        driver: match arguments.driver {
            Carrier::Afxdp => Driver::Afxdp,
            Carrier::Kernel => Driver::Kernel,
        },
        seed: arguments.seed,
        until: Until::Elapsed(Duration::from_secs(arguments.seconds)),
        kinds: if arguments.only.is_empty() {
            Kind::ALL.to_vec()
        } else {
            arguments.only
        },
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
    println!("\n{tables}");
    for fault in &verdict.faults {
        println!("NOT right: {fault}");
    }
    println!("seed {}: {}", options.seed, verdict.sentence());
    Ok(if verdict.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
