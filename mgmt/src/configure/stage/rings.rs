//! The rings that the driver shares with the card. What arrives while nobody looks waits in them, or is lost.

use super::{Item, interface, unreadable};
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::{Port, Target};
use crate::host::Host;
use tidegate_port::nic::settings::RingSizes;

pub fn inspect(_: &Target, port: &Port, host: &dyn Host) -> Vec<Item> {
    let name = &port.interface;
    let setting = Setting::Rings(interface(port, host));
    let rings = match host.rings(name) {
        Ok(Some(rings)) => rings,
        Ok(None) => {
            return vec![Item::Nothing(format!(
                "{name}: its driver has no rings to set"
            ))];
        }
        Err(error) => return vec![unreadable(&setting, host, &error)],
    };
    let (now, max) = (rings.now, rings.max);
    let wanted = RingSizes {
        rx: wanted(now.rx, max.rx, port.ring_size),
        tx: wanted(now.tx, max.tx, port.ring_size),
        ..now
    };
    if wanted == now {
        return vec![Item::Fine(format!(
            "{name}: rings of {} to receive and {} to send",
            now.rx, now.tx
        ))];
    }
    vec![Item::Wrong {
        what: format!(
            "{name}: rings of {} to receive and {} to send; ring_size = {} and the card allow {} and {}",
            now.rx, now.tx, port.ring_size, wanted.rx, wanted.tx
        ),
        by_hand: format!("ethtool -G {name} rx {} tx {}", wanted.rx, wanted.tx),
        change: Some(Change::new(
            setting,
            Value::Rings(now),
            Value::Rings(wanted),
        )),
    }]
}

/// As much as the sockets' own rings have, as far as the card goes. Some drivers want a power of two for zero copy. One that is
/// larger already stays.
fn wanted(now: u32, max: u32, ring_size: u32) -> u32 {
    match max.min(ring_size).checked_ilog2() {
        Some(log) => now.max(1 << log),
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_grows_to_a_power_of_two_and_never_shrinks() {
        assert_eq!(wanted(512, 8_160, 8_192), 4_096);
        assert_eq!(wanted(512, 4_096, 2_048), 2_048);
        assert_eq!(wanted(4_096, 4_096, 2_048), 4_096);
        assert_eq!(wanted(0, 0, 8_192), 0);
    }
}
