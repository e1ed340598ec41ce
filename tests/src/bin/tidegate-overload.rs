//! Measures a client that asks little beside others that ask for more than there is: `scripts/overload`.

#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;
use tidegate_tests::lab::state::remove_on_signals;
use tidegate_tests::overload::{self, Offender, Options};
use tidegate_tests::stage::Driver;

/// Raises a lab with Tidegate and two Redis servers, and measures one client beside each kind of overload. Needs root.
#[derive(Parser)]
#[command(name = "scripts/overload", version)]
struct Arguments {
    /// How long each is measured, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// What carries Tidegate's traffic.
    #[arg(long, value_enum, default_value_t = Carrier::Afxdp)]
    driver: Carrier,
    /// Only beside this; may be given several times. Beside each of them otherwise.
    #[arg(long, value_name = "KIND", value_parser = offender)]
    only: Vec<Offender>,
    /// Slow readers, and slow writers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    slow_clients: u16,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Carrier {
    Afxdp,
    Kernel,
}

fn offender(name: &str) -> Result<Offender, String> {
    Offender::named(name).ok_or_else(|| {
        let names: Vec<&str> = Offender::ALL.iter().map(|kind| kind.name()).collect();
        format!("there are: {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    match act(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-overload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: Arguments) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and needs root: run it with sudo");
    }
    remove_on_signals()?;
    let options = Options {
        driver: match arguments.driver {
            Carrier::Afxdp => Driver::Afxdp,
            Carrier::Kernel => Driver::Kernel,
        },
        each: Duration::from_secs(arguments.seconds),
        offenders: if arguments.only.is_empty() {
            Offender::ALL.to_vec()
        } else {
            arguments.only
        },
        slow_clients: usize::from(arguments.slow_clients),
    };
    let table = overload::run(&options)?;
    let text = if arguments.markdown {
        table.markdown()
    } else {
        table.text()
    };
    println!("\n{text}");
    let faults = table.faults();
    for fault in &faults {
        println!("NOT right: {fault}");
    }
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
