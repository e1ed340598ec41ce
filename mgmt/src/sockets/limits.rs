//! Open files: every connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tidegate_config::Config;

/// Descriptors of a worker that are no connections. Why 64: log, control socket, epoll, bell, memory files and what the
/// libraries open are about a dozen; listening sockets are counted by themselves. Too low: the last clients are refused though
/// the warning did not come. Too high: it comes for nothing.
const RESERVE: u64 = 64;

/// Raises the limit as far as it goes without privileges. Workers inherit it.
pub fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("the limit of open files stays {soft}: {}", error.desc());
    }
}

/// The limit that [`raise_open_files`] would reach.
pub fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// What to say when a worker may need more descriptors than it gets.
pub fn too_few(config: &Config, limit: u64) -> Option<String> {
    let worker = &config.worker;
    let (clients, servers) = (worker.clients_max, worker.server_connections_max);
    let listeners = config.listeners().count() as u64;
    let needed = u64::from(clients) + u64::from(servers) + listeners + RESERVE;
    (needed > limit).then(|| {
        format!(
            "a worker may open {limit} files, and clients_max = {clients} and server_connections_max = {servers} need {needed}: \
             clients beyond that wait to be accepted; raise the limit (ulimit -n {needed}, LimitNOFILE={needed}) or lower clients_max"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_the_sum_is_named_with_the_sum() {
        let text = "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\n\
            listen = \"127.0.0.1:1\"\nservers = [\"127.0.0.1:2\"]\n[worker]\nclients_max = 1000\nserver_connections_max = 24\n";
        let config = Config::parse(text, "test").unwrap();
        assert_eq!(too_few(&config, 1_089), None);
        let warning = too_few(&config, 1_088).unwrap();
        for part in ["1088", "clients_max = 1000", "ulimit -n 1089"] {
            assert!(warning.contains(part), "{warning}");
        }
    }
}
