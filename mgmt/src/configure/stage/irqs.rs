//! The interrupts of each queue on the core of its worker: what the kernel does for a frame happens where the frame is used, and
//! no worker is interrupted for the queue of another.

use super::{Item, unreadable};
use crate::configure::interrupts::queues;
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::{Port, Target};
use crate::host::Host;

pub fn inspect(target: &Target, port: &Port, host: &dyn Host) -> Vec<Item> {
    let name = &port.interface;
    let queues = match queues(host, name) {
        Ok(queues) => queues,
        Err(why) => return vec![Item::Nothing(why)],
    };
    let mut items = Vec::new();
    let mut fine = 0;
    for (queue, interrupt) in queues {
        let Some(Some(core)) = target.cores.get(queue as usize) else {
            // A queue without a worker is the business of the channels.
            continue;
        };
        let number = interrupt.number;
        let setting = Setting::Affinity {
            interrupt: number,
            action: interrupt.action,
        };
        let wanted = Value::Word(core.to_string());
        match setting.get(host) {
            Ok(Some(now)) if now == wanted => fine += 1,
            Ok(Some(now)) => items.push(Item::Wrong {
                what: format!(
                    "{name}: interrupt {number} of queue {queue} is on cores {now}, its worker on {core}"
                ),
                by_hand: format!("echo {core} > /proc/irq/{number}/smp_affinity_list"),
                change: Some(Change::new(setting, now, wanted)),
            }),
            Ok(None) => items.push(Item::Unknown(format!("{name}: {setting}: gone"))),
            Err(error) => items.push(unreadable(&setting, host, &error)),
        }
    }
    if fine > 0 {
        items.insert(
            0,
            Item::Fine(format!(
                "{name}: {fine} interrupts on the cores of their workers"
            )),
        );
    }
    if items.is_empty() {
        items.push(Item::Nothing(format!(
            "{name}: no interrupt of a queue that a worker on a core of its own serves"
        )));
    }
    items
}
