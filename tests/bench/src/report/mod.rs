//! Writes `docs/bench/README.md` and its plots from the figures that were kept.

mod dpdk;
mod lab;
mod svg;
mod targets;
mod wire;

use crate::dpdk::{self as measured, DpdkLab, DpdkWire};
use crate::results::{self, Contender, LabResults, Losses, Machine, NagleResults, WireResults};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use targets::{Bound, Verdict};

/// Writes the report; parts that were never measured are missing in it.
pub fn write(directory: &Path) -> Result<()> {
    let wire: Option<WireResults> = results::read(directory, "wire")?;
    let lab: Option<LabResults> = results::read(directory, "lab")?;
    let nagle: Option<NagleResults> = results::read(directory, "nagle")?;
    let dpdk_wire: Option<DpdkWire> = results::read(directory, measured::WIRE)?;
    let dpdk_lab: Option<DpdkLab> = results::read(directory, measured::LAB)?;

    let mut verdicts = Vec::new();
    let mut sections = String::new();
    if let Some(wire) = &wire {
        verdicts.extend(wire::verdicts(wire));
        sections += &wire::section(wire);
        save(directory, "instructions.svg", &wire::plot(wire).lines())?;
    }
    if let Some(wire) = &dpdk_wire {
        sections += &dpdk::wire_section(wire);
    }
    if let Some(lab) = &lab {
        verdicts.extend(lab::verdicts(lab));
        sections += &lab::section(lab);
        for placement in lab::placements(lab) {
            let name = format!("ratios-{placement:?}.svg").to_lowercase();
            save(directory, &name, &lab::plot(lab, placement).bars())?;
        }
    }
    if let Some(lab) = &dpdk_lab {
        sections += &dpdk::lab_section(lab);
    }
    if let Some(nagle) = &nagle {
        verdicts.extend(nagle_verdicts(nagle));
        sections += &nagle_section(nagle);
    }
    let machines = [
        ("wire", wire.map(|results| results.machine)),
        ("lab", lab.map(|results| results.machine)),
        ("nagle", nagle.map(|results| results.machine)),
        ("DPDK, wire", dpdk_wire.map(|results| results.machine)),
        ("DPDK, lab", dpdk_lab.map(|results| results.machine)),
    ];
    let text = head(&machines) + &targets_section(&verdicts) + &sections + &notes(directory);
    save(directory, "README.md", &(text.trim_end().to_owned() + "\n"))?;
    for verdict in &verdicts {
        print!("{}", verdict.row());
    }
    eprintln!("The report is {}", directory.join("README.md").display());
    Ok(())
}

fn save(directory: &Path, name: &str, text: &str) -> Result<()> {
    let file = directory.join(name);
    fs::create_dir_all(directory)?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn head(machines: &[(&str, Option<Machine>)]) -> String {
    let mut text = String::from(
        "# Measurements\n\n\
         Written by `scripts/bench`; do not edit. The figures lie in [data](data), and what is concluded from them in [notes.md](notes.md), \
         which is repeated at the end.\n\n\
         ## The machine\n\n\
         A virtual machine with two cores. The clients, the servers and the measuring program need a core, so a proxy has exactly one.\n\n\
         **What veths cannot tell.** A veth is a function call between two kernels' stacks that are one: a sent frame is delivered, and \
         often processed by the peer's TCP, inside the sender's transmit call. AF_XDP has no zero copy there, no NIC does any work, and \
         one ring of 256 frames is all that lies between two hosts. So the lab shows that the path is correct, how many frames and calls a \
         request takes, and how two proxies compare on the same core; it does not show what a NIC would reach.\n\n\
         | measurement | date | machine | kernel | revision | load average before; after | programs |\n|---|---|---|---|---|---|---|\n",
    );
    for (name, machine) in machines {
        if let Some(machine) = machine {
            let _ = writeln!(
                text,
                "| {name}{} | {} | {} cores, {} | {} | {} | {}; {} | {} |",
                if machine.quick { " (--quick)" } else { "" },
                machine.date.as_deref().unwrap_or("–"),
                machine.cores,
                machine.processor,
                machine.kernel,
                machine.revision,
                machine.load_before,
                machine.load_after,
                machine.programs.join("; ")
            );
        }
    }
    text + "\n"
}

fn targets_section(verdicts: &[Verdict]) -> String {
    let rows: String = verdicts.iter().map(Verdict::row).collect();
    format!("## Targets\n\n| what | target | measured (range) | |\n|---|---:|---:|---|\n{rows}\n")
}

/// The most that a client with Nagle's algorithm on may wait.
const NAGLE_MAX_MS: f64 = 1.0;

fn nagle_verdicts(results: &NagleResults) -> Vec<Verdict> {
    let ours = results
        .rows
        .iter()
        .filter(|row| matches!(row.contender, Contender::Packets(_)));
    ours.map(|row| Verdict {
        what: format!(
            "Nagle client: worst time of a request in two pieces, ms, {}",
            row.contender.name()
        ),
        bound: Bound::AtMost(NAGLE_MAX_MS),
        measured: Some(row.latency.max_ms),
        range: None,
    })
    .collect()
}

fn nagle_section(results: &NagleResults) -> String {
    let mut text = String::from(
        "## A client with Nagle's algorithm on\n\n\
         One connection, each request written in two pieces. The second piece leaves when the first has been acknowledged.\n\n\
         | proxy | requests | p50 ms | p99 ms | max ms | lost or repeated |\n|---|---:|---:|---:|---:|---|\n",
    );
    for row in &results.rows {
        let _ = writeln!(
            text,
            "| {} | {} | {:.3} | {:.3} | {:.3} | {} |",
            row.contender.name(),
            row.requests,
            row.latency.p50_ms,
            row.latency.p99_ms,
            row.latency.max_ms,
            losses_text(&row.losses)
        );
    }
    text + "\n"
}

fn losses_text(losses: &Losses) -> String {
    if losses.is_empty() {
        return "0".to_owned();
    }
    let parts: Vec<String> = losses
        .iter()
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    parts.join(", ")
}

/// What people conclude from the figures is not for a program to write.
fn notes(directory: &Path) -> String {
    fs::read_to_string(directory.join("notes.md")).unwrap_or_default()
}
