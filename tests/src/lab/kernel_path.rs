//! A second way between clients and servers: a host whose proxy uses the kernel's sockets, for comparisons.
//!
//! It has cables of its own, and they keep what a veth has by default (checksums left out, segments larger than frames),
//! because a proxy on kernel sockets may use all of it. Its servers are the lab's, at their usual addresses.
//!
//! ```text
//! client leg   10.78.1.0/24   proxy .1, virtual address .10, clients .101 and up
//! server leg   10.78.2.0/24   proxy .1, server host .2
//! ```

use super::Hosts;
use super::addresses::CLIENT_ADDRESSES;
use super::topology::{CLIENT_SIDE, SERVER_SIDE};
use crate::netns::ip_batch;
use anyhow::Result;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// The interface of the client and of the server host at the end of this way.
pub const PEER_SIDE: &str = "eth9";

/// The address of the proxy that clients talk to.
pub fn vip() -> IpAddr {
    Ipv4Addr::new(10, 78, 1, 10).into()
}

/// Adds the host and its cables to a raised lab. They are removed with it.
pub fn build(hosts: &Hosts) -> Result<()> {
    let (client, proxy, server) = (&hosts.client, &hosts.kernel_path, &hosts.server);
    let rings = "numrxqueues 1 numtxqueues 1";
    let mut cables = format!("netns add {}\n", proxy.name());
    for (side, peer) in [(CLIENT_SIDE, client), (SERVER_SIDE, server)] {
        let _ = writeln!(
            cables,
            "link add {side} netns {} {rings} type veth peer name {PEER_SIDE} netns {} {rings}",
            proxy.name(),
            peer.name()
        );
    }
    ip_batch(None, &cables)?;
    let clients: String = (0..CLIENT_ADDRESSES)
        .map(|index| format!("addr add 10.78.1.{}/24 dev {PEER_SIDE}\n", 101 + index))
        .collect();
    ip_batch(Some(client), &format!("{clients}link set {PEER_SIDE} up\n"))?;
    ip_batch(
        Some(server),
        &format!("addr add 10.78.2.2/24 dev {PEER_SIDE}\nlink set {PEER_SIDE} up\n"),
    )?;
    ip_batch(
        Some(proxy),
        &format!(
            "addr add 10.78.1.1/24 dev {CLIENT_SIDE}\naddr add {}/24 dev {CLIENT_SIDE}\n\
             addr add 10.78.2.1/24 dev {SERVER_SIDE}\n\
             link set lo up\nlink set {CLIENT_SIDE} up\nlink set {SERVER_SIDE} up\n\
             route add 10.77.2.0/24 via 10.78.2.2\n",
            vip()
        ),
    )?;
    proxy.run(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000")?;
        Ok(())
    })
}
