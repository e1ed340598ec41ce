//! Tidegate in a virtual machine: `scripts/test-vm`.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use tidegate_tests::lab::state::remove_on_signals;
use tidegate_tests::vm;

/// Runs Tidegate in a virtual machine, with clients and servers outside it, and checks what it does. Needs root, and QEMU.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The kernel: what `tests/vm/kernel` printed.
    #[arg(long)]
    kernel: PathBuf,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    remove_on_signals()?;
    Ok(if vm::play(&arguments.kernel)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
