//! What can be changed about an interface: channels, rings, features (offloads).
//!
//! Questions need no privilege; each change needs `CAP_NET_ADMIN`. Everything is of the network namespace of the calling thread.

use super::Rss;
use super::ioctl::Query;
use serde::{Deserialize, Serialize};
use std::io;

/// Numbers of channels by kind. A combined channel is a receive queue and a transmit queue that share an interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Receive queues alone.
    pub rx: u32,
    /// Transmit queues alone.
    pub tx: u32,
    /// For neither, such as link events.
    pub other: u32,
    /// Both.
    pub combined: u32,
}

/// Channels of an interface (`ethtool -l`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// At most.
    pub max: Counts,
    /// In use.
    pub now: Counts,
}

impl Channels {
    /// Receive queues in use and at most; `None`: the driver does not say.
    pub fn rx_queues(&self) -> Option<(u32, u32)> {
        let of = |counts: &Counts| counts.rx.saturating_add(counts.combined);
        let (now, max) = (of(&self.now), of(&self.max));
        (now > 0).then_some((now, max.max(now)))
    }
}

/// Descriptors of the rings that the driver shares with the card. Those of AF_XDP sockets are others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingSizes {
    /// Receive.
    pub rx: u32,
    /// Receive, small frames; few cards have it.
    pub rx_mini: u32,
    /// Receive, large frames; few cards have it.
    pub rx_jumbo: u32,
    /// Transmit.
    pub tx: u32,
}

/// Rings of an interface (`ethtool -g`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// At most.
    pub max: RingSizes,
    /// In use.
    pub now: RingSizes,
}

/// Something that the card or the driver can do for the kernel (`ethtool -k`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The kernel's name, such as `rx-lro`.
    pub name: String,
    /// Can be switched.
    pub changeable: bool,
    /// Asked for.
    pub wanted: bool,
    /// In effect.
    pub active: bool,
}

fn query(interface: &str) -> io::Result<Query> {
    Query::new(interface)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Channels; `None`: the driver has none.
pub fn channels(interface: &str) -> io::Result<Option<Channels>> {
    query(interface)?.channels()
}

/// Changes the numbers of channels. Most drivers stop and start the interface for it.
pub fn set_channels(interface: &str, to: Counts) -> io::Result<()> {
    query(interface)?.set_channels(to)
}

/// Rings; `None`: the driver has none.
pub fn rings(interface: &str) -> io::Result<Option<Rings>> {
    query(interface)?.rings()
}

/// Changes the sizes of rings. Most drivers stop and start the interface for it.
pub fn set_rings(interface: &str, to: RingSizes) -> io::Result<()> {
    query(interface)?.set_rings(to)
}

/// Every feature that the kernel knows.
pub fn features(interface: &str) -> io::Result<Vec<Feature>> {
    query(interface)?.features()
}

/// Switches one feature.
pub fn set_feature(interface: &str, feature: &str, wanted: bool) -> io::Result<()> {
    query(interface)?.set_feature(feature, wanted)
}

/// Receive side scaling; `None`: the driver does not tell.
pub fn rss(interface: &str) -> Option<Rss> {
    query(interface).ok()?.rss()
}

/// Changes key and indirection table, which have to be as long as they are.
pub fn set_rss(interface: &str, to: &Rss) -> io::Result<()> {
    query(interface)?.set_rss(to)
}

/// The index of an interface of this namespace.
pub fn index(interface: &str) -> io::Result<u32> {
    query(interface)?.index()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nic::RssFunction;
    use crate::test_lab::Lab;

    fn rss_of(queues: u32) -> Rss {
        Rss {
            function: RssFunction::Toeplitz,
            key: vec![7; 41],
            indirection: (0..queues).collect(),
        }
    }

    fn feature(name: &str) -> Feature {
        let all = features("tg0").unwrap();
        all.into_iter()
            .find(|feature| feature.name == name)
            .unwrap()
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error_everywhere() {
        for name in ["tg-nowhere0", "a-name-that-is-longer-than-15", ""] {
            let errors = [
                channels(name).map(drop),
                rings(name).map(drop),
                features(name).map(drop),
                index(name).map(drop),
                set_feature(name, "rx-gro", true),
                set_rss(name, &rss_of(2)),
            ];
            for outcome in errors {
                assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::ENODEV));
            }
        }
    }

    #[test]
    fn loopback_has_neither_channels_nor_rings_but_features() {
        assert_eq!(channels("lo").unwrap(), None);
        assert_eq!(rings("lo").unwrap(), None);
        let all = features("lo").unwrap();
        let loopback = all.iter().find(|feature| feature.name == "loopback");
        assert!(loopback.is_some_and(|feature| feature.active && !feature.changeable));
    }

    #[test]
    fn channels_are_changed_and_changed_back() {
        let Some(lab) = Lab::new() else { return };
        lab.appliance.run(|| {
            let before = channels("tg0").unwrap().unwrap();
            assert_eq!(before.rx_queues(), Some((2, 2)));
            set_channels(
                "tg0",
                Counts {
                    rx: 1,
                    ..before.now
                },
            )
            .unwrap();
            assert_eq!(channels("tg0").unwrap().unwrap().now.rx, 1);
            set_channels("tg0", before.now).unwrap();
            assert_eq!(channels("tg0").unwrap().unwrap(), before);
            let too_many = Counts {
                rx: 3,
                ..before.now
            };
            assert!(set_channels("tg0", too_many).is_err());
        });
    }

    #[test]
    fn features_are_switched_and_what_cannot_be_switched_says_so() {
        let Some(lab) = Lab::new() else { return };
        lab.appliance.run(|| {
            let before = feature("rx-gro");
            assert!(before.changeable);
            set_feature("tg0", "rx-gro", !before.active).unwrap();
            assert_eq!(feature("rx-gro").active, !before.active);
            set_feature("tg0", "rx-gro", before.active).unwrap();
            assert_eq!(feature("rx-gro"), before);
            for fixed in ["rx-fcs", "no-such-feature"] {
                let error = set_feature("tg0", fixed, true).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{fixed}");
            }
        });
    }

    #[test]
    fn a_driver_that_spreads_nothing_takes_no_table() {
        let Some(lab) = Lab::new() else { return };
        lab.appliance.run(|| {
            assert_eq!(rss("tg0"), None);
            let error = set_rss("tg0", &rss_of(2)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        });
    }

    #[test]
    fn a_driver_without_rings_refuses_to_change_them() {
        let Some(lab) = Lab::new() else { return };
        lab.appliance.run(|| {
            assert_eq!(rings("tg0").unwrap(), None);
            let error = set_rings("tg0", RingSizes::default()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        });
    }
}
