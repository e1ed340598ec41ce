//! `tidegate run`: from a configuration to a running manager, and everything undone again at the end.

use crate::manager::{Ended, Manager, Parts};
use crate::netlink::events::Events;
use crate::netlink::mirror::Mirror;
use crate::netlink::query::Query;
use crate::plan::{self, Facts, Plan};
use crate::preflight;
use crate::reserved_ports::{self, PortSet, RESERVED_PORTS};
use crate::runtime_dir::{ProcessId, Record, RuntimeDir, network_namespace};
use crate::shared::Shared;
use crate::status::server::StatusServer;
use crate::steering::Steering;
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::path::Path;
use std::process::ExitCode;
use tidegate_channel::message::UserIds;
use tidegate_config::Config;

/// Runs an instance until it is told to end.
pub fn run(config: Config, root: &Path) -> anyhow::Result<ExitCode> {
    // Before anything else, so that no signal finds us half-way with the default action.
    let signals = block_signals()?;
    let ready = match prepare(&config, root) {
        Ok(ready) => ready,
        Err(faults) => {
            crate::faults::print(&faults);
            return Ok(ExitCode::FAILURE);
        }
    };
    for warning in config.warnings().iter().chain(&ready.plan.warnings) {
        tracing::warn!("{warning}");
    }
    preflight::raise_memory_lock();
    let Ready {
        plan,
        user,
        runtime,
    } = ready;
    let reservation = match Reservation::take(&config, &runtime) {
        Ok(reservation) => reservation,
        Err(error) => {
            runtime.remove();
            return Err(error);
        }
    };
    let outcome = manage(config, plan, user, &runtime, &reservation, signals);
    reservation.release();
    runtime.remove();
    let ended = outcome?;
    match ended {
        Ended::InOrder => {
            tracing::info!("ended in order");
            Ok(ExitCode::SUCCESS)
        }
        Ended::Failed(reason) => {
            tracing::error!("{reason}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is known once nothing is wrong.
struct Ready {
    plan: Plan,
    user: UserIds,
    runtime: RuntimeDir,
}

fn prepare(config: &Config, root: &Path) -> Result<Ready, Vec<String>> {
    let mut faults = preflight::privileges();
    let facts = Facts::gather(config);
    let plan = plan::make(config, &facts)
        .map_err(|wrong| faults.extend(wrong))
        .ok();
    faults.extend(preflight::addresses(config, &facts));
    let user = preflight::user(config)
        .map_err(|fault| faults.push(fault))
        .ok();
    let runtime = RuntimeDir::claim(root, &config.name)
        .map_err(|error| faults.push(error.to_string()))
        .ok();
    if let Some(runtime) = &runtime {
        faults.extend(leftovers(runtime, &config.name));
    }
    match (plan, user, runtime) {
        (Some(plan), Some(user), Some(runtime)) if faults.is_empty() => Ok(Ready {
            plan,
            user,
            runtime,
        }),
        (_, _, runtime) => {
            // A directory that holds a record of something to undo stays.
            if let Some(runtime) = runtime.filter(|runtime| runtime.record().is_none()) {
                runtime.remove();
            }
            Err(faults)
        }
    }
}

/// Workers of an earlier manager that was killed. They end by themselves; one that hangs does not.
fn leftovers(runtime: &RuntimeDir, name: &str) -> Option<String> {
    let record = runtime.record()?;
    let left: Vec<String> = living(&record)
        .map(|process| process.pid.to_string())
        .collect();
    (!left.is_empty()).then(|| {
        format!(
            "workers of an earlier instance named {name:?} are left (processes {}): `tidegate clean-up --name {name}` ends them",
            left.join(", ")
        )
    })
}

/// Workers of a record that still live.
pub fn living(record: &Record) -> impl Iterator<Item = &ProcessId> {
    record.workers.iter().filter(|process| process.lives())
}

fn block_signals() -> anyhow::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// Source ports that were taken from the kernel.
struct Reservation {
    added: PortSet,
}

impl Reservation {
    /// First undoes what an instance that was killed left, then records what is about to be done, then does it.
    fn take(config: &Config, runtime: &RuntimeDir) -> anyhow::Result<Self> {
        let file = Path::new(RESERVED_PORTS);
        undo(runtime)?;
        let ports = PortSet::range(config.worker.source_ports);
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {RESERVED_PORTS}"))?;
        let added = ports.without(&PortSet::parse(&text));
        runtime.recorder().write(&Record {
            reserved_ports: added.to_string(),
            workers: Vec::new(),
            network_namespace: network_namespace(),
        })?;
        reserved_ports::reserve(file, config.worker.source_ports)
            .with_context(|| format!("cannot reserve source ports in {RESERVED_PORTS}"))?;
        Ok(Self { added })
    }

    fn release(&self) {
        if let Err(error) = reserved_ports::release(Path::new(RESERVED_PORTS), &self.added) {
            tracing::warn!(
                "cannot give the source ports {} back: {RESERVED_PORTS}: {error}",
                self.added
            );
        }
    }
}

/// Undoes what the record of an instance that was killed says.
pub fn undo(runtime: &RuntimeDir) -> anyhow::Result<()> {
    if let Some(record) = runtime.record() {
        let (theirs, ours) = (record.network_namespace, network_namespace());
        if theirs != 0 && theirs != ours {
            // Each namespace has reserved ports of its own: these here are not the ones that were changed.
            tracing::warn!(
                "a killed instance reserved ports {} in network namespace {theirs}, this is {ours}: if that one still exists, \
                 take them out of {RESERVED_PORTS} there",
                record.reserved_ports
            );
            return Ok(());
        }
        let added = PortSet::parse(&record.reserved_ports);
        reserved_ports::release(Path::new(RESERVED_PORTS), &added).with_context(|| {
            format!("cannot undo what a killed instance did to {RESERVED_PORTS}")
        })?;
        tracing::info!(
            "undone what a killed instance left: reserved ports {}",
            record.reserved_ports
        );
    }
    Ok(())
}

fn manage(
    config: Config,
    plan: Plan,
    user: UserIds,
    runtime: &RuntimeDir,
    reservation: &Reservation,
    signals: SignalFd,
) -> anyhow::Result<Ended> {
    let workers = plan.cores.len() as u32;
    let steering = Steering::attach(&config, &plan.ports, workers)?;
    let servers = config
        .servers()
        .filter_map(|(_, server)| server.address.ip())
        .collect();
    let ports: Vec<u32> = plan.ports.iter().map(|port| port.nic.ifindex).collect();
    let mirror = Mirror::new(servers, &ports, config.worker.source_address);
    let status = StatusServer::listen(&runtime.status_socket())
        .with_context(|| format!("cannot listen at {}", runtime.status_socket().display()))?;
    // Subscribed before the first look, so that no change falls between the two.
    let events = Events::open().context("cannot subscribe to routes and neighbours")?;
    let query = Query::open().context("cannot ask the kernel for routes and neighbours")?;
    let record = Record {
        reserved_ports: reservation.added.to_string(),
        workers: Vec::new(),
        network_namespace: network_namespace(),
    };
    let attached = steering.modes();
    tracing::info!("{}: {workers} workers", config.name);
    let shared = Shared::new(config, plan, user, attached)?;
    let recorder = runtime.recorder();
    let mut manager = Manager::new(Parts {
        shared,
        steering,
        mirror,
        query,
        events,
        status,
        signals,
        recorder,
        record,
    });
    manager.run()
}
