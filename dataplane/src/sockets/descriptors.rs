//! Which of the process's file descriptors clients may have: not those that servers need. Clients come by themselves and stay;
//! without this a server connection that broke could not be opened again until one of them leaves.

use crate::sockets::limits::{
    CLIENTS_PART_DIVISOR, OWN_DESCRIPTORS, SERVERS_PART_DIVISOR, SPARE_DESCRIPTORS,
};
use nix::sys::resource::{Resource, getrlimit};
use tidegate_config::Config;

/// The file descriptors of a worker and what they are needed for.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    /// Most that may be open (`ulimit -n`).
    pub limit: u64,
    /// The worker's own, listeners included.
    pub own: u64,
    /// Server connections that are open all the time: [`servers_needed`].
    pub servers_needed: u64,
    /// `server_connections_max`.
    pub servers_max: u64,
}

impl Descriptors {
    /// Those of a worker of this configuration, as far as that can be said before it runs.
    pub fn planned(config: &Config, limit: u64) -> Self {
        Self {
            limit,
            own: OWN_DESCRIPTORS + config.listeners().count() as u64,
            servers_needed: servers_needed(config),
            servers_max: config.worker.server_connections_max.into(),
        }
    }

    /// Most clients at once; at least one. They get half of what is not the worker's own even if the servers need more.
    pub fn clients(&self) -> u64 {
        let free = self.limit.saturating_sub(self.own);
        let needed = self.servers_needed.min(free / CLIENTS_PART_DIVISOR);
        let held_back = self
            .servers_max
            .min(needed.max(free / SERVERS_PART_DIVISOR));
        (free - held_back).max(1)
    }
}

/// The connections that all servers of a configuration need.
pub fn servers_needed(config: &Config) -> u64 {
    let pools = config.pools.iter();
    pools
        .map(|pool| pool.servers.len() as u64 * u64::from(pool.server_connections))
        .sum()
}

/// Descriptors that this process may open. Unknown: as many as it likes, until accepting fails.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// What a worker keeps for itself: what is open when its network is built and a few more, or the planned number if that is more.
pub(crate) fn own(listeners: usize) -> u64 {
    // Without /proc the planned number has to do.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    (open + SPARE_DESCRIPTORS).max(OWN_DESCRIPTORS + listeners as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(limit: u64, servers_needed: u64, servers_max: u64) -> u64 {
        let own = 20;
        let descriptors = Descriptors {
            limit,
            own,
            servers_needed,
            servers_max,
        };
        descriptors.clients()
    }

    #[test]
    fn servers_get_all_that_they_may_have_or_a_quarter() {
        assert_eq!(clients(10_020, 2, 256), 10_000 - 256);
        assert_eq!(clients(60, 2, 256), 30);
        assert_eq!(clients(60, 2, 5), 35);
    }

    #[test]
    fn servers_that_need_more_than_a_quarter_get_it_up_to_half() {
        assert_eq!(clients(60, 15, 256), 25);
        assert_eq!(clients(60, 39, 256), 20);
        assert_eq!(clients(60, 1_000, 1_000), 20);
    }

    #[test]
    fn one_client_is_always_served() {
        for limit in 0..=21 {
            assert_eq!(clients(limit, 4, 256), 1, "limit {limit}");
        }
    }

    #[test]
    fn no_limit_is_no_limit() {
        assert!(clients(u64::MAX, 4, 256) > u64::from(u32::MAX));
    }
}
