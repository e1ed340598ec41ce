//! Worker and load in one thread, for profilers that count the instructions of [`BenchWorker::measured_turn`].

use crate::load::Load;
use crate::plan::Plan;
use crate::worker::BenchWorker;
use anyhow::Result;
use serde::Serialize;
use tidegate_config::AckMode;
use tidegate_port::Port;

/// What happened in the turns that were counted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counted {
    /// Requests answered, all correctly.
    pub requests: u64,
    /// Frames that the worker received.
    pub frames_received: u64,
    /// Those of them that belonged to no connection.
    pub frames_unknown: u64,
    /// Segments that the worker sent.
    pub segments_sent: u64,
    /// Those of them that were bare acknowledgements.
    pub acknowledgements_alone: u64,
    /// Segments that the worker sent again, those before the counted turns included.
    pub retransmits: u64,
}

/// A turn of each in alternation, on a clock that advances 10 µs a turn, so that every run does the same. The two ports are the
/// ends of one wire, or of what stands for one.
pub fn count<P: Port>(plan: Plan, ack: AckMode, worker: P, load: P) -> Result<Counted> {
    let mut now_us = 1_000_000;
    let mut worker = BenchWorker::new(&plan, worker, ack, now_us)?;
    let mut load = Load::new(plan, load, now_us)?;
    let mut turn =
        |worker: &mut BenchWorker<P>, load: &mut Load<P>, measured: bool| -> Result<()> {
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
    let earlier = worker.counters();
    while load.answered - before < plan.requests {
        turn(&mut worker, &mut load, true)?;
    }
    let counters = worker.counters();
    Ok(Counted {
        requests: load.answered - before,
        frames_received: counters.frames_in - earlier.frames_in,
        frames_unknown: counters.frames_unknown_flow - earlier.frames_unknown_flow,
        segments_sent: counters.segments_sent - earlier.segments_sent,
        acknowledgements_alone: counters.acks_alone - earlier.acks_alone,
        retransmits: counters.retransmits,
    })
}
