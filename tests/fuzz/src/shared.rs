//! Shared memory as a hostile process leaves it.
//!
//! The input says what is written where, in between what an honest process does at the other end. That one neither panics nor waits, reads
//! nothing that is not there, and goes on with an honest successor.

use crate::bends::Input;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use tidegate_channel::counters::StackCounters;
use tidegate_channel::flows::{FlowSlots, FlowsWriter};
use tidegate_channel::histogram::Histogram;
use tidegate_channel::meters::{COMMAND_ROWS, Meters, NAME_BYTES_MAX};
use tidegate_channel::paths::{PathEntry, PathReader, PathWriter};
use tidegate_channel::shm;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader, StatisticsWriter};
use tidegate_port::frame_ring::{self, Consumer, FRAME_BYTES_MAX, Popped, Producer};
use tidegate_port::{capture, handover};

const WORD_BYTES: usize = size_of::<u64>();

/// Who writes what he likes.
struct Vandal(File);

impl Vandal {
    fn new(file: &OwnedFd) -> Self {
        Self(file.try_clone().expect("there are descriptors").into())
    }

    /// Some words, somewhere.
    fn write(&self, input: &mut Input<'_>) {
        let length = self.0.metadata().expect("it is a file").len() as usize;
        let at = input.word() * WORD_BYTES % length;
        let value = match input.byte() {
            0 => [0; WORD_BYTES],
            1 => [0xff; WORD_BYTES],
            // The largest number that is no lock held.
            2 => (u64::MAX - 1).to_ne_bytes(),
            3 => 1_u64.to_ne_bytes(),
            4 => 0x8000_0000_8000_0000_u64.to_ne_bytes(),
            byte => [byte, input.byte(), 0, 0, input.byte(), 0, 0, 0],
        };
        let words = 1 + usize::from(input.byte()).pow(2);
        let mut bytes = value.repeat(words);
        bytes.truncate(length - at);
        // Not at a word's edge, at times.
        let at = (at + usize::from(input.byte()) % 4 * 2).min(length - bytes.len());
        self.0
            .write_all_at(&bytes, at as u64)
            .expect("inside of it");
    }
}

const LAYOUT: StatisticsLayout = StatisticsLayout {
    queues: 2,
    pools: 2,
    servers: 3,
    flows: FlowSlots {
        clients: 4,
        servers: 2,
    },
};

fn assert_sound(histogram: &Histogram, before: &Histogram) {
    let quantiles = [0, 500, 990, 1_000].map(|per_mille| histogram.quantile_us(per_mille));
    assert!(quantiles.is_sorted(), "{quantiles:?}");
    assert!(quantiles[3] <= histogram.max_us());
    assert!(histogram.count_below(1_024) <= histogram.count());
    let mut sum = histogram.since(before);
    sum.add(before);
    assert!(sum.count() >= histogram.count());
}

/// The statistics page of a worker, read by the manager.
fn statistics(input: &mut Input<'_>) {
    let page = LAYOUT.create().expect("there is memory");
    let vandal = Vandal::new(&page);
    let writer = StatisticsWriter::map(&page, LAYOUT).expect("there is memory");
    let meters = Meters::map(&page, LAYOUT).expect("there is memory");
    let record = FlowsWriter::map(&page, LAYOUT).expect("there is memory");
    let mut reader = StatisticsReader::map(&page, LAYOUT).expect("there is memory");
    let mut before = LAYOUT.nothing();
    while !input.is_over() {
        match input.byte() % 8 {
            0 => {
                let stack = StackCounters {
                    frames_in: u64::from(input.byte()),
                    ..StackCounters::default()
                };
                writer.write_stack(&stack);
                assert_eq!(reader.read_counters().stack, stack, "an honest successor");
            }
            1 => {
                let pool = usize::from(input.byte()) % LAYOUT.pools;
                let row = meters.command(pool, 1 + usize::from(input.byte()) % 3);
                meters.claim(row, "get");
                meters.taken(row, 1, 2);
                meters.answered(row, 3, 4, Some(u64::from(input.byte())));
            }
            2 => {
                reader.read_loop();
            }
            3 => {
                let seen = reader.read().clone();
                assert_eq!(seen.queues.len(), LAYOUT.queues);
                assert_eq!((seen.pools.len(), seen.commands.len()), (2, 2));
                assert_eq!((seen.servers.len(), seen.latencies.len()), (3, 3));
                for command in seen.commands.iter().flatten() {
                    let name = command.name.as_bytes();
                    assert!(name.len() <= NAME_BYTES_MAX);
                    assert!(name.iter().all(u8::is_ascii_graphic), "{command:?}");
                    assert_sound(&command.latency, &Histogram::default());
                }
                assert!(seen.commands.iter().all(|of| of.len() <= COMMAND_ROWS));
                for (now, before) in seen.latencies.iter().zip(&before.latencies) {
                    assert_sound(now, before);
                }
                before = seen;
            }
            4 => {
                let flows = reader.flows();
                assert!(flows.len() <= LAYOUT.flows.clients + LAYOUT.flows.servers);
                for flow in flows {
                    assert_eq!(flow.local.is_ipv4(), flow.remote.is_ipv4());
                    assert!(flow.local.port() != 0 && flow.remote.port() != 0);
                    assert!(flow.mac[0] & 1 == 0, "{flow:?}");
                    record.note(usize::from(input.byte()) % 8, &flow);
                }
            }
            _ => vandal.write(input),
        }
    }
}

const SERVERS: usize = 3;
const PORTS: usize = 2;
/// Two cache lines of header, and one for each entry.
const TABLE_WORDS: usize = 8 * (2 + SERVERS);

/// The path table, read by a worker, and adopted by a manager after the one that wrote it.
fn paths(input: &mut Input<'_>) {
    let table = shm::create("fuzz", TABLE_WORDS).expect("there is memory");
    let vandal = Vandal::new(&table);
    let mut reader = PathReader::map(&table, SERVERS, PORTS).expect("it is long enough");
    while !input.is_over() {
        match input.byte() % 4 {
            0 => {
                reader.poll(|server, entry| {
                    assert!(server < SERVERS);
                    if let Some(entry) = entry {
                        assert!(usize::from(entry.port) < PORTS);
                        assert_eq!(entry.source.is_ipv4(), entry.destination.is_ipv4());
                    }
                });
                reader.poll_stations(|port, _| assert!(port < PORTS));
            }
            1 => {
                let theirs = table.try_clone().expect("there are descriptors");
                let mut writer = PathWriter::adopt(theirs, SERVERS).expect("it is ours");
                let server = usize::from(input.byte()) % SERVERS;
                let path = PathEntry {
                    port: input.byte() % PORTS as u8,
                    source: [192, 0, 2, 1].into(),
                    destination: SocketAddr::from(([192, 0, 2, 2], 1)),
                    next_hop_mac: [2; 6],
                };
                writer.set(server, Some(path));
                assert_eq!(writer.get(server), Some(path));
                // A reader that had seen the same before is told nothing.
                let mut fresh = PathReader::map(&table, SERVERS, PORTS).expect("long enough");
                let mut seen = None;
                fresh.poll(|of, entry| seen = if of == server { entry } else { seen });
                assert_eq!(seen, Some(path), "an honest successor");
            }
            _ => vandal.write(input),
        }
    }
}

const SLOTS: usize = 4;

/// A ring between workers, or from a worker to whoever captures.
fn ring(input: &mut Input<'_>) {
    let ring = frame_ring::create_fd("fuzz", SLOTS).expect("there is memory");
    let vandal = Vandal::new(&ring);
    let mut producer = Producer::open(ring.as_fd()).expect("it is a ring");
    let mut consumer = Consumer::open(ring.as_fd()).expect("it is a ring");
    let mut owner = handover::Receiver::open(ring.as_fd()).expect("it is a ring");
    let mut writes_down = capture::Receiver::open(ring.as_fd()).expect("it is a ring");
    let mut out = [0; FRAME_BYTES_MAX];
    while !input.is_over() {
        match input.byte() % 12 {
            0 => {
                assert!(producer.room() <= SLOTS);
                producer.push_copy(input.byte(), input.bytes());
                assert!(producer.unpublished() <= SLOTS);
            }
            1 => {
                let _asleep = producer.publish();
            }
            2 => producer.show(SLOTS, &mut |frame| assert!(!frame.is_empty())),
            3 => {
                assert!(consumer.waiting() <= SLOTS);
                let mut popped = 0;
                while let Some(slot) = consumer.pop(&mut out) {
                    let fits = |bytes| (1..=FRAME_BYTES_MAX).contains(&bytes);
                    assert!(!matches!(slot, Popped::Frame { bytes, .. } if !fits(bytes)));
                    popped += 1;
                }
                assert!(popped <= SLOTS);
                consumer.release();
            }
            4 => {
                consumer.prepare_to_wait();
            }
            5 => assert!(owner.receive(SLOTS, |_, frame| assert!(!frame.is_empty())) <= SLOTS),
            6 => {
                let mut records = 0;
                let taken = writes_down.receive(|record| {
                    records += 1;
                    assert!(record.bytes.len() <= capture::COPY_BYTES_MAX);
                    Ok::<(), ()>(())
                });
                assert!(taken.is_ok() && records <= SLOTS);
            }
            7 => {
                if let Ok(successor) = Producer::open(ring.as_fd()) {
                    producer = successor;
                }
            }
            8 => {
                if let Ok(successor) = Consumer::open(ring.as_fd()) {
                    consumer = successor;
                }
            }
            _ => vandal.write(input),
        }
    }
    // Both ends are honest from here on, unless it is no ring any more.
    let ends = (Producer::open(ring.as_fd()), Consumer::open(ring.as_fd()));
    if let (Ok(mut producer), Ok(mut consumer)) = ends {
        consumer.waiting();
        while consumer.pop(&mut out).is_some() {}
        consumer.release();
        assert!(producer.push_copy(7, b"after"), "a ring that stays full");
        let _asleep = producer.publish();
        assert_eq!(consumer.waiting(), 1);
        let popped = consumer.pop(&mut out);
        assert_eq!(popped, Some(Popped::Frame { bytes: 5, tag: 7 }));
        assert_eq!(&out[..5], b"after");
    }
}

/// Plays the script that `input` is.
///
/// # Panics
/// When a promise is broken.
pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    match input.byte() % 3 {
        0 => statistics(&mut input),
        1 => paths(&mut input),
        _ => ring(&mut input),
    }
}
