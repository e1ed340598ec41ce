//! What the poll loop needs of the network below the proxy.
//!
//! The loop knows turns, rests, commands and the proxy; where bytes come from is behind this trait. There are two:
//! [`PacketNetwork`](crate::packets::PacketNetwork), frames and a TCP of our own, and
//! [`SocketNetwork`](crate::sockets::SocketNetwork), the kernel's sockets.

use crate::capture::Tap;
use crate::packets::PacketChange;
use crate::sockets::reconfigure::SocketChange;
use std::os::fd::BorrowedFd;
use tidegate_channel::counters::StackCounters;
use tidegate_channel::statistics::StatisticsWriter;
use tidegate_link::{Announcement, News, Wanted};
use tidegate_port::doorbell::Doorbell;
use tidegate_proxy::Change;
use tidegate_proxy::streams::{ServerId, Streams};

/// What a network is to be from now on.
pub enum NetworkChange {
    /// Frames and a TCP of our own.
    Packets(PacketChange),
    /// The kernel's sockets.
    Sockets(SocketChange),
}

/// Everything between the loop and the outside world.
///
/// A turn calls [`tick`](Self::tick), [`receive`](Self::receive), then the proxy with [`streams`](Self::streams), then
/// [`send`](Self::send). None of these blocks; only [`wait`](Self::wait) does.
pub trait Network {
    /// What the proxy works with.
    type Streams: Streams;

    /// Whether it is worth to wait a moment for a fuller burst: true where a turn has a cost that a burst shares.
    const LINGERS: bool;

    /// Whether a look for arrivals costs next to nothing, so that an idle loop does well to look again for a while before it
    /// sleeps. False where a look is a system call: that might as well wait.
    const LOOKS_ARE_FREE: bool;

    /// The byte streams.
    fn streams(&mut self) -> &mut Self::Streams;
    /// Arrivals that [`Network::receive`] would find: frames, or sockets that are ready.
    fn waiting(&mut self) -> usize;
    /// Whether the manager changed something that [`Network::receive`] has to take.
    fn has_news(&mut self) -> bool;
    /// Tells the time, first in every turn; expires what is due.
    fn tick(&mut self, now_us: u64);
    /// Takes what arrived, at most a burst.
    fn receive(&mut self);
    /// Sends what is to be sent, once over every stream that has something. Returns whether something was left behind that
    /// another turn may send or receive at once.
    fn send(&mut self) -> bool;
    /// When [`Network::tick`] has to be called next.
    fn next_timer_us(&self) -> Option<u64>;
    /// Looks for these next hops from now on, if nobody else does.
    fn look(&mut self, _wanted: &[Wanted]) {}
    /// Says where our addresses are. Returns what is not said any more, or cannot be: it takes memory that another thread gives back.
    fn announce(&mut self, announcement: Announcement) -> Option<Announcement> {
        Some(announcement)
    }
    /// What was found out about the link since this was last asked, if there is room for it: it is told once.
    #[inline]
    fn take_news(&mut self, _has_room: impl FnOnce() -> bool) -> Option<News> {
        None
    }
    /// A server that does not answer, for whose next hop the kernel has to be asked. One that is not told comes again.
    #[inline]
    fn take_silent(&mut self) -> Option<ServerId> {
        None
    }
    /// Whether [`Network::wait`] would be woken by arrivals.
    fn can_wait(&self) -> bool;
    /// Announces that the loop is about to wait for `bell` as well: who rings it from here on is heard. `false`: something
    /// has arrived meanwhile.
    fn prepare_to_wait(&mut self, bell: &Doorbell) -> bool;
    /// Waits for arrivals, for `bell`, or for `timeout_us`. The first arrival may wait `nap_us` for others, where being woken by it
    /// alone costs more.
    fn wait(&mut self, bell: BorrowedFd<'_>, timeout_us: u64, nap_us: u64);
    /// Accepts no new connection from now on.
    fn stop_accepting(&mut self);
    /// Takes up another configuration, after the proxy has.
    fn take_up(&mut self, proxy: &Change, change: &mut NetworkChange);
    /// What the streams counted so far.
    fn counters(&self) -> StackCounters;
    /// Copies frames to a tap from now on, or no more. Returns the tap before. Where there are no frames, what was given.
    fn tap(&mut self, tap: Option<Box<Tap>>) -> Option<Box<Tap>>;
    /// The number of the tap, and whether it is over.
    fn tapped(&self, now_us: u64) -> Option<(u64, bool)>;
    /// Publishes every counter of this network.
    fn publish(&mut self, writer: &StatisticsWriter);
}
