//! What a watch on keys saw, on its way to the manager.

use super::Names;
use crate::reports::Reports;
use tidegate_channel::keys::{BigEntry, HOT_TOLD, HotEntry, KEYS_BATCH, KeysSeen, ToldKey};
use tidegate_channel::message::FromWorker;
use tidegate_proxy::{KeyWatch, NotedKey};

/// Tells the manager, in a few messages. What it does not take at once it will not get: it asked for this, and waits for it.
pub(super) fn tell(manager: &Reports, names: &Names, watch: &KeyWatch) {
    for part in parts(names, watch) {
        if let Err(error) = manager.tell(&FromWorker::Keys(part)) {
            tracing::warn!("what was seen of keys is lost: {error}");
            return;
        }
    }
}

fn parts(names: &Names, watch: &KeyWatch) -> Vec<KeysSeen> {
    let told = |pool: u16, key: &NotedKey, hash| ToldKey {
        pool: names.pool(usize::from(pool)).to_owned(),
        key: key.front().escape_ascii().to_string(),
        key_bytes: key.full_bytes(),
        hash,
    };
    let mut hot: Vec<_> = watch.hot().collect();
    hot.sort_unstable_by_key(|key| std::cmp::Reverse(key.count));
    let untold = hot.get(HOT_TOLD).map_or(0, |key| key.count);
    hot.truncate(HOT_TOLD);
    let hot: Vec<HotEntry> = hot
        .iter()
        .map(|key| HotEntry {
            key: told(key.pool, &key.key, key.hash),
            count: key.count,
            error: key.error,
        })
        .collect();
    let big: Vec<BigEntry> = watch
        .big()
        .map(|key| BigEntry {
            key: told(key.pool, &key.key, key.hash),
            bytes: key.bytes,
            command: key.command.to_owned(),
        })
        .collect();
    let part = KeysSeen {
        id: watch.id(),
        passed: watch.passed(),
        counted: watch.counted(),
        floor: watch.floor().max(untold),
        ..KeysSeen::default()
    };
    let hot = hot.chunks(KEYS_BATCH).map(|hot| KeysSeen {
        hot: hot.to_vec(),
        ..part.clone()
    });
    let big = big.chunks(KEYS_BATCH).map(|big| KeysSeen {
        big: big.to_vec(),
        ..part.clone()
    });
    let end = KeysSeen {
        last: true,
        ..part.clone()
    };
    hot.chain(big).chain([end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::Config;
    use tidegate_proxy::Proxy;

    #[test]
    fn a_watch_that_saw_nothing_says_so() {
        let names = Names {
            pools: Vec::new(),
            servers: Vec::new(),
            addresses: Vec::new(),
        };
        let parts = parts(&names, &KeyWatch::new(9, None, 1, 5));
        let [only] = &parts[..] else {
            panic!("{parts:?}")
        };
        assert!(only.last && only.id == 9 && only.passed == 0);
    }

    #[test]
    fn a_proxy_gives_a_watch_back_when_its_time_is_over() {
        let config = "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.1:1\"\n\
                      servers = [\"192.0.2.2:1\"]\n";
        let config = Config::parse(config, "test").unwrap();
        let mut proxy = Proxy::new(&config.pools, &config.worker, 4, 1, 1_000);
        let watch = |id| Box::new(KeyWatch::new(id, None, 1, 5));
        assert!(proxy.watch_keys(watch(1), 1_100).is_none());
        assert!(proxy.take_watched().is_none());
        assert_eq!(proxy.next_timer_us().map(|due| due >= 1_100), Some(true));
        let replaced = proxy.watch_keys(watch(2), 0).expect("the first");
        assert_eq!(replaced.id(), 1);
        assert_eq!(proxy.take_watched().expect("the second").id(), 2);
        assert!(proxy.take_watched().is_none());
    }
}
