//! What the appliance's kernel tells of sockets.

use super::arena::WORKERS;
use crate::lab::addresses::Family;
use crate::lab::servers::ServerKind;
use crate::netns::Namespace;
use crate::plan::Plan;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

/// Whether both pools have as many listeners as there are workers. Sockets of a process that died are gone.
pub(super) fn everybody_listens(appliance: &Namespace) -> bool {
    let sockets = appliance.run(|| fs::read_to_string("/proc/thread-self/net/tcp"));
    let sockets = sockets.unwrap_or_default();
    [ServerKind::Memcached, ServerKind::Redis]
        .map(|kind| Plan::Lab.pool(kind, Family::V4).port())
        .into_iter()
        .all(|port| listeners(&sockets, port) >= usize::from(WORKERS))
}

/// The listeners on `port` in a `/proc/net/tcp`.
fn listeners(sockets: &str, port: u16) -> usize {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let listens = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [_, local, _, LISTEN, ..] if local.ends_with(&suffix))
    };
    sockets.lines().filter(listens).count()
}

/// The other ends of the connections of process `pid` in what `ss` prints: two queues, both ends, who has it.
pub(super) fn clients_of(pid: i32, sockets: &str) -> BTreeSet<SocketAddr> {
    let process = format!("pid={pid},");
    let client = |line: &str| -> Option<SocketAddr> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, peer, who] = fields[..] else {
            return None;
        };
        who.contains(&process).then(|| peer.parse().ok())?
    };
    sockets.lines().filter_map(client).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_counted_by_port() {
        let sockets = "  sl  local_address rem_address   st tx_queue\n\
            0: 0A014D0A:18EB 00000000:0000 0A 00000000:00000000\n\
            1: 0A014D0A:18EB 00000000:0000 0A 00000000:00000000\n\
            2: 0A014D0A:18EB 65014D0A:9C40 01 00000000:00000000\n\
            3: 0A014D0A:2BCB 00000000:0000 0A 00000000:00000000\n";
        assert_eq!(listeners(sockets, 6_379), 2);
        assert_eq!(listeners(sockets, 11_211), 1);
        assert_eq!(listeners(sockets, 80), 0);
    }

    #[test]
    fn connections_are_told_apart_by_their_process() {
        let sockets = "0 0 10.77.1.10:6379 10.77.1.101:4000 users:((\"tidegate\",pid=12,fd=9))\n\
            0 0 10.77.1.10:6379 10.77.1.101:4001 users:((\"tidegate\",pid=123,fd=9))\n\
            0 0 [fd77:1::10]:6379 [fd77:1::101]:4002 users:((\"tidegate\",pid=12,fd=10))\n\
            0 0 10.77.2.1:5000 10.77.2.21:6379\n";
        let expected: BTreeSet<SocketAddr> = ["10.77.1.101:4000", "[fd77:1::101]:4002"]
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        assert_eq!(clients_of(12, sockets), expected);
    }
}
