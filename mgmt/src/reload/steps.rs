//! The steps of a reload. Each turn of the manager's loop takes those that can be taken.

use super::next::Next;
use super::replace::Replacement;
use super::{Outcome, RESOLVE_PATIENCE, Reload, Stage, Wish};
use crate::manager::Manager;
use crate::supervisor::Slot;
use crate::worker_process::Stage as ProcessStage;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate_channel::message::ToWorker;
use tidegate_channel::statistics::StatisticsReader;
use tidegate_config::{Config, Effect};

/// How long a worker may take to make ready, or to take up, and how long one that starts or ends is waited for. The largest
/// configurations take a second.
const WORKER_PATIENCE: Duration = Duration::from_secs(10);
/// After a listening address was given up: workers close its clients in that time, of which `drain_timeout_ms` and `timeout_ms` are
/// the longest part.
const LISTENER_GRACE: Duration = Duration::from_secs(2);

impl Manager {
    /// Moves a reload on, if it can be; without one, what an earlier one left to do.
    pub fn go_on_with_reload(&mut self, now: Instant) {
        self.close_listeners(now);
        self.take_step(now);
        if self.reload_again && self.reload.is_none() {
            self.reload_by_signal();
        }
    }

    fn take_step(&mut self, now: Instant) {
        let Some(Reload { wish, stage, until }) = self.reload.take() else {
            return self.go_on_replacing();
        };
        if self.is_draining() {
            self.reload_again = false;
            return self.end_with_reload(wish, &stage);
        }
        let late = now >= until;
        match stage {
            Stage::Resolve(mut next) => {
                if next.resolve(&mut self.parts.shared) || late {
                    self.gather(wish, next, now, now + WORKER_PATIENCE);
                } else {
                    let stage = Stage::Resolve(next);
                    self.reload = Some(Reload { wish, stage, until });
                }
            }
            Stage::Gather(next) => self.gather(wish, next, now, until),
            Stage::Prepare { waiting, .. } if late => {
                self.forget_prepared();
                let workers: Vec<String> = waiting.keys().map(ToString::to_string).collect();
                let text = format!("workers {} did not make ready in time", workers.join(", "));
                self.give_up(&wish, vec![text]);
            }
            Stage::Prepare {
                next,
                waiting,
                pages,
            } if waiting.is_empty() => {
                let mut next = next;
                let patience = WORKER_PATIENCE.saturating_sub(RESOLVE_PATIENCE);
                if next.has_ways(&mut self.parts.shared) || now + patience >= until {
                    return self.take_up(wish, *next, pages, now);
                }
                let stage = Stage::Prepare {
                    next,
                    waiting,
                    pages,
                };
                self.reload = Some(Reload { wish, stage, until });
            }
            Stage::TakeUp {
                waiting,
                absent,
                before,
            } if late || waiting.is_empty() => {
                for worker in waiting.into_keys() {
                    tracing::error!(
                        "worker {worker} does not take up the configuration: it is replaced"
                    );
                    self.kill_process(worker);
                }
                self.taken_up(wish, &absent, &before);
            }
            stage => self.reload = Some(Reload { wish, stage, until }),
        }
    }

    /// The instance ends meanwhile. What the workers were told to take up they take up before they drain; nothing else is begun.
    fn end_with_reload(&mut self, wish: Wish, stage: &Stage) {
        if let Stage::TakeUp { .. } = stage {
            let outcome = Outcome {
                differences: wish.differences,
                applied: true,
                ..Outcome::default()
            };
            return self.conclude(wish.ticket, outcome, wish.after);
        }
        self.give_up(&wish, vec!["the instance is about to end".into()]);
    }

    /// Asks every worker that runs to make ready. One that starts or ends is waited for; one that cannot start is not.
    fn gather(&mut self, wish: Wish, mut next: Box<Next>, now: Instant, until: Instant) {
        if now < until && self.slots.iter().any(Slot::will_serve) {
            let stage = Stage::Gather(next);
            self.reload = Some(Reload { wish, stage, until });
            return;
        }
        let (mut waiting, mut pages) = (BTreeMap::new(), BTreeMap::new());
        for slot in &mut self.slots {
            let worker = slot.worker;
            let unfinished = self.replacement.as_ref();
            let limits = unfinished.and_then(|unfinished| unfinished.config_of(slot));
            let process = slot.process.as_mut();
            let Some(process) = process.filter(|p| p.stage == ProcessStage::Running) else {
                tracing::warn!("reload: worker {worker} does not run: its next start takes it up");
                continue;
            };
            let made = next.for_worker(&self.parts.shared, worker, limits.map(Rc::as_ref));
            let (list, opened, page) = match made {
                Ok(made) => made,
                Err(error) => {
                    self.forget_prepared();
                    return self.give_up(&wish, vec![format!("worker {worker}: {error:#}")]);
                }
            };
            let list: Vec<_> = list.iter().map(AsFd::as_fd).collect();
            waiting.insert(worker, process.send(ToWorker::Prepare { opened }, &list));
            pages.insert(worker, page);
        }
        self.reload = Some(Reload {
            wish,
            stage: Stage::Prepare {
                next,
                waiting,
                pages,
            },
            until: now + WORKER_PATIENCE,
        });
    }

    /// Every worker that runs is ready: from here on there is no way back.
    fn take_up(
        &mut self,
        wish: Wish,
        next: Next,
        mut pages: BTreeMap<usize, StatisticsReader>,
        now: Instant,
    ) {
        let before = Rc::new(self.parts.shared.config.clone());
        let gone = next.take_over(&mut self.parts.shared);
        let config = &self.parts.shared.config;
        let at = now + Duration::from_millis(longest_ms(config)) + LISTENER_GRACE;
        self.listeners_gone
            .extend(gone.into_iter().map(|address| (at, address)));
        self.slowlog.set_max(config.slowlog_entries_max);
        self.parts.record.sockets = crate::sockets::listeners::paths(config);
        let (mut waiting, mut absent) = (BTreeMap::new(), Vec::new());
        self.generation += 1;
        for slot in &mut self.slots {
            let core = self.parts.shared.plan.cores.get(slot.worker).copied();
            slot.move_to(core.flatten());
            match (pages.remove(&slot.worker), &mut slot.process) {
                (Some(page), Some(process)) => {
                    waiting.insert(slot.worker, process.take_up(page, &before));
                }
                (_, process) => {
                    absent.push((slot.worker, slot.starts));
                    if let Some(process) = process {
                        process.stay_with(&before);
                    }
                }
            }
        }
        self.write_record();
        self.reload = Some(Reload {
            wish,
            stage: Stage::TakeUp {
                waiting,
                absent,
                before,
            },
            until: now + WORKER_PATIENCE,
        });
        // Without a worker that runs there is nobody to wait for.
        self.take_step(now);
    }

    fn taken_up(&mut self, wish: Wish, absent: &[(usize, u64)], before: &Rc<Config>) {
        self.parts.shared.listen_on_nics();
        let generation = self.generation;
        tracing::info!("reload: configuration {generation} is in force");
        let mut effects = wish.differences.iter().map(|difference| difference.effect);
        let replace = effects.any(|effect| effect == Effect::Replace);
        if replace {
            let unfinished = self.replacement.as_ref();
            self.replacement = Replacement::of(&self.slots, before, unfinished, &wish.wanted);
            self.parts.shared.config = wish.wanted;
        }
        let outcome = Outcome {
            differences: wish.differences,
            applied: true,
            replacing: self.replacement.is_some(),
            ..Outcome::default()
        };
        self.conclude(wish.ticket, outcome, wish.after);
        if replace {
            self.number_replacement();
        }
        // Who works by what.
        self.write_record();
        for (worker, starts) in absent {
            let slot = &mut self.slots[*worker];
            // One that was started meanwhile has what is in force, or is replaced in its turn.
            if slot.starts == *starts {
                let deadline_ms = self.parts.shared.config.worker.drain_timeout_ms;
                slot.start_anew(deadline_ms);
                self.replace_fellows(*worker, deadline_ms);
            }
        }
        self.go_on_replacing();
    }

    /// What comes with new workers has a number of its own, by which `tidegate status` shows who has it.
    fn number_replacement(&mut self) {
        let Some(replacement) = &self.replacement else {
            return;
        };
        self.generation += 1;
        for slot in &mut self.slots {
            if !replacement.has(slot.worker) {
                slot.generation = self.generation;
            }
        }
    }

    /// A worker has answered a message of a reload.
    pub fn reload_heard(&mut self, worker: usize, generation: u64, refused: Option<String>) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        let (waiting, is_ready) = match &mut reload.stage {
            Stage::Prepare { waiting, .. } => (waiting, false),
            Stage::TakeUp { waiting, .. } => (waiting, true),
            Stage::Resolve(_) | Stage::Gather(_) => return,
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
                self.cannot_prepare(&format!("worker {worker} cannot take it up: {reason}"));
            }
            None if is_ready => self.slots[worker].generation = self.generation,
            None => {}
        }
    }

    /// The process of a worker has ended. While it makes ready that ends the reload; later the next one starts with what is in force.
    pub fn reload_lost(&mut self, worker: usize) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        match &mut reload.stage {
            Stage::TakeUp { waiting, .. } => {
                waiting.remove(&worker);
            }
            Stage::Prepare { pages, .. } if pages.contains_key(&worker) => {
                self.cannot_prepare(&format!("worker {worker} ended meanwhile"));
            }
            Stage::Resolve(_) | Stage::Gather(_) | Stage::Prepare { .. } => {}
        }
    }

    fn cannot_prepare(&mut self, why: &str) {
        self.forget_prepared();
        if let Some(reload) = self.reload.take() {
            self.give_up(&reload.wish, vec![why.to_owned()]);
        }
    }

    /// Workers drop what they have made ready.
    fn forget_prepared(&mut self) {
        for slot in &mut self.slots {
            let process = slot.process.as_mut();
            if let Some(process) = process.filter(|p| p.stage == ProcessStage::Running) {
                process.send(ToWorker::Forget, &[]);
            }
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
}

/// The longest that a reply may take, or a worker that ends.
fn longest_ms(config: &Config) -> u64 {
    let timeouts = config.pools.iter().filter_map(|pool| pool.timeout_ms);
    let longest = timeouts.max().unwrap_or(0);
    longest.max(config.worker.drain_timeout_ms).into()
}
