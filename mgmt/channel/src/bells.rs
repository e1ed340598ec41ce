//! How workers wake each other.
//!
//! A worker that sleeps waits for its queues and for its bell, an eventfd. Ringing costs a system call, so it is done only
//! for a worker that said it sleeps: each has a word in a page that all workers share. A worker that lies there can at
//! worst let others ring in vain or miss being woken, and everybody who sleeps looks again within the loop's own limit.

use crate::shm::{self, ShmError, WritableWords};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

/// Each word stands on its own cache line.
const STRIDE_WORDS: usize = 8;
const AWAKE: u64 = 0;
const ASLEEP: u64 = 1;

/// Makes the page of `workers` workers.
pub fn create_page(workers: usize) -> Result<OwnedFd, ShmError> {
    shm::create("tidegate-bells", workers * STRIDE_WORDS)
}

/// Makes one bell.
pub fn create_bell() -> Result<OwnedFd, ShmError> {
    let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
    rustix::event::eventfd(0, flags).map_err(|error| ShmError::System {
        call: "eventfd",
        error,
    })
}

/// The bells of all workers, as one of them sees them.
#[derive(Debug)]
pub struct Bells {
    words: WritableWords,
    bells: Vec<OwnedFd>,
    own: usize,
}

impl Bells {
    /// Maps the page. `bells[own]` is this worker's.
    pub fn new(page: impl AsFd, bells: Vec<OwnedFd>, own: usize) -> Result<Self, ShmError> {
        if own >= bells.len() {
            return Err(ShmError::Empty);
        }
        let words = WritableWords::map(page, bells.len() * STRIDE_WORDS)?;
        let bells = Self { words, bells, own };
        bells.woke(true);
        Ok(bells)
    }

    /// The descriptor that becomes readable when somebody rings for this worker.
    pub fn own(&self) -> BorrowedFd<'_> {
        self.bells[self.own].as_fd()
    }

    /// Announces sleep. The caller looks at its rings once more before it sleeps: from here on others ring.
    pub fn falls_asleep(&self) {
        self.words
            .store(self.own * STRIDE_WORDS, ASLEEP, Ordering::Relaxed);
        // Pairs with the fence in `ring`: either the other sees the word, or we see its frame in the last look.
        fence(Ordering::SeqCst);
    }

    /// Ends the announcement. `rang` says whether the own bell was found readable: then it is silenced. A ring that is
    /// still on its way costs one needless turn later.
    pub fn woke(&self, rang: bool) {
        self.words
            .store(self.own * STRIDE_WORDS, AWAKE, Ordering::Relaxed);
        if rang {
            let mut count = [0; 8];
            // EAGAIN is possible and harmless: the bell is silent already.
            let _silent = rustix::io::read(&self.bells[self.own], &mut count);
        }
    }

    /// Wakes `worker` if it sleeps, after something was put where it will look. Returns whether it had to be woken.
    pub fn ring(&self, worker: usize) -> bool {
        if worker >= self.bells.len() {
            return false;
        }
        fence(Ordering::SeqCst);
        if self
            .words
            .swap(worker * STRIDE_WORDS, AWAKE, Ordering::Relaxed)
            == AWAKE
        {
            return false;
        }
        strike(&self.bells[worker])
    }
}

/// Rings a bell whatever its owner does, for those who do not share the page.
pub fn strike(bell: impl AsFd) -> bool {
    // The only failure is a counter that is full, that is, a bell that rings already.
    rustix::io::write(bell, &1_u64.to_ne_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Bells, Bells) {
        let page = create_page(2).unwrap();
        let bells = [create_bell().unwrap(), create_bell().unwrap()];
        let clone = || bells.iter().map(|bell| bell.try_clone().unwrap()).collect();
        (
            Bells::new(&page, clone(), 0).unwrap(),
            Bells::new(&page, clone(), 1).unwrap(),
        )
    }

    fn rings(bells: &Bells) -> bool {
        let mut count = [0; 8];
        rustix::io::read(bells.own(), &mut count).is_ok()
    }

    #[test]
    fn only_a_sleeper_is_woken_and_once() {
        let (first, second) = pair();
        assert!(!first.ring(1), "awake");
        second.falls_asleep();
        assert!(first.ring(1));
        assert!(!first.ring(1), "already woken");
        assert!(rings(&second));
        assert!(!rings(&first));
    }

    #[test]
    fn waking_silences_the_bell() {
        let (first, second) = pair();
        second.falls_asleep();
        first.ring(1);
        second.woke(true);
        assert!(!rings(&second));
        assert!(!rings(&second));
        assert!(!first.ring(1));
    }

    #[test]
    fn a_worker_that_does_not_exist_is_not_rung() {
        let (first, _second) = pair();
        assert!(!first.ring(2));
    }
}
