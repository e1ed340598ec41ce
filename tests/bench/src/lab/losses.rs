//! Everything that counts a lost frame or a repeated segment, on every host of the lab.

use crate::results::Losses;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use tidegate_tests::appliance::Status;
use tidegate_tests::lab::Lab;

/// Counters by name, losses or not at all.
pub type Counts = BTreeMap<String, u64>;

/// Counters of a worker's queue that mean a lost frame.
const QUEUE_DROPS: [&str; 3] = ["rx_dropped", "rx_ring_full", "tx_invalid"];

/// Counters of a worker's stack that mean no loss although they are called like those that do.
const FRAMES_NOT_LOST: [&str; 2] = ["frames_in", "frames_delivered"];

/// Reads all of them.
pub fn counts(lab: &Lab, status: Option<&Status>) -> Result<Counts> {
    let mut counts = Counts::new();
    let hosts = &lab.hosts;
    for (name, host) in [
        ("client", &hosts.client),
        ("server", &hosts.server),
        ("appliance", &hosts.appliance),
        ("kernel path", &hosts.kernel_path),
    ] {
        host.run(|| of_kernel(name, &mut counts))?;
    }
    if let Some(status) = status {
        of_worker(&status.0, &mut counts);
    }
    Ok(counts)
}

/// What has been counted in between.
pub fn between(before: &Counts, after: &Counts) -> Losses {
    after
        .iter()
        .map(|(name, count)| {
            let earlier = before.get(name).copied().unwrap_or(0);
            (name.clone(), count.saturating_sub(earlier))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Devices and TCP of the calling thread's namespace.
fn of_kernel(host: &str, counts: &mut Counts) -> Result<()> {
    // Two lines of headings; then "name: bytes packets errs drop fifo frame compressed multicast" and the same for sending.
    let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
    for line in devices.lines().skip(2) {
        let Some((device, fields)) = line.split_once(':') else {
            continue;
        };
        let fields: Vec<u64> = fields
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        for (what, place) in [
            ("rx errors", 2),
            ("rx dropped", 3),
            ("tx errors", 10),
            ("tx dropped", 11),
        ] {
            let name = format!("{host} {} {what}", device.trim());
            counts.insert(name, fields.get(place).copied().unwrap_or(0));
        }
    }
    for (file, group, counter, name) in [
        ("snmp", "Tcp: ", "RetransSegs", "retransmissions"),
        ("netstat", "TcpExt: ", "TCPLossProbes", "tail loss probes"),
        (
            "netstat",
            "TcpExt: ",
            "TCPTimeouts",
            "retransmission timeouts",
        ),
    ] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
        counts.insert(
            format!("{host} {name}"),
            counter_of(&text, group, counter).unwrap_or(0),
        );
    }
    Ok(())
}

/// Connections in TIME-WAIT in the calling thread's namespace.
pub fn in_time_wait() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/sockstat")?;
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: "));
    let mut words = tcp.unwrap_or_default().split(' ');
    let count = words
        .find(|word| *word == "tw")
        .and_then(|_| words.next()?.parse().ok());
    Ok(count.unwrap_or(0))
}

/// A counter in a file of two lines per group, names above values.
fn counter_of(text: &str, group: &str, counter: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == counter)?.1.parse().ok()
}

fn of_worker(status: &Value, counts: &mut Counts) {
    let worker = &status["workers"][0];
    for counter in ["pauses", "paused_us"] {
        let count = worker["loop"][counter].as_u64().unwrap_or(0);
        counts.insert(format!("worker {counter}"), count);
    }
    for queue in worker["queues"].as_array().into_iter().flatten() {
        let interface = queue["interface"].as_str().unwrap_or("?");
        for drop in QUEUE_DROPS {
            let count = queue["counters"][drop].as_u64().unwrap_or(0);
            counts.insert(format!("worker {interface} {drop}"), count);
        }
    }
    for (name, count) in worker["stack"].as_object().into_iter().flatten() {
        let lost = name.starts_with("frames_") && !FRAMES_NOT_LOST.contains(&name.as_str());
        if lost || name == "answers_tx_full" {
            counts.insert(format!("worker {name}"), count.as_u64().unwrap_or(0));
        }
        if name == "retransmits" {
            counts.insert(
                "worker retransmissions".to_owned(),
                count.as_u64().unwrap_or(0),
            );
        }
    }
    for port in status["ports"].as_array().into_iter().flatten() {
        let interface = port["interface"].as_str().unwrap_or("?");
        for (verdict, count) in port["verdicts"].as_object().into_iter().flatten() {
            if verdict.contains("drop") {
                let name = format!("steering {interface} {verdict}");
                counts.insert(name, count.as_u64().unwrap_or(0));
            }
        }
    }
}
