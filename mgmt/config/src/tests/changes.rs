//! Differences between two files, and what they cost.

use super::{MINIMAL, parse};
use crate::{Config, Effect};

const KERNEL: &str = r#"
name = "shop"
[[port]]
driver = "kernel"
queues = { 0 = 2, 1 = 3 }

[[pool]]
name = "sessions"
listen = ["127.0.0.1:11211", "/run/sessions.sock"]
protocol = "redis"
hash_tag = "{}"
servers = ["10.0.1.11:6379:1 a", "10.0.1.12:6379:1 b", "10.0.1.13:6379:1 c"]
server_auth = "hunter2"

[[pool]]
name = "pages"
listen = "127.0.0.1:11212"
protocol = "memcached"
servers = ["10.0.1.21:11211:1"]
"#;

/// The differences as sentences, after `from` was replaced by `to` in the file.
fn changed(text: &str, from: &str, to: &str) -> Vec<(Effect, String)> {
    assert!(text.contains(from), "{from} is in the file");
    differences(&parse(text), &parse(&text.replacen(from, to, 1)))
}

fn differences(old: &Config, new: &Config) -> Vec<(Effect, String)> {
    let differences = old.differences(new).into_iter();
    differences
        .map(|difference| (difference.effect, difference.text))
        .collect()
}

#[track_caller]
fn assert_one(found: &[(Effect, String)], effect: Effect, text: &str) {
    assert_eq!(found, [(effect, text.to_owned())]);
}

#[test]
fn the_same_file_has_no_differences() {
    for text in [MINIMAL, KERNEL] {
        assert_eq!(differences(&parse(text), &parse(text)), []);
    }
}

#[test]
fn servers_that_come_go_and_change_are_named() {
    let found = changed(
        KERNEL,
        r#""10.0.1.12:6379:1 b", "10.0.1.13:6379:1 c""#,
        r#""10.0.1.13:6379:5 d", "10.0.1.14:6379:1 e""#,
    );
    let expected = [
        "pool sessions: server 10.0.1.12:6379 (name b, weight 1) is removed",
        "pool sessions: server 10.0.1.13:6379: name was c, is d",
        "pool sessions: server 10.0.1.13:6379: weight was 1, is 5",
        "pool sessions: server 10.0.1.14:6379 (name e, weight 1) is added",
    ];
    assert_eq!(found, expected.map(|text| (Effect::InPlace, text.into())));
    let found = changed(
        KERNEL,
        r#""10.0.1.12:6379:1 b", "10.0.1.13:6379:1 c""#,
        r#""10.0.1.13:6379:1 c", "10.0.1.12:6379:1 b""#,
    );
    assert_one(
        &found,
        Effect::InPlace,
        "pool sessions: the servers stand in another order",
    );
}

#[test]
fn the_status_page_stays_where_it_is_until_a_restart() {
    let with = |lines: &str| format!("{lines}\n{KERNEL}");
    let found = differences(
        &parse(KERNEL),
        &parse(&with("http_listen = \"127.0.0.1:9119\"")),
    );
    assert_one(
        &found,
        Effect::Restart,
        "http_listen was nowhere, is 127.0.0.1:9119",
    );
    let found = differences(
        &parse(&with("http_listen = \"127.0.0.1:9119\"")),
        &parse(&with(
            "http_listen = \"127.0.0.1:9119\"\nhttp_token = { file = \"/t\" }",
        )),
    );
    assert_one(&found, Effect::Restart, "http_token was none, is /t");
}

#[test]
fn servers_of_one_address_are_told_apart_by_name_and_order() {
    let of = |servers: &str| {
        let text = MINIMAL.replace(r#"["10.0.1.11:11211:1"]"#, servers);
        parse(&text).pools.remove(0)
    };
    let old = of(r#"["10.0.1.1:1:1 a", "10.0.1.1:1:1 b", "10.0.1.2:1:1 c"]"#);
    let new = of(r#"["10.0.1.1:1:1 b", "10.0.1.1:1:1 z", "10.0.1.1:1:1 y"]"#);
    assert_eq!(old.places(&new), [Some(1), Some(0), None]);
    assert!(old.routes_as(&old) && !old.routes_as(&new));
}

#[test]
fn pools_and_listeners_that_go_cost_their_clients_the_connection() {
    let found = changed(KERNEL, r#"name = "pages""#, r#"name = "other""#);
    assert_eq!(
        found,
        [
            (Effect::Reconnect, "pool pages is removed".to_owned()),
            (
                Effect::InPlace,
                "pool other is added: listens on 127.0.0.1:11212, 1 servers".to_owned()
            ),
        ]
    );
    let found = changed(KERNEL, r#", "/run/sessions.sock""#, r#", "127.0.0.1:7""#);
    assert_eq!(
        found,
        [
            (
                Effect::Reconnect,
                "pool sessions: listens no more on /run/sessions.sock".to_owned()
            ),
            (
                Effect::InPlace,
                "pool sessions: listens on 127.0.0.1:7".to_owned()
            ),
        ]
    );
    let found = changed(KERNEL, r#"hash_tag = "{}""#, "databases = 2");
    assert_eq!(
        found,
        [
            (
                Effect::Reconnect,
                "pool sessions: databases was 16, is 2".to_owned()
            ),
            (
                Effect::Reconnect,
                "pool sessions: hash_tag was \"{}\", is none".to_owned()
            ),
        ]
        .map(|(effect, text)| {
            let effect = if text.contains("hash_tag") {
                Effect::InPlace
            } else {
                effect
            };
            (effect, text)
        })
    );
    let found = changed(
        KERNEL,
        r#"hash_tag = "{}""#,
        "hash_tag = \"{}\"\ndatabases = 17",
    );
    assert_one(
        &found,
        Effect::InPlace,
        "pool sessions: databases was 16, is 17",
    );
}

#[test]
fn passwords_are_compared_and_not_told() {
    let found = changed(KERNEL, "hunter2", "hunter3");
    assert_one(
        &found,
        Effect::InPlace,
        "pool sessions: server_auth is another password",
    );
    let found = changed(KERNEL, "server_auth = \"hunter2\"", "redis_auth = \"x\"");
    let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "pool sessions: redis_auth is set",
            "pool sessions: server_auth is not set any more"
        ]
    );
}

#[test]
fn what_is_made_at_start_needs_new_workers_or_a_restart() {
    let worker = |line: &str| changed(KERNEL, "[[port]]", &format!("[worker]\n{line}\n[[port]]"));
    assert_one(
        &worker("clients_max = 2000"),
        Effect::Replace,
        "worker: clients_max was 16384, is 2000",
    );
    assert_one(
        &worker("requests_max = 2000"),
        Effect::InPlace,
        "worker: requests_max was 65536, is 2000",
    );
    assert_one(
        &changed(KERNEL, "0 = 2, 1 = 3", "0 = 2, 1 = 5"),
        Effect::InPlace,
        "port kernel: queues was { 0 = 2, 1 = 3 }, is { 0 = 2, 1 = 5 }",
    );
    assert_one(
        &changed(KERNEL, "0 = 2, 1 = 3", "0 = 2"),
        Effect::Restart,
        "port kernel: queues was { 0 = 2, 1 = 3 }, is { 0 = 2 }",
    );
    assert_one(
        &changed(KERNEL, "shop", "shed"),
        Effect::Restart,
        "name was shop, is shed",
    );
    let found = differences(&parse(MINIMAL), &parse(&MINIMAL.replace("eth1", "eth2")));
    assert_one(&found, Effect::Restart, "the ports was eth1, is eth2");
}

#[test]
fn the_part_for_running_workers_lacks_what_replaces_them() {
    let old = parse(KERNEL);
    let new = parse(&KERNEL.replacen(
        "[[port]]",
        "[worker]\nclients_max = 2000\nclient_stall_ms = 7000\n[[port]]",
        1,
    ));
    let part = old.in_place_part(&new);
    assert_eq!(part.worker.clients_max, 16_384);
    assert_eq!(part.worker.client_stall_ms, 7_000);
    let left = part.differences(&new);
    assert!(left.iter().all(|d| d.effect == Effect::Replace), "{left:?}");
    assert!(
        old.differences(&part)
            .iter()
            .all(|d| d.effect < Effect::Replace)
    );
}

#[test]
fn clients_of_a_pool_are_limited_while_it_runs() {
    let limited = KERNEL.replacen("hash_tag", "clients_max = 3000\nhash_tag", 1);
    let (old, new) = (parse(KERNEL), parse(&limited));
    assert_one(
        &differences(&old, &new),
        Effect::InPlace,
        "pool sessions: clients_max was that of [worker], is 3000",
    );
    // Beyond what the workers have that are there, it waits for those that replace them.
    let new = parse(&limited.replacen("[[port]]", "[worker]\nclients_max = 3000\n[[port]]", 1));
    let small = parse(&KERNEL.replacen("[[port]]", "[worker]\nclients_max = 2000\n[[port]]", 1));
    let part = small.in_place_part(&new);
    assert_eq!(part.pools[0].clients_max, Some(2_000));
    assert_eq!(
        parse(&part.effective_toml().replace("\"***\"", "\"hunter2\"")),
        part
    );
}

#[test]
fn every_setting_that_is_written_out_has_an_effect() {
    let packets = parse(MINIMAL);
    let kernel = parse(KERNEL);
    for config in [&packets, &kernel] {
        assert_eq!(crate::change::without_effect(config), Vec::<String>::new());
    }
}
