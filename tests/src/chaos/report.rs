//! What came of a run: a row for each kind of disturbance.

use super::schedule::Kind;
use super::stand::Counts;
use crate::outcome::{self, percentile};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::iter;
use std::time::Duration;

/// One kind.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// How often it was done.
    pub times: u64,
    /// What clients sent and got meanwhile, and until all was calm again.
    pub counts: Counts,
    /// Connections that were ended by the other side.
    pub ended: u64,
    /// Replies that were nobody's answer to their request.
    pub wrong: u64,
    /// Acknowledged writes that were gone, those of a server that lost its memory aside.
    pub lost: u64,
    /// How long each took until new connections were served by all workers and all servers.
    pub recoveries: Vec<Duration>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<Kind, Row>,
}

const HEAD: [&str; 11] = [
    "disturbance",
    "times",
    "requests",
    "errors",
    "refused",
    "ended",
    "wrong",
    "lost",
    "min ms",
    "median ms",
    "max ms",
];

impl Table {
    /// The row of a kind.
    pub fn row(&mut self, kind: Kind) -> &mut Row {
        self.rows.entry(kind).or_default()
    }

    /// Everything added up.
    pub fn total(&self) -> Row {
        self.rows.values().fold(Row::default(), |mut sum, row| {
            sum.times += row.times;
            sum.counts.requests += row.counts.requests;
            sum.counts.errors += row.counts.errors;
            sum.counts.refused += row.counts.refused;
            sum.ended += row.ended;
            sum.wrong += row.wrong;
            sum.lost += row.lost;
            sum
        })
    }

    /// A line for each kind, and one for all.
    fn cells(&self) -> Vec<[String; HEAD.len()]> {
        let line = |name: &str, row: &Row| {
            let counts = [
                row.times,
                row.counts.requests,
                row.counts.errors,
                row.counts.refused,
                row.ended,
                row.wrong,
                row.lost,
            ];
            let mut cells = [const { String::new() }; HEAD.len()];
            name.clone_into(&mut cells[0]);
            for (cell, count) in cells[1..].iter_mut().zip(counts) {
                *cell = count.to_string();
            }
            let mut recoveries = row.recoveries.clone();
            recoveries.sort_unstable();
            for (cell, permille) in cells[8..].iter_mut().zip([0, 500, 1_000]) {
                *cell = percentile(&recoveries, permille).map_or("-".to_owned(), |time| {
                    format!("{:.0}", time.as_secs_f64() * 1e3)
                });
            }
            cells
        };
        let rows = self.rows.iter().map(|(kind, row)| line(kind.name(), row));
        let mut cells: Vec<_> = rows.collect();
        cells.push(line("all", &self.total()));
        cells
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for cells in iter::once(HEAD.map(str::to_owned)).chain(self.cells()) {
            let _ = write!(text, "{:<16}", cells[0]);
            for cell in &cells[1..] {
                let _ = write!(text, "{cell:>10}");
            }
            text.push('\n');
        }
        text
    }

    /// For a document.
    pub fn markdown(&self) -> String {
        outcome::markdown(&HEAD, &self.cells(), 1..HEAD.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        let row = table.row(Kind::WorkerKill);
        row.times = 3;
        row.ended = 4;
        row.counts.requests = 100;
        row.recoveries = [30, 10, 20].map(Duration::from_millis).to_vec();
        table.row(Kind::Set).times = 1;
        table
    }

    #[test]
    fn rows_add_up() {
        let total = table().total();
        assert_eq!(
            (total.times, total.ended, total.counts.requests),
            (4, 4, 100)
        );
    }

    #[test]
    fn the_tables_say_the_same() {
        let (text, markdown) = (table().text(), table().markdown());
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let row = "worker-kill 3 100 0 0 4 0 0 10 20 30";
        assert_eq!(words.join(" "), row);
        assert_eq!(
            markdown.lines().nth(2),
            Some(format!("| {} |", row.replace(' ', " | ")).as_str())
        );
        assert!(text.lines().last().unwrap().starts_with("all"));
    }
}
