//! Interrupts of other devices on the cores of workers: each stops the worker for a moment.

use super::{Findings, Patient};
use crate::host::{self, Interrupt, action, numbers, value};
use tidegate_dataplane::affinity::core_list;

const ABOUT: &str = "interrupts";
/// So many are named.
const NAMED_MAX: usize = 4;

pub fn look(patient: &Patient<'_>, findings: &mut Findings) {
    let cores = patient.cores();
    let online = value(patient.host, "/sys/devices/system/cpu/online").unwrap_or_default();
    let mut others = numbers(&online);
    others.retain(|core| !cores.contains(core));
    // Over kernel sockets the card's interrupts belong to the work, and while a port is missing nobody knows which are its.
    let ports = &patient.target.ports;
    let known = |interface: &str| patient.host.index(interface).is_some();
    if ports.is_empty() || !ports.iter().all(|port| known(&port.interface)) {
        return;
    }
    // With every core a worker's they have to be somewhere.
    if cores.is_empty() || others.is_empty() {
        return;
    }
    let ours: Vec<u32> = ports
        .iter()
        .flat_map(|port| host::interrupts(patient.host, &port.interface))
        .map(|interrupt| interrupt.number)
        .collect();
    let strangers: Vec<Interrupt> = patient
        .host
        .list("/proc/irq")
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|number| !ours.contains(number))
        .filter(|number| lands_on(patient, *number, &cores))
        .filter_map(|number| {
            let action = action(patient.host, number)?;
            Some(Interrupt { number, action })
        })
        .collect();
    if strangers.is_empty() {
        return;
    }
    let named: Vec<String> = strangers
        .iter()
        .take(NAMED_MAX)
        .map(|stranger| format!("{} ({})", stranger.number, stranger.action))
        .collect();
    let more = match strangers.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    findings.slower(
        ABOUT,
        format!(
            "interrupts {}{more} of other devices land on cores {} of workers",
            named.join(", "),
            core_list(&cores)
        ),
        format!(
            "echo {} > /proc/irq/NUMBER/smp_affinity_list for each, and IRQBALANCE_BANNED_CPULIST={} for irqbalance",
            core_list(&others),
            core_list(&cores)
        ),
    );
}

/// Where the kernel really delivers it.
fn lands_on(patient: &Patient<'_>, number: u32, cores: &[u32]) -> bool {
    let file = format!("/proc/irq/{number}/effective_affinity_list");
    let lands = value(patient.host, &file).unwrap_or_default();
    numbers(&lands).iter().any(|core| cores.contains(core))
}
