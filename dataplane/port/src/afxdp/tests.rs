//! AF_XDP on a veth with two queues. Both ends use it, so each frame goes to exactly the queue it was sent for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::*;
use crate::doorbell::Doorbell;
use crate::test_lab::{Host, Lab};
use crate::test_support::{fork, wait_readable};
use crate::xdp::fixtures::{CLIENT4, answer4, tcp4};
use crate::xdp::{AttachMode, AttachPolicy, Verdict, XdpError, XdpSteering};
use crate::{Flushed, RxQueue, TxQueue};

const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 11_211);

/// Long enough for a loaded machine; only a broken test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(host: &Host, interface: &str, queue: u32) -> AfXdpConfig {
    let nic = host.nic(interface);
    AfXdpConfig {
        ifindex: nic.ifindex,
        queue,
        ring_size: 1_024,
        mtu_bytes: nic.mtu_bytes,
        mac: nic.mac,
        generic: false,
        require_zero_copy: false,
        in_flight_max: DEFAULT_IN_FLIGHT_MAX,
        bind_deadline: DEFAULT_BIND_DEADLINE,
    }
}

fn open(host: &Host, config: &AfXdpConfig) -> Result<AfXdpPort, AfXdpError> {
    host.run(|| AfXdpPort::open(config))
}

/// A host with the steering program and a socket on each of its two queues.
struct End {
    steering: XdpSteering,
    ports: [AfXdpPort; 2],
}

fn end(host: &Host, interface: &str, listener: SocketAddrV4, policy: AttachPolicy) -> End {
    let nic = host.nic(interface);
    let (steering, mode) = host
        .run(|| XdpSteering::attach(nic.ifindex, nic.rx_queues, policy))
        .unwrap();
    assert_eq!(
        mode == AttachMode::Generic,
        policy == AttachPolicy::GenericOnly
    );
    steering.add_listener(SocketAddr::V4(listener)).unwrap();
    let ports = [0, 1].map(|queue| {
        let generic = mode == AttachMode::Generic;
        let port = open(
            host,
            &AfXdpConfig {
                generic,
                ..config(host, interface, queue)
            },
        )
        .unwrap();
        steering.insert_socket(queue, port.as_fd()).unwrap();
        port
    });
    End { steering, ports }
}

fn send(port: &mut AfXdpPort, frame: &[u8]) {
    let (_, tx) = port.halves();
    assert!(tx.room() > 0);
    tx.push(frame.len(), |slot| slot.copy_from_slice(frame));
}

/// Waits until `count` frames have arrived, and gives each to `check`.
fn receive(port: &mut AfXdpPort, count: usize, mut check: impl FnMut(&[u8])) {
    let (started, mut received) = (Instant::now(), 0);
    while received < count {
        assert!(
            started.elapsed() < PATIENCE,
            "{received} of {count} frames arrived"
        );
        let (rx, _) = port.halves();
        let burst = rx.burst(BURST_MAX);
        (0..burst).for_each(|index| check(rx.frame(index)));
        rx.release();
        received += burst;
        if burst == 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(received, count);
}

fn flush(port: &mut AfXdpPort) {
    let started = Instant::now();
    while port.halves().1.flush().pending > 0 {
        assert!(started.elapsed() < PATIENCE, "frames stay in the TX ring");
        std::thread::yield_now();
    }
}

/// Sends so many frames to each queue, answers them, and adds everything up.
fn exchange(policy: AttachPolicy, expected_mode: PortMode, sent: [u64; 2]) {
    let Some(lab) = Lab::new() else { return };
    let mut appliance = end(&lab.appliance, "tg0", VIP, policy);
    let mut peer = end(&lab.peer, "tg1", CLIENT4, policy);
    let frame = tcp4(VIP);
    for (port, frames) in peer.ports.iter_mut().zip(sent) {
        assert_eq!(port.info().mode, expected_mode);
        (0..frames).for_each(|_| send(port, &frame));
        flush(port);
    }
    let mut answer = vec![0; frame.len()];
    answer4(&frame, &mut answer);
    for (port, frames) in appliance.ports.iter_mut().zip(sent) {
        let mut left = frames as usize;
        while left > 0 {
            wait_readable(port.as_fd());
            let (rx, tx) = port.halves();
            let burst = rx.burst(64.min(tx.room()));
            for index in 0..burst {
                let received = rx.frame(index);
                assert_eq!(received, frame);
                tx.push(received.len(), |slot| answer4(received, slot));
            }
            rx.release();
            left -= burst;
        }
        flush(port);
    }
    for (index, frames) in sent.into_iter().enumerate() {
        receive(&mut peer.ports[index], frames as usize, |received| {
            assert_eq!(received, answer);
        });
        for counters in [
            peer.ports[index].counters(),
            appliance.ports[index].counters(),
        ] {
            let expected = PortCounters {
                rx_frames: frames,
                rx_bytes: frames * frame.len() as u64,
                tx_frames: frames,
                tx_bytes: frames * frame.len() as u64,
                tx_kicks: counters.tx_kicks,
                tx_kick_retries: counters.tx_kick_retries,
                ..PortCounters::default()
            };
            assert_eq!(counters, expected);
            assert_eq!(counters.tx_kicks > 0, frames > 0);
        }
    }
    for end in [&appliance, &peer] {
        assert_eq!(
            end.steering.verdicts().unwrap().get(Verdict::Redirected),
            sent.iter().sum::<u64>()
        );
    }
}

#[test]
fn frames_arrive_on_their_queue_and_are_answered_native() {
    exchange(AttachPolicy::NativeThenGeneric, PortMode::Copy, [150, 70]);
}

#[test]
fn frames_arrive_on_their_queue_and_are_answered_generic() {
    // Behind generic XDP, veth does not record which queue a frame came through: everything is queue 0.
    exchange(AttachPolicy::GenericOnly, PortMode::Generic, [150, 0]);
}

#[test]
fn bursts_far_beyond_the_links_ring_lose_nothing() {
    const ROUNDS: usize = 5;
    let Some(lab) = Lab::new() else { return };
    let mut appliance = end(&lab.appliance, "tg0", VIP, AttachPolicy::NativeOnly);
    let mut peer = end(&lab.peer, "tg1", CLIENT4, AttachPolicy::NativeOnly);
    let frame = tcp4(VIP);
    for _ in 0..ROUNDS {
        // Everything that the sender's chunks and the receiver's ring hold.
        for _ in 0..1_024 {
            send(&mut peer.ports[0], &frame);
        }
        assert_eq!(peer.ports[0].halves().1.room(), 0);
        flush(&mut peer.ports[0]);
        receive(&mut appliance.ports[0], 1_024, |received| {
            assert_eq!(received.len(), frame.len());
        });
    }
    let sent = peer.ports[0].counters();
    assert_eq!(
        (sent.tx_frames, sent.tx_dropped),
        (1_024 * ROUNDS as u64, 0)
    );
    let received = appliance.ports[0].counters();
    assert_eq!(
        (
            received.rx_frames,
            received.rx_ring_full,
            received.rx_dropped
        ),
        (1_024 * ROUNDS as u64, 0, 0)
    );
}

#[test]
fn frames_beyond_the_rx_ring_are_counted_not_lost_in_silence() {
    let Some(lab) = Lab::new() else { return };
    let small = AfXdpConfig {
        ring_size: RING_SIZE_MIN,
        ..config(&lab.appliance, "tg0", 0)
    };
    let mut appliance = open(&lab.appliance, &small).unwrap();
    let (steering, _) = lab
        .appliance
        .run(|| XdpSteering::attach(small.ifindex, 2, AttachPolicy::NativeOnly))
        .unwrap();
    steering.add_listener(SocketAddr::V4(VIP)).unwrap();
    steering.insert_socket(0, appliance.as_fd()).unwrap();
    let mut peer = open(&lab.peer, &config(&lab.peer, "tg1", 0)).unwrap();
    for _ in 0..300 {
        send(&mut peer, &tcp4(VIP));
    }
    flush(&mut peer);
    // The frames are with the receiver's softirq; the program's counter tells when it has seen them all.
    let started = Instant::now();
    while steering.verdicts().unwrap().total() < 300 {
        assert!(
            started.elapsed() < PATIENCE,
            "the program has seen {:?}",
            steering.verdicts()
        );
        std::thread::yield_now();
    }
    receive(&mut appliance, RING_SIZE_MIN as usize, |_| ());
    let counters = appliance.counters();
    assert_eq!(counters.rx_frames, u64::from(RING_SIZE_MIN));
    let lost = counters.rx_ring_full + counters.rx_dropped + counters.rx_fill_ring_empty;
    assert!(lost >= 300 - u64::from(RING_SIZE_MIN), "{counters:?}");
}

#[test]
fn what_is_not_ours_reaches_the_kernel_beside_us() {
    let Some(lab) = Lab::new() else { return };
    let appliance = end(&lab.appliance, "tg0", VIP, AttachPolicy::NativeOnly);
    // ARP, UDP to the very port of our listener, and TCP to another port.
    let udp = lab
        .appliance
        .run(|| UdpSocket::bind(SocketAddr::V4(VIP)))
        .unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = lab.peer.run(|| UdpSocket::bind("10.9.0.2:0")).unwrap();
    client.send_to(b"datagram", SocketAddr::V4(VIP)).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(udp.recv(&mut buffer).unwrap(), 8);

    let listener = lab
        .appliance
        .run(|| TcpListener::bind("10.9.0.1:22"))
        .unwrap();
    let mut ssh = lab.peer.run(|| TcpStream::connect("10.9.0.1:22")).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    ssh.write_all(b"hello").unwrap();
    accepted.read_exact(&mut buffer[..5]).unwrap();
    assert_eq!(&buffer[..5], b"hello");

    let verdicts = appliance.steering.verdicts().unwrap();
    assert_eq!(
        (
            verdicts.get(Verdict::Redirected),
            verdicts.get(Verdict::DroppedNoSocket)
        ),
        (0, 0)
    );
    assert!(verdicts.get(Verdict::PassedNotOurs) > 0 && verdicts.get(Verdict::PassedOther) > 0);
}

#[test]
fn a_queue_has_one_owner() {
    let Some(lab) = Lab::new() else { return };
    let config = AfXdpConfig {
        bind_deadline: Duration::from_millis(20),
        ..config(&lab.appliance, "tg0", 1)
    };
    let owner = open(&lab.appliance, &config).unwrap();
    let error = open(&lab.appliance, &config).unwrap_err();
    assert!(
        matches!(&error, AfXdpError::Busy { queue: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().starts_with("queue 1 of "), "{error}");
    drop(owner);
    open(
        &lab.appliance,
        &AfXdpConfig {
            bind_deadline: PATIENCE,
            ..config
        },
    )
    .unwrap();
}

#[test]
fn a_queue_is_served_again_after_its_owner_was_killed() {
    let Some(lab) = Lab::new() else { return };
    let mut peer = open(&lab.peer, &config(&lab.peer, "tg1", 0)).unwrap();
    let config = config(&lab.appliance, "tg0", 0);
    let (steering, _) = lab
        .appliance
        .run(|| XdpSteering::attach(config.ifindex, 2, AttachPolicy::NativeOnly))
        .unwrap();
    steering.add_listener(SocketAddr::V4(VIP)).unwrap();
    let ready = Doorbell::new().unwrap();
    let holder = lab.appliance.run(|| {
        fork(|| {
            let port = AfXdpPort::open(&config).unwrap();
            steering.insert_socket(0, port.as_fd()).unwrap();
            ready.ring();
            loop {
                std::thread::sleep(PATIENCE);
            }
        })
    });
    wait_readable(ready.as_fd());
    holder.kill();

    let mut successor = open(
        &lab.appliance,
        &AfXdpConfig {
            bind_deadline: PATIENCE,
            ..config
        },
    )
    .unwrap();
    steering.insert_socket(0, successor.as_fd()).unwrap();
    send(&mut peer, &tcp4(VIP));
    flush(&mut peer);
    receive(&mut successor, 1, |frame| assert_eq!(frame, tcp4(VIP)));
}

#[test]
fn impossible_wishes_are_refused_in_words() {
    let Some(lab) = Lab::new() else { return };
    let config = config(&lab.appliance, "tg0", 0);
    let refused = |change: AfXdpConfig| open(&lab.appliance, &change).unwrap_err();

    let error = refused(AfXdpConfig { queue: 7, ..config });
    assert!(
        matches!(error, AfXdpError::NoQueue { queue: 7, .. }),
        "{error}"
    );
    let error = refused(AfXdpConfig {
        require_zero_copy: true,
        ..config
    });
    assert!(matches!(error, AfXdpError::NoZeroCopy { .. }), "{error}");
    let error = refused(AfXdpConfig {
        ifindex: 0x7fff_fff0,
        ..config
    });
    assert!(matches!(error, AfXdpError::NoInterface { .. }), "{error}");
    let error = refused(AfXdpConfig {
        mtu_bytes: MTU_BYTES_MAX + 1,
        ..config
    });
    assert!(matches!(error, AfXdpError::Mtu { .. }), "{error}");
    for ring_size in [0, RING_SIZE_MIN / 2, 1_000, RING_SIZE_MAX * 2] {
        let error = refused(AfXdpConfig {
            ring_size,
            ..config
        });
        assert!(matches!(error, AfXdpError::RingSize(_)), "{error}");
    }
}

#[test]
fn a_second_program_is_refused_and_a_dropped_one_detaches() {
    let Some(lab) = Lab::new() else { return };
    let ifindex = lab.appliance.nic("tg0").ifindex;
    let attach = |policy| {
        lab.appliance
            .run(|| XdpSteering::attach(ifindex, 2, policy))
    };
    let first = attach(AttachPolicy::NativeThenGeneric).unwrap();
    assert_eq!(first.1, AttachMode::Native);
    for policy in [
        AttachPolicy::NativeThenGeneric,
        AttachPolicy::NativeOnly,
        AttachPolicy::GenericOnly,
    ] {
        let error = attach(policy).unwrap_err();
        assert!(matches!(error, XdpError::Occupied { .. }), "{error}");
    }
    drop(first);
    let second = attach(AttachPolicy::GenericOnly).unwrap();
    assert_eq!(second.1, AttachMode::Generic);
}

#[test]
fn an_attached_program_outlives_its_maker_and_is_taken_over_only_as_what_it_is() {
    let Some(lab) = Lab::new() else { return };
    let ifindex = lab.appliance.nic("tg0").ifindex;
    let attach = || {
        lab.appliance
            .run(|| XdpSteering::attach(ifindex, 2, AttachPolicy::NativeOnly))
    };
    let (first, _) = attach().unwrap();
    first.add_listener(VIP.into()).unwrap();
    let copies = |steering: &XdpSteering| {
        let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
        steering.descriptors().map(copy)
    };
    let kept = copies(&first);
    drop(first);
    assert!(matches!(attach(), Err(XdpError::Occupied { .. })));

    let adopt = |ifindex, queues, list| {
        lab.appliance
            .run(|| XdpSteering::adopt(ifindex, queues, list))
    };
    let again = || kept.each_ref().map(|fd| fd.try_clone().unwrap());
    assert!(adopt(ifindex + 1, 2, again()).is_err(), "another interface");
    assert!(adopt(ifindex, 3, again()).is_err(), "other queues");
    let mut swapped = again();
    swapped.swap(3, 4);
    assert!(adopt(ifindex, 2, swapped).is_err(), "maps in another order");
    let mut strange = again();
    let stranger = crate::xdp::SteeringMaps::create(2).unwrap();
    let stranger = crate::xdp::load(&stranger).unwrap();
    strange[1] = std::os::fd::AsFd::as_fd(&stranger)
        .try_clone_to_owned()
        .unwrap();
    assert!(
        adopt(ifindex, 2, strange).is_err(),
        "a program with other maps"
    );

    let next = adopt(ifindex, 2, again()).unwrap();
    drop(kept);
    assert!(
        next.remove_listener(VIP.into()).unwrap(),
        "what was in the maps is there"
    );
    assert!(matches!(attach(), Err(XdpError::Occupied { .. })));
    drop(next);
    attach().unwrap();
}

#[test]
fn a_frame_of_the_largest_mtu_passes_both_ways() {
    let Some(lab) = Lab::new() else { return };
    lab.appliance
        .ip(&format!("link set tg0 mtu {MTU_BYTES_MAX}"));
    lab.peer.ip(&format!("link set tg1 mtu {MTU_BYTES_MAX}"));
    let mut appliance = end(&lab.appliance, "tg0", VIP, AttachPolicy::NativeOnly);
    let mut peer = end(&lab.peer, "tg1", CLIENT4, AttachPolicy::NativeOnly);
    let mut frame = tcp4(VIP);
    frame.resize(MTU_BYTES_MAX + ETHERNET_HEADER_BYTES, 0xa5);
    let mut answer = vec![0; frame.len()];
    answer4(&frame, &mut answer);
    send(&mut peer.ports[1], &frame);
    flush(&mut peer.ports[1]);
    receive(&mut appliance.ports[1], 1, |received| {
        assert_eq!(received, frame);
    });
    send(&mut appliance.ports[1], &answer);
    flush(&mut appliance.ports[1]);
    receive(&mut peer.ports[1], 1, |received| {
        assert_eq!(received, answer);
    });
}

#[test]
fn the_nic_of_the_lab_is_described_as_it_is() {
    let Some(lab) = Lab::new() else { return };
    lab.appliance.ip("link set tg0 mtu 1400");
    lab.appliance.ip("link set tg0 address 02:00:00:00:00:2a");
    let nic = lab.appliance.nic("tg0");
    assert_eq!(
        (nic.name.as_str(), nic.mtu_bytes, nic.mac),
        ("tg0", 1_400, [2, 0, 0, 0, 0, 42])
    );
    assert_eq!((nic.rx_queues, nic.rx_queues_max), (2, 2));
    assert_eq!(nic.driver.as_deref(), Some("veth"));
    assert!(nic.is_up && nic.is_running);
    assert_eq!(nic.numa_node, None);
    lab.peer.ip("link set tg1 down");
    // The kernel updates the operational state from a work queue.
    let started = Instant::now();
    while lab.appliance.nic("tg0").is_running {
        assert!(
            started.elapsed() < PATIENCE,
            "still running without a carrier"
        );
        std::thread::yield_now();
    }
    assert!(lab.appliance.nic("tg0").is_up);
}

#[test]
fn frames_that_the_device_drops_are_counted() {
    let Some(lab) = Lab::new() else { return };
    let mut port = open(&lab.appliance, &config(&lab.appliance, "tg0", 0)).unwrap();
    lab.peer.ip("link set tg1 down");
    (0..10).for_each(|_| send(&mut port, &tcp4(VIP)));
    flush(&mut port);
    let counters = port.counters();
    assert_eq!((counters.tx_frames, counters.tx_dropped), (10, 10));
    assert_eq!(port.halves().1.room(), 1_024, "the chunks came back");
}

#[test]
fn frames_wait_while_our_own_link_is_down() {
    let Some(lab) = Lab::new() else { return };
    let mut peer = end(&lab.peer, "tg1", CLIENT4, AttachPolicy::NativeOnly);
    let mut port = open(&lab.appliance, &config(&lab.appliance, "tg0", 0)).unwrap();
    lab.appliance.ip("link set tg0 down");
    let mut answer = tcp4(VIP);
    answer4(&tcp4(VIP), &mut answer);
    (0..10).for_each(|_| send(&mut port, &answer));
    assert_eq!(
        port.halves().1.flush(),
        Flushed {
            pending: 10,
            kicks: 1
        }
    );
    lab.appliance.ip("link set tg0 up");
    flush(&mut port);
    receive(&mut peer.ports[0], 10, |frame| assert_eq!(frame, answer));
}

#[test]
fn a_burst_needs_one_kick_and_an_idle_flush_none() {
    let Some(lab) = Lab::new() else { return };
    let mut port = open(&lab.appliance, &config(&lab.appliance, "tg0", 0)).unwrap();
    assert_eq!(port.halves().1.flush(), Flushed::default());
    (0..BURST_MAX / 2).for_each(|_| send(&mut port, &tcp4(VIP)));
    assert_eq!(
        port.halves().1.flush(),
        Flushed {
            pending: 0,
            kicks: 1
        }
    );
    assert_eq!(port.counters().tx_kick_retries, 0);
}
