//! `tidegate clean-up`: ends and undoes what a killed manager left behind.

use crate::run::{living, undo};
use crate::runtime_dir::{RuntimeDir, RuntimeError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;

/// Ends left workers of `name`, gives reserved ports back and removes the runtime directory.
pub fn run(root: &Path, name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        root.join(name).is_dir(),
        "nothing is left of an instance named {name:?} in {}",
        root.display()
    );
    let runtime = match RuntimeDir::claim(root, name) {
        Err(RuntimeError::Running { .. }) => {
            anyhow::bail!(
                "an instance named {name:?} is running: stop it first (SIGTERM to its manager)"
            )
        }
        claimed => claimed?,
    };
    if let Some(record) = runtime.record() {
        for process in living(&record) {
            println!("ending worker process {}", process.pid);
            // Checked by its start time just now, so that the number is not somebody else's.
            kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL)?;
        }
    }
    undo(&runtime)?;
    runtime.remove();
    println!("cleaned up after {name}");
    Ok(())
}
