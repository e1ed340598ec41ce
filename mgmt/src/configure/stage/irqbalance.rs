//! irqbalance moves interrupts between cores every ten seconds. It is told to leave those of the queues alone.

use super::{Item, no_interface, unreadable};
use crate::configure::interrupts::queues;
use crate::configure::irqbalance::{Daemon, find};
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::Target;
use crate::host::{Host, numbers};
use tidegate_dataplane::affinity::core_list;

pub fn inspect(target: &Target, host: &dyn Host) -> Vec<Item> {
    if target.ports.is_empty() {
        return vec![no_interface()];
    }
    let ours = of_queues(target, host);
    if ours.is_empty() {
        return vec![Item::Nothing("no interrupts to keep from it".into())];
    }
    match find(host) {
        Daemon::Absent => return vec![Item::Nothing("irqbalance does not run".into())],
        Daemon::Mute => {
            return vec![Item::Wrong {
                what: format!(
                    "irqbalance runs and has no socket to be spoken to: it moves interrupts {}",
                    core_list(&ours)
                ),
                by_hand: by_hand(&ours),
                change: None,
            }];
        }
        Daemon::Socket(_) => {}
    }
    let setting = Setting::Bans;
    let now = match setting.get(host) {
        Ok(Some(Value::Set(now))) => now,
        Ok(_) => return vec![Item::Nothing("irqbalance does not run".into())],
        Err(error) => return vec![unreadable(&setting, host, &error)],
    };
    let mut wanted = numbers(&now);
    let mut free = ours.clone();
    free.retain(|number| wanted.binary_search(number).is_err());
    if free.is_empty() {
        return vec![Item::Fine(format!(
            "irqbalance leaves interrupts {} alone",
            core_list(&ours)
        ))];
    }
    wanted.extend(&free);
    wanted.sort_unstable();
    vec![Item::Wrong {
        what: format!("irqbalance moves interrupts {}", core_list(&free)),
        by_hand: by_hand(&ours),
        change: Some(Change::new(
            setting,
            Value::Set(now),
            Value::Set(core_list(&wanted)),
        )),
    }]
}

/// The interrupts of queues whose worker has a core of its own, ascending.
fn of_queues(target: &Target, host: &dyn Host) -> Vec<u32> {
    let ports = target.ports.iter();
    let mut ours: Vec<u32> = ports
        .flat_map(|port| queues(host, &port.interface).unwrap_or_default())
        .filter(|(queue, _)| matches!(target.cores.get(*queue as usize), Some(Some(_))))
        .map(|(_, interrupt)| interrupt.number)
        .collect();
    ours.sort_unstable();
    ours.dedup();
    ours
}

fn by_hand(interrupts: &[u32]) -> String {
    let words: Vec<String> = interrupts
        .iter()
        .map(|number| format!("--banirq={number}"))
        .collect();
    format!(
        "IRQBALANCE_ARGS=\"{}\" in /etc/default/irqbalance (or stop it: systemctl disable --now irqbalance)",
        words.join(" ")
    )
}
