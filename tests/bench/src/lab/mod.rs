//! In the lab: nutcracker, Tidegate on kernel sockets and Tidegate on AF_XDP in turns, on the same core, with the same servers and the same load.
//!
//! Each of the five contenders runs alone on [`PROXY_CORE`]; clients, servers and this program share [`LOAD_CORE`]. A round
//! goes through all contenders before the next begins, so that a machine that drifts does so for everybody.

pub mod contender;
pub mod losses;
pub mod open_loop;
pub mod redis_benchmark;
mod shared;
mod slices;

use crate::machine::{self, LOAD_CORE, PROXY_CORE};
use crate::results::{self, Contender, FixedRate, LabResults, Placement, Saturation};
use anyhow::{Context, Result};
use contender::{Cores, Running, Span};
use open_loop::OpenLoop;
use redis_benchmark::{LOADS, Load};
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_tests::lab::topology::Nics;
use tidegate_tests::lab::{Lab, LabOptions, kernel_path};
use tidegate_tests::stage::Driver;

/// Redis servers behind each contender.
const SERVERS: usize = 2;

/// Requests per second of the fixed-rate measurement.
pub const FIXED_RATE: u32 = 5_000;

/// A measurement during which something else took more than this share of the proxy's core is repeated: others on the machine
/// are no property of a proxy. Waking up and interrupts of an idle core look the same and take 3 % beside nutcracker.
const FOREIGN_MAX: f64 = 0.05;

/// Attempts at a quiet measurement; the quietest is kept.
const ATTEMPTS: usize = 4;

/// How long all measurements together may wait for a quiet machine. Later ones take it as it is.
const PATIENCE: Duration = Duration::from_mins(20);

/// A lab of `queues` in which both kinds of proxy can stand between the client and the server host.
pub fn raise(queues: u32, server_core: Option<u32>, driver: Driver) -> Result<Lab> {
    let lab = Lab::raise(LabOptions {
        driver,
        queues,
        nics: Nics::Two,
        memcached: 0,
        redis: SERVERS,
        server_core,
        ..LabOptions::default()
    })?;
    kernel_path::build(&lab.hosts)?;
    Ok(lab)
}

/// A lab for one worker on `driver`, which is what one nutcracker is compared with.
pub fn raise_for_one(driver: Driver) -> Result<Lab> {
    raise(1, Some(LOAD_CORE as u32), driver)
}

/// All rounds. What has been measured is kept in `directory` after every contender: a long measurement that is cut short is not
/// lost.
pub fn measure(directory: &Path, quick: bool, rounds: usize) -> Result<()> {
    let programs = [
        ("nutcracker", "-V"),
        ("redis-server", "--version"),
        ("redis-benchmark", "--version"),
    ];
    let mut campaign = Campaign {
        results: LabResults {
            machine: machine::describe(quick, &programs),
            saturation: Vec::new(),
            fixed_rate: Vec::new(),
            shared: Vec::new(),
            slices: Vec::new(),
        },
        directory,
        quick,
        patience: PATIENCE,
    };
    let lab = raise_for_one(Driver::Afxdp)?;
    for placement in Placement::BOTH {
        contender::place(&lab, placement)?;
        for round in 0..rounds {
            // Short connections last: the kernel forgets them a minute later, tens of thousands at once, in the time of
            // whatever runs then.
            for short in [false, true] {
                for contender in Contender::ALL {
                    campaign.measure(&lab, contender, placement, round, short)?;
                }
            }
            settle(&lab)?;
        }
        if placement == Placement::A {
            slices::measure(&lab, &mut campaign.results, directory, quick, rounds)?;
            shared::measure(&mut campaign.results, directory, quick, rounds)?;
        }
    }
    Ok(())
}

/// Waits until no host of the lab has connections in TIME-WAIT, or as long as one can last.
pub fn settle(lab: &Lab) -> Result<()> {
    /// Linux keeps a connection in TIME-WAIT for 60 s.
    const TIME_WAIT: Duration = Duration::from_secs(65);
    let hosts = &lab.hosts;
    let started = Instant::now();
    while started.elapsed() < TIME_WAIT {
        let mut waiting = 0;
        for host in [&hosts.client, &hosts.server, &hosts.kernel_path] {
            waiting += host.run(losses::in_time_wait)?;
        }
        if waiting == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// What has been measured so far, and how to go on.
struct Campaign<'d> {
    results: LabResults,
    directory: &'d Path,
    quick: bool,
    /// For a quiet machine.
    patience: Duration,
}

impl Campaign<'_> {
    /// One contender under all loads of short connections, or under all others and at the fixed rate.
    fn measure(
        &mut self,
        lab: &Lab,
        contender: Contender,
        placement: Placement,
        round: usize,
        short: bool,
    ) -> Result<()> {
        let running = Running::start(lab, contender, Cores::One)?;
        machine::pin(&[LOAD_CORE])?;
        let (patience, quick) = (&mut self.patience, self.quick);
        for load in LOADS.into_iter().filter(|load| load.is_short() == short) {
            let sample = quietest(&running, patience, || {
                saturate(lab, &running, load, placement, round, quick)
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
            self.results.saturation.push(sample);
        }
        if !short {
            let sample = quietest(&running, patience, || {
                fixed_rate(lab, &running, placement, round, quick)
            })?;
            eprintln!(
                "lab: round {round} {placement:?} {FIXED_RATE}/s {}: {:?}, {:?}",
                contender.name(),
                sample.latency,
                sample.losses
            );
            self.results.fixed_rate.push(sample);
        }
        drop(running);
        self.results.machine.load_after = machine::load_average();
        results::write(self.directory, "lab", &self.results)?;
        machine::pin(&[PROXY_CORE, LOAD_CORE])
    }
}

/// Something of which the proxy's core tells how much others disturbed it.
pub trait Disturbed {
    /// Share of the proxy's core that something else took.
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
pub fn quietest<T: Disturbed>(
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

/// One load on a contender that runs.
pub fn saturate(
    lab: &Lab,
    running: &Running<'_>,
    load: Load,
    placement: Placement,
    round: usize,
    quick: bool,
) -> Result<Saturation> {
    let span = Span::begin(lab, running)?;
    let outcome = load.run(lab, running.target(), &[LOAD_CORE], quick)?;
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
        calls: used.calls,
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
