//! What a listener does that cannot accept. With no file descriptor left the connection stays in the kernel's queue and the listener
//! readable: asked again at once it would say the same, and the loop around it would turn without a pause.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// How long it is left alone. Why: whoever holds the descriptors gives some back in a moment; too low: the loop is busy with nothing, too
/// high: clients wait.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether, and until when, a listener is left alone.
#[derive(Debug, Default)]
pub struct AcceptPause {
    until: Option<Instant>,
    /// The fault was logged, and nothing was accepted since.
    logged: bool,
}

impl AcceptPause {
    /// Whether it is left alone at `now`.
    pub fn holds(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| now >= *until);
        self.until.is_some()
    }

    /// Whether nobody is to wait for the listener.
    pub fn is_set(&self) -> bool {
        self.until.is_some()
    }

    /// When it is to be asked again, if it is left alone.
    pub fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Something was accepted.
    pub fn worked(&mut self) {
        self.logged = false;
    }

    /// Nothing could be accepted. Returns whether another one is to be tried at once: some faults are of one connection only.
    pub fn failed(&mut self, now: Instant, what: &str, error: &io::Error) -> bool {
        match error.kind() {
            ErrorKind::WouldBlock => false,
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted => true,
            _ => {
                self.until = Some(now + PAUSE);
                if !std::mem::replace(&mut self.logged, true) {
                    tracing::warn!("{what}: cannot accept: {error}");
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_without_descriptors_is_left_alone_for_a_moment() {
        let mut pause = AcceptPause::default();
        let now = Instant::now();
        assert!(!pause.holds(now));
        let full = io::Error::from_raw_os_error(nix::libc::EMFILE);
        assert!(!pause.failed(now, "test", &full));
        assert!(pause.logged && pause.is_set());
        assert_eq!(pause.due(), Some(now + PAUSE));
        assert!(pause.holds(now + PAUSE / 2));
        assert!(!pause.holds(now + PAUSE));
        assert_eq!(pause.due(), None);
        assert!(pause.logged, "once, however often it fails");
        pause.worked();
        assert!(!pause.logged);
    }

    #[test]
    fn what_concerns_one_connection_stops_nobody() {
        let mut pause = AcceptPause::default();
        let now = Instant::now();
        assert!(pause.failed(now, "test", &ErrorKind::ConnectionAborted.into()));
        assert!(!pause.failed(now, "test", &ErrorKind::WouldBlock.into()));
        assert_eq!(pause.due(), None);
    }
}
