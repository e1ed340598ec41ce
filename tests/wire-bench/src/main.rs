//! `tidegate-wire-bench`: see the library.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Instant;
use tidegate_config::AckMode;
use tidegate_port::wire::{self, WireFds};
use tidegate_wire_bench::{
    BenchWorker, Load, LoadReport, Plan,
    plan::{LOAD, WORKER},
};

/// Slots of the wire: deep enough that neither end waits for the other's time slice.
const WIRE_SLOTS: usize = 4096;

#[derive(Parser)]
#[command(about = "Measures a worker over shared memory")]
struct Arguments {
    #[command(subcommand)]
    command: Mode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ack {
    Immediate,
    WithReply,
}

#[derive(Subcommand)]
enum Mode {
    /// Worker and load in one thread: for profilers that count the instructions of `measured_turn`.
    One {
        #[command(flatten)]
        plan: Plan,
        #[arg(long, value_enum, default_value = "immediate")]
        ack: Ack,
    },
    /// Worker and load in two processes on two cores: requests per second.
    Two {
        #[command(flatten)]
        plan: Plan,
        #[arg(long, value_enum, default_value = "immediate")]
        ack: Ack,
    },
    #[command(hide = true)]
    Load {
        plan: String,
        receive: String,
        transmit: String,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Mode::One { plan, ack } => one(plan, mode(ack)),
        Mode::Two { plan, ack } => two(plan, mode(ack)),
        Mode::Load {
            plan,
            receive,
            transmit,
        } => load(serde_json::from_str(&plan)?, &receive, &transmit),
    }
}

fn mode(ack: Ack) -> AckMode {
    match ack {
        Ack::Immediate => AckMode::Immediate,
        Ack::WithReply => AckMode::WithReply,
    }
}

/// A turn of each in alternation, on a clock that advances 10 µs a turn, so that every run does the same.
fn one(plan: Plan, ack: AckMode) -> Result<()> {
    let (a, b) = wire::pair_in_process(WIRE_SLOTS, WORKER, LOAD)?;
    let mut now_us = 1_000_000;
    let mut worker = BenchWorker::new(&plan, a, ack, now_us)?;
    let mut load = Load::new(plan, b, now_us)?;
    let mut turn = |worker: &mut BenchWorker, load: &mut Load, measured: bool| -> Result<()> {
        now_us += 10;
        load.turn(now_us)?;
        if measured {
            worker.measured_turn(now_us)
        } else {
            worker.warm_turn(now_us)
        };
        Ok(())
    };
    while !load.is_open() {
        turn(&mut worker, &mut load, false)?;
    }
    load.start();
    while load.answered < plan.requests / 10 {
        turn(&mut worker, &mut load, false)?;
    }
    let before = load.answered;
    while load.answered - before < plan.requests {
        turn(&mut worker, &mut load, true)?;
    }
    let counters = worker.stack.counters();
    println!(
        "{}",
        serde_json::json!({
            "requests": load.answered - before,
            "frames_received": counters.frames_in,
            "frames_unknown": counters.frames_unknown_flow,
            "segments_sent": counters.segments_sent,
            "acknowledgements_alone": counters.acks_alone,
            "retransmits": counters.retransmits,
        })
    );
    Ok(())
}

fn two(plan: Plan, ack: AckMode) -> Result<()> {
    let (a, b) = wire::create_shared(WIRE_SLOTS, false)?;
    let path = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "load",
            &serde_json::to_string(&plan)?,
            &path(&b.receive),
            &path(&b.transmit),
        ])
        .stdout(Stdio::piped())
        .spawn()?;
    pin(0)?;
    let start = Instant::now();
    let now = || start.elapsed().as_micros() as u64 + 1_000_000;
    let mut worker = BenchWorker::new(&plan, wire::open(a, WORKER)?, ack, now())?;
    let mut turns = 0u32;
    loop {
        worker.measured_turn(now());
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(4096) && child.try_wait()?.is_some() {
            break;
        }
    }
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "the load failed");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn load(plan: Plan, receive: &str, transmit: &str) -> Result<()> {
    pin(1)?;
    let open = |path: &str| -> Result<OwnedFd> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {path}"))?;
        Ok(file.into())
    };
    let fds = WireFds {
        receive: open(receive)?,
        transmit: open(transmit)?,
        own_bell: None,
        peer_bell: None,
    };
    let start = Instant::now();
    let now = || start.elapsed().as_micros() as u64 + 1_000_000;
    let mut load = Load::new(plan, wire::open(fds, LOAD)?, now())?;
    while !load.is_open() {
        load.turn(now())?;
    }
    load.start();
    while load.answered < plan.requests / 10 {
        load.turn(now())?;
    }
    let (before, began) = (load.answered, Instant::now());
    while load.answered - before < plan.requests {
        load.turn(now())?;
    }
    let report = LoadReport {
        requests: load.answered - before,
        seconds: began.elapsed().as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn pin(core: usize) -> Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
        .with_context(|| format!("cannot pin to core {core}"))
}
