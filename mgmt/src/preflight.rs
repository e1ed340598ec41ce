//! Everything that has to be right before anything is changed. All faults are found, not only the first.

use crate::capabilities::{self, Engine};
use crate::host::{Host, System};
use crate::netlink::query::Query;
use crate::pci::lifelines::{Lifelines, above};
use crate::plan::Facts;
use crate::sockets::preflight::Taken;
use crate::{kernel_listeners, sockets};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{User, geteuid};
use std::net::{IpAddr, SocketAddr};
use tidegate_channel::message::UserIds;
use tidegate_config::{Config, Listen, Pmd, PortConfig, Table};
use tidegate_dataplane::dpdk::Foreseen;

/// Who workers become when the configuration does not say.
const DEFAULT_USER: &str = "nobody";

/// Capabilities that are missing. Kernel sockets need none.
pub fn privileges(config: &Config) -> Vec<String> {
    if config.kernel_port().is_some() {
        return Vec::new();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match capabilities::effective(&status) {
        Some(effective) => capabilities::missing(Engine::of(config), effective, memory_lock_is_unlimited()),
        None => vec!["cannot read the capabilities of this process from /proc/self/status: is /proc mounted?".into()],
    }
}

fn memory_lock_is_unlimited() -> bool {
    getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == nix::libc::RLIM_INFINITY)
}

/// Packet buffers are locked memory. Workers inherit the limit, and the capability that stands in for it until they have
/// opened their sockets.
pub fn raise_memory_lock() {
    let unlimited = nix::libc::RLIM_INFINITY;
    if setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited).is_ok()
        || memory_lock_is_unlimited()
    {
        return;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !capabilities::effective(&status).is_some_and(capabilities::locks_memory) {
        tracing::warn!(
            "RLIMIT_MEMLOCK cannot be raised: large rings may not fit (CAP_SYS_RESOURCE, or ulimit -l unlimited)"
        );
    }
}

/// What is allowed on this machine and probably not meant.
pub fn warnings(config: &Config) -> Vec<String> {
    match config.kernel_port() {
        Some(_) => sockets::preflight::warnings(config),
        None => Vec::new(),
    }
}

/// Buffers of a worker that this machine cannot have: a worker takes their memory when it starts, and would end there.
pub fn memory(config: &Config) -> Option<String> {
    let ram = sysinfo()
        .ok()
        .map(|info| info.ram_total() + info.swap_total());
    let allowed = getrlimit(Resource::RLIMIT_AS).ok().map(|(soft, _)| soft);
    too_large(config, ram, allowed)
}

fn too_large(config: &Config, ram: Option<u64>, allowed: Option<u64>) -> Option<String> {
    let worker = &config.worker;
    let bytes = worker.buffer_bytes();
    let mib = |bytes: u64| bytes >> 20;
    let (what, most) = [
        ("this machine has", ram),
        ("a process may have (ulimit -v)", allowed),
    ]
    .into_iter()
    .filter_map(|(what, most)| Some((what, most?)))
    .find(|(_, most)| bytes > *most)?;
    Some(format!(
        "{}the buffers of each worker take {} MiB, more than the {} MiB that {what}: lower clients_max ({}), client_buffer_bytes ({}), \
         server_connections_max ({}), server_buffer_bytes ({}) or reply_hold_bytes ({})",
        config.place(Table::Worker, "clients_max"),
        mib(bytes),
        mib(most),
        worker.clients_max,
        worker.client_buffer_bytes,
        worker.server_connections_max,
        worker.server_buffer_bytes,
        worker.reply_hold_bytes,
    ))
}

/// Who workers become. `None`: they stay who we are, since bytes over kernel sockets need no root.
pub fn user(config: &Config) -> Result<Option<UserIds>, String> {
    if config.kernel_port().is_none() || geteuid().is_root() {
        return unprivileged(config).map(Some);
    }
    Ok(None)
}

fn unprivileged(config: &Config) -> Result<UserIds, String> {
    let name = config.worker.user.as_deref().unwrap_or(DEFAULT_USER);
    let place = match config.worker.user {
        Some(_) => config.place(Table::Worker, "user"),
        None => String::new(),
    };
    match User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => Err(format!(
            "{place}user {name:?} is root: workers need an unprivileged one"
        )),
        Ok(Some(user)) => Ok(UserIds {
            name: name.to_owned(),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }),
        Ok(None) => Err(format!(
            "{place}user {name:?} does not exist: create it, or set worker.user to another"
        )),
        Err(error) => Err(format!("user {name:?} cannot be looked up: {error}")),
    }
}

/// What will keep devices of DPDK from being opened, as far as it shows now. While an instance runs, what it has is not missing.
pub fn devices(config: &Config, taken: Taken) -> Vec<String> {
    if !config.is_on_dpdk() {
        return Vec::new();
    }
    let foreseen = tidegate_dataplane::dpdk::foresee(config).into_iter();
    let foreseen = foreseen.filter(|foreseen| taken == Taken::IsAFault || !foreseen.passes);
    let told = foreseen.map(|Foreseen { key, what, .. }| match key {
        Some((port, key)) => format!("{}{what}", config.place(Table::Port(port), key)),
        None => what,
    });
    told.collect()
}

/// Faults of addresses: listened on but not on a port of ours, taken by a kernel socket, or ours where a server should be.
pub fn addresses(config: &Config, facts: &Facts, taken: Taken) -> Vec<String> {
    if config.kernel_port().is_some() {
        return sockets::preflight::addresses(config, taken);
    }
    // The kernel knows neither these addresses nor who listens there.
    if config.is_on_dpdk() {
        return lifelines(config, &System::new());
    }
    let own = match Query::open().and_then(|mut query| query.addresses()) {
        Ok(own) => own,
        Err(error) => return vec![format!("cannot ask the kernel for its addresses: {error}")],
    };
    let ports: Vec<u32> = facts
        .nics
        .values()
        .flatten()
        .map(|nic| nic.ifindex)
        .collect();
    // An interface that is missing may be the one with the address: that fault is enough.
    let ports = (ports.len() == facts.nics.len()).then_some(ports);
    check_addresses(config, ports.as_deref(), &own, &kernel_listeners::all())
}

/// Interfaces that DPDK's own program would take all frames of, ssh's included.
fn lifelines(config: &Config, host: &dyn Host) -> Vec<String> {
    let takes_all = |(_, port): &(usize, &PortConfig)| {
        let dpdk = port.dpdk.as_ref();
        dpdk.is_some_and(|dpdk| dpdk.pmd == Pmd::AfXdp)
    };
    let mut ports = config.ports.iter().enumerate().filter(takes_all).peekable();
    if ports.peek().is_none() {
        return Vec::new();
    }
    let lifelines = match Lifelines::gather(host) {
        Ok(lifelines) => lifelines,
        Err(error) => {
            return vec![format!(
                "cannot ask the kernel what the ports carry: {error}"
            )];
        }
    };
    let faults = ports.flat_map(|(index, port)| {
        let name = &port.interface;
        let place = config.place(Table::Port(index), "interface");
        let names = std::iter::once(name.clone()).chain(above(host, name));
        let indexes: Vec<u32> = names.filter_map(|name| host.index(&name)).collect();
        let carried = lifelines.over(&indexes).into_iter();
        carried.map(move |carried| {
            format!(
                "{place}{name} carries {carried}, which pmd = \"af_xdp\" would cut: it takes every frame; driver = \"afxdp\" leaves the kernel \
                 its own"
            )
        })
    });
    faults.collect()
}

fn check_addresses(
    config: &Config,
    ports: Option<&[u32]>,
    own: &[(u32, IpAddr)],
    listeners: &[SocketAddr],
) -> Vec<String> {
    let mut faults = Vec::new();
    let interfaces: Vec<&str> = config
        .ports
        .iter()
        .map(|port| port.interface.as_str())
        .collect();
    let interfaces = interfaces.join(", ");
    let on_port = |wanted: IpAddr| {
        ports.is_none_or(|ports| {
            own.iter()
                .any(|(ifindex, address)| *address == wanted && ports.contains(ifindex))
        })
    };
    for (index, pool, listen) in placed_listeners(config) {
        let Some(listen) = listen.endpoint.ip() else {
            continue;
        };
        let place = config.place_of(Table::Pool(pool), "listen", index);
        let pool = &config.pools[pool].name;
        if !on_port(listen.ip()) {
            let prefix = if listen.is_ipv4() { 32 } else { 128 };
            faults.push(format!(
                "{place}pool {pool}: listen address {} is not on {interfaces}: ip addr add {}/{prefix} dev {}",
                listen.ip(),
                listen.ip(),
                config.ports[0].interface
            ));
        }
        if let Some(taken) = kernel_listeners::conflict(listeners, listen) {
            faults.push(format!(
                "{place}pool {pool}: {listen} is in use: a kernel socket listens on {taken} (ss -ltnp sport = :{} shows whose)",
                listen.port()
            ));
        }
    }
    if let Some(source) = config.worker.source_address
        && !on_port(source)
    {
        faults.push(format!(
            "{}worker.source_address {source} is not on {interfaces}",
            config.place(Table::Worker, "source_address")
        ));
    }
    for (index, pool) in config.pools.iter().enumerate() {
        for (position, server) in pool.servers.iter().enumerate() {
            let ip = server.address.ip().map(|address| address.ip());
            if own.iter().any(|(_, address)| Some(*address) == ip) {
                faults.push(format!(
                    "{}pool {}: server {} is an address of this host: a server has to be another machine",
                    config.place_of(Table::Pool(index), "servers", position),
                    pool.name,
                    server.address
                ));
            }
        }
    }
    faults
}

/// Listening addresses with their position in their pool, and that of the pool.
pub fn placed_listeners(config: &Config) -> impl Iterator<Item = (usize, usize, &Listen)> {
    config.pools.iter().enumerate().flat_map(|(pool, of_pool)| {
        let listen = of_pool.listen.iter().enumerate();
        listen.map(move |(index, listen)| (index, pool, listen))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, card};
    use crate::netlink::answer::TableEntry;

    fn config() -> Config {
        let text = r#"
            [[port]]
            interface = "eth1"
            queues = { 0 = 0 }
            [[pool]]
            name = "sessions"
            listen = ["10.0.0.10:11211", "[2001:db8::10]:11211"]
            protocol = "memcached"
            servers = ["10.0.1.11:11211:1"]
        "#;
        Config::parse(text, "test").unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn buffers_that_the_machine_cannot_have_are_a_fault() {
        let mut config = config();
        let bytes = config.worker.buffer_bytes();
        assert_eq!(too_large(&config, None, None), None);
        assert_eq!(too_large(&config, Some(bytes), Some(u64::MAX)), None);
        let fault = too_large(&config, Some(bytes - 1), None).unwrap();
        assert!(
            fault.contains("that this machine has: lower clients_max (16384)"),
            "{fault}"
        );
        let fault = too_large(&config, Some(bytes), Some(64 << 20)).unwrap();
        assert!(
            fault.contains("the 64 MiB that a process may have (ulimit -v)"),
            "{fault}"
        );
        // Two tebibytes: no machine of a test.
        config.worker.clients_max = 1 << 20;
        config.worker.client_buffer_bytes = 1 << 20;
        assert!(memory(&config).is_some());
    }

    #[test]
    fn addresses_on_the_port_that_nobody_listens_on_are_fine() {
        let own = [(3, ip("10.0.0.10")), (3, ip("2001:db8::10"))];
        let listeners = ["10.0.0.10:22".parse().unwrap()];
        assert_eq!(
            check_addresses(&config(), Some(&[3]), &own, &listeners),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_address_that_is_missing_taken_or_our_own_is_named() {
        let own = [
            (3, ip("10.0.0.10")),
            (4, ip("2001:db8::10")),
            (1, ip("10.0.1.11")),
        ];
        let listeners = ["0.0.0.0:11211".parse().unwrap()];
        let faults = check_addresses(&config(), Some(&[3]), &own, &listeners).join("\n");
        for expected in [
            "2001:db8::10 is not on eth1: ip addr add 2001:db8::10/128 dev eth1",
            "10.0.0.10:11211 is in use: a kernel socket listens on 0.0.0.0:11211",
            "server 10.0.1.11:11211 is an address of this host",
        ] {
            assert!(
                faults.contains(expected),
                "{expected:?} is not in\n{faults}"
            );
        }
        assert!(!faults.contains("10.0.0.10 is not on"), "{faults}");
    }

    #[test]
    fn with_an_interface_missing_the_other_faults_are_still_found() {
        let own = [(1, ip("10.0.1.11"))];
        let listeners = ["10.0.0.10:11211".parse().unwrap()];
        let faults = check_addresses(&config(), None, &own, &listeners).join("\n");
        assert!(
            faults.contains("is in use") && faults.contains("address of this host"),
            "{faults}"
        );
        assert!(!faults.contains("is not on"), "{faults}");
    }

    #[test]
    fn an_interface_that_carries_the_default_route_is_not_given_to_dpdk() {
        let text = |pmd: &str| {
            format!(
                "[[port]]\ndriver = \"dpdk\"\ninterface = \"eth1\"\npmd = \"{pmd}\"\naddresses = [\"192.0.2.10/24\"]\nqueues = {{ 0 = 0 }}\n\
                 [[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.10:1\"\nservers = [\"192.0.2.11:1\"]\n"
            )
        };
        let host = FakeHost::new("preflight-lifelines");
        card(&host, "eth1", 3);
        let faults = |pmd: &str| lifelines(&Config::parse(&text(pmd), "test").unwrap(), &host);
        assert_eq!(faults("af_xdp"), Vec::<String>::new());
        host.network.borrow_mut().routes = vec![TableEntry {
            interfaces: vec![3],
            prefix_bits: 0,
            by_kernel: false,
        }];
        let found = faults("af_xdp").join("\n");
        assert!(
            found.starts_with("test:3:13: eth1 carries the default route"),
            "{found}"
        );
        assert_eq!(faults("af_packet"), Vec::<String>::new());
    }

    #[test]
    fn a_user_that_does_not_exist_is_named() {
        let mut config = config();
        config.worker.user = Some("no-such-user-here".into());
        assert!(
            unprivileged(&config)
                .unwrap_err()
                .contains("no-such-user-here")
        );
        config.worker.user = Some("root".into());
        assert!(unprivileged(&config).unwrap_err().contains("is root"));
        config.worker.user = None;
        assert_ne!(unprivileged(&config).unwrap().uid, 0);
    }
}
