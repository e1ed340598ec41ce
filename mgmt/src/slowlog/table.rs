//! The slow log as a table for people.

use super::{Entry, Report};
use crate::status::table::Table;
use crate::units::{duration, utc};
use std::fmt::Write;
use tidegate_channel::keys::KEY_BYTES_NOTED;
use tidegate_channel::slow::SlowEnd;

/// Prints the entries of a report.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    if report.entries.is_empty() {
        out.push_str("no slow requests\n");
    } else {
        entries(&report.entries, &mut out);
    }
    if report.lost > 0 {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{} more are not in the log: too many at once",
            report.lost
        );
    }
    out
}

fn entries(entries: &[Entry], out: &mut String) {
    let mut table = Table::new(&[
        "id",
        "taken (UTC)",
        "took",
        "queue",
        "server",
        "turn",
        "client",
        "pool",
        "asked",
        "command",
        "bytes",
        "reply",
        "end",
        "worker",
        "from",
        "key",
    ]);
    for Entry {
        id,
        worker,
        request,
    } in entries
    {
        let end = match request.end {
            SlowEnd::Replied => "reply",
            SlowEnd::Failed => "error",
            SlowEnd::ClientGone => "client gone",
        };
        let mut key = request.key.clone();
        if request.key_bytes as usize > KEY_BYTES_NOTED {
            let _ = write!(key, "… ({} bytes)", request.key_bytes);
        }
        table.row(vec![
            id.to_string(),
            utc(request.taken_unix_us),
            duration(request.total_us()),
            duration(request.queue_us),
            duration(request.server_us),
            duration(request.turn_us),
            duration(request.client_us),
            request.pool.clone(),
            request.server.clone().unwrap_or_else(|| "-".into()),
            request.command.clone(),
            request.request_bytes.to_string(),
            request.reply_bytes.to_string(),
            end.to_owned(),
            worker.to_string(),
            request.client.clone(),
            key,
        ]);
    }
    table.write(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slowlog::tests::slow;
    use tidegate_channel::slow::SlowEntry;

    #[test]
    fn people_see_when_what_where_and_why() {
        let long = SlowEntry {
            server: None,
            key_bytes: 300,
            ..slow(&"k".repeat(64))
        };
        let entry = |id, request| Entry {
            id,
            worker: 1,
            request,
        };
        let text = render(&Report {
            len: 2,
            entries_max: 10,
            lost: 3,
            entries: vec![entry(8, slow("user:17")), entry(7, long)],
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for words in [
            "2023-11-14 22:13:20.123",
            "25.3 ms",
            "cache-a",
            "10.0.0.9:4711",
            "user:17",
        ] {
            assert!(lines[1].contains(words), "{words:?} is not in {}", lines[1]);
        }
        assert!(lines[2].ends_with("k… (300 bytes)"), "{text}");
        assert!(lines[3].starts_with("3 more"), "{text}");
        assert_eq!(render(&Report::default()), "no slow requests\n");
    }
}
