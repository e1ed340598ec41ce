//! `tidegate drain`: an end in order, of the instance or of one worker, which another one then follows.

use crate::control::Answer;
use crate::control::server::Ticket;
use crate::manager::{Ended, Manager};
use crate::worker_process::Stage;
use serde::{Deserialize, Serialize};

/// Longest deadline, as for `drain_timeout_ms`.
pub const DEADLINE_MS_MAX: u32 = 600_000;

/// What is to be drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// One worker; without it the instance, which then ends.
    #[serde(default)]
    pub worker: Option<u32>,
    /// What is owed then is not waited for any longer; without it `drain_timeout_ms`.
    #[serde(default)]
    pub deadline_ms: Option<u32>,
}

/// What was begun, or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Milliseconds until the deadline.
    pub deadline_ms: u32,
    /// The process that follows; `None`: the instance ends.
    pub successor: Option<u32>,
}

/// A worker whose successor somebody waits for.
#[derive(Debug)]
pub struct Awaited {
    ticket: Ticket,
    worker: usize,
    pid: u32,
    deadline_ms: u32,
}

/// Begins to drain.
pub fn begin(manager: &mut Manager, ticket: Ticket, request: DrainRequest) {
    let usual = manager.parts.shared.config.worker.drain_timeout_ms;
    let deadline_ms = request.deadline_ms.unwrap_or(usual);
    if let Err(fault) = try_begin(manager, ticket, request.worker, deadline_ms) {
        manager.parts.control.answer(ticket, &Answer::fault(fault));
    }
}

fn try_begin(
    manager: &mut Manager,
    ticket: Ticket,
    worker: Option<u32>,
    deadline_ms: u32,
) -> Result<(), String> {
    if deadline_ms > DEADLINE_MS_MAX {
        return Err(format!("a deadline is at most {DEADLINE_MS_MAX} ms"));
    }
    if manager.is_draining() {
        return Err("the instance is being drained already".into());
    }
    let Some(worker) = worker else {
        tracing::info!("drain: at most {deadline_ms} ms");
        manager.begin_ending(deadline_ms, Ended::InOrder);
        let successor = None;
        let drained = Drained {
            deadline_ms,
            successor,
        };
        manager.answer(ticket, &drained);
        return Ok(());
    };
    let worker = worker as usize;
    let workers = manager.slots.len();
    let Some(slot) = manager.slots.get_mut(worker) else {
        return Err(format!(
            "there is no worker {worker}: they are 0 to {}",
            workers - 1
        ));
    };
    let Some(pid) = slot.replace(deadline_ms) else {
        return Err(format!("worker {worker} does not serve now"));
    };
    manager.replace_fellows(worker, deadline_ms);
    let fellows = manager.parts.shared.fellows(worker).len();
    let with = match fellows {
        1 => String::new(),
        all => format!(", and with it all {all} workers, which are threads of it"),
    };
    tracing::info!("worker {worker}: process {pid} is drained{with}, at most {deadline_ms} ms");
    manager.awaited.push(Awaited {
        ticket,
        worker,
        pid,
        deadline_ms,
    });
    Ok(())
}

/// Answers those whose successor serves.
pub fn answer_if_done(manager: &mut Manager) {
    let awaited = std::mem::take(&mut manager.awaited);
    for waits in awaited {
        let process = manager.slots[waits.worker].process.as_ref();
        let successor = process
            .filter(|process| process.stage == Stage::Running && process.pid() != waits.pid)
            .map(crate::worker_process::WorkerProcess::pid);
        if successor.is_some() {
            let drained = Drained {
                deadline_ms: waits.deadline_ms,
                successor,
            };
            manager.answer(waits.ticket, &drained);
        } else if manager.is_draining() {
            let fault = Answer::fault("the instance ends: no worker follows");
            manager.parts.control.answer(waits.ticket, &fault);
        } else {
            manager.awaited.push(waits);
        }
    }
}
