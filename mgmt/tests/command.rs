//! The command as a process, as far as it goes without privileges.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn tidegate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// A file that is removed with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

const GOOD: &str = r#"
name = "command-test"
[[port]]
interface = "no-such-nic0"
queues = { 0 = 0, 1 = 1023 }
[[pool]]
name = "sessions"
listen = "192.0.2.10:11211"
protocol = "memcached"
servers = ["192.0.2.11:11211:1"]
[worker]
user = "no-such-user-here"
"#;

#[test]
fn usage_is_another_exit_code_than_failure() {
    assert_eq!(tidegate(&["run"]).status.code(), Some(2));
    assert_eq!(tidegate(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(
        tidegate(&["check", "-c", "/no/such/file"]).status.code(),
        Some(1)
    );
    let version = tidegate(&["version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(text(&version).starts_with("tidegate "));
}

/// `command >/dev/full`, and `command | true`.
#[test]
fn output_that_cannot_be_written_is_told_and_a_reader_that_is_gone_is_not() {
    let file = Scratch::new("full.toml", GOOD);
    for words in [
        &["check", "--config-only", "-c", file.path()][..],
        &["completions", "bash"],
        &["doctor", "--json"],
        &["version"],
        &["--help"],
    ] {
        let command = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
            command.args(words).stdin(Stdio::null()).stdout(stdout);
            command.output().unwrap()
        };
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = command(full.into());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(
            said.contains("cannot write the output"),
            "{words:?}: {said}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(writer.into());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code().is_some(), "{words:?}: {said}");
        assert!(
            !said.contains("panic") && !said.contains("output"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn check_reports_every_fault_of_the_machine_at_once() {
    let config = Scratch::new("good.toml", GOOD);
    let output = tidegate(&["check", "-c", config.path()]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    for expected in [
        "interface no-such-nic0 does not exist; present: ",
        "core 1023 (worker 1) is not available",
        "user \"no-such-user-here\" does not exist",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn check_reports_every_fault_of_the_file_at_once_with_its_line() {
    let bad = GOOD
        .replace("memcached", "memcash")
        .replace("192.0.2.10:11211", "192.0.2.10");
    let config = Scratch::new("bad.toml", &bad);
    let output = tidegate(&["check", "-c", config.path()]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    for line in ["bad.toml:8", "bad.toml:9"] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn the_effective_configuration_is_a_configuration_again() {
    let config = Scratch::new("once.toml", GOOD);
    let first = tidegate(&["check", "--config-only", "-c", config.path()]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    let again = Scratch::new("twice.toml", &String::from_utf8_lossy(&first.stdout));
    let second = tidegate(&["check", "--config-only", "-c", again.path()]);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second));
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn a_map_of_the_command_line_replaces_that_of_the_file() {
    let config = Scratch::new("map.toml", GOOD);
    let output = tidegate(&[
        "check",
        "--config-only",
        "-c",
        config.path(),
        "--map",
        "no-such-nic0:0=1,1=0",
    ]);
    assert!(
        text(&output).contains("{ 0 = 1, 1 = 0 }"),
        "{}",
        text(&output)
    );
    let output = tidegate(&["check", "-c", config.path(), "--map", "eth77:0=1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("eth77"), "{}", text(&output));
}

#[test]
fn status_and_clean_up_say_when_there_is_nothing() {
    let nowhere = Path::new("/no/such/directory").to_str().unwrap();
    for command in ["status", "clean-up"] {
        let output = tidegate(&["--runtime-dir", nowhere, command]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(nowhere), "{}", text(&output));
    }
}

/// A file of twemproxy with a password.
const NUTCRACKER: &str = "sessions:
  listen: 127.0.0.1:22121
  hash: murmur
  redis: true
  redis_auth: opensesame
  client_connections: 100
  servers:
    - 127.0.0.1:6379:1
    - 127.1:6380:1 b
";

/// Runs the command with `input` on its standard input.
fn tidegate_with(input: &[u8], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that is refused for its arguments may be gone before it has read anything. Closed at the end of the statement.
    let _unread = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_imported_passes_the_check() {
    let plain = NUTCRACKER.replace("127.1", "127.0.0.1");
    let file = Scratch::new("nutcracker.yml", &plain);
    let imported = tidegate(&["import", file.path()]);
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported));
    let made = String::from_utf8(imported.stdout).unwrap();
    for line in [
        "driver = \"kernel\"",
        "workers = 1",
        "compat = \"twemproxy\"",
        "redis_auth = \"opensesame\"",
    ] {
        assert!(made.contains(line), "{line:?} is not in\n{made}");
    }
    let said = String::from_utf8(imported.stderr).unwrap();
    let name = file.path();
    for warning in [
        format!("warning: {name}:5:15: redis_auth"),
        format!("warning: {name}:6:23: "),
    ] {
        assert!(said.contains(&warning), "{warning:?} is not in\n{said}");
    }
    assert!(
        said.contains("0600") && !said.contains("opensesame"),
        "{said}"
    );

    let config = Scratch::new("imported.toml", &made);
    let check = tidegate(&["check", "--config-only", "-c", config.path()]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check));
    let again = tidegate_with(plain.as_bytes(), &["import", "-"]);
    assert_eq!(
        String::from_utf8(again.stdout).unwrap(),
        made,
        "standard input"
    );
}

#[test]
fn an_import_with_faults_prints_all_of_them_and_nothing_else() {
    let bad = NUTCRACKER
        .replace("murmur", "murmuur")
        .replace(":1 b", ":0");
    let output = tidegate_with(bad.as_bytes(), &["import", "-"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let said = text(&output);
    for expected in ["error: <stdin>:3:9: ", "error: <stdin>:9:7: ", "2 errors"] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    assert!(
        !said.contains("warning") && !said.contains("opensesame"),
        "{said}"
    );
    for file in ["/no/such/file", "/"] {
        let output = tidegate(&["import", file]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(&format!("cannot read {file}")));
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn names_are_looked_up_only_when_that_is_asked_for() {
    let output = tidegate_with(NUTCRACKER.as_bytes(), &["import", "-"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("<stdin>:9:7: "), "{}", text(&output));
    let output = tidegate_with(NUTCRACKER.as_bytes(), &["import", "-", "--resolve"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let made = String::from_utf8(output.stdout).unwrap();
    assert!(made.contains(":6380:1 b\""), "{made}");
}

#[test]
fn the_command_line_of_an_import_says_what_the_file_does_not() {
    let plain = NUTCRACKER.replace("127.1", "127.0.0.1");
    let import = |arguments: &[&str]| {
        let output = tidegate_with(plain.as_bytes(), &[&["import", "-"], arguments].concat());
        (output.status.code(), text(&output))
    };
    let (code, made) = import(&["--workers", "4", "--compat", "none"]);
    assert_eq!(code, Some(0), "{made}");
    assert!(
        made.contains("workers = 4") && made.contains("compat = \"none\""),
        "{made}"
    );
    // Frames carry no loopback address: somebody has to choose one of the interface.
    let onto_interface = ["--driver", "afxdp", "--interface", "eth1"];
    let (code, said) = import(&onto_interface);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("<stdin>:2:11: ") && said.contains("is a loopback address"),
        "{said}"
    );
    let elsewhere = plain.replace("listen: 127.0.0.1", "listen: 10.0.0.10");
    let arguments = [&["import", "-"], &onto_interface[..]].concat();
    let output = tidegate_with(elsewhere.as_bytes(), &arguments);
    let made = text(&output);
    assert_eq!(output.status.code(), Some(0), "{made}");
    assert!(
        made.contains("interface = \"eth1\"") && !made.contains("workers"),
        "{made}"
    );
    for (wrong, code) in [
        (&["--workers", "0"][..], 2),
        (&["--driver", "afxdp"], 2),
        (&["--driver", "dpdk"], 2),
        (&["--workers", "2", "--interface", "eth1"], 2),
        (&["--compat", "redis"], 2),
        (&["--interface", "eth1"], 1),
        (&["--driver", "afxdp", "--interface", "eth 1"], 1),
    ] {
        let (found, said) = import(wrong);
        assert_eq!(found, Some(code), "{wrong:?}\n{said}");
    }
}

#[test]
fn addresses_and_token_of_the_page_are_looked_at_before_anything_begins() {
    let [page, stats] = [(); 2].map(|()| TcpListener::bind("127.84.251.1:0").unwrap());
    let [page, stats] = [&page, &stats].map(|taken| taken.local_addr().unwrap());
    let text = format!(
        "name = \"command-test-page\"\nhttp_listen = \"{page}\"\nhttp_token = {{ file = \"/no/such/token\" }}\nstats_listen = \"{stats}\"\n\
         [[port]]\ndriver = \"kernel\"\nworkers = 1\n[[pool]]\nname = \"sessions\"\nprotocol = \"redis\"\n\
         listen = \"127.84.251.1:22121\"\nservers = [\"127.84.251.1:6379\"]\n"
    );
    let config = Scratch::new("page.toml", &text);
    let runtime = std::env::temp_dir().join(format!("tidegate-page-{}", std::process::id()));
    for command in ["check", "run"] {
        let runtime = runtime.to_str().unwrap();
        let arguments = ["--runtime-dir", runtime, command, "-c", config.path()];
        let output = tidegate(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = crate::text(&output);
        for expected in [
            "error: http_token: /no/such/token: No such file".to_owned(),
            format!(":2:15: http_listen = \"{page}\": Address already in use"),
            format!(":4:16: stats_listen = \"{stats}\": Address already in use"),
            format!("(ss -ltnp 'sport = :{}' says which)", stats.port()),
            "3 errors".to_owned(),
        ] {
            assert!(said.contains(&expected), "{expected:?} is not in\n{said}");
        }
    }
    assert!(!runtime.exists());
}
