//! The steering program: which frames the workers get, and which stay with the kernel.
//!
//! Tidegate shares the interface with the kernel. The program takes only our own TCP away from it:
//!
//! * to a listening {address, port} of ours, or
//! * to one of our source addresses **and** a port that is ours to connect from: replies of servers.
//!
//! Everything else passes, so that ssh, ping, BGP and VRRP go on working on the same interface, and ARP and NDP stay the
//! kernel's job. Once redirected, a frame has no way back to the kernel; so what cannot be decided from one frame passes:
//!
//! * fragments, first and later: only the first one carries ports. TCP peers that do path MTU discovery send none.
//! * IPv4 with options and IPv6 with extension headers: unused by TCP clients, and often used to confuse filters.
//! * frames with a VLAN tag. A tag that the NIC strips is not seen here, and such frames are treated as untagged: turn stripping
//!   off (`ethtool -K eth1 rxvlan off`) where VLANs share the interface with Tidegate.
//! * frames shorter than the headers they announce.
//!
//! Our own traffic on a queue without a worker is **dropped**, not passed: the kernel knows nothing of the connections and would
//! answer with RST, while a dropped frame is sent again when the worker is back. Each outcome has a counter ([`Verdict`]).

mod maps;
mod netlink;
mod program;
mod refusal;
mod steering;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

pub use maps::{LISTENERS_MAX, SOURCES_MAX, SteeringMaps};
pub use netlink::detach;
pub use program::load;
pub use refusal::NativeRefusal;
pub use steering::{AttachMode, AttachPolicy, STEERING_DESCRIPTORS, XdpError, XdpSteering};

/// What the program decided, for each frame exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ours, given to the queue's socket.
    Redirected,
    /// Ours, but the queue has no socket: dropped.
    DroppedNoSocket,
    /// Passed: not TCP over IPv4 or IPv6 (ARP, ICMP, NDP, UDP, …).
    PassedOther,
    /// Passed: TCP, but neither a listener nor a reply to us.
    PassedNotOurs,
    /// Passed: a fragment, ours or not.
    PassedFragment,
    /// Passed: IPv4 options or IPv6 extension headers, or an IPv4 header of another version.
    PassedOptions,
    /// Passed: a VLAN tag.
    PassedVlan,
    /// Passed: shorter than its headers.
    PassedTruncated,
}

impl Verdict {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::Redirected,
        Self::DroppedNoSocket,
        Self::PassedOther,
        Self::PassedNotOurs,
        Self::PassedFragment,
        Self::PassedOptions,
        Self::PassedVlan,
        Self::PassedTruncated,
    ];
}

/// Frames per [`Verdict`] since the maps were made, summed over the CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([u64; Verdict::ALL.len()]);

impl Verdicts {
    /// Frames with this verdict.
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// Frames that reached the program.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
