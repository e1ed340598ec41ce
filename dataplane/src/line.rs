//! The way to the manager, for threads that tell it something of their own accord. The manager may be another one later.

use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_channel::control::{ControlError, ControlSocket};

/// A connection that is replaced when another manager takes over. Never used by the poll loop.
#[derive(Clone, Debug)]
pub struct Line(Arc<Mutex<ControlSocket>>);

impl Line {
    /// To the manager at the other end of `socket`.
    pub fn new(socket: ControlSocket) -> Self {
        Self(Arc::new(Mutex::new(socket)))
    }

    /// Sends one message, or nothing if it would have to wait or nobody is there.
    pub fn try_send<T: Serialize>(&self, message: &T) -> Result<(), ControlError> {
        self.socket().try_send(message)
    }

    /// From now on the manager is at the other end of `socket`.
    pub fn replace(&self, socket: ControlSocket) {
        *self.socket() = socket;
    }

    fn socket(&self) -> MutexGuard<'_, ControlSocket> {
        // A thread that panicked meanwhile left a whole socket.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_goes_to_the_manager_of_now() {
        let pair = || {
            let (manager, worker) = ControlSocket::pair().unwrap();
            (manager, ControlSocket::from_descriptor(worker).unwrap())
        };
        let (first, worker) = pair();
        let line = Line::new(worker);
        let of_thread = line.clone();
        of_thread.try_send(&1).unwrap();
        assert_eq!(first.receive::<u32>().unwrap().0, 1);
        drop(first);
        assert!(of_thread.try_send(&2).is_err());
        let (second, worker) = pair();
        line.replace(worker);
        of_thread.try_send(&3).unwrap();
        assert_eq!(second.receive::<u32>().unwrap().0, 3);
    }
}
