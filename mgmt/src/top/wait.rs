//! Waiting for what `top` reacts to: keys, answers, another size, and what ends it.

use super::keys::keys;
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::KeyEvent;
use ratatui::crossterm::terminal::disable_raw_mode;
use std::io::{Read, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Signals that end it.
const ENDING: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// How long an end in order may take after a signal. A terminal that takes nothing any more would hold it up for ever.
const END_GRACE: Duration = Duration::from_secs(1);

/// Longest wait: what is drawn says for how many seconds there was no answer.
const WAIT_MS: u16 = 1_000;

/// Bytes of keys that are read at once.
const KEYS_BYTES: usize = 256;

/// Wakes whoever waits. Many wakes before it looks are one.
#[derive(Debug)]
pub struct Waker(UnixStream);

impl Waker {
    /// Wakes it.
    pub fn wake(&self) {
        // Full of wakes that were not looked at, or nobody waits any more.
        let _woken = (&self.0).write(&[0]);
    }

    /// Another one.
    pub fn another(&self) -> anyhow::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

/// What waits.
#[derive(Debug)]
pub struct Waiter {
    woken: UnixStream,
    ended: Arc<AtomicBool>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// Time to draw, after these keys.
    Keys(Vec<KeyEvent>),
    /// A signal that ends it, or the terminal is gone.
    End,
}

impl Waiter {
    /// Takes the signals from this thread and those that it starts, and hears them on one of their own.
    pub fn start() -> anyhow::Result<(Self, Waker)> {
        let mut signals: SigSet = ENDING.into_iter().collect();
        signals.add(Signal::SIGWINCH);
        signals.thread_block()?;
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let waker = Waker(wake);
        let ended = Arc::new(AtomicBool::new(false));
        let (wakes, ends) = (waker.another()?, Arc::clone(&ended));
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || hear(signals, &wakes, &ends))?;
        Ok((Self { woken, ended }, waker))
    }

    /// Waits until there is something to do.
    pub fn wait(&mut self) -> anyhow::Result<Came> {
        let stdin = stdin();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [readable(stdin.as_fd()), readable(self.woken.as_fd())];
        match poll(&mut fds, PollTimeout::from(WAIT_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for keys"),
        }
        let [keyboard, woken] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if self.ended.load(Ordering::Acquire) {
            return Ok(Came::End);
        }
        if !woken.is_empty() {
            while matches!((&self.woken).read(&mut [0; 64]), Ok(1..)) {}
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        if keyboard.intersects(gone) {
            return Ok(Came::End);
        }
        if !keyboard.contains(PollFlags::POLLIN) {
            return Ok(Came::Keys(Vec::new()));
        }
        let mut bytes = [0; KEYS_BYTES];
        match nix::unistd::read(stdin.as_fd(), &mut bytes) {
            // A terminal in raw mode says that only when it is gone.
            Ok(0) | Err(Errno::EIO) => Ok(Came::End),
            Ok(read) => Ok(Came::Keys(keys(&bytes[..read]))),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(Came::Keys(Vec::new())),
            Err(error) => Err(error).context("cannot read keys"),
        }
    }
}

/// Hears signals, until one ends the process.
fn hear(signals: SigSet, waker: &Waker, ended: &AtomicBool) {
    loop {
        match signals.wait() {
            Ok(Signal::SIGWINCH) => waker.wake(),
            Ok(_) => break,
            Err(_interrupted) => {}
        }
    }
    ended.store(true, Ordering::Release);
    waker.wake();
    std::thread::sleep(END_GRACE);
    // Still here: whoever draws waits for a terminal that reads nothing.
    let _gone = disable_raw_mode();
    std::process::exit(1);
}
