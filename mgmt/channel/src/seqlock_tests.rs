//! Not in `seqlock.rs`: a model checker compiles that file elsewhere.

use crate::seqlock::{read, write};
use crate::shm::{LoadWords, ReadableWords, WritableWords, create};
use std::sync::atomic::{AtomicBool, Ordering};

fn no_mixture_is_seen(writer: &WritableWords, reader: &(impl LoadWords + Sync)) {
    let last = if cfg!(miri) { 300 } else { 199_999 };
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=last {
                write(writer, 3, &[round, round * 3, round * 7, !round]);
            }
            finished.store(true, Ordering::Release);
        });
        let mut reads = 0;
        while !finished.load(Ordering::Acquire) {
            let mut values = [0; 4];
            if read(reader, 3, &mut values).is_some() && values[0] != 0 {
                let round = values[0];
                assert_eq!(values, [round, round * 3, round * 7, !round]);
                reads += 1;
            }
        }
        let mut values = [0; 4];
        assert!(
            read(reader, 3, &mut values).is_some(),
            "after {reads} reads beside the writer"
        );
        assert_eq!(values[0], last);
    });
}

#[test]
fn a_reader_never_sees_a_mixture() {
    let file = create("test", 16).unwrap();
    let writer = WritableWords::map(&file, 16).unwrap();
    let reader = ReadableWords::map(&file, 16).unwrap();
    no_mixture_is_seen(&writer, &reader);
}

/// The same for an interpreter, which has no memory files.
#[test]
fn a_reader_on_another_thread_never_sees_a_mixture() {
    let words = WritableWords::private(16);
    no_mixture_is_seen(&words, &words);
}

#[test]
fn a_writer_that_died_half_way_is_no_news_and_its_successor_goes_on() {
    let words = WritableWords::private(8);
    words.store(0, 7, Ordering::Relaxed);
    let mut values = [0; 2];
    assert_eq!(read(&words, 0, &mut values), None);
    write(&words, 0, &[1, 2]);
    assert_eq!(read(&words, 0, &mut values), Some(8));
    assert_eq!(values, [1, 2]);
}

#[test]
fn the_sequence_wraps() {
    let words = WritableWords::private(8);
    words.store(0, u64::MAX - 1, Ordering::Relaxed);
    write(&words, 0, &[9]);
    let mut values = [0];
    assert_eq!(read(&words, 0, &mut values), Some(0));
    assert_eq!(values, [9]);
}
