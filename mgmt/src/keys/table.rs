//! What was seen of keys as tables for people.

use super::Report;
use crate::status::table::Table;
use std::fmt::Write;
use tidegate_channel::keys::{KEY_BYTES_NOTED, ToldKey};

/// The most frequent keys.
pub fn hot(report: &Report, top: usize) -> String {
    let mut out = head(report);
    let mut table = Table::new(&["share", "±", "per second", "pool", "key"]);
    for entry in report.hot.iter().take(top) {
        // What is counted stands for all that passed.
        let per_second = u128::from(entry.count) * u128::from(report.passed)
            / (u128::from(report.counted) * u128::from(report.seconds)).max(1);
        table.row(vec![
            percent(entry.count, report.counted),
            percent(entry.error, report.counted),
            per_second.to_string(),
            entry.key.pool.clone(),
            name(&entry.key),
        ]);
    }
    if !report.hot.is_empty() && top > 0 {
        table.write(&mut out);
        let hidden = report.hot.get(top).map_or(0, |entry| entry.count);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "no other key has more than {} of the requests",
            percent(report.floor.max(hidden), report.counted)
        );
    }
    out
}

/// The keys with the largest values.
pub fn big(report: &Report, top: usize) -> String {
    let mut out = head(report);
    let mut table = Table::new(&["bytes", "command", "pool", "key"]);
    for entry in report.big.iter().take(top) {
        table.row(vec![
            entry.bytes.to_string(),
            entry.command.clone(),
            entry.key.pool.clone(),
            name(&entry.key),
        ]);
    }
    if !report.big.is_empty() && top > 0 {
        table.write(&mut out);
    }
    out
}

fn head(report: &Report) -> String {
    let mut out = format!(
        "{} s, {} keys, {} of them counted\n",
        report.seconds, report.passed, report.counted
    );
    if !report.missing.is_empty() {
        let missing: Vec<String> = report.missing.iter().map(u32::to_string).collect();
        let _ = writeln!(out, "not told by workers {}", missing.join(", "));
    }
    out
}

fn name(key: &ToldKey) -> String {
    if key.key_bytes as usize > KEY_BYTES_NOTED {
        format!("{}… ({} bytes)", key.key, key.key_bytes)
    } else {
        key.key.clone()
    }
}

fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1_000 / u128::from(whole).max(1);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_channel::keys::{BigEntry, HotEntry};

    #[test]
    fn people_see_shares_rates_and_how_sure_they_are() {
        let key = |name: &str| ToldKey {
            pool: "cache".into(),
            key: name.into(),
            key_bytes: name.len() as u32,
            hash: 0,
        };
        let report = Report {
            seconds: 5,
            missing: vec![3],
            passed: 10_000,
            counted: 1_000,
            floor: 4,
            hot: vec![
                HotEntry {
                    key: key("user:17"),
                    count: 250,
                    error: 3,
                },
                HotEntry {
                    key: ToldKey {
                        key_bytes: 300,
                        ..key("long")
                    },
                    count: 5,
                    error: 5,
                },
            ],
            big: vec![BigEntry {
                key: key("page"),
                bytes: 70_000,
                command: "get".into(),
            }],
        };
        let text = hot(&report, 20);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "5 s, 10000 keys, 1000 of them counted");
        assert_eq!(lines[1], "not told by workers 3");
        assert_eq!(
            lines[3].split_whitespace().collect::<Vec<_>>(),
            ["25.0", "%", "0.3", "%", "500", "cache", "user:17"]
        );
        assert!(lines[4].ends_with("long… (300 bytes)"), "{text}");
        assert!(lines[5].contains("more than 0.4 %"), "{text}");
        // What could be shown and is not counts as well.
        let text = hot(&report, 1);
        assert!(text.contains("more than 0.5 %"), "{text}");
        assert!(
            big(&report, 20).contains("70000  get      cache  page"),
            "{}",
            big(&report, 20)
        );
        assert_eq!(
            hot(&Report::default(), 20),
            "0 s, 0 keys, 0 of them counted\n"
        );
    }
}
