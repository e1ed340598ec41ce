//! Routes and neighbours of ports that the kernel does not see: the configuration has the routes, the first worker finds the neighbours.

use crate::netlink::answer::{Neighbour, Route};
use crate::netlink::mirror::Kernel;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use tidegate_channel::message::NeighbourSeen;
use tidegate_config::Config;

/// What the first worker said.
#[derive(Debug, Default)]
pub struct Neighbours {
    seen: BTreeMap<(u32, IpAddr), Option<[u8; 6]>>,
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

impl Neighbours {
    /// Remembers where a neighbour is, or that it does not answer.
    pub fn learn(&mut self, seen: NeighbourSeen) {
        let place = (ifindex(seen.port.into()), seen.address);
        self.seen.insert(place, seen.mac);
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
        let seen = self.neighbours.seen.get(&(ifindex, address));
        Ok(Some(match seen {
            Some(Some(mac)) => Neighbour::Fresh(*mac),
            Some(None) => Neighbour::Failed,
            None => Neighbour::Resolving,
        }))
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

    #[test]
    fn a_server_behind_a_gateway_is_reached_when_the_gateway_is_known() {
        let text = r#"
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
        let config = Config::parse(text, "test").unwrap();
        let servers = config
            .servers()
            .filter_map(|(_, server)| server.address.ip());
        let mut mirror = Mirror::new(servers.collect(), &[ifindex(0)], None);
        let mut table = PathWriter::create(2).unwrap();
        let mut neighbours = Neighbours::default();
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
