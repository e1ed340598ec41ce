//! Connections that a worker with a TCP of its own leaves open when it dies. The next one ends them.

use crate::worker_process::WorkerProcess;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tidegate_channel::flows::{FlowRecord, ORPHANS_MAX};

/// How long a worker may be busy with what its predecessor left: the last of its probes leaves 14 s after it began to serve, which may be
/// long after its start. One that dies earlier leaves that as well.
const HELD: Duration = Duration::from_secs(20);

/// What the next process of a worker has to end.
#[derive(Default)]
pub struct Orphans {
    flows: Vec<FlowRecord>,
}

impl Orphans {
    /// Those that a worker was told of that is adopted: it may not be done with them.
    pub fn of_adopted(flows: Vec<FlowRecord>) -> Self {
        Self { flows }
    }

    /// All of them.
    pub fn list(&self) -> &[FlowRecord] {
        &self.flows
    }

    /// Whether `process` has had the time to end them.
    fn are_ended(process: &WorkerProcess, now: Instant) -> bool {
        let served = |since| now.saturating_duration_since(since);
        process
            .serves_since
            .is_some_and(|since| served(since) >= HELD)
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

/// What `worker` is told where all workers are one process, of which `lists` have what each of them left open. A device may choose a key of
/// its hash anew whenever it is opened, and with it another worker for each connection: each is told of all, its own first, and probes
/// those that arrive at its queue now.
pub fn of_process(lists: &[&[FlowRecord]], worker: usize) -> Vec<FlowRecord> {
    let own = lists.get(worker).into_iter();
    let others = lists.iter().enumerate();
    let others = others.filter_map(|(other, list)| (other != worker).then_some(list));
    let all = own.chain(others).flat_map(|list| list.iter());
    all.copied().take(ORPHANS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker_process::Stage;
    use std::net::{Ipv6Addr, SocketAddr};
    use std::process::Command;
    use tidegate_channel::control::ControlSocket;
    use tidegate_channel::message::FromWorker;
    use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader};
    use tidegate_config::Config;

    const CONFIG: &str = "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\n\
                          listen = \"192.0.2.1:1\"\nservers = [\"192.0.2.2:1\"]\n";

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
    fn a_worker_that_does_not_serve_yet_has_ended_none() {
        let layout = StatisticsLayout::of(&Config::parse(CONFIG, "test").unwrap(), 0);
        let page = layout.create().unwrap();
        let statistics = StatisticsReader::map(&page, layout).unwrap();
        let (control, theirs) = ControlSocket::pair().unwrap();
        control.set_nonblocking().unwrap();
        let theirs = ControlSocket::from_descriptor(theirs).unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut process = WorkerProcess::stand_in(child, control, statistics, Stage::Starting);
        let mut orphans = Orphans::default();
        orphans.join(vec![flow(1, 10)], 1);
        orphans.settle(&process, process.started + HELD);
        assert_eq!(orphans.list().len(), 1, "it waits for its queue");
        theirs.send(&FromWorker::Ready, &[]).unwrap();
        process.listen();
        let served = process.serves_since.unwrap();
        orphans.settle(&process, served + HELD / 2);
        assert_eq!(orphans.list().len(), 1);
        orphans.settle(&process, served + HELD);
        assert_eq!(orphans.list(), []);
        process.kill();
        while process.ended().is_none() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn workers_of_one_process_are_told_of_all_and_of_their_own_first() {
        let lists = [vec![flow(1, 0)], vec![flow(2, 0), flow(3, 0)], vec![]];
        let lists: Vec<_> = lists.iter().map(Vec::as_slice).collect();
        let of = |worker| of_process(&lists, worker);
        assert_eq!(of(0), [flow(1, 0), flow(2, 0), flow(3, 0)]);
        assert_eq!(of(1), [flow(2, 0), flow(3, 0), flow(1, 0)]);
        assert_eq!(of(2), [flow(1, 0), flow(2, 0), flow(3, 0)]);
        let many: Vec<_> = (0..ORPHANS_MAX as u32)
            .map(|number| flow(number, 0))
            .collect();
        let told = of_process(&[&[flow(u32::MAX, 0)], &many], 1);
        assert!(told == many);
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
