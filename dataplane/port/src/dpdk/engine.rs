//! Runs loops on the queues of DPDK's devices, in capsule's runtime.

use std::future::Future;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use capsule::batch::Pipeline;
use capsule::{Runtime, UnixSignal};
use capsule_ffi as ffi;

use super::checks::{self, Found};
use super::config::{DeviceKind, DpdkConfig};
use super::device::Device;
use super::error::DpdkError;
use super::watch::Watch;
use super::{DpdkPort, log};
use crate::afxdp::{self, AfXdpConfig, AfXdpError, AfXdpPort};
use crate::nic::Nic;

/// Turns of a loop between two looks of capsule's executor. With one, the executor takes longer than an idle turn; with 64 it
/// takes a few per cent of it, and a loop that is told to end is still heard within microseconds.
pub const TURNS_PER_POLL: usize = 64;

/// How often the main thread looks whether all loops have ended.
const END_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often the main thread looks at the devices' counts and links. An operator does not want to know sooner.
const DEVICE_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a queue may be busy until somebody else has it. Freeing takes 30 to 150 ms.
const TAKEN_DEADLINE: Duration = Duration::from_millis(500);

/// Where DPDK makes a directory for each process, with the privileges that it needs.
const DIRECTORIES: &str = "/var/run/dpdk";

/// A loop over the ports of one worker.
pub trait QueueLoop {
    /// One turn: a burst of every port, and what follows from it. `Break` ends the loop. It must not block: capsule's executor
    /// is on the same thread.
    fn turn(&mut self) -> ControlFlow<()>;
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every loop ended by itself.
    Finished,
    /// SIGINT or SIGTERM came first; loops were dropped where they stood.
    Signalled,
}

/// Why a loop could not begin, in the words of whoever makes loops.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Whoever makes loops. A closure does, if nobody waits for others meanwhile.
pub trait MakeLoop: Send + Sync + 'static {
    /// What is made.
    type Loop: QueueLoop + 'static;

    /// Makes the loop of a worker, on its own thread and core, with its queue of every device.
    fn make(&self, worker: usize, ports: Vec<DpdkPort>) -> Result<Self::Loop, StartError>;

    /// The devices of a worker could not be opened: there will be no loop of it.
    fn has_none(&self, _worker: usize, _why: &DpdkError) {}
}

impl<L, S> MakeLoop for S
where
    L: QueueLoop + 'static,
    S: Fn(usize, Vec<DpdkPort>) -> Result<L, StartError> + Send + Sync + 'static,
{
    type Loop = L;

    fn make(&self, worker: usize, ports: Vec<DpdkPort>) -> Result<L, StartError> {
        self(worker, ports)
    }
}

/// Opens all devices, has `start` make a loop for each worker, and turns the loops until all have ended or one could not begin.
///
/// It can be called once in the life of a process, which should end soon after: signal handlers stay, and what DPDK opened before
/// an error is closed with the process only. A panic in a loop ends the process at once: the queue of a thread that is gone
/// would swallow its frames.
pub fn run<S: MakeLoop>(config: &DpdkConfig, start: S) -> Result<Outcome, DpdkError> {
    static RAN: AtomicBool = AtomicBool::new(false);
    let found = checks::look(config)?;
    if RAN.swap(true, Ordering::SeqCst) {
        return Err(DpdkError::Again);
    }
    log::redirect().map_err(|error| DpdkError::Eal {
        reason: format!("its log cannot be redirected: {error}"),
        log: "nothing".to_owned(),
    })?;
    tidy(&config.name);
    ffi::place_main(found.nodes[0]);
    let for_capsule = config.for_capsule(&found.megabytes)?;
    let runtime = Runtime::build(for_capsule);
    let runtime = runtime.map_err(|error| explain(config, &found, &format!("{error:#}")));
    let shared = Arc::new(Shared {
        ending: Ending::new(config.cores.len()),
        opening: AtomicUsize::new(config.cores.len()),
        watch: Watch::default(),
        config: config.clone(),
        found,
        start,
    });
    turn_all(runtime?, &shared)?;
    // Nothing but this is left of a process without shared files.
    let _removed = std::fs::remove_dir(Path::new(DIRECTORIES).join(config.prefix()));
    shared.ending.outcome()
}

/// What all threads know.
struct Shared<S> {
    ending: Ending,
    /// Loops that have not begun yet.
    opening: AtomicUsize,
    watch: Watch,
    config: DpdkConfig,
    found: Found,
    start: S,
}

/// Installs the loops, and waits for their end.
fn turn_all<S: MakeLoop>(mut runtime: Runtime, shared: &Arc<Shared<S>>) -> Result<(), DpdkError> {
    let setup = |error: &dyn std::fmt::Display| DpdkError::Setup {
        device: "what was opened".to_owned(),
        reason: error.to_string(),
        log: log::take_warnings(),
    };
    let of_signal = shared.clone();
    runtime.set_on_signal(move |signal| of_signal.ending.ends_by(signal));
    // A worker's loop takes a burst of each of its devices, so it is installed on the first alone.
    let kind = &shared.config.devices[0].kind;
    let workers = 0..shared.config.cores.len();
    let mut names: Vec<String> = workers.map(|worker| kind.name(0, worker)).collect();
    names.dedup();
    for name in names {
        let of_worker = shared.clone();
        runtime
            .add_pipeline_to_port(&name, move |_queue| Turning::begin(of_worker.clone()))
            .map_err(|error| setup(&error))?;
    }
    // Runs on the main thread, once that waits for signals: a signal is all that wakes it.
    let of_end = shared.clone();
    runtime
        .add_periodic_task_to_core(
            ffi::MAIN_LCORE,
            move || {
                if of_end.ending.is_over() {
                    // SAFETY: a signal to ourselves, which has a handler by now.
                    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
                }
            },
            END_LOOK_INTERVAL,
        )
        .map_err(|error| setup(&error))?;
    let of_watch = shared.clone();
    runtime
        .add_periodic_task_to_core(
            ffi::MAIN_LCORE,
            move || {
                let all_begun = of_watch.opening.load(Ordering::Acquire) == 0;
                if all_begun && !of_watch.ending.is_over() {
                    of_watch.watch.look();
                }
            },
            DEVICE_LOOK_INTERVAL,
        )
        .map_err(|error| setup(&error))?;
    runtime.execute().map_err(|error| setup(&error))
}

/// Why building failed, by what is there now.
fn explain(config: &DpdkConfig, found: &Found, reason: &str) -> DpdkError {
    let log = log::take_warnings();
    let reason = reason.to_owned();
    if !ffi::eal_is_up() {
        return DpdkError::Eal { reason, log };
    }
    let workers = config.cores.len();
    for (index, device) in config.devices.iter().enumerate() {
        let kind = &device.kind;
        let wanted = if kind.is_split() { 1 } else { workers };
        for worker in 0..workers {
            let name = kind.name(index, worker);
            let shown = kind.interface().unwrap_or(&name).to_owned();
            match Device::find(&name) {
                Ok(None) => return DpdkError::NotFound { device: shown, log },
                Ok(Some(device)) if usize::from(device.queues_max()) < wanted => {
                    return DpdkError::TooFewQueues {
                        device: shown,
                        present: device.queues_max().into(),
                        wanted,
                    };
                }
                _ => {}
            }
            if let (DeviceKind::AfXdp { start_queue, .. }, Some(nic)) =
                (kind, &found.interfaces[index])
                && is_taken(nic, start_queue + worker as u32)
            {
                return DpdkError::InUse {
                    device: format!("queue {} of {shown}", start_queue + worker as u32),
                    said: log,
                };
            }
        }
    }
    let kind = &config.devices[0].kind;
    let device = kind.interface().unwrap_or(&kind.name(0, 0)).to_owned();
    DpdkError::Setup {
        device,
        reason,
        log,
    }
}

/// Whether another process has a queue for itself. DPDK does not say why it did not get it, so we try.
fn is_taken(nic: &Nic, queue: u32) -> bool {
    let config = AfXdpConfig {
        ifindex: nic.ifindex,
        queue,
        ring_size: afxdp::RING_SIZE_MIN,
        mtu_bytes: nic.mtu_bytes.min(afxdp::MTU_BYTES_MAX),
        mac: nic.mac,
        generic: false,
        require_zero_copy: false,
        in_flight_max: 0,
        // What DPDK itself had of the interface is free by then.
        bind_deadline: TAKEN_DEADLINE,
    };
    matches!(AfXdpPort::open(&config), Err(AfXdpError::Busy { .. }))
}

/// Of processes that were killed, DPDK leaves an empty directory.
fn tidy(name: &str) {
    let Ok(entries) = std::fs::read_dir(DIRECTORIES) else {
        return;
    };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let process = file
            .to_str()
            .and_then(|file| file.strip_prefix(name)?.strip_prefix('-'))
            .and_then(|process| process.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            // One that is not empty stays.
            let _removed = std::fs::remove_dir(entry.path());
        }
    }
}

/// How far the loops are from their end.
#[derive(Debug)]
struct Ending {
    left: AtomicUsize,
    signalled: AtomicBool,
    failed: Mutex<Option<DpdkError>>,
    has_failed: AtomicBool,
}

impl Ending {
    fn new(loops: usize) -> Self {
        Self {
            left: AtomicUsize::new(loops),
            signalled: AtomicBool::new(false),
            failed: Mutex::new(None),
            has_failed: AtomicBool::new(false),
        }
    }

    fn one_ended(&self) {
        self.left.fetch_sub(1, Ordering::AcqRel);
    }

    /// The first failure is the one that is told.
    fn fail(&self, error: DpdkError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0 || self.has_failed.load(Ordering::Acquire)
    }

    /// Tells whether a signal ends the runtime; notes that it came from outside.
    fn ends_by(&self, signal: UnixSignal) -> bool {
        if self.is_over() {
            return true;
        }
        let ends = !matches!(signal, UnixSignal::SIGHUP);
        self.signalled.fetch_or(ends, Ordering::AcqRel);
        ends
    }

    fn outcome(&self) -> Result<Outcome, DpdkError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed.take() {
            Some(error) => Err(error),
            None if self.signalled.load(Ordering::Acquire) => Ok(Outcome::Signalled),
            None => Ok(Outcome::Finished),
        }
    }
}

/// A loop as capsule's pipeline.
struct Turning<S: MakeLoop> {
    name: String,
    /// `None`: over, or never begun.
    turns: Option<Box<S::Loop>>,
    shared: Arc<Shared<S>>,
}

impl<S: MakeLoop> Turning<S> {
    /// On the thread that will turn it, after capsule has started the devices.
    fn begin(shared: Arc<Shared<S>>) -> Self {
        let _end_on_panic = EndOnPanic;
        // SAFETY: no arguments. capsule pinned this thread, so the answer stays true.
        let core = unsafe { libc::sched_getcpu() };
        let core = usize::try_from(core).unwrap_or(usize::MAX);
        let worker = shared.config.cores.iter().position(|own| *own == core);
        let worker = worker.unwrap_or(usize::MAX);
        let opened = open(&shared, worker).inspect_err(|why| shared.start.has_none(worker, why));
        let turns = opened.and_then(|ports| {
            let begun = shared.start.make(worker, ports);
            begun.map_err(|source| DpdkError::Worker { worker, source })
        });
        let turns = match turns {
            Ok(turns) => {
                shared.opening.fetch_sub(1, Ordering::AcqRel);
                Some(Box::new(turns))
            }
            Err(error) => {
                shared.ending.fail(error);
                None
            }
        };
        Self {
            name: format!("worker {worker}"),
            turns,
            shared,
        }
    }
}

/// The worker's queue of every device.
fn open<S>(shared: &Shared<S>, worker: usize) -> Result<Vec<DpdkPort>, DpdkError> {
    let devices = shared.config.devices.iter().zip(&shared.found.interfaces);
    let ports = devices.enumerate().map(|(index, (config, interface))| {
        let name = config.kind.name(index, worker);
        let mut device = Device::find(&name)?.ok_or_else(|| DpdkError::NotFound {
            device: name,
            log: log::take_warnings(),
        })?;
        if let Some(nic) = interface {
            device.limit_mtu(nic.mtu_bytes);
        }
        device.settle(if config.kind.is_split() {
            shared.found.nodes[worker]
        } else {
            shared.config.lowest_node(&shared.found.nodes)
        });
        device.wait_for_link(config.kind.interface(), shared.config.link_deadline)?;
        let queue = config.kind.queue(worker);
        DpdkPort::open(&device, worker, queue, config.ring_size, &shared.watch)
    });
    ports.collect()
}

/// Ends the process when it is dropped by a panic.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl<S: MakeLoop> Future for Turning<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(turns) = &mut this.turns else {
            return Poll::Ready(());
        };
        let _end_on_panic = EndOnPanic;
        for _ in 0..TURNS_PER_POLL {
            if turns.turn().is_break() {
                // Its mbufs go back before anybody is told that it ended.
                this.turns = None;
                this.shared.ending.one_ended();
                return Poll::Ready(());
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: MakeLoop> Pipeline for Turning<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run_once(&mut self) {
        if let Some(turns) = &mut self.turns {
            let _ended = turns.turn();
        }
    }
}
