//! Connections that a worker with a TCP of its own leaves open when it dies. The next one ends them.

use crate::worker_process::WorkerProcess;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tidegate_channel::flows::{FlowRecord, ORPHANS_MAX};

/// How long a worker may be busy with what its predecessor left: the last of its probes leaves 14 s after its start. One that dies earlier
/// leaves that as well.
const HELD: Duration = Duration::from_secs(20);

/// What the next process of a worker has to end.
#[derive(Default)]
pub struct Orphans {
    flows: Vec<FlowRecord>,
}

impl Orphans {
    /// All of them.
    pub fn list(&self) -> &[FlowRecord] {
        &self.flows
    }

    /// Whether `process` has had the time to end them.
    fn are_ended(process: &WorkerProcess, now: Instant) -> bool {
        now.saturating_duration_since(process.started) >= HELD
    }

    /// Forgets them once `process`, which was told, has had its time.
    pub fn settle(&mut self, process: &WorkerProcess, now: Instant) {
        if !self.flows.is_empty() && Self::are_ended(process, now) {
            self.flows = Vec::new();
        }
    }

    /// Takes what `process`, which has ended, left open.
    pub fn take_from(&mut self, process: &WorkerProcess, now: Instant) {
        self.settle(process, now);
        let left = process.left_open();
        self.join(left, process.pid());
    }

    fn join(&mut self, left: Vec<FlowRecord>, pid: u32) {
        let mut seen = HashSet::new();
        let before = std::mem::take(&mut self.flows);
        let all = left.into_iter().chain(before);
        self.flows = all
            .filter(|flow| seen.insert((flow.local, flow.remote)))
            .collect();
        let beyond = self.flows.len().saturating_sub(ORPHANS_MAX);
        if beyond > 0 {
            self.flows.truncate(ORPHANS_MAX);
            tracing::warn!(
                "process {pid} left more connections than the next one can be told of: the ends of {beyond} learn that when they send something"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, SocketAddr};

    fn flow(number: u32, sent_end: u32) -> FlowRecord {
        FlowRecord {
            local: "[2001:db8::1]:6379".parse().unwrap(),
            remote: SocketAddr::new(Ipv6Addr::from_bits(1 << 64 | u128::from(number)).into(), 7),
            port: 0,
            mac: [2; 6],
            timestamps: true,
            sent_end,
            received_end: 0,
        }
    }

    #[test]
    fn what_was_not_ended_goes_on_to_the_next_and_the_latest_word_counts() {
        let mut orphans = Orphans::default();
        orphans.join(vec![flow(1, 10), flow(2, 20)], 1);
        orphans.join(vec![flow(3, 30), flow(2, 25)], 2);
        assert_eq!(orphans.list(), [flow(3, 30), flow(2, 25), flow(1, 10)]);
    }

    #[test]
    fn there_are_no_more_than_a_start_can_carry() {
        let many = 0..ORPHANS_MAX as u32 + 5;
        let mut orphans = Orphans::default();
        orphans.join(many.map(|number| flow(number, 0)).collect(), 1);
        assert_eq!(orphans.list().len(), ORPHANS_MAX);
        assert_eq!(orphans.list()[0], flow(0, 0));
    }
}
