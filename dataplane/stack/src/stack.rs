//! The stack as a whole: what it is made of, its slots' way through the lists, and its clock.

use crate::challenges::Challenges;
use crate::config::{Path, StackConfig, StackError};
use crate::device::capabilities;
use crate::flow::{Flow, Owner, Role, set_timestamp, slab};
use crate::flow_table::FlowTable;
use crate::frame::ETHERNET_HEADER_BYTES;
use crate::limits::{CLOSE_US, HOLDS_MAX, SILENT_MAX, TIMESTAMP_TICK_US};
use crate::oracle::{PortPartition, QueueOracle};
use crate::orphans::Orphans;
use crate::slot_lists::{List, SlotLists};
use crate::wheel::TimerWheel;
use smoltcp::iface::{Config, Interface, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use tidegate_channel::counters::StackCounters;
use tidegate_channel::flows::FlowsWriter;
use tidegate_config::AckMode;
use tidegate_proxy::streams::{CloseReason, ServerId};

/// Takes a frame to the worker that owns its flow.
pub trait HandOver {
    /// Passes `frame`, which arrived as `tag` says ([`Arrival::tag`](crate::Arrival::tag)), to `worker`; `false`: there was no room.
    fn hand_over(&mut self, worker: u32, tag: u8, frame: &[u8]) -> bool;

    /// Takes `frame`, which is not TCP or was sent to a group of stations, where the kernel does not see it and somebody else has to;
    /// `false`: nobody does, or there was no room. It is counted as `frames_not_tcp` or `frames_not_ours` in either case.
    fn not_for_tcp(&mut self, _port: u8, _frame: &[u8]) -> bool {
        false
    }
}

/// One port as the stack sees it.
pub(crate) struct PortState {
    pub(crate) interface: Interface,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu_bytes: usize,
    pub(crate) ack: AckMode,
    pub(crate) oracle: QueueOracle,
}

impl PortState {
    /// Exchanges the interface for one with another generator of random numbers, which is all that an interface remembers.
    pub(crate) fn renew_interface(&mut self, seed: u64, now_us: u64) {
        self.interface = interface(self.mtu_bytes, seed, now_us);
    }
}

/// A listening address.
pub(crate) struct ListenerState {
    pub(crate) address: SocketAddr,
    pub(crate) keepalive_us: u64,
}

impl ListenerState {
    pub(crate) fn new(listener: &crate::config::Listener) -> Self {
        Self {
            address: listener.address,
            keepalive_us: listener.keepalive_us.unwrap_or(u64::MAX),
        }
    }
}

/// An acknowledgement that waits.
pub(crate) struct Hold {
    pub(crate) slot: u32,
    pub(crate) until_us: u64,
}

/// The TCP of one worker. See the crate's documentation for the order of calls.
pub struct Stack {
    pub(crate) now_us: u64,
    pub(crate) worker: u32,
    pub(crate) clients: u32,
    pub(crate) flows: Box<[Flow]>,
    pub(crate) table: FlowTable,
    pub(crate) lists: SlotLists,
    pub(crate) wheel: TimerWheel,
    pub(crate) holds: VecDeque<Hold>,
    /// Flows that the next egress pass looks at. Each flow is in it at most once, so it never grows.
    pub(crate) dirty: Vec<u32>,
    /// The other of the two vectors that take turns as `dirty`.
    pub(crate) dirty_pass: Vec<u32>,
    /// Streams that the proxy has to look at, each at most once.
    pub(crate) ready: VecDeque<u32>,
    pub(crate) ports: Vec<PortState>,
    pub(crate) listeners: Vec<ListenerState>,
    pub(crate) paths: Vec<Option<Path>>,
    /// Servers that do not answer, each at most once, until somebody asks.
    pub(crate) silent: Vec<u16>,
    /// Every source address that a path ever had: replies to older ones may still be on their way.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) partition: PortPartition,
    pub(crate) next_port: u32,
    /// What waits for server connections to open, `server_buffer_bytes` for each server slot.
    pub(crate) staging: Box<[u8]>,
    pub(crate) server_buffer_bytes: usize,
    pub(crate) half_open_max: usize,
    pub(crate) accepting: bool,
    pub(crate) challenges: Challenges,
    /// What initial sequence numbers are made of beside addresses, ports and the time.
    pub(crate) isn_secret: [u64; 2],
    /// A set without sockets: through it smoltcp answers RST.
    pub(crate) nobody: SocketSet<'static>,
    /// Where the clock of TCP timestamps was at 0.
    pub(crate) timestamps_us: u64,
    /// Where a successor finds what is open.
    pub(crate) record: FlowsWriter,
    /// What a predecessor left open.
    pub(crate) orphans: Orphans,
    pub(crate) counters: StackCounters,
}

/// smoltcp wants a device to read the MTU from when an interface is made; nothing moves through it.
struct Blueprint(usize);

struct NoToken;

impl RxToken for NoToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&[])
    }
}

impl TxToken for NoToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, write: F) -> R {
        write(&mut vec![0; bytes])
    }
}

impl Device for Blueprint {
    type RxToken<'a> = NoToken;
    type TxToken<'a> = NoToken;

    fn receive(&mut self, _now: Instant) -> Option<(NoToken, NoToken)> {
        None
    }

    fn transmit(&mut self, _now: Instant) -> Option<NoToken> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.0)
    }
}

/// One interface per port: smoltcp clamps segments to the interface's MTU. It needs no addresses, because the
/// demultiplexer has decided before what is ours.
fn interface(mtu_bytes: usize, seed: u64, now_us: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, &mut Blueprint(mtu_bytes), instant(now_us));
    interface.set_any_ip(true);
    interface
}

/// An Ethernet header.
pub(crate) fn link_header(to: [u8; 6], from: [u8; 6], ipv6: bool) -> [u8; ETHERNET_HEADER_BYTES] {
    let mut link = [0; ETHERNET_HEADER_BYTES];
    link[..6].copy_from_slice(&to);
    link[6..12].copy_from_slice(&from);
    link[12..].copy_from_slice(if ipv6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    link
}

/// smoltcp's clock.
#[inline]
pub(crate) fn instant(now_us: u64) -> Instant {
    Instant::from_micros(now_us as i64)
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): one seed makes several.
pub(crate) fn split_mix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Stack {
    /// Memory that each slot takes beside its two buffers: the socket, the flow, its buckets and its key in the table, its
    /// links in the lists and in the timer wheel, its places in the dirty and in the ready list.
    pub const BYTES_PER_FLOW: usize = size_of::<SocketStorage<'static>>()
        + size_of::<Flow>()
        + FlowTable::BYTES_PER_SLOT
        + SlotLists::BYTES_PER_SLOT
        + TimerWheel::BYTES_PER_SLOT
        + 3 * size_of::<u32>();

    /// Makes a stack. This is the only call that allocates.
    pub fn new(config: StackConfig, now_us: u64) -> Result<Self, StackError> {
        config.check()?;
        let mut seed = config.seed;
        let slots = config.client_slots + config.server_slots;
        let ports = config.ports.into_iter().map(|port| PortState {
            interface: interface(port.mtu_bytes, split_mix(&mut seed), now_us),
            mac: port.mac,
            mtu_bytes: port.mtu_bytes,
            ack: port.ack,
            oracle: port.oracle,
        });
        let ports = ports.collect();
        let listeners = config.listeners.iter().map(ListenerState::new);
        let mut lists = SlotLists::new(slots);
        for slot in 0..slots {
            let list = if slot < config.client_slots {
                List::FreeClients
            } else {
                List::FreeServers
            };
            lists.push_back(list, slot as u32);
        }
        set_timestamp(now_us / TIMESTAMP_TICK_US);
        Ok(Self {
            now_us,
            worker: config.worker,
            clients: config.client_slots as u32,
            flows: slab(
                (config.client_slots, config.client_buffer_bytes),
                (config.server_slots, config.server_buffer_bytes),
            ),
            table: FlowTable::new(slots, [split_mix(&mut seed), split_mix(&mut seed)]),
            lists,
            wheel: TimerWheel::new(slots, now_us),
            holds: VecDeque::with_capacity(HOLDS_MAX),
            dirty: Vec::with_capacity(slots),
            dirty_pass: Vec::with_capacity(slots),
            ready: VecDeque::with_capacity(slots),
            ports,
            listeners: listeners.collect(),
            paths: vec![None; config.servers],
            silent: Vec::with_capacity(SILENT_MAX),
            sources: Vec::new(),
            partition: PortPartition::new(config.source_ports, config.workers),
            next_port: split_mix(&mut seed) as u32,
            staging: vec![0; config.server_slots * config.server_buffer_bytes].into_boxed_slice(),
            server_buffer_bytes: config.server_buffer_bytes,
            half_open_max: config.half_open_max,
            accepting: true,
            isn_secret: [split_mix(&mut seed), split_mix(&mut seed)],
            challenges: Challenges::new(split_mix(&mut seed)),
            nobody: SocketSet::new(Vec::new()),
            timestamps_us: 0,
            record: FlowsWriter::nowhere(),
            orphans: Orphans::default(),
            counters: StackCounters::default(),
        })
    }

    /// Sets how `server` is reached; `None`: not at all, and [`ConnectError::NoRoute`](tidegate_proxy::streams::ConnectError)
    /// answers attempts. Living connections follow to the new next hop as long as their source address stays.
    pub fn set_path(&mut self, server: ServerId, path: Option<Path>) {
        let Some(known) = self.paths.get_mut(usize::from(server.0)) else {
            return;
        };
        let path = path.filter(|path| {
            usize::from(path.port) < self.ports.len()
                && path.source.is_ipv4() == path.destination.is_ipv4()
        });
        *known = path;
        let Some(path) = path else {
            return;
        };
        if !self.sources.contains(&path.source) {
            self.sources.push(path.source);
        }
        let link = self.link_to(&path);
        for slot in self.clients..self.flows.len() as u32 {
            let flow = &mut self.flows[slot as usize];
            if flow.attached
                && flow.role == Role::Server(server.0)
                && self.table.key(slot).local().ip() == path.source
            {
                flow.link = link;
                flow.port = path.port;
                self.note_open(slot);
                self.mark_dirty(slot);
            }
        }
    }

    /// A server to which something was sent twice in vain since it was last heard: its next hop may have moved to another
    /// station without a word.
    #[inline]
    pub fn take_silent(&mut self) -> Option<ServerId> {
        self.silent.pop().map(ServerId)
    }

    /// Notes that the server of this flow, if it is a server's, does not answer.
    pub(crate) fn falls_silent(&mut self, slot: u32) {
        let Role::Server(server) = self.flows[slot as usize].role else {
            return;
        };
        self.counters.servers_silent += 1;
        if !self.silent.contains(&server) && self.silent.len() < SILENT_MAX {
            self.silent.push(server);
        }
    }

    /// The Ethernet header towards a path's next hop.
    pub(crate) fn link_to(&self, path: &Path) -> [u8; ETHERNET_HEADER_BYTES] {
        let mac = self.ports[usize::from(path.port)].mac;
        link_header(path.next_hop_mac, mac, !path.source.is_ipv4())
    }

    /// Takes no new clients from now on: their SYNs are answered with RST.
    pub fn stop_accepting(&mut self) {
        self.accepting = false;
    }

    /// What was counted, with the gauges of this moment.
    pub fn counters(&self) -> StackCounters {
        let servers = self.flows.len() - self.clients as usize;
        StackCounters {
            clients_open: (self.clients as usize - self.lists.len(List::FreeClients)) as u64,
            servers_open: (servers - self.lists.len(List::FreeServers)) as u64,
            half_open: self.lists.len(List::HalfOpen) as u64,
            time_wait: (self.lists.len(List::TimeWaitClients)
                + self.lists.len(List::TimeWaitServers)) as u64,
            orphans: self.orphans.silent() as u64,
            ..self.counters
        }
    }

    /// Whether [`Stack::egress`] has something to do.
    pub fn has_pending_egress(&self) -> bool {
        !self.dirty.is_empty() || self.orphans.due_us() <= self.now_us
    }

    #[inline]
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        self.flows[slot as usize].list_dirty(slot, &mut self.dirty);
    }

    /// Tells the proxy of a stream that it has.
    #[inline]
    pub(crate) fn mark_ready_slot(&mut self, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        if flow.owner == Owner::Proxy && !flow.ready {
            flow.ready = true;
            self.ready.push_back(slot);
        }
    }

    /// Takes the flow out of the table and off every timer.
    pub(crate) fn detach(&mut self, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        flow.timer_us = u64::MAX;
        flow.armed_us = u64::MAX;
        flow.hold_until_us = 0;
        if std::mem::take(&mut flow.attached) {
            self.table.remove(slot);
            self.record.forget(slot as usize);
        }
        self.wheel.disarm(slot);
        self.lists.remove(slot);
    }

    /// Gives the slot back, without a word to the peer.
    pub(crate) fn free(&mut self, slot: u32) {
        self.detach(slot);
        let flow = &mut self.flows[slot as usize];
        flow.silence();
        flow.owner = Owner::Free;
        let list = if slot < self.clients {
            List::FreeClients
        } else {
            List::FreeServers
        };
        self.lists.push_front(list, slot);
    }

    /// Puts the slot into a list whose members all wait `wait_us`.
    pub(crate) fn wait_in(&mut self, list: List, slot: u32, wait_us: u64) {
        self.flows[slot as usize].deadline_us = self.now_us + wait_us;
        self.lists.push_back(list, slot);
    }

    /// The connection is over: smoltcp will say nothing more of it.
    pub(crate) fn is_over(&mut self, slot: u32, reason: CloseReason) {
        self.detach(slot);
        let flow = &mut self.flows[slot as usize];
        flow.closed.get_or_insert(reason);
        if flow.owner == Owner::Proxy {
            self.mark_ready_slot(slot);
        } else {
            self.free(slot);
        }
    }

    /// Ends the connection with a RST, which leaves in the next egress pass.
    pub(crate) fn reset(&mut self, slot: u32, reason: CloseReason) {
        let flow = &mut self.flows[slot as usize];
        flow.closed.get_or_insert(reason);
        flow.hold_until_us = 0;
        flow.socket_mut().abort();
        if flow.is_silent() {
            self.is_over(slot, reason);
            return;
        }
        self.counters.resets_sent += 1;
        // Should the port never take the RST, the slot comes back all the same.
        self.wait_in(List::Closing, slot, CLOSE_US);
        self.mark_dirty(slot);
        self.mark_ready_slot(slot);
    }

    /// Puts the flow where its state makes it wait, after we closed our direction or the state changed.
    pub(crate) fn wait_for_end(&mut self, slot: u32) {
        let flow = &self.flows[slot as usize];
        match flow.state() {
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {
                self.wait_in(List::Closing, slot, CLOSE_US);
            }
            // A stream that the proxy still has cannot be recycled; smoltcp's own timer ends it.
            State::TimeWait if flow.owner == Owner::Proxy => self.lists.remove(slot),
            State::TimeWait => {
                // Its end knows that it is over.
                self.record.forget(slot as usize);
                let list = if slot < self.clients {
                    List::TimeWaitClients
                } else {
                    List::TimeWaitServers
                };
                if !self.lists.is_in(slot, list) {
                    self.lists.push_back(list, slot);
                }
            }
            _ => {}
        }
    }

    /// Sets the clock and expires what is due. The worker calls it at the start of each turn.
    pub fn tick(&mut self, now_us: u64) {
        self.now_us = now_us;
        set_timestamp(self.timestamps_us.wrapping_add(now_us) / TIMESTAMP_TICK_US);
        self.challenges.refill(now_us);
        while let Some(hold) = self.holds.front()
            && hold.until_us <= now_us
        {
            let Hold { slot, until_us } = *hold;
            self.holds.pop_front();
            if self.flows[slot as usize].hold_until_us == until_us {
                self.mark_dirty(slot);
            }
        }
        self.expire_lists();
        self.expire_wheel();
    }

    fn expire_lists(&mut self) {
        while let Some(slot) = self.due(List::HalfOpen) {
            self.counters.half_open_expired += 1;
            self.free(slot);
        }
        while let Some(slot) = self.due(List::Connecting) {
            self.lists.remove(slot);
            self.counters.connects_failed += 1;
            self.reset(slot, CloseReason::TimedOut);
        }
        while let Some(slot) = self.due(List::Closing) {
            self.lists.remove(slot);
            if self.flows[slot as usize].state() == State::Closed {
                // Its RST found no room in the port's ring for all that time.
                self.is_over(slot, CloseReason::TimedOut);
            } else {
                self.counters.flows_timed_out += 1;
                self.reset(slot, CloseReason::TimedOut);
            }
        }
    }

    fn due(&self, list: List) -> Option<u32> {
        let slot = self.lists.first(list)?;
        (self.flows[slot as usize].deadline_us <= self.now_us).then_some(slot)
    }

    fn expire_wheel(&mut self) {
        while let Some(slot) = self.wheel.pop_expired(self.now_us) {
            let flow = &mut self.flows[slot as usize];
            flow.armed_us = u64::MAX;
            // The timer may have moved on since its bucket was chosen: that is what keeps arming cheap.
            if flow.timer_us > self.now_us {
                if flow.timer_us != u64::MAX {
                    flow.armed_us = flow.timer_us;
                    self.wheel.arm(slot, flow.timer_us);
                }
                continue;
            }
            flow.timer_us = u64::MAX;
            self.expire_flow(slot);
        }
    }

    /// When [`Stack::tick`] has something to do next, if nothing arrives before; `None`: never.
    pub fn next_timer_us(&self) -> Option<u64> {
        let lists = [List::HalfOpen, List::Connecting, List::Closing].into_iter();
        let deadlines = lists
            .filter_map(|list| self.lists.first(list))
            .map(|slot| self.flows[slot as usize].deadline_us);
        let hold = self.holds.front().map(|hold| hold.until_us);
        let orphans = self.orphans.due_us();
        let orphans = (orphans != u64::MAX).then_some(orphans);
        let others = hold.into_iter().chain(orphans);
        deadlines.chain(others).chain(self.wheel.next_us()).min()
    }
}
