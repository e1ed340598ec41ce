//! Cards of DPDK on vfio-pci, which keeps each to the memory of the process that has it.
//!
//! A card is only taken from the kernel when nothing is lost with its interface that could not be given back.

use super::Item;
use crate::configure::binding::Binding;
use crate::configure::setting::{Change, Setting, Value};
use crate::configure::target::Target;
use crate::host::Host;
use crate::pci::lifelines::{Lifelines, above, is_link_local};
use crate::pci::vfio::MODULES;
use crate::pci::{self, Address, Card, Group, VFIO};
use tidegate_port::cards::{Handing, handing};

pub fn inspect(target: &Target, host: &dyn Host) -> Vec<Item> {
    if target.cards.is_empty() {
        return vec![Item::Nothing("no port is a card of DPDK".into())];
    }
    let mut ours: Vec<Address> = Vec::new();
    let mut unguarded: Vec<Address> = Vec::new();
    let mut items = Vec::new();
    for name in &target.cards {
        match address(host, name) {
            Ok(address) => {
                if target.unguarded_cards.contains(name) {
                    unguarded.push(address.clone());
                }
                // One card may be named twice, by its address and by its interface.
                if !ours.contains(&address) {
                    ours.push(address);
                }
            }
            Err(item) => items.push(*item),
        }
    }
    let of_one = |card| of_card(host, card, &ours, unguarded.contains(card));
    items.extend(ours.iter().flat_map(of_one));
    items
}

/// What can only be mended by hand.
fn wrong(what: impl Into<String>, by_hand: impl Into<String>) -> Item {
    Item::Wrong {
        what: what.into(),
        by_hand: by_hand.into(),
        change: None,
    }
}

/// The address of a card that is named by it, or by the interface that the kernel still has on it.
fn address(host: &dyn Host, name: &str) -> Result<Address, Box<Item>> {
    if let Some(address) = Address::parse(name) {
        return Ok(address);
    }
    if host.index(name).is_none() {
        return Err(Box::new(wrong(
            format!("{name} is neither the address of a PCI device nor an interface that is here"),
            "name one that is there (lspci -D, ip link)",
        )));
    }
    pci::of_interface(host, name).ok_or_else(|| {
        Box::new(wrong(
            format!("{name} is no interface of a PCI card of its own, and DPDK drives only those"),
            "name a card (lspci -D), or use driver = \"afxdp\"",
        ))
    })
}

/// `unguarded`: the configuration lets it be without an IOMMU.
fn of_card(host: &dyn Host, address: &Address, ours: &[Address], unguarded: bool) -> Vec<Item> {
    let Some(card) = Card::read(host, address) else {
        return vec![wrong(
            format!("there is no PCI device {address}"),
            "name one that is there (lspci -D shows them)",
        )];
    };
    if !card.is_for_networks() {
        return vec![wrong(
            format!(
                "{address} is no network card: its class is {:04x}",
                card.class
            ),
            "name a network card (lspci -D -d ::02xx shows them)",
        )];
    }
    let driver = card.driver.as_deref();
    match driver.and_then(handing) {
        Some(Handing::Shared) => return shared(host, &card),
        Some(Handing::Unguarded) => {
            return vec![open(address, driver.unwrap_or_default(), unguarded)];
        }
        Some(Handing::Guarded) if unguarded && has_no_iommu(&card) => {
            return vec![open(address, VFIO, unguarded)];
        }
        Some(Handing::Guarded) | None => {}
    }
    let mut items = Vec::new();
    if driver != Some(VFIO) {
        of_interfaces(host, &card, &mut items);
    }
    of_modules(host, &card, &mut items);
    of_group(host, &card, ours, &mut items);
    if items.is_empty() {
        items.push(verdict(host, &card));
    }
    items
}

/// It is where somebody put it, with no IOMMU between it and the memory.
fn open(address: &Address, driver: &str, unguarded: bool) -> Item {
    if unguarded {
        return Item::Nothing(format!(
            "{address}: on {driver}, where somebody put it: DPDK takes it from there, with no IOMMU between it and the memory, \
             since the configuration says without_iommu = true"
        ));
    }
    wrong(
        format!(
            "{address} is on {driver}, with no IOMMU between it and all memory of the machine: no worker takes it from there"
        ),
        format!(
            "dpdk-devbind.py --bind={VFIO} {address}; or, if whoever takes over a worker may have the machine, without_iommu = \
             true in its [[port]]"
        ),
    )
}

fn has_no_iommu(card: &Card) -> bool {
    card.group
        .as_ref()
        .is_none_or(|group| group.is_without_iommu)
}

/// Nothing speaks against it.
fn verdict(host: &dyn Host, card: &Card) -> Item {
    let address = &card.address;
    let group = card.group.as_ref().map(|group| group.number.as_str());
    if card.driver.as_deref() == Some(VFIO) {
        let node = card.node.map(|node| format!(", memory node {node}"));
        return Item::Fine(format!(
            "{address}: on {VFIO}, IOMMU group {}{}",
            group.unwrap_or_default(),
            node.unwrap_or_default()
        ));
    }
    let setting = Setting::Driver(address.to_string());
    match setting.get(host) {
        Ok(Some(now)) => Item::Wrong {
            what: format!("{address} is with {now}: DPDK needs it on {VFIO}"),
            by_hand: format!("modprobe {VFIO} && dpdk-devbind.py --bind={VFIO} {address}"),
            change: Some(Change::new(
                setting,
                now,
                Value::Driver(Box::new(Binding::of_vfio())),
            )),
        },
        Ok(None) => Item::Unknown(format!("{setting}: gone")),
        Err(error) => super::unreadable(&setting, host, &error),
    }
}

/// Its driver and DPDK have it together: nothing changes hands, but frames do.
fn shared(host: &dyn Host, card: &Card) -> Vec<Item> {
    let mut items = Vec::new();
    of_lifelines(host, card, &mut items);
    if items.is_empty() {
        items.push(Item::Nothing(format!(
            "{}: stays with {}, which shares it with DPDK",
            card.address,
            card.driver.as_deref().unwrap_or_default()
        )));
    }
    items
}

/// What would be lost with its interfaces.
fn of_interfaces(host: &dyn Host, card: &Card, items: &mut Vec<Item>) {
    let address = &card.address;
    if card.is_out_of_sight(host) {
        let driver = card.driver.as_deref().unwrap_or("its driver");
        items.push(wrong(
            format!(
                "{address} is with {driver}, and its interface is not in this network namespace: a container may use it"
            ),
            "move the interface here (ip link set IF netns 1 in the other one), or run this there",
        ));
    }
    if card.functions > 0 {
        items.push(wrong(
            format!(
                "{address} is divided into {} virtual functions, which would go with its driver",
                card.functions
            ),
            format!(
                "give one of these to DPDK instead (lspci -D), or echo 0 > {}/sriov_numvfs",
                address.directory()
            ),
        ));
    }
    of_lifelines(host, card, items);
    for name in &card.interfaces {
        of_interface(host, address, name, items);
    }
}

fn of_lifelines(host: &dyn Host, card: &Card, items: &mut Vec<Item>) {
    if card.interfaces.is_empty() {
        return;
    }
    let lifelines = match Lifelines::gather(host) {
        Ok(lifelines) => lifelines,
        Err(error) => {
            items.push(wrong(
                format!(
                    "{}: cannot tell whether it carries the default route or an ssh connection: {error}",
                    card.address
                ),
                "run it where routes and connections can be seen (/proc/net, netlink)",
            ));
            return;
        }
    };
    for name in &card.interfaces {
        let above = above(host, name);
        let names = std::iter::once(name).chain(&above);
        let indexes: Vec<u32> = names.filter_map(|name| host.index(name)).collect();
        for carried in lifelines.over(&indexes) {
            let over = match above.as_slice() {
                [] => String::new(),
                above => format!(", below {}", above.join(", ")),
            };
            items.push(wrong(
                format!(
                    "{} ({name}{over}) carries {carried}, which would be cut",
                    card.address
                ),
                "take another card, or move that to another interface first",
            ));
        }
    }
}

fn of_interface(host: &dyn Host, address: &Address, name: &str, items: &mut Vec<Item>) {
    let above = above(host, name);
    if !above.is_empty() {
        items.push(wrong(
            format!(
                "{address} ({name}) is below {}, which would lose it for good",
                above.join(", ")
            ),
            format!("ip link set {name} nomaster, or ip link del what is made of it"),
        ));
    }
    let index = host.index(name);
    let has = |what: &str, mend: &str| {
        wrong(
            format!("{address} ({name}) has {what}, and undoing would not bring them back"),
            format!(
                "once they are needed no more: ip {mend} flush dev {name} (and ip link set {name} down, where a router gives \
                 them anew)"
            ),
        )
    };
    let unreadable = |error: std::io::Error| {
        wrong(
            format!("{address} ({name}): cannot tell what it is used for: {error}"),
            "run it where netlink can be used",
        )
    };
    match host.addresses() {
        // Those of the link the kernel makes by itself.
        Ok(all) => {
            let own = all.iter().filter(|(of, _)| Some(*of) == index);
            let texts: Vec<String> = own
                .filter(|(_, address)| !(address.is_ipv6() && is_link_local(*address)))
                .map(|(_, address)| address.to_string())
                .collect();
            if !texts.is_empty() {
                items.push(has(&format!("addresses ({})", texts.join(", ")), "addr"));
            }
        }
        Err(error) => items.push(unreadable(error)),
    }
    match host.routes() {
        Ok(all) => {
            let is_here = |of: &u32| Some(*of) == index;
            let mut own = all
                .iter()
                .filter(|route| route.interfaces.iter().any(is_here));
            // What the kernel made of an address comes and goes with that.
            if own.any(|route| !route.by_kernel) {
                items.push(has("routes", "route"));
            }
        }
        Err(error) => items.push(unreadable(error)),
    }
    match host.has_xdp(name) {
        Ok(false) => {}
        Ok(true) => items.push(wrong(
            format!(
                "{address} ({name}) is in use: an XDP program is attached, such as that of a running tidegate"
            ),
            "stop what attached it (bpftool net show)",
        )),
        Err(error) => items.push(unreadable(error)),
    }
}

fn of_modules(host: &dyn Host, card: &Card, items: &mut Vec<Item>) {
    let address = &card.address;
    let is_there = card.driver.as_deref() == Some(VFIO);
    for module in MODULES.iter().filter(|module| !module.is_loaded(host)) {
        let name = module.name;
        if !module.can_be_loaded(host) {
            items.push(wrong(
                format!("{address} needs {name}, which is neither loaded nor among the modules of this kernel"),
                "install the modules of this kernel, or another one with CONFIG_VFIO_PCI",
            ));
        } else if is_there {
            items.push(wrong(
                format!("{address} is on {VFIO}, and {name} is not loaded, without which no process can have it"),
                format!("modprobe {name}"),
            ));
        }
    }
}

fn of_group(host: &dyn Host, card: &Card, ours: &[Address], items: &mut Vec<Item>) {
    let address = &card.address;
    let Some(group) = card.group.as_ref().filter(|group| !group.is_without_iommu) else {
        items.push(without_iommu(host, address));
        return;
    };
    let Group { number, driven, .. } = group;
    let strangers: Vec<String> = driven
        .iter()
        .filter(|(member, _)| !ours.contains(member))
        .map(|(member, driver)| format!("{member} ({driver})"))
        .collect();
    if !strangers.is_empty() {
        items.push(wrong(
            format!(
                "{address} shares IOMMU group {number} with {}: a process gets all of a group or nothing",
                strangers.join(", ")
            ),
            "put the card into another slot, or give up those as well (dpdk-devbind.py --unbind)",
        ));
    }
}

/// Without one the card could write to all memory, and so could whoever takes over a worker. Most kernels that distributions build do
/// not have vfio's mode for that either.
fn without_iommu(host: &dyn Host, address: &Address) -> Item {
    const WHY: &str =
        "vfio's mode without one is not offered: the card could then write to all memory";
    if host.list("/sys/class/iommu").is_empty() {
        return wrong(
            format!("{address}: no IOMMU is on, and {WHY}"),
            "switch it on in the firmware (VT-d, AMD-Vi) and start the kernel with intel_iommu=on (AMD needs no word); in a \
             virtual machine the hypervisor has to give it one (QEMU: -device intel-iommu,intremap=on); or use driver = \
             \"afxdp\"",
        );
    }
    wrong(
        format!("{address}: the IOMMU does not watch this card, and {WHY}"),
        "start the kernel without iommu=pt or iommu=off for it, let the hypervisor put it behind its IOMMU (QEMU: \
         iommu_platform=on), or take another card",
    )
}
