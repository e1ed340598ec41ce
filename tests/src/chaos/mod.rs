//! Chaos on real processes: a lab with real servers, clients that know what every reply may be, and a seeded list of disturbances.
//!
//! ```text
//! schedule ──▶ arena ──▶ lab, Tidegate, servers          what is disturbed, and how
//!                │
//!                ├─ probe      new connections, until all workers and servers answer: the time to recover
//!                ├─ witness    clients; each writes keys of its own and judges every reply by an oracle
//!                └─ census     memory, descriptors, BPF objects, namespaces and files, before and after
//! report: a row for each kind of disturbance
//! ```
//!
//! A reply that is nobody's, a value that was never written, an acknowledged write that is gone ends the run, with what one needs to
//! look into it. So that this is certain, each key has one client that writes it, values tell their key and request, and the
//! oracle knows which servers lost their memory, and when.

mod arena;
mod census;
mod dialect;
mod loss;
mod memory;
mod oracle;
mod probe;
mod report;
mod schedule;
mod setup;
mod sockets;
mod stand;
mod verdict;
mod witness;

pub use report::{Row, Table};
pub use schedule::{Event, Kind, Schedule};
pub use verdict::Verdict;

use crate::lab::addresses::Family;
use crate::lab::state::traces;
use crate::stage::Driver;
use anyhow::{Context, Result, ensure};
use arena::{Arena, Effect, kind_of};
use census::Census;
use nix::sys::signal::Signal;
use oracle::Fault;
use schedule::Ends as MayEnd;
use stand::{Counts, End, Order};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use witness::Witness;

/// Rounds without errors of every client, after which a disturbance is over.
const CALM_ROUNDS: u32 = 5;

/// How long clients may take for that. It turns a hang into a failure; what takes longest is a client that waits for a reply.
const CALM_PATIENCE: Duration = Duration::from_secs(45);

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so long.
    Elapsed(Duration),
    /// After so many disturbances.
    Events(u64),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What carries Tidegate's traffic.
    pub driver: Driver,
    /// The seed of the schedule and of the clients.
    pub seed: u64,
    /// When it ends.
    pub until: Until,
    /// What is done.
    pub kinds: Vec<Kind>,
    /// Clients, half of each protocol.
    pub clients: usize,
    /// How long nothing is disturbed after each disturbance.
    pub pause: Duration,
    /// Where logs and all else are written when something is wrong.
    pub evidence: PathBuf,
}

/// A run under way.
struct Run<'o> {
    options: &'o Options,
    arena: Arena,
    started: Instant,
    verdict: Verdict,
    /// What the clients had counted when nothing was disturbed last.
    calm: Counts,
}

/// Runs chaos to its end, or to the first wrong reply. Says what happened on standard error as it does.
pub fn run(options: &Options) -> Result<Verdict> {
    let arena = Arena::raise(options.driver, options.clients)?;
    let name = arena.lab.name().to_owned();
    let mut run = Run {
        options,
        arena,
        started: Instant::now(),
        verdict: Verdict::default(),
        calm: Counts::default(),
    };
    let clients = run.start_clients();
    let played = run.play();
    run.arena.stand.give(Order::End);
    for client in clients {
        client.join().ok().context("a client panicked")?;
    }
    if let Err(error) = &played {
        run.fault(format!("the run cannot go on: {error:#}"));
    }
    run.verdict.elapsed = run.started.elapsed();
    run.end()?;
    let Run {
        mut verdict, arena, ..
    } = run;
    drop(arena);
    let left = traces(&name);
    if !left.is_empty() {
        verdict.faults.push(format!("left behind: {left:?}"));
    }
    if !verdict.faults.is_empty() {
        verdict::keep_events(options, &verdict.events)?;
    }
    Ok(verdict)
}

impl Run<'_> {
    fn start_clients(&self) -> Vec<JoinHandle<()>> {
        let start = |number: usize| {
            let stand = Arc::clone(&self.arena.stand);
            let family = Family::BOTH[number / 2 % 2];
            let seed = self.options.seed;
            let witness = Witness::new(&stand, number, kind_of(number), family, seed);
            let host = &self.arena.lab.hosts.client;
            host.spawn(move || witness.live(&stand))
        };
        (0..self.options.clients).map(start).collect()
    }

    fn play(&mut self) -> Result<()> {
        self.arena.stand.give(Order::Ask);
        ensure!(self.is_calm(), "the clients are not served to begin with");
        std::thread::sleep(2 * self.options.pause);
        self.verdict.before = self.count()?;
        self.arena.stand.give(Order::Ask);
        ensure!(self.is_calm(), "the clients are not served after a rest");
        self.started = Instant::now();
        let mut schedule = Schedule::new(self.options.seed, &self.options.kinds);
        while !self.is_over() {
            let event = schedule.next_event();
            self.disturb(&event)?;
            if self.arena.stand.finding().is_some() {
                return Ok(());
            }
        }
        self.check_quiet();
        self.arena.settle()?;
        self.verdict.after = self.count()?;
        let growth = self.verdict.after.growth_since(&self.verdict.before);
        for what in growth {
            self.fault(format!("growth: {what}"));
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        match self.options.until {
            Until::Elapsed(limit) => self.started.elapsed() >= limit,
            Until::Events(limit) => self.verdict.table.total().times >= limit,
        }
    }

    /// One disturbance, its recovery, and the pause behind it.
    fn disturb(&mut self, event: &Event) -> Result<()> {
        self.check_quiet();
        if event.kind.hits_a_worker() {
            // New connections, so that each worker has some: those of one that died before went to another.
            ensure!(
                self.arena.stand.rest(CALM_PATIENCE),
                "a client does not come to rest"
            );
            self.arena.stand.give(Order::Ask);
            ensure!(self.is_calm(), "the clients are not served after a rest");
        }
        let before = self.arena.stand.counts();
        let at = self.started.elapsed();
        self.verdict
            .events
            .push(format!("{:9.3} s {event:?}", at.as_secs_f64()));
        let effect = self.arena.disturb(event)?;
        let calm = self.is_calm();
        let counts = difference(self.arena.stand.counts(), before);
        let ended = self.arena.stand.take_ended();
        let said = format!(
            "{:9.3} s {:<16} recovered in {:.0} ms, {} requests, {} errors, {} ended",
            at.as_secs_f64(),
            event.kind.name(),
            effect.recovery.as_secs_f64() * 1e3,
            counts.requests,
            counts.errors,
            ended.len()
        );
        eprintln!("{said}");
        self.verdict.events.push(said);
        let row = self.verdict.table.row(event.kind);
        row.times += 1;
        row.counts.requests += counts.requests;
        row.counts.errors += counts.errors;
        row.counts.refused += counts.refused;
        row.ended += ended.len() as u64;
        row.recoveries.push(effect.recovery);
        if let Some(finding) = self.arena.stand.finding() {
            match finding.fault {
                Fault::Wrong(_) => row.wrong += 1,
                Fault::Lost(_) => row.lost += 1,
            }
            self.fault(format!("client {}: {:?}", finding.client, finding.fault));
            return Ok(());
        }
        self.judge(event.kind, counts, &ended, &effect);
        ensure!(
            calm,
            "clients still get errors although nothing is disturbed any more"
        );
        std::thread::sleep(self.options.pause);
        Ok(())
    }

    /// Whether what clients saw is what this kind of disturbance may cost.
    fn judge(&mut self, kind: Kind, counts: Counts, ended: &[(stand::Ends, End)], effect: &Effect) {
        let name = kind.name();
        if counts.errors > 0 && !kind.allows_errors() {
            self.fault(format!(
                "{name}: {} errors where none may be",
                counts.errors
            ));
        }
        let silent = ended.iter().filter(|(_, end)| *end == End::Silent).count();
        if silent > 0 {
            self.fault(format!("{name}: {silent} requests were never answered"));
        }
        let strangers: BTreeSet<_> = ended
            .iter()
            .map(|(ends, _)| *ends)
            .filter(|ends| match kind.allows_ends() {
                MayEnd::None => true,
                MayEnd::OfTheWorker => effect.of_others.contains(ends),
                MayEnd::All => false,
            })
            .collect();
        if !strangers.is_empty() {
            self.fault(format!(
                "{name}: connections ended that it may not touch: {strangers:?}"
            ));
        }
    }

    /// Nothing was disturbed since the last calm, so nothing may have happened.
    fn check_quiet(&mut self) {
        let errors = difference(self.arena.stand.counts(), self.calm).errors;
        let ended = self.arena.stand.take_ended();
        if errors > 0 || !ended.is_empty() {
            self.fault(format!(
                "{errors} errors while nothing was disturbed, and these ended: {ended:?}"
            ));
        }
    }

    fn is_calm(&mut self) -> bool {
        let calm = self.arena.stand.wait_for_calm(CALM_ROUNDS, CALM_PATIENCE);
        if let Err(restless) = &calm
            && self.arena.stand.finding().is_none()
        {
            self.fault(format!("these clients find no rest: {restless:?}"));
        }
        self.calm = self.arena.stand.counts();
        calm.is_ok()
    }

    /// Lets the clients rest and counts what Tidegate has.
    fn count(&mut self) -> Result<Census> {
        let stand = &self.arena.stand;
        ensure!(stand.rest(CALM_PATIENCE), "a client does not come to rest");
        self.arena.appliance.wait_for("rest", |status| {
            let workers = 0..usize::from(arena::WORKERS);
            workers
                .map(|worker| status.stack(worker, "clients_open"))
                .sum::<u64>()
                == 0
        })?;
        Census::take(&self.arena.lab, &mut self.arena.appliance)
    }

    /// Something is wrong. What one needs to look into it is kept the first time.
    fn fault(&mut self, what: String) {
        eprintln!("NOT right: {what}");
        self.verdict.events.push(format!("NOT right: {what}"));
        self.verdict.faults.push(what);
        if self.verdict.faults.len() == 1 {
            match verdict::keep(self.options, &mut self.arena, &self.verdict.events) {
                Ok(()) => eprintln!("see {}", self.options.evidence.display()),
                Err(error) => eprintln!("nothing could be kept: {error:#}"),
            }
        }
    }

    /// Ends Tidegate in order.
    fn end(&mut self) -> Result<()> {
        let status = self.arena.appliance.end_with(Signal::SIGTERM)?;
        if !status.success() {
            self.fault(format!("tidegate ended with {status}"));
        }
        Ok(())
    }
}

fn difference(now: Counts, before: Counts) -> Counts {
    Counts {
        requests: now.requests - before.requests,
        errors: now.errors - before.errors,
        refused: now.refused - before.refused,
    }
}
