//! What came of it: a row for each offender.

use super::offender::{Done, Offender};
use super::quiet::Quiet;
use super::watch::Watch;
use crate::outcome;
use std::fmt::Write as _;
use std::time::Duration;

/// Beside one of them.
#[derive(Clone, Debug)]
pub struct Row {
    /// Beside whom; `None`: alone.
    pub beside: Option<Offender>,
    /// The client that asks little.
    pub quiet: Quiet,
    /// What the offender did.
    pub done: Done,
    /// What the machine said meanwhile.
    pub seen: Watch,
    /// Resident memory of all processes before it, in KiB.
    pub memory_before: u64,
    /// The same after it.
    pub memory_after: u64,
    /// What was counted, by name.
    pub counted: Vec<(String, u64)>,
}

/// All of them; the first is alone.
#[derive(Clone, Debug)]
pub struct Table {
    /// The rows.
    pub rows: Vec<Row>,
    /// What a process may take of memory, in MiB.
    pub ceiling_mib: u64,
}

const HEAD: [&str; 12] = [
    "beside",
    "sent",
    "answered",
    "requests",
    "errors",
    "p50 µs",
    "p99 µs",
    "p99 ratio",
    "RSS MiB before, most, after",
    "pings lost",
    "status ms",
    "counted",
];

impl Row {
    fn name(&self) -> &'static str {
        self.beside.map_or("alone", Offender::name)
    }

    /// For people who wait.
    pub fn sentence(&self) -> String {
        format!(
            "{}: {} requests, {} errors, p50 {} µs, p99 {} µs",
            self.name(),
            self.quiet.times.len(),
            self.quiet.errors,
            self.quiet.percentile(500).as_micros(),
            self.quiet.percentile(990).as_micros()
        )
    }

    fn cells(&self, alone: Duration) -> [String; HEAD.len()] {
        let p99 = self.quiet.percentile(990);
        let mib = |kib: u64| kib.div_ceil(1024);
        let counted: Vec<String> = self
            .counted
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        [
            self.name().to_owned(),
            self.done.sent.to_string(),
            self.done.answered.to_string(),
            self.quiet.times.len().to_string(),
            (self.quiet.errors + self.quiet.wrong).to_string(),
            self.quiet.percentile(500).as_micros().to_string(),
            p99.as_micros().to_string(),
            format!("{:.1}", p99.as_secs_f64() / alone.as_secs_f64().max(1e-9)),
            format!(
                "{}, {}, {}",
                mib(self.memory_before),
                mib(self.seen.memory_most),
                mib(self.memory_after)
            ),
            format!("{} of {}", self.seen.pings_lost, self.seen.pings),
            self.seen.status_longest.as_millis().to_string(),
            counted.join(", "),
        ]
    }
}

impl Table {
    /// Without rows.
    pub fn new(ceiling_mib: u64) -> Self {
        Self {
            rows: Vec::new(),
            ceiling_mib,
        }
    }

    /// What must not be, however busy the machine is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for row in &self.rows {
            let mut fault = |what: String| faults.push(format!("{}: {what}", row.name()));
            if row.quiet.times.is_empty() {
                fault("the quiet client was not served".to_owned());
            }
            if row.quiet.errors + row.quiet.wrong > 0 {
                let (errors, wrong) = (row.quiet.errors, row.quiet.wrong);
                fault(format!("{errors} errors and {wrong} wrong replies"));
            }
            if row.seen.memory_most > self.ceiling_mib * 1024 {
                let (most, ceiling) = (row.seen.memory_most / 1024, self.ceiling_mib);
                fault(format!("{most} MiB of memory, {ceiling} were promised"));
            }
            if row.seen.pings_lost > 0 {
                fault(format!("{} pings were lost", row.seen.pings_lost));
            }
        }
        faults
    }

    fn cells(&self) -> Vec<[String; HEAD.len()]> {
        let alone = self.rows.first();
        let alone = alone.map_or(Duration::ZERO, |row| row.quiet.percentile(990));
        self.rows.iter().map(|row| row.cells(alone)).collect()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in self.cells() {
            for (head, cell) in HEAD.iter().zip(row) {
                let _ = writeln!(text, "{head:<28} {cell}");
            }
            text.push('\n');
        }
        text
    }

    /// For a document.
    pub fn markdown(&self) -> String {
        outcome::markdown(&HEAD, &self.cells(), 1..HEAD.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(beside: Option<Offender>, us: u64) -> Row {
        Row {
            beside,
            quiet: Quiet {
                times: vec![Duration::from_micros(us)],
                ..Quiet::default()
            },
            done: Done::default(),
            seen: Watch {
                memory_most: 2_048,
                ..Watch::default()
            },
            memory_before: 1_024,
            memory_after: 1_025,
            counted: vec![("half_open_evicted".to_owned(), 7)],
        }
    }

    #[test]
    fn rows_are_compared_with_the_first() {
        let table = Table {
            rows: vec![row(None, 100), row(Some(Offender::Syns), 150)],
            ceiling_mib: 2,
        };
        assert_eq!(
            table.markdown().lines().nth(3),
            Some(
                "| syns | 0 | 0 | 1 | 0 | 150 | 150 | 1.5 | 1, 2, 2 | 0 of 0 | 0 | half_open_evicted 7 |"
            )
        );
        assert!(table.text().contains("beside                       alone"));
        assert_eq!(table.faults(), Vec::<String>::new());
    }

    #[test]
    fn what_must_not_be_is_told() {
        let mut late = row(Some(Offender::Flood), 1);
        late.quiet.errors = 1;
        late.seen.pings_lost = 1;
        let mut unserved = row(None, 1);
        unserved.quiet.times.clear();
        let table = Table {
            rows: vec![late, unserved],
            ceiling_mib: 1,
        };
        assert_eq!(table.faults().len(), 5, "{:?}", table.faults());
    }
}
