//! Asks the processes of the record who they are.

use super::heritage::check_bells;
use super::tell_to_drain;
use crate::life::Life;
use crate::runtime_dir::{Record, Recorder};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::door::knock;
use tidegate_channel::message::{FromWorker, Handover, StartDescriptors, WorkerStart};
use tidegate_channel::protocol::PROTOCOL;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader};
use tidegate_channel::{payload, shm};

/// How long all of them together may take. The thread that answers does nothing else: one that is late was stopped, or hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// A worker that can be adopted.
#[derive(Debug)]
pub struct Adoptee {
    /// Its index.
    pub worker: usize,
    /// Its process.
    pub life: Life,
    /// The connection through its door.
    pub control: ControlSocket,
    /// What it says of itself.
    pub handover: Handover,
    /// What it was started with.
    pub start: WorkerStart,
    /// The descriptors that came with that.
    pub descriptors: StartDescriptors,
    /// Its statistics page, of the size that its configuration asks for.
    pub statistics: StatisticsReader,
    /// What came with the word that it may outlive its manager.
    pub kept: Vec<OwnedFd>,
}

/// A process that has to go.
#[derive(Debug)]
pub struct Leaving {
    /// Its index.
    pub worker: usize,
    /// Its process.
    pub life: Life,
    /// The connection through its door, if it opened.
    pub control: Option<ControlSocket>,
}

impl Adoptee {
    /// It is not adopted, for this reason.
    pub fn leave(self, why: &str) -> Leaving {
        say_why(self.worker, &self.life, why);
        Leaving {
            worker: self.worker,
            life: self.life,
            control: Some(self.control),
        }
    }
}

impl Leaving {
    /// Asks it to finish; one that cannot be spoken with is killed, unless it is about to end by itself.
    pub fn drain(&mut self, deadline_ms: u32) {
        if let Some(control) = &self.control
            && !tell_to_drain(control, deadline_ms)
        {
            self.life.kill();
        }
    }
}

fn say_why(worker: usize, life: &Life, why: &str) {
    tracing::warn!(
        "worker {worker}: process {} of an earlier manager cannot be taken over: {why}",
        life.pid()
    );
}

/// Why a worker is not adopted.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it is about to end, or was not to outlive its manager")]
    Closed,
    #[error("it does not answer")]
    Silent,
    #[error("it speaks another protocol than this build ({version})")]
    Protocol { version: String },
    #[error("it says something else than a worker that is taken over says")]
    Unexpected,
    #[error("it is not the process that was started")]
    OtherProcess,
    #[error(transparent)]
    Bell(std::io::Error),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Payload(#[from] payload::PayloadError),
    #[error(transparent)]
    Memory(#[from] shm::ShmError),
}

/// Speaks with every process of the record that lives.
pub fn all(record: &Record, doors: &Recorder) -> (Vec<Adoptee>, Vec<Leaving>) {
    let living = record.workers.iter().filter_map(|entry| {
        let life = Life::adopt(entry.process?)?;
        Some((entry.worker as usize, life))
    });
    // All doors first, so that they answer at the same time.
    let knocked: Vec<_> = living
        .map(|(worker, life)| (worker, life, knock(&doors.door(worker))))
        .collect();
    let until = Instant::now() + PATIENCE;
    let (mut adoptees, mut leaving) = (Vec::new(), Vec::new());
    for (worker, life, control) in knocked {
        let Ok(control) = control else {
            say_why(worker, &life, &Refusal::Closed.to_string());
            let control = None;
            leaving.push(Leaving {
                worker,
                life,
                control,
            });
            continue;
        };
        match interview(worker, &life, &control, until) {
            Ok(answers) => adoptees.push(Adoptee {
                worker,
                life,
                control,
                handover: answers.handover,
                start: answers.start,
                descriptors: answers.descriptors,
                statistics: answers.statistics,
                kept: answers.kept,
            }),
            Err(refusal) => {
                say_why(worker, &life, &refusal.to_string());
                if matches!(refusal, Refusal::Silent) {
                    // It would not hear that it has to finish, either.
                    life.kill();
                }
                let control = Some(control);
                leaving.push(Leaving {
                    worker,
                    life,
                    control,
                });
            }
        }
    }
    (adoptees, leaving)
}

/// What can be used of what a worker said and handed over.
struct Answers {
    handover: Handover,
    start: WorkerStart,
    descriptors: StartDescriptors,
    statistics: StatisticsReader,
    kept: Vec<OwnedFd>,
}

fn interview(
    worker: usize,
    life: &Life,
    control: &ControlSocket,
    until: Instant,
) -> Result<Answers, Refusal> {
    let (said, list) = hear(control, until)?;
    let FromWorker::Handover(handover) = said else {
        return Err(Refusal::Unexpected);
    };
    if handover.protocol != PROTOCOL {
        let version = handover.version;
        return Err(Refusal::Protocol { version });
    }
    if handover.pid != life.pid() {
        return Err(Refusal::OtherProcess);
    }
    let (said, kept) = hear(control, until)?;
    if said != FromWorker::Kept {
        return Err(Refusal::Unexpected);
    }
    let payload = list.first().ok_or(Refusal::Unexpected)?;
    shm::check_owner(payload)?;
    let payload = payload.try_clone().map_err(payload::PayloadError::from)?;
    let start: WorkerStart = payload::read(payload)?;
    let descriptors = StartDescriptors::from_list(list, &start).ok_or(Refusal::Unexpected)?;
    shm::check_owner(&descriptors.statistics)?;
    if start.worker as usize != worker {
        return Err(Refusal::Unexpected);
    }
    check_bells(&descriptors).map_err(Refusal::Bell)?;
    let layout = StatisticsLayout::of(&start.config, start.ports.len());
    let statistics = StatisticsReader::map(&descriptors.statistics, layout)?;
    Ok(Answers {
        handover,
        start,
        descriptors,
        statistics,
        kept,
    })
}

/// The next message, before `until`.
fn hear(control: &ControlSocket, until: Instant) -> Result<(FromWorker, Vec<OwnedFd>), Refusal> {
    loop {
        match control.receive::<FromWorker>() {
            Err(ControlError::WouldBlock) => {}
            Err(ControlError::Malformed(_)) => {
                let version = "unknown".into();
                return Err(Refusal::Protocol { version });
            }
            outcome => return Ok(outcome?),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::Silent);
        }
        let mut wait = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let _interrupted = poll(&mut wait, timeout.unwrap_or(PollTimeout::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime_dir::{ProcessId, RuntimeDir, WorkerRecord};
    use tidegate_channel::door::Door;
    use tidegate_channel::message::{Envelope, ToWorker};
    use tidegate_port::doorbell::Doorbell;

    const DRAIN: Option<ToWorker> = Some(ToWorker::Drain { deadline_ms: 77 });

    /// What a worker that is this very process says at its door, whom that makes it, and what it is told then.
    fn said(
        name: &str,
        messages: Vec<(FromWorker, Vec<OwnedFd>)>,
    ) -> (usize, usize, Option<ToWorker>) {
        let root = std::env::temp_dir().join(format!("tidegate-interview-{}", std::process::id()));
        let runtime = RuntimeDir::claim(&root, name).unwrap();
        let doors = runtime.recorder();
        let door = Door::open(&doors.door(0)).unwrap();
        let worker = std::thread::spawn(move || {
            let (manager, _) = door.accept().unwrap();
            for (message, descriptors) in messages {
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                manager.send(&message, &descriptors).unwrap();
            }
            let told = manager.receive::<Envelope<ToWorker>>();
            told.ok().map(|(envelope, _)| envelope.message)
        });
        let record = Record {
            workers: vec![WorkerRecord {
                worker: 0,
                process: ProcessId::of(std::process::id()),
                starts: 1,
                hung: 0,
                forbidden_calls: 0,
                generation: 1,
                last_exit: None,
            }],
            ..Record::default()
        };
        let (adoptees, mut leaving) = all(&record, &doors);
        for process in &mut leaving {
            process.drain(77);
        }
        let numbers = (adoptees.len(), leaving.len());
        drop((adoptees, leaving));
        runtime.remove();
        (numbers.0, numbers.1, worker.join().unwrap())
    }

    fn handover(protocol: u64, pid: u32) -> FromWorker {
        FromWorker::Handover(Handover {
            protocol,
            version: "0.0.1".into(),
            pid,
            generation: 9,
            modes: Vec::new(),
        })
    }

    #[test]
    fn a_worker_that_cannot_be_taken_over_is_drained() {
        let own = std::process::id();
        for (name, messages) in [
            ("protocol", vec![handover(PROTOCOL ^ 1, own)]),
            ("process", vec![handover(PROTOCOL, own + 1)]),
            ("order", vec![FromWorker::Kept]),
            ("nothing", vec![handover(PROTOCOL, own), FromWorker::Kept]),
            ("ready", vec![handover(PROTOCOL, own), FromWorker::Ready]),
        ] {
            let messages = messages.into_iter().map(|said| (said, Vec::new()));
            assert_eq!(said(name, messages.collect()), (0, 1, DRAIN), "{name}");
        }
    }

    #[test]
    fn a_worker_that_hands_over_something_else_is_drained() {
        let text = "[[port]]\ndriver = \"kernel\"\nqueues = { 0 = 0 }\n[[pool]]\nname = \"a\"\n\
                    protocol = \"redis\"\nlisten = \"127.0.0.1:1\"\nservers = [\"127.0.0.1:2\"]\n";
        let start = WorkerStart {
            config: tidegate_config::Config::parse(text, "test").unwrap(),
            worker: 0,
            workers: 1,
            core: None,
            ports: Vec::new(),
            shared_listeners: Vec::new(),
            user: None,
            seed: 1,
            orphans: Vec::new(),
            timestamps_us: 0,
        };
        let layout = StatisticsLayout::of(&start.config, 0);
        let payload = || payload::write(&start).unwrap();
        let page = || layout.create().unwrap();
        let bell = || Doorbell::new().unwrap().into_fd();
        for (name, statistics, bell, outcome) in [
            ("as-it-was", page(), bell(), (1, 0, None)),
            ("statistics", payload(), bell(), (0, 1, DRAIN)),
            ("bell", page(), page(), (0, 1, DRAIN)),
        ] {
            let handed_over = vec![payload(), statistics, bell];
            let messages = vec![
                (handover(PROTOCOL, std::process::id()), handed_over),
                (FromWorker::Kept, Vec::new()),
            ];
            assert_eq!(said(name, messages), outcome, "{name}");
        }
    }

    #[test]
    fn a_process_without_a_door_is_left_to_end_by_itself() {
        let root = std::env::temp_dir().join(format!("tidegate-doorless-{}", std::process::id()));
        let runtime = RuntimeDir::claim(&root, "doorless").unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let record = Record {
            workers: vec![WorkerRecord {
                worker: 3,
                process: ProcessId::of(child.id()),
                starts: 1,
                hung: 0,
                forbidden_calls: 0,
                generation: 1,
                last_exit: None,
            }],
            ..Record::default()
        };
        let (adoptees, mut leaving) = all(&record, &runtime.recorder());
        assert!(adoptees.is_empty() && leaving[0].control.is_none());
        leaving[0].drain(5);
        assert!(child.try_wait().unwrap().is_none(), "it has its time");
        child.kill().unwrap();
        child.wait().unwrap();
        let (adoptees, leaving) = all(&record, &runtime.recorder());
        assert!(adoptees.is_empty() && leaving.is_empty(), "it is gone");
        runtime.remove();
    }
}
