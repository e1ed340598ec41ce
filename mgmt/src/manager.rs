//! The management process: one thread around `poll`, which supervises workers, answers commands and, for workers on
//! NICs, mirrors the kernel's routes and neighbours.

#[cfg(test)]
pub mod fixture;

use crate::capture::Capture;
use crate::control::Answer;
use crate::control::request::Request;
use crate::control::server::{ControlServer, Ticket};
use crate::http::{self, Http};
use crate::keys::Keys;
use crate::lifecycle::drain::{self, Awaited};
use crate::lifecycle::log_level;
use crate::lifecycle::service::{self, Service};
use crate::lifecycle::upgrade;
use crate::log::SetFilter;
use crate::packets::Packets;
use crate::reload::edit::Edit;
use crate::reload::replace::Replacement;
use crate::reload::{Reload, Source};
use crate::remains::{directory, programs};
use crate::runtime_dir::{Record, Recorder};
use crate::shared::Shared;
use crate::slowlog::SlowLog;
use crate::stations;
use crate::stats::listener::StatsListener;
use crate::stats::{self, Memory};
use crate::supervisor::{Slot, Told};
use crate::worker_process::{Said, WorkerProcess};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use serde::Serialize;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidegate_channel::message::ToWorker;

/// How often heartbeats are looked at; also the longest sleep.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// What a drained worker gets to exit after its deadline before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Why the manager ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it.
    InOrder,
    /// No worker can ever start.
    Failed(String),
}

/// The end, as far as it has begun.
#[derive(Debug)]
struct Ending {
    kill_at: Instant,
    outcome: Ended,
}

/// What the manager works with, made by `tidegate run`.
pub struct Parts {
    /// What workers share.
    pub shared: Shared,
    /// The control socket.
    pub control: ControlServer,
    /// This program, where it was when it started.
    pub program: PathBuf,
    /// Changes what this process logs.
    pub set_log_filter: SetFilter,
    /// The statistics port.
    pub told: Option<StatsListener>,
    /// The status page; `None`: nobody wants it.
    pub http: Option<Http>,
    /// Signals.
    pub signals: SignalFd,
    /// Writes the record.
    pub recorder: Recorder,
    /// What a later start would have to undo.
    pub record: Record,
    /// Where the configuration comes from; `None`: it was made, and cannot be read again.
    pub source: Option<Source>,
}

/// The parts, the workers, and what is due when.
pub struct Manager {
    /// What it works with.
    pub parts: Parts,
    /// The workers.
    pub slots: Vec<Slot>,
    /// When the manager started.
    pub started: Instant,
    /// The name of this machine, as it was then.
    pub host: String,
    /// What was counted before.
    pub memory: Memory,
    /// Requests that took long.
    pub slowlog: SlowLog,
    /// The number of the configuration in force; one that adopts workers counts on.
    pub generation: u64,
    /// Another configuration on its way to the workers.
    pub reload: Option<Reload>,
    /// SIGHUP came while a reload was under way: the file may have changed since that one read it.
    pub reload_again: bool,
    /// Workers that have yet to be replaced.
    pub replacement: Option<Replacement>,
    /// Settings that were changed and are not in the file.
    pub unsaved: Vec<Edit>,
    /// Workers were moved to cores that are not in the file.
    pub moved: bool,
    /// Listening addresses that are no more, and when the kernel gets them.
    pub listeners_gone: Vec<(Instant, SocketAddr)>,
    /// The record names every process.
    pub recorded: bool,
    /// What the service manager was told.
    pub service: Service,
    /// Commands that wait for a worker's successor.
    pub awaited: Vec<Awaited>,
    /// Hot and big keys.
    pub keys: Keys,
    /// A capture of frames.
    pub capture: Capture,
    heartbeat_at: Instant,
    ending: Option<Ending>,
    /// The same as `started`, by the clock of the kernel's programs.
    begun: Duration,
}

/// Which descriptors were readable.
#[derive(Debug, Default)]
struct Woken {
    signals: bool,
    events: bool,
    control: bool,
    told: bool,
    workers: Vec<usize>,
}

impl Manager {
    /// Puts the parts together; workers are due at once.
    pub fn new(parts: Parts) -> Self {
        let log = crate::log::filter();
        let cores = parts.shared.plan.cores.iter().enumerate();
        let slots = cores
            .map(|(worker, core)| Slot::new(worker, *core, &log))
            .collect();
        let now = Instant::now();
        Self {
            slowlog: SlowLog::new(parts.shared.config.slowlog_entries_max),
            keys: Keys::default(),
            capture: Capture::default(),
            parts,
            slots,
            started: now,
            host: stats::gather::host(),
            memory: Memory::new(now),
            generation: 1,
            reload: None,
            reload_again: false,
            replacement: None,
            unsaved: Vec::new(),
            moved: false,
            listeners_gone: Vec::new(),
            recorded: false,
            service: Service::of_environment(),
            awaited: Vec::new(),
            heartbeat_at: now,
            ending: None,
            begun: programs::uptime(),
        }
    }

    /// What is in force and not in the file, without values.
    pub fn not_in_the_file(&self) -> Vec<String> {
        let edits = self.unsaved.iter().map(ToString::to_string);
        edits
            .chain(self.moved.then(|| "queues".to_owned()))
            .collect()
    }

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.ending.is_some()
    }

    /// What it calls itself.
    pub fn state(&self) -> &'static str {
        if self.is_draining() {
            "draining"
        } else {
            "running"
        }
    }

    /// Runs until a signal ends it and all workers are gone.
    pub fn run(&mut self) -> anyhow::Result<Ended> {
        loop {
            self.do_what_is_due(Instant::now());
            if self.slots.iter().all(|slot| slot.process.is_none())
                && let Some(ending) = self.ending.take()
            {
                return Ok(ending.outcome);
            }
            let woken = self.sleep()?;
            if woken.signals {
                self.take_signals()?;
            }
            if woken.events
                && let Some(packets) = self.parts.shared.packets_mut()
            {
                packets.take_events();
            }
            for worker in woken.workers {
                self.listen(worker);
            }
            if woken.control {
                for (ticket, request) in self.parts.control.turn(Instant::now()) {
                    self.obey(ticket, &request);
                }
            }
            if woken.told {
                stats::gather::tell(self);
            }
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        if let Some(packets) = self.parts.shared.packets_mut() {
            packets.watch_if_due(now);
        }
        if self.parts.shared.refresh_if_due(now) {
            self.parts.shared.ring_bells();
        }
        stations::announce(&mut self.parts.shared, &mut self.slots);
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + HEARTBEAT_INTERVAL;
            self.slots
                .iter_mut()
                .for_each(|slot| slot.check_heartbeat(now));
        }
        if let Some((ticket, answer)) = self.keys.finish(now) {
            self.parts.control.answer(ticket, &answer);
        }
        self.capture.look(&mut self.slots);
        self.reap(now);
        drain::answer_if_done(self);
        service::tell(self, now);
        stats::gather::sample_if_due(self, now);
        http::publish_if_due(self, now);
        // Also at the end: whoever waits for a reload gets an answer.
        self.go_on_with_reload(now);
        if let Some(ending) = &self.ending {
            if now >= ending.kill_at {
                self.slots.iter_mut().for_each(Slot::kill);
            }
            return;
        }
        let mut started = false;
        if self.parts.shared.are_together() {
            started = Slot::start_together(&mut self.slots, &self.parts.shared, now);
            if started {
                let generation = self.generation;
                let slots = self.slots.iter_mut();
                slots.for_each(|slot| slot.generation = generation);
            }
        } else {
            for slot in &mut self.slots {
                if slot.start_if_due(&self.parts.shared, now) {
                    slot.generation = self.generation;
                    started = true;
                }
            }
        }
        if started {
            self.write_record();
        }
    }

    /// Ends of processes are looked for on each turn: a signal for a child may stand for several.
    fn reap(&mut self, now: Instant) {
        let last = self.ending.is_some();
        let ending = self.ending.as_ref();
        let start_failed = ending.is_some_and(|ending| ending.outcome != Ended::InOrder);
        let mut told = Told::new(start_failed);
        let mut ended = self.reap_slots(now, &mut told);
        // A process that ended while its threads were asked one after the other has ended for those that were asked before.
        if self.parts.shared.are_together() && !ended.is_empty() {
            ended.extend(self.reap_slots(now, &mut told));
        }
        let served = |worker: &usize| !self.slots[*worker].fails();
        if ended.len() > 1 && self.parts.shared.are_together() && !last && ended.iter().any(served)
        {
            tracing::error!(
                "the process of all {} workers ended, and the connections of all queues with it: on DPDK they are threads of one process",
                ended.len()
            );
        }
        if !ended.is_empty() {
            self.note_programs();
            self.write_record();
            self.write_totals();
        }
        for worker in ended {
            self.reload_lost(worker);
        }
    }

    /// The workers that were found ended.
    fn reap_slots(&mut self, now: Instant, told: &mut Told) -> Vec<usize> {
        let last = self.ending.is_some();
        let mut ended = Vec::new();
        for slot in &mut self.slots {
            let pid = slot.process.as_ref().map(WorkerProcess::pid);
            if !slot.reap(now, last, told) {
                continue;
            }
            if let Some(pid) = pid.filter(|_| self.parts.shared.are_together()) {
                directory::remove(&self.parts.shared.config.name, pid);
            }
            ended.push(slot.worker);
            let worker = slot.worker as u32;
            let in_force = &self.parts.shared.config;
            if let Some(left) = slot.take_left() {
                self.memory.left(in_force, worker, &left);
            }
            if let Some(packets) = self.parts.shared.packets_mut() {
                packets.remove(worker);
            }
            let in_force = &self.parts.shared.config;
            if let Some(counted) = slot.ended.take() {
                self.memory.ended(in_force, worker, &counted);
            }
        }
        ended
    }

    /// What DPDK has attached to interfaces has to be taken off when it ends, by whoever ends it.
    fn note_programs(&mut self) {
        let config = &self.parts.shared.config;
        let known = &self.parts.record.programs;
        self.parts.record.programs = programs::of_instance(config, known, self.begun);
    }

    fn write_totals(&self) {
        let totals = self.memory.of_ended();
        if let Err(error) = self.parts.recorder.write_totals(totals) {
            tracing::error!("{error}");
        }
    }

    /// Writes down which processes there are, and what they work by that the file does not say.
    pub fn write_record(&mut self) {
        self.parts.record.unsaved.clone_from(&self.unsaved);
        self.parts.record.moved = self.moved;
        self.parts.record.generation = self.generation;
        self.parts.record.workers = self.slots.iter().map(Slot::record).collect();
        let written = self.parts.recorder.write(&self.parts.record);
        self.recorded = written.is_ok();
        if let Err(error) = written {
            tracing::error!("{error}");
        }
    }

    fn sleep(&self) -> anyhow::Result<Woken> {
        let readable = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut wait = vec![readable(self.parts.signals.as_fd())];
        wait.extend(self.parts.control.poll_list());
        let control = 1..wait.len();
        wait.extend(self.parts.told.iter().flat_map(StatsListener::poll_list));
        let told = control.end..wait.len();
        let events = self.parts.shared.packets().and_then(Packets::events);
        let events = events.map(|events| {
            wait.push(readable(events));
            wait.len() - 1
        });
        let fixed = wait.len();
        let mut workers = Vec::with_capacity(self.slots.len());
        for (worker, slot) in self.slots.iter().enumerate() {
            if let Some(control) = slot.control() {
                workers.push(worker);
                wait.push(readable(control));
            }
        }
        // Nothing is read there: the turn that follows finds that the process ended.
        wait.extend(self.slots.iter().filter_map(Slot::wakes).map(readable));
        let control_due = self.parts.control.due();
        let told_due = self.parts.told.as_ref().and_then(StatsListener::due);
        let timeout = self.next_due().saturating_duration_since(Instant::now());
        // Rounded up: waking a little early would only mean to sleep again.
        let timeout =
            PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut wait, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let woken = |place: usize| wait[place].any().unwrap_or(true);
        Ok(Woken {
            signals: woken(0),
            events: events.is_some_and(woken),
            control: control.into_iter().any(woken)
                || control_due.is_some_and(|due| due <= Instant::now()),
            told: told.into_iter().any(woken) || told_due.is_some_and(|due| due <= Instant::now()),
            workers: (0..workers.len())
                .filter(|index| woken(fixed + index))
                .map(|index| workers[index])
                .collect(),
        })
    }

    fn next_due(&self) -> Instant {
        let starts = self.slots.iter().filter_map(Slot::due);
        let kill = self.ending.as_ref().map(|ending| ending.kill_at);
        let refresh = self.parts.shared.packets().map(Packets::due);
        let control = self.parts.control.due();
        let sample = std::iter::once(self.memory.due());
        let reload = self.reload.as_ref().map(Reload::due);
        let gone = self.listeners_gone.iter().map(|(at, _)| *at);
        let others = starts
            .chain(kill)
            .chain(reload)
            .chain(gone)
            .chain(refresh)
            .chain(sample)
            .chain(self.service.due())
            .chain(control)
            .chain(self.keys.due())
            .chain(self.parts.told.as_ref().and_then(StatsListener::due))
            .min();
        others.map_or(self.heartbeat_at, |due| due.min(self.heartbeat_at))
    }

    fn take_signals(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.parts.signals.read_signal()? {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) => self.end(signal),
                Ok(Signal::SIGHUP) => self.reload_by_signal(),
                _ => {}
            }
        }
        Ok(())
    }

    /// The first request drains, the second kills.
    fn end(&mut self, signal: Signal) {
        if self.ending.is_some() {
            tracing::warn!("{signal} again: ending at once");
            self.slots.iter_mut().for_each(Slot::kill);
            return;
        }
        let deadline_ms = self.parts.shared.config.worker.drain_timeout_ms;
        tracing::info!("{signal}: draining, at most {deadline_ms} ms");
        self.begin_ending(deadline_ms, Ended::InOrder);
    }

    /// Drains all workers; when they are gone the manager ends with `outcome`.
    pub fn begin_ending(&mut self, deadline_ms: u32, outcome: Ended) {
        let kill_at = Instant::now() + Duration::from_millis(deadline_ms.into()) + EXIT_GRACE;
        self.ending = Some(Ending { kill_at, outcome });
        self.parts.shared.stop_accepting();
        self.slots
            .iter_mut()
            .for_each(|slot| slot.drain(deadline_ms));
    }

    fn listen(&mut self, worker: usize) {
        let said = self.slots[worker].listen();
        // Before anything else is done: no sum may be taken without it.
        if let Some(left) = self.slots[worker].take_left() {
            let in_force = &self.parts.shared.config;
            self.memory.left(in_force, worker as u32, &left);
            self.write_totals();
        }
        for said in said {
            match said {
                Said::Sockets(sockets) => self.insert(worker, sockets),
                Said::Answered {
                    generation,
                    refused,
                } => self.reload_heard(worker, generation, refused),
                Said::Slow { entries, lost } => self.slowlog.add(worker, entries, lost),
                Said::Ready => {
                    self.ready(worker);
                    if self.parts.shared.are_together() {
                        self.note_programs();
                        self.write_record();
                    }
                    crate::adoption::keep(self, worker);
                    self.capture.join(&mut self.slots[worker]);
                }
                Said::Keys(seen) => self.keys.take(worker, seen),
                Said::Neighbour(seen) => {
                    // The first worker alone looks for neighbours.
                    if let Some(packets) = self.parts.shared.packets_mut().filter(|_| worker == 0) {
                        packets.learn(seen);
                    }
                }
                Said::ServerSilent(address) => {
                    if let Some(packets) = self.parts.shared.packets_mut() {
                        packets.doubt(address);
                    }
                }
                Said::Failed { reason, permanent } => self.failed(worker, &reason, permanent),
            }
        }
    }

    fn ready(&self, worker: usize) {
        let process = self.slots[worker].process.as_ref();
        let modes = process.map(|process| process.modes.as_slice());
        let modes: Vec<String> = modes
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        if modes.is_empty() {
            tracing::info!("worker {worker}: ready");
        } else {
            tracing::info!("worker {worker}: ready ({})", modes.join(", "));
        }
    }

    fn insert(&mut self, worker: usize, sockets: Vec<std::os::fd::OwnedFd>) {
        let inserted = match self.parts.shared.packets() {
            Some(packets) => packets.insert(worker as u32, sockets),
            None => Err(anyhow::anyhow!("there is no program to insert them into")),
        };
        let Some(process) = &mut self.slots[worker].process else {
            return;
        };
        match inserted {
            Ok(()) => {
                process.send(ToWorker::Inserted, &[]);
            }
            Err(error) => {
                tracing::error!("worker {worker}: its sockets cannot be inserted: {error:#}");
                process.kill();
            }
        }
    }

    /// A worker that can never start is a fault of the start as a whole, unless some worker has already shown that it works.
    fn failed(&mut self, worker: usize, reason: &str, permanent: bool) {
        let works = self.slots.iter().any(|slot| slot.ever_ready);
        if permanent && !works && self.ending.is_none() {
            self.begin_ending(0, Ended::Failed(format!("worker {worker}: {reason}")));
        }
    }

    fn obey(&mut self, ticket: Ticket, request: &Request) {
        match request {
            Request::Status {} => {
                let report = crate::status::gather::report(self);
                self.answer(ticket, &report);
            }
            Request::Drain(request) => drain::begin(self, ticket, *request),
            Request::Upgrade(request) => upgrade::begin(self, ticket, *request),
            Request::LogLevel(request) => log_level::set(self, ticket, request),
            Request::Stats {} => {
                let stats = stats::gather::stats(self);
                self.answer(ticket, &stats);
            }
            Request::Capture(ask) => {
                let config = &self.parts.shared.config;
                let (answer, descriptors) = self.capture.begin(ask, config, &mut self.slots);
                self.parts.control.answer_with(ticket, &answer, descriptors);
            }
            Request::Keys(ask) => self.watch_keys(ticket, ask),
            Request::Reload { dry_run } => self.reload_for(ticket, *dry_run),
            Request::Queues { port, cores, save } => self.move_queues(ticket, port, cores, *save),
            Request::Set { edits, save } => self.set_for(ticket, edits, *save),
            Request::Slowlog(ask) => {
                let report = self.slowlog.answer(ask);
                self.answer(ticket, &report);
            }
        }
    }

    fn watch_keys(&mut self, ticket: Ticket, ask: &crate::keys::Ask) {
        let seed = crate::shared::random_seed().unwrap_or_default();
        let config = &self.parts.shared.config;
        let answers = self.keys.begin(ticket, ask, config, &mut self.slots, seed);
        for (ticket, answer) in answers {
            self.parts.control.answer(ticket, &answer);
        }
    }

    /// Answers with everything that is wrong.
    pub fn refuse(&mut self, ticket: Ticket, faults: Vec<String>) {
        self.parts.control.answer(ticket, &Answer::Error { faults });
    }

    /// Answers with what was asked for.
    pub fn answer(&mut self, ticket: Ticket, value: &impl Serialize) {
        self.parts.control.answer(ticket, &Answer::of(value));
    }
}
