//! The report as tables for people. Counters that are zero are left out, except the few that everybody looks for.

use super::report::{Report, WorkerReport};
use std::fmt::Write;
use tidegate_channel::counters::{
    CounterRow, LinkCounters, LoopCounters, PoolCounters, QueueCounters, ServerCounters,
    SocketCounters, StackCounters,
};

/// Counters of a queue that have a column, or say nothing about loss.
const QUEUE_COLUMNS: &[&str] = &["rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "tx_kicks"];
/// Counters of a server that have a column, or follow from one.
const SERVER_COLUMNS: &[&str] = &[
    "requests",
    "replies",
    "connections",
    "request_bytes",
    "reply_bytes",
];

/// Columns of text, each as wide as its widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads.
    pub fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(ToString::to_string).collect()],
        }
    }

    /// Another row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it.
    pub fn write(&self, out: &mut String) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::from("  ");
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.chars().count();
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', padding + 2));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

/// Prints a report.
pub fn render(report: &Report) -> String {
    let mut out = format!(
        "{} {} · {} · manager {} · up {}\n",
        report.name,
        report.version,
        report.state,
        report.pid,
        span(report.uptime_s)
    );
    if !report.unsaved.is_empty() {
        let unsaved = report.unsaved.join("; ");
        let _infallible = writeln!(out, "not in the file: {unsaved}");
    }
    workers(report, &mut out);
    queues(report, &mut out);
    stacks(report, &mut out);
    steering(report, &mut out);
    pools(report, &mut out);
    out
}

fn workers(report: &Report, out: &mut String) {
    out.push_str("\nworkers\n");
    let mut table = Table::new(&[
        "worker",
        "pid",
        "core",
        "state",
        "up",
        "busy 1s",
        "10s",
        "60s",
        "restarts",
        "hung",
        "last exit",
    ]);
    for worker in &report.workers {
        let [second, ten_seconds, minute] = busy(worker);
        table.row(vec![
            worker.worker.to_string(),
            worker.pid.map_or("-".into(), |pid| pid.to_string()),
            worker.core.map_or("-".into(), |core| core.to_string()),
            worker.state.clone(),
            span(worker.uptime_s),
            second,
            ten_seconds,
            minute,
            worker.restarts.to_string(),
            worker.hung.to_string(),
            worker.last_exit.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    table.write(out);
}

/// The part of the last second, ten seconds and minute in which the worker's loop had something to do.
pub fn busy(worker: &WorkerReport) -> [String; 3] {
    let percent = worker.busy_percent.as_ref();
    let windows = percent.map(|of| [of.second, of.ten_seconds, of.minute].map(Some));
    let windows = windows.unwrap_or_default();
    windows.map(|percent| percent.map_or("-".into(), |percent| format!("{percent:.0}%")))
}

fn queues(report: &Report, out: &mut String) {
    if report.workers.iter().all(|worker| worker.queues.is_empty()) {
        return;
    }
    out.push_str("\nqueues\n");
    let mut table = Table::new(&[
        "interface",
        "queue",
        "worker",
        "mode",
        "rx",
        "tx",
        "drops and retries",
    ]);
    for worker in &report.workers {
        for queue in &worker.queues {
            table.row(vec![
                queue.interface.clone(),
                queue.queue.to_string(),
                worker.worker.to_string(),
                queue.mode.map_or("-".into(), |mode| mode.to_string()),
                queue.counters.rx_frames.to_string(),
                queue.counters.tx_frames.to_string(),
                others(QueueCounters::ROWS, &queue.counters.words(), QUEUE_COLUMNS),
            ]);
        }
    }
    table.write(out);
}

fn stacks(report: &Report, out: &mut String) {
    out.push_str("\ntcp\n");
    for worker in &report.workers {
        let stack = others(StackCounters::ROWS, &worker.stack.words(), &[]);
        let _infallible = writeln!(out, "  worker {}: {stack}", worker.worker);
        let sockets = worker.sockets.words();
        if sockets.iter().any(|word| *word != 0) {
            let sockets = others(SocketCounters::ROWS, &sockets, &[]);
            let _infallible = writeln!(out, "    sockets: {sockets}");
        }
        let link = worker.link.words();
        if link.iter().any(|word| *word != 0) {
            let link = others(LinkCounters::ROWS, &link, &[]);
            let _infallible = writeln!(out, "    link: {link}");
        }
        let rest = others(
            LoopCounters::ROWS,
            &worker.poll_loop.words(),
            &["started_unix_s", "heartbeat"],
        );
        let _infallible = writeln!(out, "    loop: {rest}");
    }
}

fn steering(report: &Report, out: &mut String) {
    if report.ports.is_empty() {
        return;
    }
    out.push_str("\nsteering\n");
    for port in &report.ports {
        let verdicts = port
            .verdicts
            .iter()
            .chain(&port.device)
            .filter(|(_, count)| **count > 0);
        let verdicts: Vec<String> = verdicts
            .map(|(name, count)| format!("{name}={count}"))
            .collect();
        let _infallible = writeln!(
            out,
            "  {} ({}): {}",
            port.interface,
            port.steering,
            verdicts.join(" ")
        );
        if port.link_down {
            out.push_str("    NO LINK: nothing arrives or leaves\n");
        }
        if let Some(frames) = port.bypassed {
            let _infallible = writeln!(
                out,
                "    BYPASSED: {frames} frames arrived that the steering program did not see; the log and `tidegate doctor` say more"
            );
        }
    }
}

fn pools(report: &Report, out: &mut String) {
    for pool in &report.pools {
        let _infallible = writeln!(out, "\npool {} on {}", pool.name, pool.listen.join(", "));
        let _infallible = writeln!(
            out,
            "  {}",
            others(PoolCounters::ROWS, &pool.counters.words(), &[])
        );
        let mut table = Table::new(&[
            "server",
            "address",
            "requests",
            "replies",
            "connections",
            "more",
        ]);
        for server in &pool.servers {
            let more = others(
                ServerCounters::ROWS,
                &server.counters.words(),
                SERVER_COLUMNS,
            );
            table.row(vec![
                server.name.clone(),
                server.address.clone(),
                server.counters.requests.to_string(),
                server.counters.replies.to_string(),
                server.counters.connections.to_string(),
                match &server.unreachable {
                    Some(why) => format!("UNREACHABLE: {why} {more}"),
                    None => more,
                },
            ]);
        }
        table.write(out);
    }
}

/// `name=value` of every counter that is not zero and not in `shown` already.
fn others(rows: &[CounterRow], words: &[u64], shown: &[&str]) -> String {
    let others = rows
        .iter()
        .zip(words)
        .filter(|(row, word)| **word != 0 && !shown.contains(&row.name));
    let others: Vec<String> = others
        .map(|(row, word)| format!("{}={word}", row.name))
        .collect();
    if others.is_empty() {
        "-".into()
    } else {
        others.join(" ")
    }
}

/// Seconds as people say it.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::server::ControlCounters;
    use crate::stats::model::Windows;
    use crate::status::report::{PoolReport, PortReport, QueueReport, ServerReport};
    use tidegate_channel::message::ObtainedMode;

    fn report() -> Report {
        let worker = WorkerReport {
            worker: 1,
            pid: Some(4711),
            version: None,
            core: Some(3),
            state: "running".into(),
            generation: 1,
            uptime_s: 75,
            busy_percent: Some(Windows {
                second: 99.6,
                ten_seconds: 41.2,
                minute: 7.0,
                start: 1.0,
            }),
            restarts: 2,
            hung: 0,
            forbidden_calls: 0,
            last_exit: Some("killed by SIGKILL".into()),
            poll_loop: LoopCounters::default(),
            stack: StackCounters {
                frames_bad_checksum: 5,
                ..StackCounters::default()
            },
            sockets: SocketCounters::default(),
            link: LinkCounters::default(),
            queues: vec![QueueReport {
                interface: "eth1".into(),
                queue: 1,
                mode: Some(ObtainedMode::ZeroCopy),
                counters: QueueCounters {
                    rx_frames: 1_000,
                    rx_ring_full: 7,
                    ..QueueCounters::default()
                },
            }],
            pools: vec![PoolCounters::default()],
            servers: vec![ServerCounters::default()],
        };
        Report {
            name: "edge".into(),
            version: "0.1.0".into(),
            pid: 4700,
            state: "running".into(),
            uptime_s: 90_000,
            generation: 1,
            unsaved: vec!["pool sessions: timeout_ms".into()],
            workers: vec![worker],
            pools: vec![PoolReport {
                name: "sessions".into(),
                listen: vec!["10.0.0.10:11211".into()],
                counters: PoolCounters {
                    timeouts: 3,
                    ..PoolCounters::default()
                },
                servers: vec![ServerReport {
                    name: "cache-b".into(),
                    address: "10.0.1.12:11211".into(),
                    unreachable: Some("no route".into()),
                    counters: ServerCounters {
                        requests: 12,
                        ..ServerCounters::default()
                    },
                }],
            }],
            ports: vec![PortReport {
                interface: "eth1".into(),
                steering: "native".into(),
                bypassed: Some(4_096),
                link_down: true,
                verdicts: [("pass".to_owned(), 4), ("drop".to_owned(), 0)].into(),
                device: [("tx_dropped".to_owned(), 9)].into(),
            }],
            control: ControlCounters::default(),
        }
    }

    #[test]
    fn people_see_workers_modes_and_every_drop_that_is_not_zero() {
        let text = render(&report());
        for expected in [
            "edge 0.1.0 · running · manager 4700 · up 1d01h",
            "not in the file: pool sessions: timeout_ms",
            "4711",
            "1m15s  100%     41%  7%",
            "killed by SIGKILL",
            "zero-copy",
            "    NO LINK: nothing arrives or leaves",
            "rx_ring_full=7",
            "frames_bad_checksum=5",
            "pass=4",
            "tx_dropped=9",
            "timeouts=3",
            "UNREACHABLE: no route",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(
            !text.contains("frames_runt"),
            "zero counters are left out\n{text}"
        );
    }

    #[test]
    fn over_kernel_sockets_there_are_no_queues_and_no_steering() {
        let mut report = report();
        report.ports.clear();
        let worker = &mut report.workers[0];
        worker.queues.clear();
        worker.core = None;
        worker.sockets.waits = 12;
        let text = render(&report);
        assert!(text.contains("sockets: waits=12"), "{text}");
        for absent in ["queues", "steering", "interface"] {
            assert!(!text.contains(absent), "{absent:?} is in\n{text}");
        }
    }

    #[test]
    fn scripts_get_the_same_report_back() {
        let report = report();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
