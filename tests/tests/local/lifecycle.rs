//! Commands that change a running instance, its log, and what the service manager hears.

use crate::home::{Home, keep_from_others, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value as Json;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use tidegate_tests::client::resp::{Redis, Value, command};

fn pools(home: &Home) -> [String; 1] {
    [Home::pool(
        "redis",
        &[home.address(22_121).to_string()],
        &format!("{}:1", home.address(6379)),
    )]
}

#[test]
fn a_drained_instance_delivers_what_is_owed_and_ends() {
    let home = Home::new(20);
    let _redis = home.redis();
    let mut instance = home.run(&home.config("workers = 2", &pools(&home)), 2);
    let mut client = Redis::open(home.address(22_121)).unwrap();
    let value = vec![b'v'; 1 << 20];
    assert_eq!(client.ask(&[b"SET", b"a", &value]).unwrap(), Value::ok());
    let get = command(&[b"GET", b"a"]);
    client.connection.send(&get.repeat(8)).unwrap();
    assert_eq!(client.reply().unwrap(), Value::bulk(&value));
    let replies = std::thread::spawn(move || {
        for _ in 1..8 {
            assert_eq!(client.reply().unwrap(), Value::bulk(&value));
        }
        client.connection.rest().unwrap()
    });
    let (code, said) = home.output(&["drain", "--deadline", "30000"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("was drained and has ended"), "{said}");
    assert!(replies.join().unwrap().is_empty());
    wait_until("end", || instance.process.ended().is_some());
    assert!(instance.process.ended().unwrap().success());
    assert!(!home.has_runtime_directory());
}

#[test]
fn a_drained_worker_is_followed_by_another_process() {
    let home = Home::new(21);
    let _redis = home.redis();
    let mut instance = home.run(&home.config("workers = 2", &pools(&home)), 2);
    let before = [instance.worker(0), instance.worker(1)];
    let (code, said) = home.output(&["drain", "--worker", "1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("worker 1 was drained"), "{said}");
    let status = instance.wait_for("both workers", |status| {
        status["workers"][1]["state"] == "running"
    });
    assert_eq!(instance.worker(0), before[0]);
    assert_ne!(instance.worker(1), before[1]);
    assert_eq!(status["workers"][1]["restarts"], 1);
    assert_eq!(status["workers"][1]["last_exit"], "exit code 0");
    for _ in 0..8 {
        let mut client = Redis::open(home.address(22_121)).unwrap();
        assert_eq!(client.words("SET a 1").unwrap(), Value::ok());
    }
    for (arguments, words) in [
        (["drain", "--worker", "9"], "there is no worker 9"),
        (["drain", "--deadline", "900000"], "600000"),
    ] {
        let (code, said) = home.output(&arguments);
        assert_ne!(code, Some(0), "{said}");
        assert!(said.contains(words), "{said}");
    }
    instance.stop();
}

#[test]
fn the_filter_of_the_log_changes_while_everything_runs() {
    let home = Home::new(22);
    let instance = home.run(&home.config("workers = 1", &pools(&home)), 1);
    let (code, said) = home.output(&["log-level", "tidegate=debug,info"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("before: info"), "{said}");
    let (code, said) = home.output(&["log-level", "tidegate=nonsense"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is no filter"), "{said}");
    let (_, said) = home.output(&["log-level", "warn"]);
    assert!(said.contains("before: tidegate=debug,info"), "{said}");
    instance.stop();
}

#[test]
fn the_log_is_json_if_that_is_asked_for() {
    let home = Home::new(23);
    let config = home.config("workers = 1", &pools(&home));
    let arguments = [
        "--log-format",
        "json",
        "run",
        "-c",
        config.to_str().unwrap(),
    ];
    let mut instance = home.instance(&mut home.tidegate(&arguments), "local-23", 1);
    assert!(instance.end_with(Signal::SIGTERM).success());
    let log = instance.process.log_text();
    let mut speakers = Vec::new();
    for line in log.lines() {
        let line: Json = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for field in ["time", "level", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
        speakers.push(line["process"].as_str().unwrap().to_owned());
    }
    for speaker in ["manager", "worker 0"] {
        assert!(speakers.iter().any(|who| who == speaker), "{log}");
    }
}

#[test]
fn the_service_manager_hears_what_happens() {
    let home = Home::new(24);
    let path = home.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    socket
        .set_read_timeout(Some(crate::home::PATIENCE))
        .unwrap();
    let config = home.config("workers = 2", &pools(&home));
    let mut tidegate = home.tidegate(&["run", "-c", config.to_str().unwrap()]);
    tidegate
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let mut heard = String::new();
    let mut hear = |what: &str| {
        while !heard.contains(what) {
            let mut message = [0; 4096];
            let length = socket
                .recv(&mut message)
                .unwrap_or_else(|_| panic!("{what}: {heard}"));
            heard.push_str(std::str::from_utf8(&message[..length]).unwrap());
        }
        heard.clone()
    };
    let mut instance = home.instance(&mut tidegate, "local-24", 2);
    let until_ready = hear("READY=1\n");
    assert!(
        until_ready.contains("STATUS=2 of 2 workers serve"),
        "{until_ready}"
    );
    hear("WATCHDOG=1\n");
    instance.process.signal(Signal::SIGTERM);
    hear("STOPPING=1\n");
    assert!(instance.end_with(Signal::SIGCONT).success());
}

#[test]
fn shells_and_manuals_know_the_commands() {
    let home = Home::new(25);
    for shell in ["bash", "zsh", "fish"] {
        let (code, said) = home.output(&["completions", shell]);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("clean-up") && said.contains("log-level"),
            "{shell}"
        );
    }
    let pages = home.path("man");
    std::fs::create_dir(&pages).unwrap();
    std::fs::set_permissions(&pages, PermissionsExt::from_mode(0o777)).unwrap();
    let (code, said) = home.output(&["man", pages.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    for page in ["tidegate.1", "tidegate-run.1", "tidegate-drain.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(
        !pages.join("tidegate-worker.1").exists(),
        "it is not for people"
    );
    let (code, said) = home.output(&["man", "/no/such/place"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/no/such/place"), "{said}");
}

/// Passwords from all three places, in front of a server that wants one, with everything logged that can be.
#[test]
fn no_password_is_ever_shown() {
    let home = Home::new(26);
    let _redis = home.redis();
    let mut server = Redis::open(home.address(6379)).unwrap();
    assert_eq!(
        server
            .words("CONFIG SET requirepass behind-hunter2")
            .unwrap(),
        Value::ok()
    );
    let file = home.path("password");
    std::fs::write(&file, "front-hunter2\n").unwrap();
    keep_from_others(&file);
    let mut pools = pools(&home).to_vec();
    let auth = format!(
        "redis_auth = {{ file = {file:?} }}\nserver_auth = {{ env = \"TIDEGATE_TEST_PASSWORD\" }}\n"
    );
    pools[0].push_str(&auth);
    pools.push(Home::pool(
        "memcached",
        &[home.address(22_122).to_string()],
        &format!("{}:1", home.address(11_211)),
    ));
    pools[1].push_str("memcached_auth = \"inline-hunter2\"\nmemcached_user = \"someone\"\n");
    let config = home.config("workers = 1", &pools);
    let tidegate = |arguments: &[&str]| {
        let mut command = home.tidegate(arguments);
        command.env("TIDEGATE_TEST_PASSWORD", "behind-hunter2");
        command
    };
    let run = ["run", "-c", config.to_str().unwrap()];
    let mut instance = home.instance(tidegate(&run).env("TIDEGATE_LOG", "trace"), "local-26", 1);
    let mut client = Redis::open(home.address(22_121)).unwrap();
    assert!(client.words("GET a").unwrap().is_error("NOAUTH"));
    assert!(client.words("AUTH wrong").unwrap().is_error("WRONGPASS"));
    assert_eq!(client.words("AUTH front-hunter2").unwrap(), Value::ok());
    assert_eq!(client.words("SET a 1").unwrap(), Value::ok());

    let check = tidegate(&["check", "-c", config.to_str().unwrap()])
        .output()
        .unwrap();
    let mut shown = vec![crate::home::said(&check).1];
    assert!(shown[0].contains("redis_auth = { file = "), "{}", shown[0]);
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["stats"],
        &["stats", "--json"],
    ] {
        shown.push(home.output(command).1);
    }
    let pids = [instance.process.pid(), instance.worker(0).as_raw()];
    for pid in pids {
        shown.push(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap());
    }
    // Only root may look there; for all others the kernel says no, which is as well.
    let environment = std::fs::read(format!("/proc/{}/environ", pids[1]));
    shown.push(String::from_utf8_lossy(&environment.unwrap_or_default()).into_owned());
    assert!(instance.end_with(Signal::SIGTERM).success());
    shown.push(instance.process.log_text());
    for text in shown {
        assert!(!text.contains("hunter2"), "{text}");
    }

    std::fs::remove_file(&file).unwrap();
    let missing = tidegate(&["check", "-c", config.to_str().unwrap()])
        .output()
        .unwrap();
    let (code, said) = crate::home::said(&missing);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("tidegate.toml:") && said.contains("cannot read"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}
