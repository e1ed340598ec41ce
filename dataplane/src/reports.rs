//! The way to the manager for what it wants to know of single requests and keys, from whatever thread. The control thread turns it round
//! when another manager takes over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::message::{FromWorker, NeighbourSeen};

/// The way; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    way: Arc<Mutex<Way>>,
}

#[derive(Debug, Default)]
struct Way {
    manager: Option<ControlSocket>,
    /// What the manager has to know of neighbours, and whether it was told. There are as many as configurations ever named.
    neighbours: BTreeMap<(u8, IpAddr), (NeighbourSeen, bool)>,
    /// Some were not told.
    is_behind: bool,
}

impl Way {
    fn tell(&self, message: &FromWorker) -> Result<(), ControlError> {
        match &self.manager {
            Some(manager) => manager.try_send(message),
            None => Ok(()),
        }
    }

    fn tell_neighbours(&mut self) {
        let mut neighbours = std::mem::take(&mut self.neighbours);
        let untold = neighbours.values_mut().filter(|(_, told)| !told);
        self.is_behind = false;
        for (seen, told) in untold {
            *told = self.tell(&FromWorker::Neighbour(*seen)).is_ok();
            self.is_behind |= !*told;
        }
        self.neighbours = neighbours;
    }
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

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on to this one, which is told of all neighbours at once.
    pub fn redirect(&self, manager: &ControlSocket) -> Result<(), ControlError> {
        let manager = manager.try_clone()?;
        let mut way = self.way();
        way.manager = Some(manager);
        for (_, told) in way.neighbours.values_mut() {
            *told = false;
        }
        way.tell_neighbours();
        Ok(())
    }

    /// Tells the manager, without waiting for it.
    ///
    /// # Errors
    /// It did not take it, because it is busy or gone.
    pub fn tell(&self, message: &FromWorker) -> Result<(), ControlError> {
        self.way().tell(message)
    }

    /// Tells the manager of a neighbour; if it is busy, later.
    pub fn neighbour(&self, seen: NeighbourSeen) {
        let mut way = self.way();
        let place = (seen.port, seen.address);
        way.neighbours.insert(place, (seen, false));
        way.tell_neighbours();
    }

    /// Tries again to tell what the manager was too busy for. Whether something is left.
    pub fn is_behind(&self) -> bool {
        let mut way = self.way();
        if way.is_behind {
            way.tell_neighbours();
        }
        way.is_behind
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

    #[test]
    fn a_neighbour_is_told_to_every_manager_and_to_a_busy_one_later() {
        let pair = || {
            let (manager, worker) = ControlSocket::pair().unwrap();
            (manager, ControlSocket::from_descriptor(worker).unwrap())
        };
        let seen = |host: u8, mac| NeighbourSeen {
            port: 0,
            address: [192, 0, 2, host].into(),
            mac,
        };
        let heard = |manager: &ControlSocket| manager.receive::<FromWorker>().unwrap().0;
        let (first, worker) = pair();
        let reports = Reports::to(&worker).unwrap();
        reports.neighbour(seen(1, Some([2; 6])));
        assert_eq!(heard(&first), FromWorker::Neighbour(seen(1, Some([2; 6]))));
        // Until nothing more fits.
        while reports.tell(&FromWorker::Ready).is_ok() {}
        reports.neighbour(seen(2, None));
        assert!(reports.is_behind());
        while heard(&first) == FromWorker::Ready && reports.is_behind() {}
        assert!(!reports.is_behind());
        let mut last = FromWorker::Ready;
        while last == FromWorker::Ready {
            last = heard(&first);
        }
        assert_eq!(last, FromWorker::Neighbour(seen(2, None)));
        let (second, next) = pair();
        reports.redirect(&next).unwrap();
        assert_eq!(heard(&second), FromWorker::Neighbour(seen(1, Some([2; 6]))));
        assert_eq!(heard(&second), FromWorker::Neighbour(seen(2, None)));
    }
}
