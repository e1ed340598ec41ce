//! What is wrong with a configuration: where, and what would be right.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what would be right. Never holds a secret.
    pub what: String,
}

/// Every fault of a file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file, as the caller named it.
    pub file: String,
    /// The faults, at least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigErrors {
    /// One `file:line:column: what` per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Fault { line, column, what } = fault;
            write!(f, "{}:{line}:{column}: {what}", self.file)?;
        }
        Ok(())
    }
}

/// Where a fault lies and how certain it is.
struct Entry {
    /// Byte offset in the text.
    at: usize,
    what: String,
    kind: Kind,
}

/// A text with syntax errors is read as far as it can be; what is then found may only follow from them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syntax,
    Value,
    Missing,
}

/// Collects faults while a text is read. Readers of nested tables share it.
pub(crate) struct Faults<'t> {
    text: &'t str,
    /// Byte offset of the beginning of each line.
    lines: Vec<usize>,
    /// Where each line comes from, if the text was made from another file.
    origins: Option<&'t [Place]>,
    /// A byte offset and its column. Places are mostly asked for in their order, and a line may be as long as the file: counting from its
    /// beginning each time would take minutes.
    counted: Cell<(usize, usize)>,
    entries: RefCell<Vec<Entry>>,
}

impl<'t> Faults<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            lines: std::iter::once(0).chain(newlines).collect(),
            origins: None,
            counted: Cell::new((0, 1)),
            entries: RefCell::default(),
        }
    }

    /// The same, but places are those that the lines come from.
    pub(crate) fn with_origins(text: &'t str, origins: &'t [Place]) -> Self {
        Self {
            origins: Some(origins),
            ..Self::new(text)
        }
    }

    /// The text is not TOML at `at`.
    pub(crate) fn syntax(&self, at: usize, what: String) {
        self.add(at, what, Kind::Syntax);
    }

    /// What stands at `at` is wrong.
    pub(crate) fn value(&self, at: usize, what: String) {
        self.add(at, what, Kind::Value);
    }

    /// The object that begins at `at` lacks something.
    pub(crate) fn missing(&self, at: usize, what: String) {
        self.add(at, what, Kind::Missing);
    }

    fn add(&self, at: usize, what: String, kind: Kind) {
        self.entries.borrow_mut().push(Entry { at, what, kind });
    }

    /// The line of a byte offset, counted from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|&start| start <= at);
        let origin = self.origins.and_then(|origins| origins.get(line - 1));
        origin.map_or(line, |origin| origin.line)
    }

    /// Line and column of a byte offset, both counted from 1.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|&start| start <= at);
        if let Some(origin) = self.origins.and_then(|origins| origins.get(line - 1)) {
            return (origin.line, origin.column);
        }
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let (from, column) = match self.counted.get() {
            (counted, column) if (start..=at).contains(&counted) => (counted, column),
            _ => (start, 1),
        };
        let between = &self.text.as_bytes()[from..at];
        let column = column + String::from_utf8_lossy(between).chars().count();
        if self.text.is_char_boundary(at) {
            self.counted.set((at, column));
        }
        (line, column)
    }

    /// The faults in file order; the error of a file, if there are any.
    pub(crate) fn into_result(self, file: &str) -> Result<(), ConfigErrors> {
        let mut entries = self.entries.take();
        entries.sort_by_key(|entry| entry.at);
        let broken: BTreeSet<usize> = entries
            .iter()
            .filter(|entry| entry.kind == Kind::Syntax)
            .map(|entry| self.line(entry.at))
            .collect();
        let faults: Vec<Fault> = entries
            .into_iter()
            .filter_map(|entry| {
                let (line, column) = self.position(entry.at);
                // What lies on a line that could not be read, or is missing from a file with such lines, may be an
                // after-effect and would only distract.
                let follows = match entry.kind {
                    Kind::Syntax => false,
                    Kind::Value => broken.contains(&line),
                    Kind::Missing => !broken.is_empty(),
                };
                (!follows).then_some(Fault {
                    line,
                    column,
                    what: entry.what,
                })
            })
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(ConfigErrors {
            file: file.to_owned(),
            faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_the_same_in_whichever_order_they_are_asked_for() {
        let text = "a = 1\nä = 'öü', ß\n\nend";
        let alone = |at| Faults::new(text).position(at);
        assert_eq!(alone(text.find('ß').unwrap()), (2, 11));
        let faults = Faults::new(text);
        let ends = 0..text.len() + 2;
        for at in ends.clone().chain(ends.rev()).chain([9, 3, 21, 8]) {
            assert_eq!(faults.position(at), alone(at), "{at}");
            assert_eq!(faults.line(at), alone(at).0, "{at}");
        }
    }
}
