//! `tidegate configure` and `tidegate doctor` as processes: on a veth in a network namespace of the test's own, and without
//! privileges.
//!
//! Only stages that belong to the namespace are done for real; the others are tested on a tree of files, beside the code.

use nix::sched::{CloneFlags, unshare};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A directory that is removed with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("tidegate-configure-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn config(&self) -> String {
        self.0.join("shop.toml").display().to_string()
    }

    fn tidegate(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let root = self.0.join("run").display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        run(command.args(["--runtime-dir", &root]).args(arguments))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    (status.code(), text)
}

const CONFIG: &str = r#"
name = "shop"
[[port]]
interface = "tgc0"
queues = { 0 = 0, 1 = 0 }
[[pool]]
name = "sessions"
listen = "192.0.2.10:11211"
protocol = "memcached"
servers = ["192.0.2.11:11211:1"]
[worker]
source_ports = "61000-61999"
"#;

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Runs `body` on a thread with a network namespace of its own, in which tgc0 has two queues. Not where that is not allowed.
fn with_veth(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                eprintln!("SKIPPED, needs root: network namespaces ({error})");
                return;
            }
            let queues = "numrxqueues 2 numtxqueues 2";
            let link = format!("link add tgc0 {queues} type veth peer name tgc1 {queues}");
            let (code, text) = run(Command::new("ip").args(link.split(' ')));
            assert_eq!(code, Some(0), "{text}");
            body();
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Whether tgc0 takes VLAN tags away, as another program sees it.
fn features() -> String {
    let (_, text) = run(Command::new("ethtool").args(["-k", "tgc0"]));
    text.lines()
        .filter(|line| line.starts_with("rx-vlan-offload"))
        .collect()
}

#[test]
fn a_veth_gets_what_it_lacks_and_has_afterwards_what_it_had() {
    let scratch = Scratch::new("veth");
    std::fs::write(scratch.config(), CONFIG).unwrap();
    let config = scratch.config();
    let stages = ["channels", "rings", "offloads", "irqs", "ports"];
    let configure = |what: &str| {
        let arguments: Vec<&str> = ["configure", what].into_iter().chain(stages).collect();
        scratch.tidegate(&[&arguments[..], &["-c", &config]].concat())
    };
    with_veth(|| {
        // The namespace of a process is that of the thread that starts it.
        let (code, text) = run(Command::new("ethtool").args(["-L", "tgc0", "rx", "1", "tx", "1"]));
        assert_eq!(code, Some(0), "{text}");
        let reserved = || std::fs::read_to_string(RESERVED).unwrap();
        let (ports_before, features_before) = (reserved(), features());

        let (code, text) = configure("check");
        assert_eq!(code, Some(1), "{text}");
        for expected in [
            "channels   WRONG  tgc0: 1 queues for 2 workers; to mend it: `tidegate configure init channels`, or ethtool -L tgc0 rx 2 tx 2",
            "rings      -      tgc0: its driver has no rings to set",
            "offloads   WRONG  tgc0: rx-vlan-hw-parse is on",
            "irqs       -      tgc0: ",
            "ports      WRONG",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(!scratch.0.join("run").exists(), "check leaves nothing");

        let (code, text) = configure("init");
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains(
                "channels   done   tgc0: channels: rx 1 tx 1 combined 0 → rx 2 tx 2 combined 0"
            ),
            "{text}"
        );
        assert_eq!(reserved().trim(), "61000-61999");
        assert!(features().contains("off"), "{}", features());
        assert_eq!(configure("check").0, Some(0));
        let (code, text) = configure("init");
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("done"), "{text}");

        let (code, text) = configure("fini");
        assert_eq!(code, Some(0), "{text}");
        assert_eq!((reserved(), features()), (ports_before, features_before));
        let (code, text) = configure("check");
        assert!(
            code == Some(1) && text.contains("1 queues for 2 workers"),
            "{text}"
        );
        assert!(!scratch.0.join("run").exists(), "fini leaves nothing");
    });
}

#[test]
fn the_doctor_names_what_is_wrong_with_a_veth() {
    let scratch = Scratch::new("doctor");
    std::fs::write(scratch.config(), CONFIG).unwrap();
    with_veth(|| {
        let (code, text) = scratch.tidegate(&["doctor", "--json", "-c", &scratch.config()]);
        assert_eq!(code, Some(2), "{text}");
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["verdict"], "blocked");
        let findings = report["findings"].as_array().unwrap();
        let has = |about: &str, severity: &str, part: &str| {
            findings.iter().any(|finding| {
                finding["about"] == about
                    && finding["severity"] == severity
                    && finding["what"].as_str().unwrap().contains(part)
            })
        };
        assert!(has("plan", "blocks", "ip link set tgc0 up"), "{text}");
        assert!(
            has("addresses", "blocks", "192.0.2.10 is not on tgc0"),
            "{text}"
        );
        assert!(has("interface", "slower", "tgc0 is a veth"), "{text}");
        assert!(has("offloads", "slower", "rx-vlan-hw-parse"), "{text}");
    });
}

#[test]
fn without_an_interface_check_says_so_and_init_changes_nothing() {
    let scratch = Scratch::new("nothing");
    std::fs::write(scratch.config(), CONFIG).unwrap();
    let config = scratch.config();
    let (code, text) =
        scratch.tidegate(&["configure", "check", "channels", "rings", "-c", &config]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("channels   WRONG  tgc0: there is no such interface"),
        "{text}"
    );
    let (code, text) = scratch.tidegate(&["configure", "init", "channels", "-c", &config]);
    assert_eq!(code, Some(1), "{text}");
    assert!(!scratch.0.join("run").exists());
    let (code, text) = scratch.tidegate(&["configure", "fini", "--name", "shop"]);
    assert!(
        code == Some(0) && text.contains("nothing to undo"),
        "{text}"
    );
}

#[test]
fn a_device_that_is_no_card_is_named_and_nothing_is_done() {
    let scratch = Scratch::new("device");
    for (device, expected) in [
        ("ffff:ff:1f.7", "there is no PCI device ffff:ff:1f.7"),
        ("lo", "lo is no interface of a PCI card of its own"),
        ("tg-nowhere0", "tg-nowhere0 is neither the address"),
    ] {
        for what in ["check", "init"] {
            let (code, text) = scratch.tidegate(&["configure", what, "--device", device]);
            assert_eq!(code, Some(1), "{text}");
            assert!(
                text.contains(&format!("cards      WRONG  {expected}")),
                "{text}"
            );
            assert_eq!(text.lines().count(), 1, "only cards are looked at: {text}");
        }
    }
    let (code, text) = scratch.tidegate(&["configure", "fini", "--name", "tidegate"]);
    assert!(
        code == Some(0) && text.contains("nothing to undo"),
        "{text}"
    );
    let (code, text) = scratch.tidegate(&[
        "configure",
        "check",
        "--device",
        "lo",
        "--name",
        "../elsewhere",
    ]);
    assert!(
        code == Some(1) && text.contains("names no instance"),
        "{text}"
    );
}

#[test]
fn usage_and_faults_of_the_file_are_told_apart() {
    let scratch = Scratch::new("usage");
    std::fs::write(scratch.config(), CONFIG.replace("memcached", "memcash")).unwrap();
    let config = scratch.config();
    for arguments in [
        &["configure"][..],
        &["configure", "init"],
        &["configure", "fini"],
        &["configure", "check", "no-such-stage", "-c", &config],
    ] {
        assert_eq!(scratch.tidegate(arguments).0, Some(2), "{arguments:?}");
    }
    for what in ["check", "init", "fini"] {
        let (code, text) = scratch.tidegate(&["configure", what, "-c", &config]);
        assert!(code == Some(1) && text.contains("shop.toml:"), "{text}");
    }
    let (code, text) = scratch.tidegate(&["doctor", "-c", &config]);
    assert!(code == Some(2) && text.contains("shop.toml:"), "{text}");
}

#[test]
fn the_doctor_looks_at_any_host_without_a_configuration() {
    let scratch = Scratch::new("any");
    let (code, text) = scratch.tidegate(&["doctor"]);
    assert!(code.is_some_and(|code| code < 3), "{text}");
    assert!(text.contains("name a configuration with -c"), "{text}");
    let (_, text) = scratch.tidegate(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(report["findings"].is_array(), "{text}");
}
