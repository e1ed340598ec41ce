//! Any live server, per request; weights do not count, as in twemproxy.

use super::Member;

/// Live servers and the state of a small generator.
pub(super) struct Random {
    live: Vec<u32>,
    state: u64,
}

impl Random {
    /// Nothing live, room for `servers` servers.
    pub(super) fn new(servers: usize, seed: u64) -> Self {
        Self {
            live: Vec::with_capacity(servers),
            state: seed,
        }
    }

    /// Takes up the live members, in place.
    pub(super) fn rebuild(&mut self, members: &[Member]) {
        self.live.clear();
        self.live.extend(
            members
                .iter()
                .filter(|member| member.live)
                .map(|m| m.position),
        );
    }

    /// The next server, as its position in the file; `None` when nothing is live.
    pub(super) fn next(&mut self) -> Option<usize> {
        let high = u128::from(self.step()) * self.live.len() as u128;
        self.live
            .get((high >> 64) as usize)
            .map(|&position| position as usize)
    }

    /// One step of `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    fn step(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;
    use crate::routing::Member;

    #[test]
    fn every_live_server_gets_its_share_and_no_other_gets_any() {
        let members =
            [(4, true), (1, false), (0, true), (2, true)].map(|(position, live)| Member {
                position,
                name: String::new().into(),
                weight: 1 + position * 100,
                live,
            });
        let mut random = Random::new(members.len(), 42);
        random.rebuild(&members);
        let mut hits = [0_u32; 5];
        for _ in 0..3_000 {
            if let Some(position) = random.next() {
                hits[position] += 1;
            }
        }
        assert_eq!(hits[1] + hits[3], 0);
        for position in [0, 2, 4] {
            assert!((900..1_100).contains(&hits[position]), "{hits:?}");
        }
    }

    #[test]
    fn nothing_live_owns_nothing() {
        assert_eq!(Random::new(3, 7).next(), None);
    }
}
