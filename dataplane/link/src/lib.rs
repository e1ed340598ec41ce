//! ARP, neighbour discovery and echo for ports that the kernel does not know.
//!
//! On AF_XDP the kernel answers for our addresses and finds our neighbours. Where DPDK drives the device nobody does, so one
//! worker does it here, for all ports and all workers: frames that are no TCP come to [`Link::take`], from its own queue or
//! handed over from others'. It answers who asks for our addresses, it learns where the wanted next hops are, and it asks
//! for those it does not know.
//!
//! The crate makes no system call, takes no lock, reads no clock, and after [`Link::new`] allocates only in
//! [`Link::set_wanted`]. It does nothing by itself: frames leave in [`Link::take`] and [`Link::send_due`] alone, and
//! [`Link::next_timer_us`] tells when there is something to send.
//!
//! * **Our addresses** are announced at the start, twice, so that switches and neighbours know where they are now. Before each
//!   announcement goes a probe, which a host that has the address answers (RFC 5227, section 2.1; RFC 4862, section 5.4). Nobody waits
//!   for that: an address moves here because its former owner is dead, and waiting for a dead owner costs seconds. If
//!   somebody else claims one it is defended (RFC 5227, section 2.4 (c)), never given up, and the conflict is told.
//!   On a port that the kernel has as well nothing of this is needed until its link address changes: [`Announcement`] says that.
//! * **Next hops** are those that [`Link::set_wanted`] names. Of strangers nothing is kept, so nobody can fill a table. A
//!   next hop is asked for until it answers, probed every 30 s while it is known, and lost when three probes go unanswered.
//!   Where it says that it has moved it is followed at once, and probed there. ARP follows the same rules as neighbour
//!   discovery (RFC 4861, section 7.2.5): an answer confirms, anything else is believed and then checked.
//! * **Doubts** of TCP, to which a server has fallen silent, come to [`Doubts`], which every worker has. It asks everybody for the
//!   next hop at once, and the answer is heard here.
//! * **Changes** come out of [`Link::take_news`]. There is no queue that could overflow: each next hop remembers what was
//!   told of it, and what differs is told when somebody asks. Several changes in between are told as the last of them.
//! * **Echo** is answered when it was sent to one of our addresses and to this port alone, up to a number per second. An answer
//!   goes where the frame came from, not where a table says.
//!
//! Not here: routes, which are configured, so router advertisements and redirects are ignored; proxy ARP; ICMP errors,
//! which TCP here does without; multicast listener reports; VLAN tags, IPv4 options, IPv6 extension headers and
//! fragments, which are ignored and counted.
#![forbid(unsafe_code)]

mod announcement;
mod arp;
mod counters;
mod doubts;
mod echo;
mod ethernet;
pub mod limits;
mod link;
mod ndp;
mod neighbour;
mod neighbours;
mod own;
mod port;
mod receive;
mod throttle;

#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod test_support;

pub use announcement::Announcement;
pub use doubts::Doubts;
pub use link::{Link, News, Wanted};
pub use own::LinkPort;

/// A link-layer address.
pub type Mac = [u8; 6];
