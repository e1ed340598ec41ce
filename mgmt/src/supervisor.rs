//! Keeps a process alive for each worker.

use crate::backoff::Backoff;
use crate::orphans::{Orphans, of_process};
use crate::runtime_dir::WorkerRecord;
use crate::shared::Shared;
use crate::worker_process::{COULD_NOT_START, Said, Stage, WorkerProcess};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate_channel::flows::FlowRecord;
use tidegate_channel::message::ToWorker;
use tidegate_channel::statistics::WorkerStatistics;
use tidegate_config::Config;
use tidegate_dataplane::affinity;

fn when(delay: Duration) -> String {
    if delay.is_zero() {
        "at once".into()
    } else {
        format!("in {delay:?}")
    }
}

/// What a process counted.
pub struct Counted<T> {
    /// Under which configuration; `None`: what is in force.
    by: Option<Rc<Config>>,
    /// The numbers.
    pub statistics: T,
}

impl<T> Counted<T> {
    /// The configuration that pools and servers are to be found in.
    pub fn config<'a>(&'a self, in_force: &'a Config) -> &'a Config {
        self.by.as_deref().unwrap_or(in_force)
    }
}

/// Ends of processes that the log has been told of.
#[derive(Debug, Default)]
pub struct Told {
    /// The start as a whole failed, which is told at the end, with the reason.
    all_of_the_start: bool,
    processes: Vec<End>,
}

/// The end of a process.
#[derive(Debug)]
struct End {
    pid: u32,
    /// How, or the reason why it could not start.
    text: String,
    could_not_start: bool,
}

impl Told {
    /// Nothing yet. `start_failed`: ends that follow from a start that failed need not be told.
    pub fn new(start_failed: bool) -> Self {
        Self {
            all_of_the_start: start_failed,
            processes: Vec::new(),
        }
    }

    /// Whether this end of a process need not be told; it is known from here on.
    fn knows(&mut self, pid: u32, text: &str) -> bool {
        let reason = text.strip_prefix(COULD_NOT_START);
        let known = |told: &End| {
            let same = match reason {
                // A thread that waited for another one says whose reason it was.
                Some(reason) => told.text.ends_with(reason) || reason.ends_with(&told.text),
                None => told.could_not_start || told.text == text,
            };
            told.pid == pid && same
        };
        if self.processes.iter().any(known) {
            return true;
        }
        self.processes.push(End {
            pid,
            text: reason.unwrap_or(text).to_owned(),
            could_not_start: reason.is_some(),
        });
        self.all_of_the_start
    }
}

/// One worker: a process most of the time, otherwise the time of the next one.
pub struct Slot {
    /// Its index.
    pub worker: usize,
    /// Its core; `None`: wherever the scheduler likes.
    pub core: Option<u32>,
    /// Its process.
    pub process: Option<WorkerProcess>,
    /// Processes started so far.
    pub starts: u64,
    /// Processes that were killed because they hung.
    pub hung: u64,
    /// Processes that were killed because of a system call that they must not use.
    pub forbidden_calls: u64,
    /// How the last process ended.
    pub last_exit: Option<String>,
    /// Whether any process of it was ever ready.
    pub ever_ready: bool,
    /// What the last process counted, until somebody takes it.
    pub ended: Option<Counted<WorkerStatistics>>,
    /// What it counted in a page that it has left.
    left: Option<Counted<WorkerStatistics>>,
    /// The number of the configuration that its process works by.
    pub generation: u64,
    /// What the next process has to end.
    orphans: Orphans,
    backoff: Backoff,
    /// The last process ended before it served.
    fails: bool,
    /// The process was asked to finish so that another one can follow.
    replacing: bool,
    due: Option<Instant>,
    log: String,
}

impl Slot {
    /// A worker without a process that is due at once.
    pub fn new(worker: usize, core: Option<u32>, log: &str) -> Self {
        Self {
            worker,
            core,
            process: None,
            starts: 0,
            hung: 0,
            forbidden_calls: 0,
            last_exit: None,
            ever_ready: false,
            ended: None,
            left: None,
            generation: 1,
            orphans: Orphans::default(),
            backoff: Backoff::default(),
            fails: false,
            replacing: false,
            due: Some(Instant::now()),
            log: log.to_owned(),
        }
    }

    /// Goes on with what an earlier manager knew of this worker. One that died while there was no manager is due at once.
    pub fn recall(&mut self, record: &WorkerRecord) {
        self.starts = record.starts;
        self.hung = record.hung;
        self.forbidden_calls = record.forbidden_calls;
        self.generation = record.generation.max(1);
        self.last_exit.clone_from(&record.last_exit);
        if record.process.is_some() {
            self.last_exit = Some("ended while there was no manager".into());
        }
    }

    /// Goes on with a process that an earlier manager started, of which `record` tells. `is_thread`: with one of its threads, which stays
    /// where it is.
    pub fn adopt(&mut self, process: WorkerProcess, record: &WorkerRecord, is_thread: bool) {
        let exit_before = record.last_exit.clone();
        self.last_exit = exit_before;
        self.ever_ready |= process.stage == Stage::Running;
        if !is_thread {
            // It may have been moved since it was started.
            self.core = affinity::core_of(process.pid());
        }
        self.due = None;
        self.process = Some(process);
    }

    /// The process that it has adopted was told to end these, and may not be done.
    pub fn recall_orphans(&mut self, flows: Vec<FlowRecord>) {
        self.orphans = Orphans::of_adopted(flows);
    }

    /// Goes on with a process that a test started.
    #[cfg(test)]
    pub fn take_stand_in(&mut self, process: WorkerProcess) {
        self.starts += 1;
        self.due = None;
        self.process = Some(process);
    }

    /// When the next process is due, if there is none.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Starts a process if it is time; returns whether one was started.
    pub fn start_if_due(&mut self, shared: &Shared, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let started =
            shared
                .start(self.worker, self.orphans.list())
                .and_then(|(descriptors, statistics)| {
                    Ok(WorkerProcess::spawn(
                        descriptors,
                        statistics,
                        self.worker,
                        &self.log,
                    )?)
                });
        match started {
            Ok(process) => {
                self.started(process, shared);
                true
            }
            Err(error) => {
                self.not_started(&error, now);
                false
            }
        }
    }

    /// The same where all workers are threads of one process: when everybody's time has come. Returns whether it was started.
    pub fn start_together(slots: &mut [Self], shared: &Shared, now: Instant) -> bool {
        if slots
            .iter()
            .any(|slot| slot.due.is_none_or(|due| due > now))
        {
            return false;
        }
        let lists: Vec<_> = slots.iter().map(|slot| slot.orphans.list()).collect();
        let workers: anyhow::Result<Vec<_>> = slots
            .iter()
            .map(|slot| shared.start(slot.worker, &of_process(&lists, slot.worker)))
            .collect();
        let log = slots.first().map_or("", |slot| slot.log.as_str());
        let started = workers.and_then(|workers| Ok(WorkerProcess::spawn_together(workers, log)?));
        match started {
            Ok(processes) => {
                for (slot, process) in slots.iter_mut().zip(processes) {
                    slot.started(process, shared);
                }
                true
            }
            Err(error) => {
                for slot in slots {
                    slot.not_started(&error, now);
                }
                false
            }
        }
    }

    fn started(&mut self, process: WorkerProcess, shared: &Shared) {
        self.due = None;
        self.starts += 1;
        self.core = shared.plan.cores.get(self.worker).copied().flatten();
        let (worker, pid) = (self.worker, process.pid());
        let place = self.core.map(|core| format!(" on core {core}"));
        let place = place.unwrap_or_default();
        let task = match self.orphans.list().len() {
            0 => String::new(),
            1 => ", ends a connection that the one before left open".to_owned(),
            orphans => format!(", ends {orphans} connections that the one before left open"),
        };
        tracing::info!("worker {worker}: process {pid}{place}{task}");
        self.process = Some(process);
    }

    fn not_started(&mut self, error: &anyhow::Error, now: Instant) {
        let delay = self.backoff.after(now, now);
        tracing::error!(
            "worker {}: cannot be started: {error:#}; next start {}",
            self.worker,
            when(delay)
        );
        self.due = Some(now + delay);
    }

    /// Takes what the process said.
    pub fn listen(&mut self) -> Vec<Said> {
        let said = self
            .process
            .as_mut()
            .map(WorkerProcess::listen)
            .unwrap_or_default();
        if said.iter().any(|said| matches!(said, Said::Ready)) {
            self.ever_ready = true;
            self.fails = false;
        }
        said
    }

    /// Waits for the process if it ended, and plans the next one unless `last`. Returns whether it ended. What was told of the process
    /// already, of another worker that was a thread of it, or because the start as a whole has failed, is not told again.
    pub fn reap(&mut self, now: Instant, last: bool, told: &mut Told) -> bool {
        let Some(process) = &mut self.process else {
            return false;
        };
        let Some((end, text)) = process.ended() else {
            return false;
        };
        let (worker, pid) = (self.worker, process.pid());
        let news = !told.knows(pid, &text);
        if last {
            if end.is_in_order() {
                tracing::info!("worker {worker}: process {pid} ended in order");
            } else if news {
                tracing::warn!("worker {worker}: process {pid}: {text}");
            }
            self.due = None;
        } else if std::mem::take(&mut self.replacing) {
            self.fails = false;
            tracing::info!("worker {worker}: process {pid} was drained: {text}");
            self.due = Some(now);
        } else {
            self.fails = process.stage == Stage::Starting;
            let delay = if process.failed_for_good() {
                self.backoff.give_time()
            } else {
                self.backoff.after(process.started, now)
            };
            if news {
                tracing::error!(
                    "worker {worker}: process {pid}: {text}; next start {}",
                    when(delay)
                );
            }
            self.due = Some(now + delay);
        }
        self.forbidden_calls += u64::from(end.is_forbidden_call());
        self.last_exit = Some(text);
        self.left = self.take_left();
        if let Some(process) = self.process.as_ref().filter(|_| !last) {
            self.orphans.take_from(process, now);
        }
        self.ended = self.process.take().map(|mut process| Counted {
            statistics: process.statistics.read().clone(),
            by: process.counts_by,
        });
        true
    }

    /// What it counted in a page that it has left, once.
    pub fn take_left(&mut self) -> Option<Counted<WorkerStatistics>> {
        let process = self.process.as_mut();
        let page = process.and_then(WorkerProcess::take_page_before);
        let of_process = page.map(|(by, statistics)| Counted {
            by: Some(by),
            statistics,
        });
        of_process.or_else(|| self.left.take())
    }

    /// Kills a process that hangs; its end is seen by [`Slot::reap`].
    pub fn check_heartbeat(&mut self, now: Instant) {
        let Some(process) = &mut self.process else {
            return;
        };
        self.orphans.settle(process, now);
        if process.overstays(now) {
            process.kill();
        }
        if process.hangs(now) {
            self.hung += 1;
            tracing::error!(
                "worker {}: process {} hangs: killing it",
                self.worker,
                process.pid()
            );
            process.kill_as_hung();
        }
    }

    /// Asks the process to finish; another one follows. Returns its number, or `None` if there is none that serves.
    pub fn replace(&mut self, deadline_ms: u32) -> Option<u32> {
        let process = self.process.as_mut()?;
        if process.stage != Stage::Running {
            return None;
        }
        process.drain(deadline_ms);
        self.replacing = true;
        Some(process.pid())
    }

    /// Whether the last process ended before it served.
    pub fn fails(&self) -> bool {
        self.fails
    }

    /// Whether it is about to serve: its process starts, or makes room for one that will. Not so if the last one could not start.
    pub fn will_serve(&self) -> bool {
        let process = self.process.as_ref();
        !self.fails && process.is_none_or(|process| process.stage != Stage::Running)
    }

    /// What is in force has changed, and the process was not told. The next one starts with it, without waiting any longer.
    pub fn start_anew(&mut self, deadline_ms: u32) {
        self.backoff = Backoff::default();
        self.fails = false;
        match &mut self.process {
            None => self.due = Some(Instant::now()),
            Some(process) if process.stage == Stage::Starting => {
                process.give_up();
                self.replacing = true;
            }
            // One that serves; one that ends already makes room by itself.
            Some(_) => {
                self.replace(deadline_ms);
            }
        }
    }

    /// Logs by `filter` from now on; returns the one before.
    pub fn set_log_filter(&mut self, filter: &str) -> String {
        if let Some(process) = &mut self.process {
            let filter = filter.to_owned();
            process.send(ToWorker::LogLevel { filter }, &[]);
        }
        std::mem::replace(&mut self.log, filter.to_owned())
    }

    /// Asks the process to finish, and plans no other.
    pub fn drain(&mut self, deadline_ms: u32) {
        self.due = None;
        if let Some(process) = &mut self.process {
            match process.stage {
                Stage::Starting => process.give_up(),
                Stage::Running | Stage::Draining => {
                    process.stage = Stage::Draining;
                    process.send(ToWorker::Drain { deadline_ms }, &[]);
                }
            }
        }
    }

    /// Moves the process to another core, its loop and its other threads. One that cannot be moved stays where it is.
    pub fn move_to(&mut self, core: Option<u32>) {
        let (Some(to), Some(process)) = (core, &self.process) else {
            return;
        };
        if self.core == core {
            return;
        }
        let (worker, pid) = (self.worker, process.pid());
        match affinity::pin_process(pid, to) {
            Ok(()) => {
                self.core = core;
                tracing::info!("worker {worker}: process {pid} moved to core {to}");
            }
            Err(error) => tracing::error!("worker {worker}: process {pid}: {error}"),
        }
    }

    /// Kills the process, and plans no other.
    pub fn kill(&mut self) {
        self.due = None;
        if let Some(process) = &self.process {
            process.kill();
        }
    }

    /// The control socket of the process.
    pub fn control(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref()?.control()
    }

    /// What becomes readable when the process ends, if no signal tells.
    pub fn wakes(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref()?.wakes()
    }

    /// What a later manager has to know.
    pub fn record(&self) -> WorkerRecord {
        WorkerRecord {
            worker: self.worker as u32,
            process: self.process.as_ref().and_then(WorkerProcess::id),
            starts: self.starts,
            hung: self.hung,
            forbidden_calls: self.forbidden_calls,
            generation: self.generation,
            last_exit: self.last_exit.clone(),
        }
    }

    /// What `tidegate status` calls it.
    pub fn state(&self) -> &'static str {
        match self.process.as_ref().map(|process| process.stage) {
            Some(Stage::Starting) => "starting",
            Some(Stage::Running) => "running",
            Some(Stage::Draining) => "draining",
            None => "waiting",
        }
    }

    /// What the process counted so far, without commands and latencies.
    pub fn statistics(&mut self) -> Option<Counted<WorkerStatistics>> {
        let process = self.process.as_mut()?;
        Some(Counted {
            statistics: process.statistics.read_counters().clone(),
            by: process.counts_by.clone(),
        })
    }

    /// Everything that the process counted so far.
    pub fn counted(&mut self) -> Option<Counted<&WorkerStatistics>> {
        let process = self.process.as_mut()?;
        Some(Counted {
            by: process.counts_by.clone(),
            statistics: process.statistics.read(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn the_end_of_a_process_is_told_once_however_many_threads_it_had() {
        let mut told = Told::new(false);
        assert!(!told.knows(7, "could not start: eth1 is down"));
        assert!(told.knows(7, "could not start: eth1 is down"));
        assert!(told.knows(7, "could not start: worker 0: eth1 is down"));
        assert!(told.knows(7, "its start was given up"));
        assert!(!told.knows(7, "could not start: something else"));
        assert!(!told.knows(8, "killed by SIGKILL"), "another process");
        assert!(told.knows(8, "killed by SIGKILL"));
        assert!(!told.knows(8, "killed by SIGKILL because its heartbeat had stopped"));
    }

    #[test]
    fn why_the_start_as_a_whole_failed_is_told_at_the_end() {
        let mut told = Told::new(true);
        assert!(told.knows(7, "could not start: eth1 is down"));
    }
}
