//! What keeps it from starting, said all at once and with what to do.

use crate::home::{Home, PATIENCE, said};
use nix::unistd::geteuid;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn pools(listen: &[String]) -> [String; 1] {
    [Home::pool("redis", listen, "192.0.2.1:6379:1")]
}

/// What `tidegate run` says before it gives up.
fn refused(home: &Home, port: &str, listen: &[String]) -> String {
    let config = home.config(port, &pools(listen));
    let (code, said) = home.output(&["run", "-c", config.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(!home.has_runtime_directory(), "nothing is left behind");
    said
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn every_address_that_cannot_be_listened_on_is_named_at_once() {
    let home = Home::new(30);
    let taken = TcpListener::bind(home.address(22_121)).unwrap();
    std::fs::write(home.path("file"), "").unwrap();
    std::fs::create_dir(home.path("closed")).unwrap();
    let closed = PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(home.path("closed"), closed).unwrap();
    let path = |name: &str| home.path(name).display().to_string();
    let listen = [
        home.address(22_121).to_string(),
        home.address(82).to_string(),
        "192.0.2.77:22121".to_owned(),
        path("missing/a.sock"),
        path("closed/a.sock"),
        path("file"),
    ];
    let said = refused(&home, "queues = { 0 = 1000 }", &listen);
    assert_says(
        &said,
        &[
            "22121 is in use: ss -ltnp sport = :22121",
            ":82: permission denied: ports below 1024 need CAP_NET_BIND_SERVICE",
            "192.0.2.77 is not an address of this host",
            "missing does not exist",
            "no socket can be made in",
            "file is there and is no socket",
            "core 1000 (worker 0) is not available",
            "7 errors",
        ],
    );
    drop(taken);
}

#[test]
fn a_second_instance_of_the_name_and_one_of_the_address_are_refused() {
    let home = Home::new(31);
    let first = home.config("workers = 1", &pools(&[home.address(22_121).to_string()]));
    let instance = home.run(&first, 1);
    let other = home.path("other.toml");
    let text = std::fs::read_to_string(&first).unwrap();
    std::fs::write(&other, text.replace("22121", "22129")).unwrap();
    let (code, text) = home.output(&["run", "-c", other.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert_says(
        &text,
        &["an instance named \"local-31\" is running already"],
    );
    assert!(!text.contains("in use"), "{text}");

    let text = std::fs::read_to_string(&first).unwrap();
    std::fs::write(&other, text.replace("local-31", "local-31b")).unwrap();
    let (code, text) = home.output(&["run", "-c", other.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert_says(&text, &["127.84.31.1:22121 is in use"]);
    instance.stop();
}

#[test]
fn too_few_open_files_are_a_warning_with_the_numbers() {
    let home = Home::new(32);
    let config = home.config("workers = 1", &pools(&[home.address(22_121).to_string()]));
    let run = home.tidegate(&["run", "-c", config.to_str().unwrap()]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 200; exec \"$@\"", "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(home.path(""));
    let instance = home.instance(&mut limited, "local-32", 1);
    let log = instance.process.log_text();
    assert_says(
        &log,
        &[
            "may open 200 files",
            "clients_max = 256",
            "at most 132 clients",
            "ulimit -n 537",
        ],
    );
    instance.stop();
}

#[test]
fn a_runtime_directory_that_cannot_be_written_is_named() {
    let home = Home::new(33);
    let config = home.config("workers = 1", &pools(&[home.address(22_121).to_string()]));
    let file = config.to_str().unwrap();
    let nowhere = "/proc/nowhere";
    let output = home
        .bare_tidegate(&["--runtime-dir", nowhere, "run", "-c", file])
        .output()
        .unwrap();
    let (code, text) = said(&output);
    assert_eq!(code, Some(1));
    assert_says(&text, &["cannot write /proc/nowhere", "--runtime-dir"]);

    // Half made is not made: what was made above it goes as well.
    let closed = home.path("closed");
    std::fs::create_dir(&closed).unwrap();
    if geteuid().is_root() {
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o555)).unwrap();
        let deep = closed.join("a");
        let (code, text) = said(
            &home
                .bare_tidegate(&["--runtime-dir", deep.to_str().unwrap(), "run", "-c", file])
                .output()
                .unwrap(),
        );
        assert_eq!(code, Some(1));
        assert_says(&text, &["cannot write"]);
    }
}

#[test]
fn a_full_runtime_directory_is_named_and_left_as_it_was() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let home = Home::new(35);
    let config = home.config("workers = 1", &pools(&[home.address(22_121).to_string()]));
    let small = home.path("small");
    std::fs::create_dir(&small).unwrap();
    let small = small.to_str().unwrap();
    let run = [
        "--runtime-dir",
        small,
        "run",
        "-c",
        config.to_str().unwrap(),
    ];
    let run = home.bare_tidegate(&run);
    // The mount ends with its namespace.
    let script = "mount -t tmpfs -o size=16k,mode=777 none \"$1\" && ! head -c 64k /dev/zero 2>/dev/null >\"$1/filler\" \
                  && shift && ! \"$@\" ; ls -A \"$SMALL\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", small])
        .arg(run.get_program())
        .args(run.get_args())
        .env("SMALL", small)
        .output()
        .unwrap();
    let (_, text) = said(&output);
    assert_says(&text, &["cannot write", "No space left", "--runtime-dir"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "filler");
}

#[test]
fn the_directory_of_the_session_is_used_and_somebody_elses_is_refused() {
    let home = Home::new(34);
    let config = home.config("workers = 1", &pools(&[home.address(22_121).to_string()]));
    let run = ["run", "-c", config.to_str().unwrap()];
    let session = home.path("");
    let mut command = home.bare_tidegate(&run);
    command.env("XDG_RUNTIME_DIR", &session);
    let log = home.path("tidegate.log");
    let mut process =
        tidegate_tests::lab::process::Process::start_command(&mut command, "tidegate", log)
            .unwrap();
    let status = || {
        let mut status = home.bare_tidegate(&["status"]);
        said(&status.env("XDG_RUNTIME_DIR", &session).output().unwrap())
    };
    crate::home::wait_until("an answer", || {
        assert!(process.ended().is_none(), "{}", process.log_text());
        status().1.contains("· running ·")
    });
    let made = home.path("tidegate");
    let mode = std::fs::metadata(&made).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    process.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = process.wait(PATIENCE).unwrap();
    assert!(ended.success() && !made.exists(), "{}", process.log_text());

    std::fs::create_dir(&made).unwrap();
    std::fs::set_permissions(&made, PermissionsExt::from_mode(0o777)).unwrap();
    let mut command = home.bare_tidegate(&run);
    command.env("XDG_RUNTIME_DIR", &session);
    let (code, text) = said(&command.output().unwrap());
    assert_eq!(code, Some(1));
    assert_says(&text, &["is not a directory of user", "--runtime-dir"]);
    let (code, text) = status();
    assert_eq!(code, Some(1));
    assert_says(&text, &["is not a directory of user"]);
}
