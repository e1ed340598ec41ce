//! DPDK on a virtio NIC that was taken from the kernel, behind the IOMMU.

use crate::lab::addresses::Family;
use crate::vm::Ground;
use crate::vm::guest::Instance;
use crate::vm::machine::Machine;
use crate::vm::network::{self, prefix, servers};
use crate::vm::traffic::{CONNECTIONS, count_ended, open_connections, smoke};
use crate::vm::verdicts::Verdicts;
use anyhow::{Result, bail};

const INSTANCE: Instance = Instance {
    name: "dpdk",
    leg: network::DPDK,
    workers: 2,
};

/// Takes the second NIC from the kernel, serves from it, and gives it back.
pub fn play(ground: &mut Ground, verdicts: &mut Verdicts) {
    let has_drivers = ground.machine.ask("ls -d /usr/lib/*/dpdk");
    if !has_drivers.is_ok_and(|(status, _)| status == 0) {
        verdicts.skip("dpdk", "this tidegate was built without the feature dpdk");
        return;
    }
    let failed_before = verdicts.failed();
    let bound = verdicts.check("dpdk: configure takes the NIC from the kernel", || {
        INSTANCE.configure(&mut ground.machine, &port_lines(), &ground.servers)?;
        configure(&mut ground.machine, "configure init")?;
        expect_driver(&mut ground.machine, "vfio-pci")?;
        let pages = ground.machine.run("grep HugePages_Total /proc/meminfo")?;
        Ok((format!("vfio-pci, {}", pages.trim()), ()))
    });
    if bound.is_none() {
        return;
    }
    let served = verdicts.check("dpdk: starts on two queues", || {
        let status = INSTANCE.start(&mut ground.machine)?;
        let queues = [0, 1].map(|worker| status.queues(worker)).concat();
        let modes: Vec<&str> = queues.iter().map(|queue| queue.mode.as_str()).collect();
        Ok((modes.join(" and "), ()))
    });
    if served.is_some() {
        verdicts.check("dpdk: every reply is right, both queues carry", || {
            Ok((smoke(ground, &INSTANCE, 50)?, ()))
        });
        verdicts.check("dpdk: a killed process is started again", || {
            Ok((kill_process(ground)?, ()))
        });
        verdicts.check("dpdk: the process in its place serves", || {
            Ok((smoke(ground, &INSTANCE, 10)?, ()))
        });
        verdicts.check("dpdk: ends in order", || {
            INSTANCE.stop(&mut ground.machine)?;
            Ok(("ended".to_owned(), ()))
        });
    }
    verdicts.check("dpdk: configure gives the NIC back", || {
        configure(&mut ground.machine, "configure fini")?;
        expect_driver(&mut ground.machine, "virtio-pci")?;
        let device = INSTANCE.leg.interface;
        ground.machine.run(&format!(
            "grep -qi {} /sys/class/net/{device}/address",
            INSTANCE.leg.mac()
        ))?;
        Ok((format!("{device} is there again"), ()))
    });
    if verdicts.failed() > failed_before {
        println!("{}", INSTANCE.log(&mut ground.machine));
    }
}

fn port_lines() -> String {
    let leg = INSTANCE.leg;
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

fn configure(machine: &mut Machine, command: &str) -> Result<()> {
    let (status, printed) = INSTANCE.ask(machine, command)?;
    if status != 0 {
        bail!("{command} ended with status {status}:\n{printed}");
    }
    Ok(())
}

fn expect_driver(machine: &mut Machine, expected: &str) -> Result<()> {
    let device = INSTANCE.leg.pci_address();
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
