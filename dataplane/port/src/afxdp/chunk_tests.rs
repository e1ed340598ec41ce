//! Both halves with a kernel in memory at the other ends of their rings: no chunk is lost or used twice, in whatever order it works.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ring::{ConsumerRing, ProducerRing, RingLayout};
use super::rx::AfXdpRx;
use super::socket::Socket;
use super::tx::{AfXdpTx, TxLimits};
use super::umem::{HEADROOM_BYTES, Umem};
use crate::mapping::Mapping;
use crate::{RxQueue, TxQueue};

const LAYOUT: RingLayout = RingLayout {
    producer: 0,
    consumer: 64,
    flags: 128,
    entries: 192,
};

/// Chunks of each half, and entries of each ring.
const CHUNKS: u32 = 64;

const FRAME_BYTES: usize = 60;

/// Both ends of a ring.
fn ring<T: Copy>() -> (ProducerRing<T>, ConsumerRing<T>) {
    let mapping = Arc::new(Mapping::anonymous(LAYOUT.bytes::<T>(CHUNKS)).unwrap());
    (
        ProducerRing::new(mapping.clone(), LAYOUT, CHUNKS),
        ConsumerRing::new(mapping, LAYOUT, CHUNKS),
    )
}

/// The kernel's ends, and the chunks that it has.
struct Kernel {
    fill: ConsumerRing<u64>,
    rx: ProducerRing<libc::xdp_desc>,
    tx: ConsumerRing<libc::xdp_desc>,
    completion: ProducerRing<u64>,
    socket: Arc<Socket>,
    to_fill: BTreeSet<u64>,
    to_complete: BTreeSet<u64>,
}

impl Kernel {
    fn take_fill(&mut self, most: u32) {
        for _ in 0..self.fill.waiting().min(most) {
            let chunk = self.fill.read().unwrap();
            assert!(self.to_fill.insert(chunk), "a chunk that we have already");
        }
        self.fill.release();
    }

    fn receive(&mut self, most: u32) {
        for _ in 0..most.min(self.rx.free(1)) {
            let Some(chunk) = self.to_fill.pop_first() else {
                break;
            };
            self.rx.write(libc::xdp_desc {
                addr: chunk + HEADROOM_BYTES as u64,
                len: 60,
                options: 0,
            });
        }
        self.rx.publish(u32::MAX);
    }

    fn take_tx(&mut self, most: u32) {
        for _ in 0..self.tx.waiting().min(most) {
            let chunk = self.tx.read().unwrap().addr;
            assert!(self.to_complete.insert(chunk), "a chunk that is being sent");
        }
        self.tx.release();
    }

    /// From either end, so that chunks come back in another order than they went.
    fn complete(&mut self, most: u32, backwards: bool) {
        for _ in 0..most.min(self.completion.free(1)) {
            let chunk = if backwards {
                self.to_complete.pop_last()
            } else {
                self.to_complete.pop_first()
            };
            let Some(chunk) = chunk else {
                break;
            };
            self.completion.write(chunk);
        }
        self.completion.publish(u32::MAX);
    }
}

/// What the kernel does with the chunks that it has, on a core of its own: the first received frame is of zeroes, the next one of ones,
/// and so on. What is sent has to be so as well.
impl Kernel {
    fn frame(&self, address: u64) -> *mut [u8; FRAME_BYTES] {
        assert!(address as usize + FRAME_BYTES <= self.socket.umem.bytes());
        // SAFETY: inside the memory (asserted), which lives as long as the socket.
        unsafe { self.socket.umem.base().add(address as usize) }
            .cast()
            .as_ptr()
    }

    fn receive_more(&mut self, received: &mut u32, most: u32) {
        while *received < most && self.rx.free(1) > 0 {
            let Some(chunk) = self.to_fill.pop_first() else {
                break;
            };
            let addr = chunk + HEADROOM_BYTES as u64;
            // SAFETY: the chunk came out of the fill ring, and is not in the RX ring yet.
            unsafe { self.frame(addr).write([*received as u8; FRAME_BYTES]) };
            self.rx.write(libc::xdp_desc {
                addr,
                len: FRAME_BYTES as u32,
                options: 0,
            });
            *received += 1;
        }
        self.rx.publish(u32::MAX);
    }

    fn send_more(&mut self, sent: &mut u32) {
        self.tx.waiting();
        while let Some(descriptor) = self.tx.read() {
            // SAFETY: the chunk came out of the TX ring, and is not in the completion ring yet.
            let frame = unsafe { self.frame(descriptor.addr).read() };
            assert_eq!(frame, [*sent as u8; FRAME_BYTES], "frame {sent}");
            assert!(self.to_complete.insert(descriptor.addr), "sent twice");
            *sent += 1;
        }
        self.tx.release();
    }
}

fn both() -> (AfXdpRx, AfXdpTx, Kernel) {
    let umem = Umem::new(CHUNKS, CHUNKS).unwrap();
    // No socket: every kick fails, and the kernel works when it likes.
    let fd = File::open("/dev/null").unwrap().into();
    let socket = Arc::new(Socket { fd, umem });
    let ((mut fill, kernels_fill), (kernels_rx, rx)) = (ring(), ring());
    let ((tx, kernels_tx), (kernels_completion, completion)) = (ring(), ring());
    for chunk in socket.umem.rx_addresses() {
        fill.write(chunk);
    }
    fill.publish(u32::MAX);
    let limits = TxLimits {
        kick: 32,
        in_flight: 48,
        zero_copy: false,
    };
    let kernel = Kernel {
        fill: kernels_fill,
        rx: kernels_rx,
        tx: kernels_tx,
        completion: kernels_completion,
        socket: socket.clone(),
        to_fill: BTreeSet::new(),
        to_complete: BTreeSet::new(),
    };
    (
        AfXdpRx::new(socket.clone(), fill, rx),
        AfXdpTx::new(socket, tx, completion, limits),
        kernel,
    )
}

fn receive(rx: &mut AfXdpRx, most: usize) {
    let frames = rx.burst(most);
    assert!((0..frames).all(|frame| rx.frame(frame).len() == 60));
    rx.release();
}

fn send(tx: &mut AfXdpTx, most: usize) {
    for _ in 0..tx.room().min(most) {
        tx.push(60, |frame| frame.fill(1));
    }
    tx.show(&mut |frame| assert_eq!(frame, [1; 60]));
    tx.flush();
}

#[test]
fn no_chunk_is_lost_or_used_twice_in_whatever_order_the_kernel_works() {
    let (seeds, steps) = if cfg!(miri) { (1, 100) } else { (20, 5_000) };
    for seed in 1..=seeds {
        println!("seed {seed}");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        let mut random = |below: u32| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as u32 % below
        };
        let (mut rx, mut tx, mut kernel) = both();
        for _ in 0..steps {
            let most = random(CHUNKS + 1);
            match random(6) {
                0 => kernel.take_fill(most),
                1 => kernel.receive(most),
                2 => kernel.take_tx(most),
                3 => kernel.complete(most, random(2) == 0),
                4 => receive(&mut rx, most as usize),
                _ => send(&mut tx, most as usize),
            }
        }
        // Everybody finishes what is under way.
        for _ in 0..CHUNKS {
            receive(&mut rx, usize::MAX);
            kernel.take_tx(u32::MAX);
            kernel.complete(u32::MAX, false);
            tx.flush();
        }
        kernel.take_fill(u32::MAX);
        assert_eq!(kernel.to_fill.len(), CHUNKS as usize, "received");
        assert_eq!(tx.room(), CHUNKS as usize, "sent");
    }
}

#[test]
fn frames_are_whole_on_both_sides_while_the_kernel_works_on_another_core() {
    let frames = if cfg!(miri) { 150 } else { 20_000u32 };
    let (mut rx, mut tx, mut kernel) = both();
    let finished = Arc::new(AtomicBool::new(false));
    let theirs = finished.clone();
    let other_core = std::thread::spawn(move || {
        let (mut received, mut sent) = (0, 0);
        while !theirs.load(Ordering::Relaxed) {
            kernel.take_fill(u32::MAX);
            kernel.receive_more(&mut received, frames);
            kernel.send_more(&mut sent);
            kernel.complete(u32::MAX, sent % 2 == 0);
            std::thread::yield_now();
        }
        sent
    });
    let (mut received, mut sent) = (0, 0);
    // Until every frame is here, and every chunk of those that were sent is back.
    while received < frames || sent < frames || tx.room() < CHUNKS as usize {
        assert!(!other_core.is_finished(), "see what it says");
        for index in 0..rx.burst(usize::MAX) {
            assert_eq!(rx.frame(index), [received as u8; FRAME_BYTES]);
            received += 1;
        }
        rx.release();
        for _ in 0..tx.room().min((frames - sent) as usize) {
            tx.push(FRAME_BYTES, |frame| frame.fill(sent as u8));
            sent += 1;
        }
        tx.flush();
        std::thread::yield_now();
    }
    finished.store(true, Ordering::Relaxed);
    assert_eq!(other_core.join().unwrap(), frames);
}
