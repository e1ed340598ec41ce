//! The control thread: speaks with the manager, so that the poll loop never waits for anybody.

use crate::limits::COMMANDS;
use crate::vault::Vault;
use ringbuf::HeapRb;
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use std::thread::JoinHandle;
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::message::{Envelope, FromWorker, ToWorker};
use tidegate_port::doorbell::Doorbell;

/// What the loop has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Finish what is owed, then exit; at the deadline exit anyway.
    Drain {
        /// Microseconds from now.
        deadline_us: u64,
    },
    /// Exit now.
    Stop,
    /// The manager is gone and the worker was not told to outlive it: exit.
    ManagerGone,
}

/// The loop's end of the ring of commands.
pub struct Commands {
    ring: ringbuf::HeapCons<Command>,
}

/// The thread's end.
pub struct CommandSender {
    ring: ringbuf::HeapProd<Command>,
    bell: Doorbell,
}

/// A ring of commands whose sender rings `bell`.
pub fn commands(bell: Doorbell) -> (CommandSender, Commands) {
    let (sender, receiver) = HeapRb::new(COMMANDS).split();
    (
        CommandSender { ring: sender, bell },
        Commands { ring: receiver },
    )
}

impl Commands {
    /// Whether a command waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The next command.
    pub fn take(&mut self) -> Option<Command> {
        self.ring.try_pop()
    }
}

impl CommandSender {
    /// Passes a command on and wakes the loop. A full ring holds what makes the loop end already.
    pub fn send(&mut self, command: Command) {
        let _full = self.ring.try_push(command);
        self.bell.ring();
    }
}

/// What changes the filter of the log while the worker runs.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send>;

/// What the thread works with.
pub struct ControlThread {
    /// To the loop.
    pub commands: CommandSender,
    /// Changes the log.
    pub set_log_filter: SetLogFilter,
    /// For the manager after this one.
    pub vault: Vault,
}

/// What has been said so far.
#[derive(Debug, Default)]
struct Heard {
    /// The number of the last message.
    generation: u64,
    /// The loop ends by itself.
    leaving: bool,
}

/// Starts the thread. It ends when the manager is gone and there will not be another one.
pub fn spawn(socket: ControlSocket, thread: ControlThread) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || thread.serve(socket))
}

impl ControlThread {
    fn serve(mut self, mut socket: ControlSocket) {
        let mut heard = Heard::default();
        loop {
            self.converse(&socket, &mut heard);
            if heard.leaving {
                return;
            }
            tracing::warn!("the manager is gone");
            let Some(next) = self.vault.next_manager(heard.generation) else {
                break;
            };
            tracing::info!("another manager took over");
            socket = next;
        }
        self.commands.send(Command::ManagerGone);
    }

    /// Until the other end is closed.
    fn converse(&mut self, socket: &ControlSocket, heard: &mut Heard) {
        loop {
            let (envelope, descriptors) = match socket.receive::<Envelope<ToWorker>>() {
                Ok(received) => received,
                Err(ControlError::Closed) => break,
                Err(error) => {
                    tracing::error!("{error}");
                    break;
                }
            };
            heard.generation = envelope.generation;
            match envelope.message {
                ToWorker::Keep => self.vault.keep(descriptors),
                ToWorker::Drain { deadline_ms } => {
                    heard.leaving = true;
                    self.vault.close();
                    let deadline_us = u64::from(deadline_ms) * 1_000;
                    self.commands.send(Command::Drain { deadline_us });
                }
                ToWorker::Stop => {
                    heard.leaving = true;
                    self.vault.close();
                    self.commands.send(Command::Stop);
                }
                ToWorker::LogLevel { filter } => {
                    if let Err(error) = (self.set_log_filter)(&filter) {
                        tracing::error!("log filter {filter:?}: {error}");
                    }
                }
                ToWorker::Start | ToWorker::Inserted | ToWorker::Ping => {}
            }
            let generation = envelope.generation;
            if socket
                .send(&FromWorker::Acknowledged { generation }, &[])
                .is_err()
            {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::mpsc;
    use tidegate_channel::door::{Door, knock};

    fn say(manager: &ControlSocket, generation: u64, message: ToWorker) {
        let envelope = Envelope {
            generation,
            message,
        };
        manager.send(&envelope, &[]).unwrap();
        let (answer, _) = manager.receive::<FromWorker>().unwrap();
        assert_eq!(answer, FromWorker::Acknowledged { generation });
    }

    fn start(set_log_filter: SetLogFilter) -> (ControlSocket, Commands, JoinHandle<()>) {
        let (manager, worker) = ControlSocket::pair().unwrap();
        let worker = ControlSocket::from_descriptor(worker).unwrap();
        let (commands, receiver) = commands(Doorbell::new().unwrap());
        let vault = Vault::new(Vec::new(), nix::unistd::geteuid().as_raw());
        let thread = ControlThread {
            commands,
            set_log_filter,
            vault,
        };
        (manager, receiver, spawn(worker, thread).unwrap())
    }

    #[test]
    fn every_message_is_acknowledged_and_the_loop_gets_what_concerns_it() {
        let (filters, seen) = mpsc::channel();
        let set = Box::new(move |filter: &str| {
            let _gone = filters.send(filter.to_owned());
            Ok(())
        });
        let (manager, mut receiver, thread) = start(set);
        let filter = "debug".to_owned();
        say(&manager, 1, ToWorker::Ping);
        say(&manager, 2, ToWorker::LogLevel { filter });
        say(&manager, 3, ToWorker::Drain { deadline_ms: 3 });
        say(&manager, 4, ToWorker::Stop);
        drop(manager);
        thread.join().unwrap();
        assert_eq!(seen.recv().unwrap(), "debug");
        assert_eq!(receiver.take(), Some(Command::Drain { deadline_us: 3_000 }));
        assert_eq!(receiver.take(), Some(Command::Stop));
        assert!(receiver.is_empty(), "a drain goes on without a manager");
    }

    #[test]
    fn without_a_word_about_it_the_worker_ends_with_its_manager() {
        let (manager, mut receiver, thread) = start(Box::new(|_| Ok(())));
        say(&manager, 1, ToWorker::Ping);
        drop(manager);
        thread.join().unwrap();
        assert_eq!(receiver.take(), Some(Command::ManagerGone));
    }

    #[test]
    fn the_next_manager_goes_on_where_the_first_one_stopped() {
        let path = std::env::temp_dir().join(format!("tidegate-next-{}", std::process::id()));
        let door = Door::open(&path).unwrap();
        let (manager, mut receiver, thread) = start(Box::new(|_| Ok(())));
        let keep = Envelope {
            generation: 41,
            message: ToWorker::Keep,
        };
        manager.send(&keep, &[door.as_fd()]).unwrap();
        manager.receive::<FromWorker>().unwrap();
        drop((manager, door));
        for generation in [42, 43] {
            let next = knock(&path).unwrap();
            rustix::io::ioctl_fionbio(&next, false).unwrap();
            let (said, _) = next.receive::<FromWorker>().unwrap();
            assert!(
                matches!(&said, FromWorker::Handover(h) if h.generation == generation - 1),
                "{said:?}"
            );
            next.receive::<FromWorker>().unwrap();
            say(&next, generation, ToWorker::Ping);
        }
        assert!(receiver.is_empty(), "the loop need not know of it");
        let last = knock(&path).unwrap();
        rustix::io::ioctl_fionbio(&last, false).unwrap();
        last.receive::<FromWorker>().unwrap();
        last.receive::<FromWorker>().unwrap();
        say(&last, 44, ToWorker::Stop);
        drop(last);
        thread.join().unwrap();
        assert_eq!(receiver.take(), Some(Command::Stop));
        assert!(knock(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
