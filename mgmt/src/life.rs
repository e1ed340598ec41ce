//! A process of a worker, whoever started it.
//!
//! One of our own is a child: the kernel says how it ended. One that an earlier manager started is held by a descriptor, which cannot come
//! to mean another process when the number is given away again.

use crate::runtime_dir::ProcessId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::rc::Rc;

/// A process that lived when we last looked. Workers that are threads of one process share it: clones are the same life.
#[derive(Clone, Debug)]
pub enum Life {
    /// Started by us.
    Child(Rc<RefCell<Child>>),
    /// Started by an earlier manager.
    Adopted {
        /// Its number and start.
        id: ProcessId,
        /// Itself.
        process: Rc<OwnedFd>,
        /// How it ended, which the kernel tells once.
        end: Rc<Cell<Option<End>>>,
    },
}

/// How a process ended; only its own parent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End(pub Option<ExitStatus>);

impl End {
    /// Whether it ended as it should; one that nobody knows of is not held against it.
    pub fn is_in_order(self) -> bool {
        self.0.is_none_or(|status| status.success())
    }

    /// Whether a system call that it must not use ended it.
    pub fn is_forbidden_call(self) -> bool {
        self.0.and_then(|status| status.signal()) == Some(Signal::SIGSYS as i32)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.0 else {
            return f.write_str("ended; how, only the manager that started it was told");
        };
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
            (None, None) => f.write_str("ended"),
        }?;
        if self.is_forbidden_call() {
            f.write_str(": it used a system call that workers must not use (see worker.seccomp)")?;
        }
        Ok(())
    }
}

impl Life {
    /// That of a process that was just started.
    pub fn of_child(child: Child) -> Self {
        Self::Child(Rc::new(RefCell::new(child)))
    }

    /// Takes hold of a process that an earlier manager started, if it still lives.
    pub fn adopt(id: ProcessId) -> Option<Self> {
        let pid = rustix::process::Pid::from_raw(id.pid as i32)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after it was taken hold of: from here on the number is this process's.
        let process = Rc::new(process);
        let end = Rc::default();
        id.lives().then_some(Self::Adopted { id, process, end })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.borrow().id(),
            Self::Adopted { id, .. } => id.pid,
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<End> {
        match self {
            Self::Child(child) => Some(End(Some(child.borrow_mut().try_wait().ok()??))),
            Self::Adopted { id, process, end } => {
                if end.get().is_some() {
                    return end.get();
                }
                let mut wait = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                let ready = poll(&mut wait, PollTimeout::ZERO).ok()?;
                end.set((ready > 0).then(|| End(status_of_own(id.pid))));
                end.get()
            }
        }
    }

    /// Kills it.
    pub fn kill(&self) {
        match self {
            // It is our child and not yet waited for, so the number is still its own.
            Self::Child(child) => {
                let _already_gone =
                    kill(Pid::from_raw(child.borrow().id() as i32), Signal::SIGKILL);
            }
            Self::Adopted { process, .. } => {
                let _already_gone = pidfd_send_signal(process, rustix::process::Signal::KILL);
            }
        }
    }

    /// Readable when it ends. A child's end is told by a signal.
    pub fn wakes(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Child(_) => None,
            Self::Adopted { process, .. } => Some(process.as_fd()),
        }
    }
}

/// A manager that replaced itself by another program has the same number, so what the one before started are its children, and it has to
/// wait for them.
fn status_of_own(pid: u32) -> Option<ExitStatus> {
    match waitpid(Pid::from_raw(pid as i32), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
        Ok(_) | Err(Errno::ECHILD) => None,
        Err(error) => {
            tracing::debug!("waiting for process {pid}: {}", io::Error::from(error));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    fn end(life: &mut Life) -> End {
        let started = Instant::now();
        loop {
            if let Some(end) = life.ended() {
                return end;
            }
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
    }

    #[test]
    fn ends_are_told_in_words() {
        let told = |raw| End(Some(ExitStatus::from_raw(raw))).to_string();
        assert_eq!(told(9), "killed by SIGKILL");
        assert_eq!(told(3 << 8), "exit code 3");
        assert!(told(31).starts_with("killed by SIGSYS: it used a system call"));
        assert!(End(None).to_string().starts_with("ended"));
        assert!(End(None).is_in_order() && !End(Some(ExitStatus::from_raw(9))).is_in_order());
    }

    #[test]
    fn a_process_that_somebody_else_started_can_be_held_killed_and_waited_for() {
        // Its parent, the shell, is gone at once.
        let output = Command::new("sh")
            .args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])
            .output()
            .unwrap();
        let pid = String::from_utf8(output.stdout).unwrap();
        let id = ProcessId::of(pid.trim().parse().unwrap()).unwrap();
        let mut life = Life::adopt(id).unwrap();
        assert_eq!((life.pid(), life.ended()), (id.pid, None));
        assert!(life.wakes().is_some());
        life.kill();
        assert_eq!(end(&mut life), End(None));
        assert!(Life::adopt(id).is_none());
    }

    #[test]
    fn a_number_that_was_given_away_again_is_not_adopted() {
        let mut child = Life::of_child(sleeper());
        let id = ProcessId::of(child.pid()).unwrap();
        let started = id.started + 1;
        assert!(Life::adopt(ProcessId { started, ..id }).is_none());
        let mut adopted = Life::adopt(id).unwrap();
        adopted.kill();
        // It is a child of ours all the same.
        assert_eq!(end(&mut adopted).to_string(), "killed by SIGKILL");
        assert!(child.ended().is_none(), "it was waited for");
    }
}
