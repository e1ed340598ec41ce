//! What virtio_net does once a steering program is attached, told before it is.
//!
//! The driver wants a transmit queue for each CPU then. As long as the device has so many more, it opens them, and a receive queue
//! with each; the host spreads over all of them. Without so many it stays with those that it has. With each such change the host
//! forgets the RSS key and table that it was given, while the driver goes on telling them.
//!
//! So the queues have to come out as many as there are workers, unless the device does RSS: then its table is given to it again
//! once the program is attached, and names queues with workers only.

use crate::plan::{Facts, PlannedPort};
use anyhow::Context;
use tidegate_port::nic::settings;
use tidegate_port::nic::virtio::{DRIVER, Trap, Virtio};
use tidegate_port::nic::{Nic, Rss};

/// Whether this interface is one of virtio_net.
pub fn is(nic: &Nic) -> bool {
    nic.driver.as_deref() == Some(DRIVER)
}

/// What keeps a program from running in the driver.
pub fn trap(nic: &Nic) -> Option<Trap> {
    nic.virtio.and_then(|virtio| virtio.trap(nic.mtu_bytes))
}

/// What the driver tells of RSS, if it can be had. With the table it tells the device over how many queues to spread, and in Linux 6.1
/// that is the number that it had at first, at most one for each CPU; later ones follow the changes. Frames for other queues end at the
/// first ones.
fn rss<'a>(nic: &'a Nic, workers: u32, facts: &Facts) -> Option<&'a Rss> {
    let usable = is(nic) && workers as usize <= facts.cores.len();
    nic.rss.as_ref().filter(|_| usable)
}

/// How frames are spread once a program is attached; the error says why nobody knows.
pub fn spread<'a>(nic: &'a Nic, to_set: Option<&'a Rss>) -> Result<&'a Rss, &'static str> {
    match to_set.or(nic.rss.as_ref()) {
        None => Err("the driver does not tell its RSS key and table"),
        Some(_) if is(nic) && to_set.is_none() => {
            Err("virtio_net spreads over no more queues than CPUs with RSS, so it is left off")
        }
        Some(rss) => Ok(rss),
    }
}

/// Receive queues that are in use once a program is attached, of those that are in use now.
fn when_attached(nic: &Nic, now: u32, facts: &Facts) -> u32 {
    // In generic mode nothing changes.
    let with_more = now.saturating_add(facts.processors);
    if facts.attached.contains(&nic.name) || with_more > nic.rx_queues_max || trap(nic).is_some() {
        now
    } else {
        with_more
    }
}

/// Queues that need a worker each, whatever the cores; `None`: there is a choice.
pub fn queues_to_serve(nic: &Nic, facts: &Facts) -> Option<u32> {
    if !is(nic) || nic.rss.is_some() {
        return None;
    }
    let now = nic.rx_queues;
    Some(if when_attached(nic, now, facts) == now {
        now
    } else {
        nic.rx_queues_max
    })
}

/// Queues that `queues = "auto"` counts on.
pub fn queues_for_auto(nic: &Nic, facts: &Facts) -> u32 {
    let table = nic.rss.as_ref().map(|rss| rss.indirection.as_slice());
    match table.and_then(|table| table.iter().max()) {
        // While it is attached more are in use than get frames: what was counted on then, the table says.
        Some(last) if is(nic) && facts.attached.contains(&nic.name) => last.saturating_add(1),
        _ => queues_to_serve(nic, facts).unwrap_or(nic.rx_queues),
    }
}

/// Why there have to be so many workers; empty: somebody wants them.
pub fn why_so_many(nic: &Nic, workers: u32, facts: &Facts) -> &'static str {
    if nic.rx_queues < workers && queues_to_serve(nic, facts) == Some(workers) {
        ", or `tidegate configure init channels`; with the steering program virtio_net opens more queues by itself, and each needs a worker"
    } else {
        ""
    }
}

/// Why so many workers would lose frames.
pub fn fault(nic: &Nic, workers: u32, facts: &Facts) -> Option<String> {
    if !is(nic) || rss(nic, workers, facts).is_some() || facts.attached.contains(&nic.name) {
        return None;
    }
    let (name, most) = (&nic.name, nic.rx_queues_max);
    // With too few queues there is another fault, and this one if it is mended as that says.
    let after = when_attached(nic, nic.rx_queues.max(workers), facts);
    if after <= workers || workers == 0 {
        return None;
    }
    let lost = format!(
        "{name}: with the steering program virtio_net spreads over {after} receive queues and {workers} are served: what arrives on \
         the others is lost"
    );
    Some(if when_attached(nic, workers, facts) == workers {
        format!(
            "{lost}; ethtool -L {name} combined {workers}, or `tidegate configure init channels`"
        )
    } else {
        let cpus = facts.processors;
        format!(
            "{lost}. It opens one more for each of {cpus} CPUs where the device has them: serve all {most} (ethtool -L {name} combined \
             {most}, and a map of {most} queues), or give the machine a device with {workers} queues (QEMU: queues={workers}), or one \
             with RSS (QEMU: rss=on,hash=on; for at most as many workers as CPUs)"
        )
    })
}

/// What the device is told of RSS once the program is attached: what the driver tells, or an even spread if that names queues without
/// workers or leaves workers out. `None`: it does no RSS, or is another device, which forgets nothing.
pub fn rss_to_set(nic: &Nic, workers: u32, facts: &Facts) -> Option<Rss> {
    let rss = rss(nic, workers, facts)?;
    let served = |queue: &u32| *queue < workers;
    let all = (0..workers).all(|worker| rss.indirection.contains(&worker));
    if all && rss.indirection.iter().all(served) {
        return Some(rss.clone());
    }
    let even = (0..workers.max(1)).cycle();
    Some(Rss {
        indirection: even.take(rss.indirection.len()).collect(),
        ..rss.clone()
    })
}

/// What is wrong with the device and what it should be instead; `None`: nothing is known to be.
pub fn complaint(nic: &Nic) -> Option<(String, String)> {
    let name = &nic.name;
    let instead = "ethtool cannot change it in the guest; or use driver = \"kernel\"";
    Some(match trap(nic)? {
        Trap::Offloads { names } => (
            format!(
                "{name}: virtio_net refuses programs in the driver while the host may do {} to frames and cannot be told to stop (\"Can't \
                 set XDP while host is implementing GRO_HW/CSUM\"), and in generic mode frames of machines on that host are lost",
                names.join(", ")
            ),
            format!(
                "give the device ctrl_guest_offloads=on or all of {} (QEMU's names); {instead}",
                all_off(&names)
            ),
        ),
        Trap::HeaderApart => (
            format!(
                "{name}: virtio_net refuses programs in the driver while the device is an old one (\"XDP expects header/data in single \
                 page, any_header_sg required\")"
            ),
            format!(
                "give the device disable-modern=off or any_layout=on (QEMU's names); {instead}"
            ),
        ),
        Trap::Bypass { names } if names.is_empty() => (
            format!(
                "{name}: virtio_net takes the steering program and never runs it: mrg_rxbuf=off with an MTU above 1500 makes buffers \
                 that programs do not see"
            ),
            format!("give the device mrg_rxbuf=on or host_mtu=1500 (QEMU's names); {instead}"),
        ),
        Trap::Bypass { names } => (
            format!(
                "{name}: virtio_net takes the steering program and never runs it: mrg_rxbuf=off with {} makes buffers that programs do \
                 not see",
                names.join(", ")
            ),
            format!(
                "give the device mrg_rxbuf=on or all of {} (QEMU's names); {instead}",
                all_off(&names)
            ),
        ),
    })
}

/// As it stands on QEMU's command line.
fn all_off(names: &[&str]) -> String {
    let off: Vec<String> = names.iter().map(|name| format!("{name}=off")).collect();
    off.join(",")
}

/// Why a start would serve nobody and nothing would say so: the kernel has nothing against the program.
pub fn bypass(nic: &Nic) -> Option<String> {
    let silent = matches!(trap(nic), Some(Trap::Bypass { .. }));
    let (what, mend) = complaint(nic).filter(|_| silent)?;
    Some(format!("{what}; {mend}"))
}

/// Whether generic mode is no way out for this device.
pub fn spoils_generic_mode(nic: &Nic) -> bool {
    is(nic) && nic.virtio.is_some_and(Virtio::spoils_generic_mode)
}

/// Gives the device what it forgot when the program was attached, and looks whether what arrives is served.
pub fn settle(planned: &PlannedPort, workers: u32) -> anyhow::Result<()> {
    if !is(&planned.nic) {
        return Ok(());
    }
    let name = &planned.nic.name;
    if let Some(rss) = &planned.rss {
        settings::set_rss(name, rss)
            .with_context(|| format!("{name}: RSS cannot be set again after attaching"))?;
        anyhow::ensure!(
            settings::rss(name).as_ref() == Some(rss),
            "{name}: RSS was set again after attaching and is something else: another program changes it, or the driver does not do \
             what it says"
        );
        tracing::info!(
            "{name}: RSS set again after attaching, a table of {} over {workers} queues",
            rss.indirection.len()
        );
        return Ok(());
    }
    let channels = settings::channels(name).with_context(|| format!("{name}: its channels"))?;
    let queues = channels.and_then(|channels| channels.rx_queues());
    let queues = queues.map_or(0, |(now, _)| now);
    anyhow::ensure!(
        queues <= workers,
        "{name}: with the steering program virtio_net spreads over {queues} receive queues and {workers} are served: what arrives on the \
         others is lost; ethtool -L {name} combined {}, and a map of as many queues",
        planned.nic.rx_queues_max
    );
    Ok(())
}

#[cfg(test)]
mod tests;
