//! Routes and neighbours of ports that the kernel does not see: the configuration has the routes, the first worker finds the neighbours.

use crate::netlink::answer::{Neighbour, Route};
use crate::netlink::mirror::Kernel;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use tidegate_channel::message::NeighbourSeen;
use tidegate_config::Config;

/// What the first worker said of next hops that somebody asks for. It is another process, which could tell of others without end.
#[derive(Debug)]
pub struct Neighbours {
    asked: BTreeMap<(u32, IpAddr), Neighbour>,
}

/// The same, asked as the kernel is.
pub struct Asked<'a> {
    neighbours: &'a Neighbours,
    config: &'a Config,
}

/// What stands in place of an interface's index, which counts from 1.
pub fn ifindex(port: usize) -> u32 {
    port as u32 + 1
}

/// The next hops on the way to the servers of a configuration, with their ports.
fn next_hops(config: &Config) -> impl Iterator<Item = (u32, IpAddr)> {
    let servers = config
        .servers()
        .filter_map(|(_, server)| server.address.ip());
    let ways = servers.filter_map(|server| config.way(server.ip()));
    ways.map(|way| (ifindex(way.port), way.next_hop))
}

impl Neighbours {
    /// Nothing is known yet of those on the way to the servers of `config`.
    pub fn of(config: &Config) -> Self {
        let places = next_hops(config).map(|place| (place, Neighbour::Resolving));
        Self {
            asked: places.collect(),
        }
    }

    /// From now on the next hops of these two configurations are asked for, and no others: of what is in force, and of what may follow.
    pub fn ask_for(&mut self, in_force: &Config, next: &Config) {
        let places = next_hops(in_force).chain(next_hops(next));
        let known = |place| (place, self.known(place));
        self.asked = places.map(known).collect();
    }

    /// Remembers where a neighbour is, or that it does not answer. Whether that is news.
    pub fn learn(&mut self, seen: NeighbourSeen) -> bool {
        let place = (ifindex(seen.port.into()), seen.address);
        let now = seen.mac.map_or(Neighbour::Failed, Neighbour::Fresh);
        let known = self.asked.get_mut(&place);
        known.is_some_and(|known| std::mem::replace(known, now) != now)
    }

    /// Knows nothing any more of those that are asked for.
    pub fn forget(&mut self) {
        self.asked
            .values_mut()
            .for_each(|known| *known = Neighbour::Resolving);
    }

    fn known(&self, place: (u32, IpAddr)) -> Neighbour {
        let known = self.asked.get(&place).copied();
        known.unwrap_or(Neighbour::Resolving)
    }

    /// To be asked, with the routes of this configuration.
    pub fn with<'a>(&'a self, config: &'a Config) -> Asked<'a> {
        Asked {
            neighbours: self,
            config,
        }
    }
}

impl Kernel for Asked<'_> {
    fn route(&mut self, destination: IpAddr) -> io::Result<Option<Route>> {
        Ok(self.config.way(destination).map(|way| Route {
            ifindex: ifindex(way.port),
            gateway: (way.next_hop != destination).then_some(way.next_hop),
            source: Some(way.source),
            local: false,
        }))
    }

    fn neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
        Ok(Some(self.neighbours.known((ifindex, address))))
    }

    /// Workers ask by themselves.
    fn probe_neighbour(&mut self, _ifindex: u32, _address: IpAddr) -> io::Result<()> {
        Ok(())
    }

    /// The worker asks by itself.
    fn use_neighbour(&mut self, _ifindex: u32, _address: IpAddr) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::mirror::Mirror;
    use tidegate_channel::paths::PathWriter;

    const TEXT: &str = r#"
        [[port]]
        driver = "dpdk"
        interface = "0000:3b:00.1"
        addresses = ["192.0.2.10/24"]
        routes = ["default via 192.0.2.1"]
        queues = { 0 = 0 }
        [[pool]]
        name = "a"
        protocol = "redis"
        listen = "192.0.2.10:6379"
        servers = ["192.0.2.7:6379:1", "198.51.100.7:6379:1"]
    "#;

    #[test]
    fn nobody_is_remembered_but_next_hops_that_are_asked_for() {
        let in_force = Config::parse(TEXT, "test").unwrap();
        let next = Config::parse(&TEXT.replace("192.0.2.7", "192.0.2.8"), "test").unwrap();
        let mut neighbours = Neighbours::of(&in_force);
        let seen = |port, address: [u8; 4]| NeighbourSeen {
            port,
            address: address.into(),
            mac: Some([7; 6]),
        };
        let mut news = 0;
        for number in 0..100_000_u32 {
            let [_, high, middle, low] = number.to_be_bytes();
            news += u32::from(neighbours.learn(seen(low, [10, high, middle, low])));
            news += u32::from(neighbours.learn(seen(low, [192, 0, 2, middle])));
        }
        assert_eq!(
            (news, neighbours.asked.len()),
            (2, 2),
            "port 0 alone is one"
        );
        assert!(!neighbours.learn(seen(0, [192, 0, 2, 8])));
        neighbours.ask_for(&in_force, &next);
        assert!(neighbours.learn(seen(0, [192, 0, 2, 8])));
        let gateway = (ifindex(0), [192, 0, 2, 1].into());
        assert_eq!(neighbours.known(gateway), Neighbour::Fresh([7; 6]));
        neighbours.ask_for(&next, &next);
        assert_eq!(neighbours.asked.len(), 2);
        assert_eq!(neighbours.known(gateway), Neighbour::Fresh([7; 6]));
        neighbours.forget();
        assert_eq!(neighbours.known(gateway), Neighbour::Resolving);
    }

    #[test]
    fn a_server_behind_a_gateway_is_reached_when_the_gateway_is_known() {
        let config = Config::parse(TEXT, "test").unwrap();
        let servers = config
            .servers()
            .filter_map(|(_, server)| server.address.ip());
        let mut mirror = Mirror::new(servers.collect(), &[ifindex(0)], None);
        let mut table = PathWriter::create(2).unwrap();
        let mut neighbours = Neighbours::of(&config);
        assert!(
            mirror
                .refresh(&mut neighbours.with(&config), &mut table)
                .unresolved
        );
        assert_eq!((table.get(0), table.get(1)), (None, None));
        let mut learn = |address: [u8; 4], mac| {
            let address = address.into();
            neighbours.learn(NeighbourSeen {
                port: 0,
                address,
                mac,
            });
            mirror.refresh(&mut neighbours.with(&config), &mut table);
            [0, 1].map(|server| table.get(server).map(|path| (path.port, path.next_hop_mac)))
        };
        assert_eq!(
            learn([192, 0, 2, 7], Some([7; 6])),
            [Some((0, [7; 6])), None]
        );
        assert_eq!(
            learn([192, 0, 2, 1], Some([1; 6])),
            [Some((0, [7; 6])), Some((0, [1; 6]))]
        );
        assert_eq!(learn([192, 0, 2, 7], None), [None, Some((0, [1; 6]))]);
    }
}
