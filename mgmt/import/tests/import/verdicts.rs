//! What is taken and what is refused is what nutcracker takes and refuses. Where it is installed (Debian's package of twemproxy) it is
//! asked; where not, the import is held to what it said once.

use super::{faults, pool_with};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Who takes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Both,
    Neither,
    /// nutcracker alone, for the reason that stands beside it.
    Nutcracker,
    /// The import alone: what came after 0.5.
    Import,
}
use Taken::{Both, Import, Neither, Nutcracker};

/// Lines among the options of a pool.
const OPTIONS: &[(&str, Taken)] = &[
    ("", Both),
    ("  preconnect: true\n", Both),
    ("  preconnect: \"true\"\n", Both),
    ("  preconnect: yes\n", Neither),
    ("  preconnect: True\n", Neither),
    ("  redis: on\n", Neither),
    ("  redis: 1\n", Neither),
    ("  timeout: 0\n", Both),
    ("  timeout: 007\n", Both),
    ("  timeout: '400'\n", Both),
    ("  timeout: -1\n", Neither),
    ("  timeout: +5\n", Neither),
    ("  timeout: 0x10\n", Neither),
    ("  timeout: 4 00\n", Neither),
    ("  timeout: 2147483647\n", Both),
    ("  timeout: 2147483648\n", Neither),
    // It wraps around to 1.
    ("  timeout: 4294967297\n", Nutcracker),
    ("  backlog: 0\n", Both),
    ("  backlog: 100000\n", Both),
    ("  client_connections: 100\n", Both),
    ("  server_connections: 0\n", Neither),
    ("  server_failure_limit: 0\n", Both),
    ("  server_retry_timeout: 0\n", Both),
    ("  tcpkeepalive: true\n", Both),
    ("  reuseport: true\n", Import),
    ("  redis_db: 3\n", Both),
    ("  redis: true\n  redis_db: 3\n", Both),
    ("  redis_auth: a\n", Neither),
    ("  redis: false\n  redis_auth: a\n", Neither),
    ("  redis: true\n  redis_auth: a\n", Both),
    ("  redis: true\n  redis_auth: \"\"\n", Neither),
    ("  redis: true\n  redis_auth: ~\n", Both),
    ("  redis: true\n  redis_auth: a#b\n", Both),
    ("  redis: true\n  redis_auth: p%w&*!\n", Both),
    ("  redis: true\n  redis_auth: ---x\n", Both),
    ("  redis: true\n  redis_auth: a\n    b\n", Both),
    ("  redis: true\n  redis_auth: >-\n   a\n", Both),
    ("  redis: true\n  redis_auth: \"a\\0b\"\n", Both),
    ("  redis: true\n  redis_auth: !!str a\n", Neither),
    ("  redis: true\n  redis_auth: \"é\\x41\\u00e9\\n\"\n", Both),
    ("  hash_tag: \"{}\"\n", Both),
    ("  hash_tag: '$$'\n", Both),
    ("  hash_tag: ab\n", Both),
    ("  hash_tag: \"é\"\n", Both),
    ("  hash_tag: \"{\"\n", Neither),
    ("  hash_tag: \"{}}\"\n", Neither),
    ("  hash_tag: {}\n", Neither),
    ("  hash: md5 # x\n", Both),
    ("  hash: md5\t\n", Both),
    // YAML 1.2 has no tab there; the fault says so.
    ("  hash:\tmd5\n", Nutcracker),
    ("  hash: |-\n    md5\n", Both),
    ("  hash: |\n    md5\n", Neither),
    ("  hash: MD5\n", Neither),
    ("  hash: foo\n", Neither),
    ("  hash:\n", Neither),
    ("  hash: # nothing\n", Neither),
    ("  hash: ~\n", Neither),
    ("  hash: \"\"\n", Neither),
    ("  hash: &x md5\n", Neither),
    ("  hash: *x\n", Neither),
    ("  hash: !!str md5\n", Neither),
    ("  hash:\n   - md5\n", Neither),
    ("  hash:\n    x: md5\n", Neither),
    ("  Hash: md5\n", Neither),
    ("\thash: md5\n", Neither),
    ("  distribution: Ketama\n", Neither),
    ("  unknown: 1\n", Neither),
    ("  timeout: 1\n  timeout: 2\n", Neither),
    ("  servers:\n   - 127.0.0.2:11211:1\n", Neither),
];

/// Words behind `listen:`.
const LISTEN: &[(&str, Taken)] = &[
    ("127.0.0.1:22121", Both),
    ("0.0.0.0:22121", Both),
    ("127.0.0.1:022121", Both),
    ("::1:22121", Both),
    (":::22121", Both),
    ("\"::1:22121\"", Both),
    ("\"::ffff:127.0.0.1:22121\"", Both),
    ("\"[::1]:22121\"", Neither),
    ("22121", Neither),
    (":22121", Neither),
    ("127.0.0.1", Neither),
    ("127.0.0.1:0", Neither),
    ("127.0.0.1:65536", Neither),
    ("127.0.0.1:x", Neither),
    ("\"127.0.0.1:22121 \"", Neither),
    ("127.0.0.1:22121 0666", Neither),
    ("a.sock", Neither),
    ("\"@a\"", Neither),
    ("/run/a.sock", Both),
    ("/run/a.sock 0666", Both),
    ("/run/a.sock 777", Both),
    ("/run/a.sock 0", Both),
    ("/run/a.sock 1777", Neither),
    // It reads permissions up to the first digit that is none, and has blanks in paths.
    ("/run/a.sock 0888", Nutcracker),
    ("/run/a b.sock", Nutcracker),
    ("/run/a.sock  0666", Nutcracker),
    ("/run/a.sock 0666 x", Nutcracker),
    // It looks names up, and takes what the system takes for addresses.
    ("127.1:22121", Nutcracker),
    ("'*:22121'", Nutcracker),
    ("[127.0.0.1:22121]", Neither),
];

/// Entries of `servers:`.
const SERVERS: &[(&str, Taken)] = &[
    ("127.0.0.1:11211:1", Both),
    ("'127.0.0.1:11211:1 x'", Both),
    ("127.0.0.1:11211:1 x # y", Both),
    ("127.0.0.1:011211:01", Both),
    ("127.0.0.1:11211:1000000", Both),
    ("127.0.0.1:11211", Neither),
    ("127.0.0.1", Neither),
    ("127.0.0.1:11211:0", Neither),
    ("127.0.0.1:11211:-1", Neither),
    ("127.0.0.1:11211:x", Neither),
    ("127.0.0.1:0:1", Neither),
    ("127.0.0.1:65536:1", Neither),
    ("127.0.0.1:11211:1  x", Neither),
    ("127.0.0.1:11211:1 x y", Neither),
    ("\"127.0.0.1:11211:1\\tx\"", Neither),
    ("a b:11211:1", Neither),
    ("0.0.0.0:11211:1", Both),
    ("::1:11211:1", Both),
    ("\"[::1]:11211:1\"", Both),
    ("/run/a.sock:1", Both),
    ("/run/a.sock:1 x", Both),
    ("/run/a.sock", Neither),
    ("/run/a.sock:0", Neither),
    ("/run/a:b.sock:2", Neither),
    ("/run/a b.sock:1", Neither),
    ("{}", Neither),
    ("", Neither),
    ("- 127.0.0.1:11211:1", Neither),
    // Names are looked up when somebody connects; an empty host is this machine, an empty name is none.
    ("localhost:11211:1", Nutcracker),
    (":11211:1", Nutcracker),
    ("\"127.0.0.1:11211:1 \"", Nutcracker),
    // These wrap around, or are more than Tidegate takes.
    ("127.0.0.1:11211:99999999999", Nutcracker),
    ("127.0.0.1:11211:2000000", Nutcracker),
    ("127.0.0.1:11211:1\n   - 127.0.0.1:11211:1", Neither),
    ("127.0.0.1:11211:1\n   - 127.0.0.1:11211:2 x", Both),
    ("127.0.0.1:11211:1 x\n   - 127.0.0.2:11211:1 x", Neither),
    (
        "127.0.0.1:11211:1\n   - 127.0.0.1:11212:1 127.0.0.1",
        Neither,
    ),
    (
        "127.0.0.1:6379:1\n   - 127.0.0.2:6379:1 127.0.0.1:6379",
        Neither,
    ),
    ("/run/a:1\n   - /run/a:2", Neither),
    ("/run/a:1\n   - /run/b:2 /run/a:", Neither),
    ("/run/a:1\n   - /run/b:2 /run/a", Both),
    // It would send requests to itself.
    ("127.0.0.1:22121:1", Nutcracker),
];

/// Whole files.
fn files() -> Vec<(String, Taken)> {
    let good = pool_with("");
    let second = good.replace("a:\n", "b:\n").replace("22121", "22122");
    let changed = |from: &str, to: &str| good.replacen(from, to, 1);
    vec![
        (format!("{good}{second}"), Both),
        (format!("# x\n\n{good}\n# y\n"), Both),
        (good.replace('\n', "\r\n"), Both),
        (format!("\u{feff}{good}"), Both),
        (changed("    - ", "  - "), Both),
        (changed("a:\n", "\"a\":\n"), Both),
        (changed("a:\n", "? a\n:\n"), Both),
        (changed("  listen", "  \"listen\""), Both),
        (changed("a:\n", "my pool:\n"), Both),
        (changed("a:\n", "é:\n"), Both),
        (changed("a:\n", &format!("{}:\n", "p".repeat(100))), Both),
        (changed("a:\n", "!x a:\n"), Neither),
        (changed("a:\n", "&x a:\n"), Neither),
        (format!("---\n{good}"), Neither),
        (format!("{good}...\n"), Neither),
        (format!("%YAML 1.1\n---\n{good}"), Neither),
        (format!("{good}---\n{second}"), Neither),
        (format!("{good}{good}"), Neither),
        (format!("{good}{}", good.replace("a:\n", "b:\n")), Neither),
        (String::new(), Neither),
        ("# x\n".to_owned(), Neither),
        ("a\n".to_owned(), Neither),
        ("- a\n".to_owned(), Neither),
        ("a:\n".to_owned(), Neither),
        ("a:\n  listen: 127.0.0.1:22121\n".to_owned(), Neither),
        (
            "a:\n  listen: 127.0.0.1:22121\n  servers:\n".to_owned(),
            Neither,
        ),
        (
            "a:\n  listen: 127.0.0.1:22121\n  servers: x\n".to_owned(),
            Neither,
        ),
        (
            "a:\n  servers:\n   - 127.0.0.1:11211:1\n".to_owned(),
            Neither,
        ),
        (changed("listen: 127", "listen:\n   - 127"), Neither),
        // Tidegate listens on each address once.
        (
            format!(
                "{}{}",
                changed("127.0.0.1", "0.0.0.0"),
                second.replace("22122", "22121")
            ),
            Nutcracker,
        ),
    ]
}

fn cases() -> Vec<(String, Taken)> {
    let option = |&(lines, taken): &(&str, Taken)| (pool_with(lines), taken);
    let listen = |&(words, taken): &(&str, Taken)| {
        (pool_with("").replacen("127.0.0.1:22121", words, 1), taken)
    };
    let server = |&(words, taken): &(&str, Taken)| {
        let text = pool_with("").replace("    - ", "   - ");
        (text.replace("127.0.0.1:11211:1", words), taken)
    };
    let mut cases: Vec<(String, Taken)> = OPTIONS.iter().map(option).collect();
    cases.extend(LISTEN.iter().map(listen));
    cases.extend(SERVERS.iter().map(server));
    cases.extend(files());
    cases
}

#[test]
fn the_import_takes_what_nutcracker_took() {
    for (text, taken) in cases() {
        let faults = faults(&text);
        let expected = matches!(taken, Both | Import);
        assert_eq!(
            faults.is_empty(),
            expected,
            "{taken:?}\n{text}\n{faults:#?}"
        );
    }
}

#[test]
fn nutcracker_takes_what_it_took() {
    let found = ["/usr/sbin/nutcracker", "/usr/bin/nutcracker"];
    let Some(program) = found.into_iter().find(|path| PathBuf::from(path).exists()) else {
        eprintln!("nutcracker is not installed: it is not asked");
        return;
    };
    let file = std::env::temp_dir().join(format!("tidegate-verdicts-{}.yml", std::process::id()));
    let mut wrong = Vec::new();
    for (text, taken) in cases() {
        std::fs::write(&file, &text).unwrap();
        let status = Command::new(program)
            .args(["-t", "-c"])
            .arg(&file)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if status.success() != matches!(taken, Both | Nutcracker) {
            wrong.push((text, taken));
        }
    }
    std::fs::remove_file(&file).unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
