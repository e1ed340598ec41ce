//! What the configuration asks of the machine.

use crate::plan::{self, Facts};
use crate::runtime_dir::Presence;
use crate::virtio;
use tidegate_config::{Config, Driver, Pmd, PortConfig};

/// An interface that is named in the configuration; no other is ever touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub interface: String,
    /// Descriptors of the sockets' rings.
    pub ring_size: u32,
    /// Queues that have to be there whatever the number of workers; `None`: as many as there are workers.
    pub queues: Option<u32>,
}

/// What stages need to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The instance.
    pub name: String,
    /// Interfaces; none for kernel sockets.
    pub ports: Vec<Port>,
    /// Cards that DPDK is to drive, each by its address or by the interface that the kernel still has on it.
    pub cards: Vec<String>,
    /// Those of them that may be without an IOMMU.
    pub unguarded_cards: Vec<String>,
    /// Descriptors of the rings of the configuration's cards, of which follows how much memory DPDK takes.
    pub card_rings: Vec<u32>,
    /// Who there is of the instance: whoever serves has its memory.
    pub presence: Presence,
    /// Worker n runs on this core; `None`: wherever the scheduler likes.
    pub cores: Vec<Option<u32>>,
    /// How many queues there have to be; `None`: as many as there are.
    pub workers: Option<u32>,
    /// Ports towards servers; `None`: the kernel chooses.
    pub source_ports: Option<(u16, u16)>,
}

impl Target {
    /// Reads it from a configuration. The facts are only needed where the configuration leaves the choice of cores to us.
    pub fn of(config: &Config, facts: &Facts) -> Self {
        let nics = config
            .ports
            .iter()
            .filter(|port| port.driver == Driver::Afxdp);
        let cards = || config.ports.iter().filter(|port| is_card(port));
        Self {
            name: config.name.clone(),
            ports: nics
                .clone()
                .map(|port| Port {
                    interface: port.interface.clone(),
                    ring_size: port.ring_size,
                    queues: queues(config, port, facts),
                })
                .collect(),
            cards: cards().map(|port| port.interface.clone()).collect(),
            unguarded_cards: cards()
                .filter(|port| port.dpdk.as_ref().is_some_and(|dpdk| dpdk.without_iommu))
                .map(|port| port.interface.clone())
                .collect(),
            card_rings: cards().map(|port| port.ring_size).collect(),
            presence: Presence::Gone,
            cores: plan::cores(config, facts),
            workers: config.queue_map().map(|map| map.len() as u32),
            // Of addresses that the kernel does not know it gives no port to anybody.
            source_ports: nics.clone().next().map(|_| config.worker.source_ports),
        }
    }
}

fn is_card(port: &PortConfig) -> bool {
    let options = port.dpdk.as_ref();
    options.is_some_and(|options| options.pmd == Pmd::Pci)
}

/// Where workers follow from the queues: those that virtio_net would open by itself, without workers.
fn queues(config: &Config, port: &PortConfig, facts: &Facts) -> Option<u32> {
    let nic = facts.nics.get(&port.interface)?.as_ref().ok()?;
    match config.queue_map() {
        Some(_) => None,
        None => virtio::queues_to_serve(nic, facts),
    }
}
