//! The memory that the NIC (or the kernel, in copy mode) writes frames to and reads frames from.

use std::io;

use crate::mapping::Mapping;

/// Bytes of one chunk: two to a page, and enough for an MTU of 1,500. The kernel allows 2,048 or 4,096 for aligned chunks;
/// the larger size would double the memory and the cache misses for frames that no Ethernet without jumbo carries.
pub(super) const CHUNK_BYTES: usize = 2_048;

/// What the kernel keeps free before each received frame (`XDP_PACKET_HEADROOM`).
pub(super) const HEADROOM_BYTES: usize = 256;

/// Chunks `0..rx_chunks` are for receiving, the rest for sending.
#[derive(Debug)]
pub(super) struct Umem {
    memory: Mapping,
    rx_chunks: u32,
}

impl Umem {
    pub(super) fn new(rx_chunks: u32, tx_chunks: u32) -> io::Result<Self> {
        let memory = Mapping::anonymous((rx_chunks + tx_chunks) as usize * CHUNK_BYTES)?;
        Ok(Self { memory, rx_chunks })
    }

    /// Address of the first byte, for the registration.
    pub(super) fn address(&self) -> u64 {
        self.memory.base().as_ptr() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// All of it, for a kernel that a test plays.
    #[cfg(test)]
    pub(super) fn base(&self) -> std::ptr::NonNull<u8> {
        self.memory.base()
    }

    /// Addresses of the receive chunks.
    pub(super) fn rx_addresses(&self) -> impl Iterator<Item = u64> + use<> {
        (0..u64::from(self.rx_chunks)).map(|chunk| chunk * CHUNK_BYTES as u64)
    }

    /// Addresses of the transmit chunks.
    pub(super) fn tx_addresses(&self) -> impl Iterator<Item = u64> + use<> {
        let chunks = (self.memory.bytes() / CHUNK_BYTES) as u64;
        (u64::from(self.rx_chunks)..chunks).map(|chunk| chunk * CHUNK_BYTES as u64)
    }

    /// The chunk that an address lies in.
    pub(super) fn chunk_of(address: u64) -> u64 {
        address & !(CHUNK_BYTES as u64 - 1)
    }

    /// Tells whether the bytes lie inside one receive chunk.
    pub(super) fn holds_rx(&self, address: u64, bytes: u32) -> bool {
        let end = address.saturating_add(u64::from(bytes));
        end <= u64::from(self.rx_chunks) * CHUNK_BYTES as u64
            && end <= Self::chunk_of(address) + CHUNK_BYTES as u64
    }

    /// Tells whether the address lies inside a transmit chunk.
    pub(super) fn holds_tx(&self, address: u64) -> bool {
        address >= u64::from(self.rx_chunks) * CHUNK_BYTES as u64
            && address < self.memory.bytes() as u64
    }

    /// A received frame.
    ///
    /// # Safety
    ///
    /// The kernel must have given the chunk to the caller through the RX ring, and the caller must not have put it into the
    /// fill ring since, nor do so while the slice lives.
    pub(super) unsafe fn received(&self, address: u64, bytes: u32) -> &[u8] {
        assert!(
            self.holds_rx(address, bytes),
            "received frame outside of its chunk"
        );
        // SAFETY: inside the mapping (asserted); nobody writes it until the caller gives it back.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.base().as_ptr().add(address as usize),
                bytes as usize,
            )
        }
    }

    /// A frame to be filled.
    ///
    /// # Safety
    ///
    /// The chunk must be off every ring, and no other slice of it may live.
    #[expect(
        clippy::mut_from_ref,
        reason = "the chunk, not the UMEM, is what the caller owns alone"
    )]
    pub(super) unsafe fn draft(&self, address: u64, bytes: usize) -> &mut [u8] {
        assert!(
            bytes <= CHUNK_BYTES && self.holds_tx(address) && address == Self::chunk_of(address),
            "a frame of {bytes} bytes does not fit a chunk"
        );
        // SAFETY: inside the mapping (asserted); the caller owns the chunk alone.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.base().as_ptr().add(address as usize), bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_and_transmit_chunks_share_no_byte_and_leave_none_over() {
        let umem = Umem::new(4, 2).unwrap();
        let rx: Vec<u64> = umem.rx_addresses().collect();
        let tx: Vec<u64> = umem.tx_addresses().collect();
        assert_eq!(rx, [0, 2_048, 4_096, 6_144]);
        assert_eq!(tx, [8_192, 10_240]);
        assert_eq!(umem.bytes(), 12_288);
        assert!(rx.iter().all(|address| !umem.holds_tx(*address)));
        assert!(
            tx.iter()
                .all(|address| umem.holds_tx(*address) && !umem.holds_rx(*address, 1))
        );
        assert!(!umem.holds_tx(12_288));
    }

    #[test]
    fn a_descriptor_may_not_leave_its_chunk() {
        let umem = Umem::new(2, 2).unwrap();
        assert!(umem.holds_rx(256, 1_792));
        assert!(!umem.holds_rx(256, 1_793));
        assert!(!umem.holds_rx(4_000, 100));
        assert!(!umem.holds_rx(u64::MAX, u32::MAX));
    }
}
