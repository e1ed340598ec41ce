//! The process that removes a lab when its owner could not.
//!
//! The owner holds the writing end of a pipe whose reading end is the janitor's standard input. However the owner ends, the
//! kernel closes the pipe, and the janitor wakes up.

use super::state::LabState;
use crate::lab::program;
use anyhow::{Context, Result};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// The owner's side. Dropping it lets the janitor go, which then finds nothing to do if the lab has been removed.
#[derive(Debug)]
pub struct Janitor(Child);

impl Janitor {
    /// Starts the janitor of the lab called `name`.
    pub fn start(name: &str) -> Result<Self> {
        let tool = program("tidegate-lab")?;
        let child = Command::new(&tool)
            .args(["janitor", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C must not reach it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", tool.display()))?;
        Ok(Self(child))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The janitor's life: waits for its owner's end, then removes the lab unless that has been done or the lab is to stay.
pub fn live(name: &str) {
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    if let Some(state) = LabState::read(name)
        && !state.stays
    {
        state.remove();
    }
}
