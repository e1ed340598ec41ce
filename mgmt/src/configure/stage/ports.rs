//! The workers' source ports are kept from the kernel: a connection of its own from one of them would lose its frames to us.
//!
//! A running instance reserves them itself, and gives them back when it ends. Reserved here they are nobody's before it starts
//! and between two starts either.

use super::{Item, unreadable};
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::Target;
use crate::host::{Host, numbers};
use tidegate_dataplane::affinity::core_list;

pub fn inspect(target: &Target, host: &dyn Host) -> Vec<Item> {
    let Some((first, last)) = target.source_ports else {
        return vec![Item::Nothing(
            "only ports with driver = \"afxdp\" share their addresses with the kernel".into(),
        )];
    };
    let setting = Setting::Ports;
    let now = match setting.get(host) {
        Ok(Some(Value::Set(now))) => now,
        Ok(_) => {
            return vec![Item::Unknown(
                "the kernel has no list of reserved ports".into(),
            )];
        }
        Err(error) => return vec![unreadable(&setting, host, &error)],
    };
    let mut wanted = numbers(&now);
    let before = wanted.len();
    wanted.extend(u32::from(first)..=u32::from(last));
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.len() == before {
        return vec![Item::Fine(format!(
            "source_ports {first}-{last} are reserved"
        ))];
    }
    let wanted = core_list(&wanted);
    vec![Item::Wrong {
        what: format!("source_ports {first}-{last} are not reserved while no instance runs"),
        by_hand: format!("sysctl net.ipv4.ip_local_reserved_ports={wanted}"),
        change: Some(Change::new(setting, Value::Set(now), Value::Set(wanted))),
    }]
}
