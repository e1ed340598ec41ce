//! Workers outlive their manager, and the next one adopts them.
//!
//! A manager that is killed leaves its workers serving. The next `tidegate run` of the same name finds them in the record, knocks at the
//! door of each, and gets back what the earlier manager had given it: see [`tidegate_channel::door`]. From then on they are workers like
//! any other; their connections and their counters never knew of it.
//!
//! Nothing that a worker hands over is believed. What is shared has to be of our own user, which a worker is not when a manager is root;
//! it has to be sealed, and of the size that the configuration asks for; and the kernel is asked whether a program and its maps are what
//! they are said to be. A worker that fails this is drained, or killed if it cannot be spoken with, and another one started.
//!
//! * [`interview`] speaks with the processes of the record and sorts them.
//! * [`heritage`] makes what workers share out of what they handed over.

pub mod heritage;
pub mod interview;

use crate::lifecycle::service;
use crate::manager::Manager;
use crate::plan::{self, Facts, Plan};
use crate::reload::Source;
use crate::reload::set::on_cores_of;
use crate::runtime_dir::{Record, Recorder};
use crate::stats;
use crate::worker_process::WorkerProcess;
use heritage::Heritage;
use interview::Leaving;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use tidegate_channel::control::ControlSocket;
use tidegate_channel::door::Door;
use tidegate_channel::message::{Envelope, ToWorker};
use tidegate_channel::statistics::StatisticsReader;
use tidegate_config::Config;

/// What a worker that is drained gets beyond its deadline before it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// While somebody is waited for, the service manager's watchdog hears of us this often.
const SLICE: Duration = Duration::from_millis(500);

/// Processes of an earlier manager.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that can be adopted, together.
    pub heritage: Option<Heritage>,
    /// Those that cannot.
    pub leaving: Vec<Leaving>,
    /// The file says something else than what they serve.
    pub outdated: bool,
}

impl Found {
    /// Speaks with every process of the record that lives.
    pub fn look(record: &Record, doors: &Recorder) -> Self {
        let (adoptees, mut leaving) = interview::all(record, doors);
        let heritage = Heritage::of(adoptees, &mut leaving);
        let mut found = Self {
            heritage,
            leaving,
            outdated: false,
        };
        found.give_up_a_part();
        found
    }

    /// Threads of one process go together or not at all.
    fn give_up_a_part(&mut self) {
        let is_part = |heritage: &Heritage| {
            let all = heritage.workers();
            heritage.config().is_on_dpdk() && heritage.adoptees().len() != all
        };
        if self.heritage.as_ref().is_some_and(is_part) {
            self.give_up("not all workers of its process can be taken over");
        }
    }

    /// The configuration to begin with, and its plan: that of those that are adopted, who go on with it until that of the file has been
    /// reloaded. If this machine no longer allows it, the file decides: its cores, or all of it. Without anybody it is the file's.
    /// `before` and `source` tell what of it was never in the file.
    pub fn plan(
        &mut self,
        of_file: Config,
        before: &Record,
        source: Option<&Source>,
    ) -> (Config, Result<Plan, Vec<String>>) {
        let plan_of = |config: &Config| plan::make(config, &Facts::gather(config));
        let adopted = self.heritage.as_ref().map(Heritage::config);
        let Some(adopted) = adopted.filter(|config| **config != of_file) else {
            let plan = plan_of(&of_file);
            return (of_file, plan);
        };
        match choose(adopted, &of_file, plan_of) {
            Choice::Adopted(config, plan) => {
                let expected = source.and_then(|source| source.read_with(&before.unsaved).ok());
                let expected = match expected {
                    Some(expected) if before.moved => Some(on_cores_of(expected, adopted)),
                    expected => expected,
                };
                self.outdated = expected.as_ref() != Some(adopted);
                (*config, Ok(plan))
            }
            Choice::File(plan) => {
                if plan.is_ok() {
                    self.give_up("this machine no longer allows what it serves; the file says something else");
                }
                (of_file, plan)
            }
        }
    }

    /// Adopts nobody if there are to be more or fewer workers: each knows of all others.
    pub fn give_up_unless(&mut self, workers: usize) {
        if let Some(heritage) = &self.heritage
            && heritage.workers() != workers
        {
            let why = format!(
                "there were {} workers, there are to be {workers}",
                heritage.workers()
            );
            self.give_up(&why);
        }
    }

    /// Makes them workers of `manager`, of which `before` tells.
    pub fn join(self, manager: &mut Manager, before: &Record) -> anyhow::Result<()> {
        let shared = &manager.parts.shared;
        let (layout, drain_ms) = (shared.layout, shared.config.worker.drain_timeout_ms);
        // An earlier version wrote down none.
        manager.generation = before.generation.max(1);
        for record in &before.workers {
            if let Some(slot) = manager.slots.get_mut(record.worker as usize) {
                slot.recall(record);
            }
        }
        if self.heritage.is_some() {
            manager.unsaved.clone_from(&before.unsaved);
            manager.moved = before.moved;
            let names = manager.not_in_the_file().join("; ");
            if !names.is_empty() && !self.outdated {
                tracing::warn!("settings that were changed and not saved stay in force: {names}");
            }
        }
        let record_of = |worker: usize| before.workers.iter().find(|r| r.worker as usize == worker);
        let mut together = None;
        for mut adoptee in self.heritage.into_iter().flat_map(Heritage::into_adoptees) {
            if shared.are_together() {
                let life = together.get_or_insert_with(|| adoptee.life.clone());
                adoptee.life = life.clone();
            }
            let worker = adoptee.worker;
            let version = adoptee.handover.version.clone();
            let orphans = std::mem::take(&mut adoptee.start.orphans);
            let process = WorkerProcess::adopt(adoptee);
            tracing::info!(
                "worker {worker}: process {} of an earlier manager goes on (version {version})",
                process.pid()
            );
            if let (Some(slot), Some(record)) = (manager.slots.get_mut(worker), record_of(worker)) {
                slot.adopt(process, record, shared.are_together());
                slot.recall_orphans(orphans);
                if !shared.are_together() {
                    slot.move_to(shared.plan.cores.get(worker).copied().flatten());
                }
            }
        }
        for leaving in self.leaving {
            let worker = leaving.worker;
            let statistics = StatisticsReader::map(&layout.create()?, layout)?;
            let process = WorkerProcess::see_off(leaving, statistics, drain_ms)?;
            if let (Some(slot), Some(record)) = (manager.slots.get_mut(worker), record_of(worker)) {
                slot.adopt(process, record, shared.are_together());
            }
        }
        let totals = manager.parts.recorder.read_totals();
        manager.memory.recall(totals);
        stats::gather::begin(manager, Instant::now());
        manager.write_record();
        Ok(())
    }

    /// Whether anybody is left.
    pub fn is_empty(&self) -> bool {
        self.heritage.is_none() && self.leaving.is_empty()
    }

    /// Adopts nobody.
    pub fn give_up(&mut self, why: &str) {
        let heritage = self.heritage.take();
        let adoptees = heritage.into_iter().flat_map(Heritage::into_adoptees);
        self.leaving
            .extend(adoptees.map(|adoptee| adoptee.leave(why)));
    }
}

/// What to begin with when workers serve something else than the file says.
enum Choice {
    /// What they serve, perhaps on other cores.
    Adopted(Box<Config>, Plan),
    /// What the file says.
    File(Result<Plan, Vec<String>>),
}

fn choose(
    adopted: &Config,
    of_file: &Config,
    plan_of: impl Fn(&Config) -> Result<Plan, Vec<String>>,
) -> Choice {
    let faults = match plan_of(adopted) {
        Ok(plan) => return Choice::Adopted(Box::new(adopted.clone()), plan),
        Err(faults) => faults,
    };
    for fault in faults {
        tracing::warn!("what the workers serve cannot stay: {fault}");
    }
    let moved = on_cores_of(adopted.clone(), of_file);
    match plan_of(&moved) {
        Ok(plan) => Choice::Adopted(Box::new(moved), plan),
        // Its own faults are those that somebody can mend.
        Err(_) => Choice::File(plan_of(of_file)),
    }
}

/// Drains all of `leaving` and waits for their ends. A signal makes it short: `false`.
pub fn see_off(mut leaving: Vec<Leaving>, deadline_ms: u32, signals: &SignalFd) -> bool {
    for process in &mut leaving {
        process.drain(deadline_ms);
    }
    let until = Instant::now() + Duration::from_millis(deadline_ms.into()) + GRACE;
    while !leaving.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let mut wait = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let ends = leaving.iter().filter_map(|process| process.life.wakes());
        wait.extend(ends.map(|end| PollFd::new(end, PollFlags::POLLIN)));
        // Rounded up, as every sleep.
        let slice = left.min(SLICE) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(slice);
        let _interrupted = poll(&mut wait, timeout.unwrap_or(PollTimeout::ZERO));
        service::still_there();
        let told_to_end = is_told_to_end(signals);
        if told_to_end || left.is_zero() {
            for process in &leaving {
                process.life.kill();
            }
        }
        if told_to_end {
            return false;
        }
        leaving.retain_mut(|process| process.life.ended().is_none());
    }
    true
}

/// Whether somebody wants the manager to end. Other signals tell nothing here: ends are looked for anyway.
fn is_told_to_end(signals: &SignalFd) -> bool {
    let mut told = false;
    while let Ok(Some(signal)) = signals.read_signal() {
        let signal = Signal::try_from(signal.ssi_signo as i32);
        told |= matches!(signal, Ok(Signal::SIGTERM | Signal::SIGINT));
    }
    told
}

/// Lets a worker that is ready outlive this manager: it gets its door, and what on NICs keeps frames coming.
pub fn keep(manager: &mut Manager, worker: usize) {
    let parts = &manager.parts;
    if !parts.shared.config.worker.outlive_manager || !manager.recorded {
        return;
    }
    let path = parts.recorder.door(worker);
    let door = match Door::open(&path) {
        Ok(door) => door,
        Err(error) => {
            tracing::error!(
                "worker {worker}: it will not outlive this manager: {}: {error}",
                path.display()
            );
            return;
        }
    };
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![door.as_fd()];
    if let Some(packets) = parts.shared.packets() {
        descriptors.extend(packets.kept());
    }
    if let Some(process) = &mut manager.slots[worker].process {
        process.send(ToWorker::Keep, &descriptors);
    }
}

/// Tells a process of whatever build to finish; returns whether it was told.
fn tell_to_drain(control: &ControlSocket, deadline_ms: u32) -> bool {
    let envelope = Envelope {
        generation: 0,
        message: ToWorker::Drain { deadline_ms },
    };
    control.send(&envelope, &[]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cores: &str, timeout_ms: u32) -> Config {
        let text = format!(
            "[[port]]\ndriver = \"kernel\"\nqueues = {cores}\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\n\
             listen = \"127.0.0.1:1\"\nservers = [\"127.0.0.1:2\"]\ntimeout_ms = {timeout_ms}\n"
        );
        Config::parse(&text, "test").unwrap()
    }

    #[test]
    fn what_cannot_be_planned_any_more_gives_way_to_the_file() {
        let facts = Facts {
            cores: vec![0, 1],
            ..Facts::default()
        };
        let plan_of = |config: &Config| plan::make(config, &facts);
        let file = config("{ 0 = 1 }", 50);
        for (cores, begun_with) in [("{ 0 = 0 }", Some(0)), ("{ 0 = 99 }", Some(1))] {
            let Choice::Adopted(begun, plan) = choose(&config(cores, 70), &file, plan_of) else {
                panic!("{cores} is not adopted");
            };
            assert_eq!(plan.cores, [begun_with]);
            assert_eq!(begun.pools[0].timeout_ms, Some(70), "of the workers");
        }
        let nowhere = config("{ 0 = 98 }", 50);
        let Choice::File(Err(faults)) = choose(&config("{ 0 = 99 }", 70), &nowhere, plan_of) else {
            panic!("it cannot be planned");
        };
        assert!(faults[0].starts_with("test:3:10: core 98"), "{faults:?}");
    }
}
