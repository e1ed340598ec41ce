//! Every bound and every deadline of the link layer, with its reason.

/// Next hops of all ports together. Segments of a data centre have some hundreds of stations, and Linux keeps 1,024 by default.
/// More would make asking for all of them a burden on everybody in the segment; with fewer, servers would be left out.
pub const WANTED_MAX: usize = 4_096;

/// Time between the first solicitations for a next hop, and between probes. RFC 4861, section 10: RETRANS_TIMER. It is also
/// the shortest time between any two that ask one neighbour, whatever strangers claim meanwhile.
pub const ASK_INTERVAL_US: u64 = 1_000_000;

/// Solicitations at that pace. A server that restarts or a link that comes up is back within a few seconds; after that it is
/// down, and asking less often is kinder.
pub const ASKS_FAST: u32 = 5;

/// The longest pause between solicitations for a next hop that does not answer; they double up to here. A server that is
/// back, and does not announce itself, is found within 8 s. Longer would keep it out of its pool for as long; shorter
/// would have a rack that is down cause several broadcasts a second for each of its servers.
pub const ASK_PAUSE_US_MAX: u64 = 8_000_000;

/// How long a next hop counts as reachable after it answered. RFC 4861, section 10: REACHABLE_TIME. Traffic that would
/// confirm it is not known here, so each next hop costs one small frame and its answer in this time.
pub const REACHABLE_US: u64 = 30_000_000;

/// Unicast probes, one every [`ASK_INTERVAL_US`], after which a next hop is lost. RFC 4861, section 10: MAX_UNICAST_SOLICIT.
pub const PROBES_MAX: u32 = 3;

/// Solicitations and announcements that leave a port at once. With thousands of next hops the first turn would otherwise fill
/// the TX ring and the segment.
pub const ASKS_AT_ONCE: usize = 32;

/// The pause after [`ASKS_AT_ONCE`]: 640 a second at most.
pub const ASKS_PAUSE_US: u64 = 50_000;

/// When to try again after the TX ring was full. It drains within microseconds; if it does not, trying sooner does not help.
pub const TX_RETRY_US: u64 = 10_000;

/// Announcements of each address at the start. RFC 5227, section 1.1: ANNOUNCE_NUM. The second is for neighbours that lost the
/// first, or whose switch port was not forwarding yet.
pub const ANNOUNCEMENTS: u8 = 2;

/// Probes of each address at the start, each right before an announcement. RFC 5227, section 1.1, has three, and waits for answers
/// before it goes on, which we do not: what is found out is told.
pub const PROBES: u8 = ANNOUNCEMENTS;

/// Time between announcements. RFC 5227, section 1.1: ANNOUNCE_INTERVAL. RFC 4861, section 7.2.6, wants 1 s or more.
pub const ANNOUNCE_INTERVAL_US: u64 = 2_000_000;

/// The shortest time between two defences of an address, and between two reports of a conflict over it. RFC 5227, section 1.1:
/// DEFEND_INTERVAL. Two hosts that both defend theirs without it would fill the network.
pub const DEFEND_INTERVAL_US: u64 = 10_000_000;

/// Echo requests answered per second, all ports together. Monitoring needs a few; a flood must not take the core from the
/// requests it serves: an answer costs about a microsecond, so this many cost a thousandth of it.
pub const ECHOES_PER_SECOND: u32 = 1_000;

/// Time to live of what we answer.
pub const TTL: u8 = 64;

const _: () = assert!(
    WANTED_MAX as u64 * ASKS_PAUSE_US <= ASKS_AT_ONCE as u64 * ASK_PAUSE_US_MAX,
    "every next hop must get its turn, even when none answers"
);
const _: () = assert!(
    ASK_INTERVAL_US * (PROBES_MAX as u64) < REACHABLE_US,
    "probing must end before the next would begin"
);
const _: () = assert!(
    ANNOUNCE_INTERVAL_US >= ASK_INTERVAL_US,
    "RFC 4861 wants a second between unsolicited advertisements"
);
