//! Where a configuration comes from.

use super::edit::{self, Edit};
use super::save::{self, Version};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tidegate_config::{Config, QueueMap, Queues};

/// A file, and the maps of the command line.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// Queues and cores in place of the file's.
    pub maps: Vec<QueueMap>,
}

impl Source {
    /// Reads the file and applies the maps, or says everything that is wrong with them.
    pub fn read(&self) -> Result<Config, Vec<String>> {
        self.parse(&self.text()?.0)
    }

    /// The configuration of the file with settings that were changed since and not saved.
    pub fn read_with(&self, unsaved: &[Edit]) -> Result<Config, Vec<String>> {
        self.parse(&edit::apply(&self.text()?.0, unsaved)?)
    }

    /// What the file says, and in which version.
    pub(super) fn text(&self) -> Result<(String, Version), Vec<String>> {
        save::read(&self.file)
            .map_err(|error| vec![format!("cannot read {}: {error}", self.file.display())])
    }

    /// The configuration that the file would be with this text.
    pub fn parse(&self, text: &str) -> Result<Config, Vec<String>> {
        let file = self.file.display().to_string();
        let config = Config::parse(text, &file).map_err(|errors| {
            let lines = errors.to_string();
            lines.lines().map(str::to_owned).collect::<Vec<_>>()
        })?;
        self.with_maps(config)
    }

    /// The same of a text that was changed in memory. Faults name no lines: nobody has seen them.
    pub(super) fn parse_changed(&self, text: &str) -> Result<Config, Vec<String>> {
        let file = self.file.display().to_string();
        let mut config = Config::parse(text, &file).map_err(|errors| {
            let faults = errors.faults.into_iter();
            faults.map(|fault| fault.what).collect::<Vec<_>>()
        })?;
        config.forget_places();
        self.with_maps(config)
    }

    fn with_maps(&self, mut config: Config) -> Result<Config, Vec<String>> {
        config.apply_maps(&self.maps).map_err(|errors| {
            let errors = errors.iter();
            errors
                .map(|error| format!("--map: {error}"))
                .collect::<Vec<_>>()
        })?;
        Ok(config)
    }
}

/// Puts workers on other cores: every port that has a map, for they all have the same.
pub fn with_cores(
    config: &mut Config,
    port: &str,
    cores: &BTreeMap<u32, u32>,
) -> Result<(), Vec<String>> {
    let known: Vec<&str> = config.ports.iter().map(|p| p.interface.as_str()).collect();
    if !known.contains(&port) {
        let known = known.join(", ");
        return Err(vec![format!(
            "there is no port {port:?}; there are: {known}"
        )]);
    }
    let mut map = config.queue_map().cloned().ok_or_else(|| {
        vec!["the ports have no map of queues to cores in the configuration: write queues = { 0 = 2, … } there first".to_owned()]
    })?;
    let mut faults = Vec::new();
    for (queue, core) in cores {
        match map.get_mut(queue) {
            Some(place) => *place = *core,
            None => faults.push(format!("{port} has no queue {queue}")),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let maps: Vec<QueueMap> = config
        .ports
        .iter()
        .filter(|port| matches!(port.queues, Queues::Map(_)))
        .map(|port| QueueMap {
            interface: port.interface.clone(),
            queues: map.clone(),
        })
        .collect();
    config
        .apply_maps(&maps)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}
