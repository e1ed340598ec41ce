//! The `tidegate` command as an operator meets it: faults named all at once, and nothing left behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Output, Stdio};
use tidegate_tests::appliance::{Appliance, command, write_config};
use tidegate_tests::client::resp::Value;
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::addresses::{self, Family, REDIS_PORT};
use tidegate_tests::lab::state::process_started;
use tidegate_tests::lab::{Lab, LabOptions, program};
use tidegate_tests::netns::Namespace;
use tidegate_tests::scene::{Scene, Turn, redis_client, turn_or_skip};

/// A lab with one server and no Tidegate.
fn bare_lab() -> Option<(Lab, Turn)> {
    let turn = turn_or_skip()?;
    let options = LabOptions {
        memcached: 0,
        redis: 1,
        ..LabOptions::default()
    };
    Some((
        Lab::raise(options).unwrap_or_else(|error| panic!("{error:?}")),
        turn,
    ))
}

/// What a command wrote to its standard error.
fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `tidegate run` with a configuration that cannot work, and returns what it said.
fn refused(lab: &Lab, config: &str) -> String {
    let file = write_config(lab, config).unwrap();
    let output = command(&lab.hosts.appliance, &["run", "-c", file.to_str().unwrap()]).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    complaint(&output)
}

fn assert_says(said: &str, all: &[&str]) {
    for words in all {
        assert!(said.contains(words), "{words:?} is missing in:\n{said}");
    }
}

/// What Tidegate changes on a host: programs on interfaces, reserved ports, its runtime directory, processes.
fn traces(host: &Namespace, name: &str) -> String {
    let interfaces = host
        .shell("ip -o -d link show | grep -o 'prog/xdp.*' || true")
        .unwrap();
    let reserved =
        host.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap());
    let sockets = Path::new("/run/tidegate")
        .join(name)
        .join("control.sock")
        .exists();
    let processes = host
        // Counted afterwards: whoever counts at the same time is there sometimes.
        .shell(&format!(
            "pids=$(ip netns pids {}); echo \"$pids\" | wc -l",
            host.name()
        ))
        .unwrap();
    format!(
        "xdp: {interfaces:?}, reserved: {reserved:?}, control socket: {sockets}, processes: {processes:?}"
    )
}

#[test]
fn a_clean_shutdown_leaves_nothing() {
    let Some((lab, _turn)) = bare_lab() else {
        return;
    };
    let host = &lab.hosts.appliance;
    let reserve = |ports: &'static str| {
        host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", ports).unwrap());
    };
    // The operator's own reservations have to survive.
    reserve("7000-7010,8080\n");
    let before = traces(host, lab.name());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut appliance = Appliance::start(&lab, &LabConfig::new(&lab, Family::V4)).unwrap();
        let reply = lab
            .hosts
            .client
            .run(|| redis_client(Family::V4).words("SET a 1").unwrap());
        assert_eq!(reply, Value::ok());
        let running = traces(host, lab.name());
        let shows = running.contains("prog/xdp")
            && running.contains("7000-7010")
            && running.contains("control socket: true");
        assert!(
            shows && running != before,
            "a running instance has to show, or this test proves nothing: {running}"
        );
        let status = appliance.end_with(signal).unwrap();
        assert_eq!(status.code(), Some(0), "{signal}: {}", appliance.log());
        assert_eq!(traces(host, lab.name()), before, "after {signal}");
    }
}

#[test]
fn what_a_killed_manager_left_is_removed_by_the_next_start() {
    let Some((lab, _turn)) = bare_lab() else {
        return;
    };
    let host = &lab.hosts.appliance;
    let before = traces(host, lab.name());
    let mut killed = Appliance::start(&lab, &LabConfig::new(&lab, Family::V4)).unwrap();
    let workers: Vec<i32> = killed
        .status()
        .unwrap()
        .workers()
        .iter()
        .map(|worker| worker.pid)
        .collect();
    killed.end_with(Signal::SIGKILL).unwrap();
    drop(killed);

    let next = Appliance::start(&lab, &LabConfig::new(&lab, Family::V4)).unwrap();
    let reply = lab
        .hosts
        .client
        .run(|| redis_client(Family::V4).words("SET a 1").unwrap());
    assert_eq!(reply, Value::ok());
    for pid in workers {
        assert_eq!(
            process_started(pid),
            None,
            "worker {pid} of the killed manager still runs"
        );
    }
    assert_eq!(next.stop().unwrap().code(), Some(0));
    assert_eq!(traces(host, lab.name()), before);
}

#[test]
fn faults_of_the_machine_are_all_named_at_once() {
    let Some((lab, _turn)) = bare_lab() else {
        return;
    };
    let mut config = LabConfig::new(&lab, Family::V4);
    config.interfaces.push("eth9".to_owned());
    config.queues = 3;
    let text = config
        .to_toml()
        .replace("2 = 0", "2 = 1000")
        .replace("2 = 2", "2 = 1000");
    assert_says(
        &refused(&lab, &text),
        &[
            "eth9 does not exist",
            "eth1",
            "core 1000",
            "ethtool -L eth1",
            "receive queues",
        ],
    );
}

#[test]
fn each_missing_capability_is_named() {
    let Some((lab, _turn)) = bare_lab() else {
        return;
    };
    let file = write_config(&lab, &LabConfig::new(&lab, Family::V4).to_toml()).unwrap();
    let mut bare = lab.hosts.appliance.command("setpriv");
    bare.args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(program("tidegate").unwrap());
    let output = bare
        .args(["run", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_says(
        &complaint(&output),
        &[
            "CAP_NET_ADMIN",
            "CAP_NET_RAW",
            "CAP_BPF",
            "CAP_SETUID",
            "CAP_SETGID",
        ],
    );
}

#[test]
fn an_address_that_somebody_else_uses_is_refused() {
    let Some((lab, _turn)) = bare_lab() else {
        return;
    };
    let address = SocketAddr::new(addresses::vip(Family::V4), REDIS_PORT);
    let config = LabConfig::new(&lab, Family::V4);
    let taken = lab
        .hosts
        .appliance
        .run(|| TcpListener::bind(address).unwrap());
    assert_says(&refused(&lab, &config.to_toml()), &[&address.to_string()]);
    drop(taken);

    let mut elsewhere = config.clone();
    let stranger: SocketAddr = "10.99.0.1:6379".parse().unwrap();
    elsewhere.pools[0].listen = vec![stranger];
    assert_says(&refused(&lab, &elsewhere.to_toml()), &["10.99.0.1"]);

    let running = Appliance::start(&lab, &config).unwrap();
    assert_says(
        &refused(&lab, &config.to_toml()),
        &["running already", lab.name()],
    );
    // The first instance does not mind.
    let reply = lab
        .hosts
        .client
        .run(|| redis_client(Family::V4).words("PING").unwrap());
    assert_eq!(reply, Value::Simple("PONG".to_owned()));
    assert_eq!(running.stop().unwrap().code(), Some(0));
}

#[test]
fn check_reports_every_fault_with_its_line_and_needs_no_privileges() {
    let directory = std::env::temp_dir().join(format!("tidegate-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("faulty.toml");
    let text = r#"name = "x"
[[port]]
interface = "eth1"
queues = { 0 = 0, 2 = 1 }
ring_size = 1000
[[pool]]
name = "a"
listen = "10.0.0.10"
protocol = "memcache"
hash = "fnv1a_63"
hash_tag = "{"
servers = ["10.0.1.1:11211:0", "cache.example:11211:1"]
redis_auth = "opensesame"
timeot_ms = 5
"#;
    std::fs::write(&file, text).unwrap();
    let output = std::process::Command::new(program("tidegate").unwrap())
        .args(["check", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = complaint(&output);
    for line in [4, 5, 8, 9, 10, 11, 12, 14] {
        assert!(
            said.contains(&format!("faulty.toml:{line}:")),
            "the fault of line {line} is missing in:\n{said}"
        );
    }
    assert!(
        said.contains("timeout_ms"),
        "no suggestion for timeot_ms in:\n{said}"
    );
    assert!(
        !said.contains("opensesame"),
        "a password was printed:\n{said}"
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [&["run"][..], &["nonsense"], &["check", "--nonsense"], &[]] {
        let output = std::process::Command::new(program("tidegate").unwrap())
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn shutdown_waits_for_what_is_owed() {
    let Some(mut scene) = Scene::usual() else {
        return;
    };
    let manager = scene.appliance.process().pid();
    scene.on_client(|| {
        let mut client = redis_client(Family::V4);
        let value = vec![b'v'; 1 << 20];
        assert_eq!(client.ask(&[b"SET", b"owed", &value]).unwrap(), Value::ok());
        client
            .connection
            .send(&b"*2\r\n$3\r\nGET\r\n$4\r\nowed\r\n".repeat(8))
            .unwrap();
        // The first reply shows that the requests were accepted.
        assert_eq!(client.reply().unwrap(), Value::bulk(&value));
        kill(Pid::from_raw(manager), Signal::SIGTERM).unwrap();
        for number in 1..8 {
            assert_eq!(
                client.reply().unwrap(),
                Value::bulk(&value),
                "reply {number} was owed"
            );
        }
    });
    assert_eq!(
        scene.appliance.end_with(Signal::SIGCONT).unwrap().code(),
        Some(0)
    );
}
