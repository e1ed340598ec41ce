//! Words between manager and workers: a reader never sees a mixture, and misses nothing.

use loom::thread;
use std::net::{Ipv4Addr, SocketAddr};
use tidegate_model::every_way;
use tidegate_model::mistake::Mistake;
use tidegate_model::paths::{PathEntry, PathReader, PathWriter};
use tidegate_model::seqlock;
use tidegate_model::shm::WritableWords;

/// Where the block of a model starts: anywhere but at the first word, which is the path table's generation.
const START: usize = 1;

/// The worker publishes twice while the manager reads.
fn counters_are_published() {
    let (writer, reader) = WritableWords::pair(START + 3);
    let worker = thread::spawn(move || {
        for round in 1..=2 {
            seqlock::write(&writer, START, &[round, round * 10]);
        }
    });
    let mut values = [0; 2];
    if let Some(sequence) = seqlock::read(&reader, START, &mut values) {
        let round = sequence / 2;
        assert_eq!(values, [round, round * 10], "a mixture");
    }
    worker.join().unwrap();
    assert_eq!(seqlock::read(&reader, START, &mut values), Some(4));
    assert_eq!(values, [2, 20]);
}

fn path(last: u8) -> PathEntry {
    let address = Ipv4Addr::new(10, 0, 0, last);
    PathEntry {
        port: 0,
        source: Ipv4Addr::new(10, 0, 1, last).into(),
        destination: SocketAddr::from((address, u16::from(last))),
        next_hop_mac: [last; 6],
    }
}

/// The manager finds a server while a worker looks at the table.
fn a_path_is_published() {
    let mut writer = PathWriter::create(1).unwrap();
    let mut reader = PathReader::map(writer.file(), 1, 1).unwrap();
    let manager = thread::spawn(move || assert!(writer.set(0, Some(path(1)))));
    let mut seen = None;
    let mut look = |reader: &mut PathReader| {
        reader.poll(|_, entry| {
            assert_eq!(entry, Some(path(1)), "a mixture");
            seen = entry;
        });
    };
    look(&mut reader);
    manager.join().unwrap();
    if reader.changed() {
        look(&mut reader);
    }
    assert_eq!(seen, Some(path(1)), "a change that was missed");
    assert!(!reader.changed());
}

/// The link address of a port changes while a worker looks at the table.
fn a_station_is_published() {
    let mut writer = PathWriter::create(0).unwrap();
    let mut reader = PathReader::map(writer.file(), 0, 1).unwrap();
    let mac = [0xfe, 1, 2, 3, 4, 5];
    let manager = thread::spawn(move || assert!(writer.set_station(0, mac)));
    let mut seen = None;
    let mut look = |reader: &mut PathReader| {
        reader.poll(|_, _| {});
        reader.poll_stations(|port, station| seen = Some((port, station)));
    };
    look(&mut reader);
    manager.join().unwrap();
    if reader.changed() {
        look(&mut reader);
    }
    assert_eq!(seen, Some((0, mac)), "a change that was missed");
    assert!(!reader.changed());
}

#[test]
fn a_reader_never_sees_a_mixture() {
    every_way(counters_are_published);
}

#[test]
fn no_change_of_a_path_is_missed() {
    every_way(a_path_is_published);
}

#[test]
fn no_change_of_a_link_address_is_missed() {
    every_way(a_station_is_published);
}

/// A test per mistake: the model must not be blind to it.
macro_rules! noticed {
    ($($name:ident: $mistake:ident in $program:ident, $says:literal;)*) => {
        $(
            #[test]
            #[should_panic(expected = $says)]
            fn $name() {
                Mistake::$mistake.make();
                every_way($program);
            }
        )*
    };
}

noticed! {
    values_without_a_release_are_noticed: SequenceStore in counters_are_published, "a mixture";
    values_without_an_acquire_are_noticed: SequenceLoad in counters_are_published, "a mixture";
    values_in_front_of_the_odd_number_are_noticed: NoWritersFence in counters_are_published, "a mixture";
    values_behind_the_last_look_are_noticed: NoReadersFence in counters_are_published, "a mixture";
}
