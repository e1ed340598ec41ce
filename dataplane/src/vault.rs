//! What a worker keeps for the manager after this one.
//!
//! A worker goes on when its manager dies. Until another one comes, somebody has to hold what that one needs: the memory that is shared,
//! the sockets that all workers accept from, and, on NICs, the link that keeps the steering program attached with the program's maps. Each
//! worker holds all of it, so that one that is left is enough. The worker itself makes no use of what is kept here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::door::Door;
use tidegate_channel::message::{FromWorker, Handover, ObtainedMode};
use tidegate_channel::protocol::PROTOCOL;

/// Between two attempts to accept when there is no descriptor or no memory for it.
const RETRY: Duration = Duration::from_millis(200);

/// Descriptors, and who may ask for them.
#[derive(Debug)]
pub struct Vault {
    /// The user that the manager ran as when it started us.
    manager: u32,
    modes: Vec<ObtainedMode>,
    start: Vec<OwnedFd>,
    kept: Option<Kept>,
    /// Held until the process ends, for nobody.
    held: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Kept {
    door: Door,
    rest: Vec<OwnedFd>,
}

impl Vault {
    /// Keeps what came with [`Start`](tidegate_channel::message::ToWorker::Start) from a manager that is user `manager`.
    pub fn new(start: Vec<OwnedFd>, manager: u32) -> Self {
        Self {
            manager,
            modes: Vec::new(),
            start,
            kept: None,
            held: Vec::new(),
        }
    }

    /// How frames reach each of the worker's queues, to be told later.
    pub fn set_modes(&mut self, modes: Vec<ObtainedMode>) {
        self.modes = modes;
    }

    /// Keeps in place of what came with the start what a new start would bring: the configuration is another now.
    pub fn replace(&mut self, start: Vec<OwnedFd>) {
        if !self.start.is_empty() {
            self.start = start;
        }
    }

    /// Keeps what came with [`Keep`](tidegate_channel::message::ToWorker::Keep): the door first. Without one nothing is kept.
    pub fn keep(&mut self, descriptors: Vec<OwnedFd>) {
        let mut rest = descriptors.into_iter();
        self.kept = rest.next().map(|door| Kept {
            door: Door::from_descriptor(door),
            rest: rest.collect(),
        });
    }

    /// The worker is about to end: nobody adopts it any more, and listening sockets that only it still holds are closed. What keeps
    /// frames coming stays until the end.
    pub fn close(&mut self) {
        self.start.clear();
        if let Some(kept) = self.kept.take() {
            self.held.extend(kept.rest);
        }
    }

    /// Waits for the next manager and hands everything over. `None`: the worker was not told to outlive this one.
    pub fn next_manager(&self, generation: u64) -> Option<ControlSocket> {
        let kept = self.kept.as_ref()?;
        loop {
            match kept.door.accept() {
                Ok((_, user)) if user != 0 && user != self.manager => {
                    tracing::warn!("user {user} knocked and was sent away");
                }
                Ok((manager, _)) => match self.hand_over(kept, &manager, generation) {
                    Ok(()) => return Some(manager),
                    Err(error) => tracing::warn!("a manager that knocked is gone: {error}"),
                },
                Err(error) => {
                    tracing::warn!("nobody can knock: {error}");
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn hand_over(
        &self,
        kept: &Kept,
        manager: &ControlSocket,
        generation: u64,
    ) -> Result<(), ControlError> {
        let handover = FromWorker::Handover(Handover {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            generation,
            modes: self.modes.clone(),
        });
        manager.send(&handover, &borrowed(&self.start))?;
        manager.send(&FromWorker::Kept, &borrowed(&kept.rest))
    }
}

fn borrowed(list: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    list.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::PathBuf;
    use tidegate_channel::door::knock;

    fn descriptors(number: usize) -> Vec<OwnedFd> {
        let null = || File::open("/dev/null").unwrap().into();
        (0..number).map(|_| null()).collect()
    }

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tidegate-vault-{name}-{}", std::process::id()))
    }

    fn ours() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[test]
    fn the_next_manager_gets_everything_and_a_worker_that_was_not_told_waits_for_nobody() {
        let path = place("all");
        let mut vault = Vault::new(descriptors(4), ours());
        vault.set_modes(vec![ObtainedMode::Copy]);
        assert!(vault.next_manager(7).is_none());
        let door = Door::open(&path).unwrap().as_fd().try_clone_to_owned();
        let mut kept = vec![door.unwrap()];
        kept.extend(descriptors(2));
        vault.keep(kept);
        // One that is gone before it was answered is not the next.
        drop(knock(&path).unwrap());
        let thread = std::thread::spawn(move || vault.next_manager(7).map(drop));
        let manager = knock(&path).unwrap();
        rustix::io::ioctl_fionbio(&manager, false).unwrap();
        let (said, start) = manager.receive::<FromWorker>().unwrap();
        let FromWorker::Handover(handover) = said else {
            panic!("{said:?}");
        };
        assert_eq!((handover.generation, handover.pid), (7, std::process::id()));
        assert_eq!((handover.protocol, start.len()), (PROTOCOL, 4));
        assert_eq!(handover.modes, [ObtainedMode::Copy]);
        let (said, rest) = manager.receive::<FromWorker>().unwrap();
        assert_eq!((said, rest.len()), (FromWorker::Kept, 2));
        assert!(thread.join().unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_worker_that_is_about_to_end_is_not_adopted() {
        let path = place("end");
        let mut vault = Vault::new(descriptors(1), ours());
        let door = Door::open(&path).unwrap().as_fd().try_clone_to_owned();
        vault.keep(vec![door.unwrap()]);
        vault.close();
        assert!(vault.next_manager(1).is_none());
        assert!(knock(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
