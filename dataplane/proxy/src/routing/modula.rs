//! Hash modulo the sum of weights: adding a server moves nearly every key.

use super::Member;

/// Live servers with the sum of weights up to and including each. twemproxy repeats each server `weight` times in an array;
/// the sums find the same entry without the array.
pub(super) struct Modula {
    sums: Vec<(u64, u32)>,
}

impl Modula {
    /// Nothing live, room for `servers` servers.
    pub(super) fn new(servers: usize) -> Self {
        Self {
            sums: Vec::with_capacity(servers),
        }
    }

    /// Takes up the live members, in place. `members` are in twemproxy's order.
    pub(super) fn rebuild(&mut self, members: &[Member]) {
        self.sums.clear();
        let mut sum = 0;
        for member in members.iter().filter(|member| member.live) {
            sum += u64::from(member.weight);
            self.sums.push((sum, member.position));
        }
    }

    /// The server of a hash value, as its position in the file; `None` when nothing is live.
    pub(super) fn find(&self, hash: u32) -> Option<usize> {
        let &(total, _) = self.sums.last()?;
        let entry = u64::from(hash) % total;
        let index = self.sums.partition_point(|&(sum, _)| sum <= entry);
        self.sums.get(index).map(|&(_, position)| position as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::Modula;
    use crate::routing::Member;

    #[test]
    fn each_server_owns_as_many_residues_as_it_weighs() {
        let members = [(5, 3, true), (9, 4, false), (2, 1, true), (7, 2, true)].map(
            |(position, weight, live)| Member {
                position,
                name: String::new().into(),
                weight,
                live,
            },
        );
        let mut modula = Modula::new(members.len());
        modula.rebuild(&members);
        let found: Vec<usize> = (0..12).filter_map(|hash| modula.find(hash)).collect();
        assert_eq!(found, [5, 5, 5, 2, 7, 7, 5, 5, 5, 2, 7, 7]);
    }

    #[test]
    fn nothing_live_owns_nothing() {
        assert_eq!(Modula::new(3).find(7), None);
    }
}
