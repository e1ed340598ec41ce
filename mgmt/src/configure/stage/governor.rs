//! Full frequency for the cores of workers. A governor that saves power lowers it between bursts, and the next burst pays.

use super::{Item, unreadable};
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::Target;
use crate::host::{Host, value};
use std::collections::BTreeSet;

const WANTED: &str = "performance";

pub fn inspect(target: &Target, host: &dyn Host) -> Vec<Item> {
    let cores: BTreeSet<u32> = target.cores.iter().copied().flatten().collect();
    if cores.is_empty() {
        return vec![Item::Nothing("no worker has a core of its own".into())];
    }
    let mut items = Vec::new();
    let mut fine = 0;
    for core in cores {
        let setting = Setting::Governor { core };
        match setting.get(host) {
            Ok(None) => {}
            Ok(Some(now)) if now == Value::Word(WANTED.into()) => fine += 1,
            Ok(Some(now)) => items.push(wrong(host, core, setting, now)),
            Err(error) => items.push(unreadable(&setting, host, &error)),
        }
    }
    if fine > 0 {
        let text = format!("{fine} cores of workers have the governor {WANTED}");
        items.insert(0, Item::Fine(text));
    }
    if items.is_empty() {
        items.push(Item::Nothing(
            "this kernel does not set frequencies (a virtual machine, or the firmware does)".into(),
        ));
    }
    items
}

fn wrong(host: &dyn Host, core: u32, setting: Setting, now: Value) -> Item {
    let directory = format!("/sys/devices/system/cpu/cpu{core}/cpufreq");
    let known = value(host, &format!("{directory}/scaling_available_governors"));
    let known = known.unwrap_or_default();
    let what = format!("core {core} of a worker has the governor {now}");
    if known.split_whitespace().any(|governor| governor == WANTED) {
        return Item::Wrong {
            what,
            by_hand: format!("echo {WANTED} > {directory}/scaling_governor"),
            change: Some(Change::new(setting, now, Value::Word(WANTED.into()))),
        };
    }
    Item::Wrong {
        what: format!("{what}, and this kernel offers no other of use ({known})"),
        by_hand: "a kernel with CONFIG_CPU_FREQ_GOV_PERFORMANCE, or the firmware's setting for \
                  performance"
            .into(),
        change: None,
    }
}
