//! How much memory ports on DPDK take. It is reckoned before DPDK starts: by those who start it, and by those who make a host ready
//! for it, which need not be built with DPDK.

use crate::BURST_MAX;

/// Mbufs that a thread keeps to itself: four bursts, so that the pool's common ring is touched once for several.
pub const CACHE: u32 = 4 * BURST_MAX as u32;

/// What a pool may hold back in one thread's cache.
pub const CACHE_HELD: usize = CACHE as usize * 3 / 2;

/// Frames that wait for the device. Eight full bursts: what one turn of the poll loop answers fits even while the device takes
/// nothing. More would only be older when they leave.
pub const QUEUED_MAX: usize = 8 * BURST_MAX;

/// Memory of one mbuf: its buffer of 2,176 bytes, its two cache lines, the pool's header, and what its alignment costs.
const MBUF_BYTES: usize = 2_560;

/// What EAL needs for itself, roughly; and memory comes in pieces.
const EAL_BYTES: usize = 64 << 20;

/// Mbufs that one queue of a card receives into, at most: drivers may round the ring up.
pub const fn receive_ring_mbufs(ring_size: usize) -> usize {
    2 * ring_size
}

/// Mbufs that each memory node's pool of received frames has. `queue` are those that the queues of one worker receive into, on so
/// many devices.
pub const fn receive_mbufs(queue: usize, devices: usize, workers: usize) -> usize {
    let in_hand = BURST_MAX * devices + CACHE_HELD;
    // One less than a power of two wastes nothing.
    ((queue + in_hand) * workers).next_power_of_two() - 1
}

/// Mbufs that one queue sends from: twice what was asked for as a ring, because drivers round up; what waits for the device; and
/// what is held back.
pub const fn transmit_mbufs(ring_size: usize) -> usize {
    2 * ring_size + QUEUED_MAX + BURST_MAX + CACHE_HELD
}

/// Megabytes that pools with so many mbufs take.
pub const fn pool_megabytes(mbufs: usize) -> usize {
    (mbufs * MBUF_BYTES).div_ceil(1 << 20)
}

/// Megabytes for so many mbufs, and for DPDK itself.
pub const fn megabytes(mbufs: usize) -> usize {
    (mbufs * MBUF_BYTES + EAL_BYTES).div_ceil(1 << 20)
}

/// Megabytes that cards with these rings take, with so many workers on cores of so many memory nodes.
pub fn of_cards(rings: &[u32], workers: usize, nodes: usize) -> usize {
    let rings = || rings.iter().map(|ring| *ring as usize);
    let queue = rings().map(receive_ring_mbufs).sum();
    let received = receive_mbufs(queue, rings().len(), workers) * nodes.max(1);
    let sent = rings().map(transmit_mbufs).sum::<usize>() * workers;
    megabytes(received + sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_anything_takes_more_memory() {
        let least = of_cards(&[2_048], 2, 1);
        assert!((64..256).contains(&least), "{least}");
        assert!(of_cards(&[8_192], 2, 1) > least);
        assert!(of_cards(&[2_048; 2], 2, 1) > least);
        assert!(of_cards(&[2_048], 8, 1) > least);
        assert!(of_cards(&[2_048], 2, 2) > least);
    }
}
