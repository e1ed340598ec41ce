//! The stack and the proxy as the layers of the loop.

use crate::hand_over::HandOverSenders;
use crate::layers::{Application, Transport};
use tidegate_channel::counters::{PoolCounters, ServerCounters, StackCounters};
use tidegate_channel::paths::PathEntry;
use tidegate_port::{Port, TxQueue};
use tidegate_proxy::streams::{ServerId, Streams};
use tidegate_proxy::{Change, Event, KeyWatch, Left, Proxy, SlowRequest};
use tidegate_stack::{Arrival, Path, Stack, StackChange};

impl Transport for Stack {
    #[inline]
    fn tick(&mut self, now_us: u64) {
        self.tick(now_us);
    }

    #[inline]
    fn ingress(
        &mut self,
        frame: &[u8],
        arrival: Arrival,
        tx: &mut impl TxQueue,
        hand_over: &mut HandOverSenders,
    ) {
        self.ingress(frame, arrival, tx, hand_over);
    }

    #[inline]
    fn egress<P: Port>(&mut self, ports: &mut [P]) {
        self.egress(ports);
    }

    #[inline]
    fn has_pending_egress(&self) -> bool {
        self.has_pending_egress()
    }

    #[inline]
    fn next_timer_us(&self) -> Option<u64> {
        self.next_timer_us()
    }

    #[inline]
    fn take_silent(&mut self) -> Option<ServerId> {
        self.take_silent()
    }

    fn set_path(&mut self, server: ServerId, path: Option<PathEntry>) {
        let path = path.map(|entry| Path {
            port: entry.port,
            source: entry.source,
            destination: entry.destination,
            next_hop_mac: entry.next_hop_mac,
        });
        self.set_path(server, path);
    }

    fn set_station(&mut self, port: usize, mac: [u8; 6]) {
        self.set_station(port, mac);
    }

    fn stop_accepting(&mut self) {
        self.stop_accepting();
    }

    fn take_up(&mut self, change: &mut StackChange, servers_to: &[u16], listeners_to: &[u16]) {
        self.reconfigure(change, servers_to, listeners_to);
    }

    fn counters(&self) -> StackCounters {
        self.counters()
    }
}

impl<S: Streams> Application<S> for Proxy {
    #[inline]
    fn run(&mut self, streams: &mut S, now_us: u64) {
        self.run(streams, now_us);
    }

    #[inline]
    fn has_more(&self) -> bool {
        self.has_more()
    }

    #[inline]
    fn tick(&mut self, streams: &mut S, now_us: u64) {
        self.tick(streams, now_us);
    }

    #[inline]
    fn next_timer_us(&self) -> Option<u64> {
        self.next_timer_us()
    }

    fn set_wall_clock(&mut self, now_us: u64, unix_us: u64) {
        self.set_wall_clock(now_us, unix_us);
    }

    fn drain(&mut self, streams: &mut S, now_us: u64) {
        self.drain(streams, now_us);
    }

    fn take_up(&mut self, streams: &mut S, change: &mut Change, now_us: u64) {
        self.reconfigure(streams, change, now_us);
    }

    fn left(&self) -> Left {
        self.left()
    }

    fn cut_off(&mut self, streams: &mut S) {
        self.cut_off(streams);
    }

    fn is_drained(&self) -> bool {
        self.is_drained()
    }

    #[inline]
    fn owed(&self) -> usize {
        self.owed()
    }

    #[inline]
    fn asked(&self) -> u64 {
        self.asked()
    }

    fn pool_counters(&self, pool: usize) -> PoolCounters {
        self.pool_counters(pool)
    }

    fn server_counters(&self, server: usize) -> ServerCounters {
        self.server_counters(server)
    }

    #[inline]
    fn take_event(&mut self) -> Option<Event> {
        self.take_event()
    }

    #[inline]
    fn take_slow(&mut self) -> Option<SlowRequest> {
        self.take_slow()
    }

    fn watch_keys(&mut self, watch: Box<KeyWatch>, until_us: u64) -> Option<Box<KeyWatch>> {
        self.watch_keys(watch, until_us)
    }

    fn take_watched(&mut self) -> Option<Box<KeyWatch>> {
        self.take_watched()
    }
}
