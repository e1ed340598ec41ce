//! Turns what the kernel knows into the path table.

use super::answer::{Neighbour, Route};
use super::query::Query;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tidegate_channel::message::mac_text;
use tidegate_channel::paths::{PathEntry, PathWriter};

/// What the mirror asks: the kernel; on DPDK the configuration and what the first worker found; or a test.
pub trait Kernel {
    /// How `destination` is reached.
    fn route(&mut self, destination: IpAddr) -> io::Result<Option<Route>>;
    /// What is known of a neighbour.
    fn neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<Option<Neighbour>>;
    /// Resolve or confirm a neighbour.
    fn use_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()>;
    /// Confirm a neighbour, although it is known.
    fn probe_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()>;
}

/// The shortest time between two confirmations of one neighbour: as the kernel asks, a second apart.
const DOUBT_INTERVAL: Duration = Duration::from_secs(1);

impl Kernel for Query {
    fn route(&mut self, destination: IpAddr) -> io::Result<Option<Route>> {
        Query::route(self, destination)
    }

    fn neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
        Query::neighbour(self, ifindex, address)
    }

    fn use_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        Query::use_neighbour(self, ifindex, address)
    }

    fn probe_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        Query::probe_neighbour(self, ifindex, address)
    }
}

/// How an address is reached, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This way.
    Path {
        /// Index of the port.
        port: u8,
        /// Our address.
        source: IpAddr,
        /// The next hop.
        next_hop_mac: [u8; 6],
    },
    /// The kernel is finding out about this next hop.
    Resolving(IpAddr),
    /// This next hop does not answer.
    Silent(IpAddr),
    /// Not now, for this reason.
    Not(String),
}

/// Mirrors routes and neighbours of all servers.
pub struct Mirror {
    servers: Vec<SocketAddr>,
    /// Interface index → index of the port.
    ports: BTreeMap<u32, u8>,
    source: Option<IpAddr>,
    /// What was last found, by address: to say each change once.
    seen: BTreeMap<IpAddr, Reach>,
    /// When next hops were last in doubt. There are no more than servers.
    doubted: BTreeMap<IpAddr, Instant>,
}

/// What a look at the kernel brought.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// The path table changed.
    pub changed: bool,
    /// Source addresses in use.
    pub sources: BTreeSet<IpAddr>,
    /// Some neighbour is not resolved: look again soon.
    pub unresolved: bool,
}

impl Mirror {
    /// Mirrors the way to `servers` through the interfaces of `ports`, in the order of the configuration.
    pub fn new(servers: Vec<SocketAddr>, ports: &[u32], source: Option<IpAddr>) -> Self {
        let ports = ports
            .iter()
            .zip(0..)
            .map(|(ifindex, port)| (*ifindex, port))
            .collect();
        Self {
            servers,
            ports,
            source,
            seen: BTreeMap::new(),
            doubted: BTreeMap::new(),
        }
    }

    /// A server that is reached does not answer: its next hop is confirmed, at most once a second. Who says so is another process, so
    /// nobody but a server of ours is asked for.
    pub fn doubt(
        &mut self,
        kernel: &mut impl Kernel,
        server: IpAddr,
        now: Instant,
    ) -> io::Result<()> {
        if !matches!(self.seen.get(&server), Some(Reach::Path { .. })) {
            return Ok(());
        }
        let Some(route) = kernel.route(server)? else {
            return Ok(());
        };
        let next_hop = route.gateway.unwrap_or(server);
        let before = self.doubted.get(&next_hop);
        if before.is_some_and(|before| now < *before + DOUBT_INTERVAL) {
            return Ok(());
        }
        self.doubted.retain(|_, at| now < *at + DOUBT_INTERVAL);
        self.doubted.insert(next_hop, now);
        kernel.probe_neighbour(route.ifindex, next_hop)
    }

    /// Asks the kernel for the way to every server and updates the table.
    pub fn refresh(&mut self, kernel: &mut impl Kernel, table: &mut PathWriter) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let mut reach = BTreeMap::new();
        for (index, server) in self.servers.iter().enumerate() {
            let found = reach.entry(server.ip()).or_insert_with(|| {
                self.reach(kernel, server.ip(), &mut refreshed.unresolved)
                    .unwrap_or_else(|error| Reach::Not(format!("netlink: {error}")))
            });
            let entry = match found {
                Reach::Path {
                    port,
                    source,
                    next_hop_mac,
                } => {
                    refreshed.sources.insert(*source);
                    Some(PathEntry {
                        port: *port,
                        source: *source,
                        destination: *server,
                        next_hop_mac: *next_hop_mac,
                    })
                }
                // What an earlier manager found holds while the kernel looks again.
                Reach::Resolving(_) if !self.seen.contains_key(&server.ip()) => {
                    let before = table.get(index).filter(|entry| {
                        let known = usize::from(entry.port) < self.ports.len();
                        known && entry.destination == *server
                    });
                    refreshed.sources.extend(before.map(|entry| entry.source));
                    before
                }
                Reach::Resolving(_) | Reach::Silent(_) | Reach::Not(_) => None,
            };
            refreshed.changed |= table.set(index, entry);
        }
        for (address, found) in &mut reach {
            let before = self.seen.get(address);
            // The kernel asks a silent neighbour again and again; until it answers, that is no news.
            if let (Some(Reach::Silent(before)), Reach::Resolving(next_hop)) = (before, &*found)
                && before == next_hop
            {
                *found = Reach::Silent(*before);
            }
            if self.seen.get(address) != Some(found) {
                report(*address, found);
            }
        }
        self.seen = reach;
        refreshed
    }

    fn reach(
        &self,
        kernel: &mut impl Kernel,
        server: IpAddr,
        unresolved: &mut bool,
    ) -> io::Result<Reach> {
        let Some(route) = kernel.route(server)? else {
            return Ok(Reach::Not("no route".into()));
        };
        if route.local {
            return Ok(Reach::Not(
                "it is an address of this host: a server has to be another machine".into(),
            ));
        }
        let Some(port) = self.ports.get(&route.ifindex) else {
            return Ok(Reach::Not(format!(
                "its route leaves through interface {}, which is no port of the configuration",
                interface_name(route.ifindex)
            )));
        };
        let source = self
            .source
            .filter(|source| source.is_ipv4() == server.is_ipv4())
            .or(route.source);
        let Some(source) = source else {
            return Ok(Reach::Not(
                "the kernel names no source address for it".into(),
            ));
        };
        let next_hop = route.gateway.unwrap_or(server);
        let neighbour = kernel
            .neighbour(route.ifindex, next_hop)?
            .unwrap_or(Neighbour::Resolving);
        if !matches!(neighbour, Neighbour::Fresh(_)) {
            kernel.use_neighbour(route.ifindex, next_hop)?;
        }
        let port = *port;
        Ok(match neighbour {
            Neighbour::Fresh(next_hop_mac) | Neighbour::Stale(next_hop_mac) => Reach::Path {
                port,
                source,
                next_hop_mac,
            },
            Neighbour::Resolving => {
                *unresolved = true;
                Reach::Resolving(next_hop)
            }
            Neighbour::Failed => {
                *unresolved = true;
                Reach::Silent(next_hop)
            }
        })
    }

    /// Why each server that cannot be reached now cannot.
    pub fn unreachable(&self) -> impl Iterator<Item = (IpAddr, String)> {
        self.seen.iter().filter_map(|(address, reach)| match reach {
            Reach::Not(why) => Some((*address, why.clone())),
            Reach::Resolving(next_hop) => {
                Some((*address, format!("neighbour {next_hop} is being resolved")))
            }
            Reach::Silent(next_hop) => Some((*address, silent(*next_hop))),
            Reach::Path { .. } => None,
        })
    }
}

fn interface_name(ifindex: u32) -> String {
    let name = nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("#{ifindex}"))
}

fn silent(next_hop: IpAddr) -> String {
    format!("neighbour {next_hop} does not answer")
}

fn report(address: IpAddr, reach: &Reach) {
    match reach {
        Reach::Path {
            port,
            source,
            next_hop_mac,
        } => {
            let mac = mac_text(*next_hop_mac);
            tracing::info!("server {address}: port {port}, from {source}, next hop {mac}");
        }
        Reach::Resolving(next_hop) => {
            tracing::info!("server {address}: resolving neighbour {next_hop}");
        }
        Reach::Silent(next_hop) => {
            tracing::warn!("server {address} cannot be reached: {}", silent(*next_hop));
        }
        Reach::Not(why) => tracing::warn!("server {address} cannot be reached: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        routes: BTreeMap<IpAddr, Route>,
        neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
        used: Vec<IpAddr>,
        probed: Vec<(u32, IpAddr)>,
    }

    impl Kernel for Fake {
        fn route(&mut self, destination: IpAddr) -> io::Result<Option<Route>> {
            Ok(self.routes.get(&destination).copied())
        }

        fn neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
            Ok(self.neighbours.get(&(ifindex, address)).copied())
        }

        fn use_neighbour(&mut self, _ifindex: u32, address: IpAddr) -> io::Result<()> {
            self.used.push(address);
            Ok(())
        }

        fn probe_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
            self.probed.push((ifindex, address));
            Ok(())
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    #[test]
    fn a_server_behind_a_router_is_sent_to_the_routers_mac_once_it_is_known() {
        let server: SocketAddr = "10.0.1.11:11211".parse().unwrap();
        let mut kernel = Fake::default();
        let route = Route {
            ifindex: 4,
            gateway: Some(ip("10.0.0.254")),
            source: Some(ip("10.0.0.1")),
            local: false,
        };
        kernel.routes.insert(server.ip(), route);
        let mut mirror = Mirror::new(vec![server, server], &[3, 4], None);
        let mut table = PathWriter::create(2).unwrap();

        let first = mirror.refresh(&mut kernel, &mut table);
        assert!(first.unresolved && !first.changed);
        assert_eq!(
            kernel.used,
            [ip("10.0.0.254")],
            "asked for once, though two servers share the address"
        );
        assert_eq!(mirror.unreachable().count(), 1);

        kernel
            .neighbours
            .insert((4, ip("10.0.0.254")), Neighbour::Fresh(MAC));
        let second = mirror.refresh(&mut kernel, &mut table);
        assert!(second.changed && !second.unresolved);
        assert_eq!(
            second.sources.into_iter().collect::<Vec<_>>(),
            [ip("10.0.0.1")]
        );
        let path = PathEntry {
            port: 1,
            source: ip("10.0.0.1"),
            destination: server,
            next_hop_mac: MAC,
        };
        assert_eq!((table.get(0), table.get(1)), (Some(path), Some(path)));
        assert_eq!(kernel.used.len(), 1, "a fresh neighbour is left alone");

        kernel
            .neighbours
            .insert((4, ip("10.0.0.254")), Neighbour::Failed);
        assert!(mirror.refresh(&mut kernel, &mut table).changed);
        assert_eq!(table.get(0), None);
    }

    #[test]
    fn the_next_hop_of_a_silent_server_is_confirmed_once_a_second() {
        let servers: [SocketAddr; 2] =
            ["10.0.1.11:1", "10.0.1.12:1"].map(|text| text.parse().unwrap());
        let router = ip("10.0.0.254");
        let route = Route {
            ifindex: 3,
            gateway: Some(router),
            source: Some(ip("10.0.0.1")),
            local: false,
        };
        let mut kernel = Fake::default();
        for server in servers {
            kernel.routes.insert(server.ip(), route);
        }
        let mut mirror = Mirror::new(servers.to_vec(), &[3], None);
        let mut table = PathWriter::create(2).unwrap();
        let start = Instant::now();
        let doubt = |mirror: &mut Mirror, kernel: &mut Fake, server, after_ms| {
            let now = start + Duration::from_millis(after_ms);
            mirror.doubt(kernel, server, now).unwrap();
            kernel.probed.len()
        };
        // Nothing is known of it, so there is nothing to doubt.
        mirror.refresh(&mut kernel, &mut table);
        assert_eq!(doubt(&mut mirror, &mut kernel, servers[0].ip(), 0), 0);
        kernel.neighbours.insert((3, router), Neighbour::Fresh(MAC));
        mirror.refresh(&mut kernel, &mut table);
        assert_eq!(doubt(&mut mirror, &mut kernel, ip("192.0.2.1"), 0), 0);
        assert_eq!(doubt(&mut mirror, &mut kernel, servers[0].ip(), 0), 1);
        // Both are behind one next hop.
        assert_eq!(doubt(&mut mirror, &mut kernel, servers[1].ip(), 999), 1);
        assert_eq!(doubt(&mut mirror, &mut kernel, servers[1].ip(), 1_000), 2);
        assert_eq!(kernel.probed, [(3, router); 2]);
    }

    #[test]
    fn what_an_earlier_manager_found_holds_until_the_kernel_has_looked_again() {
        let server: SocketAddr = "10.0.1.11:11211".parse().unwrap();
        let mut kernel = Fake::default();
        let route = Route {
            ifindex: 3,
            gateway: None,
            source: Some(ip("10.0.1.1")),
            local: false,
        };
        kernel.routes.insert(server.ip(), route);
        let mut table = PathWriter::create(1).unwrap();
        let path = PathEntry {
            port: 0,
            source: ip("10.0.1.1"),
            destination: server,
            next_hop_mac: MAC,
        };
        table.set(0, Some(path));
        let mut mirror = Mirror::new(vec![server], &[3], None);
        let first = mirror.refresh(&mut kernel, &mut table);
        assert!(first.unresolved && !first.changed);
        assert!(first.sources.contains(&ip("10.0.1.1")));
        assert_eq!(table.get(0), Some(path));
        assert!(mirror.refresh(&mut kernel, &mut table).changed);
        assert_eq!(table.get(0), None, "it does not answer");
    }

    #[test]
    fn a_stale_neighbour_is_used_and_confirmed() {
        let server: SocketAddr = "[2001:db8::b]:6379".parse().unwrap();
        let mut kernel = Fake::default();
        let route = Route {
            ifindex: 3,
            gateway: None,
            source: Some(ip("2001:db8::1")),
            local: false,
        };
        kernel.routes.insert(server.ip(), route);
        kernel
            .neighbours
            .insert((3, server.ip()), Neighbour::Stale(MAC));
        let mut mirror = Mirror::new(vec![server], &[3], Some(ip("10.0.0.77")));
        let mut table = PathWriter::create(1).unwrap();
        assert!(mirror.refresh(&mut kernel, &mut table).changed);
        assert_eq!(kernel.used, [server.ip()]);
        assert_eq!(
            table.get(0).unwrap().source,
            ip("2001:db8::1"),
            "a source of the other family does not apply"
        );
    }

    #[test]
    fn a_silent_neighbour_stays_silent_while_the_kernel_asks_again() {
        let server: SocketAddr = "10.0.0.2:1".parse().unwrap();
        let mut kernel = Fake::default();
        let route = Route {
            ifindex: 3,
            gateway: None,
            source: Some(ip("10.0.0.1")),
            local: false,
        };
        kernel.routes.insert(server.ip(), route);
        let mut mirror = Mirror::new(vec![server], &[3], None);
        let mut table = PathWriter::create(1).unwrap();
        let mut why = |neighbour: Neighbour| {
            kernel.neighbours.insert((3, server.ip()), neighbour);
            mirror.refresh(&mut kernel, &mut table);
            mirror.unreachable().next().map(|(_, why)| why)
        };
        assert!(
            why(Neighbour::Resolving)
                .unwrap()
                .contains("being resolved")
        );
        assert!(why(Neighbour::Failed).unwrap().contains("does not answer"));
        assert!(
            why(Neighbour::Resolving)
                .unwrap()
                .contains("does not answer")
        );
        assert_eq!(why(Neighbour::Fresh(MAC)), None);
        assert!(
            why(Neighbour::Resolving)
                .unwrap()
                .contains("being resolved")
        );
    }

    #[test]
    fn what_cannot_be_reached_is_explained() {
        let servers: Vec<SocketAddr> = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let mut kernel = Fake::default();
        let route = Route {
            ifindex: 3,
            gateway: None,
            source: None,
            local: true,
        };
        kernel.routes.insert(servers[0].ip(), route);
        kernel.routes.insert(
            servers[1].ip(),
            Route {
                ifindex: 999_999,
                local: false,
                ..route
            },
        );
        let mut mirror = Mirror::new(servers, &[3], None);
        let mut table = PathWriter::create(3).unwrap();
        assert!(!mirror.refresh(&mut kernel, &mut table).changed);
        let why: Vec<String> = mirror.unreachable().map(|(_, why)| why).collect();
        assert!(why[0].contains("address of this host"), "{why:?}");
        assert!(why[1].contains("#999999, which is no port"), "{why:?}");
        assert_eq!(why[2], "no route");
    }
}
