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
pub(super) struct Ketama {
    points: Vec<u64>,
}

impl Ketama {
    /// An empty ring with room for `servers` servers.
    pub(super) fn new(servers: usize) -> Self {
        Self {
            points: Vec::with_capacity(servers * POINTS_RESERVED_PER_SERVER),
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
    }

    /// The server of a hash value, as its position in the file; `None` when the ring is empty.
    pub(super) fn find(&self, hash: u32) -> Option<usize> {
        let wanted = u64::from(hash) << 32;
        let index = self.points.partition_point(|&point| point < wanted);
        let point = self.points.get(index).or_else(|| self.points.first())?;
        Some((point & u64::from(u32::MAX)) as usize)
    }
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

    #[test]
    fn the_ring_wraps_to_its_first_point() {
        let mut ring = Ketama::new(2);
        ring.rebuild(&[member(1, "a", 1), member(0, "b", 1)]);
        assert_eq!(ring.points.len(), 320);
        assert!(ring.points.is_sorted_by_key(|point| point >> 32));
        let last = (ring.points[319] >> 32) as u32;
        let first = ring.points[0] & 0xffff_ffff;
        assert!(last < u32::MAX);
        assert_eq!(ring.find(last + 1), Some(first as usize));
        assert_eq!(ring.find(0), Some(first as usize));
        let owner = ring.points[319] & 0xffff_ffff;
        assert_eq!(
            ring.find(last),
            Some(owner as usize),
            "a point owns its own value"
        );
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
