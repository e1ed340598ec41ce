//! The network around the machine: a leg for each of its NICs, and the servers behind all of them.
//!
//! ```text
//!   client host                                   machine
//!   vm0  10.77.1.2, fd77:1::2     ── TAP, 2 queues ── eth0   AF_XDP
//!   vm1  10.77.3.2, fd77:3::2     ── TAP, 2 queues ── eth1   DPDK
//!   vm2  10.77.4.2, fd77:4::2     ── TAP, 4 queues ── eth2   half of the queues in use
//!   vm3  10.77.5.2, fd77:5::2     ── TAP, 2 queues ── eth3   without mergeable receive buffers
//!   vm4  10.77.6.2, fd77:6::2     ── TAP, 4 queues ── eth4   half of the queues in use, with receive-side scaling
//!   eth1 10.77.2.1, fd77:2::1     ── veth ── server host, as in a lab
//! ```
//!
//! The client host is the machine's gateway to the servers on each leg.

use crate::lab::addresses::{Family, on_leg, on_server_leg};
use crate::lab::servers::ServerKind;
use crate::lab::topology::{self, Hosts};
use crate::netns::ip_batch;
use crate::plan::Plan;
use anyhow::Result;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A cable, and the NIC of the machine at its end.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    /// The third number of its network.
    pub number: u8,
    /// The client host's end.
    pub tap: &'static str,
    /// The machine's end.
    pub interface: &'static str,
    /// Queue pairs that the device has.
    pub queues: u32,
    /// Where on the machine's PCI bus the NIC is.
    pub pci_slot: u8,
    /// Further properties of the device, each after a comma.
    pub device_options: &'static str,
}

/// For AF_XDP.
pub const AFXDP: Leg = Leg {
    number: 1,
    tap: "vm0",
    interface: "eth0",
    queues: 2,
    pci_slot: 3,
    device_options: "",
};

/// For DPDK, which is told how flows are spread.
pub const DPDK: Leg = Leg {
    number: 3,
    tap: "vm1",
    interface: "eth1",
    queues: 2,
    pci_slot: 4,
    device_options: ",rss=on,hash=on",
};

/// More queues than the machine has processors: the driver uses as many as those.
pub const WIDE: Leg = Leg {
    number: 4,
    tap: "vm2",
    interface: "eth2",
    queues: 4,
    pci_slot: 5,
    device_options: "",
};

/// Received frames are not put together from several buffers.
pub const UNMERGED: Leg = Leg {
    number: 5,
    tap: "vm3",
    interface: "eth3",
    queues: 2,
    pci_slot: 6,
    device_options: ",mrg_rxbuf=off",
};

/// More queues than the machine has processors, and it can be told which flows go where.
pub const HASHED: Leg = Leg {
    number: 6,
    tap: "vm4",
    interface: "eth4",
    queues: 4,
    pci_slot: 7,
    device_options: ",rss=on,hash=on",
};

/// In the order in which the machine finds them.
pub const LEGS: [Leg; 5] = [AFXDP, DPDK, WIDE, UNMERGED, HASHED];

/// The PCI slot of what is not a NIC.
pub const PCI_SLOT_CHANNEL: u8 = 16;

impl Leg {
    /// The NIC's address.
    pub fn mac(&self) -> String {
        format!("52:54:00:77:00:{:02x}", self.number)
    }

    /// The PCI address of the NIC.
    pub fn pci_address(&self) -> String {
        format!("0000:00:{:02x}.0", self.pci_slot)
    }

    /// The address that the machine's NIC has, and on which its pools listen.
    pub fn vip(&self, family: Family) -> std::net::IpAddr {
        on_leg(family, self.number, 10)
    }

    /// The client host's address: the machine's way to the servers.
    pub fn gateway(&self, family: Family) -> std::net::IpAddr {
        on_leg(family, self.number, 2)
    }

    /// Where a pool is found.
    pub fn pool(&self, kind: ServerKind, family: Family) -> SocketAddr {
        SocketAddr::new(self.vip(family), Plan::Lab.pool(kind, family).port())
    }
}

/// Bits of an address that are its network's.
pub fn prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// The network of the servers.
pub fn servers(family: Family) -> String {
    format!("{}/{}", on_server_leg(family, 0), prefix(family))
}

/// Makes both hosts, the cables and their addresses.
pub fn build(hosts: &Hosts, memcached: usize, redis: usize) -> Result<()> {
    let (client, server) = (hosts.client.name(), hosts.server.name());
    ip_batch(
        None,
        &format!(
            "netns add {client}\nnetns add {server}\n\
             link add eth1 netns {client} type veth peer name eth0 netns {server}\n"
        ),
    )?;
    ip_batch(Some(&hosts.client), &client_side())?;
    hosts.client.run(|| topology::kernel_settings(true, true))?;
    ip_batch(Some(&hosts.server), &server_side(memcached, redis))?;
    hosts.server.run(|| topology::kernel_settings(false, true))
}

fn client_side() -> String {
    let mut batch = String::from("link set lo up\nlink set eth1 up\n");
    for leg in LEGS {
        let tap = leg.tap;
        let _ = writeln!(
            batch,
            "tuntap add dev {tap} mode tap multi_queue\nlink set {tap} up"
        );
        for family in Family::BOTH {
            add(&mut batch, tap, leg.gateway(family), family);
        }
    }
    for family in Family::BOTH {
        add(&mut batch, "eth1", on_server_leg(family, 1), family);
    }
    batch
}

fn server_side(memcached: usize, redis: usize) -> String {
    let mut batch = String::from("link set lo up\nlink set eth0 up\n");
    for family in Family::BOTH {
        add(&mut batch, "eth0", on_server_leg(family, 2), family);
        for (kind, count) in [
            (ServerKind::Memcached, memcached),
            (ServerKind::Redis, redis),
        ] {
            for index in 0..count {
                let address = Plan::Lab.server(kind, index, family).ip();
                add(&mut batch, "eth0", address, family);
            }
        }
        let _ = writeln!(batch, "route add default via {}", on_server_leg(family, 1));
    }
    batch
}

/// Duplicate address detection would keep IPv6 addresses unusable for a second.
fn add(batch: &mut String, device: &str, address: std::net::IpAddr, family: Family) {
    let nodad = if family == Family::V6 { " nodad" } else { "" };
    let _ = writeln!(
        batch,
        "addr add {address}/{} dev {device}{nodad}",
        prefix(family)
    );
}
