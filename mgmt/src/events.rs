//! What happened lately: the lines that the manager logged, the last few hundred of them, for the status page.
//!
//! They are taken where they are logged, so nothing can be told in one place and not in the other; and they are taken whatever
//! the filter of the log says.

use crate::units::unix_ms;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Most events. Why: a worker that restarts over and over makes three a time; the hour before it began has to be there still.
const EVENTS_MAX: usize = 256;
/// Most bytes of an event's text; what is longer is cut.
const TEXT_BYTES_MAX: usize = 512;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its number. They are never used twice.
    pub seq: u64,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// What, as the log says it.
    pub text: String,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    next: u64,
}

impl Ring {
    const fn new() -> Self {
        Self {
            events: VecDeque::new(),
            next: 0,
        }
    }

    fn keep(&mut self, at_ms: u64, level: &'static str, mut text: String) {
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.push('…');
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            seq: self.next,
            at_ms,
            level,
            text,
        });
        self.next += 1;
    }

    fn since(&self, from: u64) -> Vec<Event> {
        let known = self.events.partition_point(|event| event.seq < from);
        self.events.iter().skip(known).cloned().collect()
    }
}

static RING: Mutex<Ring> = Mutex::new(Ring::new());

fn ring() -> MutexGuard<'static, Ring> {
    RING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events from number `from` on, oldest first.
pub fn since(from: u64) -> Vec<Event> {
    ring().since(from)
}

/// What keeps everything that is logged, from `info` on.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Keep.with_filter(LevelFilter::INFO)
}

struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        ring().keep(unix_ms(), level, text.0);
    }
}

/// The message, and fields as `name=value` behind it.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn the_latest_are_kept() {
        let mut ring = Ring::new();
        for number in 0..EVENTS_MAX as u64 + 10 {
            ring.keep(number, "info", "é".repeat(TEXT_BYTES_MAX));
        }
        let all = ring.since(0);
        assert_eq!((all.len(), all[0].seq), (EVENTS_MAX, 10));
        assert!(all[0].text.len() <= TEXT_BYTES_MAX + '…'.len_utf8());
        assert!(all[0].text.ends_with("é…"));
        assert_eq!(ring.since(EVENTS_MAX as u64 + 9).len(), 1);
        assert!(ring.since(u64::MAX).is_empty());
    }

    #[test]
    fn what_is_logged_is_an_event() {
        let subscriber = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("not this");
            tracing::warn!(worker = 3, "a test happened");
        });
        let events = since(0);
        let event = events
            .iter()
            .find(|event| event.text.contains("a test happened"));
        let event = event.expect("it was logged");
        assert_eq!(event.level, "warn");
        assert_eq!(event.text, "a test happened worker=3");
        assert!(events.iter().all(|event| event.text != "not this"));
    }
}
