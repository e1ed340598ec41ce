//! The XDP program that `net_af_xdp` attaches to an interface, which takes all of its frames, and which nobody takes off: it stays when the
//! process of DPDK is gone, and the kernel has no frames of that interface then.

use crate::netlink::answer::AttachedProgram;
use crate::netlink::query::Query;
use crate::runtime_dir::{Presence, Record, holder, network_namespace, orphaned};
use crate::sockets::preflight::Taken;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tidegate_config::{Config, Pmd, Table};
use tidegate_port::bpf::ForeignProgram;
use tidegate_port::nic::Nic;
use tidegate_port::xdp;

/// What libxdp calls them: the program itself, and the one that calls it where there is a file system of BPF.
const NAMES: [&str; 3] = ["xsk_def_prog", "xsk_def_xdp_prog", "xdp_dispatcher"];

/// Where libxdp keeps what belongs to the second kind.
const PINS: &str = "/sys/fs/bpf/xdp";

/// A program that came with a process of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRecord {
    /// The interface.
    pub interface: String,
    /// The kernel's number of the program, which is never given to another one while that is attached.
    pub id: u32,
}

/// Since when the machine runs: the clock by which the kernel says when a program was loaded.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

/// Ports whose interface gets a program, with their positions.
fn ports(config: &Config) -> impl Iterator<Item = (usize, &str)> {
    let ports = config.ports.iter().enumerate();
    ports.filter_map(|(index, port)| {
        let dpdk = port.dpdk.as_ref()?;
        (dpdk.pmd == Pmd::AfXdp).then_some((index, port.interface.as_str()))
    })
}

fn attached(query: &mut Query, interface: &str) -> Option<(u32, AttachedProgram)> {
    let ifindex = Nic::by_name(interface).ok()?.ifindex;
    Some((ifindex, query.program(ifindex).ok()??))
}

/// The programs of a running instance: those that it has `known`, and those that were loaded by DPDK `since` it began. When it began there
/// was none, or it would not have begun.
pub fn of_instance(
    config: &Config,
    known: &[ProgramRecord],
    since: Duration,
) -> Vec<ProgramRecord> {
    let mut ports = ports(config).peekable();
    if ports.peek().is_none() {
        return Vec::new();
    }
    let Ok(mut query) = Query::open() else {
        return known.to_vec();
    };
    let ours = ports.filter_map(|(_, interface)| {
        let (_, AttachedProgram { id, .. }) = attached(&mut query, interface)?;
        let found = ProgramRecord {
            interface: interface.to_owned(),
            id,
        };
        let is_new = || {
            let program = ForeignProgram::by_id(id).ok().flatten();
            program
                .is_some_and(|program| NAMES.contains(&program.name()) && program.loaded() >= since)
        };
        (known.contains(&found) || is_new()).then_some(found)
    });
    ours.collect()
}

/// Takes these programs off, where they are still what is attached.
pub fn remove(programs: &[ProgramRecord]) {
    if programs.is_empty() {
        return;
    }
    let mut query = match Query::open() {
        Ok(query) => query,
        Err(error) => {
            tracing::warn!("cannot ask the kernel for XDP programs: {error}");
            return;
        }
    };
    for ProgramRecord { interface, id } in programs {
        let Some((ifindex, program)) = attached(&mut query, interface) else {
            continue;
        };
        if program.id != *id {
            continue;
        }
        let taken_off = match ForeignProgram::by_id(*id) {
            Ok(None) => continue,
            Ok(Some(ours)) if !NAMES.contains(&ours.name()) => continue,
            Ok(Some(ours)) => {
                let outcome = xdp::detach(ifindex, program.mode, std::os::fd::AsFd::as_fd(&ours));
                outcome.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match taken_off {
            Ok(()) => {
                let _there_were_none = std::fs::remove_dir_all(
                    Path::new(PINS).join(format!("dispatch-{ifindex}-{id}")),
                );
                tracing::info!(
                    "{interface}: DPDK's XDP program is taken off, the kernel has its frames back"
                );
            }
            Err(error) => tracing::warn!(
                "{interface}: DPDK's XDP program cannot be taken off: {error}; until it is (ip link set dev {interface} xdp off) the kernel \
                 gets no frames there"
            ),
        }
    }
}

/// Interfaces whose frames somebody else has, and who that is.
pub fn faults(config: &Config, root: &Path, taken: Taken) -> Vec<String> {
    let mut ports = ports(config).peekable();
    if taken == Taken::IsOurs || ports.peek().is_none() {
        return Vec::new();
    }
    let Ok(mut query) = Query::open() else {
        return Vec::new();
    };
    let faults = ports.filter_map(|(index, interface)| {
        let (_, program) = attached(&mut query, interface)?;
        let fault = match owner(root, interface, program.id) {
            // What a killed instance of this name left, its next start takes off.
            Some(owner) if owner == config.name => return None,
            Some(owner) => of_owner(root, interface, &owner),
            None => of_stranger(interface, program.id),
        };
        let place = config.place(Table::Port(index), "interface");
        Some(format!("{place}{fault}"))
    });
    faults.collect()
}

fn of_owner(root: &Path, interface: &str, owner: &str) -> String {
    match Presence::of(root, owner) {
        Presence::Running => format!(
            "{interface} is served by the instance {owner:?} (process {}), whose XDP program takes all of its frames: end that one, or name \
             another interface",
            holder(root, owner)
        ),
        Presence::Workers(workers) => format!(
            "{interface} is served by the instance {owner:?}, whose XDP program takes all of its frames: {}",
            orphaned(owner, &workers)
        ),
        Presence::Gone => format!(
            "{interface} still has the XDP program of the instance {owner:?}, which was killed: tidegate clean-up --name {owner}"
        ),
    }
}

fn of_stranger(interface: &str, id: u32) -> String {
    let program = ForeignProgram::by_id(id).ok().flatten();
    let name = program.map(|program| format!(", {}", program.name()));
    format!(
        "{interface} has an XDP program already (number {id}{}), and pmd = \"af_xdp\" needs one of its own: bpftool net shows it; stop what \
         attached it, or ip link set dev {interface} xdp off",
        name.unwrap_or_default()
    )
}

/// The instance that wrote down that this program is its own.
fn owner(root: &Path, interface: &str, id: u32) -> Option<String> {
    let here = network_namespace();
    let is_its_own = |record: &Record| {
        let mut programs = record.programs.iter();
        record.network_namespace == here
            && programs.any(|program| program.interface == interface && program.id == id)
    };
    let instances = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut owners = instances.filter_map(|instance| {
        let text = std::fs::read(instance.path().join("record.json")).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let name = instance.file_name().into_string().ok()?;
        is_its_own(&record).then_some(name)
    });
    owners.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_program_is_known_by_what_it_wrote_down() {
        let root = std::env::temp_dir().join(format!("tidegate-programs-{}", std::process::id()));
        let record = |interface: &str, id, network_namespace| Record {
            network_namespace,
            programs: vec![ProgramRecord {
                interface: interface.to_owned(),
                id,
            }],
            ..Record::default()
        };
        let here = network_namespace();
        for (name, record) in [
            ("elsewhere", record("eth1", 7, here + 1)),
            ("other", record("eth2", 7, here)),
            ("shop", record("eth1", 7, here)),
        ] {
            std::fs::create_dir_all(root.join(name)).unwrap();
            let text = serde_json::to_vec(&record).unwrap();
            std::fs::write(root.join(name).join("record.json"), text).unwrap();
        }
        assert_eq!(owner(&root, "eth1", 7).as_deref(), Some("shop"));
        assert_eq!(owner(&root, "eth1", 8), None);
        let killed = of_owner(&root, "eth1", "shop");
        assert!(
            killed.ends_with("tidegate clean-up --name shop"),
            "{killed}"
        );
        std::fs::remove_dir_all(&root).unwrap();
    }
}
