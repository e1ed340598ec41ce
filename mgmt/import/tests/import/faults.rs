//! What is refused, and what is said about it.

use super::{faults, import_with, looking_up, pool_with};

#[track_caller]
fn assert_one(text: &str, place: &str, parts: &[&str]) {
    let faults = faults(text);
    assert_eq!(faults.len(), 1, "{text}\n{faults:#?}");
    assert!(
        faults[0].starts_with(&format!("{place} ")),
        "{place}: {}",
        faults[0]
    );
    for part in parts {
        assert!(faults[0].contains(part), "{part:?} not in {:?}", faults[0]);
    }
}

#[test]
fn every_fault_of_a_file_is_reported_at_once_with_its_place() {
    let text = "a:
  listen: 127.0.0.1
  hash: fnv1a64
  redis: yes
  timeout: -1
  timeot: 5
  servers: x
b:
  listen: 127.0.0.1:22121
  hash_tag: {}
  redis_auth: hunter2
  servers:
   - 127.0.0.1:6379
   - 127.0.0.1:6379:1
   - 127.0.0.2:6379:2 127.0.0.1:6379
   - 127.0.0.1:22121:1
   - 127.0.0.1:1:99999999 big
   - [1, 2]
b:
  listen: 0.0.0.0:22123
c:
d:
  listen: 127.0.0.1:22123
  backlog: 4294967297
  backlog: 1
  server_connections: 0
  servers:
   - 10.0.0.1:1:1
";
    let expected = [
        "2:11 pool \"a\": listen \"127.0.0.1\" is no address",
        "3:9 pool \"a\": hash = \"fnv1a64\" is not one of one_at_a_time",
        "4:10 pool \"a\": redis = \"yes\" is not true or false",
        "5:12 pool \"a\": timeout = \"-1\" is not a number of digits",
        "6:3 pool \"a\": twemproxy has no option \"timeot\"; did you mean \"timeout\"?",
        "7:3 pool \"a\": servers is a list",
        "10:13 twemproxy does not take lists and tables in brackets",
        "11:15 pool \"b\": redis_auth needs redis: true",
        "13:6 pool \"b\": server \"127.0.0.1:6379\" is not HOST:PORT:WEIGHT",
        "15:6 pool \"b\": server \"127.0.0.2:6379:2 127.0.0.1:6379\": the name \"127.0.0.1:6379\" is taken by the server of line 14",
        "16:6 pool \"b\": server 127.0.0.1:22121 is the listening address of line 9",
        "17:6 pool \"b\": server \"127.0.0.1:1:99999999 big\": weight",
        "18:6 twemproxy does not take lists and tables in brackets",
        "19:1 pool \"b\" is written twice, first in line 8",
        "19:1 pool \"b\": servers are missing",
        "21:1 pool \"c\" has no options",
        "24:12 pool \"d\": backlog = 4294967297 is over 2147483647",
        "25:3 pool \"d\": \"backlog\" is written twice, first in line 24",
        "26:23 pool \"d\": server_connections = 0 is not at least 1",
    ];
    let found = faults(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
}

#[test]
fn a_file_without_pools_says_so() {
    for text in ["", "# nothing\n", "\n\n", "\u{feff}"] {
        assert_one(text, "1:1", &["no pool"]);
    }
    for text in ["word\n", "- a\n", "\"quoted\""] {
        assert_one(text, "1:1", &["is a list of pools"]);
    }
}

#[test]
fn what_is_not_yaml_has_its_place_and_hides_only_what_follows_from_it() {
    let text = pool_with("  hash: md4\n").replace("servers:", "servers: \"");
    let faults = faults(&text);
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].starts_with("3:9 pool \"a\": hash"), "{faults:#?}");
    assert!(faults[1].contains("not YAML"), "{faults:#?}");
}

#[test]
fn a_tab_that_yaml_does_not_take_is_named() {
    let behind_a_colon = pool_with("  hash:\tmd5\n");
    assert_one(&behind_a_colon, "3:9", &["not YAML", "has a tab"]);
}

#[test]
fn bytes_that_are_no_text_have_their_place() {
    let bytes = b"a:\n  listen: \xc3\xa9\xff\n";
    let errors = tidegate_import::import(bytes, "t.yml", super::usual()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "t.yml:2:12: not UTF-8; save the file in this encoding"
    );
    let long = vec![b'#'; tidegate_import::limits::FILE_BYTES_MAX + 1];
    let errors = tidegate_import::import(&long, "t.yml", super::usual()).unwrap_err();
    assert_eq!(errors.faults.len(), 1, "{errors}");
}

#[test]
fn a_name_that_nobody_looks_up_is_a_fault_that_says_how_keys_stay() {
    let server = |host: &str| pool_with("").replace("127.0.0.1:11211:1", host);
    assert_one(
        &server("cache-1:6379:1"),
        "4:7",
        &["\"cache-1\" is no IP address", "--resolve", "as its name"],
    );
    let mut unknown = |_: &str| Err("never heard of it".to_owned());
    let faults = import_with(&server("cache-1:6379:1 a"), looking_up(&mut unknown)).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("never heard of it"), "{faults:#?}");
    assert_one(
        &pool_with("").replace("127.0.0.1:22121", "cache:22121"),
        "2:11",
        &["listen", "\"cache\" is no IP address"],
    );
}

#[test]
fn what_tidegate_cannot_do_is_named_by_the_line_that_wants_it() {
    let two = |first: &str, second: &str| {
        let first = pool_with("").replace("127.0.0.1:22121", first);
        let second = pool_with("").replace("127.0.0.1:22121", second);
        format!("{first}{}", second.replace("a:\n", "b:\n"))
    };
    assert_one(
        &two("127.0.0.1:22121", "127.0.0.1:22121"),
        "6:11",
        &["is taken by line 2"],
    );
    assert_one(
        &two("/run/a.sock", "/run/a.sock 0660"),
        "6:11",
        &["is taken by line 2"],
    );
    assert_one(&two("0.0.0.0:1", "127.0.0.1:1"), "6:11", &["by line 2"]);
    assert_one(
        &pool_with("").replace("11211:1", &format!("1:1 {}", "n".repeat(300))),
        "4:7",
        &["255 bytes"],
    );
}

#[test]
fn on_af_xdp_what_frames_cannot_carry_is_a_fault() {
    let options = super::Options {
        port: super::Port::Afxdp {
            interface: "eth1".to_owned(),
        },
        ..super::usual()
    };
    let text = "a:\n  listen: 0.0.0.0:1\n  servers:\n   - /run/a.sock:1\n";
    let faults = import_with(text, options).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].starts_with("2:11 ") && faults[0].contains("every address"));
    assert!(faults[1].starts_with("4:6 ") && faults[1].contains("a Unix socket"));
}

#[test]
fn no_fault_shows_what_may_be_a_password() {
    for text in [
        pool_with("  redis_auth: hunter2\n"),
        pool_with("  redis_aut: hunter2\n"),
        pool_with("  redis_auth:\n   - hunter2\n"),
        pool_with("  redis_auth: {hunter2: hunter2}\n"),
        pool_with("  redis_auth: !hunter2\n"),
        pool_with("  redis_auth: *hunter2\n"),
        pool_with("  redis_auth: &hunter2\n"),
        pool_with("  redis_auth: \"hunter2\n"),
        pool_with("  redis: true\n  redis_auth: hunter2\n  redis_auth: hunter2\n"),
        pool_with("").replace("127.0.0.1:11211:1", "redis://:hunter2@10.0.0.1:6379:1"),
        pool_with("").replace("127.0.0.1:11211:1", "u:hunter2@10.0.0.1:6379:1"),
        pool_with("").replace("127.0.0.1:11211:1", "u:hunter2@10.0.0.1"),
        pool_with("").replace("127.0.0.1:22121", "u:hunter2@10.0.0.1:6379"),
        pool_with("").replace("127.0.0.1:11211:1", "redis://u:hunter2"),
        pool_with("").replace("127.0.0.1:11211:1", "redis://u:hunter2:1"),
        pool_with("").replace("127.0.0.1:22121", "redis://u:hunter2"),
    ] {
        let faults = faults(&text);
        assert!(!faults.is_empty(), "{text}");
        assert!(
            !faults.iter().any(|fault| fault.contains("hunter2")),
            "{faults:#?}"
        );
    }
}

#[test]
fn many_faults_are_cut_off_and_a_long_name_is_shown_in_part() {
    let keys = (0..5_000).map(|n| format!("  k{n}: 1\n"));
    let keys = keys.collect::<Vec<_>>().concat();
    let found = faults(&pool_with(&keys));
    assert_eq!(found.len(), tidegate_import::limits::FAULTS_MAX);
    assert!(found.iter().any(|fault| fault.contains("too many faults")));
    let long = pool_with("  k: 1\n").replace("a:\n", &format!("? {}\n:\n", "n".repeat(100_000)));
    let found = faults(&long);
    assert_eq!(found.len(), 1);
    assert!(found[0].len() < 300, "{}", found[0].len());
    let pools = (0..2_000).map(|n| format!("p{n}:\n x: 1\n"));
    let pools = pools.collect::<Vec<_>>().concat();
    let found = faults(&pools);
    assert!(found.len() <= tidegate_import::limits::FAULTS_MAX);
}
