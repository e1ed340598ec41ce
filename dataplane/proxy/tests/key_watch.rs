//! A watch on keys sees those of every request of its pool, while it lasts.

use crate::model::dialogue::commands;
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use std::collections::BTreeMap;
use tidegate_config::{PoolConfig, Protocol};
use tidegate_proxy::KeyWatch;

const LASTS_US: u64 = 100_000;

fn world(servers: usize, slowlog_us: Option<u32>) -> World {
    let pool = PoolConfig {
        slowlog_us,
        ..pool(Protocol::Redis, servers)
    };
    World::new(&[pool], &limits(), 5)
}

fn begin(world: &mut World, pool: Option<u16>, sample: u32) {
    let watch = Box::new(KeyWatch::new(1, pool, sample, 7));
    let until_us = world.now_us + LASTS_US;
    assert!(world.proxy.watch_keys(watch, until_us).is_none());
}

/// What the watch saw, once its time is over.
fn end(world: &mut World) -> Box<KeyWatch> {
    assert!(world.proxy.take_watched().is_none(), "it is not over yet");
    world.pass(LASTS_US);
    world.proxy.take_watched().expect("its time is over")
}

fn counts(watch: &KeyWatch) -> BTreeMap<String, u64> {
    let name = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    let keys = watch.hot().map(|hot| (name(hot.key.front()), hot.count));
    keys.collect()
}

fn expected(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect()
}

#[test]
fn keys_of_every_kind_of_request_are_counted() {
    for slowlog_us in [None, Some(1)] {
        let mut world = world(3, slowlog_us);
        world.connect(commands(&["GET unseen"]));
        world.settle(1_000);
        begin(&mut world, None, 1);
        world.connect(commands(&[
            "GET a",
            "SET a 1",
            "MGET a b c",
            "DEL b",
            "PING",
            "DBSIZE",
            "MULTI",
            "GET d",
            "EXEC",
        ]));
        world.settle(1_000);
        let watch = end(&mut world);
        assert_eq!(
            counts(&watch),
            expected(&[("a", 3), ("b", 2), ("c", 1), ("d", 1)])
        );
        assert_eq!((watch.passed(), watch.counted(), watch.floor()), (7, 7, 0));
        world.connect(commands(&["GET unseen"]));
        world.settle(1_000);
        world.assert_idle("after the watch");
    }
}

#[test]
fn the_keys_of_a_request_in_chunks_are_all_counted() {
    let mut world = world(2, None);
    begin(&mut world, Some(0), 1);
    let keys: Vec<String> = (0..2_000).map(|n| format!("key-{n}")).collect();
    let words = ["DEL"].into_iter().chain(keys.iter().map(String::as_str));
    world.connect(resp(&words.map(str::as_bytes).collect::<Vec<_>>()));
    world.settle(20_000);
    world.pass(LASTS_US);
    let watch = world.proxy.take_watched().expect("its time is over");
    assert_eq!(watch.passed(), 2_000);
    assert!(watch.floor() > 0, "more keys than places");
}

#[test]
fn the_largest_requests_and_replies_are_noted_under_their_keys() {
    let mut world = world(1, None);
    world.servers[0]
        .store
        .insert(b"page".to_vec(), vec![b'v'; 3_000]);
    begin(&mut world, None, 1);
    let large = "v".repeat(20_000);
    let requests = [
        commands(&["GET page", "GET page", "SET small 1", "MGET page small"]),
        resp(&[b"SET", b"upload", large.as_bytes()]),
    ];
    world.connect(requests.concat());
    world.settle(2_000);
    let watch = end(&mut world);
    let mut big: Vec<_> = watch.big().collect();
    big.sort_by_key(|key| std::cmp::Reverse(key.bytes));
    let told: Vec<_> = big
        .iter()
        .map(|key| (key.key.front().to_vec(), key.command))
        .collect();
    assert_eq!(
        told,
        [
            (b"upload".to_vec(), "set"),
            (b"page".to_vec(), "get"),
            (b"small".to_vec(), "set")
        ]
    );
    assert!(big[0].bytes > 20_000 && big[1].bytes > 3_000, "{big:?}");
}

#[test]
fn one_key_in_so_many_is_counted_and_another_pool_is_not_watched() {
    let mut world = world(1, None);
    begin(&mut world, None, 10);
    world.connect(commands(&["GET hot"; 50]));
    world.connect(commands(&["GET hot"; 50]));
    world.settle(2_000);
    let watch = end(&mut world);
    assert_eq!(watch.passed(), 100);
    assert!((1..=40).contains(&watch.counted()), "{}", watch.counted());
    begin(&mut world, Some(1), 1);
    world.connect(commands(&["GET hot"]));
    world.settle(1_000);
    assert_eq!(end(&mut world).passed(), 0);
}
