//! Another configuration for a running instance: `tidegate reload`, SIGHUP.
//!
//! The file is read and compared with what is in force; every fault and every difference is told at once. Then all workers are asked to
//! make ready, and only when each has said that it is, all are told to take it up: if one cannot, nobody does. What is under way in the
//! workers goes on. A few limits are made at start; where one of those changes, the workers are replaced afterwards, one after the other.
//!
//! Nothing here waits: a reload is a value of the manager that each turn of its loop moves on.

pub mod command;
pub mod edit;
mod next;
mod save;
mod set;
mod source;
#[cfg(test)]
mod tests;

pub use next::NextNetwork;
pub use source::Source;

use crate::control::server::Ticket;
use crate::manager::Manager;
use crate::plan::Facts;
use crate::preflight;
use crate::sockets::preflight::Taken;
use crate::worker_process::Stage as ProcessStage;
use edit::Edit;
use next::Next;
use save::Draft;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tidegate_channel::message::ToWorker;
use tidegate_channel::statistics::StatisticsReader;
use tidegate_config::{Config, Difference, Effect};

/// How long the neighbours of new servers may take to be found out before workers get requests for them. Longer helps nobody: a server
/// that does not answer by then is down.
const RESOLVE_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long a worker may take to make ready, or to take up. The largest configurations take a second.
const WORKER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at what a reload waits for, besides those that something wakes.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// After a listening address was given up: workers close its clients in that time, of which `drain_timeout_ms` and `timeout_ms` are
/// the longest part.
const LISTENER_GRACE: Duration = Duration::from_secs(2);

/// What became of a request to reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Everything in which the two configurations differ.
    pub differences: Vec<Difference>,
    /// The number of the configuration in force.
    pub generation: u64,
    /// It is in force now. `false`: there was no difference, or nobody wanted more than to know.
    pub applied: bool,
    /// The workers are being replaced, one after the other.
    pub replacing: bool,
    /// The file says so too.
    #[serde(default)]
    pub saved: bool,
    /// Why it does not, although it should.
    #[serde(default)]
    pub not_saved: Option<String>,
}

/// What follows once a configuration is in force.
#[derive(Default)]
enum After {
    /// Nothing.
    #[default]
    Nothing,
    /// It is what the file says: nothing is unsaved any more.
    FromFile,
    /// It is the file with these edits, which may be written already.
    Set(Vec<Edit>, Option<Draft>),
    /// Workers were moved, and the file may say so.
    Moved(Option<Draft>),
}

/// A reload under way.
pub struct Reload {
    ticket: Option<Ticket>,
    differences: Vec<Difference>,
    /// The whole of it. The workers' first step leaves out what replaces them.
    wanted: Config,
    next: Option<Next>,
    stage: Stage,
    until: Instant,
    after: After,
}

enum Stage {
    /// The neighbours of new servers are being found out.
    Resolve,
    /// Every worker has to run.
    Gather,
    /// Workers make ready: the number of the message to each, and the page it will count in.
    Prepare {
        waiting: BTreeMap<usize, u64>,
        pages: BTreeMap<usize, StatisticsReader>,
    },
    /// Workers take it up.
    TakeUp { waiting: BTreeMap<usize, u64> },
    /// Workers are replaced.
    Replace {
        left: VecDeque<usize>,
        current: Option<usize>,
    },
}

impl Reload {
    /// When to look at it again.
    pub fn due(&self) -> Instant {
        match self.stage {
            Stage::Prepare { .. } | Stage::TakeUp { .. } => self.until,
            Stage::Resolve | Stage::Gather | Stage::Replace { .. } => {
                Instant::now() + LOOK_INTERVAL
            }
        }
    }
}

impl Manager {
    /// SIGHUP: as `tidegate reload`, with the answer in the log.
    pub fn reload_by_signal(&mut self) {
        if let Err(faults) = self.begin_reload(None, false) {
            tracing::error!("not reloaded: the old configuration stays in force");
            for fault in faults {
                tracing::error!("{fault}");
            }
        }
    }

    /// A request to reload. It is answered when it is done.
    pub fn reload_for(&mut self, ticket: Ticket, dry_run: bool) {
        if let Err(faults) = self.begin_reload(Some(ticket), dry_run) {
            self.refuse(ticket, faults);
        }
    }

    /// Whether another configuration can be taken up now. Asked first: one that waits for its own must not lose the file that it is about
    /// to save, and what is compared has to be in force.
    fn is_free(&self) -> Result<(), Vec<String>> {
        let text = if self.is_draining() {
            "the instance is about to end"
        } else if self.reload.is_some() {
            "another change of the configuration is under way: try again in a moment"
        } else {
            return Ok(());
        };
        Err(vec![text.to_owned()])
    }

    fn begin_reload(&mut self, ticket: Option<Ticket>, dry_run: bool) -> Result<(), Vec<String>> {
        if !dry_run {
            self.is_free()?;
        }
        let source = self.parts.source.as_ref().ok_or_else(|| {
            let text = "this instance was started without a file: there is nothing to read again";
            vec![text.to_owned()]
        })?;
        let config = source.read()?;
        let after = if dry_run {
            After::Nothing
        } else {
            After::FromFile
        };
        self.begin(ticket, config, dry_run, after)
    }

    fn begin(
        &mut self,
        ticket: Option<Ticket>,
        wanted: Config,
        dry_run: bool,
        after: After,
    ) -> Result<(), Vec<String>> {
        let shared = &self.parts.shared;
        let differences = shared.config.differences(&wanted);
        let needs_restart: Vec<String> = differences
            .iter()
            .filter(|difference| difference.effect == Effect::Restart)
            .map(ToString::to_string)
            .collect();
        if !needs_restart.is_empty() {
            return Err(needs_restart);
        }
        let faults = preflight::addresses(&wanted, &Facts::gather(&wanted), Taken::IsOurs);
        if !faults.is_empty() {
            return Err(faults);
        }
        if differences.is_empty() || dry_run {
            if ticket.is_none() {
                tracing::info!("reload: the configuration has not changed");
            }
            let outcome = Outcome {
                differences,
                ..Outcome::default()
            };
            self.conclude(ticket, outcome, after);
            return Ok(());
        }
        for difference in &differences {
            tracing::info!("reload: {difference}");
        }
        for warning in wanted.warnings() {
            tracing::warn!("{warning}");
        }
        let part = shared.config.in_place_part(&wanted);
        let workers = self.slots.len();
        let next = Next::make(&mut self.parts.shared, part, workers)
            .map_err(|error| vec![format!("{error:#}")])?;
        let now = Instant::now();
        self.reload = Some(Reload {
            ticket,
            differences,
            wanted,
            next: Some(next),
            stage: Stage::Resolve,
            until: now + RESOLVE_PATIENCE,
            after,
        });
        self.go_on_with_reload(now);
        Ok(())
    }

    /// Moves a reload on, if it can be.
    pub fn go_on_with_reload(&mut self, now: Instant) {
        self.close_listeners(now);
        let Some(mut reload) = self.reload.take() else {
            return;
        };
        if self.is_draining() {
            return self.end_with_reload(reload);
        }
        let late = now >= reload.until;
        match &mut reload.stage {
            Stage::Resolve => {
                let next = reload.next.as_mut();
                let ready = next.is_none_or(|next| next.resolve(&mut self.parts.shared));
                if ready || late {
                    reload.stage = Stage::Gather;
                    reload.until = now + WORKER_PATIENCE;
                }
                self.reload = Some(reload);
            }
            Stage::Gather => self.gather(reload, now, late),
            Stage::Prepare { waiting, .. } if late => {
                let workers: Vec<String> = waiting.keys().map(ToString::to_string).collect();
                let text = format!("workers {} did not make ready in time", workers.join(", "));
                self.give_up(&reload, vec![text]);
            }
            Stage::Prepare { waiting, .. } if waiting.is_empty() => self.take_up(reload, now),
            Stage::TakeUp { waiting } if late => {
                for worker in std::mem::take(waiting).into_keys() {
                    tracing::error!(
                        "worker {worker} does not take up the configuration: it is replaced"
                    );
                    self.kill_process(worker);
                }
                self.reload = Some(reload);
            }
            Stage::TakeUp { waiting } if waiting.is_empty() => self.taken_up(reload),
            Stage::Replace { .. } => self.replace_next(reload),
            Stage::Prepare { .. } | Stage::TakeUp { .. } => self.reload = Some(reload),
        }
    }

    /// The instance ends meanwhile. What the workers were told to take up they take up before they drain; nothing else is begun.
    fn end_with_reload(&mut self, mut reload: Reload) {
        match reload.stage {
            Stage::TakeUp { .. } => {
                let differences = std::mem::take(&mut reload.differences);
                let outcome = Outcome {
                    differences,
                    applied: true,
                    ..Outcome::default()
                };
                self.conclude(reload.ticket, outcome, reload.after);
            }
            Stage::Replace { .. } => {}
            Stage::Resolve | Stage::Gather | Stage::Prepare { .. } => {
                self.give_up(&reload, vec!["the instance is about to end".into()]);
            }
        }
    }

    /// Asks every worker to make ready, once all of them run.
    fn gather(&mut self, mut reload: Reload, now: Instant, late: bool) {
        let idle = self.slots.iter().position(|slot| {
            let process = slot.process.as_ref();
            process.is_none_or(|process| process.stage != ProcessStage::Running)
        });
        match idle {
            Some(worker) if late => {
                let text = format!("worker {worker} does not run: see `tidegate status`");
                return self.give_up(&reload, vec![text]);
            }
            Some(_) => {
                self.reload = Some(reload);
                return;
            }
            None => {}
        }
        let Some(next) = &mut reload.next else {
            return self.give_up(&reload, vec!["nothing is prepared".into()]);
        };
        let (mut waiting, mut pages) = (BTreeMap::new(), BTreeMap::new());
        for slot in &mut self.slots {
            let worker = slot.worker;
            let made = next.for_worker(&self.parts.shared, worker);
            let (list, opened, page) = match made {
                Ok(made) => made,
                Err(error) => {
                    let text = format!("worker {worker}: {error:#}");
                    return self.give_up(&reload, vec![text]);
                }
            };
            let Some(process) = &mut slot.process else {
                continue;
            };
            let list: Vec<_> = list.iter().map(AsFd::as_fd).collect();
            waiting.insert(worker, process.send(ToWorker::Prepare { opened }, &list));
            pages.insert(worker, page);
        }
        reload.stage = Stage::Prepare { waiting, pages };
        reload.until = now + WORKER_PATIENCE;
        self.reload = Some(reload);
    }

    /// Every worker is ready: from here on there is no way back.
    fn take_up(&mut self, mut reload: Reload, now: Instant) {
        let Stage::Prepare { pages, .. } = &mut reload.stage else {
            return;
        };
        let mut pages = std::mem::take(pages);
        if let Some(next) = reload.next.take() {
            let gone = next.take_over(&mut self.parts.shared);
            let longest_ms = longest_ms(&self.parts.shared.config);
            let at = now + Duration::from_millis(longest_ms) + LISTENER_GRACE;
            self.listeners_gone
                .extend(gone.into_iter().map(|address| (at, address)));
        }
        let config = &self.parts.shared.config;
        self.slowlog.set_max(config.slowlog_entries_max);
        self.parts.record.sockets = crate::sockets::listeners::paths(config);
        let mut waiting = BTreeMap::new();
        self.generation += 1;
        for slot in &mut self.slots {
            let core = self.parts.shared.plan.cores.get(slot.worker).copied();
            slot.move_to(core.flatten());
            let (Some(page), Some(process)) = (pages.remove(&slot.worker), &mut slot.process)
            else {
                continue;
            };
            process.count_in(page);
            waiting.insert(slot.worker, process.send(ToWorker::TakeUp, &[]));
        }
        self.write_record();
        reload.stage = Stage::TakeUp { waiting };
        reload.until = now + WORKER_PATIENCE;
        self.reload = Some(reload);
    }

    fn taken_up(&mut self, mut reload: Reload) {
        self.parts.shared.listen_on_nics();
        let generation = self.generation;
        tracing::info!("reload: configuration {generation} is in force");
        let differences = std::mem::take(&mut reload.differences);
        let replace = differences
            .iter()
            .any(|difference| difference.effect == Effect::Replace);
        let outcome = Outcome {
            differences,
            applied: true,
            replacing: replace,
            ..Outcome::default()
        };
        let after = std::mem::take(&mut reload.after);
        self.conclude(reload.ticket.take(), outcome, after);
        if !replace {
            return;
        }
        self.parts.shared.config = reload.wanted.clone();
        self.generation += 1;
        reload.stage = Stage::Replace {
            left: (0..self.slots.len()).collect(),
            current: None,
        };
        self.replace_next(reload);
    }

    /// Replaces one worker after the other; the next one when the one before serves.
    fn replace_next(&mut self, mut reload: Reload) {
        let generation = self.generation;
        let deadline_ms = self.parts.shared.config.worker.drain_timeout_ms;
        let Stage::Replace { left, current } = &mut reload.stage else {
            return;
        };
        let is_new = |slot: &crate::supervisor::Slot| {
            let process = slot.process.as_ref();
            slot.generation == generation
                && process.is_some_and(|process| process.stage == ProcessStage::Running)
        };
        if current.is_none_or(|worker| is_new(&self.slots[worker])) {
            *current = left.pop_front();
            let Some(worker) = *current else {
                tracing::info!("reload: every worker was replaced");
                return;
            };
            if !is_new(&self.slots[worker]) {
                tracing::info!("reload: worker {worker} is replaced");
                self.slots[worker].replace(deadline_ms);
            }
        }
        self.reload = Some(reload);
    }

    /// A worker has answered a message of a reload.
    pub fn reload_heard(&mut self, worker: usize, generation: u64, refused: Option<String>) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        let (waiting, is_ready) = match &mut reload.stage {
            Stage::Prepare { waiting, .. } => (waiting, false),
            Stage::TakeUp { waiting } => (waiting, true),
            Stage::Resolve | Stage::Gather | Stage::Replace { .. } => return,
        };
        if waiting.get(&worker) != Some(&generation) {
            return;
        }
        waiting.remove(&worker);
        match refused {
            Some(reason) if is_ready => {
                tracing::error!("worker {worker}: {reason}: it is replaced");
                self.kill_process(worker);
            }
            Some(reason) => {
                if let Some(reload) = self.reload.take() {
                    let text = format!("worker {worker} cannot take it up: {reason}");
                    self.give_up(&reload, vec![text]);
                }
            }
            None if is_ready => {
                self.slots[worker].generation = self.generation;
                if let Some(process) = &mut self.slots[worker].process {
                    process.counts_anew = false;
                }
            }
            None => {}
        }
    }

    /// The process of a worker has ended. While workers make ready that ends the reload; later the next one starts with what is in force.
    pub fn reload_lost(&mut self, worker: usize) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        match &mut reload.stage {
            Stage::TakeUp { waiting } => {
                waiting.remove(&worker);
            }
            Stage::Prepare { .. } => {
                if let Some(reload) = self.reload.take() {
                    let text = format!("worker {worker} ended meanwhile");
                    self.give_up(&reload, vec![text]);
                }
            }
            Stage::Resolve | Stage::Gather | Stage::Replace { .. } => {}
        }
    }

    /// Nothing is taken up.
    fn give_up(&mut self, reload: &Reload, faults: Vec<String>) {
        if let Stage::Prepare { .. } = reload.stage {
            for slot in &mut self.slots {
                if let Some(process) = &mut slot.process {
                    process.send(ToWorker::Forget, &[]);
                }
            }
        }
        for fault in &faults {
            tracing::error!("reload: {fault}; the old configuration stays in force");
        }
        if let Some(ticket) = reload.ticket {
            self.refuse(ticket, faults);
        }
    }

    fn kill_process(&mut self, worker: usize) {
        if let Some(process) = &self.slots[worker].process {
            process.kill();
        }
    }

    /// Gives listening addresses back to the kernel whose clients have had their time.
    fn close_listeners(&mut self, now: Instant) {
        let due: BTreeSet<SocketAddr> = self
            .listeners_gone
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, address)| *address)
            .collect();
        if due.is_empty() {
            return;
        }
        self.listeners_gone.retain(|(at, _)| *at > now);
        self.parts.shared.give_back_listeners(&due);
    }

    /// What was asked for is in force, or would be.
    fn conclude(&mut self, ticket: Option<Ticket>, mut outcome: Outcome, after: After) {
        let draft = match after {
            After::Nothing => None,
            After::FromFile => {
                self.unsaved.clear();
                None
            }
            After::Set(edits, draft) => {
                self.unsaved = edits;
                draft
            }
            After::Moved(draft) => draft,
        };
        match draft.map(Draft::put) {
            None => {}
            Some(Ok(())) => outcome.saved = true,
            Some(Err(why)) => {
                tracing::error!("{why}");
                outcome.not_saved = Some(why);
            }
        }
        outcome.generation = self.generation;
        if let Some(ticket) = ticket {
            self.answer(ticket, &outcome);
        }
    }
}

/// The longest that a reply may take, or a worker that ends.
fn longest_ms(config: &Config) -> u64 {
    let timeouts = config.pools.iter().filter_map(|pool| pool.timeout_ms);
    let longest = timeouts.max().unwrap_or(0);
    longest.max(config.worker.drain_timeout_ms).into()
}
