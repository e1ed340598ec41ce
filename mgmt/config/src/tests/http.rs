//! The status page: where it may listen, and when it needs a token.

use super::{MINIMAL, assert_one, faults, parse};
use crate::HttpConfig;
use std::path::PathBuf;

fn with(lines: &str) -> String {
    format!("{lines}\n{MINIMAL}")
}

#[test]
fn it_listens_nowhere_unless_it_is_told_to() {
    assert_eq!(parse(MINIMAL).http, None);
    for address in ["127.0.0.1:9119", "127.3.2.1:80", "[::1]:9119"] {
        let config = parse(&with(&format!("http_listen = \"{address}\"")));
        let expected = HttpConfig {
            listen: address.parse().unwrap(),
            token: None,
        };
        assert_eq!(config.http, Some(expected));
        assert_eq!(config.warnings(), Vec::<String>::new());
        assert_eq!(parse(&config.effective_toml()), config);
    }
}

#[test]
fn other_machines_need_a_token() {
    for address in ["10.0.0.1:9119", "0.0.0.0:9119", "[::]:9119"] {
        let listen = format!("http_listen = \"{address}\"");
        assert_one(
            &faults(&with(&listen)),
            &["1:15", address, "http_token = { file", "127.0.0.1"],
        );
        let config = parse(&with(&format!(
            "{listen}\nhttp_token = {{ file = \"/etc/tidegate/http token\" }}"
        )));
        let token = config.http.as_ref().and_then(|http| http.token.clone());
        assert_eq!(token, Some(PathBuf::from("/etc/tidegate/http token")));
        let warnings = config.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("in the clear"));
        assert_eq!(parse(&config.effective_toml()), config);
    }
}

#[test]
fn what_cannot_be_meant_is_a_fault() {
    for (lines, parts) in [
        ("http_listen = \"localhost:9119\"", &["localhost"][..]),
        ("http_listen = \"127.0.0.1\"", &["no port"]),
        ("http_listen = 9119", &["a string in quotes"]),
        ("http_listen = \"http://user:secret@a\"", &["URL"]),
        (
            "http_listen = \"10.0.0.10:11211\"\nhttp_token = { file = \"/t\" }",
            &["taken by line", "of its own"],
        ),
        (
            "http_listen = \"127.0.0.1:1\"\nhttp_token = \"opensesame\"",
            &["{ file ="],
        ),
        (
            "http_listen = \"127.0.0.1:1\"\nhttp_token = { fil = \"/t\" }",
            &["file is missing"],
        ),
        (
            "http_listen = \"127.0.0.1:1\"\nhttp_token = { file = \"token\" }",
            &["begin with /"],
        ),
        ("http_token = { file = \"/t\" }", &["without http_listen"]),
    ] {
        let found = faults(&with(lines));
        assert!(!found.is_empty(), "{lines}");
        for part in parts {
            assert!(
                found[0].contains(part) || found.iter().any(|fault| fault.contains(part)),
                "{part:?}: {found:?}"
            );
        }
        let all = found.join("\n");
        assert!(
            !all.contains("opensesame") && !all.contains("secret"),
            "{all}"
        );
    }
}
