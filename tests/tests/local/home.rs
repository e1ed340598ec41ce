//! A directory, servers and Tidegate on loopback, as an ordinary user has them.

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use tidegate_tests::client::eventually_within;
use tidegate_tests::lab::process::Process;
use tidegate_tests::lab::program;

/// Turns a hang into a failure; far above what anything here takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The user that tests run as when they were started by root.
pub const ORDINARY_USER: u32 = 65_534;

/// Waits until `condition` holds.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, condition);
}

/// A test's own directory and its own address. All of 127.0.0.0/8 is local, so tests do not meet.
pub struct Home {
    directory: PathBuf,
    number: u8,
}

impl Home {
    /// `number` is different in every test.
    pub fn new(number: u8) -> Self {
        let process = std::process::id();
        let directory = std::env::temp_dir().join(format!("tidegate-local-{number}-{process}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
        Self { directory, number }
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// An address of this test.
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 84, self.number, 1], port))
    }

    /// Writes a configuration: the port's lines, then pools.
    pub fn config(&self, port: &str, pools: &[String]) -> PathBuf {
        let mut text = format!(
            "name = \"local-{}\"\n[[port]]\ndriver = \"kernel\"\n{port}\n",
            self.number
        );
        for pool in pools {
            text.push_str(pool);
        }
        text.push_str("[worker]\nclients_max = 256\noutlive_manager = false\n");
        let file = self.path("tidegate.toml");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// The text of a pool that listens on `listen`.
    pub fn pool(protocol: &str, listen: &[String], server: &str) -> String {
        let mut text = String::new();
        writeln!(
            text,
            "[[pool]]\nname = \"{protocol}\"\nprotocol = \"{protocol}\"\nlisten = {listen:?}\nservers = [\"{server}\"]"
        )
        .unwrap();
        text
    }

    /// Starts a redis-server that listens on an address and on a path.
    pub fn redis(&self) -> Process {
        self.redis_on(6379, "redis")
    }

    /// The same on another port; its path is `NAME.sock`.
    pub fn redis_on(&self, port: u16, name: &str) -> Process {
        let (address, path) = (self.address(port), self.path(&format!("{name}.sock")));
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", &address.ip().to_string()])
            .args(["--port", &address.port().to_string()])
            .args(["--unixsocket", path.to_str().unwrap()])
            .args(["--unixsocketperm", "777", "--save", ""])
            .args(["--daemonize", "no", "--loglevel", "warning", "--dir"])
            .arg(&self.directory);
        self.server(&mut command, name, address)
    }

    /// Starts a memcached.
    pub fn memcached(&self) -> Process {
        let address = self.address(11_211);
        let mut command = Command::new("memcached");
        command
            .args(["-u", "nobody", "-U", "0", "-t", "1", "-m", "64"])
            .args(["-l", &address.to_string()]);
        self.server(&mut command, "memcached", address)
    }

    fn server(&self, command: &mut Command, name: &str, address: SocketAddr) -> Process {
        let log = self.path(&format!("{name}.log"));
        let mut server = Process::start_command(command, name, log).unwrap();
        wait_until(name, || {
            assert!(server.ended().is_none(), "{}", server.log_text());
            TcpStream::connect(address).is_ok()
        });
        server
    }

    /// `tidegate` as an ordinary user, whoever runs the tests, with a runtime directory of this test.
    pub fn tidegate(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_tidegate(&[]);
        command.arg("--runtime-dir").arg(self.path("run"));
        command.args(arguments);
        command
    }

    /// The same without a runtime directory.
    pub fn bare_tidegate(&self, arguments: &[&str]) -> Command {
        let tidegate = program("tidegate").unwrap();
        let mut command = if geteuid().is_root() {
            let user = ORDINARY_USER.to_string();
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
                .arg(tidegate);
            command
        } else {
            Command::new(tidegate)
        };
        command
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    /// What a command that ends by itself printed, and its code.
    pub fn output(&self, arguments: &[&str]) -> (Option<i32>, String) {
        said(&self.tidegate(arguments).output().unwrap())
    }

    /// Starts `tidegate run` and waits until it serves with this many workers.
    pub fn run(&self, config: &Path, workers: usize) -> Instance<'_> {
        let mut command = self.tidegate(&["run", "-c", config.to_str().unwrap()]);
        self.instance(&mut command, &format!("local-{}", self.number), workers)
    }

    /// Waits until what `command` starts serves.
    pub fn instance(&self, command: &mut Command, name: &str, workers: usize) -> Instance<'_> {
        let log = self.path("tidegate.log");
        let mut instance = Instance {
            process: Process::start_command(command, "tidegate", log).unwrap(),
            home: self,
            name: name.to_owned(),
        };
        instance.wait_for("serving", |status| {
            let states = status["workers"].as_array().unwrap();
            states.len() == workers && states.iter().all(|worker| worker["state"] == "running")
        });
        instance
    }

    /// What is left of an instance: nothing, after an end in order.
    pub fn has_runtime_directory(&self) -> bool {
        self.path("run").exists()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// Code and text of a command that has ended.
pub fn said(output: &Output) -> (Option<i32>, String) {
    let out = String::from_utf8_lossy(&output.stdout);
    let text = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// A running Tidegate.
pub struct Instance<'a> {
    pub process: Process,
    home: &'a Home,
    name: String,
}

impl Instance<'_> {
    /// What `tidegate status --json` says.
    pub fn status(&self) -> Option<Value> {
        let arguments = ["status", "--name", &self.name, "--json"];
        let output = self.home.tidegate(&arguments).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// What `tidegate status` says to people.
    pub fn status_text(&self) -> String {
        self.home.output(&["status", "--name", &self.name]).1
    }

    /// Waits until the status is as wanted.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_until(what, || {
            if let Some(ended) = self.process.ended() {
                panic!("it ended ({ended}): {}", self.process.log_text());
            }
            found = self.status().filter(&wanted);
            found.is_some()
        });
        found.unwrap()
    }

    /// The process of a worker.
    pub fn worker(&self, index: usize) -> nix::unistd::Pid {
        let pid = self.status().unwrap()["workers"][index]["pid"].as_i64();
        nix::unistd::Pid::from_raw(pid.unwrap() as i32)
    }

    /// Ends it by a signal.
    pub fn end_with(&mut self, signal: Signal) -> ExitStatus {
        self.process.signal(signal);
        let log = self.process.log_text();
        self.process
            .wait(PATIENCE)
            .unwrap_or_else(|| panic!("it does not end: {log}"))
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        let ended = self.end_with(Signal::SIGTERM);
        assert!(ended.success(), "{ended}: {}", self.process.log_text());
        // What is above it a killed instance may have made.
        assert!(!self.home.path("run").join(&self.name).exists());
    }
}

/// Asks a Redis for the value of a key over a Unix socket.
pub fn get_over(path: &Path, key: &str) -> std::io::Result<String> {
    use std::io::{BufRead, BufReader, Write};
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())?;
    let mut lines = BufReader::new(socket).lines();
    let length = lines.next().transpose()?.unwrap_or_default();
    assert!(length.starts_with('$') && length != "$-1", "{length}");
    Ok(lines.next().transpose()?.unwrap_or_default())
}

/// Leaves a file to the user that the programs run as, and to nobody else.
pub fn keep_from_others(file: &Path) {
    if geteuid().is_root() {
        std::os::unix::fs::chown(file, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
    }
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
}
