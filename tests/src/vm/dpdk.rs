//! DPDK on a virtio NIC that was taken from the kernel, behind the IOMMU.

use crate::lab::addresses::Family;
use crate::vm::Ground;
use crate::vm::guest::Instance;
use crate::vm::machine::Machine;
use crate::vm::network::{self, prefix, servers};
use crate::vm::traffic::{CONNECTIONS, count_ended, open_connections, smoke};
use crate::vm::verdicts::Verdicts;
use anyhow::{Result, bail};

/// On a device that hashes.
const INSTANCE: Instance = Instance {
    name: "dpdk",
    leg: network::DPDK,
    workers: 2,
};

/// On a device that spreads flows by other means, and has more queues than it needs.
const PLAIN: Instance = Instance {
    name: "dpdk-plain",
    leg: network::WIDE,
    workers: 2,
};

/// Takes NICs from the kernel, serves from them, and gives them back.
pub fn play(ground: &mut Ground, verdicts: &mut Verdicts) {
    let has_drivers = ground.machine.ask("ls -d /usr/lib/*/dpdk");
    if !has_drivers.is_ok_and(|(status, _)| status == 0) {
        verdicts.skip("dpdk", "this tidegate was built without the feature dpdk");
        return;
    }
    serve(ground, verdicts, &INSTANCE, |ground, verdicts| {
        verdicts.check("dpdk: a killed process is started again", || {
            Ok((kill_process(ground)?, ()))
        });
        verdicts.check("dpdk: the process in its place serves", || {
            Ok((smoke(ground, &INSTANCE, 10)?, ()))
        });
    });
    serve(ground, verdicts, &PLAIN, |_, _| {});
}

/// Binds, starts, asks, stops and unbinds; `more` is done while it serves.
fn serve(
    ground: &mut Ground,
    verdicts: &mut Verdicts,
    instance: &Instance,
    more: impl FnOnce(&mut Ground, &mut Verdicts),
) {
    let name = instance.name;
    let failed_before = verdicts.failed();
    let bound = verdicts.check(
        &format!("{name}: configure takes the NIC from the kernel"),
        || {
            instance.configure(&mut ground.machine, &port_lines(instance), &ground.servers)?;
            configure(instance, &mut ground.machine, "configure init")?;
            expect_driver(instance, &mut ground.machine, "vfio-pci")?;
            let pages = ground.machine.run("grep HugePages_Total /proc/meminfo")?;
            Ok((format!("vfio-pci, {}", pages.trim()), ()))
        },
    );
    if bound.is_none() {
        return;
    }
    let served = verdicts.check(&format!("{name}: starts on two queues"), || {
        let status = instance.start(&mut ground.machine)?;
        let queues = [0, 1].map(|worker| status.queues(worker)).concat();
        let modes: Vec<&str> = queues.iter().map(|queue| queue.mode.as_str()).collect();
        Ok((modes.join(" and "), ()))
    });
    if served.is_some() {
        verdicts.check(&format!("{name}: the device computes checksums"), || {
            let log = instance.log(&mut ground.machine);
            let line = log.lines().find(|line| line.contains("TCP checksums"));
            match line.and_then(|line| line.split_once("TCP checksums: ")) {
                Some((_, by @ "computed and checked by the device")) => Ok((by.to_owned(), ())),
                other => bail!("the log says {other:?}"),
            }
        });
        verdicts.check(
            &format!("{name}: every reply is right, both queues carry"),
            || Ok((smoke(ground, instance, 50)?, ())),
        );
        more(ground, verdicts);
        verdicts.check(&format!("{name}: ends in order"), || {
            instance.stop(&mut ground.machine)?;
            Ok(("ended".to_owned(), ()))
        });
    }
    verdicts.check(&format!("{name}: configure gives the NIC back"), || {
        configure(instance, &mut ground.machine, "configure fini")?;
        expect_driver(instance, &mut ground.machine, "virtio-pci")?;
        let device = instance.leg.interface;
        ground.machine.run(&format!(
            "grep -qi {} /sys/class/net/{device}/address",
            instance.leg.mac()
        ))?;
        Ok((format!("{device} is there again"), ()))
    });
    if verdicts.failed() > failed_before {
        println!("{}", instance.log(&mut ground.machine));
    }
}

fn port_lines(instance: &Instance) -> String {
    let leg = instance.leg;
    let addresses =
        Family::BOTH.map(|family| format!("\"{}/{}\"", leg.vip(family), prefix(family)));
    let routes =
        Family::BOTH.map(|family| format!("\"{} via {}\"", servers(family), leg.gateway(family)));
    format!(
        "driver = \"dpdk\"\ninterface = \"{}\"\naddresses = [{}]\nroutes = [{}]\nqueues = {{ 0 = 0, 1 = 1 }}",
        leg.pci_address(),
        addresses.join(", "),
        routes.join(", ")
    )
}

fn configure(instance: &Instance, machine: &mut Machine, command: &str) -> Result<()> {
    let (status, printed) = instance.ask(machine, command)?;
    if status != 0 {
        bail!("{command} ended with status {status}:\n{printed}");
    }
    Ok(())
}

fn expect_driver(instance: &Instance, machine: &mut Machine, expected: &str) -> Result<()> {
    let device = instance.leg.pci_address();
    let link = machine.run(&format!("readlink /sys/bus/pci/devices/{device}/driver"))?;
    if link.trim().rsplit('/').next() != Some(expected) {
        bail!("{device} has the driver {link}, not {expected}");
    }
    Ok(())
}

/// One process serves all queues, so its death costs all connections.
fn kill_process(ground: &mut Ground) -> Result<String> {
    let (mut clients, shares) = open_connections(ground, &INSTANCE)?;
    let before = INSTANCE.status(&mut ground.machine)?.workers();
    ground.machine.run(&format!("kill -9 {}", before[0].pid))?;
    let status = INSTANCE.wait_for(&mut ground.machine, "a new process", |status| {
        let workers = status.workers();
        workers
            .iter()
            .zip(&before)
            .all(|(now, then)| now.state == "running" && now.pid != then.pid)
    })?;
    let ended = count_ended(&mut clients)?;
    if ended != CONNECTIONS {
        bail!("{ended} of {CONNECTIONS} connections ended; the threads had {shares:?}");
    }
    Ok(format!(
        "{ended} connections ended; it was {}, and runs again",
        status.workers()[0].last_exit
    ))
}
