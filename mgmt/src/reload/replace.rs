//! Workers are replaced one after the other, where what has changed is made at their start.
//!
//! It follows a reload whose command has its answer, and each turn moves it on. The next worker is not drained before the one before has a
//! successor that serves: if what is in force does not let a worker start, the others keep what they have. So there is no deadline.
//! Another reload goes first, which is how a configuration is mended that no worker can start with; what is left goes on after it.

use crate::manager::Manager;
use crate::supervisor::Slot;
use crate::worker_process::Stage;
use std::collections::VecDeque;
use std::rc::Rc;
use tidegate_config::{Config, Effect};

/// Workers that are to be replaced.
pub struct Replacement {
    left: VecDeque<Old>,
}

/// A worker whose process has to go.
struct Old {
    worker: usize,
    /// How many processes it had started: the last of them is the one.
    starts: u64,
    /// What that was started with.
    config: Rc<Config>,
}

impl Old {
    fn has_successor(&self, slot: &Slot) -> bool {
        slot.starts > self.starts
    }
}

impl Replacement {
    /// Everyone who was not started with what `wanted` says; `None`: nobody. So far `before` was in force, except in those that
    /// `unfinished` has left.
    pub fn of(
        slots: &[Slot],
        before: &Rc<Config>,
        unfinished: Option<&Self>,
        wanted: &Config,
    ) -> Option<Self> {
        let old = slots.iter().map(|slot| {
            let config = unfinished.and_then(|unfinished| unfinished.config_of(slot));
            Old {
                worker: slot.worker,
                starts: slot.starts,
                config: Rc::clone(config.unwrap_or(before)),
            }
        });
        let is_of_start = |old: &Old| {
            let differences = old.config.differences(wanted);
            let mut effects = differences.iter().map(|difference| difference.effect);
            effects.any(|effect| effect == Effect::Replace)
        };
        let left: VecDeque<Old> = old.filter(is_of_start).collect();
        (!left.is_empty()).then_some(Self { left })
    }

    /// Whether a worker is left.
    pub fn has(&self, worker: usize) -> bool {
        self.left.iter().any(|old| old.worker == worker)
    }

    /// What the process of a worker that is left was started with; `None`: what is in force.
    pub fn config_of(&self, slot: &Slot) -> Option<&Rc<Config>> {
        let old = self.left.iter().find(|old| old.worker == slot.worker)?;
        (!old.has_successor(slot)).then_some(&old.config)
    }
}

impl Manager {
    /// `worker` is being replaced: so are those that are threads of the same process.
    pub fn replace_fellows(&mut self, worker: usize, deadline_ms: u32) {
        for fellow in self.parts.shared.fellows(worker) {
            if fellow != worker {
                self.slots[fellow].replace(deadline_ms);
            }
        }
    }

    /// Drains the next worker, if the one before has a successor that serves.
    pub fn go_on_replacing(&mut self) {
        if self.is_draining() {
            self.replacement = None;
        }
        let Some(replacement) = &mut self.replacement else {
            return;
        };
        let deadline_ms = self.parts.shared.config.worker.drain_timeout_ms;
        while let Some(old) = replacement.left.front() {
            let (worker, slot) = (old.worker, &mut self.slots[old.worker]);
            let process = slot.process.as_ref();
            let serves = process.is_some_and(|process| process.stage == Stage::Running);
            if !old.has_successor(slot) {
                // None: it starts, or ends already, or another one is about to start; it is looked at again.
                if let Some(pid) = slot.replace(deadline_ms) {
                    tracing::info!("reload: worker {worker}: process {pid} is replaced");
                    self.replace_fellows(worker, deadline_ms);
                }
                return;
            }
            if !serves {
                return;
            }
            replacement.left.pop_front();
        }
        self.replacement = None;
        tracing::info!("reload: every worker was replaced");
    }
}
