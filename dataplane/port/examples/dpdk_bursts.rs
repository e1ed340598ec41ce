//! What a turn over a queue of DPDK costs: by capsule's packets, and by our port.
//!
//! `dpdk_bursts capsule|port FRAMES TURNS` keeps FRAMES frames of 64 bytes going round a loop in memory (`net_ring`), answering
//! each with a frame of its own, and prints the nanoseconds of a turn. With no frames every turn is idle. Both ways use the same
//! bindings and run in the same runtime. `scripts/dpdk-bench` runs all of it, and counts instructions with callgrind.

use std::future::Future;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use capsule::batch::{PacketRx, PacketTx, Pipeline};
use capsule::config::RuntimeConfig;
use capsule::{Mbuf, PortQueue, Runtime};
use tidegate_port::dpdk::{DeviceConfig, DeviceKind, DpdkConfig, DpdkPort, Memory, QueueLoop, run};
use tidegate_port::{BURST_MAX, Port, RxQueue, TxQueue};

const FRAME_BYTES: usize = 64;
/// What capsule takes at a time.
const FRAMES_MAX: usize = 32;
const CORE: usize = 0;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy)]
struct Plan {
    frames: usize,
    turns: u32,
}

/// The name is what callgrind is told to look at.
#[inline(never)]
fn measured_turns(turns: u32, mut turn: impl FnMut()) {
    for _ in 0..turns {
        turn();
    }
}

fn measure(plan: Plan, mut turn: impl FnMut()) {
    // Caches, branch predictors and pools come to their usual state.
    (0..1_000).for_each(|_| turn());
    let started = Instant::now();
    measured_turns(plan.turns, turn);
    let turn_ns = started.elapsed().as_secs_f64() * 1e9 / f64::from(plan.turns);
    println!("{turn_ns:.1}");
}

fn over_port(plan: Plan, port: &mut DpdkPort) {
    let (rx, tx) = port.halves();
    for _ in 0..plan.frames {
        assert!(tx.room() > 0, "the loop is too small");
        tx.push(FRAME_BYTES, |frame| frame.fill(1));
    }
    tx.flush();
    measure(plan, || {
        let burst = rx.burst(BURST_MAX);
        for index in 0..burst {
            let frame = rx.frame(index);
            if tx.room() > 0 {
                tx.push(frame.len(), |answer| {
                    answer.copy_from_slice(black_box(frame));
                });
            }
        }
        rx.release();
        // As the poll loop does: an idle turn sends nothing.
        if burst > 0 {
            tx.flush();
        }
    });
}

fn answer_to(frame: &[u8]) -> Result<Mbuf, Failure> {
    let mut answer = Mbuf::new()?;
    answer.extend(0, frame.len())?;
    answer.write_data_slice(0, frame)?;
    Ok(answer)
}

fn over_capsule(plan: Plan, queue: &mut PortQueue) -> Result<(), Failure> {
    let primed: Result<Vec<Mbuf>, _> = (0..plan.frames)
        .map(|_| answer_to(&[1; FRAME_BYTES]))
        .collect();
    let primed = primed?;
    if !primed.is_empty() {
        queue.transmit(primed);
    }
    measure(plan, || {
        let packets = queue.receive();
        let answers: Vec<Mbuf> = packets
            .iter()
            .filter_map(|packet| {
                let frame = packet.read_data_slice::<u8>(0, packet.data_len()).ok()?;
                // SAFETY: the packet is not changed while the slice lives.
                answer_to(black_box(unsafe { frame.as_ref() })).ok()
            })
            .collect();
        drop(packets);
        // capsule panics when it is to send nothing.
        if !answers.is_empty() {
            queue.transmit(answers);
        }
    });
    Ok(())
}

struct OverPort(DpdkPort, Plan);

impl QueueLoop for OverPort {
    fn turn(&mut self) -> ControlFlow<()> {
        over_port(self.1, &mut self.0);
        ControlFlow::Break(())
    }
}

struct OverCapsule(PortQueue, Plan);

impl Future for OverCapsule {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.run_once();
        Poll::Ready(())
    }
}

impl Pipeline for OverCapsule {
    fn name(&self) -> &'static str {
        "bursts"
    }

    fn run_once(&mut self) {
        if let Err(error) = over_capsule(self.1, &mut self.0) {
            eprintln!("{error}");
        }
    }
}

fn by_port(plan: Plan) -> Result<(), Failure> {
    let device = DeviceConfig {
        kind: DeviceKind::Loop,
        ring_size: 1_024,
        without_iommu: false,
    };
    let config = DpdkConfig {
        name: "bursts".to_owned(),
        cores: vec![CORE],
        memory: Memory::Ordinary,
        devices: vec![device],
        link_deadline: Duration::from_secs(1),
    };
    run(&config, move |_, mut ports: Vec<DpdkPort>| {
        Ok(OverPort(ports.remove(0), plan))
    })?;
    Ok(())
}

fn by_capsule(plan: Plan) -> Result<(), Failure> {
    let config: RuntimeConfig = serde_json::from_value(serde_json::json!({
        "app_name": "bursts",
        "master_core": capsule_ffi::MAIN_LCORE,
        "mempool": { "capacity": 8_191, "cache_size": 256 },
        "ports": [{ "name": "loop", "device": "net_ring0", "cores": [CORE], "rxd": 1_024, "txd": 1_024 }],
        "dpdk_args": "--no-telemetry --no-huge --no-shconf -m 128 --iova-mode=va --log-level=4",
        // A running measurement is waited for.
        "duration": 1,
    }))?;
    let mut runtime = Runtime::build(config)?;
    runtime.add_pipeline_to_port("loop", move |queue| OverCapsule(queue, plan))?;
    runtime.execute()?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse().ok());
    let plan = match (number(1), number(2)) {
        (Some(frames), Some(turns)) if frames as usize <= FRAMES_MAX && turns > 0 => Plan {
            frames: frames as usize,
            turns,
        },
        _ => return usage(),
    };
    let outcome = match arguments[0].as_str() {
        "port" => by_port(plan),
        "capsule" => by_capsule(plan),
        _ => return usage(),
    };
    if let Err(error) = outcome {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("dpdk_bursts capsule|port FRAMES (at most {FRAMES_MAX}) TURNS");
    ExitCode::from(2)
}
