//! Single settings of a running instance: the way of a reload, with the file's text changed in memory.

use super::edit::{self, Edit};
use super::save::Draft;
use super::{After, Source, source};
use crate::control::server::Ticket;
use crate::manager::Manager;
use std::collections::BTreeMap;
use tidegate_config::Config;

impl Manager {
    /// A request to change settings. It is answered when they are in force.
    pub fn set_for(&mut self, ticket: Ticket, edits: &[Edit], save: bool) {
        if let Err(faults) = self.begin_set(ticket, edits, save) {
            self.refuse(ticket, faults);
        }
    }

    /// A request to move workers to other cores.
    pub fn move_queues(
        &mut self,
        ticket: Ticket,
        port: &str,
        cores: &BTreeMap<u32, u32>,
        save: bool,
    ) {
        if let Err(faults) = self.begin_move(ticket, port, cores, save) {
            self.refuse(ticket, faults);
        }
    }

    fn begin_set(&mut self, ticket: Ticket, edits: &[Edit], save: bool) -> Result<(), Vec<String>> {
        self.is_free()?;
        let source = self.file()?;
        let text = source.text()?;
        let in_force = &self.parts.shared.config;
        let before = source.parse(&edit::apply(&text, &self.unsaved)?)?;
        if !in_force
            .differences(&on_cores_of(before, in_force))
            .is_empty()
        {
            let text = "the file says something else than what is in force, which would be taken up as well: \
                 see it with `tidegate reload --dry-run`, then reload first";
            return Err(vec![text.to_owned()]);
        }
        let all = [self.unsaved.as_slice(), edits].concat();
        let text = edit::apply(&text, &all)?;
        let wanted = on_cores_of(source.parse(&text)?, in_force);
        let draft = draft(&source, &text, save)?;
        // What is saved is in the file from then on.
        let unsaved = if save { Vec::new() } else { all };
        self.begin(Some(ticket), wanted, false, After::Set(unsaved, draft))
    }

    fn begin_move(
        &mut self,
        ticket: Ticket,
        port: &str,
        cores: &BTreeMap<u32, u32>,
        save: bool,
    ) -> Result<(), Vec<String>> {
        self.is_free()?;
        let mut wanted = self.parts.shared.config.clone();
        source::with_cores(&mut wanted, port, cores)?;
        let draft = if save {
            let source = self.file()?;
            let edits = [Edit::Queues {
                port: port.to_owned(),
                cores: cores.clone(),
            }];
            let text = edit::apply(&source.text()?, &edits)?;
            source.parse(&text)?;
            draft(&source, &text, save)?
        } else {
            None
        };
        self.begin(Some(ticket), wanted, false, After::Moved(draft))
    }

    fn file(&self) -> Result<Source, Vec<String>> {
        let source = self.parts.source.clone();
        source.ok_or_else(|| {
            let text = "this instance was started without a file: there is no text to change";
            vec![text.to_owned()]
        })
    }
}

fn draft(source: &Source, text: &str, save: bool) -> Result<Option<Draft>, Vec<String>> {
    let draft = save.then(|| Draft::write(&source.file, text));
    draft.transpose().map_err(|fault| vec![fault])
}

/// Workers stay on the cores where they are: they may have been moved.
fn on_cores_of(mut config: Config, in_force: &Config) -> Config {
    for (port, other) in config.ports.iter_mut().zip(&in_force.ports) {
        if port.interface == other.interface {
            port.queues = other.queues.clone();
        }
    }
    config
}
