//! AF_XDP on virtio_net: a driver that runs the program itself, with two queues.

use crate::appliance::Status;
use crate::vm::Ground;
use crate::vm::guest::{Instance, lower_interface, raise_interface};
use crate::vm::machine::Machine;
use crate::vm::network;
use crate::vm::traffic::{CONNECTIONS, count_ended, open_connections, smoke};
use crate::vm::verdicts::Verdicts;
use anyhow::{Context, Result, bail};

const INSTANCE: Instance = Instance {
    name: "afxdp",
    leg: network::AFXDP,
    workers: 2,
};

/// Starts Tidegate on the first NIC, and checks what it does.
pub fn play(ground: &mut Ground, verdicts: &mut Verdicts) {
    let failed_before = verdicts.failed();
    let served = verdicts.check("afxdp: in native mode on two queues", || {
        raise_interface(&mut ground.machine, &INSTANCE.leg)?;
        let port = format!(
            "interface = \"{}\"\nqueues = {{ 0 = 0, 1 = 1 }}",
            INSTANCE.leg.interface
        );
        INSTANCE.configure(&mut ground.machine, &port, &ground.servers)?;
        let status = INSTANCE.start(&mut ground.machine)?;
        Ok((native(&mut ground.machine, &status)?, ()))
    });
    if served.is_some() {
        verdicts.check("afxdp: every reply is right, both queues carry", || {
            let seen = smoke(ground, &INSTANCE, 50)?;
            let driver = taken_in_driver(&mut ground.machine)?;
            Ok((format!("{seen}; {driver}"), ()))
        });
        verdicts.check("afxdp: a killed worker costs its own connections", || {
            Ok((kill_worker(ground)?, ()))
        });
        verdicts.check("afxdp: the worker in its place serves", || {
            Ok((smoke(ground, &INSTANCE, 10)?, ()))
        });
        verdicts.check("afxdp: ends in order and leaves the interface", || {
            INSTANCE.stop(&mut ground.machine)?;
            let link = link(&mut ground.machine)?;
            if link.contains("xdp") {
                bail!("there is still a program: {link}");
            }
            lower_interface(&mut ground.machine, &INSTANCE.leg)?;
            Ok(("no program is left".to_owned(), ()))
        });
    }
    if verdicts.failed() > failed_before {
        println!("{}", INSTANCE.log(&mut ground.machine));
    }
}

/// What Tidegate says of the mode, and what the kernel says.
fn native(machine: &mut Machine, status: &Status) -> Result<String> {
    let steering = &status.0["ports"][0]["steering"];
    if steering != "native" {
        bail!("the steering program is {steering}");
    }
    let queues = [0, 1].map(|worker| status.queues(worker)).concat();
    let modes: Vec<&str> = queues.iter().map(|queue| queue.mode.as_str()).collect();
    if modes.len() != 2 || modes.iter().any(|mode| *mode == "generic" || *mode == "-") {
        bail!("the modes of the queues are {modes:?}");
    }
    let link = link(machine)?;
    if !link.contains("prog/xdp") || link.contains("xdpgeneric") {
        bail!("the kernel shows no program in the driver: {link}");
    }
    let driver = machine.run(&format!("ethtool -i {}", INSTANCE.leg.interface))?;
    let driver = driver.lines().next().unwrap_or_default();
    Ok(format!("{driver}, {}", modes.join(" and ")))
}

fn link(machine: &mut Machine) -> Result<String> {
    let device = INSTANCE.leg.interface;
    machine.run(&format!("/bin/ip -details link show {device}"))
}

/// What the driver itself counted: frames that the program has seen, on each queue.
fn taken_in_driver(machine: &mut Machine) -> Result<String> {
    let counters = machine.run(&format!("ethtool -S {}", INSTANCE.leg.interface))?;
    let mut seen = Vec::new();
    for queue in 0..2 {
        let name = format!("rx_queue_{queue}_xdp_packets: ");
        let count = counters
            .lines()
            .find_map(|line| line.trim().strip_prefix(&name))
            .and_then(|count| count.parse::<u64>().ok())
            .with_context(|| format!("the driver does not count {name}"))?;
        if count == 0 {
            bail!("the driver has shown the program no frame of queue {queue}");
        }
        seen.push(count.to_string());
    }
    Ok(format!("xdp_packets {}", seen.join(" and ")))
}

/// Connections of both workers, one of which dies.
fn kill_worker(ground: &mut Ground) -> Result<String> {
    let (mut clients, [victims, survivors]) = open_connections(ground, &INSTANCE)?;
    let before = INSTANCE.status(&mut ground.machine)?.workers();
    ground.machine.run(&format!("kill -9 {}", before[0].pid))?;
    let status = INSTANCE.wait_for(&mut ground.machine, "a new worker 0", |status| {
        let worker = &status.workers()[0];
        worker.state == "running" && worker.pid != before[0].pid
    })?;
    let after = status.workers();
    if after[0].restarts != before[0].restarts + 1 || after[1] != before[1] {
        bail!("the workers were {before:?} and are {after:?}");
    }
    let ended = count_ended(&mut clients)?;
    if ended != victims {
        bail!("{ended} connections ended; worker 0 had {victims} of {CONNECTIONS}");
    }
    Ok(format!(
        "{ended} ended, {survivors} went on; worker 0 was {}, and runs again",
        after[0].last_exit
    ))
}
