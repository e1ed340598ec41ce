//! Not in `handover.rs`: a model checker compiles that file elsewhere.

use std::os::fd::AsFd;

use crate::doorbell::Doorbell;
use crate::handover::*;

#[test]
fn frames_reach_the_owner_with_their_port() {
    let fd = create(4).unwrap();
    let mut sender = Sender::open(fd.as_fd(), None).unwrap();
    let mut receiver = Receiver::open(fd.as_fd()).unwrap();
    assert!(sender.send(1, b"first") && sender.send(0, b"second"));
    assert_eq!(receiver.waiting(), 0);
    sender.publish();
    let mut seen = Vec::new();
    assert_eq!(
        receiver.receive(64, |port, frame| seen.push((port, frame.to_vec()))),
        2
    );
    assert_eq!(seen, [(1, b"first".to_vec()), (0, b"second".to_vec())]);
    assert_eq!(receiver.faults(), 0);
}

#[test]
fn a_full_ring_refuses_and_recovers() {
    let (mut sender, mut receiver) = in_process(2).unwrap();
    assert!(sender.send(0, &[1]) && sender.send(0, &[2]));
    assert!(!sender.send(0, &[3]));
    sender.publish();
    assert_eq!(receiver.receive(1, |_, frame| assert_eq!(frame, [1])), 1);
    assert!(sender.send(0, &[3]));
}

#[test]
fn one_bell_serves_several_senders() {
    let bell = Doorbell::new().unwrap();
    let fds = [create(4).unwrap(), create(4).unwrap()];
    let mut senders = fds
        .each_ref()
        .map(|fd| Sender::open(fd.as_fd(), bell.try_clone().ok()).unwrap());
    let mut receivers = fds.each_ref().map(|fd| Receiver::open(fd.as_fd()).unwrap());
    bell.silence();
    assert!(receivers.iter_mut().all(Receiver::prepare_to_wait));
    assert!(!crate::test_support::readable(bell.as_fd()));
    assert!(senders[1].send(0, &[9]));
    senders[1].publish();
    assert!(crate::test_support::readable(bell.as_fd()));
    bell.silence();
    assert!(!receivers.iter_mut().all(Receiver::prepare_to_wait));
}
