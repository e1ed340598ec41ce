//! A bell in the place of the product's eventfd: whoever sleeps at a silent one sleeps until somebody rings.

use loom::sync::{Arc, Condvar, Mutex};
use std::sync::PoisonError;

/// A bell.
#[derive(Clone, Debug)]
pub struct Doorbell {
    rings: Arc<(Mutex<bool>, Condvar)>,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self {
            rings: Arc::new((Mutex::new(false), Condvar::new())),
        }
    }
}

impl Doorbell {
    /// Wakes the owner.
    pub fn ring(&self) {
        self.set(true);
        self.rings.1.notify_one();
    }

    /// Until the next ring.
    pub fn silence(&self) {
        self.set(false);
    }

    fn set(&self, rings: bool) {
        *self.rings.0.lock().unwrap_or_else(PoisonError::into_inner) = rings;
    }

    /// Sleeps while it is silent, in the place of `ppoll`. If nobody ever rings, loom says that all threads wait.
    pub fn wait(&self) {
        let mut rings = self.rings.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rings {
            rings = self
                .rings
                .1
                .wait(rings)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
