//! One connection: smoltcp's socket and what the stack knows beside it.

use crate::device::Track;
use crate::frame::ETHERNET_HEADER_BYTES;
use crate::limits::INITIAL_WINDOW_BYTES;
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::wire::TcpTimestampGenerator;
use std::cell::Cell;
use tidegate_proxy::streams::CloseReason;

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody.
    Free,
    /// The stack: not accepted yet, or released and lingering.
    Stack,
    /// The proxy.
    Proxy,
}

/// Which end opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A client, through this listener.
    Client(u16),
    /// We did, to this server.
    Server(u16),
}

/// A slot. Everything the hot path reads lies in the first cache lines.
pub(crate) struct Flow {
    set: SocketSet<'static>,
    pub(crate) track: Track,
    pub(crate) link: [u8; ETHERNET_HEADER_BYTES],
    /// Position of the port it goes through.
    pub(crate) port: u8,
    pub(crate) owner: Owner,
    pub(crate) role: Role,
    /// It is in the list of flows that the next egress pass looks at.
    pub(crate) dirty: bool,
    /// It is in the list of streams that the proxy is told of.
    pub(crate) ready: bool,
    /// It is in the flow table.
    pub(crate) attached: bool,
    /// The proxy said that a reply follows soon.
    pub(crate) reply_expected: bool,
    /// FIN follows the bytes that wait for the connection to open.
    pub(crate) finish_wanted: bool,
    /// The proxy finished it: nothing more can be queued.
    pub(crate) finished: bool,
    /// A keep-alive probe has to leave.
    pub(crate) probe_wanted: bool,
    /// The peer has to be told where both ends stand, by whichever segment leaves next.
    pub(crate) answer_wanted: bool,
    /// Keep-alive probes sent since the peer was heard.
    pub(crate) probes: u8,
    /// Set once it is closed.
    pub(crate) closed: Option<CloseReason>,
    /// Bytes that wait for the connection to open.
    pub(crate) staged: u32,
    /// Sequence number of the SYN that opened it.
    pub(crate) opening_sequence: u32,
    /// Until when the peer is not challenged again.
    pub(crate) unchallenged_until_us: u64,
    /// When it turned out that bytes wait for the peer and no timer does. Older than `heard_us`: that is over.
    pub(crate) stalled_us: u64,
    /// When a probe last left, or should have; 0: none did.
    pub(crate) probed_us: u64,
    /// When the peer was last heard.
    pub(crate) heard_us: u64,
    /// When a segment was first repeated without the peer being heard since; 0: none was.
    pub(crate) repeated_us: u64,
    /// When to look at it; `u64::MAX`: no timer.
    pub(crate) timer_us: u64,
    /// The time that its bucket of the wheel stands for; `u64::MAX`: not in the wheel.
    pub(crate) armed_us: u64,
    /// Deadline of the list it is in.
    pub(crate) deadline_us: u64,
    /// Until when the acknowledgement may wait; 0: none waits.
    pub(crate) hold_until_us: u64,
    /// Silence after which the peer is probed; `u64::MAX`: never.
    pub(crate) keepalive_us: u64,
}

/// A set of one socket has one handle, and smoltcp gives the first one as the default.
pub(crate) const HANDLE: fn() -> SocketHandle = SocketHandle::default;

impl Flow {
    fn new(
        storage: &'static mut [SocketStorage<'static>],
        receive: &'static mut [u8],
        send: &'static mut [u8],
        role: Role,
    ) -> Self {
        let mut set = SocketSet::new(storage);
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        // The acknowledgement's time is decided by the egress pass; smoltcp must not add its own delay, and replies must
        // not wait for acknowledgements.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        set.add(socket);
        Self {
            set,
            track: Track::default(),
            link: [0; ETHERNET_HEADER_BYTES],
            port: 0,
            owner: Owner::Free,
            role,
            dirty: false,
            ready: false,
            attached: false,
            reply_expected: false,
            finish_wanted: false,
            finished: false,
            probe_wanted: false,
            answer_wanted: false,
            probes: 0,
            closed: None,
            staged: 0,
            opening_sequence: 0,
            unchallenged_until_us: 0,
            stalled_us: 0,
            probed_us: 0,
            heard_us: 0,
            repeated_us: 0,
            timer_us: u64::MAX,
            armed_us: u64::MAX,
            deadline_us: 0,
            hold_until_us: 0,
            keepalive_us: u64::MAX,
        }
    }

    /// Makes the slot ready for another connection. Its places in the dirty, ready and timer lists stay as they are.
    pub(crate) fn open(
        &mut self,
        role: Role,
        port: u8,
        link: [u8; ETHERNET_HEADER_BYTES],
        now_us: u64,
    ) {
        self.silence();
        let socket = self.socket_mut();
        // smoltcp keeps the congestion window over reuse, and drops timestamps for good once a peer had none. Its Reno starts
        // with 2 KiB, less than RFC 6928 allows and than most replies have; a buffer that fits in the RFC's initial window is
        // left alone until its first loss.
        let small = socket.send_capacity() <= INITIAL_WINDOW_BYTES;
        socket.set_congestion_control(if small {
            CongestionControl::None
        } else {
            CongestionControl::Reno
        });
        socket.set_tsval_generator(Some(TIMESTAMPS));
        let window_bytes = socket.recv_capacity();
        self.track = Track {
            window_shift: window_shift(window_bytes),
            ..Track::default()
        };
        self.link = link;
        self.port = port;
        self.owner = Owner::Stack;
        self.role = role;
        self.reply_expected = false;
        self.finish_wanted = false;
        self.finished = false;
        self.probe_wanted = false;
        self.answer_wanted = false;
        self.probes = 0;
        self.closed = None;
        self.staged = 0;
        self.unchallenged_until_us = 0;
        self.probed_us = 0;
        self.heard_us = now_us;
        self.repeated_us = 0;
        self.hold_until_us = 0;
        self.keepalive_us = u64::MAX;
    }

    /// The parts that one call into smoltcp needs at once.
    #[inline]
    pub(crate) fn parts(
        &mut self,
    ) -> (
        &mut SocketSet<'static>,
        &mut Track,
        &[u8; ETHERNET_HEADER_BYTES],
    ) {
        (&mut self.set, &mut self.track, &self.link)
    }

    #[inline]
    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.set.get(HANDLE())
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(HANDLE())
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        self.socket().state()
    }

    /// Whether smoltcp has nothing left to say about it, not even a RST.
    #[inline]
    pub(crate) fn is_silent(&self) -> bool {
        let socket = self.socket();
        socket.state() == State::Closed && socket.local_endpoint().is_none()
    }

    /// Closes the socket without a word to the peer.
    pub(crate) fn silence(&mut self) {
        let socket = self.socket_mut();
        socket.abort();
        // An aborted socket still owes its RST. Listening forgets the peer, and with it the RST and the buffers' contents.
        if socket.listen(1).is_ok() {
            socket.abort();
        }
    }

    /// A segment had to be repeated: from now on the connection is under congestion control whatever its buffer.
    pub(crate) fn slow_down(&mut self) {
        let socket = self.socket_mut();
        if socket.congestion_control() == CongestionControl::None {
            socket.set_congestion_control(CongestionControl::Reno);
        }
    }

    /// Queues as much of `bytes` as fits and returns how much that was. A peer that has reset or closed takes nothing.
    #[inline]
    pub(crate) fn queue(&mut self, bytes: &[u8]) -> usize {
        let queued = self.socket_mut().send_slice(bytes).unwrap_or(0);
        self.track.queued_end = self.track.queued_end.wrapping_add(queued as u32);
        queued
    }

    /// Queues as much of `bytes` as fits in front of the ring's end, which is cheaper than [`Flow::queue`].
    #[inline]
    pub(crate) fn queue_part(&mut self, bytes: &[u8]) -> usize {
        let queued = self.socket_mut().send(|room| {
            let queued = room.len().min(bytes.len());
            room[..queued].copy_from_slice(&bytes[..queued]);
            (queued, queued)
        });
        let queued = queued.unwrap_or(0);
        self.track.queued_end = self.track.queued_end.wrapping_add(queued as u32);
        queued
    }

    /// Puts the flow, which is that of `slot`, into the list of those that the next egress pass looks at.
    #[inline]
    pub(crate) fn list_dirty(&mut self, slot: u32, dirty: &mut Vec<u32>) {
        if !self.dirty {
            self.dirty = true;
            dirty.push(slot);
        }
    }

    /// Whether we opened it.
    #[inline]
    pub(crate) fn is_server(&self) -> bool {
        matches!(self.role, Role::Server(_))
    }

    /// Whether an acknowledgement alone is due, everything else is at rest and the peer's window stays at least half open.
    #[inline]
    pub(crate) fn owes_bare_ack(&self) -> bool {
        let (track, socket) = (&self.track, self.socket());
        track.acknowledged != track.received_end
            && track.window_shift == 0
            && socket.state() == State::Established
            && socket.send_queue() == 0
            && socket.recv_queue() == 0
            && socket.timestamp_enabled() == track.timestamp_recent.is_some()
            && (socket.recv_capacity() / 2..=usize::from(u16::MAX))
                .contains(&(track.window_left() as usize))
    }

    /// Throws away what nobody will read any more, so that the peer's FIN can arrive behind it.
    pub(crate) fn discard_received(&mut self) {
        let socket = self.socket_mut();
        while socket.recv_queue() > 0 && socket.recv(|bytes| (bytes.len(), ())).is_ok() {}
    }
}

/// smoltcp's choice for a receive buffer: as far as needed for the whole of it to be announced in 16 bits.
fn window_shift(window_bytes: usize) -> u8 {
    (usize::BITS - window_bytes.leading_zeros()).saturating_sub(16) as u8
}

thread_local! {
    /// The clock of TCP timestamps, in ticks of [`crate::limits::TIMESTAMP_TICK_US`]. smoltcp asks a plain function for it, so
    /// it cannot be the stack's own; each turn of a worker's loop sets it. Workers that are threads of one process have turns of
    /// their own: if they shared it, timestamps would go back, and peers drop such segments (RFC 7323, section 5: PAWS).
    static TIMESTAMP: Cell<u32> = const { Cell::new(0) };
}

/// What smoltcp puts into the timestamp option.
pub(crate) const TIMESTAMPS: TcpTimestampGenerator = || TIMESTAMP.get();

pub(crate) fn set_timestamp(ticks: u64) {
    TIMESTAMP.set(ticks as u32);
}

/// All slots of a stack: clients first, servers behind them. Buffers and sockets are one allocation each that lives as long
/// as the process: a worker has one stack, and sockets that borrow from it need no reference counts. Pages of buffers
/// that no connection has touched cost no memory.
pub(crate) fn slab(clients: (usize, usize), servers: (usize, usize)) -> Box<[Flow]> {
    let slots = clients.0 + servers.0;
    let mut storage = Vec::with_capacity(slots);
    storage.resize_with(slots, || SocketStorage::EMPTY);
    let mut storage = storage.leak().chunks_exact_mut(1);
    let mut flows = Vec::with_capacity(slots);
    for ((count, buffer_bytes), role) in [(clients, Role::Client(0)), (servers, Role::Server(0))] {
        let buffers: &'static mut [u8] = vec![0; count * buffer_bytes * 2].leak();
        let mut buffers = buffers.chunks_exact_mut(buffer_bytes);
        for _ in 0..count {
            if let (Some(storage), Some(receive), Some(send)) =
                (storage.next(), buffers.next(), buffers.next())
            {
                flows.push(Flow::new(storage, receive, send, role));
            }
        }
    }
    flows.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_are_threads_do_not_set_each_others_timestamps_back() {
        set_timestamp(200);
        let other = std::thread::spawn(|| {
            set_timestamp(100);
            TIMESTAMPS()
        });
        assert_eq!(other.join().unwrap(), 100);
        assert_eq!(TIMESTAMPS(), 200);
    }
}
