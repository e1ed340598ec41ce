//! `tidegate try`.

use crate::home::Home;
use nix::sys::signal::Signal;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};

#[test]
fn it_serves_what_the_command_line_names_until_ctrl_c() {
    let home = Home::new(40);
    let (_redis, _memcached) = (home.redis(), home.memcached());
    let listen = [home.address(22_140), home.address(22_141)];
    let listen_word = format!("{},{}", listen[0], listen[1]);
    let (redis_server, memcached_server) = (home.address(6379), home.address(11_211));
    let mut command = home.tidegate(&["try", "--listen", &listen_word]);
    command
        .args(["--redis", &redis_server.to_string()])
        .args(["--memcached", &memcached_server.to_string()])
        .args(["--workers", "2"]);
    let mut instance = home.instance(&mut command, "try-22140", 2);
    let mut redis = Redis::open(listen[0]).unwrap();
    assert_eq!(redis.words("SET a 1").unwrap(), Value::ok());
    let mut memcached = Memcached::open(listen[1]).unwrap();
    assert_eq!(memcached.set(b"b", 0, b"2").unwrap(), "STORED");
    drop((redis, memcached));
    assert!(instance.end_with(Signal::SIGINT).success());
    let log = instance.process.log_text();
    assert_eq!(
        log.lines().count(),
        3,
        "two pools and how to end it:\n{log}"
    );
    assert!(
        log.contains(&format!("redis on {} in front of 1 server", listen[0])),
        "{log}"
    );
    assert!(log.contains("Ctrl-C ends it"), "{log}");
    assert!(!home.has_runtime_directory());
}

#[test]
fn its_configuration_can_be_kept() {
    let home = Home::new(41);
    let (code, text) = home.output(&[
        "try",
        "--redis",
        "127.0.0.1:6379,127.0.0.1:6380:2",
        "--distribution",
        "modula",
        "--print-config",
    ]);
    assert_eq!(code, Some(0), "{text}");
    let file = home.path("kept.toml");
    std::fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    let (code, text) = home.output(&["check", "--config-only", "-c", file]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["try-22121", "127.0.0.1:6380:2", "\"modula\""] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn wrong_words_are_explained() {
    let home = Home::new(42);
    for (words, part) in [
        (
            &["--redis", "localhost:6379"][..],
            "\"localhost\" is not an IP address",
        ),
        (&["--redis", "127.0.0.1:22121"], "is the listening address"),
        (
            &["--redis", "127.0.0.1:1", "--hash", "md6"],
            "did you mean \"md5\"?",
        ),
        (
            &["--redis", "127.0.0.1:1", "--listen", "127.0.0.1"],
            "no port",
        ),
        (
            &["--redis", "127.0.0.1:1", "--workers", "0"],
            "workers = 0 must be between 1",
        ),
        (
            &["--redis", "127.0.0.1:1", "--name", "a b"],
            "name = \"a b\" must be",
        ),
    ] {
        let arguments: Vec<&str> = std::iter::once("try")
            .chain(words.iter().copied())
            .collect();
        let (code, text) = home.output(&arguments);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(part), "{part:?} is not in\n{text}");
        assert!(
            !text.contains("try:"),
            "no line of a file that nobody saw: {text}"
        );
    }
    let (code, text) = home.output(&["try"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--redis"), "{text}");
}
