//! The control thread: speaks with the manager, so that the poll loop never waits for anybody.

use crate::capture::Tap;
use crate::limits::COMMANDS;
use crate::network::NetworkChange;
use crate::prepared::{Prepared, Preparer};
use crate::reports::Reports;
use crate::vault::Vault;
use crate::worker::WorkerError;
use ringbuf::HeapRb;
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::keys::WatchKeys;
use tidegate_channel::message::{ANNOUNCED_MAX, Announce, Envelope, FromWorker, ToWorker};
use tidegate_channel::payload;
use tidegate_link::{Announcement, Wanted};
use tidegate_port::doorbell::Doorbell;
use tidegate_proxy::KeyWatch;

/// What the loop has to do.
pub enum Command {
    /// Finish what is owed, then exit; at the deadline exit anyway.
    Drain {
        /// Microseconds from now.
        deadline_us: u64,
    },
    /// Watch keys for so long.
    WatchKeys {
        /// Where they are counted: made here, so that the loop takes no memory.
        watch: Box<KeyWatch>,
        /// Microseconds from now.
        lasts_us: u64,
    },
    /// Copy frames. A capture under way ends.
    Capture(Box<Tap>),
    /// End the capture of this number.
    EndCapture {
        /// Its number.
        id: u64,
    },
    /// Say where our addresses are, on a port whose link address changed.
    Announce(Announcement),
    /// Exit now.
    Stop,
    /// Look for these next hops: a configuration that is about to be taken up has them.
    Look(Vec<Wanted>),
    /// Take up another configuration, and give back what it replaced.
    TakeUp(Box<Prepared>),
    /// The manager is gone and the worker was not told to outlive it: exit.
    ManagerGone,
}

/// The loop's end of the ring of commands.
pub struct Commands {
    ring: ringbuf::HeapCons<Command>,
    done: ringbuf::HeapProd<Box<Prepared>>,
}

/// The thread's end.
pub struct CommandSender {
    ring: ringbuf::HeapProd<Command>,
    done: ringbuf::HeapCons<Box<Prepared>>,
    bell: Doorbell,
}

/// A ring of commands whose sender rings `bell`.
pub fn commands(bell: Doorbell) -> (CommandSender, Commands) {
    let (sender, receiver) = HeapRb::new(COMMANDS).split();
    let (done, returned) = HeapRb::new(1).split();
    (
        CommandSender {
            ring: sender,
            done: returned,
            bell,
        },
        Commands {
            ring: receiver,
            done,
        },
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

    /// Gives back what was taken up. The thread waits for it, so there is never another.
    pub fn give_back(&mut self, prepared: Box<Prepared>) {
        let _full = self.done.try_push(prepared);
    }
}

impl CommandSender {
    /// Passes a command on and wakes the loop. A full ring holds what makes the loop end already.
    pub fn send(&mut self, command: Command) {
        let _full = self.ring.try_push(command);
        self.bell.ring();
    }

    /// The configuration that the loop has taken up since this was last asked.
    pub fn taken_up(&mut self) -> Option<Box<Prepared>> {
        self.done.try_pop()
    }

    /// Passes a configuration on and waits until the loop has taken it up: between two turns, so a moment.
    pub fn take_up(&mut self, prepared: Box<Prepared>) -> Box<Prepared> {
        self.send(Command::TakeUp(prepared));
        loop {
            if let Some(done) = self.taken_up() {
                return done;
            }
            // If the loop has ended, so has the process; if it hangs, the manager ends it.
            std::thread::park_timeout(TAKE_UP_LOOK);
        }
    }
}

/// How often the thread looks whether the loop has taken up a configuration.
const TAKE_UP_LOOK: Duration = Duration::from_micros(500);

/// What changes the filter of the log while the worker runs. Workers of one process share it.
pub type SetLogFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What the thread works with.
pub struct ControlThread {
    /// To the loop.
    pub commands: CommandSender,
    /// Changes the log.
    pub set_log_filter: SetLogFilter,
    /// For the manager after this one.
    pub vault: Vault,
    /// Makes ready what the loop is to take up.
    pub preparer: Preparer,
    /// What other threads tell the manager.
    pub reports: Reports,
}

/// What has been said so far.
#[derive(Default)]
struct Heard {
    /// The number of the last message.
    generation: u64,
    /// The loop ends by itself.
    leaving: bool,
    /// What is ready to be taken up.
    prepared: Option<Box<Prepared>>,
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
            // Another manager has plans of its own.
            heard.prepared = None;
            if heard.leaving {
                return;
            }
            tracing::warn!("the manager is gone");
            let Some(next) = self.vault.next_manager(heard.generation) else {
                break;
            };
            tracing::info!("another manager took over");
            if let Err(error) = self.reports.redirect(&next) {
                tracing::error!("it will not hear of slow requests: {error}");
            }
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
            let mut refusal = None;
            match envelope.message {
                ToWorker::Prepare { opened } => match self.preparer.prepare(descriptors, &opened) {
                    Ok(ready) => {
                        if let Some(wanted) = self.preparer.wanted_with(&ready) {
                            self.commands.send(Command::Look(wanted));
                        }
                        heard.prepared = Some(ready);
                    }
                    Err(error) => refusal = Some(error.to_string()),
                },
                ToWorker::TakeUp => refusal = self.take_up(heard.prepared.take()),
                ToWorker::Forget => heard.prepared = None,
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
                ToWorker::WatchKeys(watch) => self.commands.send(watch_keys(&watch)),
                ToWorker::Capture => match open_tap(descriptors) {
                    Ok(tap) => self.commands.send(Command::Capture(Box::new(tap))),
                    Err(error) => tracing::error!("capture: {error}"),
                },
                ToWorker::EndCapture { id } => self.commands.send(Command::EndCapture { id }),
                ToWorker::Announce(announce) => self.commands.send(announcement(announce)),
                ToWorker::LogLevel { filter } => {
                    if let Err(error) = (self.set_log_filter)(&filter) {
                        tracing::error!("log filter {filter:?}: {error}");
                    }
                }
                ToWorker::Fellows | ToWorker::Start | ToWorker::Inserted | ToWorker::Ping => {}
            }
            let generation = envelope.generation;
            let answer = match refusal {
                None => FromWorker::Acknowledged { generation },
                Some(reason) => FromWorker::Refused { generation, reason },
            };
            if socket.send(&answer, &[]).is_err() {
                break;
            }
        }
    }

    /// New addresses listen first, so that the loop is not kept waiting for the kernel. Returns why nothing was taken up.
    fn take_up(&mut self, ready: Option<Box<Prepared>>) -> Option<String> {
        let Some(ready) = ready else {
            return Some("nothing is prepared".into());
        };
        if let NetworkChange::Sockets(sockets) = &ready.network
            && let Err(error) = sockets.listen()
        {
            return Some(error.to_string());
        }
        let done = self.commands.take_up(ready);
        let start = self.preparer.taken_up(*done);
        self.vault.replace(start);
        None
    }
}

fn open_tap(descriptors: Vec<OwnedFd>) -> Result<Tap, WorkerError> {
    let Ok([order, ring]) = <[OwnedFd; 2]>::try_from(descriptors) else {
        return Err(WorkerError::Unexpected("a wrong number of descriptors"));
    };
    Ok(Tap::open(payload::read(order)?, &ring)?)
}

fn announcement(announce: Announce) -> Command {
    let Announce {
        port,
        mac,
        mut addresses,
    } = announce;
    addresses.truncate(ANNOUNCED_MAX);
    Command::Announce(Announcement::new(port, mac, addresses))
}

fn watch_keys(watch: &WatchKeys) -> Command {
    // A pool that is not one of ours is watched in vain.
    let pool = watch
        .pool
        .map(|pool| u16::try_from(pool).unwrap_or(u16::MAX));
    Command::WatchKeys {
        watch: Box::new(KeyWatch::new(watch.id, pool, watch.sample, watch.seed)),
        lasts_us: u64::from(watch.lasts_ms) * 1_000,
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
            preparer: Preparer::new(&crate::prepared::tests_start()),
            reports: Reports::nowhere(),
        };
        (manager, receiver, spawn(worker, thread).unwrap())
    }

    #[test]
    fn every_message_is_acknowledged_and_the_loop_gets_what_concerns_it() {
        let (filters, seen) = mpsc::channel();
        let set = Arc::new(move |filter: &str| {
            let _gone = filters.send(filter.to_owned());
            Ok(())
        });
        let (manager, mut receiver, thread) = start(set);
        let filter = "debug".to_owned();
        say(&manager, 1, ToWorker::Ping);
        say(&manager, 2, ToWorker::LogLevel { filter });
        let announce = Announce {
            port: 1,
            mac: [2; 6],
            addresses: vec![[192, 0, 2, 1].into(); ANNOUNCED_MAX + 1],
        };
        say(&manager, 3, ToWorker::Announce(announce));
        say(&manager, 4, ToWorker::Drain { deadline_ms: 3 });
        say(&manager, 5, ToWorker::Stop);
        drop(manager);
        thread.join().unwrap();
        assert_eq!(seen.recv().unwrap(), "debug");
        assert!(matches!(receiver.take(), Some(Command::Announce(said)) if said.port() == 1));
        assert!(matches!(
            receiver.take(),
            Some(Command::Drain { deadline_us: 3_000 })
        ));
        assert!(matches!(receiver.take(), Some(Command::Stop)));
        assert!(receiver.is_empty(), "a drain goes on without a manager");
    }

    #[test]
    fn without_a_word_about_it_the_worker_ends_with_its_manager() {
        let (manager, mut receiver, thread) = start(Arc::new(|_| Ok(())));
        say(&manager, 1, ToWorker::Ping);
        drop(manager);
        thread.join().unwrap();
        assert!(matches!(receiver.take(), Some(Command::ManagerGone)));
    }

    #[test]
    fn the_next_manager_goes_on_where_the_first_one_stopped() {
        let path = std::env::temp_dir().join(format!("tidegate-next-{}", std::process::id()));
        let door = Door::open(&path).unwrap();
        let (manager, mut receiver, thread) = start(Arc::new(|_| Ok(())));
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
        assert!(matches!(receiver.take(), Some(Command::Stop)));
        assert!(knock(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
