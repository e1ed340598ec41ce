//! What DPDK's ports cost beside the others: instructions in place of the wire, and the lab over DPDK's virtual devices.
//!
//! These are measurements of their own, with everything that they are compared with in the same run: the long campaigns need no
//! DPDK, and these need no long campaign.

use crate::lab::contender::{Cores, Running};
use crate::lab::redis_benchmark::LOADS;
use crate::lab::{self, quietest, saturate, settle};
use crate::machine::{self, LOAD_CORE, PROXY_CORE};
use crate::results::{self, Ack, Contender, Machine, Placement, Saturation, WirePlan};
use crate::wire::{self, Counted, WIRE as ON_WIRE};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tidegate_tests::lab::Lab;
use tidegate_tests::stage::Driver;

/// Where the figures of the wire are kept.
pub const WIRE: &str = "dpdk-wire";

/// Where those of the lab are kept.
pub const LAB: &str = "dpdk-lab";

/// Connections over the wire: so many that bursts are full.
const CONNECTIONS: u32 = 1_000;

/// Loads of the lab: one unpipelined, one pipelined, one of short connections. All rounds of those come last: see [`lab::measure`].
const LOADS_MEASURED: [&str; 3] = ["c=50", "c=50 -P 16", "short"];

/// Rounds of short connections that are over before the kernels forget the first, a minute later.
const SHORT_ROUNDS: usize = 3;

/// How long all measurements together may wait for a quiet machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A run over the wire, per request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PerRequest {
    /// Instructions of the worker.
    pub instructions: f64,
    /// Frames received.
    pub frames_received: f64,
    /// Segments sent.
    pub segments_sent: f64,
}

/// One plan on both carriers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WirePair {
    /// What was measured.
    pub plan: WirePlan,
    /// Over shared memory.
    pub wire: PerRequest,
    /// Over DPDK's loops in memory.
    pub dpdk: PerRequest,
}

/// Instructions over DPDK and over the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DpdkWire {
    /// Where.
    pub machine: Machine,
    /// One per plan.
    pub rows: Vec<WirePair>,
}

/// The lab on DPDK and on everything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DpdkLab {
    /// Where.
    pub machine: Machine,
    /// All in placement A.
    pub samples: Vec<Saturation>,
}

/// Whether this was built with DPDK. Says so if not.
pub fn is_here() -> bool {
    let here = cfg!(feature = "dpdk");
    if !here {
        eprintln!(
            "The columns of DPDK are skipped: this was built without it. scripts/bench builds with it where DPDK 22.11 is \
             installed (docs/dpdk.md), by --features tidegate/dpdk,tidegate-wire-bench/dpdk,tidegate-bench/dpdk."
        );
    }
    here
}

/// Counts instructions on both carriers.
pub fn measure_wire(directory: &Path, quick: bool) -> Result<()> {
    let mut measured = DpdkWire {
        machine: machine::describe(quick, &[("valgrind", "--version")]),
        rows: Vec::new(),
    };
    for plan in plans() {
        let row = WirePair {
            plan,
            wire: per_request(wire::count(&plan, ON_WIRE)?),
            dpdk: per_request(wire::count(&plan, "dpdk")?),
        };
        eprintln!(
            "wire: {}: {:.0} instructions, on DPDK {:.0}",
            wire::words(&plan),
            row.wire.instructions,
            row.dpdk.instructions
        );
        measured.rows.push(row);
        measured.machine.load_after = machine::load_average();
        results::write(directory, WIRE, &measured)?;
    }
    Ok(())
}

fn plans() -> Vec<WirePlan> {
    let shapes = [(false, 1), (false, 16), (true, 1)];
    let of_ack = |ack| {
        shapes.map(|(short, pipeline)| WirePlan {
            connections: CONNECTIONS,
            short,
            value_bytes: 100,
            pipeline,
            ack,
        })
    };
    Ack::BOTH.into_iter().flat_map(of_ack).collect()
}

fn per_request((counted, instructions): (Counted, u64)) -> PerRequest {
    let each = |count: u64| count as f64 / counted.requests as f64;
    PerRequest {
        instructions: each(instructions),
        frames_received: each(counted.frames_received),
        segments_sent: each(counted.segments_sent),
    }
}

/// A lab for each driver, all raised at the same time: contenders take turns in every round. What has been measured is kept after
/// every contender.
pub fn measure_lab(directory: &Path, quick: bool, rounds: usize) -> Result<()> {
    let mut measured = DpdkLab {
        machine: machine::describe(
            quick,
            &[("nutcracker", "-V"), ("redis-server", "--version")],
        ),
        samples: Vec::new(),
    };
    let labs = [Driver::Afxdp, Driver::DpdkPacket, Driver::DpdkXdp].map(lab::raise_for_one);
    let labs = labs.into_iter().collect::<Result<Vec<Lab>>>()?;
    let mut patience = PATIENCE;
    for short in [false, true] {
        for round in 0..rounds {
            if short && round > 0 && round.is_multiple_of(SHORT_ROUNDS) {
                labs.iter().try_for_each(settle)?;
            }
            for contender in Contender::BESIDE_DPDK {
                let lab = &labs[place(contender)];
                let samples = one(lab, contender, round, short, quick, &mut patience)?;
                measured.samples.extend(samples);
                measured.machine.load_after = machine::load_average();
                results::write(directory, LAB, &measured)?;
            }
        }
    }
    Ok(())
}

/// Which of the labs a contender runs in.
fn place(contender: Contender) -> usize {
    match contender {
        Contender::Nutcracker | Contender::Kernel(_) | Contender::Packets(_) => 0,
        Contender::DpdkPacket(_) => 1,
        Contender::DpdkXdp(_) => 2,
    }
}

/// One contender under all loads of short connections, or under all others.
fn one(
    lab: &Lab,
    contender: Contender,
    round: usize,
    short: bool,
    quick: bool,
    patience: &mut Duration,
) -> Result<Vec<Saturation>> {
    let running = Running::start(lab, contender, Cores::One)?;
    machine::pin(&[LOAD_CORE])?;
    let loads = LOADS
        .into_iter()
        .filter(|load| load.is_short() == short && LOADS_MEASURED.contains(&load.name));
    let mut samples = Vec::new();
    for load in loads {
        let sample = quietest(&running, patience, || {
            saturate(lab, &running, load, Placement::A, round, quick)
        })?;
        eprintln!(
            "lab: round {round} {} {}: {:.0}/s, {:.0} per busy second, foreign {:.1} %, {:?}",
            sample.load,
            contender.name(),
            sample.rate,
            sample.per_busy_second(),
            100.0 * sample.foreign,
            sample.losses
        );
        samples.push(sample);
    }
    drop(running);
    machine::pin(&[PROXY_CORE, LOAD_CORE])?;
    Ok(samples)
}
