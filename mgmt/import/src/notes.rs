//! What there is to say about a file: faults, which end the import, and warnings, which do not.

use crate::limits::FAULTS_MAX;
use std::collections::BTreeSet;
use tidegate_config::{ConfigErrors, Fault, Place};

/// The beginning of a file.
pub(crate) const START: Place = Place { line: 1, column: 1 };

/// Collects what is found while a file is read.
#[derive(Default)]
pub(crate) struct Notes {
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    /// Lines that are not twemproxy's YAML. What else would be found there only follows from that.
    broken: BTreeSet<usize>,
}

impl Notes {
    /// The file is not twemproxy's YAML at `at`.
    pub(crate) fn syntax(&mut self, at: Place, what: impl Into<String>) {
        if self.broken.insert(at.line) {
            self.add(at, what.into());
        }
    }

    /// What stands at `at` is wrong. `what` never holds a secret.
    pub(crate) fn fault(&mut self, at: Place, what: impl Into<String>) {
        if !self.broken.contains(&at.line) {
            self.add(at, what.into());
        }
    }

    /// What stands at `at` becomes something else, or nothing. `what` never holds a secret.
    pub(crate) fn warn(&mut self, at: Place, what: impl Into<String>) {
        self.warnings.push(note(at, what.into()));
    }

    /// Adds the faults that the configuration's own checks found.
    pub(crate) fn extend(&mut self, errors: ConfigErrors) {
        for Fault { line, column, what } in errors.faults {
            self.fault(Place { line, column }, what);
        }
    }

    /// Whether the file could be read to its end.
    pub(crate) fn is_readable(&self) -> bool {
        self.broken.is_empty()
    }

    /// Warnings in the order of the file; or the faults, if there are any.
    pub(crate) fn into_result(mut self, file: &str) -> Result<Vec<Fault>, ConfigErrors> {
        for notes in [&mut self.faults, &mut self.warnings] {
            notes.sort_by_key(|note| (note.line, note.column));
        }
        if self.faults.is_empty() {
            return Ok(self.warnings);
        }
        Err(ConfigErrors {
            file: file.to_owned(),
            faults: self.faults,
        })
    }

    fn add(&mut self, at: Place, what: String) {
        let what = match self.faults.len() {
            FAULTS_MAX.. => return,
            len if len + 1 == FAULTS_MAX => "too many faults: what follows is not shown".to_owned(),
            _ => what,
        };
        self.faults.push(note(at, what));
    }
}

fn note(Place { line, column }: Place, what: String) -> Fault {
    Fault { line, column, what }
}
