//! The life of a worker, step by step.

use crate::affinity::{AffinityError, pin};
use crate::assembly::{Surroundings, assemble};
use crate::clock::Clock;
use crate::control::{self, CommandSender, Commands, ControlThread, SetLogFilter};
use crate::dpdk;
use crate::events;
use crate::hand_over::{HandOverReceivers, HandOverSenders};
use crate::layers::Application;
use crate::limits::PORTS_MAX;
use crate::network::Network;
use crate::opening::{self, OpeningError};
use crate::poll_loop::{Ended, PollLoop};
use crate::prepared::Preparer;
use crate::privileges::{PrivilegeError, drop_privileges};
use crate::reports::Reports;
use crate::seccomp::{SeccompError, calls, confine};
use crate::sockets::ListenError;
use crate::sockets::assembly::{self as sockets, SocketSurroundings};
use crate::vault::Vault;
use nix::sys::prctl;
use nix::unistd::geteuid;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::flows::FlowsWriter;
use tidegate_channel::message::{
    Envelope, FromWorker, NetworkDescriptors, ObtainedMode, PacketDescriptors, StartDescriptors,
    ToWorker, WorkerStart,
};
use tidegate_channel::meters::Meters;
use tidegate_channel::paths::PathReader;
use tidegate_channel::payload::{self, PayloadError};
use tidegate_channel::shm::ShmError;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsWriter};
use tidegate_port::doorbell::Doorbell;
use tidegate_port::frame_ring::RingError;
use tidegate_port::handover::{Receiver, Sender};
use tidegate_port::{Port, PortMode};
use tidegate_proxy::{ChangeError, Proxy};

/// Exit code of a worker that could not start.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code of a worker whose manager is gone and that was not to outlive it.
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
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    Opening(#[from] OpeningError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[cfg(feature = "dpdk")]
    #[error(transparent)]
    Dpdk(#[from] tidegate_port::dpdk::DpdkError),
    #[cfg(not(feature = "dpdk"))]
    #[error(
        "this program was built without DPDK: build it with --features dpdk (docs/dpdk.md), or use another driver"
    )]
    NoDpdk,
    #[cfg(feature = "dpdk")]
    #[error("{0}")]
    Together(String),
    #[cfg(feature = "dpdk")]
    #[error("{interface}: mtu_bytes = {wanted} is more than the device's MTU of {most}")]
    Mtu {
        interface: String,
        wanted: u32,
        most: u32,
    },
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
            Self::Affinity(_)
            | Self::Privileges(_)
            | Self::Seccomp(_)
            | Self::Payload(_)
            | Self::Change(_)
            | Self::Unexpected(_) => true,
            #[cfg(not(feature = "dpdk"))]
            Self::NoDpdk => true,
            #[cfg(feature = "dpdk")]
            Self::Dpdk(error) => error.is_permanent(),
            #[cfg(feature = "dpdk")]
            Self::Mtu { .. } => true,
            #[cfg(feature = "dpdk")]
            Self::Together(_) => false,
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
        Ok(ended) => ExitCode::from(exit_code(ended, "")),
        Err(error) => {
            failed(&socket, &error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Says how a loop ended, of which `who` tells; what a process that ended so exits with.
pub(crate) fn exit_code(ended: Ended, who: &str) -> u8 {
    match ended {
        Ended::Drained => tracing::info!("{who}drained"),
        Ended::DeadlinePassed { owed } => {
            tracing::warn!("{who}the drain's deadline passed with {owed} replies owed");
        }
        Ended::Stopped => tracing::info!("{who}stopped"),
        Ended::ManagerGone => {
            tracing::error!("{who}exiting without a manager");
            return EXIT_ORPHANED;
        }
    }
    0
}

/// Tells the manager why a worker cannot go on; it tells the log. Without a manager that hears it the worker does.
pub(crate) fn failed(socket: &ControlSocket, error: &WorkerError) {
    let failed = FromWorker::Failed {
        reason: error.to_string(),
        permanent: error.is_permanent(),
    };
    if socket.send(&failed, &[]).is_err() {
        tracing::error!("{error}");
    }
}

fn standard_input() -> Result<ControlSocket, WorkerError> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(ControlSocket::from_descriptor(socket)?)
}

fn live(socket: &ControlSocket, set_log_filter: SetLogFilter) -> Result<Ended, WorkerError> {
    let Begun {
        worker,
        network,
        fellows,
    } = Starting::receive(socket, set_log_filter)?;
    match network {
        NetworkDescriptors::Packets(packets) if worker.start.config.is_on_dpdk() => {
            dpdk::live(worker, packets, fellows)
        }
        network => {
            call_ourselves(&format!("tidegate-w{}", worker.start.worker));
            if let Some(core) = worker.start.core {
                pin(core)?;
            }
            match network {
                NetworkDescriptors::Packets(packets) => worker.on_packets(packets),
                NetworkDescriptors::Sockets(listeners) => worker.on_sockets(listeners),
            }
        }
    }
}

/// The name in `ps` and `top`; without it the kernel shows that of the link we were started by.
pub(crate) fn call_ourselves(name: &str) {
    if let Ok(name) = CString::new(name) {
        // A worker without a name works as well.
        let _named = prctl::set_name(&name);
    }
}

/// A worker that knows what to do and has not begun.
pub(crate) struct Starting {
    pub(crate) start: WorkerStart,
    pub(crate) socket: ControlSocket,
    statistics: OwnedFd,
    bell: Doorbell,
    set_log_filter: SetLogFilter,
    vault: Vault,
    reports: Reports,
}

/// What the first messages bring.
pub(crate) struct Begun {
    pub(crate) worker: Starting,
    pub(crate) network: NetworkDescriptors,
    /// Control sockets of the other workers of this process.
    pub(crate) fellows: Vec<OwnedFd>,
}

impl Starting {
    /// Waits for the start of the worker at this end of `socket`.
    pub(crate) fn receive(
        socket: &ControlSocket,
        set_log_filter: SetLogFilter,
    ) -> Result<Begun, WorkerError> {
        let (start, descriptors, vault, fellows) = receive_start(socket)?;
        let worker = Self {
            statistics: descriptors.statistics,
            bell: Doorbell::from_fd(descriptors.bell),
            start,
            socket: socket.try_clone()?,
            set_log_filter,
            vault,
            reports: Reports::to(socket)?,
        };
        Ok(Begun {
            worker,
            network: descriptors.network,
            fellows,
        })
    }

    /// What changes the log, for another worker of this process.
    #[cfg(feature = "dpdk")]
    pub(crate) fn set_log_filter(&self) -> SetLogFilter {
        self.set_log_filter.clone()
    }

    fn on_packets(mut self, packets: PacketDescriptors) -> Result<Ended, WorkerError> {
        let ports = opening::open_ports(&self.start)?;
        let modes = ports.iter().map(|port| obtained(port.info().mode));
        let sockets: Vec<_> = ports.iter().map(AsFd::as_fd).collect();
        self.show(modes.collect(), &sockets)?;
        drop(sockets);
        self.drop_privileges(&format!("{} ports", ports.len()))?;
        let clock = Clock::start();
        let (sender, surroundings) = self.surroundings(packets)?;
        let now_us = clock.now_ns() / 1_000;
        let poll_loop = assemble(&self.start, ports, surroundings, now_us)?;
        self.turn(calls::Network::Packets, poll_loop, sender, clock)
    }

    /// Shows the manager what is open, and waits until it has done what it does with it.
    pub(crate) fn show(
        &mut self,
        modes: Vec<ObtainedMode>,
        sockets: &[BorrowedFd<'_>],
    ) -> Result<(), WorkerError> {
        self.vault.set_modes(modes.clone());
        self.socket.send(&FromWorker::Sockets { modes }, sockets)?;
        expect(
            &self.socket,
            &ToWorker::Inserted,
            "another message than Inserted",
        )
    }

    /// Listening sockets of its own are opened before privileges are dropped: ports below 1024 need one.
    fn on_sockets(self, shared: Vec<OwnedFd>) -> Result<Ended, WorkerError> {
        let shared = self.start.shared_listeners.iter().copied().zip(shared);
        let listeners = sockets::listeners(&self.start.config, shared.collect())?;
        self.drop_privileges(&format!("{} listening sockets", listeners.len()))?;
        // The kernel would otherwise add up to 50 µs to each wait for company.
        let _coarser = prctl::set_timerslack(1);
        let (sender, commands) = control::commands(self.bell.try_clone()?);
        let clock = Clock::start();
        let layout = self.layout();
        let surroundings = SocketSurroundings {
            statistics: StatisticsWriter::map(&self.statistics, layout)?,
            meters: Meters::map(&self.statistics, layout)?,
            layout,
            commands,
            reports: self.reports.clone(),
            bell: self.bell.try_clone()?,
        };
        let start = &self.start;
        let servers = sockets::servers(&start.config);
        let poll_loop = sockets::assemble(
            &start.config,
            listeners,
            servers,
            start.seed,
            surroundings,
            clock,
        )?;
        self.turn(calls::Network::Sockets, poll_loop, sender, clock)
    }

    pub(crate) fn drop_privileges(&self, network: &str) -> Result<(), WorkerError> {
        let start = &self.start;
        let dropped = drop_privileges(start.user.as_ref())?;
        let place = match start.core {
            Some(core) => format!("on core {core}"),
            None => "not pinned".to_owned(),
        };
        tracing::info!("worker {} {place}: {network}, {dropped}", start.worker);
        Ok(())
    }

    /// Says that it is ready, then serves.
    fn turn<N: Network>(
        self,
        network: calls::Network,
        mut poll_loop: PollLoop<N, Proxy>,
        commands: CommandSender,
        clock: Clock,
    ) -> Result<Ended, WorkerError>
    where
        Proxy: Application<N::Streams>,
    {
        let seccomp = self.start.config.worker.seccomp;
        let socket = self.listen(commands)?;
        // Behind everything that only a start needs.
        confine(network, seccomp)?;
        socket.send(&FromWorker::Ready, &[])?;
        Ok(poll_loop.run(clock))
    }

    /// Begins to take messages, on a thread of its own. Returns the socket that they come by.
    pub(crate) fn listen(self, commands: CommandSender) -> Result<ControlSocket, WorkerError> {
        let thread = ControlThread {
            commands,
            set_log_filter: self.set_log_filter,
            vault: self.vault,
            preparer: Preparer::new(&self.start),
            reports: self.reports,
        };
        control::spawn(self.socket.try_clone()?, thread)?;
        Ok(self.socket)
    }

    /// What connects its loop to the manager and to other workers, and the way for commands.
    pub(crate) fn surroundings(
        &self,
        packets: PacketDescriptors,
    ) -> Result<(CommandSender, Surroundings), WorkerError> {
        let (sender, commands) = control::commands(self.bell.try_clone()?);
        Ok((sender, self.packet_surroundings(packets, commands)?))
    }

    fn packet_surroundings(
        &self,
        packets: PacketDescriptors,
        commands: Commands,
    ) -> Result<Surroundings, WorkerError> {
        let layout = self.layout();
        let paths = PathReader::map(&packets.paths, layout.servers, layout.queues)?;
        let (mut senders, receivers) = open_hand_over(self.start.worker as usize, packets)?;
        if self.start.config.is_on_dpdk() {
            senders = senders.with_others(self.start.worker == 0);
        }
        Ok(Surroundings {
            statistics: StatisticsWriter::map(&self.statistics, layout)?,
            meters: Meters::map(&self.statistics, layout)?,
            flows: FlowsWriter::map(&self.statistics, layout)?,
            layout,
            paths,
            senders,
            receivers,
            commands,
            events: events::spawn(&self.start.config, self.reports.clone())?,
            bell: self.bell.try_clone()?,
        })
    }

    fn layout(&self) -> StatisticsLayout {
        StatisticsLayout::of(&self.start.config, self.start.ports.len())
    }
}

fn receive_start(
    socket: &ControlSocket,
) -> Result<(WorkerStart, StartDescriptors, Vault, Vec<OwnedFd>), WorkerError> {
    let (mut envelope, mut descriptors) = socket.receive::<Envelope<ToWorker>>()?;
    let mut fellows = Vec::new();
    if envelope.message == ToWorker::Fellows {
        acknowledge(socket, envelope.generation)?;
        fellows = descriptors;
        (envelope, descriptors) = socket.receive::<Envelope<ToWorker>>()?;
    }
    if envelope.message != ToWorker::Start {
        return Err(WorkerError::Unexpected("another message than Start"));
    }
    let payload = descriptors
        .first()
        .ok_or(WorkerError::Unexpected("no descriptors"))?;
    let start: WorkerStart = payload::read(payload.try_clone()?)?;
    if start.worker >= start.workers {
        return Err(WorkerError::Unexpected("a wrong number of workers"));
    }
    let over_sockets = start.config.kernel_port().is_some();
    let ports = if over_sockets {
        0
    } else {
        start.config.ports.len()
    };
    if start.ports.len() != ports
        || start.ports.len() > PORTS_MAX
        || (start.ports.is_empty() && !over_sockets)
    {
        return Err(WorkerError::Unexpected("a wrong number of ports"));
    }
    // Before privileges are given up: who we are now, the manager is.
    let vault = Vault::new(duplicates(&descriptors)?, geteuid().as_raw());
    let descriptors = StartDescriptors::from_list(descriptors, &start)
        .ok_or(WorkerError::Unexpected("a wrong number of descriptors"))?;
    acknowledge(socket, envelope.generation)?;
    Ok((start, descriptors, vault, fellows))
}

fn duplicates(descriptors: &[OwnedFd]) -> std::io::Result<Vec<OwnedFd>> {
    descriptors.iter().map(OwnedFd::try_clone).collect()
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

pub(crate) fn obtained(mode: PortMode) -> ObtainedMode {
    match mode {
        PortMode::ZeroCopy => ObtainedMode::ZeroCopy,
        PortMode::Copy => ObtainedMode::Copy,
        PortMode::Generic => ObtainedMode::Generic,
        PortMode::Wire => ObtainedMode::Wire,
        PortMode::Dpdk => ObtainedMode::Dpdk,
    }
}

/// Rings to and from every other worker; none in this worker's own place.
fn open_hand_over(
    own: usize,
    packets: PacketDescriptors,
) -> Result<(HandOverSenders, HandOverReceivers), WorkerError> {
    let others = packets.hand_over_to.iter().zip(packets.bells);
    let mut senders = Vec::with_capacity(packets.hand_over_to.len() + 1);
    for (ring, bell) in others {
        senders.push(Some(Sender::open(
            ring.as_fd(),
            Some(Doorbell::from_fd(bell)),
        )?));
    }
    senders.insert(own.min(senders.len()), None);
    let receivers: Result<Vec<_>, _> = packets
        .hand_over_from
        .iter()
        .map(|ring| Receiver::open(ring.as_fd()))
        .collect();
    Ok((
        HandOverSenders::new(senders),
        HandOverReceivers::new(receivers?),
    ))
}
