//! The configurations that come with Tidegate.

use super::parse;
use crate::Config;
use std::collections::BTreeMap;

/// Every configuration of `configs/`, by name; its folders are for other programs.
fn shipped() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");
    let files = std::fs::read_dir(folder).expect("the folder of the examples");
    files
        .map(|file| file.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            (
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                text,
            )
        })
        .collect()
}

#[test]
fn every_shipped_configuration_parses_without_a_warning() {
    let files = shipped();
    assert!(files.len() >= 2, "{:?}", files.keys());
    for (name, text) in files {
        let config = Config::parse(&text, &name).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.warnings(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_example_shows_every_option_with_its_default() {
    let text = shipped().remove("example.toml").expect("the example");
    let config = parse(&text);
    let is_option = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| {
            !key.is_empty()
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
    };
    // Options whose default is "none" or depends on the machine show an example instead.
    let examples = [
        "http_listen",
        "http_token",
        "mtu_bytes",
        "hash_tag",
        "redis_auth",
        "redis_user",
        "memcached_auth",
        "memcached_user",
        "server_auth",
        "server_user",
        "user",
        "source_address",
        "stats_listen",
    ];
    let mut shown = Vec::new();
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(option) if is_option(option) => {
                let key = option.split(" = ").next().unwrap_or_default();
                shown.push(key);
                // The key of a pool has no default, that of [worker] has.
                if examples.contains(&key) || option == "clients_max = 4096" {
                    line
                } else {
                    option
                }
            }
            _ => line,
        })
        .collect();
    assert_eq!(parse(&uncommented.join("\n")), config);
    for line in config.effective_toml().lines() {
        let line = line.trim_start_matches("# ");
        let key = line.split([' ', ':']).next().unwrap_or_default();
        if line.contains(" = ") || examples.contains(&key) {
            let written = text
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")));
            assert!(
                written || shown.contains(&key),
                "{key} is not in the example"
            );
        }
    }
}
