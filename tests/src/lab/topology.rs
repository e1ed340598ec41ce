//! The hosts and the cables: namespaces, veth pairs, addresses and the settings that make a veth behave like a NIC.

use super::LabOptions as Shape;
use super::addresses::{CLIENT_ADDRESSES, Family, on_client_leg, on_server_leg, vip};
use crate::netns::{Namespace, ip_batch};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;

/// How the appliance is cabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nics {
    /// Clients and servers behind one interface, `eth1`; the servers are reached through a gateway.
    One,
    /// Clients behind `eth1`, servers behind `eth2`, both on the link.
    Two,
}

/// The interface of the appliance that faces clients.
pub const CLIENT_SIDE: &str = "eth1";

/// The interface of the appliance that faces servers, with [`Nics::Two`].
pub const SERVER_SIDE: &str = "eth2";

/// The namespaces of a lab.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Runs the load. With one NIC it is also the gateway to the servers.
    pub client: Namespace,
    /// Runs Tidegate.
    pub appliance: Namespace,
    /// Runs memcached and Redis.
    pub server: Namespace,
    /// Runs a proxy on kernel sockets beside the appliance, for comparisons; exists after
    /// [`kernel_path::build`](super::kernel_path::build) only.
    pub kernel_path: Namespace,
}

impl Hosts {
    /// The namespaces of the lab called `lab`; they need not exist.
    pub fn of(lab: &str) -> Self {
        let host = |letter| Namespace::named(format!("{lab}-{letter}"));
        Self {
            client: host('c'),
            appliance: host('a'),
            server: host('s'),
            kernel_path: host('k'),
        }
    }

    /// The three that every lab has.
    pub fn all(&self) -> [&Namespace; 3] {
        [&self.client, &self.appliance, &self.server]
    }

    /// Every one that a lab may have: what has to be removed.
    pub fn possible(&self) -> [&Namespace; 4] {
        [
            &self.client,
            &self.appliance,
            &self.server,
            &self.kernel_path,
        ]
    }
}

/// Makes the namespaces and everything inside them but processes and steering.
pub fn build(hosts: &Hosts, shape: &Shape) -> Result<()> {
    let nics = shape.nics;
    ip_batch(None, &namespaces_and_cables(hosts, nics, shape.queues))?;
    for host in hosts.all() {
        ip_batch(Some(host), &addresses(hosts, host, shape))?;
        let gateway = nics == Nics::One && host.name() == hosts.client.name();
        let on_dpdk = shape.driver.pmd().is_some() && host.name() == hosts.appliance.name();
        host.run(|| kernel_settings(gateway, !on_dpdk))?;
    }
    for (host, device) in peers(hosts, nics) {
        host.shell(&behave_like_a_nic(device))?;
    }
    wait_for_links(hosts, nics)
}

/// The kernel announces that a link is up with a delay of up to a second, and a program that looks before would refuse it.
fn wait_for_links(hosts: &Hosts, nics: Nics) -> Result<()> {
    let devices = if nics == Nics::One {
        CLIENT_SIDE.to_owned()
    } else {
        format!("{CLIENT_SIDE} {SERVER_SIDE}")
    };
    hosts
        .appliance
        .shell(&format!(
            "for device in {devices}; do
                 for try in $(seq 500); do
                     [ \"$(cat /sys/class/net/$device/operstate)\" = up ] && break
                     [ \"$try\" -lt 500 ] || {{ echo \"$device does not come up\"; exit 1; }}
                     sleep 0.01
                 done
             done"
        ))
        .map(|_| ())
}

/// The far ends of the appliance's cables: what stands in for the wire and the NIC's receive-side scaling.
pub fn peers(hosts: &Hosts, nics: Nics) -> Vec<(&Namespace, &'static str)> {
    match nics {
        Nics::One => vec![(&hosts.client, "eth0")],
        Nics::Two => vec![(&hosts.client, "eth0"), (&hosts.server, "eth0")],
    }
}

/// The appliance's own ends.
pub fn ports(hosts: &Hosts, nics: Nics) -> Vec<(&Namespace, &'static str)> {
    let sides: &[_] = match nics {
        Nics::One => &[CLIENT_SIDE],
        Nics::Two => &[CLIENT_SIDE, SERVER_SIDE],
    };
    sides.iter().map(|side| (&hosts.appliance, *side)).collect()
}

/// Has one core do what the kernel does with frames that reach these devices. Otherwise whoever sends a frame over a veth does it: a worker would
/// serve its clients' TCP, which is the work of other machines.
pub fn receive_on(devices: &[(&Namespace, &str)], core: u32) -> Result<()> {
    ensure!(
        core < 32,
        "core {core} is not in the first word of a mask of cores"
    );
    for (host, device) in devices {
        host.shell(&format!(
            "for cpus in /sys/class/net/{device}/queues/rx-*/rps_cpus; do echo {:x} >\"$cpus\"; done",
            1_u32 << core
        ))?;
    }
    Ok(())
}

fn namespaces_and_cables(hosts: &Hosts, nics: Nics, queues: u32) -> String {
    let (c, a, s) = (
        hosts.client.name(),
        hosts.appliance.name(),
        hosts.server.name(),
    );
    let mut batch = String::new();
    for host in hosts.all() {
        let _ = writeln!(batch, "netns add {}", host.name());
    }
    let mut cable = |left: &str, left_name: &str, right: &str, right_name: &str| {
        let rings = format!("numrxqueues {queues} numtxqueues {queues}");
        let _ = writeln!(
            batch,
            "link add {left_name} netns {left} {rings} type veth peer name {right_name} netns {right} {rings}"
        );
    };
    cable(a, CLIENT_SIDE, c, "eth0");
    match nics {
        Nics::One => cable(c, "eth1", s, "eth0"),
        Nics::Two => cable(a, SERVER_SIDE, s, "eth0"),
    }
    batch
}

/// The addresses of one host, its links set up, its routes: a batch for `ip` inside that host.
fn addresses(hosts: &Hosts, host: &Namespace, shape: &Shape) -> String {
    let mut batch = Batch(String::new());
    let one_nic = shape.nics == Nics::One;
    if host.name() == hosts.client.name() {
        for family in Family::BOTH {
            for index in 0..CLIENT_ADDRESSES {
                batch.address("eth0", on_client_leg(family, 101 + index));
            }
            if one_nic {
                batch.address("eth0", on_client_leg(family, 2));
                batch.address("eth1", on_server_leg(family, 1));
            }
        }
        batch.up(if one_nic {
            &["lo", "eth0", "eth1"]
        } else {
            &["lo", "eth0"]
        });
    } else if host.name() == hosts.appliance.name() {
        // DPDK has addresses of its own, and the kernel must not answer for them.
        if shape.driver.pmd().is_none() {
            for (address, _) in appliance_addresses(CLIENT_SIDE) {
                batch.address(CLIENT_SIDE, address);
            }
            for (address, _) in appliance_addresses(SERVER_SIDE).filter(|_| !one_nic) {
                batch.address(SERVER_SIDE, address);
            }
        }
        batch.up(if one_nic {
            &["lo", CLIENT_SIDE]
        } else {
            &["lo", CLIENT_SIDE, SERVER_SIDE]
        });
        if one_nic && shape.driver.pmd().is_none() {
            batch.route(SERVER_LEG, |family| on_client_leg(family, 2));
        }
    } else {
        for family in Family::BOTH {
            batch.address("eth0", on_server_leg(family, 2));
            for (first, count) in [(11, shape.memcached), (21, shape.redis), (31, shape.fakes)] {
                for index in 0..count {
                    batch.address("eth0", on_server_leg(family, first + index as u8));
                }
            }
        }
        batch.up(&["lo", "eth0"]);
        batch.route(["default", "default"], |family| on_server_leg(family, 1));
    }
    batch.0
}

/// The appliance's addresses on one of its interfaces, with the bits of their networks.
pub fn appliance_addresses(interface: &str) -> impl Iterator<Item = (IpAddr, u8)> {
    let on_client_side = interface == CLIENT_SIDE;
    let addresses = Family::BOTH.into_iter().flat_map(move |family| {
        if on_client_side {
            vec![on_client_leg(family, 1), vip(family)]
        } else {
            vec![on_server_leg(family, 1)]
        }
    });
    addresses.map(|address| (address, if address.is_ipv4() { 24 } else { 64 }))
}

/// The server leg as a route's destination, of both families.
pub const SERVER_LEG: [&str; 2] = ["10.77.2.0/24", "fd77:2::/64"];

/// Commands for `ip -batch`. Writing to a string cannot fail, so results are ignored.
struct Batch(String);

impl Batch {
    fn address(&mut self, device: &str, address: IpAddr) {
        // Duplicate address detection would keep IPv6 addresses unusable for a second.
        let (bits, nodad) = if address.is_ipv4() {
            (24, "")
        } else {
            (64, " nodad")
        };
        let _ = writeln!(self.0, "addr add {address}/{bits} dev {device}{nodad}");
    }

    fn up(&mut self, devices: &[&str]) {
        for device in devices {
            let _ = writeln!(self.0, "link set {device} up");
        }
    }

    fn route(&mut self, destinations: [&str; 2], via: impl Fn(Family) -> IpAddr) {
        for (family, destination) in Family::BOTH.into_iter().zip(destinations) {
            let _ = writeln!(self.0, "route add {destination} via {}", via(family));
        }
    }
}

/// Settings of the namespace that the calling thread is in; `/proc/sys/net` shows each thread its own.
pub fn kernel_settings(gateway: bool, ipv6: bool) -> Result<()> {
    let set = |path: &str, value: &str| {
        fs::write(format!("/proc/sys/net/{path}"), value)
            .with_context(|| format!("cannot set net/{path} to {value:?}"))
    };
    // Short connections use a port each, and a closed one rests for a minute.
    set("ipv4/ip_local_port_range", "10000 65000")?;
    set("ipv4/tcp_tw_reuse", "1")?;
    if !ipv6 {
        set("ipv6/conf/all/disable_ipv6", "1")?;
    }
    if gateway {
        set("ipv4/ip_forward", "1")?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A veth hands over frames whose checksum nobody computed and segments larger than any frame, because both ends share a
/// kernel. A program that reads frames needs them as they would come from a wire. Transmit queues chosen by CPU would defeat
/// the steering.
fn behave_like_a_nic(device: &str) -> String {
    format!(
        "ethtool -K {device} tx off >/dev/null
         for cpus in /sys/class/net/{device}/queues/tx-*/xps_cpus /sys/class/net/{device}/queues/tx-*/xps_rxqs; do
             if [ -w \"$cpus\" ]; then echo 0 >\"$cpus\" 2>/dev/null || true; fi
         done"
    )
}
