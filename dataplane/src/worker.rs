//! The life of a worker, step by step.

use crate::affinity::{AffinityError, pin};
use crate::assembly::{Surroundings, assemble};
use crate::clock::Clock;
use crate::control::{self, Commands, SetLogFilter};
use crate::hand_over::{HandOverReceivers, HandOverSenders};
use crate::limits::PORTS_MAX;
use crate::opening::{self, OpeningError};
use crate::poll_loop::Ended;
use crate::privileges::{PrivilegeError, drop_privileges};
use crate::sockets::ListenError;
use std::os::fd::AsFd;
use std::process::ExitCode;
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::message::{
    Envelope, FromWorker, ObtainedMode, StartDescriptors, ToWorker, WorkerStart,
};
use tidegate_channel::paths::PathReader;
use tidegate_channel::payload::{self, PayloadError};
use tidegate_channel::shm::ShmError;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsWriter};
use tidegate_port::doorbell::Doorbell;
use tidegate_port::frame_ring::RingError;
use tidegate_port::handover::{Receiver, Sender};
use tidegate_port::{Port, PortMode};

/// Exit code of a worker that could not start.
const EXIT_FAILED: u8 = 1;
/// Exit code of a worker whose manager is gone.
const EXIT_ORPHANED: u8 = 3;

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum WorkerError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error(transparent)]
    Memory(#[from] ShmError),
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error(transparent)]
    Opening(#[from] OpeningError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("hand-over ring: {0}")]
    HandOver(#[from] RingError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error(
        "the manager sent {0} where it was not expected: manager and worker are of different builds"
    )]
    Unexpected(&'static str),
}

impl WorkerError {
    /// Whether the same would happen again: then the manager need not hurry to try.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Opening(error) => error.is_permanent(),
            Self::Listen(error) => error.is_permanent(),
            Self::Affinity(_) | Self::Privileges(_) | Self::Payload(_) | Self::Unexpected(_) => {
                true
            }
            Self::Control(_) | Self::Memory(_) | Self::HandOver(_) | Self::System(_) => false,
        }
    }
}

/// Runs a worker whose control socket is its standard input, until the manager or a drain ends it.
pub fn run(set_log_filter: SetLogFilter) -> ExitCode {
    let socket = match standard_input() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    match live(&socket, set_log_filter) {
        Ok(Ended::Drained) => {
            tracing::info!("drained");
            ExitCode::SUCCESS
        }
        Ok(Ended::DeadlinePassed { owed }) => {
            tracing::warn!("the drain's deadline passed with {owed} replies owed");
            ExitCode::SUCCESS
        }
        Ok(Ended::Stopped) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(Ended::ManagerGone) => {
            tracing::error!("the manager is gone and its steering program with it; exiting");
            ExitCode::from(EXIT_ORPHANED)
        }
        Err(error) => {
            tracing::error!("{error}");
            let failed = FromWorker::Failed {
                reason: error.to_string(),
                permanent: error.is_permanent(),
            };
            // If this fails too, the exit code and the log above have to tell.
            let _unsent = socket.send(&failed, &[]);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn standard_input() -> Result<ControlSocket, WorkerError> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(ControlSocket::from_descriptor(socket)?)
}

fn live(socket: &ControlSocket, set_log_filter: SetLogFilter) -> Result<Ended, WorkerError> {
    let (start, descriptors) = receive_start(socket)?;
    pin(start.core)?;
    let ports = opening::open_ports(&start)?;
    let modes = ports
        .iter()
        .map(|port| obtained(port.info().mode))
        .collect();
    let sockets: Vec<_> = ports.iter().map(AsFd::as_fd).collect();
    socket.send(&FromWorker::Sockets { modes }, &sockets)?;
    drop(sockets);
    expect(socket, &ToWorker::Inserted, "another message than Inserted")?;
    let dropped = drop_privileges(&start.user)?;
    tracing::info!(
        "worker {} on core {}: {} ports, {dropped}",
        start.worker,
        start.core,
        ports.len()
    );
    let bell = own_bell(&start, &descriptors)?;
    let (sender, commands) = control::commands(bell.try_clone()?);
    let clock = Clock::start();
    let surroundings = surroundings(&start, descriptors, commands, bell)?;
    let mut poll_loop = assemble(&start, ports, surroundings, clock)?;
    control::spawn(socket.try_clone()?, sender, set_log_filter)?;
    socket.send(&FromWorker::Ready, &[])?;
    Ok(poll_loop.run(clock))
}

fn receive_start(socket: &ControlSocket) -> Result<(WorkerStart, StartDescriptors), WorkerError> {
    let (envelope, descriptors) = socket.receive::<Envelope<ToWorker>>()?;
    if envelope.message != ToWorker::Start {
        return Err(WorkerError::Unexpected("another message than Start"));
    }
    let descriptors = StartDescriptors::from_list(descriptors)
        .ok_or(WorkerError::Unexpected("a wrong number of descriptors"))?;
    let start: WorkerStart = payload::read(descriptors.payload.try_clone()?)?;
    let workers = descriptors.bells.len();
    if start.workers as usize != workers || start.worker as usize >= workers {
        return Err(WorkerError::Unexpected("a wrong number of workers"));
    }
    if start.ports.is_empty()
        || start.ports.len() > PORTS_MAX
        || start.ports.len() != start.config.ports.len()
    {
        return Err(WorkerError::Unexpected("a wrong number of ports"));
    }
    acknowledge(socket, envelope.generation)?;
    Ok((start, descriptors))
}

fn expect(
    socket: &ControlSocket,
    message: &ToWorker,
    otherwise: &'static str,
) -> Result<(), WorkerError> {
    let (envelope, _) = socket.receive::<Envelope<ToWorker>>()?;
    if envelope.message != *message {
        return Err(WorkerError::Unexpected(otherwise));
    }
    acknowledge(socket, envelope.generation)
}

fn acknowledge(socket: &ControlSocket, generation: u64) -> Result<(), WorkerError> {
    Ok(socket.send(&FromWorker::Acknowledged { generation }, &[])?)
}

fn obtained(mode: PortMode) -> ObtainedMode {
    match mode {
        PortMode::ZeroCopy => ObtainedMode::ZeroCopy,
        PortMode::Copy => ObtainedMode::Copy,
        PortMode::Generic => ObtainedMode::Generic,
        PortMode::Wire => ObtainedMode::Wire,
    }
}

fn own_bell(start: &WorkerStart, descriptors: &StartDescriptors) -> Result<Doorbell, WorkerError> {
    let bell = descriptors
        .bells
        .get(start.worker as usize)
        .ok_or(WorkerError::Unexpected("no bell for this worker"))?;
    Ok(Doorbell::from_fd(bell.try_clone()?))
}

fn surroundings(
    start: &WorkerStart,
    descriptors: StartDescriptors,
    commands: Commands,
    bell: Doorbell,
) -> Result<Surroundings, WorkerError> {
    let config = &start.config;
    let layout = StatisticsLayout {
        queues: config.ports.len(),
        pools: config.pools.len(),
        servers: config.servers().count(),
    };
    let statistics = StatisticsWriter::map(&descriptors.statistics, layout)?;
    let paths = PathReader::map(&descriptors.paths, layout.servers, layout.queues)?;
    let (senders, receivers) = open_hand_over(start.worker as usize, descriptors)?;
    Ok(Surroundings {
        statistics,
        layout,
        paths,
        senders,
        receivers,
        commands,
        bell,
    })
}

fn open_hand_over(
    own: usize,
    descriptors: StartDescriptors,
) -> Result<(HandOverSenders, HandOverReceivers), WorkerError> {
    let mut rings = descriptors.hand_over_to.into_iter();
    let mut senders = Vec::with_capacity(descriptors.bells.len());
    for (worker, bell) in descriptors.bells.into_iter().enumerate() {
        let ring = if worker == own { None } else { rings.next() };
        let bell = Doorbell::from_fd(bell);
        senders.push(
            ring.map(|ring| Sender::open(ring.as_fd(), Some(bell)))
                .transpose()?,
        );
    }
    let receivers: Result<Vec<_>, _> = descriptors
        .hand_over_from
        .iter()
        .map(|ring| Receiver::open(ring.as_fd()))
        .collect();
    Ok((
        HandOverSenders::new(senders),
        HandOverReceivers::new(receivers?),
    ))
}
