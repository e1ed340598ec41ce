//! Whatever the bytes are, there is a configuration or a fault.

use super::{config, import_with, imported, parse, pool_with, usual};
use proptest::prelude::*;
use tidegate_config::ConfigErrors;
use tidegate_import::Imported;

/// Imports, and checks what holds for every file.
fn check(bytes: &[u8]) -> Result<Imported, ConfigErrors> {
    let outcome = tidegate_import::import(bytes, "t.yml", usual());
    // YAML ends lines at carriage returns as well.
    let lines = bytes.iter().filter(|byte| b"\r\n".contains(byte)).count() + 2;
    match &outcome {
        Ok(imported) => {
            parse(&imported.toml);
            assert!(imported.warnings.iter().all(|note| note.line <= lines));
        }
        Err(errors) => {
            assert!(!errors.faults.is_empty());
            for fault in &errors.faults {
                assert!(
                    (1..=lines).contains(&fault.line) && fault.column > 0,
                    "{fault:?}"
                );
                assert!(!fault.what.contains('\n'), "{fault:?}");
            }
        }
    }
    outcome
}

/// Pieces that files are made of, right and wrong ones.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "a:\n",
        "b:\n",
        "  listen: 127.0.0.1:1\n",
        "  listen: :::2\n",
        "  listen: /run/a 0\n",
        "  servers:\n",
        "  - 10.0.0.1:1:1\n",
        "  - ::1:1:2 x\n",
        "  - /a:1\n",
        "  redis: true\n",
        "  redis_auth: x\n",
        "  hash: md5\n",
        "  timeout: 5\n",
        "  x: [",
        "{",
        "}",
        "]",
        ": ",
        "- ",
        "? ",
        "&a ",
        "*a ",
        "!t ",
        "|\n",
        ">-\n",
        "'",
        "\"",
        "\\",
        "#",
        "\t",
        "\r\n",
        "---\n",
        "...\n",
        "%",
        "~",
        "@",
        "\u{feff}",
        "é",
        "\0",
        " ",
        "\n",
        ",",
    ];
    prop_oneof![
        9 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _either = check(&bytes);
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(piece(), 0..30)) {
        let _either = check(pieces.concat().as_bytes());
    }

    #[test]
    fn a_good_file_with_a_changed_byte(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = include_bytes!("../data/rich.yml").to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _either = check(&bytes);
    }

    #[test]
    fn a_good_file_that_ends_early(end in any::<prop::sample::Index>()) {
        let bytes = include_bytes!("../data/rich.yml");
        let _either = check(&bytes[..end.index(bytes.len())]);
    }

    #[test]
    fn a_password_arrives_whole_and_is_never_shown(tail in "[ -~é漢\u{1F600}]{0,40}") {
        let password = format!("hunter2{tail}x");
        let quoted = password.replace('\'', "''");
        let text = pool_with(&format!("  redis: true\n  redis_auth: '{quoted}'\n"));
        let imported = imported(&text);
        let config = parse(&imported.toml);
        for secret in [&config.pools[0].redis_auth, &config.pools[0].server_auth] {
            prop_assert_eq!(secret.as_ref().unwrap().reveal(), &password);
        }
        let warnings = format!("{:?}", imported.warnings);
        prop_assert!(!warnings.contains("hunter2"));
        let wrong = import_with(&text.replace("redis: true", "redis: false"), usual());
        let faults = wrong.unwrap_err().concat();
        prop_assert!(!faults.contains("hunter2"));
    }

    #[test]
    fn numbers_arrive_as_they_are(
        timeout in 0u32..=3_600_000,
        backlog in 1u32..=65_535,
        limit in 1u32..=1_000_000,
        retry in 1u32..=86_400_000,
        weight in 1u32..=1_000_000,
    ) {
        let lines = format!(
            "  timeout: {timeout}\n  backlog: {backlog}\n  server_failure_limit: {limit}\n  server_retry_timeout: {retry}\n"
        );
        let text = pool_with(&lines).replace("11211:1", &format!("11211:{weight}"));
        let pool = &config(&text).pools[0];
        prop_assert_eq!(pool.timeout_ms.unwrap_or(0), timeout);
        prop_assert_eq!(pool.backlog, backlog);
        prop_assert_eq!(pool.server_failure_limit, limit);
        prop_assert_eq!(pool.server_retry_timeout_ms, retry);
        prop_assert_eq!(pool.servers[0].weight, weight);
    }
}
