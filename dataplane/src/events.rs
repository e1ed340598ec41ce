//! What the loop has to tell: lines for the log, slow requests for the manager. A thread of its own writes them, since the poll loop
//! must not wait for a terminal, a full pipe, or a manager that is busy.

mod keys;
mod repeats;
mod slow;

use crate::capture::Tap;
use crate::limits::EVENTS;
use crate::reports::Reports;
use repeats::{Held, Repeats};
use ringbuf::HeapRb;
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use slow::SlowReports;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tidegate_channel::message::{FromWorker, NeighbourSeen, mac_text};
use tidegate_config::Config;
use tidegate_link::{Announcement, News};
use tidegate_proxy::streams::ServerId;
use tidegate_proxy::{Event, KeyWatch, SlowRequest};

/// Something the loop has to tell.
#[derive(Debug)]
pub enum Told {
    /// A line for the log.
    Event(Event),
    /// A request that took long.
    Slow(SlowRequest),
    /// From here on pools and servers have these names.
    Names(Box<Names>),
    /// A watch on keys whose time is over.
    Watched(Box<KeyWatch>),
    /// One that was replaced: to be dropped where that may take time.
    Replaced(Box<KeyWatch>),
    /// A capture that is over: the same.
    Captured(Box<Tap>),
    /// One that was replaced, or that nobody can say: the same.
    Announced(Announcement),
    /// Something about the link that the manager or the operator has to know.
    News(News),
    /// A server does not answer, which the manager has to tell the kernel.
    Silent(ServerId),
}

/// The loop's end.
pub struct EventSink {
    ring: ringbuf::HeapProd<Told>,
    /// Slow requests that found the ring full.
    lost: Arc<AtomicU64>,
    thread: Thread,
}

impl EventSink {
    /// A sink that nobody empties: what it cannot hold is lost.
    pub fn nowhere() -> Self {
        let (ring, _) = HeapRb::new(EVENTS).split();
        Self {
            ring,
            lost: Arc::new(AtomicU64::new(0)),
            thread: std::thread::current(),
        }
    }

    /// Whether something can be told without being lost.
    #[inline]
    pub fn has_room(&self) -> bool {
        !self.ring.is_full()
    }

    /// Passes an event on. With a full ring it is lost: the counters still tell.
    pub fn send(&mut self, event: Event) {
        if self.ring.try_push(Told::Event(event)).is_ok() {
            self.thread.unpark();
        }
    }

    /// Tells other names. With a full ring they come back, and what follows has the wrong ones until others are told.
    pub fn rename(&mut self, names: Box<Names>) -> Option<Box<Names>> {
        match self.ring.try_push(Told::Names(names)) {
            Err(Told::Names(names)) => Some(names),
            _ => None,
        }
    }

    /// Passes a slow request on. One that is lost is counted.
    pub fn send_slow(&mut self, slow: SlowRequest) {
        if self.ring.try_push(Told::Slow(slow)).is_ok() {
            self.thread.unpark();
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventSink {
    /// Passes on what the loop has done with. With a full ring it is lost.
    pub fn send_told(&mut self, told: Told) {
        let _full = self.ring.try_push(told);
        self.thread.unpark();
    }
}

/// How long the thread sleeps at most; wake-ups come with each event.
const PARK: Duration = Duration::from_secs(5);

/// The same while the manager has yet to hear of a neighbour, because it was busy.
const PARK_BEHIND: Duration = Duration::from_millis(20);

/// The names by which the configuration calls what the loop has numbers for.
#[derive(Debug)]
pub struct Names {
    pools: Vec<String>,
    /// Of each server: the position of its pool, its name, and its address.
    servers: Vec<(usize, String, String)>,
    /// Of each server; `None`: it has a Unix socket.
    addresses: Vec<Option<IpAddr>>,
}

impl Names {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        let servers = config
            .servers()
            .map(|(pool, server)| (pool, server.name.clone(), server.address.to_string()));
        Self {
            pools: config.pools.iter().map(|pool| pool.name.clone()).collect(),
            servers: servers.collect(),
            addresses: config
                .servers()
                .map(|(_, server)| Some(server.address.ip()?.ip()))
                .collect(),
        }
    }

    fn address(&self, server: ServerId) -> Option<IpAddr> {
        *self.addresses.get(usize::from(server.0))?
    }

    fn pool(&self, pool: usize) -> &str {
        self.pools.get(pool).map_or("?", String::as_str)
    }

    fn server(&self, server: ServerId) -> &str {
        let server = self.servers.get(usize::from(server.0));
        server.map_or("?", |(_, name, _)| name)
    }

    /// A server with everything that tells it apart.
    fn server_in_full(&self, server: ServerId) -> String {
        match self.servers.get(usize::from(server.0)) {
            Some((pool, name, address)) => {
                format!("pool {}: server {name} ({address})", self.pool(*pool))
            }
            None => "?".into(),
        }
    }
}

/// Starts the thread; it names pools and servers as the configuration does. Slow requests and what was seen of keys go to `manager`.
pub fn spawn(config: &Config, manager: Reports) -> std::io::Result<EventSink> {
    let (producer, mut consumer) = HeapRb::<Told>::new(EVENTS).split();
    let mut names = Box::new(Names::new(config));
    let lost = Arc::new(AtomicU64::new(0));
    let mut repeats = Repeats::default();
    let mut reports = SlowReports::new(manager, lost.clone());
    let handle = std::thread::Builder::new()
        .name("events".into())
        .spawn(move || {
            loop {
                while let Some(told) = consumer.try_pop() {
                    match told {
                        Told::Event(event) => log(&names, event, &mut repeats),
                        Told::Slow(slow) => reports.add(&names, &slow),
                        Told::Names(others) => {
                            log_held(&names, repeats.take_all(Instant::now()));
                            names = others;
                        }
                        Told::Watched(watch) => keys::tell(reports.manager(), &names, &watch),
                        Told::Replaced(watch) => drop(watch),
                        Told::Captured(tap) => tracing::info!("capture {} is over", tap.id()),
                        Told::Announced(announcement) => drop(announcement),
                        Told::News(news) => tell_news(reports.manager(), news),
                        Told::Silent(server) => {
                            if let Some(address) = names.address(server) {
                                // A manager that is busy hears it at the next repetition.
                                let message = FromWorker::ServerSilent { address };
                                let _busy = reports.manager().tell(&message);
                            }
                        }
                    }
                }
                reports.flush();
                let now = Instant::now();
                log_held(&names, repeats.due(now));
                let park = if reports.manager().is_behind() {
                    PARK_BEHIND
                } else {
                    PARK
                };
                std::thread::park_timeout(repeats.wait(now).map_or(park, |wait| wait.min(park)));
            }
        })?;
    Ok(EventSink {
        ring: producer,
        lost,
        thread: handle.thread().clone(),
    })
}

fn tell_news(manager: &Reports, news: News) {
    match news {
        News::Neighbour { port, address, mac } => {
            manager.neighbour(NeighbourSeen { port, address, mac });
        }
        News::Conflict { port, address, mac } => {
            let mac = mac_text(mac);
            tracing::warn!(
                "port {port}: {mac} claims our address {address} as well: one of the two has to give it up, or clients reach now this \
                 one, now that"
            );
        }
    }
}

fn log(names: &Names, event: Event, repeats: &mut Repeats) {
    let name = |server| names.server_in_full(server);
    match event {
        Event::ServerFailed { server, fault } => {
            if repeats.is_new(server, fault, Instant::now()) {
                tracing::warn!("{}: {}", name(server), fault.text());
            }
        }
        Event::ServerEjected { server } => {
            tracing::warn!("{}: taken out of the distribution", name(server));
        }
        Event::ServerReturned { server } => {
            tracing::info!("{}: takes part again", name(server));
        }
    }
}

fn log_held(names: &Names, held: Vec<Held>) {
    for held in held {
        tracing::warn!(
            "{}: {}, {} times more within {} s",
            names.server_in_full(held.server),
            held.fault.text(),
            held.count,
            held.within.as_secs().max(1)
        );
    }
}
