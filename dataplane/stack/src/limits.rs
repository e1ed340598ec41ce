//! Every bound and every deadline of the stack that is not configuration, with its reason.

/// How long a client may take to answer our SYN-ACK. smoltcp repeats it after 1 s, so the client hears it twice; longer
/// only helps whoever floods the table.
pub const HALF_OPEN_US: u64 = 3_000_000;

/// For how long a handshake does not give way to a newer one where every slot is taken: an honest client answers within a round trip.
/// Longer only helps whoever floods a table as small as its bound for handshakes.
pub const HALF_OPEN_SPARED_US: u64 = 100_000;

/// How long a server may take to answer our SYN. It is sent at 0 s, 1 s and 3 s; a cache that has not answered by then is
/// down for its clients, whose own timeouts are shorter.
pub const CONNECT_US: u64 = 4_000_000;

/// How long a closing connection may go without progress (FIN-WAIT-1, FIN-WAIT-2, CLOSING, LAST-ACK). RFC 9293 gives
/// FIN-WAIT-2 no timer at all, which would let a client that never closes keep its slot for ever.
pub const CLOSE_US: u64 = 10_000_000;

/// How long retransmissions may go unanswered. They leave 1, 3, 7 and 15 s after the data, counted here from the first:
/// the fourth gives up. Less would cut connections over a failover of the network, more keeps requests hanging.
pub const UNANSWERED_US: u64 = 13_500_000;

/// The shortest retransmission timeout. RFC 6298, section 2.4: "if it is less than 1 second, then the RTO SHOULD be rounded up
/// to 1 second", which smoltcp does.
pub const RETRANSMISSION_US: u64 = 1_000_000;

/// Servers that wait to be told of as silent. The worker takes all in each turn; one that finds no place will be again.
pub const SILENT_MAX: usize = 64;

/// Time between keep-alive probes once a connection has been silent for its keep-alive interval.
pub const PROBE_INTERVAL_US: u64 = 3_000_000;

/// Keep-alive probes without an answer after which the peer counts as gone: three may be lost, not four.
pub const PROBES_MAX: u8 = 4;

/// Keep-alive probes without an answer after which a server's station is in doubt: one may be lost.
pub const PROBES_DOUBTFUL: u8 = 2;

/// Silence after which a server connection is probed. Shorter than the idle timeouts of firewalls and of servers, so a
/// dead pooled connection is found before a request meets it.
pub const SERVER_KEEPALIVE_US: u64 = 30_000_000;

/// Longest hold of an acknowledgement in `ack = "with-reply"`. A cache answers in tens of microseconds; the 40 ms that a
/// delayed acknowledgement costs a client stay out of reach.
pub const HOLD_US: u64 = 300;

/// Holds under way. At one request per microsecond 300 are; without a place the acknowledgement leaves at once.
pub const HOLDS_MAX: usize = 16_384;

/// Segments that one flow may send in one egress pass. A pass over one flow fits in 64 KiB of buffer two times over, and
/// the next flow waits no longer than 32 frames take on the wire. The rest leaves in the next pass.
pub const SEGMENTS_PER_PASS: usize = 32;

/// RFC 6928, section 2: the initial window may be "min (10*MSS, max (2*MSS, 14600))" bytes. A send buffer within it needs no
/// slow start.
pub const INITIAL_WINDOW_BYTES: usize = 14_600;

/// Challenge acknowledgements per second of one worker, on average: it is from half as many to half as many more, another number each
/// second. RFC 5961, section 7, asks for a throttle: a rebooted client needs one acknowledgement, but a flood of forged SYNs to many
/// connections must not become a flood of ACKs.
pub const CHALLENGES_PER_SECOND: u32 = 1_000;

/// Time between two challenges of one peer. Each end of a connection whose numbers went apart answers the other's answer: without a
/// pause the two would do nothing else. And one client that earns challenges by the thousand would use up what a worker sends to
/// all. Two a second, as Linux has it (`tcp_invalid_ratelimit`), are enough for an honest peer, whose timers wait longer.
pub const CHALLENGE_INTERVAL_US: u64 = 500_000;

/// When the ends of connections that a dead worker left open are probed, counted from the start of its successor. The first time they
/// answer, unless a frame is lost or the end answers such segments only now and then (Linux: twice a second); the last time is as late
/// as a segment is given up on an open connection. Whoever cannot be reached for that long has to ask by itself.
pub const ORPHAN_PROBES_US: [u64; 5] = [0, 600_000, 2_000_000, 6_000_000, 14_000_000];

/// How long the last probe may take to be answered.
pub const ORPHAN_ANSWER_US: u64 = 1_000_000;

/// Connections of a dead worker that are looked at in one egress pass: one burst, so that those who are served meanwhile wait for no more.
pub const ORPHANS_PER_PASS: usize = 64;

/// Source ports tried by one connection attempt. With four workers and half the ports in use eight tries are expected;
/// the bound keeps an exhausted range from costing a burst of work per attempt.
pub const SOURCE_PORT_TRIES: u32 = 4_096;

/// Most slots of one worker: slot numbers are 32 bits, and the flow table has two buckets for each.
pub const SLOTS_MAX: usize = 1 << 24;

/// IPv6's smallest MTU (RFC 8200): a smaller one could not carry its segments.
pub const MTU_BYTES_MIN: usize = 1_280;

/// What one frame can hold at most: the ports' buffers hold 2,048 bytes, the Ethernet header is one of them.
pub const MTU_BYTES_MAX: usize = 2_034;

/// Unit of the TCP timestamps. RFC 7323, section 5.4, wants 1 ms to 1 s per tick; a Linux client reuses a port in TIME-WAIT
/// only once the timestamp has moved on, so shorter ticks let it go on sooner. The price is that a connection may not be silent
/// for more than 59 hours, which keep-alive sees to.
pub const TIMESTAMP_TICK_US: u64 = 100;

/// How long a timestamp of the peer makes older ones outdated. A segment lives for two minutes at most (RFC 9293, section 3.4.2), so
/// what is older needs no protection; and the clock of a peer that ticks every microsecond runs through half of its numbers in 35
/// minutes, after which new timestamps look old.
pub const TIMESTAMP_VALID_US: u64 = 600_000_000;

const _: () = assert!(
    HOLD_US < 40_000,
    "a hold must stay far below a delayed acknowledgement"
);
const _: () = assert!(
    HALF_OPEN_US > 1_000_000,
    "a handshake must survive the loss of one SYN-ACK"
);
const _: () = assert!(
    CONNECT_US > 3_000_000,
    "the third SYN must be able to leave"
);
