//! Measures a client that asks little beside others that ask for more than there is: `scripts/overload`.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;
use tidegate_tests::lab::check_root;
use tidegate_tests::lab::state::remove_on_signals;
use tidegate_tests::outcome::{Carrier, chosen, exit_code, named, tell};
use tidegate_tests::overload::{self, Offender, Options};

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
    /// On sockets, have the kernel of each host take frames in on that host's core (`rps_cpus`), not on that of who sends them; on AF_XDP the
    /// peers' always do.
    #[arg(long)]
    receive_apart: bool,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
}

fn offender(name: &str) -> Result<Offender, String> {
    named(&Offender::ALL, Offender::name, name)
}

fn main() -> ExitCode {
    exit_code("tidegate-overload", act(Arguments::parse()))
}

/// Whether all was right.
fn act(arguments: Arguments) -> Result<bool> {
    check_root()?;
    remove_on_signals()?;
    let options = Options {
        driver: arguments.driver.into(),
        each: Duration::from_secs(arguments.seconds),
        offenders: chosen(arguments.only, &Offender::ALL),
        slow_clients: usize::from(arguments.slow_clients),
        receive_apart: arguments.receive_apart,
    };
    let table = overload::run(&options)?;
    let text = if arguments.markdown {
        table.markdown()
    } else {
        table.text()
    };
    Ok(tell(&text, &table.faults()))
}
