//! One process of a worker, as the manager sees it: its control socket, its statistics, its heartbeat.

use crate::adoption::interview::{Adoptee, Leaving};
use crate::life::{End, Life};
use crate::runtime_dir::{ProcessId, parse_stat};
use crate::silence::Silence;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::flows::FlowRecord;
use tidegate_channel::keys::KeysSeen;
use tidegate_channel::message::{
    Envelope, FromWorker, NeighbourSeen, ObtainedMode, StartDescriptors, ToWorker,
};
use tidegate_channel::slow::SlowEntry;
use tidegate_channel::statistics::{StatisticsReader, WorkerStatistics};
use tidegate_config::Config;

/// A heartbeat that stays away this long means that the loop hangs. It beats at least once a second.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(5);
/// A worker has to be ready within this time. Most of it may be spent waiting for a queue that its predecessor kept.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What a process that has to finish gets beyond its deadline.
pub(crate) const LEAVING_GRACE: Duration = Duration::from_secs(1);

/// This program, also when its file was replaced since it started. A unit test must not run its fellows: there no worker can start.
const PROGRAM: &str = if cfg!(test) {
    "/bin/false"
} else {
    "/proc/self/exe"
};

/// How the end of a process begins that said why it cannot serve; its reason follows.
pub const COULD_NOT_START: &str = "could not start: ";

/// Messages taken at a time, so that a worker that does nothing but talk cannot keep the manager from its other work.
const MESSAGES_MAX: usize = 64;

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It opens its sockets and gives up its privileges.
    Starting,
    /// It forwards.
    Running,
    /// It finishes what is owed.
    Draining,
}

/// What a worker said that the manager has to act on.
#[derive(Debug)]
pub enum Said {
    /// Its sockets, one per port.
    Sockets(Vec<OwnedFd>),
    /// It forwards now.
    Ready,
    /// It took a message.
    Answered {
        /// The number of the message.
        generation: u64,
        /// Why it did not do what the message asks; `None`: it did.
        refused: Option<String>,
    },
    /// Requests took long.
    Slow {
        /// These.
        entries: Vec<SlowEntry>,
        /// And so many more.
        lost: u64,
    },
    /// What it saw of keys.
    Keys(KeysSeen),
    /// Where a neighbour is.
    Neighbour(NeighbourSeen),
    /// A server does not answer.
    ServerSilent(IpAddr),
    /// It cannot go on.
    Failed {
        /// Why.
        reason: String,
        /// Whether trying again is pointless.
        permanent: bool,
    },
}

/// A running process, or one of its workers where they are threads of it.
pub struct WorkerProcess {
    life: Life,
    /// The name of its loop's thread.
    thread: String,
    control: ControlSocket,
    control_open: bool,
    generation: u64,
    /// Its statistics page.
    pub statistics: StatisticsReader,
    /// Version of the program that it runs.
    pub version: String,
    /// What the page was made for; `None`: what is in force.
    pub counts_by: Option<Rc<Config>>,
    /// The page that it is about to count in, and the number of the message that told it so.
    next_page: Option<(u64, StatisticsReader)>,
    /// What stood in the page before this one, which was made for this configuration, until somebody takes it.
    page_before: Option<(Rc<Config>, WorkerStatistics)>,
    /// How frames reach each of its queues, once it said so.
    pub modes: Vec<ObtainedMode>,
    /// Where it stands.
    pub stage: Stage,
    /// When it was started.
    pub started: Instant,
    /// Since when it serves; `None`: it does not yet.
    pub serves_since: Option<Instant>,
    failed: Option<(String, bool)>,
    silence: Silence,
    killed_as_hung: bool,
    /// It was killed before it served, because nobody wants it any more.
    given_up: bool,
    /// One that has to finish is killed then.
    leaves_by: Option<Instant>,
}

/// Starts this program as a worker whose control socket is `theirs`. It is called `name`, and `numbers` in its lines of the log.
fn start(name: &str, numbers: &str, theirs: OwnedFd, log: &str) -> io::Result<Life> {
    // A process group of its own keeps a terminal's Ctrl-C away: the manager decides how a worker ends.
    let child = Command::new(PROGRAM)
        .arg0(format!("tidegate: {name}"))
        .arg("worker")
        // Passwords may come in the environment; a worker needs nothing of it.
        .env_clear()
        // One area of memory for all threads: the poll loop allocates nothing, so none has to wait for it, and what the thread that
        // takes messages gives back is there for the next configuration.
        .env("MALLOC_ARENA_MAX", "1")
        .env(crate::log::FORMAT_VARIABLE, crate::log::format().name())
        .env(crate::log::FILTER_VARIABLE, log)
        .env(crate::log::WORKER_VARIABLE, numbers)
        .stdin(Stdio::from(theirs))
        .process_group(0)
        .spawn()?;
    Ok(Life::of_child(child))
}

impl WorkerProcess {
    /// Starts a process of `worker` and tells it to begin. `log` is its log filter.
    pub fn spawn(
        descriptors: StartDescriptors,
        statistics: StatisticsReader,
        worker: usize,
        log: &str,
    ) -> io::Result<Self> {
        let (control, theirs) = ControlSocket::pair().map_err(io::Error::other)?;
        let life = start(
            &format!("worker {worker}"),
            &worker.to_string(),
            theirs,
            log,
        )?;
        let mut process = Self::new(life, worker, control, statistics, Stage::Starting);
        process.begin(descriptors)?;
        Ok(process)
    }

    /// Starts one process of all workers, in their order, and tells each of them to begin.
    pub fn spawn_together(
        workers: Vec<(StartDescriptors, StatisticsReader)>,
        log: &str,
    ) -> io::Result<Vec<Self>> {
        let pairs: Result<Vec<_>, _> = workers.iter().map(|_| ControlSocket::pair()).collect();
        let pairs = pairs.map_err(io::Error::other)?;
        let (own, mut theirs): (Vec<ControlSocket>, Vec<OwnedFd>) = pairs.into_iter().unzip();
        let numbers = match workers.len() {
            0 => return Ok(Vec::new()),
            1 => "0".to_owned(),
            workers => format!("0-{}", workers - 1),
        };
        let life = start(
            &format!("workers {numbers}"),
            &numbers,
            theirs.remove(0),
            log,
        )?;
        let mut processes = Vec::with_capacity(workers.len());
        for (worker, (control, (descriptors, statistics))) in
            own.into_iter().zip(workers).enumerate()
        {
            let mut process = Self::new(life.clone(), worker, control, statistics, Stage::Starting);
            if worker == 0 {
                let fellows: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
                process.send(ToWorker::Fellows, &fellows);
            }
            process.begin(descriptors)?;
            processes.push(process);
        }
        Ok(processes)
    }

    fn begin(&mut self, descriptors: StartDescriptors) -> io::Result<()> {
        self.control.set_nonblocking().map_err(io::Error::other)?;
        let list = descriptors.into_list();
        let list: Vec<BorrowedFd<'_>> = list.iter().map(AsFd::as_fd).collect();
        self.send(ToWorker::Start, &list);
        Ok(())
    }

    fn new(
        life: Life,
        worker: usize,
        control: ControlSocket,
        statistics: StatisticsReader,
        stage: Stage,
    ) -> Self {
        let now = Instant::now();
        let age = match &life {
            Life::Child(_) => Duration::ZERO,
            Life::Adopted { id, .. } => id.age(),
        };
        let started = now.checked_sub(age).unwrap_or(now);
        Self {
            life,
            thread: format!("tidegate-w{worker}"),
            control,
            control_open: true,
            generation: 0,
            statistics,
            version: env!("CARGO_PKG_VERSION").into(),
            counts_by: None,
            next_page: None,
            page_before: None,
            modes: Vec::new(),
            stage,
            started,
            serves_since: (stage == Stage::Running).then_some(started),
            failed: None,
            silence: Silence::from(now),
            killed_as_hung: false,
            given_up: false,
            leaves_by: None,
        }
    }

    /// A process that is no worker, for tests, which speak for it at the other end of `control`.
    #[cfg(test)]
    pub fn stand_in(
        child: std::process::Child,
        control: ControlSocket,
        statistics: StatisticsReader,
        stage: Stage,
    ) -> Self {
        Self::new(Life::of_child(child), 0, control, statistics, stage)
    }

    /// One that an earlier manager started, and that goes on. Its statistics page goes on too.
    pub fn adopt(adoptee: Adoptee) -> Self {
        let handover = adoptee.handover;
        let (life, control) = (adoptee.life, adoptee.control);
        Self {
            generation: handover.generation,
            version: handover.version,
            modes: handover.modes,
            ..Self::new(
                life,
                adoptee.worker,
                control,
                adoptee.statistics,
                Stage::Running,
            )
        }
    }

    /// One that an earlier manager started, and that has to finish. What it counts is not known: `statistics` are of nobody.
    pub fn see_off(
        mut leaving: Leaving,
        statistics: StatisticsReader,
        deadline_ms: u32,
    ) -> io::Result<Self> {
        leaving.drain(deadline_ms);
        let patience = Duration::from_millis(deadline_ms.into()) + LEAVING_GRACE;
        let open = leaving.control.is_some();
        let control = match leaving.control {
            Some(control) => control,
            None => ControlSocket::pair().map_err(io::Error::other)?.0,
        };
        Ok(Self {
            control_open: open,
            leaves_by: Some(Instant::now() + patience),
            ..Self::new(
                leaving.life,
                leaving.worker,
                control,
                statistics,
                Stage::Draining,
            )
        })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.life.pid()
    }

    /// What becomes readable when it ends, besides the control socket.
    pub fn wakes(&self) -> Option<BorrowedFd<'_>> {
        self.life.wakes()
    }

    /// Its number and start, for the record.
    pub fn id(&self) -> Option<ProcessId> {
        ProcessId::of(self.pid())
    }

    /// The control socket, until its other end is closed.
    pub fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control_open.then(|| self.control.as_fd())
    }

    /// Sends a message. One that cannot be sent is to a worker that is gone or hangs, which shows by itself.
    /// Returns its number.
    pub fn send(&mut self, message: ToWorker, descriptors: &[BorrowedFd<'_>]) -> u64 {
        self.generation += 1;
        let envelope = Envelope {
            generation: self.generation,
            message,
        };
        if let Err(error) = self.control.send(&envelope, descriptors) {
            tracing::warn!("worker process {}: {error}", self.pid());
        }
        self.generation
    }

    /// Tells it to take up what it has made ready, and to count in `page`. Until it says that it does, all that it counted stands in the
    /// page before, which was made for `before`. Returns the number of the message.
    pub fn take_up(&mut self, page: StatisticsReader, before: &Rc<Config>) -> u64 {
        let number = self.send(ToWorker::TakeUp, &[]);
        self.stay_with(before);
        self.next_page = Some((number, page));
        number
    }

    /// Something else than `before` is in force from now on, but not in this process.
    pub fn stay_with(&mut self, before: &Rc<Config>) {
        self.counts_by.get_or_insert_with(|| Rc::clone(before));
    }

    /// It did what a message says.
    fn acknowledged(&mut self, generation: u64) {
        let is_it = |(number, _): &mut (u64, StatisticsReader)| *number == generation;
        if let Some((_, page)) = self.next_page.take_if(is_it) {
            let mut old = std::mem::replace(&mut self.statistics, page);
            let by = self.counts_by.take();
            self.page_before = by.map(|by| (by, old.read().clone()));
        }
    }

    /// The connections that it left open, now that it has ended.
    pub fn left_open(&self) -> Vec<FlowRecord> {
        // It may have gone on to the next page without a word.
        let next = self.next_page.iter().flat_map(|(_, page)| page.flows());
        next.chain(self.statistics.flows()).collect()
    }

    /// What it counted in the page before this one, once.
    pub fn take_page_before(&mut self) -> Option<(Rc<Config>, WorkerStatistics)> {
        self.page_before.take()
    }

    /// Takes what the worker said.
    pub fn listen(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        for _ in 0..MESSAGES_MAX {
            match self.control.receive::<FromWorker>() {
                // Once, before it has read a frame: whoever takes a worker over later has no say in the map.
                Ok((FromWorker::Sockets { .. }, _)) if !self.modes.is_empty() => {
                    tracing::error!("worker process {}: sockets at the wrong time", self.pid());
                    self.kill();
                }
                Ok((FromWorker::Sockets { modes }, sockets)) => {
                    self.modes = modes;
                    said.push(Said::Sockets(sockets));
                }
                // Once: who has to finish does not serve again, and would not be waited for any more.
                Ok((FromWorker::Ready, _)) if self.stage != Stage::Starting => {
                    tracing::error!("worker process {}: ready at the wrong time", self.pid());
                    self.kill();
                }
                Ok((FromWorker::Ready, _)) => {
                    self.stage = Stage::Running;
                    self.serves_since = Some(Instant::now());
                    said.push(Said::Ready);
                }
                Ok((FromWorker::Failed { reason, permanent }, _)) => {
                    self.failed = Some((reason.clone(), permanent));
                    said.push(Said::Failed { reason, permanent });
                }
                Ok((FromWorker::Slow { entries, lost }, _)) => {
                    said.push(Said::Slow { entries, lost });
                }
                Ok((FromWorker::Keys(seen), _)) => said.push(Said::Keys(seen)),
                Ok((FromWorker::Neighbour(seen), _)) => said.push(Said::Neighbour(seen)),
                Ok((FromWorker::ServerSilent { address }, _)) => {
                    said.push(Said::ServerSilent(address));
                }
                Ok((FromWorker::Acknowledged { generation }, _)) => {
                    self.acknowledged(generation);
                    let refused = None;
                    said.push(Said::Answered {
                        generation,
                        refused,
                    });
                }
                Ok((FromWorker::Refused { generation, reason }, _)) => {
                    let refused = Some(reason);
                    said.push(Said::Answered {
                        generation,
                        refused,
                    });
                }
                Ok((FromWorker::Handover(_) | FromWorker::Kept, _)) => {
                    // To one that has to finish nobody listened.
                    if self.leaves_by.is_none() {
                        tracing::error!("worker process {}: it is no stranger", self.pid());
                        self.kill();
                    }
                }
                Err(ControlError::WouldBlock) => break,
                Err(error) => {
                    self.control_open = false;
                    if !matches!(error, ControlError::Closed) {
                        tracing::error!("worker process {}: {error}", self.pid());
                        self.kill();
                    }
                    break;
                }
            }
        }
        said
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<(End, String)> {
        let end = self.life.ended()?;
        // What it said last may still wait in the socket.
        self.listen();
        let text = match (&self.failed, self.stage) {
            // That it was killed then, or what it exited with, tells nothing more.
            (Some((reason, _)), Stage::Starting) => format!("{COULD_NOT_START}{reason}"),
            (Some((reason, _)), _) => format!("{end}: {reason}"),
            (None, _) if self.given_up => "its start was given up".to_owned(),
            (None, Stage::Starting) if self.killed_as_hung => {
                format!("killed because it was not ready within {START_PATIENCE:?}")
            }
            (None, _) if self.killed_as_hung => {
                format!("{end} because its heartbeat had stopped")
            }
            (None, _) => end.to_string(),
        };
        Some((end, text))
    }

    /// Whether the process said that trying again is pointless.
    pub fn failed_for_good(&self) -> bool {
        matches!(self.failed, Some((_, true)))
    }

    /// Whether the process has to be killed because it hangs. One that a debugger holds is left alone.
    pub fn hangs(&mut self, now: Instant) -> bool {
        if self.killed_as_hung || self.leaves_by.is_some() {
            return false;
        }
        if self.stage == Stage::Starting {
            return now.saturating_duration_since(self.started) > START_PATIENCE;
        }
        let heartbeat = self.statistics.read_loop().heartbeat;
        let silence = self.silence.observe(heartbeat, self.waited_for_core(), now);
        silence >= HEARTBEAT_PATIENCE && !self.is_traced()
    }

    /// Asks it to finish, so that another one can take its place; it is killed if it does not. Asked twice it has no more time.
    pub fn drain(&mut self, deadline_ms: u32) {
        self.stage = Stage::Draining;
        let patience = Duration::from_millis(deadline_ms.into()) + LEAVING_GRACE;
        let leaves_by = Instant::now() + patience;
        self.leaves_by = Some(
            self.leaves_by
                .map_or(leaves_by, |before| before.min(leaves_by)),
        );
        self.send(ToWorker::Drain { deadline_ms }, &[]);
    }

    /// Whether it was to finish, and has had its time.
    pub fn overstays(&self, now: Instant) -> bool {
        self.leaves_by.is_some_and(|by| now >= by)
    }

    /// How long the loop's thread was ready to run and did not, by the scheduler. It is the main thread, or named as one.
    fn waited_for_core(&self) -> Duration {
        let pid = self.pid();
        let is_loop = |task: &std::path::Path| {
            let name = std::fs::read_to_string(task.join("comm"));
            name.is_ok_and(|name| name.trim_end() == self.thread)
        };
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        let mut tasks = tasks
            .into_iter()
            .flatten()
            .flatten()
            .map(|task| task.path());
        let task = tasks.find(|task| is_loop(task));
        let task = task.unwrap_or_else(|| format!("/proc/{pid}").into());
        let text = std::fs::read_to_string(task.join("schedstat"));
        let text = text.unwrap_or_default();
        let waited = text.split(' ').nth(1).and_then(|ns| ns.parse().ok());
        Duration::from_nanos(waited.unwrap_or(0))
    }

    fn is_traced(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.ok()
            .and_then(|stat| parse_stat(&stat))
            .is_some_and(|(state, _)| state == 't')
    }

    /// Kills the process, which does not serve yet.
    pub fn give_up(&mut self) {
        self.given_up = true;
        self.kill();
    }

    /// Kills the process because it hangs.
    pub fn kill_as_hung(&mut self) {
        self.killed_as_hung = true;
        self.kill();
    }

    /// Kills the process.
    pub fn kill(&self) {
        self.life.kill();
    }
}
