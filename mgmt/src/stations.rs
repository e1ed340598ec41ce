//! Notices ports whose link address changed: by hand, because a bond failed over, because a virtual router moved.
//!
//! Workers take frames for their own link address alone and write it into those that they send, so one that they do not know makes them
//! deaf. The kernel is asked at each look rather than the message understood that said so: messages are lost, and a change may have
//! happened while there was no manager. Workers find the address in the path table; one of them tells the neighbours, who would find out by
//! themselves only when they ask the kernel again.

use crate::shared::{Network, Shared};
use crate::supervisor::Slot;
use crate::worker_process::{Stage, WorkerProcess};
use std::io;
use std::net::IpAddr;
use tidegate_channel::message::{ANNOUNCED_MAX, Announce, ToWorker, mac_text};

/// A port of the kernel.
#[derive(Debug)]
struct Station {
    interface: String,
    ifindex: u32,
    mac: [u8; 6],
    /// Its neighbours have yet to be told.
    moved: bool,
}

/// The link addresses of all ports, in the order of the configuration.
#[derive(Debug)]
pub struct Stations {
    ports: Vec<Station>,
}

impl Stations {
    /// Begins with what workers know: name, number and link address of each interface.
    pub fn new<'a>(ports: impl Iterator<Item = (&'a str, u32, [u8; 6])>) -> Self {
        let ports = ports.map(|(interface, ifindex, mac)| Station {
            interface: interface.to_owned(),
            ifindex,
            mac,
            moved: false,
        });
        Self {
            ports: ports.collect(),
        }
    }

    /// The link address of a port.
    pub fn mac(&self, port: usize) -> Option<[u8; 6]> {
        Some(self.ports.get(port)?.mac)
    }

    /// All of them.
    pub fn macs(&self) -> impl Iterator<Item = [u8; 6]> {
        self.ports.iter().map(|port| port.mac)
    }

    /// Asks for the link address of each interface. One that is gone, or has none of an Ethernet, keeps what it had.
    pub fn look(&mut self, mut ask: impl FnMut(u32) -> io::Result<Option<[u8; 6]>>) {
        for port in &mut self.ports {
            let mac = match ask(port.ifindex) {
                Ok(Some(mac)) => mac,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!("{}: its link address is not known: {error}", port.interface);
                    continue;
                }
            };
            if mac == port.mac {
                continue;
            }
            tracing::warn!(
                "{}: its link address changed: {} → {}; workers follow, and neighbours are told",
                port.interface,
                mac_text(port.mac),
                mac_text(mac)
            );
            port.mac = mac;
            port.moved = true;
        }
    }

    /// Whether neighbours have yet to be told.
    pub fn have_moved(&self) -> bool {
        self.ports.iter().any(|port| port.moved)
    }

    /// What neighbours have to be told, once: the addresses of `all` that the interfaces have, which are those of the host with the number of
    /// their interface. Beyond [`ANNOUNCED_MAX`] those come first that are `ours`.
    pub fn take_moved(
        &mut self,
        all: &[(u32, IpAddr)],
        ours: impl Fn(IpAddr) -> bool,
    ) -> Vec<Announce> {
        let moved = self.ports.iter_mut().zip(0..);
        let moved = moved.filter_map(|(port, number)| {
            std::mem::take(&mut port.moved).then_some((&*port, number))
        });
        let announce = moved.map(|(port, number)| {
            let here = all.iter().filter(|(ifindex, _)| *ifindex == port.ifindex);
            let mut addresses: Vec<IpAddr> = here.map(|(_, address)| *address).collect();
            addresses.sort_by_key(|address| !ours(*address));
            addresses.truncate(ANNOUNCED_MAX);
            Announce {
                port: number,
                mac: port.mac,
                addresses,
            }
        });
        announce.collect()
    }
}

/// Where ports got other link addresses, has a worker tell their neighbours, as soon as there is one that can.
pub fn announce(shared: &mut Shared, slots: &mut [Slot]) {
    if let Network::Packets(packets) = &mut shared.network
        && packets.have_moved()
        && let Some(speaker) = speaker(slots)
    {
        for announce in packets.take_moved(&shared.config) {
            speaker.send(ToWorker::Announce(announce), &[]);
        }
    }
}

/// The worker that speaks for all: the first that forwards, whose queue every port has.
fn speaker(slots: &mut [Slot]) -> Option<&mut WorkerProcess> {
    let processes = slots.iter_mut().filter_map(|slot| slot.process.as_mut());
    let mut forwarding = processes.filter(|process| process.stage != Stage::Starting);
    forwarding.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const NEW: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn stations() -> Stations {
        Stations::new([("eth1", 3, OLD), ("eth2", 4, OLD)].into_iter())
    }

    #[test]
    fn a_change_is_taken_once_and_what_cannot_be_asked_stays() {
        let mut stations = stations();
        stations.look(|_| Ok(Some(OLD)));
        assert!(!stations.have_moved());
        stations.look(|ifindex| match ifindex {
            3 => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(None),
        });
        assert_eq!(stations.macs().collect::<Vec<_>>(), [OLD, OLD]);
        let change = |ifindex| Ok(Some(if ifindex == 4 { NEW } else { OLD }));
        stations.look(change);
        assert_eq!((stations.mac(0), stations.mac(1)), (Some(OLD), Some(NEW)));
        assert_eq!(stations.mac(2), None);
        assert!(stations.have_moved());
        assert_eq!(stations.take_moved(&[], |_| true).len(), 1);
        stations.look(change);
        assert!(!stations.have_moved());
        assert!(stations.take_moved(&[], |_| true).is_empty());
    }

    #[test]
    fn neighbours_hear_of_the_addresses_of_the_port_that_moved() {
        let mut stations = stations();
        stations.look(|ifindex| Ok(Some(if ifindex == 4 { NEW } else { OLD })));
        let [elsewhere, here, listening]: [IpAddr; 3] =
            ["10.0.0.1", "10.0.1.1", "10.0.1.2"].map(|address| address.parse().unwrap());
        let all = [(3, elsewhere), (4, here), (4, listening)];
        let expected = Announce {
            port: 1,
            mac: NEW,
            addresses: vec![listening, here],
        };
        let said = stations.take_moved(&all, |address| address == listening);
        assert_eq!(said, [expected]);
    }

    #[test]
    fn of_very_many_addresses_ours_are_said() {
        let mut stations = stations();
        stations.look(|_| Ok(Some(NEW)));
        let last = IpAddr::from([10, 9, 9, 9]);
        let mut all: Vec<(u32, IpAddr)> = (0..2 * ANNOUNCED_MAX as u32)
            .map(|number| (3, IpAddr::V4(number.into())))
            .collect();
        all.push((3, last));
        let said = stations.take_moved(&all, |address| address == last);
        assert_eq!(said[0].addresses.len(), ANNOUNCED_MAX);
        assert_eq!(said[0].addresses[0], last);
        assert!(said[1].addresses.is_empty());
    }
}
