//! Huge pages that are set aside for DPDK, on the memory nodes of its cores. Never fewer than there are.

use super::{Item, unreadable};
use crate::configure::pages::{self, Pages, free_mb, place};
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::Target;
use crate::host::Host;
use tidegate_port::dpdk_memory;

pub fn inspect(target: &Target, host: &dyn Host) -> Vec<Item> {
    if target.card_rings.is_empty() {
        return vec![Item::Nothing(
            "no port needs huge pages: none is a card of DPDK".into(),
        )];
    }
    if target.presence.serves() {
        return vec![Item::Fine("the running instance has its own".into())];
    }
    let cores: Vec<u32> = target.cores.iter().copied().flatten().collect();
    let nodes = pages::nodes_of(host, &cores);
    let megabytes = dpdk_memory::of_cards(&target.card_rings, cores.len(), nodes.len());
    let Some(size_kb) = pages::usual_kb(host) else {
        return vec![Item::Wrong {
            what: format!("this kernel has no huge pages, and DPDK needs {megabytes} MB of them"),
            by_hand: "a kernel with CONFIG_HUGETLBFS".into(),
            change: None,
        }];
    };
    let nodes = nodes.into_iter();
    nodes
        .map(|(node, of_node_cores)| {
            // DPDK takes more where more of its cores are.
            let share = (megabytes * of_node_cores).div_ceil(cores.len().max(1));
            of_node(host, Pages { node, size_kb }, share as u64)
        })
        .collect()
}

fn of_node(host: &dyn Host, pages: Pages, needed: u64) -> Item {
    let place = place(pages.node);
    let free = free_mb(host, pages.node);
    if free >= needed {
        return Item::Fine(format!(
            "{place}: {free} MB of huge pages are free, and DPDK needs {needed}"
        ));
    }
    let setting = Setting::Pages(pages);
    let now = match setting.get(host) {
        Ok(Some(Value::Count(now))) => now,
        Ok(_) => return Item::Unknown(format!("{setting}: not there")),
        Err(error) => return unreadable(&setting, host, &error),
    };
    let more = ((needed - free) * 1_024).div_ceil(pages.size_kb);
    let wanted = now.saturating_add(more);
    Item::Wrong {
        what: format!(
            "{place}: {free} MB of huge pages are free, and DPDK needs {needed}: {wanted} pages of {} KB in place of {now}",
            pages.size_kb
        ),
        by_hand: format!("echo {wanted} > {}", pages.file()),
        change: Some(Change::new(
            setting,
            Value::Count(now),
            Value::Count(wanted),
        )),
    }
}
