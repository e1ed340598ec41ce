//! Both halves with a kernel in memory at the other ends of their rings: no chunk is lost or used twice, in whatever order it works.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

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
