//! Open files: every connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tidegate_config::Config;
use tidegate_dataplane::sockets::descriptors::Descriptors;

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
    let descriptors = Descriptors::planned(config, limit);
    let needed = u64::from(clients) + u64::from(servers) + descriptors.own;
    let at_once = descriptors.clients().min(clients.into());
    (needed > limit).then(|| {
        format!(
            "a worker may open {limit} files, and clients_max = {clients} and server_connections_max = {servers} need {needed}: \
             it serves at most {at_once} clients at once, others wait to be accepted; raise the limit (ulimit -n {needed}, LimitNOFILE={needed}) or lower clients_max"
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
        assert_eq!(too_few(&config, 1_049), None);
        let warning = too_few(&config, 1_048).unwrap();
        for part in [
            "1048",
            "clients_max = 1000",
            "at most 999 clients",
            "ulimit -n 1049",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
    }
}
