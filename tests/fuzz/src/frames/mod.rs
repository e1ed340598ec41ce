//! A whole worker below the proxy and the proxy itself, between model hosts: frames from the Ethernet header up.
//!
//! The input is a script of frames, honest ones, bent ones and some that are none, and of what befalls the link meanwhile. Checksums are
//! right where the script wants them right, so that it gets behind them. When it is over everybody falls silent. Then the books have to
//! balance: every frame was counted once, every buffer is back, and after all timers nobody holds a slot.

mod hosts;
#[cfg(test)]
mod moved;
mod packet;
mod port;
mod script;

use hosts::Hosts;
use packet::assert_right;
use port::{FRAME_BYTES_MAX, MemoryPort};
use script::{Act, Bend, Script};
use std::sync::OnceLock;
use tidegate_channel::flows::FlowRecord;
use tidegate_channel::message::{Oracle, PortFacts, WorkerStart};
use tidegate_channel::paths::{PathReader, PathWriter};
use tidegate_config::Config;
use tidegate_dataplane::hand_over::{HandOverReceivers, HandOverSenders};
use tidegate_dataplane::link_layer::{self, LinkLayer};
use tidegate_dataplane::network::Network;
use tidegate_dataplane::opening;
use tidegate_dataplane::packets::PacketNetwork;
use tidegate_link::News;
use tidegate_port::handover::{self, Receiver, Sender};
use tidegate_proxy::Proxy;
use tidegate_proxy::streams::Streams;
use tidegate_stack::{Arrival, Stack};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 10];
const MTU_BYTES: usize = 1_500;
/// Where the clock starts: later than any interval that is subtracted from it.
const START_US: u64 = 1_000_000_000;
/// How far the clock goes on in each turn.
const TURN_US: u64 = 100;
/// Everybody's patience is over after this: keep-alive, retransmissions, `TIME-WAIT` and the proxy's own timeouts.
const SILENCE_US: u64 = 300_000_000;
/// Turns in that time. A timer that is due again at once would never let it end.
const SILENT_TURNS_MAX: usize = 20_000;
/// Slots of a ring between workers: few enough to be full at times.
const HAND_OVER_SLOTS: usize = 8;

/// What the worker before left open: a client, a server, and what a hostile one may write.
fn orphans() -> Vec<FlowRecord> {
    let flow = |local: &str, remote: &str, port| FlowRecord {
        local: local.parse().expect("an address"),
        remote: remote.parse().expect("an address"),
        port,
        mac: [2, 0, 0, 0, 0, 0x21],
        timestamps: port == 0,
        sent_end: 1_000,
        received_end: u32::MAX,
    };
    vec![
        flow("192.0.2.10:11211", "192.0.2.30:40001", 0),
        flow("192.0.2.10:11211", "192.0.2.30:40001", 0),
        flow("192.0.2.10:10000", "192.0.2.20:11211", 0),
        flow("[2001:db8::10]:6379", "[2001:db8::30]:40001", 0),
        flow("192.0.2.99:22", "192.0.2.30:40001", 0),
        flow("192.0.2.10:11211", "192.0.2.30:40005", 255),
    ]
}

/// The first worker of two, on a port that the kernel does not see: so the link layer is its own.
fn start() -> &'static WorkerStart {
    static START: OnceLock<WorkerStart> = OnceLock::new();
    START.get_or_init(|| {
        let mut config = Config::parse(CONFIG, "fuzz").expect("the configuration is sound");
        let worker = &mut config.worker;
        worker.clients_max = 8;
        worker.half_open_max = 4;
        worker.client_buffer_bytes = 1_024;
        worker.server_connections_max = 4;
        worker.server_buffer_bytes = 4_096;
        worker.requests_max = 64;
        worker.client_requests_max = 16;
        worker.split_keys_max = 64;
        worker.request_hold_bytes = 2_048;
        worker.reply_hold_bytes = 64 << 10;
        worker.client_reply_hold_bytes = 16 << 10;
        WorkerStart {
            config,
            worker: 0,
            workers: 2,
            core: None,
            ports: vec![PortFacts {
                ifindex: 0,
                queue: 0,
                mac: MAC,
                mtu_bytes: MTU_BYTES as u32,
                generic: false,
                oracle: Oracle::PortXor { queues: 2 },
            }],
            shared_listeners: Vec::new(),
            user: None,
            seed: 1,
            orphans: orphans(),
            timestamps_us: 0,
        }
    })
}

const CONFIG: &str = r#"
[[port]]
driver = "dpdk"
interface = "0000:3b:00.1"
addresses = ["192.0.2.10/24", "2001:db8::10/64"]
queues = { 0 = 0, 1 = 1 }
[[pool]]
name = "text"
protocol = "memcached"
listen = ["192.0.2.10:11211", "[2001:db8::10]:11211"]
servers = ["192.0.2.20:11211"]
client_keepalive_s = 20
[[pool]]
name = "values"
protocol = "redis"
listen = ["192.0.2.10:6379", "[2001:db8::10]:6379"]
servers = ["[2001:db8::21]:6379"]
client_keepalive_s = 20
"#;

/// Everything at once.
struct World {
    network: PacketNetwork<MemoryPort, Stack>,
    proxy: Proxy,
    paths: PathWriter,
    /// The other worker's ends: from us, and to us.
    from_us: Receiver,
    to_us: Sender,
    /// Frames that the other worker handed over and that the stack has to count.
    handed: u64,
    /// Those that name a port which is not there.
    strays: u64,
    hosts: Hosts,
    bends: Vec<Bend>,
    now_us: u64,
    proxy_due_us: Option<u64>,
}

impl World {
    fn new() -> Self {
        let start = start();
        let servers = start.config.servers().count();
        let stack = opening::build_stack(start, servers, START_US).expect("sound facts");
        let meters = Proxy::private_meters(&start.config.pools);
        let slots = stack.slots();
        let proxy = opening::build_proxy(&start.config, 1, slots, meters, START_US);
        let paths = PathWriter::create(servers).expect("there is memory");
        let reader = PathReader::map(paths.file(), servers, 1).expect("there is memory");
        let ring = || handover::in_process(HAND_OVER_SLOTS).expect("there is memory");
        let ((to_other, from_us), (to_us, from_other)) = (ring(), ring());
        Self {
            network: PacketNetwork {
                ports: vec![MemoryPort::new(MAC, MTU_BYTES)],
                stack,
                senders: HandOverSenders::new(vec![None, Some(to_other)]).with_others(true),
                receivers: HandOverReceivers::new(vec![from_other]),
                paths: reader,
                tap: None,
                link: Some(Box::new(LinkLayer::new(start, START_US))),
                doubts: link_layer::doubts(&start.config),
                announcements: Vec::new(),
                now_us: START_US,
            },
            proxy,
            paths,
            from_us,
            to_us,
            handed: 0,
            strays: 0,
            hosts: Hosts::new(),
            bends: Vec::new(),
            now_us: START_US,
            proxy_due_us: Some(START_US),
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Bend(bend) => self.bends.push(bend),
            Act::Stick => self.network.ports[0].tx.is_stuck ^= true,
            Act::Path { server, reached } => self.reach(server, reached),
            Act::Pass { ms } => self.pass(ms * 1_000),
            Act::AcknowledgeAll => {
                for frame in self.hosts.acknowledge_all() {
                    self.network.ports[0].arrive(&frame);
                }
            }
            act => {
                if let Some(frame) = self.hosts.frame(act) {
                    self.arrive(frame);
                }
            }
        }
    }

    /// A frame arrives, as the script has bent it.
    fn arrive(&mut self, mut frame: Vec<u8>) {
        let (mut times, mut by) = (1, None);
        for bend in self.bends.drain(..) {
            match bend {
                Bend::Flip {
                    at,
                    bits,
                    made_right,
                } => {
                    if let Some(byte) = frame.get_mut(at) {
                        *byte ^= bits;
                    }
                    if made_right {
                        packet::make_right(&mut frame);
                    }
                }
                Bend::Cut { bytes } => frame.resize(bytes.min(FRAME_BYTES_MAX), 0),
                Bend::Repeat { times: so_many } => times = so_many,
                Bend::HandOver { port } => by = Some(port),
            }
        }
        for _ in 0..times {
            match by {
                None => self.network.ports[0].arrive(&frame),
                Some(port) => {
                    let sent = u64::from(self.to_us.send(port, &frame));
                    *(if Arrival::from_tag(port).port == 0 {
                        &mut self.handed
                    } else {
                        &mut self.strays
                    }) += sent;
                }
            }
        }
        self.to_us.publish();
    }

    fn reach(&mut self, server: usize, reached: bool) {
        let server = server % Hosts::servers().len();
        let path = reached.then(|| Hosts::path(server));
        self.paths.set(server, path);
    }

    /// As the poll loop's.
    fn turn(&mut self) {
        let now_us = self.now_us;
        self.network.tick(now_us);
        self.network.receive();
        let streams = self.network.streams();
        if self.proxy_due_us.is_some_and(|due_us| due_us <= now_us) {
            self.proxy.tick(streams, now_us);
        }
        self.proxy.run(streams, now_us);
        self.network.send();
        while self.proxy.take_event().is_some() || self.proxy.take_slow().is_some() {}
        // The manager's part.
        while let Some(news) = self.network.take_news(|| true) {
            if let News::Neighbour { address, mac, .. } = news
                && let Some(server) = Hosts::server_at(address)
            {
                let path = mac.map(|mac| tidegate_channel::paths::PathEntry {
                    next_hop_mac: mac,
                    ..Hosts::path(server)
                });
                self.paths.set(server, path);
            }
        }
        self.proxy_due_us = self.proxy.next_timer_us();
        while let Some(frame) = self.network.ports[0].take_sent() {
            assert_right(&frame, MTU_BYTES);
            self.hosts.take(&frame);
        }
        self.from_us.receive(HAND_OVER_SLOTS, |port, _| {
            assert_eq!(port, 0, "there is one port");
        });
        self.assert_counted();
        self.now_us += TURN_US;
    }

    fn is_stuck(&self) -> bool {
        self.network.ports[0].tx.is_stuck
    }

    fn next_due_us(&self) -> Option<u64> {
        let of_network = self.network.next_timer_us();
        of_network.into_iter().chain(self.proxy_due_us).min()
    }

    /// Time passes, turn by turn as timers are due.
    fn pass(&mut self, us: u64) {
        let until_us = self.now_us + us;
        for _ in 0..SILENT_TURNS_MAX {
            self.turn();
            // What the last turn left behind leaves in the next, unless nothing does.
            let goes_on = self.network.stack.has_pending_egress() && !self.is_stuck();
            if !goes_on {
                let due_us = self.next_due_us().unwrap_or(until_us);
                self.now_us = self.now_us.max(due_us);
            }
            if self.now_us >= until_us {
                self.now_us = until_us;
                return;
            }
        }
        panic!("timers that never rest: {:?}", self.next_due_us());
    }

    /// Every frame is counted once, wherever it came from, and no table has more than it may.
    fn assert_counted(&self) {
        let c = self.network.counters();
        assert_eq!(c.frames_in, self.network.ports[0].rx.given + self.handed);
        assert_eq!(c.frames_in, c.frames_told(), "{c:?}");
        assert_eq!(c.hand_over_faults, self.strays);
        if let Some(link) = &self.network.link {
            let l = link.counters();
            assert_eq!(l.frames_in, l.frames_told(), "{l:?}");
            assert!(l.frames_in <= c.frames_not_tcp + c.frames_not_ours);
        }
        let worker = &start().config.worker;
        assert!(c.clients_open <= u64::from(worker.clients_max), "{c:?}");
        assert!(c.servers_open <= u64::from(worker.server_connections_max));
        assert!(c.half_open <= u64::from(worker.half_open_max), "{c:?}");
    }

    /// Everybody is silent, and time passes.
    fn fall_silent(&mut self) {
        self.network.ports[0].tx.is_stuck = false;
        self.pass(SILENCE_US);
        let c = self.network.counters();
        let held = [c.clients_open, c.servers_open, c.half_open, c.time_wait];
        assert_eq!(held, [0; 4], "slots that nobody frees: {c:?}");
        assert_eq!(self.proxy.clients_open(), 0);
        let tables = self.proxy.tables_in_use();
        assert!(tables.is_idle() && tables.links == 0, "{tables:?}");
        self.network.ports[0].assert_nothing_lost();
    }
}

/// Plays the script that `input` is, and judges what came of it.
///
/// # Panics
/// When a promise is broken.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let mut world = World::new();
    let setting = script.setting();
    for server in 0..Hosts::servers().len() {
        world.reach(server, setting >> server & 1 == 0);
    }
    while let Some(step) = script.next() {
        world.act(step.act);
        if step.turns {
            world.turn();
        }
    }
    world.fall_silent();
}
