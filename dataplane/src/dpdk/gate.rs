//! Steps that all threads have to reach before any goes on.

use std::sync::{Condvar, Mutex, PoisonError};

/// The gate. It opens once for each step, when everybody has come; or never again, when somebody could not come.
#[derive(Debug)]
pub(crate) struct Gate {
    workers: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    opened: usize,
    broken: Option<String>,
}

impl Gate {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits for all others. The last to come does `what` for all of them before anybody goes on.
    ///
    /// # Errors
    /// Why somebody does not come, or what `what` returned, for everybody.
    pub(crate) fn pass(&self, what: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        if state.waiting == self.workers && state.broken.is_none() {
            state.waiting = 0;
            state.opened += 1;
            state.broken = what().err();
            self.changed.notify_all();
        } else {
            let step = state.opened;
            while state.opened == step && state.broken.is_none() {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
        }
        match &state.broken {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    /// Somebody does not come.
    pub(crate) fn break_off(&self, reason: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.broken.get_or_insert_with(|| reason.to_owned());
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_last_does_it_for_all_and_nobody_goes_first() {
        let (gate, done) = (Gate::new(3), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for step in 1..=50 {
                        let do_it = || {
                            done.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        };
                        gate.pass(do_it).unwrap();
                        assert!(done.load(Ordering::SeqCst) >= step);
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), 50);
    }

    #[test]
    fn who_does_not_come_lets_the_others_go() {
        let gate = Gate::new(2);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| gate.pass(|| Ok(())));
            gate.break_off("no memory");
            assert_eq!(waits.join().unwrap(), Err("no memory".to_owned()));
        });
        assert_eq!(gate.pass(|| Ok(())), Err("no memory".to_owned()));
    }

    #[test]
    fn what_fails_fails_for_everybody() {
        let gate = Gate::new(2);
        std::thread::scope(|scope| {
            let fails = || gate.pass(|| Err("no filter".to_owned()));
            let other = scope.spawn(fails);
            assert_eq!(fails(), Err("no filter".to_owned()));
            assert_eq!(other.join().unwrap(), Err("no filter".to_owned()));
        });
    }
}
