//! The table against `HashMap`, and its probe lengths.

use super::{FlowKey, FlowTable};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::SocketAddr;

fn key(number: u32, ipv6: bool) -> FlowKey {
    let port = 1_024 + (number % 60_000) as u16;
    let (local, remote) = if ipv6 {
        (
            format!("[2001:db8::{:x}]:80", number % 7),
            format!("[2001:db8:1::{number:x}]:{port}"),
        )
    } else {
        (
            format!("10.0.0.{}:80", number % 7),
            format!("10.1.{}.{}:{port}", number / 256 % 256, number % 256),
        )
    };
    let parse = |text: String| text.parse::<SocketAddr>().expect("written above");
    FlowKey::new(parse(local), parse(remote))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn behaves_as_a_hash_map(
        seed in any::<[u64; 2]>(),
        steps in proptest::collection::vec((any::<bool>(), 0u32..48, any::<bool>()), 1..400),
    ) {
        const SLOTS: u32 = 16;
        let mut table = FlowTable::new(SLOTS as usize, seed);
        let mut model: HashMap<FlowKey, u32> = HashMap::new();
        let mut free: Vec<u32> = (0..SLOTS).collect();
        for (insert, number, ipv6) in steps {
            let key = key(number, ipv6);
            match (insert, model.get(&key).copied()) {
                (true, None) => if let Some(slot) = free.pop() {
                    table.insert(key, slot);
                    model.insert(key, slot);
                },
                (false, Some(slot)) => {
                    prop_assert!(table.remove(slot));
                    prop_assert!(!table.remove(slot));
                    model.remove(&key);
                    free.push(slot);
                }
                _ => {}
            }
            prop_assert_eq!(table.len(), model.len());
            for (key, slot) in &model {
                prop_assert_eq!(table.get(key), Some(*slot));
                prop_assert_eq!(table.key(*slot), *key);
            }
            prop_assert_eq!(table.get(&key), model.get(&key).copied());
        }
    }
}

#[test]
fn a_key_keeps_its_addresses_and_ports() {
    for ipv6 in [false, true] {
        let key = key(4_711, ipv6);
        assert_eq!(FlowKey::new(key.local(), key.remote()), key);
        assert_eq!(key.local_port(), 80);
        assert_eq!(key.remote_port(), key.remote().port());
    }
}

#[test]
fn ipv4_and_its_ipv6_lookalike_differ() {
    let ipv4 = FlowKey::from_ipv4(1, 2, 3);
    let ipv6 = FlowKey::from_ipv6(1, 2, 3);
    assert_ne!(ipv4, ipv6);
}

#[test]
fn a_full_table_still_finds_and_misses() {
    let mut table = FlowTable::new(1_000, [3, 4]);
    for slot in 0..1_000 {
        table.insert(key(slot, slot % 3 == 0), slot);
    }
    assert_eq!(table.len(), 1_000);
    for slot in 0..1_000 {
        assert_eq!(table.get(&key(slot, slot % 3 == 0)), Some(slot));
        assert_eq!(table.get(&key(slot + 1_000, slot % 3 == 0)), None);
    }
}
