//! How the objects of a configuration have to fit together.

mod dpdk;

use crate::address;
use crate::config::Draft;
use crate::endpoint::{Endpoint, Listen};
use crate::fault::Faults;
use crate::limits::{
    IPV6_MTU_BYTES_MIN, LISTENERS_MAX, PORTS_MAX, SEGMENT_BYTES_MIN, SERVERS_MAX,
    SOURCE_PORTS_PER_WORKER_MIN,
};
use crate::port::Driver;
use crate::queues;
use std::collections::BTreeMap;

/// Checks everything that takes more than one object to see.
pub(crate) fn check(draft: &Draft, faults: &Faults<'_>) {
    pools_differ(draft, faults);
    // Each is compared with all others: not while there are more than there may be.
    if numbers_fit(draft, faults) {
        listeners_differ(draft, faults);
        servers_are_not_ourselves(draft, faults);
    }
    page_is_not_a_pool(draft, faults);
    clients(draft, faults);
    server_connections(draft, faults);
    if uses_kernel(draft) {
        kernel_port_is_alone(draft, faults);
    } else {
        ports_differ(draft, faults);
        same_queues(draft, faults);
        only_addresses(draft, faults);
        no_backlog(draft, faults);
        source_ports(draft, faults);
        rings_hold_a_window(draft, faults);
        mtu_carries_ipv6(draft, faults);
        dpdk::check(draft, faults);
    }
}

fn uses_kernel(draft: &Draft) -> bool {
    let mut ports = draft.ports.iter();
    ports.any(|port| port.config.driver == Driver::Kernel)
}

/// Kernel sockets reach every interface; and a worker waits in epoll or polls a NIC, not both.
fn kernel_port_is_alone(draft: &Draft, faults: &Faults<'_>) {
    for port in draft.ports.iter().skip(1) {
        faults.value(
            port.at,
            format!(
                "{}: a file with driver = \"kernel\" has one [[port]]: kernel sockets reach every interface",
                port.label
            ),
        );
    }
}

/// Frames carry neither Unix sockets nor "every address".
fn only_addresses(draft: &Draft, faults: &Faults<'_>) {
    const UNIX: &str = "a Unix socket cannot be reached over a network interface; write ADDRESS:PORT, or driver = \"kernel\"";
    for (listen, at, label) in listeners(draft) {
        match &listen.endpoint {
            Endpoint::Unix(path) => {
                faults.value(at, format!("{label}: listen {}: {UNIX}", path.display()));
            }
            Endpoint::Ip(address) => {
                if let Err(error) = address::of_a_port(address.ip()) {
                    faults.value(at, format!("{label}: listen \"{address}\": {error}"));
                }
            }
        }
    }
    for pool in &draft.pools {
        for (server, &at) in pool.config.servers.iter().zip(&pool.servers_at) {
            if let Endpoint::Unix(path) = &server.address {
                let (label, path) = (&pool.label, path.display());
                faults.value(at, format!("{label}: server {path}: {UNIX}"));
            }
        }
    }
    let source = draft.worker.config.source_address.map(address::of_a_port);
    if let Some(Err(error)) = source {
        faults.value(
            draft.worker.source_address_at,
            format!("worker: source_address: {error}"),
        );
    }
}

fn no_backlog(draft: &Draft, faults: &Faults<'_>) {
    for pool in &draft.pools {
        if let Some(at) = pool.backlog.at {
            faults.value(
                at,
                format!(
                    "{}: backlog needs driver = \"kernel\"; half_open_max of [worker] is the limit here",
                    pool.label
                ),
            );
        }
    }
}

fn ports_differ(draft: &Draft, faults: &Faults<'_>) {
    let mut seen = BTreeMap::new();
    for port in draft.ports.iter().filter(|port| port.interface.sound) {
        let at = port.interface.at.unwrap_or(port.at);
        if let Some(first) = seen.insert(&port.config.interface, at) {
            faults.value(
                at,
                format!(
                    "{}: the interface is that of the port of line {}; each port needs its own",
                    port.label,
                    faults.line(first)
                ),
            );
        }
    }
}

fn same_queues(draft: &Draft, faults: &Faults<'_>) {
    let mut with_map = draft
        .ports
        .iter()
        .filter(|port| port.queues.sound)
        .filter_map(|port| Some((port, port.config.queues.map()?)));
    let Some((first, first_map)) = with_map.next() else {
        return;
    };
    for (port, map) in with_map {
        let errors = queues::compare(
            (&first.config.interface, first_map),
            (&port.config.interface, map),
        );
        for error in errors {
            faults.value(
                port.queues.at.unwrap_or(port.at),
                format!("{}: queues: {error}", port.label),
            );
        }
    }
}

fn pools_differ(draft: &Draft, faults: &Faults<'_>) {
    let mut seen = BTreeMap::new();
    for pool in draft.pools.iter().filter(|pool| pool.name.sound) {
        let at = pool.name.at.unwrap_or(pool.at);
        if let Some(first) = seen.insert(&pool.config.name, at) {
            faults.value(
                at,
                format!(
                    "{}: the name is that of the pool of line {}; each pool needs its own",
                    pool.label,
                    faults.line(first)
                ),
            );
        }
    }
}

/// Every listening address with its place and the label of its pool.
fn listeners(draft: &Draft) -> impl Iterator<Item = (&Listen, usize, &str)> {
    draft.pools.iter().flat_map(|pool| {
        let places = pool.config.listen.iter().zip(&pool.listen_at);
        places.map(|(listen, &at)| (listen, at, pool.label.as_str()))
    })
}

fn listeners_differ(draft: &Draft, faults: &Faults<'_>) {
    let mut seen: BTreeMap<&Endpoint, usize> = BTreeMap::new();
    for (listen, at, label) in listeners(draft) {
        let endpoint = &listen.endpoint;
        let first = seen.iter().find(|(first, _)| overlap(first, endpoint));
        if let Some((_, &first)) = first {
            faults.value(
                at,
                format!(
                    "{label}: listen {endpoint} is taken by line {}; each address belongs to one pool",
                    faults.line(first)
                ),
            );
        }
        seen.entry(endpoint).or_insert(at);
    }
}

/// Whether two endpoints cannot both be listened on: they are the same, or one is every address of the other's family.
fn overlap(a: &Endpoint, b: &Endpoint) -> bool {
    match (a.ip(), b.ip()) {
        (Some(a), Some(b)) => {
            let every = a.ip().is_unspecified() || b.ip().is_unspecified();
            a == b || (every && a.is_ipv4() == b.is_ipv4() && a.port() == b.port())
        }
        _ => a == b,
    }
}

/// The page has an address of its own.
fn page_is_not_a_pool(draft: &Draft, faults: &Faults<'_>) {
    let Some(http) = &draft.http.config else {
        return;
    };
    let page = Endpoint::Ip(http.listen);
    let taken = listeners(draft).find(|(listen, ..)| overlap(&listen.endpoint, &page));
    if let Some((_, listen_at, _)) = taken {
        faults.value(
            draft.http.at,
            format!(
                "http_listen = \"{}\" is taken by line {}: the status page needs an address of its own",
                http.listen,
                faults.line(listen_at)
            ),
        );
    }
}

/// A server that is one of our listening addresses would send every request round and round.
fn servers_are_not_ourselves(draft: &Draft, faults: &Faults<'_>) {
    for pool in &draft.pools {
        for (server, &at) in pool.config.servers.iter().zip(&pool.servers_at) {
            let own = listeners(draft).find(|(listen, ..)| leads_to(&server.address, listen));
            if let Some((_, listen_at, _)) = own {
                faults.value(
                    at,
                    format!(
                        "{}: server {} is the listening address of line {}; name the cache server itself",
                        pool.label,
                        server.address,
                        faults.line(listen_at)
                    ),
                );
            }
        }
    }
}

/// Whether a connection to `server` certainly ends at `listen`. Which addresses are ours is not known here, but for those of the
/// loopback interface.
fn leads_to(server: &Endpoint, listen: &Listen) -> bool {
    match (server.ip(), listen.endpoint.ip()) {
        (Some(to), Some(own)) if own.ip().is_unspecified() => {
            to.ip().is_loopback() && overlap(server, &listen.endpoint)
        }
        _ => *server == listen.endpoint,
    }
}

/// A frame for a source port is a reply, a frame for a listening port a request: no port may be both. And every worker needs
/// some of the source ports.
fn source_ports(draft: &Draft, faults: &Faults<'_>) {
    let field = &draft.worker.source_ports;
    if !field.sound {
        return;
    }
    let (first, last) = field.value;
    for (listen, at, label) in listeners(draft) {
        let Some(address) = listen.endpoint.ip() else {
            continue;
        };
        if (first..=last).contains(&address.port()) {
            faults.value(
                at,
                format!(
                    "{label}: listen {address} lies within source_ports = \"{first}-{last}\"; move one of them"
                ),
            );
        }
    }
    let workers = draft
        .ports
        .iter()
        .filter(|port| port.queues.sound)
        .find_map(|port| port.config.queues.map())
        .map_or(1, BTreeMap::len) as u32;
    let ports = u32::from(last - first) + 1;
    if let Some(at) = field.at
        && ports < workers * SOURCE_PORTS_PER_WORKER_MIN
    {
        faults.value(
            at,
            format!(
                "worker: source_ports = \"{first}-{last}\" are {ports} ports for {workers} workers; each needs {SOURCE_PORTS_PER_WORKER_MIN}"
            ),
        );
    }
}

/// A limit per pool means something only up to that of the worker.
fn clients(draft: &Draft, faults: &Faults<'_>) {
    let of_worker = &draft.worker.clients_max;
    for pool in draft.pools.iter().filter(|pool| pool.clients_max.sound) {
        if let (Some(clients), Some(at)) = (pool.clients_max.value, pool.clients_max.at)
            && of_worker.sound
            && clients > of_worker.value
        {
            faults.value(
                at,
                format!(
                    "{}: clients_max = {clients} must not exceed clients_max = {} of [worker]",
                    pool.label, of_worker.value
                ),
            );
        }
    }
}

fn server_connections(draft: &Draft, faults: &Faults<'_>) {
    let limit = &draft.worker.server_connections_max;
    let needed: u64 = draft
        .pools
        .iter()
        .map(|pool| pool.config.servers.len() as u64 * u64::from(pool.config.server_connections))
        .sum();
    if limit.sound && needed > u64::from(limit.value) {
        let at = limit
            .at
            .or(draft.pools.last().map(|pool| pool.at))
            .unwrap_or(0);
        faults.value(
            at,
            format!(
                "worker: server_connections_max = {} is less than the {needed} connections that the servers of all pools need (servers × server_connections); raise it above that, streamed requests, RESP3 and other databases take more",
                limit.value
            ),
        );
    }
}

/// A peer may send a whole window at once: the ring has to take it in segments of the smallest size.
fn rings_hold_a_window(draft: &Draft, faults: &Faults<'_>) {
    let buffers = [
        ("client_buffer_bytes", &draft.worker.client_buffer_bytes),
        ("server_buffer_bytes", &draft.worker.server_buffer_bytes),
    ];
    for port in draft.ports.iter().filter(|port| port.ring_size.sound) {
        let ring_size = u64::from(port.ring_size.value);
        for (name, buffer) in buffers {
            let segments = u64::from(buffer.value) / SEGMENT_BYTES_MIN;
            if buffer.sound && segments > ring_size {
                faults.value(
                    port.ring_size.at.or(buffer.at).unwrap_or(port.at),
                    format!(
                        "{}: ring_size = {ring_size} cannot take {name} = {} at once, which is {segments} segments of {SEGMENT_BYTES_MIN} bytes; ring_size must be at least {}",
                        port.label,
                        buffer.value,
                        segments.next_power_of_two()
                    ),
                );
            }
        }
    }
}

fn mtu_carries_ipv6(draft: &Draft, faults: &Faults<'_>) {
    let pools = || draft.pools.iter().map(|pool| &pool.config);
    let ipv6 = pools().any(|pool| {
        let listen = pool.listen.iter().map(|listen| &listen.endpoint);
        let servers = pool.servers.iter().map(|server| &server.address);
        let mut addresses = listen.chain(servers).filter_map(Endpoint::ip);
        addresses.any(|address| address.is_ipv6())
    });
    for port in draft.ports.iter().filter(|port| port.mtu_bytes.sound) {
        if let (true, Some(bytes), Some(at)) = (ipv6, port.mtu_bytes.value, port.mtu_bytes.at)
            && bytes < IPV6_MTU_BYTES_MIN
        {
            faults.value(
                at,
                format!(
                    "{}: mtu_bytes = {bytes} is too small for the IPv6 addresses of this file, which need {IPV6_MTU_BYTES_MIN}",
                    port.label
                ),
            );
        }
    }
}

/// Whether there is not more of anything than there may be.
fn numbers_fit(draft: &Draft, faults: &Faults<'_>) -> bool {
    let port = draft.ports.get(PORTS_MAX);
    let port = port.map(|port| (port.at, format!("more than {PORTS_MAX} ports")));
    let listener = listeners(draft).nth(LISTENERS_MAX);
    let listener =
        listener.map(|(_, at, _)| (at, format!("more than {LISTENERS_MAX} listening addresses")));
    let mut servers = draft.pools.iter().flat_map(|pool| &pool.servers_at);
    let server = servers.nth(SERVERS_MAX);
    let server = server.map(|&at| (at, format!("more than {SERVERS_MAX} servers in all pools")));
    let mut fit = true;
    for (at, what) in [port, listener, server].into_iter().flatten() {
        faults.value(at, what);
        fit = false;
    }
    fit
}
