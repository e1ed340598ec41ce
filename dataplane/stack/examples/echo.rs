//! What the stack does for one request: receive 100 bytes, reply 100 bytes, on one flow after the other.
//!
//! `cargo build --release -p tidegate-stack --example echo`, then
//! `valgrind --tool=callgrind --toggle-collect='*serve*' target/release/examples/echo <flows> <requests>`: the collected
//! instructions divided by the requests are the cost of one.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{CLIENT, Options, SERVER, World};
use tidegate_port::{Port, RxQueue};
use tidegate_proxy::streams::{ServerId, StreamId, Streams};

const BURST: usize = 32;
const REQUEST: [u8; 100] = [b'x'; 100];

/// One turn of the worker; what is measured.
#[inline(never)]
fn serve(world: &mut World) -> usize {
    let host = &mut world.hosts[SERVER];
    host.stack.tick(world.now_us);
    let (rx, tx) = host.ports[0].halves();
    let frames = rx.burst(usize::MAX);
    for frame in 0..frames {
        host.stack.ingress(rx.frame(frame), 0, tx, &mut host.handed);
    }
    rx.release();
    let mut served = 0;
    while let Some(id) = host.stack.next_ready() {
        let waiting = host.stack.peek(id).len();
        if waiting > 0 {
            host.stack.consume(id, waiting);
            served += usize::from(host.stack.send(id, &REQUEST) == REQUEST.len());
        }
    }
    host.stack.egress(&mut host.ports);
    served
}

fn client_turn(world: &mut World, requests: &[StreamId]) {
    world.receive(CLIENT);
    while let Some(id) = world.client().next_ready() {
        let waiting = world.client().received(id);
        world.client().consume(id, waiting);
    }
    for id in requests {
        world.client().send(*id, &REQUEST);
    }
    world.transmit(CLIENT);
    world.carry(CLIENT);
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse().expect("a number"));
    let flows: usize = arguments.next().unwrap_or(1_000);
    let requests: usize = arguments.next().unwrap_or(20_000);
    let options = Options {
        client_slots: flows,
        server_slots: flows,
        server_buffer_bytes: 4_096,
        half_open_max: flows,
        source_ports: (1_024, 65_535),
        ..Options::default()
    };
    let mut world = World::new(&options);
    world.step_us = 10;
    let mut ids = Vec::new();
    while ids.len() < flows {
        for _ in 0..BURST.min(flows - ids.len()) {
            ids.push(world.client().connect(ServerId(0)).expect("there is room"));
        }
        world.run(3);
    }
    let started = std::time::Instant::now();
    let (mut served, mut next) = (0, 0);
    let mut batch = Vec::with_capacity(BURST);
    while served < requests {
        batch.clear();
        for _ in 0..BURST.min(flows) {
            // A stride that visits all flows in an order that no cache likes.
            next = (next + 7_919) % flows;
            batch.push(ids[next]);
        }
        client_turn(&mut world, &batch);
        served += serve(&mut world);
        world.carry(SERVER);
        world.now_us += 10;
    }
    let counters = world.server().counters();
    println!(
        "{flows} flows: {served} requests, both ends {:?}, {} retransmits",
        started.elapsed(),
        counters.retransmits
    );
}
