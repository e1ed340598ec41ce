//! The stages: what each wants of the machine, and whether it has it.

mod cards;
mod channels;
mod governor;
mod hugepages;
mod irqbalance;
mod irqs;
mod memory;
mod offloads;
mod ports;
mod rings;

use super::setting::{Change, Interface, Setting};
use super::target::{Port, Target};
use crate::host::Host;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::io;

/// A stage, in the order in which they are done. Each may change what a later one sees: new channels bring new interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Stage {
    /// Cards of DPDK with vfio-pci in place of the kernel's driver.
    Cards,
    /// As many channels (queues) as workers.
    Channels,
    /// Rings of the card large enough for pauses of a worker.
    Rings,
    /// What the card must not do to frames before XDP sees them.
    Offloads,
    /// irqbalance leaves the queues' interrupts alone.
    Irqbalance,
    /// The interrupts of each queue on the core of its worker.
    Irqs,
    /// Huge pages for packet buffers.
    Hugepages,
    /// Huge pages set aside for DPDK.
    Memory,
    /// The workers' source ports kept from the kernel.
    Ports,
    /// Full frequency for the workers' cores.
    Governor,
}

/// One thing that a stage looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// As it should be.
    Fine(String),
    /// There is nothing to set, and why.
    Nothing(String),
    /// Cannot be seen, and why.
    Unknown(String),
    /// Not as it should be.
    Wrong {
        /// What is wrong and what would be right.
        what: String,
        /// What to do by hand instead.
        by_hand: String,
        /// What `init` does; `None`: it can only be done by hand.
        change: Option<Change>,
    },
}

impl Stage {
    /// All of them.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cards => "cards",
            Self::Channels => "channels",
            Self::Rings => "rings",
            Self::Offloads => "offloads",
            Self::Irqbalance => "irqbalance",
            Self::Irqs => "irqs",
            Self::Hugepages => "hugepages",
            Self::Memory => "memory",
            Self::Ports => "ports",
            Self::Governor => "governor",
        }
    }

    /// Whether Tidegate does not run at all until it is mended.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Cards | Self::Memory)
    }

    /// Looks, and changes nothing.
    pub fn inspect(self, target: &Target, host: &dyn Host) -> Vec<Item> {
        let per_port: fn(&Target, &Port, &dyn Host) -> Vec<Item> = match self {
            Self::Channels => channels::inspect,
            Self::Rings => rings::inspect,
            Self::Offloads => offloads::inspect,
            Self::Irqs => irqs::inspect,
            Self::Irqbalance => return irqbalance::inspect(target, host),
            Self::Cards => return cards::inspect(target, host),
            Self::Hugepages => return hugepages::inspect(host),
            Self::Memory => return memory::inspect(target, host),
            Self::Ports => return ports::inspect(target, host),
            Self::Governor => return governor::inspect(target, host),
        };
        if target.ports.is_empty() {
            return vec![no_interface()];
        }
        let ports = target.ports.iter();
        ports
            .flat_map(|port| match host.index(&port.interface) {
                Some(_) => per_port(target, port, host),
                None => vec![Item::Wrong {
                    what: format!(
                        "{}: there is no such interface in this network namespace",
                        port.interface
                    ),
                    by_hand: "name one that is there (ip link shows them)".into(),
                    change: None,
                }],
            })
            .collect()
    }
}

/// What kernel sockets and DPDK have instead of all that is about interfaces.
fn no_interface() -> Item {
    Item::Nothing("no port is an interface with driver = \"afxdp\"".into())
}

/// An interface of the configuration.
fn interface(port: &Port, host: &dyn Host) -> Interface {
    Interface {
        name: port.interface.clone(),
        index: host.index(&port.interface).unwrap_or_default(),
    }
}

/// What could not be read.
fn unreadable(setting: &Setting, host: &dyn Host, error: &io::Error) -> Item {
    Item::Unknown(setting.explain(host, error))
}
