//! Two workers on both cores, which they share with the load and the servers: what a user with a small machine sees.

use super::contender::{Cores, Running};
use super::redis_benchmark::{LOADS, Load};
use super::settle;
use crate::machine::{LOAD_CORE, PROXY_CORE};
use crate::results::{self, Contender, LabResults, Shared};
use anyhow::Result;
use std::path::Path;
use tidegate_tests::lab::Lab;
use tidegate_tests::stage::Driver;

/// Loads that are measured: one unpipelined, one pipelined, one of short connections.
const MEASURED: [&str; 3] = ["c=50", "c=50 -P 16", "short"];

/// All rounds, in a lab of two queues.
pub fn measure(
    results: &mut LabResults,
    directory: &Path,
    quick: bool,
    rounds: usize,
) -> Result<()> {
    let lab = super::raise(2, None, Driver::Afxdp)?;
    for round in 0..rounds {
        for load in LOADS.iter().filter(|load| MEASURED.contains(&load.name)) {
            for contender in Contender::ALL {
                let running = Running::start(&lab, contender, Cores::Both)?;
                let sample = one(&lab, &running, load, &[PROXY_CORE, LOAD_CORE], round, quick)?;
                eprintln!(
                    "lab: round {round}, both cores, {} {}: {:.0}/s, {:.0} per second of its processes",
                    sample.load,
                    contender.name(),
                    sample.rate,
                    sample.per_process_second
                );
                results.shared.push(sample);
            }
            results::write(directory, "lab", results)?;
        }
        settle(&lab)?;
    }
    Ok(())
}

/// One load, from `cores`.
pub fn one(
    lab: &Lab,
    running: &Running<'_>,
    load: &Load,
    cores: &[usize],
    round: usize,
    quick: bool,
) -> Result<Shared> {
    let before = running.scheduled_s()?;
    let outcome = load.run(lab, running.target(), cores, quick)?;
    let used_s = running.scheduled_s()? - before;
    Ok(Shared {
        load: load.name.to_owned(),
        contender: running.contender,
        round,
        rate: outcome.rate,
        latency: outcome.latency,
        per_process_second: outcome.requests as f64 / used_s.max(1e-9),
    })
}
