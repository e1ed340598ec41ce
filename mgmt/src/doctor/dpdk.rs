//! DPDK's side of its cards. Who drives them and what memory there is, the stages of `tidegate configure` say.

use super::{Findings, Patient};
use crate::configure::nodes_of;
use crate::host::Host;
use crate::pci::{Address, Card, pmds};
use tidegate_dataplane::affinity::core_list;

const ABOUT: &str = "cards";

pub fn look(patient: &Patient<'_>, findings: &mut Findings) {
    let addresses = patient
        .target
        .cards
        .iter()
        .filter_map(|card| Address::parse(card));
    // One that is missing is said once, by the stage.
    let cards: Vec<Card> = addresses
        .filter_map(|address| Card::read(patient.host, &address))
        .filter(Card::is_for_networks)
        .collect();
    if cards.is_empty() {
        return;
    }
    of_drivers(patient.host, &cards, findings);
    of_nodes(patient, &cards, findings);
}

fn of_drivers(host: &dyn Host, cards: &[Card], findings: &mut Findings) {
    let Some(directory) = pmds::directory(host) else {
        findings.blocks(
            ABOUT,
            "the drivers of DPDK 22.11 are not installed: there is no directory pmds-23.0",
            "install them (Debian 12: apt-get install dpdk libdpdk-dev)",
        );
        return;
    };
    for card in cards {
        let Some((vendor, device)) = card.id else {
            continue;
        };
        if !pmds::know(host, &directory, (vendor, device)) {
            findings.blocks(
                ABOUT,
                format!(
                    "{} ({vendor:04x}:{device:04x}): no driver of DPDK in {directory} knows this card",
                    card.address
                ),
                "install the package of its driver (Debian: librte-net-…23), or use driver = \"afxdp\"",
            );
        }
    }
}

/// DPDK is started only where a core of a worker is next to each card.
fn of_nodes(patient: &Patient<'_>, cards: &[Card], findings: &mut Findings) {
    let nodes = nodes_of(patient.host, &patient.cores());
    if nodes.iter().any(|(node, _)| node.is_none()) {
        return;
    }
    for card in cards {
        let Some(node) = card.node else { continue };
        if !nodes.iter().any(|(of_cores, _)| *of_cores == Some(node)) {
            findings.blocks(
                ABOUT,
                format!(
                    "{} is next to memory node {node}, and none of the cores {} of workers is",
                    card.address,
                    core_list(&patient.cores())
                ),
                "take cores of that node (lscpu shows them): queues = { … }",
            );
        }
    }
}
