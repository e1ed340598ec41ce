//! The byte streams below the proxy: what it needs of a transport, and nothing more.
//!
//! `tidegate-stack` implements this over smoltcp; sockets can implement it as well. All calls are non-blocking and
//! none allocates. Streams come into being by acceptance (seen first in [`Streams::next_ready`]) or by
//! [`Streams::connect`], and go away by [`Streams::release`]: until then an id is never given to another stream.

use std::net::SocketAddr;

/// A stream of one worker: a slot number below [`Streams::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

/// The position of a server in the configuration, counted over all pools in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(pub u16);

/// The position of a listening address in the configuration, counted over all pools in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// Why a stream is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides finished, or we aborted.
    Finished,
    /// The peer sent RST while the stream was open.
    Reset,
    /// The peer answered the connection attempt with RST.
    Refused,
    /// The peer did not answer: connection attempt, retransmission or keep-alive gave up.
    TimedOut,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    /// The connection attempt is under way. Bytes can be sent already, they wait.
    Connecting,
    /// Both directions are open.
    Open,
    /// The peer sent FIN: what [`Streams::received`] still holds is the rest. We can still send.
    HalfClosed,
    /// No more bytes in either direction. Only [`Streams::release`] is left to do.
    Closed(CloseReason),
}

/// Why a connection could not even be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Every server slot of the worker is taken.
    #[error("no free server connection slot (limit: server_connections_max)")]
    NoSlot,
    /// Every source port of this worker towards this server is in use.
    #[error("no free source port (limit: source_ports)")]
    NoPort,
    /// There is no route to the server, or its neighbour is not resolved.
    #[error("no route to host")]
    NoRoute,
    /// The process has no file descriptor, or the kernel no memory, for another connection.
    #[error("no free file descriptor (limit: open files)")]
    NoDescriptor,
}

/// The byte streams of one worker.
pub trait Streams {
    /// Slots in all: every [`StreamId`] is below it.
    fn slots(&self) -> usize;
    /// The next stream on which something happened since it was last returned: bytes, room to send, a change of status.
    fn next_ready(&mut self) -> Option<StreamId>;
    /// Asks to be given `id` by [`Streams::next_ready`] once more.
    fn mark_ready(&mut self, id: StreamId);
    /// Where the stream stands.
    fn status(&self, id: StreamId) -> StreamStatus;
    /// The listener that accepted the stream; `None` for one that we connected.
    fn listener(&self, id: StreamId) -> Option<ListenerId>;
    /// The other end.
    fn peer(&self, id: StreamId) -> SocketAddr;

    /// Bytes received and not consumed.
    fn received(&self, id: StreamId) -> usize;
    /// Most bytes that can wait to be consumed.
    fn receive_capacity(&self, id: StreamId) -> usize;
    /// The received bytes, in place, as far as they are contiguous.
    fn peek(&mut self, id: StreamId) -> &[u8];
    /// Copies received bytes from the front into `out` without consuming them; returns how many.
    fn copy(&mut self, id: StreamId, out: &mut [u8]) -> usize;
    /// Drops `bytes` received bytes, at most [`Streams::received`].
    fn consume(&mut self, id: StreamId, bytes: usize);

    /// Bytes that can be queued for sending now. 0 once the stream is finished or closed.
    fn send_room(&self, id: StreamId) -> usize;
    /// Most bytes that can be queued.
    fn send_capacity(&self, id: StreamId) -> usize;
    /// Bytes queued and not yet acknowledged by the peer.
    fn send_queued(&self, id: StreamId) -> usize;
    /// Queues as much of `bytes` as there is room for and returns how much that was.
    fn send(&mut self, id: StreamId, bytes: &[u8]) -> usize;
    /// Moves up to `bytes` received bytes of `from` into the send queue of `to` with one copy; returns how many.
    fn forward(&mut self, from: StreamId, to: StreamId, bytes: usize) -> usize;

    /// Starts a connection to a server.
    fn connect(&mut self, server: ServerId) -> Result<StreamId, ConnectError>;
    /// Sends what is queued, then FIN. Received bytes can still be read.
    fn finish(&mut self, id: StreamId);
    /// Sends RST and closes.
    fn abort(&mut self, id: StreamId);
    /// Gives the slot back. A stream that is not closed is finished first and lives on until the peer has everything,
    /// within the stack's own deadline; the id is no longer ours.
    fn release(&mut self, id: StreamId);
    /// Tells whether a reply will soon be sent on `id` for what was received: then, with `ack = "with-reply"`, the
    /// acknowledgement may wait for it. Of a server, whether it owes no reply: then it waits for no acknowledgement.
    fn expect_reply(&mut self, id: StreamId, expected: bool);
}
