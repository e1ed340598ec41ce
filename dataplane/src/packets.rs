//! Frames and a TCP of our own: the worker's queue on every port, the stack on top, and the rings to other workers.

use crate::capture::Tap;
use crate::hand_over::{HandOverReceivers, HandOverSenders};
use crate::layers::Transport;
use crate::limits::{BURST_FRAMES, PORTS_MAX};
use crate::link_layer::LinkLayer;
use crate::network::{Network, NetworkChange};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};
use std::os::fd::BorrowedFd;
use tidegate_channel::counters::{QueueCounters, StackCounters};
use tidegate_channel::paths::PathReader;
use tidegate_channel::statistics::StatisticsWriter;
use tidegate_link::{Announcement, Doubts, News, Wanted};
use tidegate_port::capture::Kind;
use tidegate_port::doorbell::Doorbell;
use tidegate_port::{Port, PortCounters, RxQueue, TxQueue};
use tidegate_proxy::Change;
use tidegate_proxy::streams::ServerId;
use tidegate_stack::{Arrival, StackChange};

/// What the network is to be from now on, made in advance.
pub struct PacketChange {
    /// How the servers are reached.
    pub paths: PathReader,
    /// For TCP.
    pub stack: StackChange,
    /// For the link layer of the first worker.
    pub wanted: Vec<Wanted>,
    /// For the next hops of servers that fall silent.
    pub doubts: Option<Box<Doubts>>,
}

/// Ports, stack and hand-over rings of one worker.
pub struct PacketNetwork<P, T> {
    /// The worker's queue on every port, in the order of the configuration.
    pub ports: Vec<P>,
    /// TCP.
    pub stack: T,
    /// To other workers.
    pub senders: HandOverSenders,
    /// From other workers.
    pub receivers: HandOverReceivers,
    /// How servers are reached.
    pub paths: PathReader,
    /// A capture, if there is one.
    pub tap: Option<Box<Tap>>,
    /// What the kernel does on other ports; the first worker's alone.
    pub link: Option<Box<LinkLayer>>,
    /// Next hops that a silent server puts in doubt, where the kernel does not see the ports.
    pub doubts: Option<Box<Doubts>>,
    /// Where our addresses are since the link address of a port changed, by port. One worker says it for all.
    pub announcements: Vec<Announcement>,
    /// The time of this turn.
    pub now_us: u64,
}

impl<P: Port, T: Transport> PacketNetwork<P, T> {
    fn take_paths(&mut self) {
        let stack = &mut self.stack;
        self.paths
            .poll(|server, path| stack.set_path(ServerId(server as u16), path));
        self.paths
            .poll_stations(|port, mac| stack.set_station(port, mac));
    }

    /// Says where our addresses are, if it is time.
    fn announce_due(&mut self) {
        for announcement in &mut self.announcements {
            if let Some(port) = self.ports.get_mut(usize::from(announcement.port())) {
                announcement.send_due(self.now_us, port.halves().1);
            }
        }
    }

    /// Servers do not answer: their next hops are asked for, by us where nobody else does.
    fn doubt(&mut self) {
        let Some(doubts) = &mut self.doubts else {
            return;
        };
        while let Some(server) = self.stack.take_silent() {
            let server = usize::from(server.0);
            let port = doubts.port_of(server).map(usize::from);
            if let Some(port) = port.and_then(|port| self.ports.get_mut(port)) {
                let mac = port.info().mac;
                doubts.ask(self.now_us, server, mac, port.halves().1);
            }
        }
    }

    /// A burst of every port and of every hand-over ring into the stack.
    fn take_frames(&mut self) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let (rx, tx) = port.halves();
            let frames = rx.burst(BURST_FRAMES);
            if let Some(tap) = &mut self.tap {
                for frame in 0..frames {
                    tap.pass(index, Kind::Received, rx.frame(frame));
                }
            }
            for frame in 0..frames {
                let arrival = Arrival {
                    is_verified: rx.is_verified(frame),
                    ..index.into()
                };
                self.stack
                    .ingress(rx.frame(frame), arrival, tx, &mut self.senders);
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
        receivers.receive(BURST_FRAMES, |tag, frame| {
            let arrival = Arrival::from_tag(tag);
            // The index is another process's word.
            let tx = ports.get_mut(arrival.port).map(|owner| owner.halves().1);
            let is_there = tx.is_some();
            if let Some(tx) = tx {
                stack.ingress(frame, arrival, tx, senders);
            }
            is_there
        });
        if let Some(link) = &mut self.link {
            link.take(senders, ports);
        }
    }
}

impl<P: Port, T: Transport> Network for PacketNetwork<P, T> {
    type Streams = T;

    const LINGERS: bool = true;
    const LOOKS_ARE_FREE: bool = true;

    #[inline]
    fn streams(&mut self) -> &mut T {
        &mut self.stack
    }

    #[inline]
    fn waiting(&mut self) -> usize {
        let ports = self.ports.iter_mut().map(|port| port.halves().0.waiting());
        ports.sum::<usize>() + self.receivers.waiting()
    }

    #[inline]
    fn has_news(&mut self) -> bool {
        self.paths.changed()
    }

    #[inline]
    fn tick(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.stack.tick(now_us);
        if let Some(tap) = &mut self.tap {
            tap.begin_turn(now_us);
        }
        if let Some(link) = &mut self.link {
            link.tick(now_us);
        }
    }

    #[inline]
    fn receive(&mut self) {
        if self.paths.changed() {
            self.take_paths();
        }
        self.take_frames();
    }

    #[inline]
    fn send(&mut self) -> bool {
        self.stack.egress(&mut self.ports);
        self.doubt();
        if let Some(link) = &mut self.link {
            link.send_due(&mut self.ports);
        }
        self.announce_due();
        let mut pending = self.stack.has_pending_egress();
        if let Some(tap) = &mut self.tap {
            copy_sent(&mut self.ports, tap);
        }
        for port in &mut self.ports {
            pending |= port.halves().1.flush().pending > 0;
        }
        self.senders.publish();
        pending
    }

    #[inline]
    fn next_timer_us(&self) -> Option<u64> {
        let of_link = self.link.as_ref().and_then(|link| link.next_timer_us());
        let announced = self.announcements.iter();
        let announced = announced.filter_map(Announcement::next_timer_us);
        let others = of_link.into_iter().chain(announced);
        self.stack.next_timer_us().into_iter().chain(others).min()
    }

    fn announce(&mut self, announcement: Announcement) -> Option<Announcement> {
        let port = announcement.port();
        if usize::from(port) >= self.ports.len() {
            return Some(announcement);
        }
        let mut others = self.announcements.iter_mut();
        if let Some(before) = others.find(|other| other.port() == port) {
            return Some(std::mem::replace(before, announcement));
        }
        self.announcements.push(announcement);
        None
    }

    fn look(&mut self, wanted: &[Wanted]) {
        if let Some(link) = &mut self.link {
            link.take_up(wanted);
        }
    }

    #[inline]
    fn take_news(&mut self, has_room: impl FnOnce() -> bool) -> Option<News> {
        let link = self.link.as_mut()?;
        if has_room() { link.take_news() } else { None }
    }

    /// Where we ask by ourselves, nothing is left.
    #[inline]
    fn take_silent(&mut self) -> Option<ServerId> {
        self.stack.take_silent()
    }

    /// A wire without bells can only be polled.
    fn can_wait(&self) -> bool {
        self.ports.iter().all(|port| port.wait_fd().is_some())
    }

    fn prepare_to_wait(&mut self, bell: &Doorbell) -> bool {
        // First: what was put down before the last ring is seen by the looks below.
        bell.silence();
        self.receivers.prepare_to_wait()
            && self.ports.iter_mut().all(Port::prepare_to_wait)
            && !self.paths.changed()
    }

    fn wait(&mut self, bell: BorrowedFd<'_>, timeout_us: u64, _nap_us: u64) {
        // Unused places repeat the bell, which poll does not mind.
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
        // A failed sleep (EINTR) is a short one.
        let _woken = ppoll(
            &mut wake[..places],
            Some(TimeSpec::microseconds(timeout_us as i64)),
            None,
        );
    }

    fn stop_accepting(&mut self) {
        self.stack.stop_accepting();
    }

    fn take_up(&mut self, proxy: &Change, change: &mut NetworkChange) {
        if let NetworkChange::Packets(change) = change {
            std::mem::swap(&mut self.paths, &mut change.paths);
            self.stack
                .take_up(&mut change.stack, proxy.servers_to(), proxy.listeners_to());
            std::mem::swap(&mut self.doubts, &mut change.doubts);
            if let Some(link) = &mut self.link {
                link.take_up(&change.wanted);
            }
        }
    }

    fn counters(&self) -> StackCounters {
        StackCounters {
            hand_over_faults: self.receivers.faults(),
            ..self.stack.counters()
        }
    }

    fn tap(&mut self, tap: Option<Box<Tap>>) -> Option<Box<Tap>> {
        std::mem::replace(&mut self.tap, tap)
    }

    fn tapped(&self, now_us: u64) -> Option<(u64, bool)> {
        let tap = self.tap.as_ref()?;
        Some((tap.id(), tap.is_over(now_us)))
    }

    fn publish(&mut self, writer: &StatisticsWriter) {
        writer.write_stack(&self.counters());
        if let Some(link) = &self.link {
            writer.write_link(&link.counters());
        }
        for (index, port) in self.ports.iter_mut().enumerate() {
            writer.write_queue(index, &queue_counters(&port.counters()));
        }
    }
}

/// Copies what is about to be sent.
#[cold]
fn copy_sent<P: Port>(ports: &mut [P], tap: &mut Tap) {
    for (index, port) in ports.iter_mut().enumerate() {
        let tx = port.halves().1;
        tx.show(&mut |frame| tap.pass(index, Kind::Sent, frame));
    }
    tap.publish();
}

fn queue_counters(port: &PortCounters) -> QueueCounters {
    QueueCounters {
        rx_frames: port.rx_frames,
        rx_bytes: port.rx_bytes,
        tx_frames: port.tx_frames,
        tx_bytes: port.tx_bytes,
        tx_kicks: port.tx_kicks,
        tx_kick_retries: port.tx_kick_retries,
        rx_dropped: port.rx_dropped,
        rx_ring_full: port.rx_ring_full,
        rx_fill_ring_empty: port.rx_fill_ring_empty,
        tx_invalid: port.tx_invalid,
        tx_dropped: port.tx_dropped,
        link_down: port.link_down,
    }
}
