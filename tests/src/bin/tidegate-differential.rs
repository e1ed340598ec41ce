//! Compares what servers say with what they say through the proxy, for as many random requests as wanted: `scripts/differential`.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use std::collections::BTreeSet;
use std::process::ExitCode;
use tidegate_tests::differential::{Dialect, Stand};
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Driver;

/// Differences that are shown of one dialect: after so many the next tell nothing new.
const SHOWN_MAX: usize = 10;

/// Sends the same random requests to a server and to a pool of one server, and compares the replies byte for byte.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Requests of each dialect.
    #[arg(long, default_value_t = 100_000)]
    requests: usize,
    /// Where the random numbers start: the same seed brings the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Things to do on one connection.
    #[arg(long, default_value_t = 400)]
    turns: usize,
    /// Name what is not compared, too.
    #[arg(long)]
    left_out: bool,
    /// Only this dialect: resp2, resp3, text, meta or binary.
    #[arg(long)]
    dialect: Option<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let scene = Scene::raise(Driver::Kernel, Stand::options(), Stand::configure)
        .context("there is no stage")?;
    let stand = Stand::of(&scene);
    let wanted = |dialect: &Dialect| {
        let name = arguments.dialect.as_deref();
        name.is_none_or(|name| name == dialect.to_string())
    };
    let mut differs = false;
    for dialect in Dialect::ALL.into_iter().filter(wanted) {
        differs |= compare(&stand, dialect, &arguments);
    }
    Ok(if differs {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Plays batches until there were enough requests. True when replies differ.
fn compare(stand: &Stand, dialect: Dialect, arguments: &Arguments) -> bool {
    let dialogue = stand.dialogue(dialect);
    let left_out = dialogue.left_out();
    if !dialogue.has_any() {
        println!("{dialect}: the proxy does not speak it");
        return false;
    }
    let (mut requests, mut seed, mut differences) = (0, arguments.seed, 0);
    let mut shown = BTreeSet::new();
    while requests < arguments.requests {
        match dialogue.batch(seed, arguments.turns) {
            Ok(count) => requests += count,
            Err(difference) => {
                differences += 1;
                requests += arguments.turns;
                if shown.len() < SHOWN_MAX && shown.insert(difference.from()) {
                    print!("{difference}");
                }
            }
        }
        seed += 1;
    }
    println!("{dialect}: {requests} requests, {differences} batches differ");
    println!(
        "{dialect}: {} kinds of requests are not compared",
        left_out.len()
    );
    for name in left_out.iter().filter(|_| arguments.left_out) {
        println!("    {name}");
    }
    differences > 0
}
