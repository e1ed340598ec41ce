//! The way to the manager for what it wants to know of single requests and keys, from whatever thread. The control thread turns it round
//! when another manager takes over.

use std::sync::{Arc, Mutex, PoisonError};
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::message::FromWorker;

/// The way; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    manager: Arc<Mutex<Option<ControlSocket>>>,
}

impl Reports {
    /// To nobody: there is no manager, and nothing is missed.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// To the manager at the other end of this socket.
    pub fn to(manager: &ControlSocket) -> Result<Self, ControlError> {
        let reports = Self::default();
        reports.redirect(manager)?;
        Ok(reports)
    }

    /// From now on to this one.
    pub fn redirect(&self, manager: &ControlSocket) -> Result<(), ControlError> {
        let manager = manager.try_clone()?;
        *self.manager.lock().unwrap_or_else(PoisonError::into_inner) = Some(manager);
        Ok(())
    }

    /// Tells the manager, without waiting for it.
    ///
    /// # Errors
    /// It did not take it, because it is busy or gone.
    pub fn tell(&self, message: &FromWorker) -> Result<(), ControlError> {
        let manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner);
        match manager.as_ref() {
            Some(manager) => manager.try_send(message),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_go_to_the_manager_of_the_time() {
        let pair = || {
            let (manager, worker) = ControlSocket::pair().unwrap();
            (manager, ControlSocket::from_descriptor(worker).unwrap())
        };
        let ((first, worker), (second, next)) = (pair(), pair());
        Reports::nowhere().tell(&FromWorker::Ready).unwrap();
        let reports = Reports::to(&worker).unwrap();
        let same = reports.clone();
        same.tell(&FromWorker::Ready).unwrap();
        assert_eq!(first.receive::<FromWorker>().unwrap().0, FromWorker::Ready);
        drop((first, worker));
        assert!(same.tell(&FromWorker::Ready).is_err());
        reports.redirect(&next).unwrap();
        same.tell(&FromWorker::Ready).unwrap();
        assert_eq!(second.receive::<FromWorker>().unwrap().0, FromWorker::Ready);
    }
}
