//! One queue, on devices in memory.

use std::time::Instant;

use capsule_ffi as ffi;

use super::*;
use crate::{BURST_MAX, RxQueue, TxQueue};

/// Sends until nothing goes any more; returns how many frames were queued.
fn fill(tx: &mut DpdkTx) -> u64 {
    let mut queued = 0_u64;
    loop {
        while tx.room() > 0 {
            tx.push(64, |frame| {
                frame.fill(0);
                frame[..8].copy_from_slice(&queued.to_be_bytes());
            });
            queued += 1;
        }
        let before = tx.in_use();
        tx.flush();
        if tx.room() == 0 {
            assert_eq!(
                tx.in_use(),
                before,
                "a flush that sent nothing lost something"
            );
            return queued;
        }
    }
}

#[test]
fn a_full_ring_takes_no_more_and_loses_nothing() {
    in_child(1, |cores| {
        let config = config(DeviceKind::Loop, cores);
        once(&config, |mut port| {
            let nothing = port.mbufs_in_use();
            assert_eq!(nothing, MbufsInUse::default());
            let (rx, tx) = port.halves();
            let sent = fill(tx);
            assert!(
                sent > 512,
                "the ring and what waits for it hold more than {sent}"
            );
            assert!(tx.flush().pending > 0);
            let mut received = 0_u64;
            while received < sent {
                let waiting = rx.waiting();
                let burst = rx.burst(7);
                assert_eq!(burst, waiting.min(7));
                for index in 0..burst {
                    let frame = rx.frame(index);
                    assert_eq!(frame.len(), 64);
                    assert_eq!(frame[..8], received.to_be_bytes(), "out of order");
                    received += 1;
                }
                rx.release();
                tx.flush();
            }
            assert_eq!((rx.waiting(), tx.flush().pending), (0, 0));
            assert_eq!(port.mbufs_in_use(), nothing);
            let counters = port.counters();
            assert_eq!((counters.tx_frames, counters.rx_frames), (sent, sent));
            assert_eq!(
                (counters.tx_bytes, counters.rx_bytes),
                (64 * sent, 64 * sent)
            );
        })
        .unwrap();
    });
}

#[test]
fn a_port_that_is_dropped_gives_back_what_it_holds() {
    in_child(1, |cores| {
        let config = config(DeviceKind::Loop, cores);
        once(&config, |mut port| {
            let device = port.device().clone();
            let (rx, tx) = port.halves();
            for _ in 0..40 {
                assert!(tx.room() > 0);
                tx.push(100, |frame| frame.fill(1));
            }
            tx.flush();
            // Ten in a burst, thirty taken off the ring, twenty not sent: all of the queue's pool.
            assert_eq!(rx.burst(10), 10);
            for _ in 0..20 {
                assert!(tx.room() > 0);
                tx.push(100, |frame| frame.fill(2));
            }
            let pool = tx.pool();
            assert_eq!(tx.in_use(), 60);
            drop(port);
            assert_eq!(pool.in_use(), 0, "{}", device.name());
        })
        .unwrap();
    });
}

#[test]
fn a_device_tells_what_it_is() {
    in_child(1, |cores| {
        let config = config(DeviceKind::Null { receives: true }, cores);
        once(&config, |mut port| {
            let device = port.device().clone();
            assert_eq!((device.name(), device.driver()), ("net_null0", "net_null"));
            assert_eq!(port.info().mac, device.mac());
            assert_eq!(
                (device.mtu_bytes(), device.offloads()),
                (1_500, Offloads::default())
            );
            assert!(device.queues_max() > 1);
            let link = device.link();
            assert!(link.is_up && link.full_duplex);
            let (rx, _) = port.halves();
            assert_eq!(rx.burst(32), 32);
            rx.release();
            let named = device.extended_statistics();
            let good = named.iter().find(|(name, _)| name == "rx_good_packets");
            assert_eq!(good.unwrap().1, device.statistics().unwrap().rx_frames);
            assert!(device.statistics().unwrap().rx_frames >= 32);
        })
        .unwrap();
    });
}

#[test]
fn the_spread_of_flows_is_set_and_read_where_the_device_allows_it() {
    if !alone() {
        return;
    }
    // There is nothing to spread over one queue.
    let Some(cores) = cores(2) else { return };
    let child = child(|| {
        let config = config(DeviceKind::Null { receives: false }, cores);
        once(&config, |port| {
            let device = port.device();
            let key: Vec<u8> = (0..40).collect();
            device.set_rss_key(&key).unwrap();
            assert_eq!(device.rss_key().unwrap(), key);
            assert!(device.rss_hashes_ports().unwrap());
            let entries = device.indirection().unwrap().len();
            let table: Vec<u16> = (0..entries as u16).map(|entry| entry % 2).collect();
            device.set_indirection(&table).unwrap();
            assert_eq!(device.indirection().unwrap(), table);
            for error in [
                device.set_rss_key(&key[1..]),
                device.set_indirection(&table[1..]),
            ] {
                assert!(
                    matches!(error, Err(DpdkError::RssShape { .. })),
                    "{error:?}"
                );
            }
        })
        .unwrap();
    });
    assert!(child.wait());
    let child = self::child(|| {
        let config = self::config(DeviceKind::Loop, checks::allowed_cores()[..1].to_vec());
        once(&config, |port| {
            let device = port.device();
            for error in [
                device.rss_key().map(|_| ()),
                device.rss_hashes_ports().map(|_| ()),
                device.set_rss_key(&[0; 40]),
                device.indirection().map(|_| ()),
                device.set_indirection(&[0; 128]),
            ] {
                let error = error.unwrap_err();
                assert!(matches!(error, DpdkError::RssUnsupported { .. }), "{error}");
                assert!(error.to_string().contains("net_ring"), "{error}");
            }
        })
        .unwrap();
    });
    assert!(child.wait());
}

#[test]
fn each_worker_gets_its_queue_of_every_device() {
    in_child(2, |cores| {
        let mut config = config(DeviceKind::Loop, cores);
        config.devices.push(DeviceConfig {
            kind: DeviceKind::Null { receives: false },
            ring_size: 128,
            without_iommu: false,
        });
        let outcome = run(&config, |worker, mut ports: Vec<DpdkPort>| {
            let names: Vec<&str> = ports.iter().map(|port| port.device().name()).collect();
            assert_eq!(names, ["net_ring0", "net_null1"]);
            assert!(ports.iter().all(|port| port.worker() == worker));
            for port in &mut ports {
                let (_, tx) = port.halves();
                assert!(tx.room() > 0);
                tx.push(60, |frame| frame.fill(worker as u8));
                assert_eq!(tx.flush().pending, 0);
            }
            // What a worker sends into the loop, it finds on its own queue, and alone.
            let (rx, _) = ports[0].halves();
            assert_eq!(rx.burst(64), 1);
            assert_eq!(rx.frame(0), [worker as u8; 60]);
            rx.release();
            let (rx, _) = ports[1].halves();
            assert_eq!((rx.waiting(), rx.burst(64)), (0, 0));
            Ok(Loop(move || {
                assert_eq!(ports.len(), 2);
                ControlFlow::Break(())
            }))
        });
        assert_eq!(outcome.unwrap(), Outcome::Finished);
    });
}

#[test]
fn a_short_frame_is_padded_with_nothing_of_another() {
    in_child(1, |cores| {
        let config = config(DeviceKind::Loop, cores);
        once(&config, |mut port| {
            // Through every mbuf of the pool there may be, so that each has been another frame.
            let (rx, tx) = port.halves();
            for (round, bytes) in (0_u64..4_096).map(|round| (round, [200, 54][round as usize % 2]))
            {
                assert!(tx.room() > 0);
                tx.push(bytes, |frame| {
                    assert_eq!(frame.len(), bytes);
                    frame.fill(0xee);
                });
                assert_eq!(tx.flush().pending, 0);
                assert_eq!(rx.burst(BURST_MAX), 1);
                let frame = rx.frame(0);
                assert_eq!(frame.len(), bytes.max(60), "{round}");
                assert!(frame[..bytes].iter().all(|byte| *byte == 0xee));
                assert!(frame[bytes..].iter().all(|byte| *byte == 0));
                rx.release();
            }
            let counters = port.counters();
            assert_eq!(counters.tx_bytes, 2_048 * (200 + 60));
            assert_eq!(counters.tx_bytes, counters.rx_bytes);
        })
        .unwrap();
    });
}

#[test]
fn the_main_thread_sees_that_a_link_goes() {
    in_child(1, |cores| {
        let config = config(DeviceKind::Loop, cores);
        let outcome = run(&config, |_worker, mut ports: Vec<DpdkPort>| {
            let started = Instant::now();
            assert_eq!(ports[0].counters().link_down, 0);
            let id = ports[0].device().id();
            // SAFETY: a started device, whose queues nobody uses any more. Its link ends with that.
            assert_eq!(unsafe { ffi::rte_eth_dev_stop(id) }, 0);
            Ok(Loop(move || {
                assert!(started.elapsed() < PATIENCE, "nobody looks");
                std::thread::yield_now();
                if ports[0].counters().link_down == 1 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }))
        });
        assert_eq!(outcome.unwrap(), Outcome::Finished);
    });
}

#[test]
fn ports_that_exchanged_their_transmit_halves_receive_what_the_other_sends() {
    const FRAMES: u64 = 100;
    in_child(1, |cores| {
        let mut config = config(DeviceKind::Loop, cores);
        config.devices.push(config.devices[0].clone());
        let outcome = run(&config, |_worker, mut ports: Vec<DpdkPort>| {
            let [one, other] = &mut ports[..] else {
                panic!("two devices were asked for");
            };
            one.exchange_tx(other);
            send_and_receive(one, other, FRAMES, 1);
            send_and_receive(other, one, FRAMES, 2);
            for port in &mut ports {
                assert_eq!(port.mbufs_in_use(), MbufsInUse::default());
                let counters = port.counters();
                assert_eq!((counters.tx_frames, counters.rx_frames), (FRAMES, FRAMES));
                assert_eq!(port.device().statistics().unwrap().rx_frames, FRAMES);
            }
            // A half gives back what it holds, by whichever port it is dropped.
            let pools: Vec<_> = ports
                .iter_mut()
                .map(|port| port.halves().1.pool())
                .collect();
            let (_, tx) = ports[0].halves();
            assert!(tx.room() > 0);
            tx.push(60, |frame| frame.fill(3));
            tx.flush();
            assert_eq!(ports[1].halves().0.burst(64), 1);
            ports.clear();
            assert!(pools.iter().all(|pool| pool.in_use() == 0));
            Ok(Loop(|| ControlFlow::Break(())))
        });
        assert_eq!(outcome.unwrap(), Outcome::Finished);
    });
}

/// Frames of one port, none of which it finds itself.
fn send_and_receive(from: &mut DpdkPort, to: &mut DpdkPort, frames: u64, mark: u8) {
    let (rx, tx) = from.halves();
    for _ in 0..frames {
        assert!(tx.room() > 0);
        tx.push(60, |frame| frame.fill(mark));
    }
    assert_eq!(tx.flush().pending, 0);
    assert_eq!(rx.waiting(), 0, "a port received what it sent itself");
    let (rx, _) = to.halves();
    let mut received = 0;
    while received < frames {
        let burst = rx.burst(BURST_MAX);
        assert!(burst > 0, "{} frames are missing", frames - received);
        for index in 0..burst {
            assert_eq!(rx.frame(index), [mark; 60]);
        }
        rx.release();
        received += burst as u64;
    }
    assert_eq!(rx.waiting(), 0);
}
