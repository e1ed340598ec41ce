//! Single settings of a running instance: the way of a reload, with the file's text changed in memory.

use super::edit::{self, Edit};
use super::save::{Draft, Version};
use super::{After, Source, source};
use crate::control::server::Ticket;
use crate::manager::Manager;
use std::collections::BTreeMap;
use tidegate_config::{Config, Queues};

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
        let (text, version) = source.text()?;
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
        let all = edit::join(&self.unsaved, edits);
        let text = edit::apply(&text, &all)?;
        let wanted = on_cores_of(source.parse_changed(&text)?, in_force);
        let draft = draft(&source, version, &text, save)?;
        self.begin(Some(ticket), wanted, false, After::Set(all, draft))
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
            let (text, version) = source.text()?;
            let text = edit::apply(&text, &moved(&wanted, cores))?;
            source.parse_changed(&text)?;
            draft(&source, version, &text, save)?
        } else {
            None
        };
        self.begin(Some(ticket), wanted, false, After::Moved(draft))
    }
}

/// A worker serves the same queue of every port, on one core: each map says so.
fn moved(config: &Config, cores: &BTreeMap<u32, u32>) -> Vec<Edit> {
    let ports = config.ports.iter();
    let mapped = ports.filter(|port| matches!(port.queues, Queues::Map(_)));
    let edits = mapped.map(|port| Edit::Queues {
        port: port.interface.clone(),
        cores: cores.clone(),
    });
    edits.collect()
}

fn draft(
    source: &Source,
    old: Version,
    text: &str,
    save: bool,
) -> Result<Option<Draft>, Vec<String>> {
    let draft = save.then(|| Draft::write(&source.file, old, text));
    draft.transpose().map_err(|fault| vec![fault])
}

/// The same with the cores of another configuration. Workers that were moved stay where they are while single settings change.
pub fn on_cores_of(mut config: Config, other: &Config) -> Config {
    for (port, other) in config.ports.iter_mut().zip(&other.ports) {
        if port.interface == other.interface {
            port.queues = other.queues.clone();
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_saved_in_the_map_of_every_port() {
        let text = "[[port]]\ninterface = \"eth1\"\nqueues = { 0 = 2, 1 = 3 } # clients\n\
                    [[port]]\ninterface = \"eth2\"\nqueues = { 0 = 2, 1 = 3 } # servers\n\
                    [[port]]\ninterface = \"eth3\"\nqueues = \"auto\"\n\
                    [[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.1:1\"\nservers = [\"192.0.2.2:1\"]\n";
        let cores = [(1, 5)].into();
        let mut config = Config::parse(text, "test").unwrap();
        source::with_cores(&mut config, "eth1", &cores).unwrap();
        let saved = edit::apply(text, &moved(&config, &cores)).unwrap();
        assert_eq!(saved, text.replace("1 = 3", "1 = 5"));
        let config_of_file = Config::parse(&saved, "test").unwrap();
        assert_eq!(config.differences(&config_of_file), []);
    }
}
