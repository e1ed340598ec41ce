//! What the service manager is told: systemd's protocol of notifications. Without one that listens nothing happens.
//!
//! Ready means that every worker serves. The watchdog is fed from within the manager's loop, so that a manager that hangs is killed and
//! started again; its workers do not notice.

use crate::manager::Manager;
use crate::worker_process::Stage;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// What was told so far.
#[derive(Debug)]
pub struct Service {
    /// Whether anybody listens.
    listens: bool,
    /// How often the watchdog wants to hear of us; `None`: there is none.
    watchdog: Option<Duration>,
    fed: Option<Instant>,
    ready: bool,
    stopping: bool,
    status: String,
}

impl Service {
    /// As the environment says.
    pub fn of_environment() -> Self {
        // Half of the time that it waits, so that one that is late is not too late.
        let watchdog = sd_notify::watchdog_enabled().map(|patience| patience / 2);
        Self {
            listens: std::env::var_os("NOTIFY_SOCKET").is_some(),
            watchdog,
            fed: None,
            ready: false,
            stopping: false,
            status: String::new(),
        }
    }

    /// When the watchdog has to be fed.
    pub fn due(&self) -> Option<Instant> {
        Some(self.fed? + self.watchdog?)
    }

    /// What there is to tell at `now`.
    fn turn(&mut self, now: Instant, workers: usize, serving: usize, draining: bool) {
        if !self.listens {
            return;
        }
        let mut states = Vec::new();
        let ready = serving == workers && !draining;
        if ready && !self.ready {
            self.ready = true;
            states.push(NotifyState::Ready);
        }
        if draining && !self.stopping {
            self.stopping = true;
            states.push(NotifyState::Stopping);
        }
        let status = status(workers, serving, draining);
        let news = status != self.status;
        self.status = status;
        if news {
            states.push(NotifyState::Status(&self.status));
        }
        if let Some(interval) = self.watchdog
            && self.fed.is_none_or(|fed| now >= fed + interval)
        {
            self.fed = Some(now);
            states.push(NotifyState::Watchdog);
        }
        if !states.is_empty()
            && let Err(error) = sd_notify::notify(&states)
        {
            tracing::debug!("the service manager cannot be told: {error}");
        }
    }
}

fn status(workers: usize, serving: usize, draining: bool) -> String {
    if draining {
        return "draining".into();
    }
    format!("{serving} of {workers} workers serve")
}

/// Feeds the watchdog where the manager waits for something outside of its loop.
pub fn still_there() {
    // Without a service manager nothing is told, and one that is gone cannot be.
    let _told = sd_notify::notify(&[NotifyState::Watchdog]);
}

/// Tells what there is to tell; once in every turn of the manager.
pub fn tell(manager: &mut Manager, now: Instant) {
    let serves = |stage| matches!(stage, Stage::Running);
    let processes = manager
        .slots
        .iter()
        .filter_map(|slot| slot.process.as_ref());
    let serving = processes.filter(|process| serves(process.stage)).count();
    let (workers, draining) = (manager.slots.len(), manager.is_draining());
    manager.service.turn(now, workers, serving, draining);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_in_time_and_not_more_often() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut service = Service {
            listens: true,
            watchdog: Some(Duration::from_millis(500)),
            ..Service::of_environment()
        };
        assert_eq!(service.due(), None);
        // Nobody is behind the socket that the environment does not name.
        service.turn(start, 2, 1, false);
        assert_eq!(service.due(), Some(at(500)));
        assert!(!service.ready);
        service.turn(at(499), 2, 2, false);
        assert_eq!(service.due(), Some(at(500)));
        assert!(service.ready);
        service.turn(at(600), 2, 2, true);
        assert_eq!(service.due(), Some(at(1_100)));
        assert!(service.stopping);
    }

    #[test]
    fn the_status_is_a_sentence() {
        assert_eq!(status(2, 1, false), "1 of 2 workers serve");
        assert_eq!(status(2, 1, true), "draining");
    }
}
