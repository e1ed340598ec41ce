//! After the start nothing allocates: accepting, data, closing, floods, connecting and timers.
//!
//! The counting allocator is that of the whole test binary, which is why it is a binary of its own with one test.

mod common;

use common::{
    CLIENT, MACS, MemoryPort, Options, SERVER, START_US, SYN, Tcp, address, config, listening, path,
};
use tidegate_port::{Port, RxQueue};
use tidegate_proxy::streams::{ServerId, StreamStatus, Streams};
use tidegate_stack::{HandOver, Stack};

struct Nowhere;

impl HandOver for Nowhere {
    fn hand_over(&mut self, _worker: u32, _port: u8, _frame: &[u8]) -> bool {
        false
    }
}

struct Pair {
    stacks: [Stack; 2],
    ports: [[MemoryPort; 1]; 2],
    now_us: u64,
}

impl Pair {
    fn ingress(&mut self, host: usize) {
        let stack = &mut self.stacks[host];
        stack.tick(self.now_us);
        let (rx, tx) = self.ports[host][0].halves();
        let frames = rx.burst(usize::MAX);
        for frame in 0..frames {
            stack.ingress(rx.frame(frame), 0, tx, &mut Nowhere);
        }
        rx.release();
    }

    fn egress(&mut self, host: usize) {
        self.stacks[host].egress(&mut self.ports[host]);
        let [first, second] = &mut self.ports;
        let (from, to) = if host == CLIENT {
            (first, second)
        } else {
            (second, first)
        };
        let (from, to) = (&mut from[0].tx.ring, &mut to[0].rx.ring);
        for index in 0..from.len() {
            let frame = from.get(index);
            if to.room() > 0 {
                to.push(frame.len(), |slot| slot.copy_from_slice(frame));
            }
        }
        from.drop_front(from.len());
    }

    /// The server echoes and closes when its peer does; the client takes what comes.
    fn turn(&mut self) {
        for host in [CLIENT, SERVER] {
            self.ingress(host);
            let stack = &mut self.stacks[host];
            while let Some(id) = stack.next_ready() {
                let received = stack.received(id);
                if host == SERVER {
                    stack.forward(id, id, received);
                } else {
                    stack.consume(id, received);
                }
                match stack.status(id) {
                    StreamStatus::Closed(_) => stack.release(id),
                    StreamStatus::HalfClosed => stack.finish(id),
                    _ => {}
                }
            }
            self.egress(host);
        }
        self.now_us += 1_000;
    }
}

#[test]
fn nothing_allocates_after_the_start() {
    let options = Options {
        client_slots: 192,
        server_slots: 128,
        half_open_max: 64,
        ring_frames: 2_048,
        ..Options::default()
    };
    let stack = |host: usize| {
        Stack::new(config(&options, host), START_US).expect("the configuration is right")
    };
    let port = |host: usize| [MemoryPort::new(MACS[host], options.ring_frames)];
    let mut pair = Pair {
        stacks: [stack(CLIENT), stack(SERVER)],
        ports: [port(CLIENT), port(SERVER)],
        now_us: START_US,
    };
    pair.stacks[CLIENT].set_path(ServerId(0), Some(path(false, CLIENT)));
    let forged: Vec<Vec<u8>> = (0..500)
        .map(|number| {
            let client = address(false, CLIENT, 1_000 + number);
            Tcp {
                sequence: u32::from(number),
                ..Tcp::new(client, listening(false), SYN)
            }
            .frame(CLIENT)
        })
        .collect();
    let allocations = allocation_counter::measure(|| {
        let mut open = [None; 64];
        for round in 0..30 {
            for place in &mut open {
                let client = &mut pair.stacks[CLIENT];
                if let Some(id) = place.take() {
                    if round % 3 == 0 {
                        client.abort(id);
                    }
                    client.release(id);
                }
                *place = client.connect(ServerId(0)).ok();
                if let Some(id) = *place {
                    client.send(id, &[round; 3_000]);
                }
            }
            for _ in 0..8 {
                pair.turn();
            }
            for frame in &forged {
                pair.ports[SERVER][0]
                    .rx
                    .ring
                    .push(frame.len(), |slot| slot.copy_from_slice(frame));
            }
            pair.turn();
            pair.now_us += 4_000_000;
            pair.turn();
        }
    });
    let counters = pair.stacks[SERVER].counters();
    assert!(
        counters.accepted >= 30 * 40,
        "the test did something: {counters:?}"
    );
    assert!(counters.half_open_evicted > 0 && counters.half_open_expired > 0);
    assert_eq!(allocations.count_total, 0);
}
