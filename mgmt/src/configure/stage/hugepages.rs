//! Huge pages: packet buffers ask for them, and fewer pages are fewer misses of the TLB.
//!
//! Tidegate takes them from the kernel as it goes (transparent huge pages); none have to be set aside at boot.

use super::{Item, unreadable};
use crate::configure::setting::{Change, Setting, Value};
use crate::host::Host;

pub fn inspect(host: &dyn Host) -> Vec<Item> {
    let setting = Setting::HugePages;
    vec![match setting.get(host) {
        Ok(Some(now)) if now == Value::Word("never".into()) => Item::Wrong {
            what: "transparent huge pages are off: packet buffers get small pages".into(),
            by_hand: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".into(),
            change: Some(Change::new(setting, now, Value::Word("madvise".into()))),
        },
        Ok(Some(now)) => Item::Fine(format!("transparent huge pages: {now}")),
        Ok(None) => Item::Nothing("this kernel has no transparent huge pages".into()),
        Err(error) => unreadable(&setting, host, &error),
    }]
}
