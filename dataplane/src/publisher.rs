//! Publishes what the layers count. Counting is plain memory; only this writes to the shared page, now and then.

use crate::layers::Application;
use crate::limits::{HEARTBEAT_US, PUBLISH_SERVERS, PUBLISH_US};
use crate::network::Network;
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate_channel::counters::LoopCounters;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsWriter};

/// Writes the statistics page of this worker.
#[derive(Debug)]
pub struct Publisher {
    writer: StatisticsWriter,
    layout: StatisticsLayout,
    next_us: u64,
    next_server: usize,
    dirty: bool,
}

/// Seconds since 1970, for the start time that the operator sees.
pub fn unix_time_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Microseconds since 1970.
pub fn unix_time_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

impl Publisher {
    /// Publishes to `writer`, whose page has `layout`.
    pub fn new(writer: StatisticsWriter, layout: StatisticsLayout) -> Self {
        Self {
            writer,
            layout,
            next_us: 0,
            next_server: 0,
            dirty: true,
        }
    }

    /// A busy turn counted something.
    #[inline]
    pub fn counted(&mut self) {
        self.dirty = true;
    }

    /// Whether to publish now; once per turn. An idle loop publishes no more than its heartbeat.
    #[inline]
    pub fn is_due(&mut self, now_us: u64) -> bool {
        if now_us < self.next_us {
            return false;
        }
        if !self.dirty && now_us < self.next_us + (HEARTBEAT_US - PUBLISH_US) {
            return false;
        }
        self.next_us = now_us + PUBLISH_US;
        true
    }

    /// In how many microseconds the next publication is due, for what was counted since the last; for ever, if nothing was.
    pub fn owed_in_us(&self, now_us: u64) -> u64 {
        if self.dirty {
            self.next_us.saturating_sub(now_us)
        } else {
            u64::MAX
        }
    }

    /// Writes every block; of very many servers only the next few.
    pub fn publish<N: Network, A: Application<N::Streams>>(
        &mut self,
        counters: &mut LoopCounters,
        network: &mut N,
        proxy: &A,
    ) {
        self.write(counters, network, proxy, PUBLISH_SERVERS);
    }

    /// Writes every block of a new page: who looks at it must not find servers that have counted nothing.
    pub fn publish_all<N: Network, A: Application<N::Streams>>(
        &mut self,
        counters: &mut LoopCounters,
        network: &mut N,
        proxy: &A,
    ) {
        self.write(counters, network, proxy, usize::MAX);
    }

    fn write<N: Network, A: Application<N::Streams>>(
        &mut self,
        counters: &mut LoopCounters,
        network: &mut N,
        proxy: &A,
        servers_max: usize,
    ) {
        self.dirty = false;
        counters.heartbeat += 1;
        self.writer.write_loop(counters);
        network.publish(&self.writer);
        for pool in 0..self.layout.pools {
            self.writer.write_pool(pool, &proxy.pool_counters(pool));
        }
        for _ in 0..servers_max.min(self.layout.servers) {
            self.next_server = (self.next_server + 1) % self.layout.servers;
            let counters = proxy.server_counters(self.next_server);
            self.writer.write_server(self.next_server, &counters);
        }
    }
}
