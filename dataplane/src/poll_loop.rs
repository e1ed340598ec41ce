//! The poll loop: frames in, TCP, proxy, frames out, rest. No policy of its own.

use crate::clock::Clock;
use crate::control::{Command, Commands};
use crate::events::EventSink;
use crate::hand_over::{HandOverReceivers, HandOverSenders};
use crate::idle::{Idle, Rest};
use crate::layers::{Application, Transport};
use crate::limits::{BURST_FRAMES, CLOSE_GRACE_US, PORTS_MAX, PUBLISH_US, SLEEP_MAX_US};
use crate::linger::Linger;
use crate::publisher::Publisher;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};
use std::os::fd::AsFd;
use tidegate_channel::counters::LoopCounters;
use tidegate_channel::paths::PathReader;
use tidegate_port::doorbell::Doorbell;
use tidegate_port::{Port, RxQueue, TxQueue};
use tidegate_proxy::streams::ServerId;

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
    /// The manager is gone.
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
pub struct PollLoop<P, T, A> {
    /// The worker's queue on every port, in the order of the configuration.
    pub ports: Vec<P>,
    /// TCP.
    pub stack: T,
    /// The proxy.
    pub proxy: A,
    /// To other workers.
    pub senders: HandOverSenders,
    /// From other workers.
    pub receivers: HandOverReceivers,
    /// To the log.
    pub events: EventSink,
    /// From the control thread.
    pub commands: Commands,
    /// Wakes this worker: rung by other workers, the control thread and the manager.
    pub bell: Doorbell,
    /// How servers are reached.
    pub paths: PathReader,
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
    /// Frames wait for company.
    Lingers,
    /// There was nothing to do.
    Nothing,
}

/// What is carried from turn to turn.
#[derive(Debug, Default)]
struct State {
    /// Frames or segments are left to be sent: no rest.
    pending: bool,
    /// When a timer is due.
    next_timer_us: Option<u64>,
    drain: Option<Drain>,
}

impl<P: Port, T: Transport, A: Application<T>> PollLoop<P, T, A> {
    /// Turns until a command or a finished drain ends it.
    pub fn run(&mut self, clock: Clock) -> Ended {
        let mut state = State::default();
        let mut now_ns = clock.now_ns();
        // The first turn runs every layer once: servers to connect to in advance are the proxy's first work.
        state.pending = true;
        // A wire without bells can only be polled.
        let can_sleep = self.ports.iter().all(|port| port.wait_fd().is_some());
        loop {
            let now_us = now_ns / 1_000;
            self.counters.turns += 1;
            let turn = self.turn(now_us, &mut state);
            if let Some(ended) = self.obey(now_us, &mut state) {
                self.publish();
                return ended;
            }
            match turn {
                Turn::Busy => {
                    self.idle.busy();
                    self.counters.busy_turns += 1;
                    let then_ns = clock.now_ns();
                    self.counters.busy_ns += then_ns - now_ns;
                    now_ns = then_ns;
                    self.publisher.counted();
                }
                Turn::Lingers => {
                    std::hint::spin_loop();
                    now_ns = clock.now_ns();
                }
                Turn::Nothing => {
                    match self.idle.rest(now_us) {
                        Rest::Spin => std::hint::spin_loop(),
                        Rest::Sleep if can_sleep => self.sleep(now_us, &state),
                        Rest::Pause | Rest::Sleep => self.idle.pause(),
                    }
                    now_ns = clock.now_ns();
                }
            }
            if self.publisher.is_due(now_us) {
                self.publish();
            }
        }
    }

    fn turn(&mut self, now_us: u64, state: &mut State) -> Turn {
        let waiting = self.waiting();
        let timer_due = state.next_timer_us.is_some_and(|due_us| due_us <= now_us);
        let news = self.paths.changed();
        if waiting == 0 && !timer_due && !state.pending && !news {
            return Turn::Nothing;
        }
        if !timer_due && !state.pending && self.linger.waits(now_us, waiting) {
            self.counters.lingers += 1;
            return Turn::Lingers;
        }
        self.stack.tick(now_us);
        if news {
            let stack = &mut self.stack;
            self.paths
                .poll(|server, path| stack.set_path(ServerId(server as u16), path));
        }
        self.receive();
        if timer_due {
            self.proxy.tick(&mut self.stack, now_us);
        }
        self.proxy.run(&mut self.stack, now_us);
        self.stack.egress(&mut self.ports);
        state.pending = self.stack.has_pending_egress();
        for port in &mut self.ports {
            state.pending |= port.halves().1.flush().pending > 0;
        }
        self.senders.publish();
        while let Some(event) = self.proxy.take_event() {
            self.events.send(event);
        }
        self.linger.observe(self.proxy.owed());
        state.next_timer_us = earliest(self.stack.next_timer_us(), self.proxy.next_timer_us());
        Turn::Busy
    }

    fn publish(&mut self) {
        let Self {
            publisher,
            counters,
            ports,
            stack,
            proxy,
            ..
        } = self;
        publisher.publish(counters, ports, stack, proxy);
    }

    fn waiting(&mut self) -> usize {
        let ports = self.ports.iter_mut().map(|port| port.halves().0.waiting());
        ports.sum::<usize>() + self.receivers.waiting()
    }

    /// A burst of every port and of every hand-over ring into the stack.
    fn receive(&mut self) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let (rx, tx) = port.halves();
            let frames = rx.burst(BURST_FRAMES);
            for frame in 0..frames {
                self.stack
                    .ingress(rx.frame(frame), index, tx, &mut self.senders);
            }
            rx.release();
        }
        let Self {
            ports,
            stack,
            senders,
            receivers,
            ..
        } = self;
        receivers.receive(BURST_FRAMES, |port, frame| {
            // The index is another process's word.
            if let Some(owner) = ports.get_mut(usize::from(port)) {
                stack.ingress(frame, usize::from(port), owner.halves().1, senders);
            }
        });
    }

    /// Takes commands and watches a drain; `Some`: the loop ends.
    fn obey(&mut self, now_us: u64, state: &mut State) -> Option<Ended> {
        while let Some(command) = self.commands.take() {
            match command {
                Command::Stop => return Some(Ended::Stopped),
                Command::ManagerGone => return Some(Ended::ManagerGone),
                Command::Drain { deadline_us } => {
                    let deadline_us = now_us.saturating_add(deadline_us);
                    state.drain = Some(Drain {
                        deadline_us,
                        delivered_us: None,
                    });
                    self.stack.stop_accepting();
                    self.proxy.drain(&mut self.stack, now_us);
                    state.pending = true;
                }
            }
        }
        let drain = state.drain.as_mut()?;
        if now_us >= drain.deadline_us {
            let owed = self.proxy.owed();
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
        let counters = self.stack.counters();
        let closed = counters.clients_open <= counters.time_wait;
        (closed || now_us >= delivered_us + CLOSE_GRACE_US).then_some(Ended::Drained)
    }

    /// Sleeps until a frame, a bell or a timer. Statistics are published before, since nobody would do it meanwhile.
    fn sleep(&mut self, now_us: u64, state: &State) {
        if self.publisher.is_owed() {
            self.publish();
        }
        // Whoever rings from here on is heard; what was put down before is seen below.
        self.bell.silence();
        let clear = self.receivers.prepare_to_wait()
            && self.ports.iter_mut().all(Port::prepare_to_wait)
            && self.commands.is_empty()
            && !self.paths.changed();
        if !clear {
            return;
        }
        let mut sleep_us = SLEEP_MAX_US;
        if let Some(due_us) = state.next_timer_us {
            sleep_us = sleep_us.min(due_us.saturating_sub(now_us));
        }
        if state.drain.is_some() {
            sleep_us = sleep_us.min(PUBLISH_US);
        }
        // Unused places repeat the bell, which poll does not mind.
        let bell = self.bell.as_fd();
        let mut wake: [PollFd<'_>; PORTS_MAX + 1] =
            std::array::from_fn(|_| PollFd::new(bell, PollFlags::POLLIN));
        for (place, port) in wake
            .iter_mut()
            .skip(1)
            .zip(self.ports.iter().filter_map(Port::wait_fd))
        {
            *place = PollFd::new(port, PollFlags::POLLIN);
        }
        let places = 1 + self.ports.len().min(PORTS_MAX);
        self.counters.sleeps += 1;
        // A failed sleep (EINTR) is a short one.
        let _woken = ppoll(
            &mut wake[..places],
            Some(TimeSpec::microseconds(sleep_us as i64)),
            None,
        );
        self.idle.slept();
    }
}

fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
#[path = "poll_loop_tests.rs"]
mod tests;
