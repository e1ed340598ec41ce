//! `tidegate-wire-bench`: see the library.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Instant;
use tidegate_config::AckMode;
use tidegate_port::wire::{self, WireFds, WirePort};
use tidegate_wire_bench::{
    BenchWorker, Counted, Load, LoadReport, Plan,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Carrier {
    /// Shared memory.
    Wire,
    /// Loops in memory that DPDK drives. Needs the feature of that name.
    Dpdk,
}

#[derive(Subcommand)]
enum Mode {
    /// Worker and load in one thread: for profilers that count the instructions of `measured_turn`.
    One {
        #[command(flatten)]
        plan: Plan,
        #[arg(long, value_enum, default_value = "immediate")]
        ack: Ack,
        /// What carries the frames.
        #[arg(long, value_enum, default_value = "wire")]
        carrier: Carrier,
    },
    /// Worker and load in two processes on two cores: requests per second.
    Two {
        #[command(flatten)]
        plan: Plan,
        #[arg(long, value_enum, default_value = "immediate")]
        ack: Ack,
    },
    /// Opens the plan's connections, asks once on each, and says how much memory the worker has before and after.
    Memory {
        #[command(flatten)]
        plan: Plan,
    },
    #[command(hide = true)]
    Load {
        plan: String,
        receive: String,
        transmit: String,
        #[arg(long)]
        once: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Mode::One { plan, ack, carrier } => one(plan, mode(ack), carrier),
        Mode::Two { plan, ack } => two(plan, mode(ack)),
        Mode::Memory { plan } => memory(plan),
        Mode::Load {
            plan,
            receive,
            transmit,
            once,
        } => load(serde_json::from_str(&plan)?, &receive, &transmit, once),
    }
}

fn mode(ack: Ack) -> AckMode {
    match ack {
        Ack::Immediate => AckMode::Immediate,
        Ack::WithReply => AckMode::WithReply,
    }
}

fn one(plan: Plan, ack: AckMode, carrier: Carrier) -> Result<()> {
    let counted = match carrier {
        Carrier::Wire => {
            let (a, b) = wire::pair_in_process(WIRE_SLOTS, WORKER, LOAD)?;
            tidegate_wire_bench::count(plan, ack, a, b)?
        }
        Carrier::Dpdk => on_dpdk(plan, ack)?,
    };
    println!("{}", serde_json::to_string(&counted)?);
    Ok(())
}

#[cfg(feature = "dpdk")]
fn on_dpdk(plan: Plan, ack: AckMode) -> Result<Counted> {
    tidegate_wire_bench::dpdk::on_loops(move |a, b| tidegate_wire_bench::count(plan, ack, a, b))
}

#[cfg(not(feature = "dpdk"))]
fn on_dpdk(_: Plan, _: AckMode) -> Result<Counted> {
    anyhow::bail!(
        "this program was built without DPDK: build it with --features dpdk (docs/dpdk.md)"
    )
}

fn two(plan: Plan, ack: AckMode) -> Result<()> {
    let (_, printed) = with_load(plan, ack, false)?;
    print!("{printed}");
    Ok(())
}

fn memory(plan: Plan) -> Result<()> {
    // Every connection asks once: an idle connection is one that was used.
    let plan = Plan {
        active: plan.connections,
        requests: u64::from(plan.connections),
        ..plan
    };
    let ([before, after], _) = with_load(plan, AckMode::Immediate, true)?;
    println!(
        "{}",
        serde_json::json!({
            "connections": plan.connections,
            "resident_before": before.resident,
            "resident_after": after.resident,
            "reserved_before": before.reserved,
            "reserved_after": after.reserved,
        })
    );
    Ok(())
}

/// Runs a worker until its load, in a process of its own, has ended. Returns the worker's memory before the first connection
/// and after the last, and what the load printed.
fn with_load(plan: Plan, ack: AckMode, once: bool) -> Result<([Memory; 2], String)> {
    let (a, b) = wire::create_shared(WIRE_SLOTS, false)?;
    let path = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    pin(0)?;
    let start = Instant::now();
    let now = || start.elapsed().as_micros() as u64 + 1_000_000;
    let mut worker = BenchWorker::new(&plan, wire::open(a, WORKER)?, ack, now())?;
    let before = Memory::now()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "load",
            &serde_json::to_string(&plan)?,
            &path(&b.receive),
            &path(&b.transmit),
        ])
        .args(once.then_some("--once"))
        .stdout(Stdio::piped())
        .spawn()?;
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
    let after = Memory::now()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    drop(worker);
    Ok(([before, after], printed))
}

/// Memory of this process, in bytes.
struct Memory {
    /// In RAM.
    resident: u64,
    /// Promised by the kernel.
    reserved: u64,
}

impl Memory {
    fn now() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next());
            let kib: u64 = kib
                .with_context(|| format!("/proc/self/status has no {name}"))?
                .parse()?;
            Ok(kib * 1024)
        };
        Ok(Self {
            resident: field("VmRSS:")?,
            reserved: field("VmSize:")?,
        })
    }
}

/// The load's process: asks until the plan is fulfilled or, with `once`, one request on every connection.
fn load(plan: Plan, receive: &str, transmit: &str, once: bool) -> Result<()> {
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
    if once {
        return ask_once(&plan, &mut load, now);
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

/// One request on every connection, a few at a time: all at once would not fit the wire.
fn ask_once(plan: &Plan, load: &mut Load<WirePort>, now: impl Fn() -> u64) -> Result<()> {
    const AT_ONCE: u64 = 256;
    let mut asked = 0;
    while load.answered < plan.requests {
        while asked < plan.requests.min(load.answered + AT_ONCE) {
            load.ask_on(asked as usize);
            asked += 1;
        }
        load.turn(now())?;
    }
    Ok(())
}

fn pin(core: usize) -> Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
        .with_context(|| format!("cannot pin to core {core}"))
}
