//! What programs have in common that play something and judge what came of it: what they are asked, how they show it, and how they end.

use crate::stage::Driver;
use anyhow::Result;
use clap::ValueEnum;
use std::fmt::Write as _;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

/// What carries Tidegate's traffic, as it is asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(
    missing_docs,
    reason = "it would stand in the help, beside names that say it"
)]
pub enum Carrier {
    Afxdp,
    Kernel,
}

impl From<Carrier> for Driver {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Afxdp => Self::Afxdp,
            Carrier::Kernel => Self::Kernel,
        }
    }
}

/// The one of `all` that has this name; otherwise which names there are.
pub fn named<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T, String> {
    let mut known = all.iter().copied();
    known.find(|one| name_of(*one) == name).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
        format!("there are: {}", names.join(", "))
    })
}

/// Those that were asked for: `all`, where none was named.
pub fn chosen<T: Clone>(only: Vec<T>, all: &[T]) -> Vec<T> {
    if only.is_empty() { all.to_vec() } else { only }
}

/// Prints what came of it, and what may not be. Whether nothing of that was there.
pub fn tell(tables: &str, faults: &[String]) -> bool {
    println!("\n{tables}");
    for fault in faults {
        println!("NOT right: {fault}");
    }
    faults.is_empty()
}

/// How a program ends that found all right, or something wrong, or could not try, which it says.
pub fn exit_code(program: &str, all_right: Result<bool>) -> ExitCode {
    match all_right {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The time that `permille` of a thousand are below or at. The times are sorted; of none there is none.
pub fn percentile(sorted: &[Duration], permille: usize) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[last * permille / 1_000])
}

/// A table for a document. The columns of `numbers` stand on the right.
pub fn markdown<const COLUMNS: usize>(
    head: &[&str; COLUMNS],
    rows: &[[String; COLUMNS]],
    numbers: Range<usize>,
) -> String {
    let rule = |column| {
        if numbers.contains(&column) {
            "--:"
        } else {
            "---"
        }
    };
    let rules: Vec<&str> = (0..COLUMNS).map(rule).collect();
    let mut text = format!("| {} |\n|{}|\n", head.join(" | "), rules.join("|"));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_found_and_what_is_not_is_told_the_names() {
        let name_of = |number| if number == 1 { "one" } else { "two" };
        assert_eq!(named(&[1, 2], name_of, "two"), Ok(2));
        let error = named(&[1, 2], name_of, "three").unwrap_err();
        assert_eq!(error, "there are: one, two");
    }

    #[test]
    fn all_are_chosen_where_none_is_named() {
        assert_eq!(chosen(vec![], &[1, 2]), [1, 2]);
        assert_eq!(chosen(vec![2], &[1, 2]), [2]);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        assert_eq!(percentile(&[], 500), None);
        let times: Vec<Duration> = (5..=8).map(Duration::from_millis).collect();
        let of = |permille| percentile(&times, permille).unwrap().as_millis();
        assert_eq!([0, 500, 990, 1_000].map(of), [5, 6, 7, 8]);
    }

    #[test]
    fn a_table_has_its_numbers_on_the_right() {
        let row = ["a", "1", "words"].map(str::to_owned);
        assert_eq!(
            markdown(&["name", "count", "what"], &[row], 1..2),
            "| name | count | what |\n|---|--:|---|\n| a | 1 | words |\n"
        );
    }
}
