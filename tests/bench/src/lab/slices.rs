//! Two workers on sockets against one nutcracker where every process of a proxy has the same slice of a core.

use super::contender::{Cores, Running};
use super::redis_benchmark::LOADS;
use super::settle;
use crate::machine::{LOAD_CORE, PROXY_CORE};
use crate::results::{self, Contender, LabResults};
use crate::slice::{PERCENT, Slice};
use anyhow::Result;
use std::path::Path;
use tidegate_tests::lab::Lab;

/// All rounds. Nothing is measured where the kernel gives no slices.
pub fn measure(
    lab: &Lab,
    results: &mut LabResults,
    directory: &Path,
    quick: bool,
    rounds: usize,
) -> Result<()> {
    for round in 0..rounds {
        for load in LOADS.iter().filter(|load| load.is_short()) {
            for contender in Contender::ALL {
                if matches!(contender, Contender::Packets(_)) {
                    // A worker that has its NIC queue for itself has its core as well.
                    continue;
                }
                let running = Running::start(lab, contender, Cores::Slices)?;
                let slices: Result<Vec<Slice>> =
                    running.processes().into_iter().map(Slice::of).collect();
                let slices = match slices {
                    Ok(slices) => slices,
                    Err(error) => {
                        eprintln!("lab: slices of a core are not measured: {error:#}");
                        return Ok(());
                    }
                };
                let sample = super::shared::one(lab, &running, load, &[LOAD_CORE], round, quick)?;
                eprintln!(
                    "lab: round {round}, {PERCENT} % of core {PROXY_CORE} for each process, {} {}: {:.0}/s",
                    sample.load,
                    contender.name(),
                    sample.rate,
                );
                results.slices.push(sample);
                drop(running);
                drop(slices);
            }
            results::write(directory, "lab", results)?;
        }
        settle(lab)?;
    }
    Ok(())
}
