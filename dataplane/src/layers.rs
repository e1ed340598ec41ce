//! What is above and below the streams: the proxy, and the TCP of a [`PacketNetwork`](crate::packets::PacketNetwork).
//!
//! Both are called through these traits, so that the loop can be tested with fakes.

use crate::hand_over::HandOverSenders;
use tidegate_channel::counters::{PoolCounters, ServerCounters, StackCounters};
use tidegate_channel::paths::PathEntry;
use tidegate_port::{Port, TxQueue};
use tidegate_proxy::streams::{ServerId, Streams};
use tidegate_proxy::{Change, Event, KeyWatch, Left, SlowRequest};
use tidegate_stack::{Arrival, StackChange};

/// Frames in, streams out.
pub trait Transport: Streams {
    /// Tells the time; expires what is due.
    fn tick(&mut self, now_us: u64);
    /// Takes one frame.
    fn ingress(
        &mut self,
        frame: &[u8],
        arrival: Arrival,
        tx: &mut impl TxQueue,
        hand_over: &mut HandOverSenders,
    );
    /// Sends what is to be sent, once over every stream that has something.
    fn egress<P: Port>(&mut self, ports: &mut [P]);
    /// Whether the last egress left something behind because a ring was full.
    fn has_pending_egress(&self) -> bool;
    /// When [`Transport::tick`] has to be called next.
    fn next_timer_us(&self) -> Option<u64>;
    /// A server that does not answer what was sent to it, each time that this becomes clear.
    fn take_silent(&mut self) -> Option<ServerId>;
    /// A server is now reached this way, or not at all.
    fn set_path(&mut self, server: ServerId, path: Option<PathEntry>);
    /// Our link address on the port at this position is another one now.
    fn set_station(&mut self, port: usize, mac: [u8; 6]);
    /// Accepts no new connection from now on.
    fn stop_accepting(&mut self);
    /// Takes up other listeners and servers; the old ones have these numbers now.
    fn take_up(&mut self, change: &mut StackChange, servers_to: &[u16], listeners_to: &[u16]);
    /// Counts so far.
    fn counters(&self) -> StackCounters;
}

/// What is done with the streams.
pub trait Application<S: Streams> {
    /// Works through every stream that is ready.
    fn run(&mut self, streams: &mut S, now_us: u64);
    /// Whether something was left to the next turn for the sake of what arrives meanwhile.
    fn has_more(&self) -> bool;
    /// Expires what is due.
    fn tick(&mut self, streams: &mut S, now_us: u64);
    /// Tells that it is `unix_us` microseconds since 1970 at `now_us`.
    fn set_wall_clock(&mut self, now_us: u64, unix_us: u64);
    /// When [`Application::tick`] has to be called next.
    fn next_timer_us(&self) -> Option<u64>;
    /// Begins to close clients as soon as nothing is owed to them.
    fn drain(&mut self, streams: &mut S, now_us: u64);
    /// Takes up another configuration.
    fn take_up(&mut self, streams: &mut S, change: &mut Change, now_us: u64);
    /// What is configured no more and not at its end.
    fn left(&self) -> Left;
    /// Resets every connection: the drain's deadline has passed.
    fn cut_off(&mut self, streams: &mut S);
    /// Whether nothing is owed any more after [`Application::drain`].
    fn is_drained(&self) -> bool;
    /// Replies that clients wait for.
    fn owed(&self) -> usize;
    /// Requests that servers were asked so far.
    fn asked(&self) -> u64;
    /// Something that the operator should read in the log.
    fn take_event(&mut self) -> Option<Event>;
    /// A request that took long.
    fn take_slow(&mut self) -> Option<SlowRequest>;
    /// Begins to watch keys until `until_us`; returns the watch that is over by that.
    fn watch_keys(&mut self, watch: Box<KeyWatch>, until_us: u64) -> Option<Box<KeyWatch>>;
    /// The watch on keys whose time is over. Asked for when a timer was due.
    fn take_watched(&mut self) -> Option<Box<KeyWatch>>;
    /// Counts of one pool.
    fn pool_counters(&self, pool: usize) -> PoolCounters;
    /// Counts of one server, counted over all pools.
    fn server_counters(&self, server: usize) -> ServerCounters;
}
