//! The numbers of the poll loop, each with its reason.

use tidegate_port::BURST_MAX;

/// Frames taken from one queue in one turn. Larger bursts delay their first frame, smaller ones spread the cost of a turn
/// over fewer frames.
pub const BURST_FRAMES: usize = BURST_MAX;

/// How long an idle loop spins at full speed before it pauses. The next frame of a closed loop of requests is usually
/// there within this time. Too low: a wake-up of some 10 µs per request; too high: a core burns that others could use.
pub const IDLE_SPIN_US: u64 = 20;

/// How long an idle loop stays awake at all; between [`IDLE_SPIN_US`] and this it gives way to other processes. Falling
/// asleep and waking cost together about a tenth of it, so a loop that sleeps in vain loses little.
pub const IDLE_AWAKE_US: u64 = 100;

/// Frames that are not for TCP, of one turn of the first worker. A burst of every queue seldom brings more than a few of them; what a flood
/// brings beyond is dropped, and those who asked ask again.
pub const OTHERS_MAX: usize = 64;

/// Bytes of those frames: ARP and neighbour discovery take under a hundred each, the largest echo a whole frame.
pub const OTHERS_BYTES_MAX: usize = 64 << 10;

/// What an idle loop sleeps where nothing could wake it: its queues can only be polled. It is what the first request after a pause waits
/// longer, and 20,000 looks a second take a few per cent of a core.
pub const NAP_POLLED_US: u64 = 50;

/// Longest sleep. Bounds how late a lost wake-up is noticed, and keeps the heartbeat well inside the manager's patience.
pub const SLEEP_MAX_US: u64 = 500_000;

/// A capture whose ring has been full for so long has no reader. Twice what a busy disk takes at times.
pub const CAPTURE_PATIENCE_US: u64 = 10_000_000;

/// Most frames that a capture takes at once beyond its rate: as many as fit the ring, since more would be lost there anyway. Fewer: a
/// burst is cut although the second has room for it.
pub const CAPTURE_BURST_FRAMES: u64 = tidegate_port::capture::SLOTS as u64;

/// Replies recently owed from which on the loop waits for fuller bursts. Below it waiting would only add latency: a few
/// clients that wait for their replies send nothing more meanwhile.
pub const LINGER_OWED_MIN: usize = 16;

/// Longest wait for a fuller burst. It is added to the latency of a request, and is a few per cent of what 16 clients see
/// anyway.
pub const LINGER_US: u64 = 40;

/// A burst of this many frames waits no longer: the gain per frame is used up.
pub const LINGER_FRAMES: usize = 32;

/// Longest nap before a look at sockets. A wake-up and its calls towards servers cost as much as three requests: with some ten
/// requests to share that, there is little left to gain, and nobody notices a tenth of a millisecond where so many wait.
pub const NAP_MAX_US: u64 = 100;

/// Shortest nap. Falling asleep and waking take about half of it.
pub const NAP_MIN_US: u64 = 10;

/// The part of the time that a reply takes anyway which a nap may add, as a divisor. Smaller: latency that clients notice. Larger:
/// hardly anything is gathered.
pub const NAP_PART_DIVISOR: u64 = 8;

/// Requests that have to be expected during a nap. Fewer: many replies are owed by somebody slow, and those who are fast would wait
/// for nobody. More: short connections, each of which wakes the worker several times for one request, gather less.
pub const NAP_REQUESTS_MIN: u64 = 1;

/// A turn that takes longer counts as a pause. A turn of a full burst takes a tenth of it; kernels that wait for an
/// acknowledgement send again after some milliseconds.
pub const PAUSE_NS: u64 = 1_000_000;

/// Interval of publishing statistics while busy. `tidegate status` is never older than that; a hundred times a second costs
/// well under a thousandth of the core.
pub const PUBLISH_US: u64 = 10_000;

/// Interval of the heartbeat while there is nothing to publish.
pub const HEARTBEAT_US: u64 = 500_000;

/// Ports of one worker. Two are usual (clients, servers); each costs a look at its ring per turn.
pub const PORTS_MAX: usize = 16;

/// Server blocks written per publication, in rotation: bounds the pause with tens of thousands of servers.
pub const PUBLISH_SERVERS: usize = 256;

/// After a drain owes nothing any more, how long connections may take to close in order before the worker exits anyway.
pub const CLOSE_GRACE_US: u64 = 500_000;

/// Attempts to send the resets at the end of a drain that was not finished. Each fills what room there is: some hundred are enough for as
/// many connections as a worker can have, unless the link is down. Too low: peers wait for their own deadlines.
pub const CUT_OFF_SENDS_MAX: u32 = 10_000;

/// Commands between the control thread and the loop. The manager waits for each acknowledgement, so one would do.
pub const COMMANDS: usize = 16;

/// Events on their way to the log. A burst of failing connections is summed up well enough by its first few.
pub const EVENTS: usize = 256;

const _: () = assert!(IDLE_SPIN_US <= IDLE_AWAKE_US && IDLE_AWAKE_US < SLEEP_MAX_US);
const _: () = assert!(LINGER_FRAMES <= BURST_FRAMES);
const _: () = assert!(NAP_MIN_US > 0 && NAP_MIN_US <= NAP_MAX_US && NAP_PART_DIVISOR > 1);
// What is due in so many replies comes within a nap.
const _: () = assert!(LINGER_OWED_MIN as u64 >= NAP_PART_DIVISOR * NAP_REQUESTS_MIN);
const _: () = assert!(PUBLISH_US <= HEARTBEAT_US && SLEEP_MAX_US <= 2 * HEARTBEAT_US);
const _: () = assert!(PUBLISH_SERVERS > 0 && COMMANDS > 1);
