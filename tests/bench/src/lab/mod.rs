//! In the lab: nutcracker and one worker of Tidegate in turns, on the same core, with the same servers and the same load.
//!
//! Each of the three contenders runs alone on [`PROXY_CORE`]; clients, servers and this program share [`LOAD_CORE`]. A round
//! goes through all contenders before the next begins, so that a machine that drifts does so for everybody.

pub mod contender;
pub mod losses;
pub mod open_loop;
mod redis_benchmark;

use crate::machine::{self, LOAD_CORE, PROXY_CORE};
use crate::results::{self, Contender, FixedRate, LabResults, Placement, Saturation};
use anyhow::{Context, Result};
use contender::{Running, Span};
use open_loop::OpenLoop;
use redis_benchmark::{LOADS, Load};
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_tests::lab::topology::Nics;
use tidegate_tests::lab::{Lab, LabOptions, kernel_path};

/// Redis servers behind each contender.
const SERVERS: usize = 2;

/// Requests per second of the fixed-rate measurement.
pub const FIXED_RATE: u32 = 5_000;

/// A measurement during which something else took more than this share of the proxy's core is repeated: others on the machine
/// are no property of a proxy.
const FOREIGN_MAX: f64 = 0.03;

/// Attempts at a quiet measurement; the quietest is kept.
const ATTEMPTS: usize = 4;

/// How long all measurements together may wait for a quiet machine. Later ones take it as it is.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// A lab in which both kinds of proxy can stand between the client and the server host.
pub fn raise() -> Result<Lab> {
    let lab = Lab::raise(LabOptions {
        // One queue: one worker, which is what one nutcracker is compared with.
        queues: 1,
        nics: Nics::Two,
        memcached: 0,
        redis: SERVERS,
        server_core: Some(LOAD_CORE as u32),
        ..LabOptions::default()
    })?;
    kernel_path::build(&lab.hosts)?;
    Ok(lab)
}

/// All rounds. What has been measured is kept in `directory` after every contender: a long measurement that is cut short is not
/// lost.
pub fn measure(directory: &Path, quick: bool, rounds: usize) -> Result<()> {
    let programs = [
        ("nutcracker", "-V"),
        ("redis-server", "--version"),
        ("redis-benchmark", "--version"),
    ];
    let mut results = LabResults {
        machine: machine::describe(quick, &programs),
        saturation: Vec::new(),
        fixed_rate: Vec::new(),
    };
    let lab = raise()?;
    let mut patience = PATIENCE;
    for round in 0..rounds {
        for placement in Placement::BOTH {
            contender::place(&lab, placement)?;
            for contender in Contender::ALL {
                let running = Running::start(&lab, contender)?;
                machine::pin(&[LOAD_CORE])?;
                for load in LOADS {
                    let sample = quietest(&running, &mut patience, || {
                        saturate(&lab, &running, load, placement, round, quick)
                    })?;
                    eprintln!(
                        "lab: round {round} {placement:?} {} {}: {:.0}/s, {:.0} per busy second, foreign {:.1} %, {:?}",
                        sample.load,
                        contender.name(),
                        sample.rate,
                        sample.per_busy_second(),
                        100.0 * sample.foreign,
                        sample.losses
                    );
                    results.saturation.push(sample);
                }
                let sample = quietest(&running, &mut patience, || {
                    fixed_rate(&lab, &running, placement, round, quick)
                })?;
                eprintln!(
                    "lab: round {round} {placement:?} {FIXED_RATE}/s {}: {:?}, {:?}",
                    contender.name(),
                    sample.latency,
                    sample.losses
                );
                results.fixed_rate.push(sample);
                drop(running);
                results.machine.load_after = machine::load_average();
                results::write(directory, "lab", &results)?;
                machine::pin(&[PROXY_CORE, LOAD_CORE])?;
            }
        }
    }
    Ok(())
}

/// Something of which the proxy's core tells how much others disturbed it.
trait Disturbed {
    fn foreign(&self) -> f64;
}

impl Disturbed for Saturation {
    fn foreign(&self) -> f64 {
        self.foreign
    }
}

impl Disturbed for FixedRate {
    fn foreign(&self) -> f64 {
        self.foreign
    }
}

/// Measures until nothing disturbs, or returns the least disturbed of some attempts. The choice looks at the disturbance alone,
/// never at what was measured.
fn quietest<T: Disturbed>(
    running: &Running<'_>,
    patience: &mut Duration,
    mut measure: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut best: Option<T> = None;
    for _ in 0..ATTEMPTS {
        let started = Instant::now();
        while started.elapsed() < *patience && !running.is_undisturbed()? {}
        *patience = patience.saturating_sub(started.elapsed());
        let next = measure()?;
        let quiet = next.foreign() <= FOREIGN_MAX;
        if best
            .as_ref()
            .is_none_or(|best| next.foreign() < best.foreign())
        {
            best = Some(next);
        }
        if quiet {
            break;
        }
    }
    best.context("no attempt was made")
}

fn saturate(
    lab: &Lab,
    running: &Running<'_>,
    load: Load,
    placement: Placement,
    round: usize,
    quick: bool,
) -> Result<Saturation> {
    let span = Span::begin(lab, running)?;
    let outcome = load.run(lab, running.target(), quick)?;
    let used = span.end(lab, running, outcome.requests)?;
    Ok(Saturation {
        load: load.name.to_owned(),
        contender: running.contender,
        placement,
        round,
        requests: outcome.requests,
        wall_s: used.wall_s,
        rate: outcome.rate,
        latency: outcome.latency,
        busy_s: used.busy_s,
        core_busy_s: used.core_busy_s,
        scheduled_s: used.scheduled_s,
        load_core_idle: used.load_core_idle,
        foreign: used.foreign,
        effort: used.effort,
        losses: used.losses,
    })
}

fn fixed_rate(
    lab: &Lab,
    running: &Running<'_>,
    placement: Placement,
    round: usize,
    quick: bool,
) -> Result<FixedRate> {
    let load = OpenLoop {
        target: running.target(),
        connections: 50,
        rate: FIXED_RATE,
        requests: if quick { 10_000 } else { 50_000 },
    };
    let span = Span::begin(lab, running)?;
    let latency = lab.hosts.client.run(|| load.run())?;
    let used = span.end(lab, running, load.requests as u64)?;
    Ok(FixedRate {
        contender: running.contender,
        placement,
        round,
        requests: load.requests,
        latency,
        foreign: used.foreign,
        losses: used.losses,
    })
}
