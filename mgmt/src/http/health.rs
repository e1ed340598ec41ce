//! Whether all is well, in a word that a load balancer understands.

use super::board::Snapshot;
use super::limits::STALE;
use std::time::Instant;

/// Why not all is well; `None`: it is.
pub fn complaint(snapshot: Option<&Snapshot>, now: Instant) -> Option<String> {
    let Some(snapshot) = snapshot else {
        return Some("starting: nothing is known yet".into());
    };
    let age = now.saturating_duration_since(snapshot.at);
    if age >= STALE {
        return Some(format!(
            "the manager has said nothing for {} s",
            age.as_secs()
        ));
    }
    let stats = &snapshot.stats;
    let bypassed = stats.ports.iter().filter(|port| port.bypassed.is_some());
    let bypassed =
        bypassed.map(|port| format!("{}: the driver goes round the program", port.interface));
    let dark = stats.ports.iter().filter(|port| port.link_down);
    let dark = dark.map(|port| format!("{} has no link", port.interface));
    let idle: Vec<String> = stats
        .workers
        .iter()
        .filter(|worker| worker.state != "running")
        .map(|worker| format!("worker {} is {}", worker.worker, worker.state))
        .chain(dark)
        .chain(bypassed)
        .collect();
    if stats.state != "running" {
        Some(stats.state.clone())
    } else if idle.is_empty() {
        None
    } else {
        Some(idle.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::sample;
    use crate::status::report::PortReport;

    #[test]
    fn every_worker_has_to_run_and_the_manager_to_speak() {
        let now = Instant::now();
        let mut snapshot = Snapshot {
            at: now,
            number: 0,
            stats: sample::stats(),
            slow: crate::slowlog::Report::default(),
        };
        assert_eq!(complaint(Some(&snapshot), now), None);
        let said = |snapshot: &Snapshot, now| complaint(Some(snapshot), now).unwrap();
        assert!(complaint(None, now).unwrap().contains("starting"));
        assert!(said(&snapshot, now + STALE).contains("said nothing for 10 s"));
        snapshot.stats.ports.push(PortReport {
            interface: "eth1".into(),
            steering: "native".into(),
            bypassed: Some(100),
            link_down: false,
            verdicts: [].into(),
            device: [].into(),
        });
        let bypassed = "eth1: the driver goes round the program";
        assert_eq!(said(&snapshot, now), bypassed);
        snapshot.stats.workers[1].state = "waiting".into();
        snapshot.stats.ports[0].link_down = true;
        let all = format!("worker 1 is waiting; eth1 has no link; {bypassed}");
        assert_eq!(said(&snapshot, now), all);
        snapshot.stats.state = "draining".into();
        assert_eq!(said(&snapshot, now), "draining");
    }
}
