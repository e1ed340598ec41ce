//! Tidegate in a virtual machine: `scripts/test-vm`.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use tidegate_tests::lab::state::remove_on_signals;
use tidegate_tests::vm::{self, Part};

/// Runs Tidegate in a virtual machine, with clients and servers outside it, and checks what it does. Needs root, and QEMU.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The kernel: what `tests/vm/kernel` printed.
    #[arg(long)]
    kernel: PathBuf,
    /// Only these parts; all of them when none is named.
    parts: Vec<Part>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    remove_on_signals()?;
    let parts = match arguments.parts.as_slice() {
        [] => Part::value_variants(),
        some => some,
    };
    Ok(if vm::play(&arguments.kernel, parts)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
