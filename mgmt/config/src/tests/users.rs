//! Who may ask: users, passwords and the databases they get.

use super::{MINIMAL, REDIS, faults, parse};
use crate::Secret;

#[test]
fn passwords_stand_in_no_output() {
    let config = parse(REDIS);
    assert_eq!(
        config.pools[0]
            .redis_auth
            .as_ref()
            .map(crate::Secret::reveal),
        Some("hunter2")
    );
    let outputs = [
        config.effective_toml(),
        config.to_string(),
        format!("{config:?}"),
    ];
    for output in outputs {
        assert!(!output.contains("hunter"), "{output}");
    }
    // Nor in any fault, wherever the password went wrong.
    for broken in [
        REDIS.replace("\"redis\"", "\"memcached\""),
        REDIS.replace("redis_auth", "redis_aut"),
        REDIS.replace("\"hunter2\"", "\"hunter2"),
        REDIS.replace("\"hunter2\"", "hunter2"),
        REDIS.replace("\"hunter2\"", "[\"hunter2\"]"),
        REDIS.replace("redis_auth =", "redis_auth"),
        REDIS.replace("10.0.1.21:6379:2", "redis://:hunter4@10.0.1.21:6379"),
        REDIS.replace("10.0.0.10:6379", "user:hunter4@10.0.0.10:6379"),
        REDIS.replace("hash_tag", "x = 1\nserver_auth"),
    ] {
        let found = faults(&broken);
        assert!(!found.is_empty(), "{broken}");
        assert!(!found.concat().contains("hunter"), "{found:#?}");
    }
}

#[test]
fn users_of_memcached_have_a_name_and_a_password() {
    let both = "memcached_auth = \"hunter2\"\nmemcached_user = \"alice\"\n";
    let config = parse(&format!("{MINIMAL}\n{both}"));
    let pool = &config.pools[0];
    assert_eq!(pool.memcached_user.as_deref(), Some("alice"));
    assert_eq!(
        pool.memcached_auth.as_ref().map(Secret::reveal),
        Some("hunter2")
    );
    let effective = config.effective_toml();
    assert!(effective.contains("memcached_user = \"alice\"") && !effective.contains("hunter2"));
    for (text, expected) in [
        (
            format!("{MINIMAL}\nmemcached_auth = \"x\"\n"),
            "memcached_auth needs memcached_user",
        ),
        (
            format!("{MINIMAL}\nmemcached_user = \"x\"\n"),
            "memcached_user needs memcached_auth",
        ),
        (
            format!("{MINIMAL}\ncompat = \"twemproxy\"\n{both}"),
            "memcached_auth is not for pools with compat",
        ),
        (
            format!("{MINIMAL}\n{both}").replace("hunter2", "a b"),
            "memcached_auth must be 1 to 255 bytes without blanks",
        ),
        (
            format!("{REDIS}{both}"),
            "memcached_auth needs protocol = \"memcached\"",
        ),
    ] {
        let faults = faults(&text);
        assert!(
            faults.iter().any(|fault| fault.contains(expected)),
            "{expected}: {faults:#?}"
        );
        assert!(faults.iter().all(|fault| !fault.contains("hunter2")));
    }
}

#[test]
fn users_and_databases_are_those_of_redis() {
    let users = "redis_user = \"alice\"\nserver_user = \"proxy\"\ndatabases = 4\ndatabase = 3\n";
    let config = parse(&format!("{REDIS}{users}"));
    let pool = &config.pools[0];
    assert_eq!(pool.redis_user.as_deref(), Some("alice"));
    assert_eq!(pool.server_user.as_deref(), Some("proxy"));
    assert_eq!((pool.databases, pool.database), (4, 3));
    let effective = config.effective_toml();
    for line in users.lines() {
        assert!(effective.contains(line), "{line} in {effective}");
    }
    let pool = &parse(REDIS).pools[0];
    assert_eq!((pool.databases, pool.database), (16, 0));
    for (text, expected) in [
        (format!("{REDIS}databases = 0\n"), "databases = 0"),
        (format!("{REDIS}databases = 1025\n"), "databases = 1025"),
        (
            format!("{REDIS}database = 16\n"),
            "database = 16 is none of the 16 databases",
        ),
        (
            REDIS.replace(
                "protocol = \"redis\"",
                "protocol = \"memcached\"\ndatabase = 2",
            ),
            "database needs protocol = \"redis\"",
        ),
        (
            format!("{REDIS}redis_user = \"a b\"\n"),
            "redis_user = \"a b\" must be",
        ),
        (
            format!("{REDIS}server_user = \"\"\n"),
            "server_user = \"\" must be",
        ),
        (
            format!("{REDIS}redis_user = \"{}\"\n", "x".repeat(256)),
            "must be 1 to 255 bytes",
        ),
        (
            format!("{REDIS}redis_user = \"a\"\n").replace("redis_auth", "#redis_auth"),
            "redis_user needs redis_auth",
        ),
        (
            REDIS.replace(
                "protocol = \"redis\"",
                "protocol = \"memcached\"\ndatabases = 2",
            ),
            "databases needs protocol = \"redis\"",
        ),
    ] {
        let found = faults(&text);
        assert!(
            found.iter().any(|fault| fault.contains(expected)),
            "{expected}: {found:#?}"
        );
    }
}
