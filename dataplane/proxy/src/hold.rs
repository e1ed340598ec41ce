//! Memory for bytes that have to wait: replies that came before their turn, or that their client does not take.
//!
//! One block per worker, reserved at start and divided into chunks of 1 KiB. A [`Chain`] is a queue of bytes over chunks
//! taken from the common free list. When the block is used up, appending fails and the caller has an answer for that.

/// Bytes in one chunk. Small enough that a held reply of 100 B wastes little, large enough that a value of 1 MiB needs only 1,024 links.
const CHUNK_BYTES: usize = 1024;

/// No chunk.
const NIL: u32 = u32::MAX;

/// A queue of bytes in a [`HoldPool`]. It does not give its chunks back by itself: [`HoldPool::clear`] does.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    head: u32,
    tail: u32,
    /// First byte that is still wanted, counted in the head chunk.
    start: u32,
    /// End of the bytes in the tail chunk.
    end: u32,
    bytes: usize,
}

impl Chain {
    /// A chain without bytes or chunks.
    pub const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        start: 0,
        end: 0,
        bytes: 0,
    };

    /// Bytes in the chain.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// A place in a chain from which its bytes are read without being taken out. Valid as long as nothing is taken out of the chain.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    chunk: u32,
    at: u32,
    /// Bytes behind it.
    left: usize,
}

impl Place {
    /// The front of a chain.
    pub fn front(chain: &Chain) -> Self {
        Self {
            chunk: chain.head,
            at: chain.start,
            left: chain.bytes,
        }
    }
}

/// The block.
#[derive(Debug)]
pub struct HoldPool {
    bytes: Box<[u8]>,
    next: Box<[u32]>,
    free: u32,
    free_chunks: usize,
}

impl HoldPool {
    /// Reserves `bytes`, rounded down to whole chunks. The pages are touched only when they are used.
    pub fn new(bytes: u64) -> Self {
        let chunks = usize::try_from(bytes).unwrap_or(usize::MAX) / CHUNK_BYTES;
        let chunks = chunks.clamp(1, NIL as usize - 1);
        let next = (1..=chunks)
            .map(|i| if i == chunks { NIL } else { i as u32 })
            .collect();
        Self {
            bytes: vec![0; chunks * CHUNK_BYTES].into_boxed_slice(),
            next,
            free: 0,
            free_chunks: chunks,
        }
    }

    /// Bytes that can be appended at least.
    pub fn free_bytes(&self) -> usize {
        self.free_chunks * CHUNK_BYTES
    }

    /// Bytes of chunks that are taken.
    pub fn bytes_in_use(&self) -> usize {
        self.bytes.len() - self.free_bytes()
    }

    /// Appends all of `data`, or nothing when the pool cannot hold it.
    #[must_use]
    pub fn append(&mut self, chain: &mut Chain, mut data: &[u8]) -> bool {
        let room_in_tail = if chain.tail == NIL {
            0
        } else {
            CHUNK_BYTES - chain.end as usize
        };
        if data.len().saturating_sub(room_in_tail) > self.free_bytes() {
            return false;
        }
        chain.bytes += data.len();
        while !data.is_empty() {
            if chain.tail == NIL || chain.end as usize == CHUNK_BYTES {
                self.extend(chain);
            }
            let n = data.len().min(CHUNK_BYTES - chain.end as usize);
            let at = chain.tail as usize * CHUNK_BYTES + chain.end as usize;
            self.bytes[at..at + n].copy_from_slice(&data[..n]);
            chain.end += n as u32;
            data = &data[n..];
        }
        true
    }

    fn extend(&mut self, chain: &mut Chain) {
        let chunk = self.free;
        assert!(chunk != NIL, "append checked that there is a free chunk");
        self.free = self.next[chunk as usize];
        self.free_chunks -= 1;
        self.next[chunk as usize] = NIL;
        if chain.tail == NIL {
            chain.head = chunk;
            chain.start = 0;
        } else {
            self.next[chain.tail as usize] = chunk;
        }
        chain.tail = chunk;
        chain.end = 0;
    }

    /// The first bytes, as far as they are contiguous. Empty only when the chain is.
    pub fn front(&self, chain: &Chain) -> &[u8] {
        if chain.bytes == 0 {
            return &[];
        }
        let at = chain.head as usize * CHUNK_BYTES;
        let end = if chain.head == chain.tail {
            chain.end as usize
        } else {
            CHUNK_BYTES
        };
        &self.bytes[at + chain.start as usize..at + end]
    }

    /// Copies the next line that fits `out` into it, without its end, and moves behind it. A last line may lack its end. `None`: there
    /// are no more.
    pub fn line<'a>(&self, place: &mut Place, out: &'a mut [u8]) -> Option<&'a [u8]> {
        while place.left > 0 {
            if let Some(bytes) = self.line_or_skip(place, out) {
                let line = &out[..bytes];
                return Some(line.strip_suffix(b"\r").unwrap_or(line));
            }
        }
        None
    }

    /// The bytes of the next line up to LF; `None` if it was too long.
    fn line_or_skip(&self, place: &mut Place, out: &mut [u8]) -> Option<usize> {
        let mut bytes = 0;
        let mut fits = true;
        while place.left > 0 {
            if place.at as usize == CHUNK_BYTES {
                place.chunk = self.next[place.chunk as usize];
                place.at = 0;
            }
            let from = place.chunk as usize * CHUNK_BYTES + place.at as usize;
            let here = (CHUNK_BYTES - place.at as usize).min(place.left);
            let data = &self.bytes[from..from + here];
            let end = data.iter().position(|&byte| byte == b'\n');
            let content = &data[..end.unwrap_or(here)];
            let room = out.get_mut(bytes..bytes + content.len());
            fits = fits && room.is_some();
            if let Some(room) = room.filter(|_| fits) {
                room.copy_from_slice(content);
                bytes += content.len();
            }
            let passed = content.len() + usize::from(end.is_some());
            place.at += passed as u32;
            place.left -= passed;
            if end.is_some() {
                break;
            }
        }
        fits.then_some(bytes)
    }

    /// Drops `n` bytes from the front.
    pub fn advance(&mut self, chain: &mut Chain, mut n: usize) {
        assert!(n <= chain.bytes, "only bytes of the chain can be dropped");
        while n > 0 {
            let step = n.min(self.front(chain).len());
            chain.start += step as u32;
            chain.bytes -= step;
            n -= step;
            if chain.start as usize == CHUNK_BYTES && chain.head != chain.tail {
                let chunk = chain.head;
                chain.head = self.next[chunk as usize];
                chain.start = 0;
                self.give(chunk);
            }
        }
        if chain.bytes == 0 {
            self.clear(chain);
        }
    }

    /// Gives all chunks back.
    #[inline]
    pub fn clear(&mut self, chain: &mut Chain) {
        // Most chains were never used.
        if chain.head != NIL {
            self.give_all(chain);
        }
    }

    fn give_all(&mut self, chain: &mut Chain) {
        while chain.head != NIL {
            let chunk = chain.head;
            chain.head = self.next[chunk as usize];
            self.give(chunk);
        }
        *chain = Chain::EMPTY;
    }

    fn give(&mut self, chunk: u32) {
        self.next[chunk as usize] = self.free;
        self.free = chunk;
        self.free_chunks += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pool: &mut HoldPool, chain: &mut Chain) -> Vec<u8> {
        let mut out = Vec::new();
        while !chain.is_empty() {
            let n = pool.front(chain).len();
            out.extend_from_slice(pool.front(chain));
            pool.advance(chain, n);
        }
        out
    }

    #[test]
    fn bytes_come_out_in_order_and_every_chunk_comes_back() {
        let mut pool = HoldPool::new(16 * 1024);
        let all = pool.free_bytes();
        let (mut a, mut b) = (Chain::EMPTY, Chain::EMPTY);
        let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        for piece in data.chunks(700) {
            assert!(pool.append(&mut a, piece));
            assert!(pool.append(&mut b, piece));
        }
        pool.advance(&mut b, 1500);
        assert_eq!(drain(&mut pool, &mut a), data);
        assert_eq!(drain(&mut pool, &mut b), data[1500..]);
        assert_eq!(pool.free_bytes(), all);
    }

    #[test]
    fn a_full_pool_takes_nothing_and_loses_nothing() {
        let mut pool = HoldPool::new(2048);
        let mut chain = Chain::EMPTY;
        assert!(pool.append(&mut chain, &[1; 1500]));
        assert!(!pool.append(&mut chain, &[2; 600]));
        assert_eq!(chain.len(), 1500);
        assert!(pool.append(&mut chain, &[2; 548]));
        pool.clear(&mut chain);
        assert_eq!(pool.free_bytes(), 2048);
    }

    #[test]
    fn lines_are_read_across_chunks_and_long_ones_are_passed_over() {
        let mut pool = HoldPool::new(16 * 1024);
        let mut chain = Chain::EMPTY;
        let mut wanted = Vec::new();
        assert!(pool.append(&mut chain, b"passed"));
        pool.advance(&mut chain, 6);
        for n in 0..100 {
            let line = "x".repeat(n * 7 % 60);
            let end = if n % 2 == 0 { "\r\n" } else { "\n" };
            assert!(pool.append(&mut chain, format!("{line}{end}").as_bytes()));
            wanted.push(line);
            if n % 9 == 0 {
                assert!(pool.append(&mut chain, &[b'l'; 70]));
                assert!(pool.append(&mut chain, b"\r\n"));
            }
        }
        assert!(pool.append(&mut chain, b"last"));
        wanted.push("last".to_owned());
        let (mut place, mut out) = (Place::front(&chain), [0; 64]);
        let mut got = Vec::new();
        while let Some(line) = pool.line(&mut place, &mut out) {
            got.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(got, wanted);
        assert!(
            pool.line(&mut Place::front(&Chain::EMPTY), &mut out)
                .is_none()
        );
        pool.clear(&mut chain);
    }

    #[test]
    fn appending_after_partial_reads_keeps_order() {
        let mut pool = HoldPool::new(8192);
        let mut chain = Chain::EMPTY;
        assert!(pool.append(&mut chain, &[1; 1024]));
        pool.advance(&mut chain, 1023);
        assert!(pool.append(&mut chain, &[2; 10]));
        assert_eq!(
            drain(&mut pool, &mut chain),
            [&[1u8][..], &[2; 10]].concat()
        );
    }
}
