//! What the card must not do to frames before XDP sees them.

use super::{Item, interface, unreadable};
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::{Port, Target};
use crate::host::Host;

/// A feature that has to be off.
struct Unwanted {
    /// The kernel's name.
    name: &'static str,
    /// The word of `ethtool -K`.
    word: &'static str,
    /// What it spoils.
    why: &'static str,
}

const UNWANTED: [Unwanted; 3] = [
    Unwanted {
        name: "rx-lro",
        word: "lro",
        why: "joins frames to one that XDP cannot take: many drivers refuse native mode with it",
    },
    Unwanted {
        name: "rx-gro-hw",
        word: "rx-gro-hw",
        why: "joins frames to one that XDP cannot take: many drivers refuse native mode with it",
    },
    Unwanted {
        name: "rx-vlan-hw-parse",
        word: "rxvlan",
        why: "takes VLAN tags away, so that frames of a VLAN look like those of the interface itself",
    },
];

pub fn inspect(_: &Target, port: &Port, host: &dyn Host) -> Vec<Item> {
    let name = &port.interface;
    let setting = |feature: &Unwanted| Setting::Feature {
        of: interface(port, host),
        name: feature.name.to_owned(),
    };
    let features = match host.features(name) {
        Ok(features) => features,
        Err(error) => return vec![unreadable(&setting(&UNWANTED[0]), host, &error)],
    };
    let mut items = Vec::new();
    let mut off = Vec::new();
    for unwanted in &UNWANTED {
        let Unwanted {
            name: known,
            word,
            why,
        } = unwanted;
        let found = features.iter().find(|feature| feature.name == *known);
        let Some(feature) = found.filter(|feature| feature.active) else {
            off.push(*known);
            continue;
        };
        items.push(if feature.changeable {
            Item::Wrong {
                what: format!("{name}: {known} is on: it {why}"),
                by_hand: format!("ethtool -K {name} {word} off"),
                change: Some(Change::new(
                    setting(unwanted),
                    Value::Switch(feature.wanted),
                    Value::Switch(false),
                )),
            }
        } else {
            Item::Nothing(format!(
                "{name}: {known} is on and its driver keeps it so (it {why})"
            ))
        });
    }
    if !off.is_empty() {
        items.insert(0, Item::Fine(format!("{name}: off: {}", off.join(", "))));
    }
    items
}
