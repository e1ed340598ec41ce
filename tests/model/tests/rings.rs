//! Rings between processes: every frame arrives once, whole and in order, and nobody sleeps while one waits.

use loom::thread;
use std::os::fd::AsFd;
use tidegate_model::doorbell::Doorbell;
use tidegate_model::every_way;
use tidegate_model::frame_ring::{self, FRAME_BYTES_MAX, Popped};
use tidegate_model::handover::{self, Receiver, Sender};
use tidegate_model::mistake::Mistake;

/// One more than the ring has slots, so that one is used twice.
const FRAMES: u8 = 3;
const SLOTS: usize = 2;

fn frame(number: u8) -> [u8; FRAME_BYTES_MAX] {
    [number, !number]
}

/// A producer that waits for room, and a consumer that takes one frame at a time.
fn frames_cross_a_ring() {
    let (mut producer, mut consumer) = frame_ring::in_process(SLOTS).unwrap();
    let writer = thread::spawn(move || {
        for number in 0..FRAMES {
            while producer.room() == 0 {
                thread::yield_now();
            }
            assert!(producer.push_copy(number, &frame(number)));
            assert!(!producer.publish(), "nobody sleeps");
        }
        assert_eq!(producer.index_faults(), 0);
    });
    let mut expected = 0;
    while expected < FRAMES {
        if consumer.waiting() == 0 {
            thread::yield_now();
        }
        let mut out = [0; FRAME_BYTES_MAX];
        while let Some(popped) = consumer.pop(&mut out) {
            let Popped::Frame { bytes, tag } = popped else {
                panic!("a slot that nobody filled");
            };
            assert_eq!((&out[..bytes], tag), (&frame(expected)[..], expected));
            consumer.release();
            expected += 1;
        }
    }
    assert_eq!((consumer.index_faults(), consumer.length_faults()), (0, 0));
    writer.join().unwrap();
}

/// Two workers: one hands frames over, the owner sleeps whenever there are none. Loom says when both sleep for ever.
fn an_owner_is_woken() {
    const HANDED: u8 = 2;
    let ring = handover::create(SLOTS).unwrap();
    let bell = Doorbell::default();
    let mut sender = Sender::open(ring.as_fd(), Some(bell.clone())).unwrap();
    let mut receiver = Receiver::open(ring.as_fd()).unwrap();
    let other = thread::spawn(move || {
        for number in 0..HANDED {
            assert!(sender.send(number, &frame(number)));
            sender.publish();
        }
    });
    let mut expected = 0;
    loop {
        receiver.receive(SLOTS, |port, bytes| {
            assert_eq!((bytes, port), (&frame(expected)[..], expected));
            expected += 1;
        });
        if expected == HANDED {
            break;
        }
        bell.silence();
        if receiver.prepare_to_wait() {
            bell.wait();
        }
    }
    assert_eq!(receiver.faults(), 0);
    other.join().unwrap();
}

#[test]
fn every_frame_arrives_once_whole_and_in_order() {
    every_way(frames_cross_a_ring);
}

#[test]
fn nobody_sleeps_while_a_frame_waits() {
    every_way(an_owner_is_woken);
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
    frames_shown_without_a_release_are_noticed: HeadStore in frames_cross_a_ring, "Causality violation";
    frames_seen_without_an_acquire_are_noticed: HeadLoad in frames_cross_a_ring, "Causality violation";
    slots_given_back_without_a_release_are_noticed: TailStore in frames_cross_a_ring, "Causality violation";
    slots_taken_back_without_an_acquire_are_noticed: TailLoad in frames_cross_a_ring, "Causality violation";
    a_missing_fence_is_noticed: NoFence in an_owner_is_woken, "deadlock";
    a_fence_that_lets_a_load_pass_is_noticed: WeakFence in an_owner_is_woken, "deadlock";
    a_sleeper_that_says_so_too_late_is_noticed: SleepsLate in an_owner_is_woken, "deadlock";
}
