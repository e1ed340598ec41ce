//! The control thread: speaks with the manager, so that the poll loop never waits for anybody.

use crate::limits::COMMANDS;
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
    /// The manager closed its end or is gone: exit. Its steering program went with it, so no frame reaches us any more.
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

/// Starts the thread. It ends when the manager closes its end.
pub fn spawn(
    socket: ControlSocket,
    commands: CommandSender,
    set_log_filter: SetLogFilter,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || serve(&socket, commands, &set_log_filter))
}

fn serve(socket: &ControlSocket, mut commands: CommandSender, set_log_filter: &SetLogFilter) {
    loop {
        let (envelope, _descriptors) = match socket.receive::<Envelope<ToWorker>>() {
            Ok(received) => received,
            Err(ControlError::Closed) => break,
            Err(error) => {
                tracing::error!("{error}");
                break;
            }
        };
        match envelope.message {
            ToWorker::Drain { deadline_ms } => {
                let deadline_us = u64::from(deadline_ms) * 1_000;
                commands.send(Command::Drain { deadline_us });
            }
            ToWorker::Stop => commands.send(Command::Stop),
            ToWorker::LogLevel { filter } => {
                if let Err(error) = set_log_filter(&filter) {
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
    commands.send(Command::ManagerGone);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn every_message_is_acknowledged_and_the_loop_gets_what_concerns_it() {
        let (manager, worker) = ControlSocket::pair().unwrap();
        let worker = ControlSocket::from_descriptor(worker).unwrap();
        let (sender, mut receiver) = commands(Doorbell::new().unwrap());
        let (filters, seen) = mpsc::channel();
        let set = Box::new(move |filter: &str| {
            let _gone = filters.send(filter.to_owned());
            Ok(())
        });
        let thread = spawn(worker, sender, set).unwrap();
        let messages = [
            ToWorker::Ping,
            ToWorker::LogLevel {
                filter: "debug".into(),
            },
            ToWorker::Drain { deadline_ms: 3 },
            ToWorker::Stop,
        ];
        for (index, message) in messages.into_iter().enumerate() {
            let generation = index as u64 + 1;
            manager
                .send(
                    &Envelope {
                        generation,
                        message,
                    },
                    &[],
                )
                .unwrap();
            let (answer, _) = manager.receive::<FromWorker>().unwrap();
            assert_eq!(answer, FromWorker::Acknowledged { generation });
        }
        drop(manager);
        thread.join().unwrap();
        assert_eq!(seen.recv().unwrap(), "debug");
        assert_eq!(receiver.take(), Some(Command::Drain { deadline_us: 3_000 }));
        assert_eq!(receiver.take(), Some(Command::Stop));
        assert_eq!(receiver.take(), Some(Command::ManagerGone));
        assert!(receiver.is_empty());
    }
}
