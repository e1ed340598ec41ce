//! What was measured, as it is kept in `docs/bench/data`: the report can be written again without measuring again.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// When a worker acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// No later than the burst.
    Immediate,
    /// With the reply of a complete request.
    WithReply,
}

impl Ack {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Immediate, Self::WithReply];

    /// As configurations and command lines spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::WithReply => "with-reply",
        }
    }
}

/// The machine, and how busy it was with other things.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The day, where it was noted.
    #[serde(default)]
    pub date: Option<String>,
    /// Cores.
    pub cores: usize,
    /// The processor's name.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// The revision that was measured.
    pub revision: String,
    /// Versions of the programs that took part.
    pub programs: Vec<String>,
    /// Load averages (1, 5, 15 minutes) before the first measurement.
    pub load_before: String,
    /// The same after the last.
    pub load_after: String,
    /// Whether the short form was asked for.
    pub quick: bool,
}

/// One measurement over the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireRow {
    /// What was measured.
    pub plan: WirePlan,
    /// Instructions of the worker per request.
    pub instructions: Option<f64>,
    /// Frames received per request.
    pub frames_received: f64,
    /// Segments sent per request.
    pub segments_sent: f64,
    /// Those of them that were bare acknowledgements.
    pub acks_alone: f64,
    /// Segments sent again, in total.
    pub retransmits: u64,
    /// Requests per second of each run with two processes.
    pub rates: Vec<f64>,
}

/// The parameters of a measurement over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePlan {
    /// Open connections.
    pub connections: u32,
    /// One request per connection.
    pub short: bool,
    /// Bytes of a value.
    pub value_bytes: u32,
    /// Requests before the first reply.
    pub pipeline: u32,
    /// When the worker acknowledges.
    pub ack: Ack,
}

/// Memory of a worker with idle connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MemoryRow {
    /// Idle connections, each after one request.
    pub connections: u32,
    /// Resident bytes before the first connection.
    pub resident_before: u64,
    /// Resident bytes with all of them.
    pub resident_after: u64,
    /// Reserved bytes before the first connection.
    pub reserved_before: u64,
    /// Reserved bytes with all of them.
    pub reserved_after: u64,
}

/// Everything measured over the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireResults {
    /// Where.
    pub machine: Machine,
    /// Rates and instructions.
    pub rows: Vec<WireRow>,
    /// Memory.
    pub memory: Vec<MemoryRow>,
}

/// Who is measured in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Debian's nutcracker on the kernel's sockets.
    Nutcracker,
    /// Tidegate on the kernel's sockets.
    Kernel(Ack),
    /// Tidegate on AF_XDP.
    Packets(Ack),
    /// Tidegate on DPDK, over packet sockets.
    DpdkPacket(Ack),
    /// Tidegate on DPDK, over DPDK's own AF_XDP.
    DpdkXdp(Ack),
}

impl Contender {
    /// All that take part everywhere, in the order in which they take turns.
    pub const ALL: [Self; 5] = [
        Self::Nutcracker,
        Self::Kernel(Ack::Immediate),
        Self::Kernel(Ack::WithReply),
        Self::Packets(Ack::Immediate),
        Self::Packets(Ack::WithReply),
    ];

    /// Those that are measured together with DPDK.
    pub const BESIDE_DPDK: [Self; 5] = [
        Self::Nutcracker,
        Self::Kernel(Ack::Immediate),
        Self::Packets(Ack::Immediate),
        Self::DpdkPacket(Ack::Immediate),
        Self::DpdkXdp(Ack::Immediate),
    ];

    /// Whether it never sleeps, so that its core is never idle.
    pub fn polls(self) -> bool {
        match self {
            Self::Nutcracker | Self::Kernel(_) => false,
            Self::Packets(_) | Self::DpdkPacket(_) | Self::DpdkXdp(_) => true,
        }
    }

    /// Every Tidegate of them.
    pub fn ours() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|one| *one != Self::Nutcracker)
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nutcracker => "nutcracker",
            Self::Kernel(Ack::Immediate) => "Tidegate/kernel, immediate",
            Self::Kernel(Ack::WithReply) => "Tidegate/kernel, with-reply",
            Self::Packets(Ack::Immediate) => "Tidegate/AF_XDP, immediate",
            Self::Packets(Ack::WithReply) => "Tidegate/AF_XDP, with-reply",
            Self::DpdkPacket(Ack::Immediate) => "Tidegate/DPDK af_packet, immediate",
            Self::DpdkPacket(Ack::WithReply) => "Tidegate/DPDK af_packet, with-reply",
            Self::DpdkXdp(Ack::Immediate) => "Tidegate/DPDK af_xdp, immediate",
            Self::DpdkXdp(Ack::WithReply) => "Tidegate/DPDK af_xdp, with-reply",
        }
    }
}

/// Which core runs the peers' TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Placement {
    /// As a veth does by default: the proxy's core, inside its transmit call.
    A,
    /// `rps_cpus` moves it to the load's core.
    B,
}

impl Placement {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];
}

/// Frames and calls of one worker per request.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Effort {
    /// Frames received on the client leg and on the server leg.
    pub rx_frames: [f64; 2],
    /// Frames sent on them.
    pub tx_frames: [f64; 2],
    /// System calls that started transmission.
    pub kicks: [f64; 2],
    /// Bare acknowledgements.
    pub acks_alone: f64,
    /// Turns of the loop that found something to do.
    pub busy_turns: f64,
}

/// System calls of one socket worker per request.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Calls {
    /// Waits for events.
    pub waits: f64,
    /// Reads.
    pub reads: f64,
    /// Writes.
    pub writes: f64,
    /// Acknowledgements hastened.
    pub quick_acks: f64,
}

/// Named counts of what went wrong; only those that are not zero.
pub type Losses = BTreeMap<String, u64>;

/// Percentiles in milliseconds.
#[expect(
    clippy::struct_field_names,
    reason = "the unit belongs to every name, also in the files"
)]
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 99 of 100 stayed at or below.
    pub p99_ms: f64,
    /// The worst.
    pub max_ms: f64,
}

impl Latency {
    /// Of measured times in nanoseconds.
    pub fn of(times_ns: &mut [u64]) -> Self {
        times_ns.sort_unstable();
        let at = |share: f64| {
            let last = times_ns.len().saturating_sub(1);
            times_ns
                .get((last as f64 * share).round() as usize)
                .map_or(0.0, |ns| *ns as f64 / 1e6)
        };
        Self {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        }
    }
}

/// One load on one contender at saturation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saturation {
    /// Name of the load.
    pub load: String,
    /// Who.
    pub contender: Contender,
    /// Which core ran the peers' TCP.
    pub placement: Placement,
    /// Which round.
    pub round: usize,
    /// Requests answered.
    pub requests: u64,
    /// From the start of the load to its end.
    pub wall_s: f64,
    /// Requests per second as the load saw them.
    pub rate: f64,
    /// As the load saw it.
    pub latency: Latency,
    /// The contender's time on its core: busy turns of a worker that polls and the core's softirq thread; of one that sleeps wall
    /// minus idle.
    pub busy_s: f64,
    /// Wall minus idle of the proxy's core, whoever it was.
    pub core_busy_s: f64,
    /// Time of the contender's threads and of the core's softirq thread as the scheduler counted it.
    pub scheduled_s: f64,
    /// Share of the time that the load's core was idle.
    pub load_core_idle: f64,
    /// Share of the proxy's core that something else took.
    pub foreign: f64,
    /// Frames and calls, of a worker on AF_XDP.
    pub effort: Option<Effort>,
    /// System calls, of a worker on sockets.
    pub calls: Option<Calls>,
    /// What went wrong.
    pub losses: Losses,
}

impl Saturation {
    /// Requests per busy second of the proxy's core.
    pub fn per_busy_second(&self) -> f64 {
        self.requests as f64 / self.busy_s.max(1e-9)
    }
}

/// Latency of one contender at a fixed rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FixedRate {
    /// Who.
    pub contender: Contender,
    /// Which core ran the peers' TCP.
    pub placement: Placement,
    /// Which round.
    pub round: usize,
    /// Requests.
    pub requests: usize,
    /// From the time at which each should have been sent.
    pub latency: Latency,
    /// Share of the proxy's core that something else took.
    pub foreign: f64,
    /// What went wrong.
    pub losses: Losses,
}

/// One load on one contender whose processes do not have cores of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shared {
    /// Name of the load.
    pub load: String,
    /// Who; a Tidegate has two workers.
    pub contender: Contender,
    /// Which round.
    pub round: usize,
    /// Requests per second as the load saw them.
    pub rate: f64,
    /// As the load saw it.
    pub latency: Latency,
    /// Requests per second of CPU time of the proxy's processes, by the scheduler. What the kernel did for them elsewhere is not
    /// in it.
    pub per_process_second: f64,
}

/// Everything measured in the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabResults {
    /// Where.
    pub machine: Machine,
    /// At saturation.
    pub saturation: Vec<Saturation>,
    /// At a fixed rate.
    pub fixed_rate: Vec<FixedRate>,
    /// With two workers.
    #[serde(default)]
    pub shared: Vec<Shared>,
    /// With a slice of a core for each process, workers being two.
    #[serde(default)]
    pub slices: Vec<Shared>,
}

/// The client with Nagle's algorithm on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NagleRow {
    /// Who.
    pub contender: Contender,
    /// Requests.
    pub requests: usize,
    /// Of each.
    pub latency: Latency,
    /// What went wrong.
    pub losses: Losses,
}

/// Everything measured with that client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NagleResults {
    /// Where.
    pub machine: Machine,
    /// One per contender.
    pub rows: Vec<NagleRow>,
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join("data").join(format!("{name}.json"))
}

/// Keeps results under `name`.
pub fn write<T: Serialize>(directory: &Path, name: &str, results: &T) -> Result<()> {
    let file = file(directory, name);
    fs::create_dir_all(directory.join("data"))?;
    let text = serde_json::to_string_pretty(results)?;
    fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Results kept under `name`; `None` when that was never measured.
pub fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>> {
    let file = file(directory, name);
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file)?;
    serde_json::from_str(&text).map(Some).with_context(|| {
        format!(
            "{} is not ours; remove it and measure again",
            file.display()
        )
    })
}
