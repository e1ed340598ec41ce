//! Another configuration for a running instance: `tidegate reload`, SIGHUP.
//!
//! The file is read and compared with what is in force; every fault and every difference is told at once. Then all workers are asked to
//! make ready, and only when each has said that it is, all are told to take it up: if one cannot, nobody does. What is under way in the
//! workers goes on. A few limits are made at start; where one of those changes, the workers are replaced afterwards, one after the other
//! ([`replace`]).
//!
//! A worker that does not run has no say: its next process starts with what is in force then. Otherwise a configuration that workers
//! cannot start with could not be mended.
//!
//! Nothing here waits: a reload is a value of the manager that each turn of its loop moves on.

pub mod command;
pub mod edit;
mod list;
mod next;
pub mod replace;
mod save;
pub mod set;
mod source;
mod steps;
#[cfg(test)]
mod tests;

pub use next::NextNetwork;
pub use source::Source;

use crate::control::server::Ticket;
use crate::manager::Manager;
use crate::plan::{self, Facts};
use crate::preflight;
use crate::sockets::preflight::Taken;
use edit::Edit;
use next::Next;
use save::Draft;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate_channel::statistics::StatisticsReader;
use tidegate_config::{Config, Difference, Effect};

/// How long the neighbours of new servers may take to be found out before workers get requests for them. Longer helps nobody: a server
/// that does not answer by then is down.
const RESOLVE_PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two looks at what a reload waits for, besides those that something wakes.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

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
    /// It is the file with these edits, which may be about to be saved.
    Set(Vec<Edit>, Option<Draft>),
    /// Workers were moved, and the file may say so.
    Moved(Option<Draft>),
}

/// A reload under way.
pub struct Reload {
    wish: Wish,
    stage: Stage,
    until: Instant,
}

/// What is asked for.
struct Wish {
    ticket: Option<Ticket>,
    differences: Vec<Difference>,
    /// The whole of it. The workers' first step leaves out what replaces them.
    wanted: Config,
    after: After,
}

enum Stage {
    /// The neighbours of new servers are being found out.
    Resolve(Box<Next>),
    /// Every worker that can should run.
    Gather(Box<Next>),
    /// Workers make ready: the number of the message to each, and the page it will count in.
    Prepare {
        next: Box<Next>,
        waiting: BTreeMap<usize, u64>,
        pages: BTreeMap<usize, StatisticsReader>,
    },
    /// Workers take it up.
    TakeUp {
        waiting: BTreeMap<usize, u64>,
        /// Those that were not asked, and how many processes they had started.
        absent: Vec<(usize, u64)>,
        /// What was in force before.
        before: Rc<Config>,
    },
}

impl Reload {
    /// When to look at it again.
    pub fn due(&self) -> Instant {
        match self.stage {
            Stage::Resolve(_) => self.until.min(Instant::now() + LOOK_INTERVAL),
            // What they wait for wakes the manager.
            Stage::Gather(_) | Stage::Prepare { .. } | Stage::TakeUp { .. } => self.until,
        }
    }
}

impl Manager {
    /// SIGHUP: as `tidegate reload`, with the answer in the log. Nobody waits for that answer and asks again, so one that comes while
    /// another change is under way is done after it.
    pub fn reload_by_signal(&mut self) {
        self.reload_again = self.reload.is_some() && !self.is_draining();
        if self.reload_again {
            tracing::info!("SIGHUP: reloading after the change that is under way");
            return;
        }
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

    fn file(&self) -> Result<Source, Vec<String>> {
        let source = self.parts.source.clone();
        source.ok_or_else(|| {
            let text = "this instance was started without a file: there is nothing to read again, and no text to change";
            vec![text.to_owned()]
        })
    }

    fn begin_reload(&mut self, ticket: Option<Ticket>, dry_run: bool) -> Result<(), Vec<String>> {
        if !dry_run {
            self.is_free()?;
        }
        let config = self.file()?.read()?;
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
        let facts = Facts::gather(&wanted);
        let (mut faults, of_cores) = plan::check_map(&wanted, &facts.cores);
        faults.extend(preflight::memory(&wanted));
        faults.extend(preflight::addresses(&wanted, &facts, Taken::IsOurs));
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
        for warning in wanted.warnings().into_iter().chain(of_cores) {
            tracing::warn!("{warning}");
        }
        let part = shared.config.in_place_part(&wanted);
        let workers = self.slots.len();
        let next = Next::make(&mut self.parts.shared, part, workers)
            .map_err(|error| vec![format!("{error:#}")])?;
        let now = Instant::now();
        let wish = Wish {
            ticket,
            differences,
            wanted,
            after,
        };
        self.reload = Some(Reload {
            wish,
            stage: Stage::Resolve(Box::new(next)),
            until: now + RESOLVE_PATIENCE,
        });
        self.go_on_with_reload(now);
        Ok(())
    }

    /// Nothing is taken up, and nothing was.
    fn give_up(&mut self, wish: &Wish, faults: Vec<String>) {
        for fault in &faults {
            tracing::error!("reload: {fault}; the old configuration stays in force");
        }
        if let Some(ticket) = wish.ticket {
            self.refuse(ticket, faults);
        }
    }

    /// What was asked for is in force, or would be.
    fn conclude(&mut self, ticket: Option<Ticket>, mut outcome: Outcome, after: After) {
        let (edits, draft, moved) = match after {
            After::Nothing => (None, None, None),
            After::FromFile => (Some(Vec::new()), None, Some(false)),
            After::Set(edits, draft) => (Some(edits), draft, None),
            After::Moved(draft) => (None, draft, Some(true)),
        };
        match draft.map(Draft::put) {
            None => {}
            Some(Ok(())) => outcome.saved = true,
            Some(Err(why)) => {
                tracing::error!("{why}");
                outcome.not_saved = Some(why);
            }
        }
        let unsaved = match edits {
            Some(_) if outcome.saved => Vec::new(),
            Some(edits) => edits,
            None => self.unsaved.clone(),
        };
        let moved = moved.map_or(self.moved, |moved| moved && !outcome.saved);
        if unsaved != self.unsaved || moved != self.moved {
            self.unsaved = unsaved;
            self.moved = moved;
            self.write_record();
        }
        outcome.generation = self.generation;
        if let Some(ticket) = ticket {
            self.answer(ticket, &outcome);
        }
    }
}
