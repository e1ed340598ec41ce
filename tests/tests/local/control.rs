//! The control socket of a running instance: who may speak there, and what nonsense costs.

use crate::home::Home;
use nix::unistd::geteuid;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use tidegate_tests::client::resp::Redis;

/// A user that is neither root nor the one of the tests.
const FOREIGN_USER: &str = "65533";

fn pools(home: &Home) -> [String; 1] {
    [Home::pool(
        "redis",
        &[home.address(22_121).to_string()],
        &format!("{}:1", home.address(6379)),
    )]
}

fn socket(home: &Home, name: &str) -> PathBuf {
    home.path("run").join(name).join("control.sock")
}

#[test]
fn garbage_and_floods_on_the_control_socket_stop_nobody() {
    let home = Home::new(60);
    let _redis = home.redis();
    let instance = home.run(&home.config("workers = 1", &pools(&home)), 1);
    let path = socket(&home, "local-60");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ask = |text: &[u8]| {
        let mut client = UnixStream::connect(&path).unwrap();
        // What is longer than it reads finds the connection closed.
        let _closed = client.write_all(text);
        let mut said = String::new();
        let _reset = client.read_to_string(&mut said);
        said
    };
    assert!(ask(b"{\"no-such-thing\":{}}\n").contains("unknown variant"));
    assert!(ask(b"\x00\xff\x17\n").contains("request: "));
    assert!(ask(&vec![b'['; 300_000]).is_empty() || ask(b"[[[[\n").contains("request: "));
    // Deeper than any parser should follow.
    assert!(ask(format!("{}\n", "[".repeat(60_000)).as_bytes()).contains("request: "));
    let silent: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    let mut client = Redis::open(home.address(22_121)).unwrap();
    assert!(client.words("SET a 1").is_ok());
    let status = instance.status().expect("an answer beside a flood");
    assert!(status["control"]["refused_crowded"].as_u64() > Some(0));
    assert!(status["control"]["refused_malformed"].as_u64() > Some(2));
    drop((silent, client));
    instance.stop();
}

#[test]
fn another_user_commands_nothing_even_where_the_file_lets_him_in() {
    if !geteuid().is_root() {
        eprintln!("left out: only root can become somebody else");
        return;
    }
    let home = Home::new(61);
    let _redis = home.redis();
    let instance = home.run(&home.config("workers = 1", &pools(&home)), 1);
    let path = socket(&home, "local-61");
    for (path, mode) in [
        (path.parent().unwrap().parent().unwrap(), 0o755),
        (path.parent().unwrap(), 0o755),
        (path.as_path(), 0o666),
    ] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let root = home.path("run");
    let foreign = std::process::Command::new("setpriv")
        .args(["--reuid", FOREIGN_USER, "--regid", FOREIGN_USER])
        .args(["--clear-groups", "--"])
        .arg(tidegate_tests::lab::program("tidegate").unwrap())
        .args(["status", "--name", "local-61", "--runtime-dir"])
        .arg(&root)
        .output()
        .unwrap();
    let (code, said) = crate::home::said(&foreign);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("serves its own user and root alone"),
        "{said}"
    );
    let status = instance.status().unwrap();
    assert_eq!(status["control"]["refused_foreign"], 1);
    for path in [path.parent().unwrap(), root.as_path()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
    }
    instance.stop();
}
