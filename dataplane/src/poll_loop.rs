//! The poll loop: arrivals in, proxy, replies out, rest. No policy of its own.

use crate::capture::Tap;
use crate::clock::Clock;
use crate::control::{Command, Commands};
use crate::events::{EventSink, Told};
use crate::idle::{Idle, Rest};
use crate::layers::Application;
use crate::limits::{CLOSE_GRACE_US, CUT_OFF_SENDS_MAX, PAUSE_NS, PUBLISH_US, SLEEP_MAX_US};
use crate::linger::Linger;
use crate::network::Network;
use crate::prepared::Prepared;
use crate::publisher::{Publisher, unix_time_us};
use std::os::fd::AsFd;
use tidegate_channel::counters::LoopCounters;
use tidegate_port::doorbell::Doorbell;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything owed was delivered.
    Drained,
    /// The deadline of the drain passed with this many replies owed.
    DeadlinePassed {
        /// Replies that clients did not get.
        owed: usize,
    },
    /// The manager said so.
    Stopped,
    /// The manager is gone, and the worker was not to outlive it.
    ManagerGone,
}

/// A drain under way.
#[derive(Clone, Copy, Debug)]
struct Drain {
    deadline_us: u64,
    /// When the last reply was delivered: from then on connections have a little time to close.
    delivered_us: Option<u64>,
}

/// What the loop joins.
pub struct PollLoop<N, A> {
    /// Where streams come from.
    pub network: N,
    /// The proxy.
    pub proxy: A,
    /// To the log.
    pub events: EventSink,
    /// From the control thread.
    pub commands: Commands,
    /// Wakes this worker: rung by other workers, the control thread and the manager.
    pub bell: Doorbell,
    /// Writes statistics.
    pub publisher: Publisher,
    /// When to rest.
    pub idle: Idle,
    /// When to wait for company.
    pub linger: Linger,
    /// The loop's own counts.
    pub counters: LoopCounters,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Every layer ran.
    Busy,
    /// Arrivals wait for company.
    Lingers,
    /// There was nothing to do.
    Nothing,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next may find something at once.
    Busy,
    /// Nothing has to be looked at before an arrival, or before so many microseconds have passed.
    Rests {
        /// Microseconds.
        us: u64,
    },
    /// It was the last.
    Ended(Ended),
}

/// A loop under way.
#[derive(Debug)]
pub struct Running {
    clock: Clock,
    now_ns: u64,
    /// There is something to sleep on.
    can_sleep: bool,
    state: State,
}

/// What is carried from turn to turn.
#[derive(Debug)]
pub struct State {
    /// Something is left to be sent or received: no rest.
    pending: bool,
    /// When a timer is due.
    next_timer_us: Option<u64>,
    drain: Option<Drain>,
}

impl Default for State {
    /// The first turn runs every layer once: servers to connect to in advance are the proxy's first work.
    fn default() -> Self {
        Self {
            pending: true,
            next_timer_us: None,
            drain: None,
        }
    }
}

impl State {
    /// How long nothing is to be done if nothing arrives.
    fn rests_us(&self, now_us: u64) -> u64 {
        let timer_us = self.next_timer_us.unwrap_or(u64::MAX);
        let rests_us = timer_us.saturating_sub(now_us).min(SLEEP_MAX_US);
        if self.drain.is_some() {
            rests_us.min(PUBLISH_US)
        } else {
            rests_us
        }
    }
}

/// Every layer once, from the frames to the proxy and back. Returns whether something was left behind that another turn may send,
/// receive or work on at once.
#[inline]
pub fn run_layers<N: Network, A: Application<N::Streams>>(
    network: &mut N,
    proxy: &mut A,
    now_us: u64,
    timer_due: bool,
) -> bool {
    network.tick(now_us);
    network.receive();
    let streams = network.streams();
    if timer_due {
        proxy.tick(streams, now_us);
    }
    proxy.run(streams, now_us);
    network.send() | proxy.has_more()
}

impl<N: Network, A: Application<N::Streams>> PollLoop<N, A> {
    /// Turns until a command or a finished drain ends it.
    pub fn run(&mut self, clock: Clock) -> Ended {
        let mut running = self.begin(clock);
        loop {
            if let Some(ended) = self.once(&mut running) {
                return ended;
            }
        }
    }

    /// For whoever turns the loop from outside, with [`PollLoop::once`].
    pub fn begin(&self, clock: Clock) -> Running {
        Running {
            clock,
            now_ns: clock.now_ns(),
            can_sleep: self.network.can_wait(),
            state: State::default(),
        }
    }

    /// One turn at `now_us` without the rest after it, for a clock that whoever turns the loop moves.
    pub fn step(&mut self, now_us: u64, state: &mut State) -> Step {
        self.counters.turns += 1;
        let turn = self.turn(now_us, state);
        if let Some(ended) = self.obey(now_us, state) {
            return Step::Ended(ended);
        }
        if turn == Turn::Busy {
            self.counters.busy_turns += 1;
        }
        if turn == Turn::Lingers || state.pending {
            Step::Busy
        } else {
            let us = state.rests_us(now_us);
            Step::Rests { us }
        }
    }

    /// Goes on turning after the end, for those who share a device with this worker: frames of theirs arrive here, too.
    pub fn stay(running: &mut Running) {
        running.state.drain = None;
    }

    /// One turn, and the rest after it; `Some`: it was the last.
    #[inline]
    pub fn once(&mut self, running: &mut Running) -> Option<Ended> {
        let Running {
            clock,
            now_ns,
            can_sleep,
            state,
        } = running;
        let now_us = *now_ns / 1_000;
        self.counters.turns += 1;
        let turn = self.turn(now_us, state);
        if let Some(ended) = self.obey(now_us, state) {
            self.publish(now_us);
            return Some(ended);
        }
        match turn {
            Turn::Busy => {
                self.idle.busy();
                self.counters.busy_turns += 1;
                let then_ns = clock.now_ns();
                self.counters.busy_ns += then_ns - *now_ns;
                *now_ns = self.awake_until(*now_ns, then_ns);
                self.publisher.counted();
            }
            Turn::Lingers => {
                std::hint::spin_loop();
                *now_ns = self.awake_until(*now_ns, clock.now_ns());
            }
            Turn::Nothing => match self.idle.rest(now_us) {
                Rest::Sleep if *can_sleep => {
                    self.sleep(now_us, state);
                    *now_ns = clock.now_ns();
                }
                Rest::Spin => {
                    std::hint::spin_loop();
                    *now_ns = self.awake_until(*now_ns, clock.now_ns());
                }
                Rest::Sleep => {
                    self.idle.nap();
                    *now_ns = clock.now_ns();
                }
                Rest::Pause => {
                    self.idle.pause();
                    *now_ns = clock.now_ns();
                }
            },
        }
        if self.publisher.is_due(now_us) {
            self.publish(now_us);
        }
        None
    }

    /// A turn that began at `now_ns` ended at `then_ns`, which is returned. No turn takes as long as a pause by itself: replies wait
    /// that long, and peers may send again.
    #[inline]
    fn awake_until(&mut self, now_ns: u64, then_ns: u64) -> u64 {
        let turn_ns = then_ns - now_ns;
        if turn_ns > PAUSE_NS {
            self.counters.pauses += 1;
            self.counters.paused_us += turn_ns / 1_000;
        }
        then_ns
    }

    fn turn(&mut self, now_us: u64, state: &mut State) -> Turn {
        let waiting = self.network.waiting();
        let timer_due = state.next_timer_us.is_some_and(|due_us| due_us <= now_us);
        if waiting == 0 && !timer_due && !state.pending && !self.network.has_news() {
            return Turn::Nothing;
        }
        if N::LINGERS && !timer_due && !state.pending && self.linger.waits(now_us, waiting) {
            self.counters.lingers += 1;
            return Turn::Lingers;
        }
        state.pending = run_layers(&mut self.network, &mut self.proxy, now_us, timer_due);
        if timer_due && let Some(watch) = self.proxy.take_watched() {
            self.events.send_told(Told::Watched(watch));
        }
        while let Some(event) = self.proxy.take_event() {
            self.events.send(event);
        }
        while let Some(slow) = self.proxy.take_slow() {
            self.events.send_slow(slow);
        }
        // What finds no room is asked for again in the next turn: nobody would tell it twice.
        while let Some(news) = self.network.take_news(|| self.events.has_room()) {
            self.events.send_told(Told::News(news));
        }
        while let Some(server) = self.network.take_silent() {
            self.events.send_told(Told::Silent(server));
        }
        self.linger.observe(self.proxy.owed());
        state.next_timer_us = earliest(self.network.next_timer_us(), self.proxy.next_timer_us());
        Turn::Busy
    }

    /// A capture is over. Its memory is given back on another thread.
    fn end_tap(&mut self, tap: Option<Box<Tap>>) {
        if let Some(mut tap) = tap {
            tap.end();
            self.events.send_told(Told::Captured(tap));
        }
    }

    fn publish(&mut self, now_us: u64) {
        if self.network.tapped(now_us).is_some_and(|(_, over)| over) {
            let tap = self.network.tap(None);
            self.end_tap(tap);
        }
        let Self {
            publisher,
            counters,
            network,
            proxy,
            ..
        } = self;
        publisher.publish(counters, network, proxy);
        // Somebody may set it at any time; twice a second is often enough to notice.
        proxy.set_wall_clock(now_us, unix_time_us());
    }

    /// Takes up another configuration: the proxy first, which says what became of the numbers.
    #[cold]
    fn take_up(&mut self, prepared: &mut Prepared, now_us: u64) {
        let streams = self.network.streams();
        self.proxy.take_up(streams, &mut prepared.proxy, now_us);
        self.network.take_up(&prepared.proxy, &mut prepared.network);
        std::mem::swap(&mut self.publisher, &mut prepared.publisher);
        self.idle.set_mode(prepared.idle);
        if let Some(names) = prepared.names.take() {
            prepared.names = self.events.rename(names);
        }
        prepared.left = self.proxy.left();
        // The manager looks at the new page from now on.
        self.publisher
            .publish_all(&mut self.counters, &mut self.network, &self.proxy);
        self.publish(now_us);
    }

    /// Takes commands and watches a drain; `Some`: the loop ends.
    fn obey(&mut self, now_us: u64, state: &mut State) -> Option<Ended> {
        while let Some(command) = self.commands.take() {
            match command {
                Command::Stop => return Some(Ended::Stopped),
                Command::ManagerGone => return Some(Ended::ManagerGone),
                Command::TakeUp(mut prepared) => {
                    self.take_up(&mut prepared, now_us);
                    self.commands.give_back(prepared);
                    state.pending = true;
                }
                Command::Look(wanted) => {
                    self.network.look(&wanted);
                    state.pending = true;
                }
                Command::Announce(announcement) => {
                    if let Some(replaced) = self.network.announce(announcement) {
                        self.events.send_told(Told::Announced(replaced));
                    }
                    state.pending = true;
                }
                Command::WatchKeys { watch, lasts_us } => {
                    let until_us = now_us.saturating_add(lasts_us);
                    if let Some(replaced) = self.proxy.watch_keys(watch, until_us) {
                        self.events.send_told(Told::Replaced(replaced));
                    }
                    // There is a timer more.
                    state.pending = true;
                }
                Command::Capture(mut tap) => {
                    tap.start(now_us);
                    let replaced = self.network.tap(Some(tap));
                    self.end_tap(replaced);
                }
                Command::EndCapture { id } => {
                    if self.network.tapped(now_us).is_some_and(|(of, _)| of == id) {
                        let tap = self.network.tap(None);
                        self.end_tap(tap);
                    }
                }
                Command::Drain { deadline_us } => {
                    let deadline_us = now_us.saturating_add(deadline_us);
                    state.drain = Some(Drain {
                        deadline_us,
                        delivered_us: None,
                    });
                    self.network.stop_accepting();
                    self.proxy.drain(self.network.streams(), now_us);
                    state.pending = true;
                }
            }
        }
        let drain = state.drain.as_mut()?;
        if now_us >= drain.deadline_us {
            let owed = self.proxy.owed();
            self.cut_off();
            return Some(if owed == 0 {
                Ended::Drained
            } else {
                Ended::DeadlinePassed { owed }
            });
        }
        if state.pending || !self.proxy.is_drained() {
            return None;
        }
        let delivered_us = *drain.delivered_us.get_or_insert(now_us);
        let counters = self.network.counters();
        let closed = counters.clients_open <= counters.time_wait;
        (closed || now_us >= delivered_us + CLOSE_GRACE_US).then_some(Ended::Drained)
    }

    /// Tells every peer that nothing more comes, as far as the TX rings take it.
    fn cut_off(&mut self) {
        self.proxy.cut_off(self.network.streams());
        for _ in 0..CUT_OFF_SENDS_MAX {
            if !self.network.send() {
                break;
            }
        }
    }

    /// Sleeps until an arrival, a bell or a timer; no longer than until owed statistics are due.
    fn sleep(&mut self, now_us: u64, state: &State) {
        if self.publisher.is_due(now_us) {
            self.publish(now_us);
        }
        if !self.network.prepare_to_wait(&self.bell) || !self.commands.is_empty() {
            return;
        }
        let sleep_us = self.publisher.owed_in_us(now_us);
        let sleep_us = sleep_us.min(state.rests_us(now_us));
        self.counters.sleeps += 1;
        let nap_us = self.linger.nap_us(now_us, self.proxy.asked());
        self.network.wait(self.bell.as_fd(), sleep_us, nap_us);
        self.idle.slept();
    }
}

fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
