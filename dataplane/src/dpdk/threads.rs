//! The process of all workers on DPDK, step by step.
//!
//! The first worker's control socket brings those of the others. Every worker's start is read, then DPDK opens the devices with the
//! privileges that this takes, and each worker begins on its own thread: it asks the device what it has to know, and shows the manager
//! its ports. From there on all threads go step by step together, because privileges and system calls are given up by the process as a
//! whole: nobody may give them up while another one still needs them.

use super::devices::what_to_open;
use super::gate::Gate;
use crate::assembly::{PacketWorker, assemble};
use crate::clock::Clock;
use crate::poll_loop::{Ended, Running};
use crate::seccomp::{calls, confine};
use crate::worker::{
    Begun, EXIT_FAILED, Starting, WorkerError, call_ourselves, exit_code, failed, obtained,
};
use nix::sys::prctl;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_channel::control::ControlSocket;
use tidegate_channel::message::{
    FromWorker, NetworkDescriptors, Oracle, PacketDescriptors, WorkerStart,
};
use tidegate_port::Port;
use tidegate_port::dpdk::{
    self, Device, DpdkError, DpdkPort, MakeLoop, Offloads, QueueLoop, StartError,
};

/// What waits for its thread.
type Waiting = Option<(Starting, PacketDescriptors)>;

/// What all threads know.
struct Together {
    waiting: Mutex<Vec<Waiting>>,
    gate: Gate,
    left: AtomicUsize,
    /// What the process will exit with.
    code: AtomicU8,
}

/// Lives until every loop has ended. Returns only if that cannot begin: a process that has served ends on the thread of the last worker,
/// since the filter does not let DPDK close what it opened. The kernel does that.
pub(crate) fn live(
    first: Starting,
    packets: PacketDescriptors,
    fellows: Vec<OwnedFd>,
) -> Result<Ended, WorkerError> {
    // Inherited by every thread that DPDK starts.
    let _cannot_fail = prctl::set_no_new_privs();
    let mut workers: Vec<Waiting> = vec![Some((first, packets))];
    for fellow in fellows {
        workers.push(Some(receive(fellow, &workers)?));
    }
    let starts = || workers.iter().flatten().map(|(worker, _)| &worker.start);
    let config = {
        let first = starts().next();
        let first = first.ok_or(WorkerError::Unexpected("no worker"))?;
        let in_order = starts()
            .zip(0..)
            .all(|(start, index)| start.worker == index);
        if !in_order || first.workers as usize != workers.len() {
            return Err(WorkerError::Unexpected("a wrong number of workers"));
        }
        let cores = starts().map(|start| start.core);
        let cores: Option<Vec<u32>> = cores.collect();
        let cores = cores.ok_or(WorkerError::Unexpected("a worker without a core"))?;
        what_to_open(&first.config, &cores)?
    };
    let sockets: Vec<ControlSocket> = workers
        .iter()
        .flatten()
        .map(|(worker, _)| worker.socket.try_clone())
        .collect::<Result<_, _>>()?;
    let together = Arc::new(Together {
        gate: Gate::new(workers.len()),
        left: AtomicUsize::new(workers.len()),
        code: AtomicU8::new(0),
        waiting: Mutex::new(workers),
    });
    let outcome = dpdk::run(&config, Workers(together));
    match outcome {
        // Those that could not begin have said why.
        Err(DpdkError::Worker { .. }) => std::process::exit(EXIT_FAILED.into()),
        Err(error) => {
            let error = WorkerError::from(error);
            for socket in sockets.iter().skip(1) {
                failed(socket, &error);
            }
            Err(error)
        }
        // A signal from outside.
        Ok(_) => Ok(Ended::Stopped),
    }
}

/// Begins the workers.
struct Workers(Arc<Together>);

impl MakeLoop for Workers {
    type Loop = Turning;

    fn make(&self, worker: usize, ports: Vec<DpdkPort>) -> Result<Turning, StartError> {
        begin(&self.0, worker, ports).map_err(StartError::from)
    }

    fn has_none(&self, worker: usize, why: &DpdkError) {
        // To the manager `live` says it.
        self.0.gate.break_off(&format!("worker {worker}: {why}"));
    }
}

/// The start of the next worker.
fn receive(
    fellow: OwnedFd,
    before: &[Waiting],
) -> Result<(Starting, PacketDescriptors), WorkerError> {
    let socket = ControlSocket::from_descriptor(fellow)?;
    let first = before.iter().flatten().next();
    let (first, _) = first.ok_or(WorkerError::Unexpected("no worker"))?;
    let Begun {
        worker, network, ..
    } = Starting::receive(&socket, first.set_log_filter())?;
    match network {
        NetworkDescriptors::Packets(packets) => Ok((worker, packets)),
        NetworkDescriptors::Sockets(_) => Err(WorkerError::Unexpected("another network")),
    }
}

/// Begins the worker on its thread.
fn begin(
    together: &Arc<Together>,
    worker: usize,
    ports: Vec<DpdkPort>,
) -> Result<Turning, WorkerError> {
    let waiting = {
        let waiting = together.waiting.lock();
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.get_mut(worker).and_then(Option::take)
    };
    let (starting, packets) = waiting.ok_or_else(|| {
        let why = "an unknown worker";
        together.gate.break_off(why);
        WorkerError::Unexpected(why)
    })?;
    let socket = starting.socket.try_clone();
    let begun = go(together, starting, packets, ports);
    if let Err(error) = &begun {
        if let Ok(socket) = socket {
            failed(&socket, error);
        }
        together
            .gate
            .break_off(&format!("worker {worker}: {error}"));
    }
    begun
}

fn go(
    together: &Arc<Together>,
    mut starting: Starting,
    packets: PacketDescriptors,
    ports: Vec<DpdkPort>,
) -> Result<Turning, WorkerError> {
    let worker = starting.start.worker;
    call_ourselves(&format!("tidegate-w{worker}"));
    // The kernel would otherwise add up to 50 µs to each nap.
    let _coarser = prctl::set_timerslack(1);
    let workers = starting.start.workers;
    // Before anybody reads how flows are spread. What a device cannot be told shows there.
    let spread_evenly = || {
        for port in &ports {
            let _unsupported = spread_over(port.device(), workers);
        }
        Ok(())
    };
    together
        .gate
        .pass(spread_evenly)
        .map_err(WorkerError::Together)?;
    learn(&mut starting.start, &ports)?;
    let modes = ports.iter().map(|port| obtained(port.info().mode));
    starting.show(modes.collect(), &[])?;
    let user = starting.start.user.clone();
    // The user is that of all threads; capabilities are each thread's own.
    let all_open = || {
        let dropped = crate::privileges::drop_privileges(user.as_ref());
        dropped.map(drop).map_err(|error| error.to_string())
    };
    together
        .gate
        .pass(all_open)
        .map_err(WorkerError::Together)?;
    starting.drop_privileges(&format!("{} ports", ports.len()))?;
    let clock = Clock::start();
    let (commands, surroundings) = starting.surroundings(packets)?;
    let now_us = clock.now_ns() / 1_000;
    let poll_loop = assemble(&starting.start, ports, surroundings, now_us)?;
    let seccomp = starting.start.config.worker.seccomp;
    let socket = starting.listen(commands)?;
    let nothing_left = || {
        let confined = confine(calls::Network::Dpdk, seccomp);
        confined.map_err(|error| error.to_string())
    };
    together
        .gate
        .pass(nothing_left)
        .map_err(WorkerError::Together)?;
    socket.send(&FromWorker::Ready, &[])?;
    Ok(Turning {
        worker,
        running: poll_loop.begin(clock),
        has_ended: false,
        poll_loop,
        together: together.clone(),
    })
}

/// What only the open device says.
fn learn(start: &mut WorkerStart, ports: &[DpdkPort]) -> Result<(), WorkerError> {
    let configs = start.config.ports.iter();
    for ((facts, config), port) in start.ports.iter_mut().zip(configs).zip(ports) {
        let info = port.info();
        facts.mac = info.mac;
        let most = info.mtu_bytes as u32;
        if config.mtu_bytes.is_some_and(|wanted| wanted > most) {
            return Err(WorkerError::Mtu {
                interface: config.interface.clone(),
                wanted: config.mtu_bytes.unwrap_or_default(),
                most,
            });
        }
        facts.mtu_bytes = config.mtu_bytes.unwrap_or(most);
        if port.worker() == 0 {
            tracing::info!(
                "{}: driver {}, TCP checksums: {}",
                config.interface,
                port.device().driver(),
                checksums(port.device().offloads())
            );
        }
        if let Oracle::Device { workers, required } = facts.oracle {
            facts.oracle = match spread(port, workers) {
                Ok(oracle) => oracle,
                Err(error) if required => return Err(error.into()),
                Err(error) => {
                    if port.worker() == 0 {
                        tracing::info!(
                            "{}: {error}: workers hand over what arrives at the wrong one",
                            config.interface
                        );
                    }
                    Oracle::Software { workers }
                }
            };
        }
    }
    Ok(())
}

fn checksums(by_device: Offloads) -> &'static str {
    match (by_device.tx_tcp, by_device.rx_tcp) {
        (true, true) => "computed and checked by the device",
        (true, false) => "computed by the device, checked by us",
        (false, true) => "computed by us, checked by the device",
        (false, false) => "computed and checked by us",
    }
}

/// Has the device send flows to all workers' queues and to no other, if it does not already.
fn spread_over(device: &Device, workers: u32) -> Result<(), DpdkError> {
    let table = device.indirection()?;
    let named = |worker: u32| table.iter().any(|queue| u32::from(*queue) == worker);
    let is_right = (0..workers).all(named) && table.iter().all(|queue| u32::from(*queue) < workers);
    if is_right {
        return Ok(());
    }
    let even = (0..workers as u16).cycle().take(table.len());
    device.set_indirection(&even.collect::<Vec<_>>())
}

/// How the device spreads flows over queues, as it says itself.
fn spread(port: &DpdkPort, workers: u32) -> Result<Oracle, DpdkError> {
    let device = port.device();
    if !device.rss_hashes_ports()? {
        return Err(DpdkError::RssAddressesOnly {
            device: device.name().to_owned(),
            driver: device.driver().to_owned(),
        });
    }
    let key = device.rss_key()?;
    let table = device.indirection()?;
    let indirection = table.into_iter().map(u32::from).collect::<Vec<_>>();
    if indirection.iter().any(|queue| *queue >= workers) {
        return Err(DpdkError::RssShape {
            device: device.name().to_owned(),
            what: format!("queues below {workers} in its table"),
            given: indirection.iter().copied().max().unwrap_or(0) as usize,
        });
    }
    Ok(Oracle::Toeplitz { key, indirection })
}

/// A loop under way.
struct Turning {
    worker: u32,
    poll_loop: PacketWorker<DpdkPort>,
    running: Running,
    /// Its work is done, and it serves the others: their frames arrive at its queue, and the first worker has the link layer. The last one ends
    /// the process.
    has_ended: bool,
    together: Arc<Together>,
}

impl QueueLoop for Turning {
    #[inline]
    fn turn(&mut self) -> ControlFlow<()> {
        match self.poll_loop.once(&mut self.running) {
            None => ControlFlow::Continue(()),
            Some(ended) => {
                if !std::mem::replace(&mut self.has_ended, true) {
                    self.end(ended);
                }
                PacketWorker::<DpdkPort>::stay(&mut self.running);
                ControlFlow::Continue(())
            }
        }
    }
}

impl Turning {
    #[cold]
    fn end(&self, ended: Ended) {
        let code = exit_code(ended, &format!("worker {}: ", self.worker));
        self.together.code.fetch_max(code, Ordering::AcqRel);
        if self.together.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            std::process::exit(self.together.code.load(Ordering::Acquire).into());
        }
    }
}
