//! The command as a process, as far as it goes without privileges.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tidegate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .stdin(std::process::Stdio::null())
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
