//! What has to be true of the workers: after every turn, now and then, and at the end.

use super::{Appliance, Worker};
use crate::books::Books;
use tidegate_channel::counters::StackCounters;
use tidegate_config::Config;
use tidegate_dataplane::network::Network;

impl Appliance {
    /// Promise 4: no table has more in it than its limit says. Limits that a reload lowered hold from when they are kept again.
    pub(super) fn check_ceiling(&self, books: &mut Books) {
        let limits = &self.config.worker;
        for (index, worker) in self.workers.iter().enumerate() {
            let Some(worker) = worker else { continue };
            let tables = worker.poll_loop.proxy.tables_in_use();
            let counters = worker.poll_loop.network.counters();
            let exceeded = tables.reply_hold_bytes as u64 > limits.reply_hold_bytes
                || counters.clients_open > u64::from(limits.clients_max)
                || counters.servers_open > u64::from(limits.server_connections_max)
                || counters.half_open > u64::from(limits.half_open_max)
                || tables.links > limits.server_connections_max as usize;
            if exceeded {
                books.break_promise(format!(
                    "worker {index} is beyond a limit: {tables:?} {counters:?}"
                ));
            }
        }
    }

    /// With every client gone: no table has anything in it, and every frame is accounted for.
    pub fn check_end(&mut self, books: &mut Books) {
        let (mut frames_in, mut handed_over, mut received) = (
            self.past.frames_in,
            self.past.handed_over,
            self.past.received,
        );
        let (mut ring_full, mut on_queues, mut in_rings) = (self.ring_full, 0, 0);
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let Some(worker) = worker else {
                books.break_promise(format!("worker {index} does not run"));
                continue;
            };
            let network = &mut worker.poll_loop.network;
            let counters = network.counters();
            let port = &network.ports[0];
            let waiting = port.waiting() as u64;
            frames_in += counters.frames_in;
            handed_over += counters.frames_handed_over;
            received += port.counted().rx_frames - waiting;
            on_queues += waiting;
            ring_full += port.counted().rx_ring_full;
            in_rings += network.receivers.waiting() as u64;
            check_idle(index, worker, &self.config, books);
        }
        if frames_in != received + handed_over - in_rings {
            books.break_promise(format!(
                "{frames_in} frames were given to TCP, {received} came from the card and {handed_over} from other workers, of which {in_rings} wait"
            ));
        }
        let accounted = received + on_queues + ring_full + self.no_socket;
        if self.arrived != accounted {
            books.break_promise(format!(
                "{} frames reached the card, {accounted} are accounted for",
                self.arrived
            ));
        }
    }
}

/// Promise 7: every frame was delivered, or dropped for one reason.
pub(super) fn check_frames(index: usize, c: &StackCounters, books: &mut Books) {
    if c.frames_in != c.frames_told() {
        books.break_promise(format!("worker {index}'s frames do not add up: {c:?}"));
    }
}

fn check_idle(index: usize, worker: &Worker, config: &Config, books: &mut Books) {
    let proxy = &worker.poll_loop.proxy;
    let tables = proxy.tables_in_use();
    if !tables.is_idle() || proxy.clients_open() > 0 || proxy.owed() > 0 {
        books.break_promise(format!(
            "worker {index} is not idle with every client gone: {tables:?}, {} clients, {} owed",
            proxy.clients_open(),
            proxy.owed()
        ));
    }
    let counters = worker.poll_loop.network.counters();
    if counters.clients_open != counters.time_wait || counters.half_open > 0 {
        books.break_promise(format!(
            "worker {index} has connections of clients that are gone: {counters:?}"
        ));
    }
    for pool in 0..config.pools.len() {
        let counters = proxy.pool_counters(pool);
        if counters.clients > 0 || counters.pins > 0 || counters.replies > counters.requests {
            books.break_promise(format!(
                "pool {pool} of worker {index} does not add up: {counters:?}"
            ));
        }
    }
    for server in 0..config.servers().count() {
        let counters = proxy.server_counters(server);
        if counters.in_flight > 0 || counters.replies > counters.requests {
            books.break_promise(format!(
                "server {server} of worker {index} does not add up: {counters:?}"
            ));
        }
    }
}
