use super::*;

const CONFIG: WireConfig = WireConfig {
    mac: [2, 0, 0, 0, 0, 1],
    mtu_bytes: 1_500,
};

fn send(port: &mut WirePort, frame: &[u8]) {
    let (_, tx) = port.halves();
    assert!(tx.room() > 0);
    tx.push(frame.len(), |slot| slot.copy_from_slice(frame));
}

fn receive(port: &mut WirePort) -> Vec<Vec<u8>> {
    let (rx, _) = port.halves();
    let frames = (0..rx.burst(BURST_MAX))
        .map(|index| rx.frame(index).to_vec())
        .collect();
    rx.release();
    frames
}

#[test]
fn frames_cross_in_both_directions_and_counters_add_up() {
    let (mut a, mut b) = pair_in_process(8, CONFIG, CONFIG).unwrap();
    send(&mut a, b"to b");
    send(&mut a, b"also to b");
    send(&mut b, b"to a");
    assert!(receive(&mut b).is_empty(), "not flushed");
    assert_eq!(
        a.halves().1.flush(),
        Flushed {
            pending: 0,
            kicks: 0
        }
    );
    b.halves().1.flush();
    assert_eq!(receive(&mut b), [b"to b".to_vec(), b"also to b".to_vec()]);
    assert_eq!(receive(&mut a), [b"to a".to_vec()]);
    let (a, b) = (a.counters(), b.counters());
    assert_eq!((a.tx_frames, a.tx_bytes), (2, 13));
    assert_eq!((b.rx_frames, b.rx_bytes), (a.tx_frames, a.tx_bytes));
    assert_eq!((a.rx_frames, a.rx_bytes), (b.tx_frames, b.tx_bytes));
}

#[test]
fn a_frame_is_read_while_its_answer_is_written() {
    let (mut a, mut b) = pair_in_process(8, CONFIG, CONFIG).unwrap();
    send(&mut a, b"ping");
    a.halves().1.flush();
    let (rx, tx) = b.halves();
    assert_eq!(rx.burst(64), 1);
    let frame = rx.frame(0);
    tx.push(frame.len(), |slot| slot.copy_from_slice(frame));
    tx.flush();
    rx.release();
    assert_eq!(receive(&mut a), [b"ping".to_vec()]);
}

#[test]
fn a_burst_is_bounded_and_the_rest_waits() {
    let (mut a, mut b) = pair_in_process(256, CONFIG, CONFIG).unwrap();
    for value in 0..200u8 {
        send(&mut a, &[value]);
    }
    a.halves().1.flush();
    let (rx, _) = b.halves();
    assert_eq!(rx.burst(10), 10);
    rx.release();
    assert_eq!(rx.burst(1_000), BURST_MAX);
    assert_eq!(rx.frame(0), [10]);
    rx.release();
    assert_eq!(rx.waiting(), 200 - 10 - BURST_MAX);
}

#[test]
fn a_full_wire_has_no_room_and_loses_nothing() {
    let (mut a, mut b) = pair_in_process(4, CONFIG, CONFIG).unwrap();
    for value in 0..4 {
        send(&mut a, &[value]);
    }
    a.halves().1.flush();
    assert_eq!(a.halves().1.room(), 0);
    assert_eq!(receive(&mut b).len(), 4);
    assert_eq!(a.halves().1.room(), 4);
}

#[test]
fn the_mtu_has_to_fit_a_slot() {
    let too_large = WireConfig {
        mtu_bytes: MTU_BYTES_MAX + 1,
        ..CONFIG
    };
    assert!(matches!(
        pair_in_process(4, CONFIG, too_large),
        Err(WireError::Mtu(_))
    ));
}

#[test]
fn a_wire_without_bells_is_never_slept_on() {
    let (mut a, _b) = pair_in_process(4, CONFIG, CONFIG).unwrap();
    assert!(a.wait_fd().is_none());
    assert!(!a.prepare_to_wait());
}

#[test]
fn the_bell_rings_only_for_an_end_that_sleeps() {
    let (a, b) = create_shared(8, true).unwrap();
    let (mut a, mut b) = (open(a, CONFIG).unwrap(), open(b, CONFIG).unwrap());
    send(&mut a, &[1]);
    assert_eq!(a.halves().1.flush().kicks, 0, "the other end polls");
    assert!(!b.prepare_to_wait(), "a frame waits");
    assert_eq!(receive(&mut b).len(), 1);

    assert!(b.prepare_to_wait());
    let bell = b.own_bell.as_ref().unwrap().try_clone().unwrap();
    assert!(!crate::test_support::readable(bell.as_fd()));
    send(&mut a, &[2]);
    assert_eq!(a.halves().1.flush().kicks, 1);
    assert!(crate::test_support::readable(bell.as_fd()));
    assert_eq!(receive(&mut b), [[2]]);
    assert!(b.prepare_to_wait());
    assert!(!crate::test_support::readable(bell.as_fd()), "silenced");
}

#[test]
fn two_processes_exchange_frames_and_wake_each_other() {
    let _exclusive = crate::test_support::exclusive();
    let (parent_fds, child_fds) = create_shared(16, true).unwrap();
    let echo = crate::test_support::fork(move || {
        let mut port = open(child_fds, CONFIG).unwrap();
        let mut echoed = 0;
        while echoed < 1_000 {
            if port.prepare_to_wait() {
                crate::test_support::wait_readable(port.own_bell.as_ref().unwrap().as_fd());
            }
            let (rx, tx) = port.halves();
            let burst = rx.burst(64.min(tx.room()));
            for index in 0..burst {
                let frame = rx.frame(index);
                tx.push(frame.len(), |slot| slot.copy_from_slice(frame));
            }
            rx.release();
            tx.flush();
            echoed += burst;
        }
    });
    let mut port = open(parent_fds, CONFIG).unwrap();
    let (mut sent, mut received) = (0u32, 0u32);
    while received < 1_000 {
        while sent < 1_000 && port.halves().1.room() > 0 {
            send(&mut port, &sent.to_le_bytes());
            sent += 1;
        }
        port.halves().1.flush();
        for frame in receive(&mut port) {
            assert_eq!(frame, received.to_le_bytes());
            received += 1;
        }
        // Only an answer wakes us: nobody rings because there is room to send again.
        if received < sent && port.prepare_to_wait() {
            crate::test_support::wait_readable(port.own_bell.as_ref().unwrap().as_fd());
        }
    }
    assert!(echo.wait(), "the other process failed");
    assert_eq!(port.counters().rx_frames, 1_000);
    assert_eq!(port.counters().tx_frames, 1_000);
}
