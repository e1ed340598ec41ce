//! Notices an interface whose frames never meet the steering program.
//!
//! There are drivers that take a program and go round it, without a word: the kernel then answers in our place, with resets. Each frame
//! that meets the program is counted by it, whatever it decides. So an interface that goes on receiving while the program counts
//! nothing says it.

use std::time::{Duration, Instant};

/// Where the kernel counts what interfaces receive. Of this thread's namespace, as no file of sysfs is for certain.
const DEVICES: &str = "/proc/thread-self/net/dev";
/// How often it is looked at. One look costs a read of a small file and of a map.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Frames that the program has to miss within [`WINDOW`]. A few are not proof: there are cards that keep frames for themselves, such as
/// LLDP's, and count them. With clients there are so many at once.
const FRAMES_MIN: u64 = 16;
const WINDOW: Duration = Duration::from_mins(1);

/// What is known of one interface.
#[derive(Debug)]
struct Port {
    interface: String,
    /// Frames that the program had counted when it last counted one.
    seen: u64,
    /// Frames that the interface had received then, or at a later time.
    from: u64,
    from_at: Instant,
    /// Frames that the interface had received when it was looked at last.
    received: u64,
    missed: Option<u64>,
}

/// What a look brought to light.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Bypassed,
    SeenAgain,
}

impl Port {
    /// `received` by the interface, `seen` by the program.
    fn look(&mut self, received: u64, seen: u64, now: Instant) -> Option<Change> {
        // What was received before the last look has had the time to reach the program.
        let settled = std::mem::replace(&mut self.received, received);
        if seen != self.seen || received < settled {
            (self.seen, self.from, self.from_at) = (seen, received, now);
            return self.missed.take().map(|_| Change::SeenAgain);
        }
        let missed = settled.saturating_sub(self.from);
        if missed < FRAMES_MIN {
            if now.saturating_duration_since(self.from_at) > WINDOW {
                (self.from, self.from_at) = (received, now);
            }
            return None;
        }
        let known = self.missed.replace(missed).is_some();
        (!known).then_some(Change::Bypassed)
    }
}

/// Looks at every interface from time to time.
#[derive(Debug)]
pub struct Watch {
    ports: Vec<Port>,
    at: Instant,
}

impl Watch {
    /// Begins with the next look.
    pub fn new<'a>(interfaces: impl Iterator<Item = &'a str>, now: Instant) -> Self {
        let port = |interface: &str| Port {
            interface: interface.to_owned(),
            // No program has counted so many: the first look only takes note.
            seen: u64::MAX,
            from: 0,
            from_at: now,
            received: 0,
            missed: None,
        };
        Self {
            ports: interfaces.map(port).collect(),
            at: now,
        }
    }

    /// When there is something to do.
    pub fn due(&self) -> Instant {
        self.at
    }

    /// Looks if it is time. `seen` tells of a port how many frames its program has counted.
    pub fn look_if_due(&mut self, now: Instant, seen: impl Fn(usize) -> Option<u64>) {
        if now < self.at {
            return;
        }
        self.at = now + LOOK_INTERVAL;
        // Before the program's counts: a frame in between is one that the program has seen.
        let Ok(devices) = std::fs::read_to_string(DEVICES) else {
            return;
        };
        for (index, port) in self.ports.iter_mut().enumerate() {
            let received = received(&devices, &port.interface);
            let (Some(received), Some(seen)) = (received, seen(index)) else {
                continue;
            };
            let change = port.look(received, seen, now);
            let name = &port.interface;
            match change {
                Some(Change::Bypassed) => tracing::error!(
                    "{name}: {} frames arrived and the steering program saw none of them: the driver goes round it, and the kernel \
                     answers in Tidegate's place; `tidegate doctor` may say why",
                    port.missed.unwrap_or_default()
                ),
                Some(Change::SeenAgain) => {
                    tracing::info!("{name}: the steering program sees frames again");
                }
                None => {}
            }
        }
    }

    /// Frames that went round the program of a port; `None`: it is not known to be so.
    pub fn missed(&self, port: usize) -> Option<u64> {
        self.ports.get(port)?.missed
    }
}

/// Frames that an interface has received: the second number of its line.
fn received(devices: &str, interface: &str) -> Option<u64> {
    let mut lines = devices.lines();
    let counts = lines.find_map(|line| {
        let rest = line.trim_start().strip_prefix(interface)?;
        rest.strip_prefix(':')
    })?;
    counts.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:   10820     102    0    0    0     0          0         0    10820     102    0    0    0     0       0          0
  eth1:18446744073709551615 18446744073709551615 0 0 0 0 0 0 7 3 0 0 0 0 0 0
 eth10: 500 5 0 0 0 0 0 0 7 3 0 0 0 0 0 0
";

    #[test]
    fn the_frames_of_an_interface_are_found_by_its_whole_name() {
        assert_eq!(received(TEXT, "lo"), Some(102));
        assert_eq!(received(TEXT, "eth10"), Some(5));
        assert_eq!(received(TEXT, "eth1"), Some(u64::MAX));
        assert_eq!(received(TEXT, "eth"), None);
        assert_eq!(received("eth1: 5", "eth1"), None);
        assert_eq!(received("eth1: x y", "eth1"), None);
    }

    /// Looks at one interface, a step apart.
    struct Looks(Port, Instant);

    impl Looks {
        fn new() -> Self {
            let now = Instant::now();
            let mut watch = Watch::new(["eth1"].into_iter(), now);
            Self(watch.ports.remove(0), now)
        }

        fn look(&mut self, received: u64, seen: u64) -> Option<Change> {
            self.1 += LOOK_INTERVAL;
            self.0.look(received, seen, self.1)
        }
    }

    #[test]
    fn an_interface_that_receives_past_the_program_is_noticed_once_and_forgotten_when_it_ends() {
        let mut port = Looks::new();
        assert_eq!(port.look(1_000, 0), None, "what was before does not count");
        assert_eq!(port.look(1_100, 0), None, "they may be on their way");
        assert_eq!(port.look(1_100, 0), Some(Change::Bypassed));
        assert_eq!(port.0.missed, Some(100));
        assert_eq!(port.look(1_300, 0), None);
        assert_eq!(port.look(1_300, 0), None);
        assert_eq!(port.0.missed, Some(300));
        assert_eq!(port.look(1_301, 1), Some(Change::SeenAgain));
        assert_eq!(port.0.missed, None);
    }

    #[test]
    fn what_a_card_keeps_for_itself_on_an_idle_link_is_no_proof() {
        let mut port = Looks::new();
        // One frame in ten seconds, for a day.
        for look in 0..17_280 {
            assert_eq!(port.look(look / 2, 5), None);
        }
        let changes = (0..20).filter_map(|look| port.look(8_640 + look * 2, 5));
        assert_eq!(changes.collect::<Vec<_>>(), [Change::Bypassed]);
    }

    #[test]
    fn a_program_that_counts_has_missed_nothing() {
        let mut port = Looks::new();
        for look in 0..100 {
            assert_eq!(port.look(look * 1_000, look), None);
        }
        assert_eq!(port.look(7, 99), None, "the driver counts from zero again");
        assert_eq!(port.look(7, 99), None);
    }

    #[test]
    fn a_look_is_taken_when_it_is_due() {
        let now = Instant::now();
        let mut watch = Watch::new(["tg-nowhere0", "lo"].into_iter(), now);
        watch.look_if_due(now, |_| Some(0));
        assert_eq!(watch.due(), now + LOOK_INTERVAL);
        watch.look_if_due(now, |_| panic!("it is not due"));
        assert_eq!((watch.missed(0), watch.missed(2)), (None, None));
    }
}
