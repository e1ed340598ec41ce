//! Frames in and out of a veth, over both of its queues.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

use super::peer::{Peer, echo, is_of_the_test};
use super::*;
use crate::doorbell::Doorbell;
use crate::test_lab::Lab;
use crate::test_support::{Child, readable};
use crate::{BURST_MAX, RxQueue, TxQueue};

/// Frames of one round: as many flows, so that both queues get some.
const FLOWS: u16 = 200;
const _: () = assert!(FLOWS as usize > 2 * BURST_MAX, "a round is several bursts");

fn af_packet() -> DeviceKind {
    DeviceKind::AfPacket {
        interface: "tg0".to_owned(),
    }
}

fn af_xdp() -> DeviceKind {
    DeviceKind::AfXdp {
        interface: "tg0".to_owned(),
        start_queue: 0,
    }
}

/// What one queue came to.
#[derive(Debug)]
struct Told {
    worker: usize,
    name: String,
    echoed: u64,
    strays: u64,
    stray_bytes: u64,
    counters: PortCounters,
    device: DeviceStatistics,
    before: MbufsInUse,
    after: MbufsInUse,
}

/// Echoes until it is told to stop.
struct Echo {
    port: DpdkPort,
    stop: Arc<Doorbell>,
    told: Arc<Mutex<Vec<Told>>>,
    all_done: Arc<Barrier>,
    before: MbufsInUse,
    echoed: u64,
    /// Frames of the kernel's own, from when the link came up.
    strays: u64,
    stray_bytes: u64,
}

impl QueueLoop for Echo {
    fn turn(&mut self) -> ControlFlow<()> {
        let (rx, tx) = self.port.halves();
        let (waiting, room) = (rx.waiting(), tx.room());
        let burst = rx.burst(room);
        assert!((waiting.min(room)..=room).contains(&burst));
        let (mut echoed, mut shown) = (0, 0);
        for index in 0..burst {
            let frame = rx.frame(index);
            if is_of_the_test(frame) {
                tx.push(frame.len(), |answer| echo(frame, answer));
                echoed += 1;
            } else {
                self.strays += 1;
                self.stray_bytes += frame.len() as u64;
            }
        }
        self.echoed += echoed;
        tx.show(&mut |_| shown += 1);
        assert_eq!(shown, echoed);
        rx.release();
        let pending = tx.flush().pending;
        if burst > 0 || pending > 0 || !readable(self.stop.as_fd()) {
            std::thread::yield_now();
            return ControlFlow::Continue(());
        }
        // Drivers count after they sent: when every loop has ended, everything is counted.
        self.all_done.wait();
        let told = Told {
            worker: self.port.worker(),
            name: self.port.device().name().to_owned(),
            echoed: self.echoed,
            strays: self.strays,
            stray_bytes: self.stray_bytes,
            counters: self.port.counters(),
            device: self.port.device().statistics().unwrap(),
            before: self.before,
            after: self.port.mbufs_in_use(),
        };
        self.told.lock().unwrap().push(told);
        ControlFlow::Break(())
    }
}

/// A child that echoes on `tg0` until the bell rings, and then looks at what its queues tell.
struct Appliance {
    child: Option<Child>,
    stop: Arc<Doorbell>,
}

impl Appliance {
    fn start(
        lab: &Lab,
        config: &DpdkConfig,
        look: impl FnOnce(Vec<Told>) + Send + Clone + 'static,
    ) -> Self {
        let started = Instant::now();
        // The queues of a process that was killed are free a moment later.
        loop {
            if let Some(appliance) = Self::try_start(lab, config, look.clone()) {
                return appliance;
            }
            assert!(started.elapsed() < PATIENCE, "it does not start");
        }
    }

    /// `None`: the queue was in use.
    fn try_start(
        lab: &Lab,
        config: &DpdkConfig,
        look: impl FnOnce(Vec<Told>) + Send + 'static,
    ) -> Option<Self> {
        let stop = Arc::new(Doorbell::new().unwrap());
        let (mut ready, of_workers) = UnixStream::pair().unwrap();
        let (config, of_child) = (config.clone(), stop.clone());
        let child = child_on(&lab.appliance, move || {
            let told = Arc::new(Mutex::new(Vec::new()));
            let place = told.clone();
            let queues = config.cores.len();
            let all_ready = Barrier::new(queues);
            let all_done = Arc::new(Barrier::new(queues));
            let outcome = run(&config, move |worker, mut ports: Vec<DpdkPort>| {
                let port = ports.remove(0);
                assert_eq!(port.worker(), worker);
                assert_eq!(port.info().mode, PortMode::Dpdk);
                let before = port.mbufs_in_use();
                if all_ready.wait().is_leader() {
                    (&of_workers).write_all(b"!").unwrap();
                }
                Ok(Echo {
                    port,
                    stop: of_child.clone(),
                    told: place.clone(),
                    all_done: all_done.clone(),
                    before,
                    echoed: 0,
                    strays: 0,
                    stray_bytes: 0,
                })
            });
            if let Err(DpdkError::InUse { .. }) = outcome {
                return;
            }
            assert_eq!(outcome.unwrap(), Outcome::Finished);
            let mut told = std::mem::take(&mut *told.lock().unwrap());
            told.sort_by_key(|told| told.worker);
            assert_eq!(told.len(), queues);
            look(told);
        });
        let mut byte = [0];
        // A child that ends closes its end.
        if ready.read(&mut byte).unwrap() == 0 {
            assert!(child.wait(), "the child says why");
            return None;
        }
        Some(Self {
            child: Some(child),
            stop,
        })
    }

    fn finish(mut self) {
        self.stop.ring();
        let child = self.child.take().unwrap();
        assert!(child.wait(), "the child says why");
    }
}

/// Ends it as a crash would.
impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }
}

/// Everything adds up, and nothing is kept.
fn adds_up(told: &[Told], frames: u64, bytes: u64) {
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    assert!(
        told.iter().all(|told| told.echoed > 0),
        "a queue had nothing: {told:?}"
    );
    let strays = sum(|told| told.strays);
    assert_eq!(sum(|told| told.echoed), frames);
    assert_eq!(sum(|told| told.counters.rx_frames), frames + strays);
    assert_eq!(sum(|told| told.counters.tx_frames), frames);
    let stray_bytes = sum(|told| told.stray_bytes);
    assert_eq!(sum(|told| told.counters.rx_bytes), bytes + stray_bytes);
    assert_eq!(sum(|told| told.counters.tx_bytes), bytes);
    for told in told {
        assert_eq!(
            told.counters.rx_dropped + told.counters.rx_ring_full,
            0,
            "{told:?}"
        );
        assert_eq!(
            told.counters.tx_dropped + told.counters.tx_invalid,
            0,
            "{told:?}"
        );
        assert_eq!(told.after.transmit, told.before.transmit, "{told:?}");
    }
    // The same numbers from every queue of a device, read when no frame is on its way.
    let mut devices: Vec<(&str, DeviceStatistics)> = Vec::new();
    for told in told {
        devices.retain(|(name, _)| *name != told.name);
        devices.push((&told.name, told.device));
    }
    let sum =
        |of: fn(&DeviceStatistics) -> u64| devices.iter().map(|(_, all)| of(all)).sum::<u64>();
    assert_eq!(sum(|all| all.rx_frames), frames + strays, "{told:?}");
    assert_eq!(sum(|all| all.tx_frames), frames, "{told:?}");
}

fn both_queues_echo(kind: DeviceKind, memory: Memory, look: fn(&[Told])) {
    let Some(cores) = cores(2) else { return };
    let Some(lab) = Lab::new() else { return };
    let peer = Peer::open(&lab);
    let config = DpdkConfig {
        memory,
        ..config(kind, cores)
    };
    let appliance = Appliance::start(&lab, &config, move |told| {
        let frames = u64::from(FLOWS);
        let sizes = [60, 1_000, 1_514];
        adds_up(&told, 3 * frames, sizes.iter().sum::<u64>() * frames);
        look(&told);
    });
    // Every frame is of another flow: more than a burst, less than what the kernel's rings hold.
    for bytes in [60, 1_000, 1_514] {
        peer.exchange(FLOWS, bytes);
    }
    appliance.finish();
}

#[test]
fn both_queues_of_packet_sockets_echo_and_every_mbuf_returns() {
    if !alone() {
        return;
    }
    both_queues_echo(af_packet(), Memory::Ordinary, |told| {
        // Packet sockets copy, so between two frames nothing is out.
        for told in told {
            assert_eq!((told.before, told.after), Default::default());
        }
    });
}

#[test]
fn both_queues_of_af_xdp_echo_and_every_mbuf_returns() {
    if !alone() {
        return;
    }
    // The fill rings hold mbufs, as many as before or what the kernel has not given back yet.
    both_queues_echo(af_xdp(), Memory::Ordinary, |told| {
        for told in told {
            assert!(told.before.receive > 0);
        }
    });
}

/// Pages taken from the system for a test, and given back.
struct HugePages(String);

impl HugePages {
    const COUNT: &str = "/proc/sys/vm/nr_hugepages";

    fn reserve(pages: usize) -> Self {
        let before = std::fs::read_to_string(Self::COUNT).unwrap();
        let all = before.trim().parse::<usize>().unwrap() + pages;
        std::fs::write(Self::COUNT, all.to_string()).unwrap();
        Self(before)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        std::fs::write(Self::COUNT, &self.0).unwrap();
    }
}

#[test]
fn huge_pages_serve_as_well_as_ordinary_ones() {
    if !alone() {
        return;
    }
    if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        eprintln!("SKIPPED, needs huge pages of 2 MiB");
        return;
    }
    let Some(_cores) = cores(2) else { return };
    if !crate::test_support::has_net_admin() {
        eprintln!("SKIPPED, needs root: huge pages");
        return;
    }
    let _pages = HugePages::reserve(config(af_packet(), vec![0, 1]).megabytes(1).div_ceil(2) + 16);
    both_queues_echo(af_packet(), Memory::HugePages, |_| ());
}

fn another_takes_over_from_one_that_was_killed(kind: DeviceKind) {
    let Some(cores) = cores(2) else { return };
    let Some(lab) = Lab::new() else { return };
    let peer = Peer::open(&lab);
    let config = config(kind, cores);
    let first = Appliance::start(&lab, &config, |_| unreachable!("it was killed"));
    peer.exchange(FLOWS, 100);
    drop(first);
    let second = Appliance::start(&lab, &config, |told| {
        adds_up(&told, FLOWS.into(), u64::from(FLOWS) * 100);
    });
    peer.exchange(FLOWS, 100);
    second.finish();
}

#[test]
fn another_takes_over_packet_sockets_from_one_that_was_killed() {
    if !alone() {
        return;
    }
    another_takes_over_from_one_that_was_killed(af_packet());
}

#[test]
fn another_takes_over_af_xdp_from_one_that_was_killed() {
    if !alone() {
        return;
    }
    another_takes_over_from_one_that_was_killed(af_xdp());
}

#[test]
fn frames_beyond_the_mtu_are_dropped_and_counted() {
    const LONG: u64 = 5;
    if !alone() {
        return;
    }
    let Some(cores) = cores(1) else { return };
    let Some(lab) = Lab::new() else { return };
    let peer = Peer::open(&lab);
    let appliance = Appliance::start(&lab, &config(af_packet(), cores), |told| {
        let counters = told[0].counters;
        assert_eq!(counters.rx_dropped, LONG, "{counters:?}");
        assert_eq!(told[0].echoed, 1);
        assert_eq!(told[0].after, MbufsInUse::default());
    });
    // Grown behind DPDK's back: it goes by the MTU that it found.
    lab.appliance.ip("link set tg0 mtu 1800");
    lab.peer.ip("link set tg1 mtu 1800");
    for flow in 0..LONG {
        peer.send(&peer.frame(flow as u16, 1_700));
    }
    peer.exchange(1, 1_514);
    appliance.finish();
}
