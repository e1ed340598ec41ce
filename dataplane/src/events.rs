//! Writes to the log what the proxy has to say, on a thread of its own: the poll loop must not wait for a terminal or a full
//! pipe.

use crate::limits::EVENTS;
use ringbuf::HeapRb;
use ringbuf::traits::{Consumer, Producer, Split};
use std::thread::Thread;
use std::time::Duration;
use tidegate_config::Config;
use tidegate_proxy::Event;
use tidegate_proxy::streams::ServerId;

/// The loop's end: events of the proxy go in.
pub struct EventSink {
    ring: ringbuf::HeapProd<Event>,
    thread: Thread,
}

impl EventSink {
    /// Passes an event on. With a full ring it is lost: the counters still tell.
    pub fn send(&mut self, event: Event) {
        if self.ring.try_push(event).is_ok() {
            self.thread.unpark();
        }
    }
}

/// How long the thread sleeps at most; wake-ups come with each event.
const PARK: Duration = Duration::from_secs(5);

/// Starts the thread; it names servers as the configuration does.
pub fn spawn(config: &Config) -> std::io::Result<EventSink> {
    let (producer, mut consumer) = HeapRb::<Event>::new(EVENTS).split();
    let names: Vec<String> = config
        .servers()
        .map(|(pool, server)| {
            let pool = &config.pools[pool].name;
            format!("pool {pool}: server {} ({})", server.name, server.address)
        })
        .collect();
    let handle = std::thread::Builder::new()
        .name("events".into())
        .spawn(move || {
            loop {
                while let Some(event) = consumer.try_pop() {
                    log(&names, event);
                }
                std::thread::park_timeout(PARK);
            }
        })?;
    Ok(EventSink {
        ring: producer,
        thread: handle.thread().clone(),
    })
}

fn log(names: &[String], event: Event) {
    let name = |server: ServerId| names.get(usize::from(server.0)).map_or("?", String::as_str);
    match event {
        Event::ServerFailed { server, fault } => {
            tracing::warn!("{}: {}", name(server), fault.text());
        }
        Event::ServerEjected { server } => {
            tracing::warn!("{}: taken out of the distribution", name(server));
        }
        Event::ServerReturned { server } => {
            tracing::info!("{}: takes part again", name(server));
        }
    }
}
