//! One flow as smoltcp's device.
//!
//! smoltcp reads the received packet in place and writes its answer in place into the transmit ring, behind the flow's
//! Ethernet header. On the way out [`Track`] notes what left.

use crate::checksum;
use crate::frame::{ACK, ETHERNET_HEADER_BYTES, FIN, RST, SYN, be16, be32};
use crate::limits::MTU_BYTES_MAX;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::TcpOption;
use tidegate_channel::counters::StackCounters;
use tidegate_port::TxQueue;
use tidegate_proxy::mutants::{self, Mutant};

/// What is known of a flow's segments in both directions. smoltcp keeps these numbers to itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Track {
    /// The sequence number behind the highest byte sent.
    pub(crate) sent_end: u32,
    /// The sequence number behind the last byte queued, once the connection is open.
    pub(crate) queued_end: u32,
    /// The last acknowledgement number sent.
    pub(crate) acknowledged: u32,
    /// The last window sent, as in the header.
    pub(crate) window: u16,
    /// How far the window is shifted: ours, if the peer scales windows too.
    pub(crate) window_shift: u8,
    /// The timestamp echo sent last.
    pub(crate) timestamp_echo: u32,
    /// The timestamp of the last segment that brought something new; `None`: it had none, or not where it is looked for.
    pub(crate) timestamp_recent: Option<u32>,
    /// When that segment came.
    pub(crate) timestamp_at_us: u64,
    /// RCV.NXT: the sequence number behind what was received without a gap.
    pub(crate) received_end: u32,
    /// Something was sent.
    pub(crate) started: bool,
    /// A segment other than a SYN was sent: from then on our windows are scaled.
    pub(crate) scaled: bool,
    /// The peer's last window, as in the header. A byte sent while it is 0 is a probe.
    pub(crate) peer_window: u16,
    /// A segment was sent again since this was last cleared.
    pub(crate) repeated: bool,
}

/// RFC 7323, section 2.3: a window is less than 2**30 bytes, and no byte that is expected or was received lies farther away.
const NEAR: u32 = 1 << 30;
const PROBE_BYTES: u32 = 1;
const TCP_HEADER_BYTES: usize = 20;
/// Offsets of the sequence number, of the flags and of the window in a TCP header.
const FLAGS_AT: usize = 13;
const SEQUENCE_AT: usize = 4;
pub(crate) const WINDOW_AT: usize = 14;

impl Track {
    /// Notes the TCP segment in `packet`, which smoltcp has just written.
    #[inline]
    fn note(&mut self, packet: &mut [u8], tcp_at: usize, counters: &mut StackCounters) {
        let Some((header, rest)) = packet
            .get_mut(tcp_at..)
            .and_then(<[u8]>::split_first_chunk_mut::<20>)
        else {
            return;
        };
        let options_bytes = usize::from(header[12] >> 4) * 4 - 20;
        let payload_bytes = (rest.len() - options_bytes) as u32;
        let (sequence, flags) = (be32(header, 4), header[13]);
        counters.segments_sent += 1;
        if flags & RST != 0 {
            if flags & ACK != 0 && self.started && is_before(sequence, self.sent_end) {
                self.reset_at_end(header);
            }
            return;
        }
        if self.peer_window == 0 && payload_bytes == PROBE_BYTES && self.started {
            self.repeated = true;
            self.announce_again(header);
            return;
        }
        self.acknowledged = be32(header, 8);
        self.window = be16(header, 14);
        self.scaled |= flags & SYN == 0;
        // Timestamps are the only option beside SACK blocks that we send outside of a SYN: kind 8, 10 bytes long.
        if let [8, 10, _, _, _, _, a, b, c, d, ..] = *rest {
            self.timestamp_echo = u32::from_be_bytes([a, b, c, d]);
        }
        let length = payload_bytes + u32::from(flags & (SYN | FIN) != 0);
        if length == 0 {
            counters.acks_alone += u64::from(flags & ACK != 0);
            return;
        }
        let end = sequence.wrapping_add(length);
        if self.started && is_before(sequence, self.sent_end) {
            self.repeated = true;
            counters.retransmits += 1;
        }
        if !self.started || is_before(self.sent_end, end) {
            self.sent_end = end;
        }
        self.started = true;
    }

    /// Puts the window that the peer knows into a probe of its own, which `header` begins. smoltcp announces all that is free there and
    /// forgets it: it would cut what the peer then sends, and take a FIN behind it as if nothing was missing.
    #[cold]
    fn announce_again(&self, header: &mut [u8; TCP_HEADER_BYTES]) {
        let shift = if self.scaled { self.window_shift } else { 0 };
        let window = (self.window_left() >> shift) as u16;
        header[WINDOW_AT..WINDOW_AT + 2].copy_from_slice(&window.to_be_bytes());
    }

    /// Puts the number behind all that was sent into a RST of ours. RFC 9293, section 3.10.5: "Send a reset segment:
    /// <SEQ=SND.NXT><CTL=RST>". smoltcp takes the number behind what it has sent again: a peer that has received more ignores such a
    /// RST, and waits for ever. A window that was closed over bytes on their way does not reach so far.
    #[cold]
    fn reset_at_end(&self, header: &mut [u8; TCP_HEADER_BYTES]) {
        if self.peer_window == 0 {
            return;
        }
        header[SEQUENCE_AT..SEQUENCE_AT + 4].copy_from_slice(&self.sent_end.to_be_bytes());
    }

    /// Whether everything queued was sent, and nothing is being sent again.
    #[inline]
    pub(crate) fn rests(&self) -> bool {
        self.sent_end == self.queued_end && !self.repeated
    }

    /// The sequence number behind the last byte that the peer may send.
    #[inline]
    pub(crate) fn window_end(&self) -> u32 {
        let shift = if self.scaled { self.window_shift } else { 0 };
        self.acknowledged
            .wrapping_add(u32::from(self.window) << shift)
    }
}

impl Track {
    /// Bytes between what was received and the right edge of the window that the peer knows. A FIN takes a number and no room: behind
    /// a window that it filled, less than nothing is left until the next acknowledgement.
    #[inline]
    pub(crate) fn window_left(&self) -> u32 {
        let left = self.window_end().wrapping_sub(self.received_end);
        (left as i32).max(0) as u32
    }

    /// Whether a sequence number is so far from what was received that it could be before it as well as behind it, where numbers wrap.
    #[inline]
    pub(crate) fn is_far(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.received_end).wrapping_add(NEAR) > 2 * NEAR
    }
}

/// RFC 9293, section 3.4: sequence numbers are compared modulo 2**32.
#[inline]
pub(crate) fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// What smoltcp is told about a port. Checksums are no business of its: received ones were verified before, sent ones are
/// computed here.
pub(crate) fn capabilities(mtu_bytes: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu_bytes;
    capabilities.checksum = ChecksumCapabilities::ignored();
    capabilities
}

/// The device of one call into smoltcp.
pub(crate) struct FlowDevice<'a, T> {
    /// The IP packet to receive.
    pub(crate) received: Option<&'a [u8]>,
    pub(crate) tx: &'a mut T,
    pub(crate) link: &'a [u8; ETHERNET_HEADER_BYTES],
    pub(crate) track: &'a mut Track,
    pub(crate) counters: &'a mut StackCounters,
    pub(crate) mtu_bytes: usize,
    /// The packet came by another port than the flow's: an answer would leave by the wrong one, and is dropped.
    pub(crate) is_astray: bool,
    /// Whether an answer found no room, or no port, and was dropped.
    pub(crate) overflowed: &'a mut bool,
}

pub(crate) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

pub(crate) struct Transmit<'a, T> {
    tx: &'a mut T,
    link: &'a [u8; ETHERNET_HEADER_BYTES],
    track: &'a mut Track,
    counters: &'a mut StackCounters,
    is_astray: bool,
    overflowed: Option<&'a mut bool>,
}

impl<T: TxQueue> TxToken for Transmit<'_, T> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, write: F) -> R {
        if let Some(overflowed) = self.overflowed
            && (self.is_astray || self.tx.room() == 0)
        {
            *overflowed = true;
            return discard(bytes, write);
        }
        checksum::push_sealed(self.tx, bytes, |link, packet| {
            *link = *self.link;
            let result = write(packet);
            // smoltcp writes no IPv4 options.
            let tcp_at = if packet[0] >> 4 == 4 { 20 } else { 40 };
            if packet[tcp_at + FLAGS_AT] & (SYN | ACK) == SYN {
                clear_echo(&mut packet[tcp_at..]);
            }
            let before = self.counters.retransmits;
            self.track.note(packet, tcp_at, self.counters);
            if mutants::has(Mutant::DropsRetransmits) && self.counters.retransmits > before {
                // No header of TCP is that short: the peer drops it.
                packet[tcp_at + 12] &= 0x0f;
            }
            (tcp_at, result)
        })
    }
}

/// RFC 7323, section 3.2: "If the ACK bit is not set in the outgoing TCP header, the sender of that segment SHOULD set the
/// TSecr field to zero." smoltcp echoes the last timestamp of the connection that had the slot before, of another peer.
#[cold]
fn clear_echo(segment: &mut [u8]) {
    let mut at = TCP_HEADER_BYTES;
    while let Ok((rest, option)) = TcpOption::parse(&segment[at..]) {
        let next = segment.len() - rest.len();
        match option {
            TcpOption::TimeStamp { .. } => return segment[next - 4..next].fill(0),
            TcpOption::EndOfList => return,
            _ => at = next,
        }
    }
}

/// Lets smoltcp write an answer that cannot be sent. The peer repeats what it answers.
#[cold]
fn discard<R>(bytes: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut nowhere = [0; MTU_BYTES_MAX];
    write(&mut nowhere[..bytes])
}

impl<T: TxQueue> Device for FlowDevice<'_, T> {
    type RxToken<'b>
        = Received<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Transmit<'b, T>
    where
        Self: 'b;

    #[inline]
    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Transmit<'_, T>)> {
        let packet = self.received.take()?;
        let answer = Transmit {
            tx: self.tx,
            link: self.link,
            track: self.track,
            counters: self.counters,
            is_astray: self.is_astray,
            overflowed: Some(self.overflowed),
        };
        Some((Received(packet), answer))
    }

    #[inline]
    fn transmit(&mut self, _now: Instant) -> Option<Transmit<'_, T>> {
        if self.tx.room() == 0 {
            *self.overflowed = true;
            return None;
        }
        let Self {
            tx,
            link,
            track,
            counters,
            ..
        } = self;
        Some(Transmit {
            tx,
            link,
            track,
            counters,
            is_astray: false,
            overflowed: None,
        })
    }

    #[inline]
    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu_bytes)
    }
}
