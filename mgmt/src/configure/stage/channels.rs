//! Channels: one queue per worker. With `queues = "auto"` there are as many workers as queues, and only virtio_net needs another number
//! than it has.

use super::{Item, interface, unreadable};
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::{Port, Target};
use crate::host::Host;
use tidegate_port::nic::settings::{Channels, Counts};

pub fn inspect(target: &Target, port: &Port, host: &dyn Host) -> Vec<Item> {
    let name = &port.interface;
    let setting = Setting::Channels(interface(port, host));
    let channels = match host.channels(name) {
        Ok(Some(channels)) => channels,
        Ok(None) => {
            return vec![Item::Nothing(format!(
                "{name}: its driver has a fixed number of queues"
            ))];
        }
        Err(error) => return vec![unreadable(&setting, host, &error)],
    };
    let (now, max) = channels.rx_queues().unwrap_or_default();
    let Some(workers) = target.workers.or(port.queues) else {
        return vec![Item::Fine(format!(
            "{name}: {now} of {max} queues, and queues = \"auto\" takes what is there"
        ))];
    };
    vec![match wanted(&channels, workers) {
        Some(counts) if counts == channels.now => {
            Item::Fine(format!("{name}: {now} queues for {workers} workers"))
        }
        Some(counts) => Item::Wrong {
            what: format!("{name}: {now} queues for {workers} workers"),
            by_hand: format!("ethtool -L {name} {}", words(&counts)),
            change: Some(Change::new(
                setting,
                Value::Channels(channels.now),
                Value::Channels(counts),
            )),
        },
        None => Item::Wrong {
            what: format!("{name}: at most {max} queues, and there are {workers} workers"),
            by_hand: format!("map at most {max} queues: queues = {{ … }}"),
            change: None,
        },
    }]
}

/// Channels with exactly `workers` receive queues, each with a transmit queue of its own. `None`: the card has not so many.
fn wanted(channels: &Channels, workers: u32) -> Option<Counts> {
    let Channels { max, now } = *channels;
    if max.combined > 0 {
        return (max.combined >= workers).then_some(Counts {
            rx: 0,
            tx: 0,
            combined: workers,
            ..now
        });
    }
    (max.rx >= workers && max.tx >= workers).then(|| Counts {
        rx: workers,
        tx: now.tx.max(workers),
        ..now
    })
}

fn words(counts: &Counts) -> String {
    match counts.combined {
        0 => format!("rx {} tx {}", counts.rx, counts.tx),
        combined => format!("combined {combined}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_queues_come_in_pairs_and_combined_ones_alone() {
        let counts = |rx, tx, combined| Counts {
            rx,
            tx,
            combined,
            other: 1,
        };
        let separate = Channels {
            max: counts(4, 4, 0),
            now: counts(1, 1, 0),
        };
        assert_eq!(wanted(&separate, 2), Some(counts(2, 2, 0)));
        assert_eq!(wanted(&separate, 5), None);
        let more_to_send = Channels {
            now: counts(4, 4, 0),
            ..separate
        };
        assert_eq!(wanted(&more_to_send, 2), Some(counts(2, 4, 0)));
        let either = Channels {
            max: counts(4, 4, 8),
            now: counts(2, 2, 0),
        };
        assert_eq!(wanted(&either, 8), Some(counts(0, 0, 8)));
        assert_eq!(wanted(&either, 9), None);
    }
}
