//! Devices on which virtio_net would lose frames: refused with the reason, or served after all.

use crate::vm::Ground;
use crate::vm::guest::{Instance, lower_interface, raise_interface};
use crate::vm::machine::Machine;
use crate::vm::network::{self, Leg};
use crate::vm::traffic::smoke;
use crate::vm::verdicts::Verdicts;
use anyhow::{Context, Result, bail};

/// Requests on each connection: the point is where they arrive.
const REQUESTS: usize = 5;

/// Checks one device after the other.
pub fn play(ground: &mut Ground, verdicts: &mut Verdicts) {
    type Check = fn(&mut Ground, &Leg) -> Result<String>;
    let checks: [(&str, Leg, Check); 4] = [
        (
            "virtio: 4 queues, 2 in use, a map of 2 is refused",
            network::WIDE,
            a_narrow_map_is_refused,
        ),
        (
            "virtio: 4 queues, 2 in use, raised and served",
            network::WIDE,
            all_queues_are_served,
        ),
        (
            "virtio: 4 queues, 2 in use, with RSS a map of 2 is served",
            network::HASHED,
            rss_is_set_again,
        ),
        (
            "virtio: mrg_rxbuf=off is refused",
            network::UNMERGED,
            a_program_that_would_never_run_is_refused,
        ),
    ];
    for (name, leg, check) in checks {
        verdicts.check(name, || {
            raise_interface(&mut ground.machine, &leg)?;
            let outcome = check(ground, &leg);
            lower_interface(&mut ground.machine, &leg)?;
            Ok((outcome?, ()))
        });
    }
}

fn instance(name: &'static str, leg: &Leg, workers: usize) -> Instance {
    Instance {
        name,
        leg: *leg,
        workers,
    }
}

/// With a program the driver opens a queue more for each CPU, and the host spreads over those too.
fn a_narrow_map_is_refused(ground: &mut Ground, leg: &Leg) -> Result<String> {
    let machine = &mut ground.machine;
    expect_queues(machine, leg, (4, 2))?;
    let narrow = instance("narrow", leg, 2);
    let port = format!(
        "interface = \"{}\"\nqueues = {{ 0 = 0, 1 = 1 }}",
        leg.interface
    );
    narrow.configure(machine, &port, &ground.servers)?;
    narrow.is_refused(
        machine,
        "virtio_net spreads over 4 receive queues and 2 are served",
    )
}

/// `queues = "auto"` counts on all of them, and `configure` opens them beforehand.
fn all_queues_are_served(ground: &mut Ground, leg: &Leg) -> Result<String> {
    let wide = instance("wide", leg, 4);
    let port = format!("interface = \"{}\"\nqueues = \"auto\"", leg.interface);
    wide.configure(&mut ground.machine, &port, &ground.servers)?;
    wide.is_refused(&mut ground.machine, "ethtool -L")?;
    configure(&mut ground.machine, &wide, "configure init channels")?;
    expect_queues(&mut ground.machine, leg, (4, 4))?;
    let seen = wide.while_it_runs(ground, |ground, _| smoke(ground, &wide, REQUESTS))?;
    configure(&mut ground.machine, &wide, "configure fini")?;
    expect_queues(&mut ground.machine, leg, (4, 2))?;
    Ok(format!("2 queues raised to 4 and lowered again; {seen}"))
}

/// The device forgets its table when a program is attached, and would spread over all queues.
fn rss_is_set_again(ground: &mut Ground, leg: &Leg) -> Result<String> {
    expect_queues(&mut ground.machine, leg, (4, 2))?;
    let hashed = instance("hashed", leg, 2);
    let port = format!(
        "interface = \"{}\"\nqueues = {{ 0 = 0, 1 = 1 }}",
        leg.interface
    );
    hashed.configure(&mut ground.machine, &port, &ground.servers)?;
    hashed.while_it_runs(ground, |ground, _| {
        let seen = smoke(ground, &hashed, REQUESTS)?;
        let log = hashed.log(&mut ground.machine);
        if !log.contains("RSS set again after attaching") {
            bail!("nothing is said of RSS:\n{log}");
        }
        let status = hashed.status(&mut ground.machine)?;
        let elsewhere: u64 = [0, 1]
            .iter()
            .map(|worker| status.stack(*worker, "wrong_queue"))
            .sum();
        if elsewhere > 0 {
            bail!("{elsewhere} frames came to another worker's queue");
        }
        Ok(format!("{seen}, none at another worker"))
    })
}

/// The driver would take the program and never run it.
fn a_program_that_would_never_run_is_refused(ground: &mut Ground, leg: &Leg) -> Result<String> {
    const REASON: &str = "virtio_net takes the steering program and never runs it: mrg_rxbuf=off";
    let machine = &mut ground.machine;
    let unmerged = instance("unmerged", leg, 2);
    let port = format!(
        "interface = \"{}\"\nqueues = {{ 0 = 0, 1 = 1 }}",
        leg.interface
    );
    unmerged.configure(machine, &port, &ground.servers)?;
    let refusal = unmerged.is_refused(machine, REASON)?;
    let (status, findings) = unmerged.ask(machine, "doctor")?;
    if status != 2 || !findings.contains(REASON) {
        bail!("doctor ended with status {status}:\n{findings}");
    }
    Ok(refusal)
}

fn configure(machine: &mut Machine, instance: &Instance, command: &str) -> Result<()> {
    let (status, printed) = instance.ask(machine, command)?;
    if status != 0 {
        bail!("{command} ended with status {status}:\n{printed}");
    }
    Ok(())
}

/// Queues that the device has, and that are in use.
fn expect_queues(machine: &mut Machine, leg: &Leg, expected: (u32, u32)) -> Result<()> {
    let printed = machine.run(&format!("ethtool -l {}", leg.interface))?;
    let mut counts = printed.lines().filter_map(|line| {
        let count = line.strip_prefix("Combined:")?;
        count.trim().parse::<u32>().ok()
    });
    let found = counts
        .next()
        .zip(counts.next())
        .with_context(|| format!("ethtool tells no queues:\n{printed}"))?;
    if found != expected {
        bail!("{} has {found:?} queues, not {expected:?}", leg.interface);
    }
    Ok(())
}
