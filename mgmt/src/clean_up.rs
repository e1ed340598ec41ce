//! `tidegate clean-up`: ends and undoes what a killed manager left behind.

use crate::life::Life;
use crate::run::undo;
use crate::runtime_dir::{RuntimeDir, RuntimeError};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long killed workers may take to be gone. It is the kernel's work: milliseconds, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let mut killed: Vec<Life> = record.living().filter_map(Life::adopt).collect();
        for process in &killed {
            say!("ending worker process {}", process.pid());
            process.kill();
        }
        // What they hold goes with them: steering programs, and sockets whose files are removed next.
        let until = Instant::now() + PATIENCE;
        while !killed.is_empty() && Instant::now() < until {
            killed.retain_mut(|process| process.ended().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::ensure!(killed.is_empty(), "some worker processes do not end");
    }
    undo(&runtime)?;
    runtime.remove();
    say!("cleaned up after {name}");
    Ok(())
}
