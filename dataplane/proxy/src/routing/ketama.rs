//! Consistent hashing as libketama and twemproxy do it: every server owns about 160 points of a ring, a key belongs to the
//! first point at or after its hash value.

use super::Member;
use md5::{Digest, Md5};
use tidegate_config::{KETAMA_POINTS_PER_DIGEST, KETAMA_POINTS_PER_SERVER, ketama_digests};

/// Room per server. Shares add up to 160 points each; rounding can give a server at most one digest more.
const POINTS_RESERVED_PER_SERVER: usize =
    (KETAMA_POINTS_PER_SERVER + KETAMA_POINTS_PER_DIGEST) as usize;

/// The ring: one word per point, its value above and its server below, sorted. One comparison of words compares values, and
/// a cache line holds eight points.
///
/// Points lie evenly, so a table over the leading bits of the hash value, with about as many entries as there are points, leads
/// to within a point or two of the one sought, where a binary search takes nine steps over 480 points.
pub(super) struct Ketama {
    /// Ends with a copy of the first point at the highest value, which closes the ring. Empty when no server is live.
    points: Vec<u64>,
    /// For each combination of leading bits the first point at or after it.
    starts: Box<[u32]>,
    /// How far a hash value is shifted to leave the leading bits.
    shift: u32,
}

impl Ketama {
    /// An empty ring with room for `servers` servers.
    pub(super) fn new(servers: usize) -> Self {
        let starts = (servers * usize::from(KETAMA_POINTS_PER_SERVER)).next_power_of_two();
        Self {
            points: Vec::with_capacity(servers * POINTS_RESERVED_PER_SERVER + 1),
            starts: vec![0; starts].into(),
            shift: u32::BITS - starts.ilog2(),
        }
    }

    /// Builds the ring of the live members, in place. `members` are in twemproxy's order.
    pub(super) fn rebuild(&mut self, members: &[Member]) {
        self.points.clear();
        let live = members.iter().filter(|member| member.live).count();
        let weight = members
            .iter()
            .filter(|member| member.live)
            .map(|member| u64::from(member.weight))
            .sum();
        for (rank, member) in members.iter().enumerate() {
            if !member.live {
                continue;
            }
            for index in 0..ketama_digests(member.weight, weight, live) {
                let digest = digest(&member.name, index);
                for point in digest.as_chunks::<4>().0 {
                    debug_assert!(self.points.len() < self.points.capacity());
                    let value = u64::from(u32::from_le_bytes(*point));
                    self.points.push(value << 32 | rank as u64);
                }
            }
        }
        // Points of equal value keep the order of their servers, as a stable sort by value would leave them.
        self.points.sort_unstable();
        for point in &mut self.points {
            let rank = (*point & u64::from(u32::MAX)) as usize;
            *point = (*point & !u64::from(u32::MAX)) | u64::from(members[rank].position);
        }
        if let Some(first) = self.points.first() {
            self.points.push(first | u64::from(u32::MAX) << 32);
        }
        self.index();
    }

    /// Fills `starts`.
    fn index(&mut self) {
        let mut filled = 0;
        for (index, point) in self.points.iter().enumerate() {
            let bucket = leading(point >> 32, self.shift);
            if let Some(starts) = self.starts.get_mut(filled..=bucket) {
                starts.fill(index as u32);
                filled = bucket + 1;
            }
        }
    }

    /// The server of a hash value, as its position in the file; `None` when the ring is empty.
    pub(super) fn find(&self, hash: u32) -> Option<usize> {
        let start = self.starts.get(leading(hash.into(), self.shift))?;
        let wanted = u64::from(hash) << 32;
        let points = self.points.get(*start as usize..)?;
        let point = points.iter().find(|&&point| point >= wanted)?;
        Some((point & u64::from(u32::MAX)) as usize)
    }
}

/// The leading bits of a value: all but the lowest `shift` of its 32.
fn leading(value: u64, shift: u32) -> usize {
    (value >> shift) as usize
}

/// MD5 of `<name>-<index>`.
fn digest(name: &str, index: u32) -> [u8; 16] {
    let mut decimal = [0_u8; 11];
    let mut start = decimal.len();
    let mut rest = index;
    loop {
        start -= 1;
        decimal[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    start -= 1;
    decimal[start] = b'-';
    Md5::new()
        .chain_update(name.as_bytes())
        .chain_update(&decimal[start..])
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::{Ketama, digest};
    use crate::routing::Member;

    fn member(position: u32, name: &str, weight: u32) -> Member {
        Member {
            position,
            name: name.into(),
            weight,
            live: true,
        }
    }

    #[test]
    fn the_points_of_server1_8_are_libketamas() {
        let digest = digest("server1", 8);
        let points = digest.as_chunks::<4>().0;
        assert_eq!(u32::from_le_bytes(points[0]), 3_853_726_576);
        assert_eq!(u32::from_le_bytes(points[3]), 2_667_054_752);
    }

    #[test]
    fn a_digest_hashes_the_name_and_the_decimal_index() {
        use md5::{Digest, Md5};
        for index in [0, 9, 10, 39, 1_000, u32::MAX] {
            let text = format!("cache-a-{index}");
            assert_eq!(digest("cache-a", index)[..], Md5::digest(text)[..]);
        }
    }

    /// The owner by the definition: the first point at or after the hash, wrapping to the first of all.
    fn owner(points: &[u64], hash: u32) -> Option<usize> {
        let after = points.iter().find(|&&point| point >> 32 >= u64::from(hash));
        after
            .or(points.first())
            .map(|point| (point & u64::from(u32::MAX)) as usize)
    }

    #[test]
    fn every_hash_finds_the_first_point_at_or_after_it_and_the_ring_wraps() {
        for servers in [1, 2, 3, 7, 100] {
            let mut ring = Ketama::new(servers as usize);
            let mut members: Vec<Member> = (0..servers)
                .map(|n| member(servers - 1 - n, &format!("s{n}"), 1 + n % 3))
                .collect();
            // The last round has one server less.
            for live in [true, servers == 1] {
                members[0].live = live;
                ring.rebuild(&members);
                let points = ring.points[..ring.points.len() - 1].to_vec();
                assert!(points.is_sorted_by_key(|point| point >> 32));
                let edges = points.iter().map(|point| (point >> 32) as u32);
                let around =
                    edges.flat_map(|edge| [edge.saturating_sub(1), edge, edge.saturating_add(1)]);
                for hash in around.chain([0, 1, u32::MAX - 1, u32::MAX]) {
                    assert_eq!(ring.find(hash), owner(&points, hash), "{servers}: {hash}");
                }
            }
        }
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        assert_eq!(Ketama::new(3).find(7), None);
    }

    #[test]
    fn the_reserved_room_holds_every_mix_of_weights() {
        for servers in 1..60_u32 {
            let members: Vec<Member> = (0..servers)
                .map(|n| member(n, &format!("s{n}"), 1 + n * n % 97))
                .collect();
            let mut ring = Ketama::new(servers as usize);
            let before = ring.points.capacity();
            ring.rebuild(&members);
            assert_eq!(ring.points.capacity(), before);
        }
    }
}
