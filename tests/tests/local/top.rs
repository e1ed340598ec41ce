//! `tidegate top` in a terminal, and without one.

use crate::home::{Home, PATIENCE, wait_until};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

/// What gives a terminal back: the other screen is left, and the cursor shows.
const GIVEN_BACK: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

/// A program in a terminal of its own.
struct InTerminal {
    child: Child,
    master: Option<File>,
    /// Kept open, so that the terminal outlives the program.
    terminal: Option<OwnedFd>,
    text: String,
}

impl InTerminal {
    fn start(command: &mut Command) -> Self {
        let size = Winsize {
            ws_row: 30,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        // No child may have it: the terminal hangs up when the last one who has it is gone.
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .env("TERM", "xterm-256color");
        Self {
            child: command.spawn().unwrap(),
            master: Some(master.into()),
            terminal: Some(slave),
            text: String::new(),
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; 16 * 1024];
        let Some(master) = &mut self.master else {
            return;
        };
        while let Ok(read) = master.read(&mut chunk) {
            self.text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    }

    /// Waits until the program has printed something.
    fn wait_for(&mut self, words: &str) {
        wait_until(words, || {
            self.read();
            self.text.contains(words)
        });
    }

    fn press(&mut self, keys: &[u8]) {
        self.master.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// Nobody looks at it any more: the window was closed, or the line was cut.
    fn hang_up(&mut self) {
        self.terminal = None;
        self.master = None;
    }

    fn is_raw(&self) -> bool {
        let attributes = tcgetattr(self.terminal.as_ref().unwrap()).unwrap();
        !attributes.local_flags.contains(LocalFlags::ICANON)
    }

    /// Waits for the end, and whether all is as it was.
    fn ends_in_order(mut self) -> bool {
        let mut status = None;
        wait_until("an end", || {
            self.read();
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.read();
        assert!(!self.is_raw(), "the terminal is as it was");
        for sequence in GIVEN_BACK {
            assert!(self.text.contains(sequence), "{:?}", self.text);
        }
        status.is_some_and(|status| status.success())
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn config(home: &Home) -> std::path::PathBuf {
    let pool = Home::pool(
        "redis",
        &[home.address(22_121).to_string()],
        &home.address(6_379).to_string(),
    );
    home.config("workers = 1", &[pool])
}

#[test]
fn it_watches_until_q_and_gives_the_terminal_back() {
    let home = Home::new(50);
    let file = config(&home);
    let mut instance = home.run(&file, 1);
    let mut top = InTerminal::start(&mut home.tidegate(&["top"]));
    for words in ["local-50", "running", "redis", "req/s", "quit"] {
        top.wait_for(words);
    }
    assert!(top.is_raw());
    // It outlives the instance, says so, and finds the next one of that name.
    assert!(instance.end_with(Signal::SIGTERM).success());
    drop(instance);
    top.wait_for("asking");
    top.text.clear();
    let instance = home.run(&file, 1);
    top.wait_for("UTC");
    top.press(b"q");
    assert!(top.ends_in_order());
    instance.stop();
}

#[test]
fn signals_give_the_terminal_back() {
    let home = Home::new(51);
    let instance = home.run(&config(&home), 1);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut top = InTerminal::start(&mut home.tidegate(&["top"]));
        top.wait_for("local-51");
        let pid = nix::unistd::Pid::from_raw(top.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
        assert!(top.ends_in_order(), "{signal}");
    }
    instance.stop();
}

#[test]
fn it_ends_when_its_terminal_is_gone() {
    let home = Home::new(53);
    let instance = home.run(&config(&home), 1);
    let mut top = InTerminal::start(&mut home.tidegate(&["top"]));
    top.wait_for("local-53");
    top.hang_up();
    let mut status = None;
    wait_until("an end", || {
        status = top.child.try_wait().unwrap();
        status.is_some()
    });
    let code = status.unwrap().code();
    assert!(matches!(code, Some(0 | 1)), "in order: {code:?}");
    instance.stop();
}

#[test]
fn without_a_terminal_or_an_instance_it_says_why() {
    let home = Home::new(52);
    let (code, text) = home.output(&["top"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("top needs a terminal"), "{text}");
    assert!(text.contains("tidegate stats"), "{text}");
    let mut top = InTerminal::start(&mut home.tidegate(&["top", "--name", "nobody"]));
    top.wait_for("nobody");
    let started = std::time::Instant::now();
    while top.child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!top.text.contains("1049h"), "the terminal was not taken");
}
