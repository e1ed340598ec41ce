use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use super::memory::SharedRing;
use super::*;

fn pop(consumer: &mut Consumer) -> Option<(Vec<u8>, u8)> {
    let mut out = [0u8; FRAME_BYTES_MAX];
    match consumer.pop(&mut out)? {
        Popped::Frame { bytes, tag } => Some((out[..bytes].to_vec(), tag)),
        Popped::Malformed => panic!("malformed slot"),
    }
}

#[test]
fn frames_arrive_in_order_with_their_tags_only_after_publication() {
    let (mut producer, mut consumer) = in_process(8).unwrap();
    producer.push(3, 5, |frame| frame.copy_from_slice(b"hello"));
    assert!(producer.push_copy(4, &[7; FRAME_BYTES_MAX]));
    assert_eq!(consumer.waiting(), 0);
    assert_eq!(producer.unpublished(), 2);
    assert!(!producer.publish(), "nobody sleeps");
    assert_eq!(consumer.waiting(), 2);
    assert_eq!(pop(&mut consumer), Some((b"hello".to_vec(), 3)));
    assert_eq!(pop(&mut consumer), Some((vec![7; FRAME_BYTES_MAX], 4)));
    assert_eq!(pop(&mut consumer), None);
}

#[test]
fn a_full_ring_refuses_until_slots_are_released() {
    let (mut producer, mut consumer) = in_process(4).unwrap();
    for value in 0..4 {
        assert!(producer.push_copy(0, &[value]));
    }
    assert_eq!(producer.room(), 0);
    assert!(!producer.push_copy(0, &[9]));
    let _ = producer.publish();
    assert_eq!(consumer.waiting(), 4);
    assert_eq!(pop(&mut consumer), Some((vec![0], 0)));
    assert_eq!(producer.room(), 0, "popped but not released");
    consumer.release();
    assert_eq!(producer.room(), 1);
}

#[test]
fn indexes_wrap_around_many_times_without_loss() {
    let (mut producer, mut consumer) = in_process(4).unwrap();
    let frames = if cfg!(miri) { 50 } else { 10_000u32 };
    for value in 0..frames {
        producer.push(0, 4, |frame| frame.copy_from_slice(&value.to_le_bytes()));
        let _ = producer.publish();
        assert_eq!(consumer.waiting(), 1);
        assert_eq!(pop(&mut consumer), Some((value.to_le_bytes().to_vec(), 0)));
        consumer.release();
    }
}

#[test]
fn frames_that_no_slot_holds_are_refused() {
    let (mut producer, _consumer) = in_process(4).unwrap();
    assert!(!producer.push_copy(0, &[0; FRAME_BYTES_MAX + 1]));
    assert!(!producer.push_copy(0, &[]));
    assert_eq!(producer.unpublished(), 0);
}

#[test]
#[should_panic(expected = "push into a full frame ring")]
fn pushing_without_room_is_our_own_mistake() {
    let (mut producer, _consumer) = in_process(2).unwrap();
    for _ in 0..3 {
        producer.push(0, 1, |frame| frame[0] = 1);
    }
}

#[test]
fn a_sleeping_consumer_is_announced_exactly_once() {
    let (mut producer, mut consumer) = in_process(8).unwrap();
    assert!(consumer.prepare_to_wait());
    assert!(!producer.publish(), "nothing to publish");
    assert!(producer.push_copy(0, &[1]));
    assert!(producer.publish());
    assert!(producer.push_copy(0, &[2]));
    assert!(!producer.publish());
    assert!(!consumer.prepare_to_wait(), "two frames wait");
    assert!(producer.push_copy(0, &[3]));
    assert!(!producer.publish(), "the consumer did not go to sleep");
}

#[test]
fn impossible_lengths_are_dropped_and_counted() {
    let ring = SharedRing::anonymous(4).unwrap();
    let mut consumer = Consumer::new(ring.clone());
    for _ in 0..3 {
        ring.write_slot(
            ring.header().head.0.fetch_add(1, Ordering::Release),
            0,
            &[1, 2, 3],
        );
    }
    ring.set_slot_length(0, u16::MAX);
    ring.set_slot_length(1, 0);
    assert_eq!(consumer.waiting(), 3);
    let mut out = [0u8; FRAME_BYTES_MAX];
    assert_eq!(consumer.pop(&mut out), Some(Popped::Malformed));
    assert_eq!(consumer.pop(&mut out), Some(Popped::Malformed));
    assert_eq!(
        consumer.pop(&mut out),
        Some(Popped::Frame { bytes: 3, tag: 0 })
    );
    assert_eq!(consumer.length_faults(), 2);
}

#[test]
fn a_frame_longer_than_the_readers_buffer_is_dropped() {
    let (mut producer, mut consumer) = in_process(4).unwrap();
    assert!(producer.push_copy(0, &[1; 100]));
    let _ = producer.publish();
    assert_eq!(consumer.waiting(), 1);
    assert_eq!(consumer.pop(&mut [0; 99]), Some(Popped::Malformed));
}

#[test]
fn a_lying_producer_index_never_reaches_outside_and_recovers() {
    let ring = SharedRing::anonymous(4).unwrap();
    let mut consumer = Consumer::new(ring.clone());
    for lie in [5u32, 0x8000_0000, u32::MAX, 77] {
        let before = consumer.index_faults();
        ring.header().head.0.store(lie, Ordering::Release);
        assert_eq!(consumer.waiting(), 0);
        assert_eq!(consumer.index_faults(), before + 1);
    }
    let mut producer = Producer::new(ring);
    assert!(producer.push_copy(1, &[42]));
    let _ = producer.publish();
    assert_eq!(consumer.waiting(), 1);
    assert_eq!(pop(&mut consumer), Some((vec![42], 1)));
}

#[test]
fn a_lying_consumer_index_never_frees_unread_slots() {
    let ring = SharedRing::anonymous(4).unwrap();
    let mut producer = Producer::new(ring.clone());
    for _ in 0..4 {
        assert!(producer.push_copy(0, &[1]));
    }
    let _ = producer.publish();
    for lie in [5u32, 0x8000_0000, u32::MAX] {
        ring.header().tail.0.store(lie, Ordering::Release);
        assert_eq!(producer.room(), 0);
    }
    assert_eq!(producer.index_faults(), 3);
    ring.header().tail.0.store(2, Ordering::Release);
    assert_eq!(producer.room(), 2);
    ring.header().tail.0.store(1, Ordering::Release);
    assert!(producer.push_copy(0, &[1]) && producer.push_copy(0, &[1]));
    assert_eq!(
        producer.room(),
        0,
        "an index that goes back is not believed either"
    );
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no memory files")]
fn a_successor_goes_on_where_its_predecessor_stopped() {
    let fd = create_fd("tidegate-test", 8).unwrap();
    let mut producer = Producer::open(fd.as_fd()).unwrap();
    assert!(producer.push_copy(0, &[1]) && producer.push_copy(0, &[2]));
    let _ = producer.publish();
    assert!(producer.push_copy(0, &[3]), "never published");
    drop(producer);
    let mut consumer = Consumer::open(fd.as_fd()).unwrap();
    assert_eq!(consumer.waiting(), 2);
    assert_eq!(pop(&mut consumer), Some((vec![1], 0)));
    consumer.release();
    drop(consumer);

    let mut producer = Producer::open(fd.as_fd()).unwrap();
    let mut consumer = Consumer::open(fd.as_fd()).unwrap();
    assert_eq!(producer.room(), 7);
    assert!(producer.push_copy(0, &[4]));
    let _ = producer.publish();
    assert_eq!(consumer.waiting(), 2);
    assert_eq!(pop(&mut consumer), Some((vec![2], 0)));
    assert_eq!(pop(&mut consumer), Some((vec![4], 0)));
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no memory files")]
fn descriptors_that_are_no_rings_are_refused() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(
        Producer::open(file.as_fd()),
        Err(RingError::Foreign(_))
    ));
    assert!(matches!(
        Consumer::open(file.as_fd()),
        Err(RingError::Foreign(_))
    ));
    for slots in [0, 1, 3, SLOTS_MAX * 2] {
        assert!(matches!(in_process(slots), Err(RingError::Slots(_))));
        assert!(matches!(
            create_fd("tidegate-test", slots),
            Err(RingError::Slots(_))
        ));
    }
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no memory files")]
fn a_ring_cannot_be_truncated_under_its_users() {
    let fd = create_fd("tidegate-test", 2).unwrap();
    let file = std::fs::File::from(fd);
    assert!(file.set_len(0).is_err());
    assert!(file.set_len(1 << 20).is_err());
}

#[test]
fn two_threads_exchange_every_frame_intact() {
    let (mut producer, mut consumer) = in_process(16).unwrap();
    let frames = if cfg!(miri) { 100 } else { 50_000u32 };
    let writer = std::thread::spawn(move || {
        let mut next = 0;
        while next < frames {
            if producer.room() == 0 {
                std::thread::yield_now();
                continue;
            }
            let bytes = 4 + next as usize % 200;
            producer.push(next as u8, bytes, |frame| {
                frame.fill(next as u8);
                frame[..4].copy_from_slice(&next.to_le_bytes());
            });
            next += 1;
            let _ = producer.publish();
        }
    });
    let mut expected = 0;
    while expected < frames {
        if consumer.waiting() == 0 {
            std::thread::yield_now();
        }
        while let Some((frame, tag)) = pop(&mut consumer) {
            assert_eq!(frame.len(), 4 + expected as usize % 200);
            assert_eq!(frame[..4], expected.to_le_bytes());
            assert!(frame[4..].iter().all(|byte| *byte == expected as u8));
            assert_eq!(tag, expected as u8);
            expected += 1;
        }
        consumer.release();
    }
    writer.join().unwrap();
}

/// Marsaglia's xorshift, enough to disturb a ring.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn whatever_the_other_side_writes_nothing_panics_and_bounds_hold() {
    let (seeds, steps) = if cfg!(miri) { (1, 300) } else { (20, 5_000) };
    for seed in 1..=seeds {
        println!("seed {seed}");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        let ring = SharedRing::anonymous(8).unwrap();
        let (mut producer, mut consumer) =
            (Producer::new(ring.clone()), Consumer::new(ring.clone()));
        let mut out = [0u8; FRAME_BYTES_MAX];
        for _ in 0..steps {
            let value = random(&mut state);
            let near = |index: u32| {
                index
                    .wrapping_add((value >> 8) as u32 % 24)
                    .wrapping_sub(12)
            };
            match value % 8 {
                0 => ring
                    .header()
                    .head
                    .0
                    .store((value >> 16) as u32, Ordering::Release),
                1 => ring
                    .header()
                    .tail
                    .0
                    .store((value >> 16) as u32, Ordering::Release),
                2 => ring.header().head.0.store(
                    near(ring.header().head.0.load(Ordering::Acquire)),
                    Ordering::Release,
                ),
                3 => ring.header().tail.0.store(
                    near(ring.header().tail.0.load(Ordering::Acquire)),
                    Ordering::Release,
                ),
                4 => ring.set_slot_length((value >> 16) as u32, (value >> 48) as u16),
                5 => {
                    let room = producer.room();
                    assert!(room <= 8);
                    for _ in 0..room {
                        producer.push(1, 60, |frame| frame.fill(7));
                    }
                    let _ = producer.publish();
                }
                6 => {
                    assert!(consumer.waiting() <= 8);
                    while let Some(popped) = consumer.pop(&mut out) {
                        assert!(matches!(
                            popped,
                            Popped::Malformed
                                | Popped::Frame {
                                    bytes: 1..=FRAME_BYTES_MAX,
                                    ..
                                }
                        ));
                    }
                    consumer.release();
                }
                _ => {
                    consumer.prepare_to_wait();
                }
            }
        }
        assert!(producer.index_faults() + consumer.index_faults() > 0);
    }
}
