//! `tidegate run`: from a configuration to a running manager, and everything undone again at the end.

use crate::control::server::ControlServer;
use crate::manager::{Ended, Manager, Parts};
use crate::packets::Packets;
use crate::plan::{self, Facts, Plan};
use crate::preflight;
use crate::reserved_ports::{self, PortSet, RESERVED_PORTS};
use crate::runtime_dir::{ProcessId, Record, RuntimeDir, network_namespace};
use crate::shared::{Network, Shared};
use crate::sockets::limits::raise_open_files;
use crate::sockets::listeners::{self, SharedListeners};
use crate::sockets::preflight::Taken;
use crate::sockets::unix::remove_stale;
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tidegate_channel::message::UserIds;
use tidegate_config::Config;

/// Runs an instance until it is told to end.
pub fn run(config: Config, root: &Path) -> anyhow::Result<ExitCode> {
    run_and_say(config, root, "")
}

/// The same; prints `greeting` once nothing is wrong.
pub fn run_and_say(config: Config, root: &Path, greeting: &str) -> anyhow::Result<ExitCode> {
    // Before anything else, so that no signal finds us half-way with the default action.
    let signals = block_signals()?;
    let ready = match prepare(&config, root) {
        Ok(ready) => ready,
        Err(faults) => {
            crate::faults::print(&faults);
            return Ok(ExitCode::FAILURE);
        }
    };
    let of_machine = preflight::warnings(&config);
    let warnings = config.warnings().into_iter().chain(of_machine);
    for warning in warnings.chain(ready.plan.warnings.iter().cloned()) {
        tracing::warn!("{warning}");
    }
    // A reader that went away is no error of ours.
    let _closed = std::io::stdout().write_all(greeting.as_bytes());
    let runtime = ready.runtime;
    let start = Start {
        config,
        plan: ready.plan,
        user: ready.user,
        signals,
        runtime: &runtime,
    };
    let outcome = if start.config.kernel_port().is_some() {
        start.over_sockets()
    } else {
        start.over_packets()
    };
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
    user: Option<UserIds>,
    runtime: RuntimeDir,
}

fn prepare(config: &Config, root: &Path) -> Result<Ready, Vec<String>> {
    let mut faults = preflight::privileges(config);
    let facts = Facts::gather(config);
    let plan = plan::make(config, &facts)
        .map_err(|wrong| faults.extend(wrong))
        .ok();
    faults.extend(preflight::addresses(config, &facts, Taken::IsAFault));
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
            if let Some(runtime) = runtime {
                runtime.remove_unless_recorded();
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
            network_namespace: network_namespace(),
            ..Record::default()
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
    let Some(record) = runtime.record() else {
        return Ok(());
    };
    record.sockets.iter().for_each(|path| remove_stale(path));
    if record.reserved_ports.is_empty() {
        return Ok(());
    }
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
    reserved_ports::release(Path::new(RESERVED_PORTS), &added)
        .with_context(|| format!("cannot undo what a killed instance did to {RESERVED_PORTS}"))?;
    tracing::info!(
        "undone what a killed instance left: reserved ports {}",
        record.reserved_ports
    );
    Ok(())
}

/// An instance about to begin.
struct Start<'a> {
    config: Config,
    plan: Plan,
    user: Option<UserIds>,
    signals: SignalFd,
    runtime: &'a RuntimeDir,
}

impl Start<'_> {
    fn over_packets(self) -> anyhow::Result<Ended> {
        preflight::raise_memory_lock();
        let reservation = Reservation::take(&self.config, self.runtime)?;
        let record = Record {
            reserved_ports: reservation.added.to_string(),
            network_namespace: network_namespace(),
            ..Record::default()
        };
        let packets = Packets::begin(&self.config, &self.plan);
        let outcome =
            packets.and_then(|packets| self.manage(Network::Packets(Box::new(packets)), record));
        reservation.release();
        outcome
    }

    fn over_sockets(self) -> anyhow::Result<Ended> {
        raise_open_files();
        undo(self.runtime)?;
        let record = Record {
            sockets: listeners::paths(&self.config),
            ..Record::default()
        };
        self.runtime.recorder().write(&record)?;
        let shared = SharedListeners::open(&self.config)?;
        self.manage(Network::Sockets(shared), record)
    }

    fn manage(self, network: Network, record: Record) -> anyhow::Result<Ended> {
        let path = self.runtime.control_socket();
        let control = ControlServer::listen(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        let (name, workers) = (&self.config.name, self.plan.cores.len());
        tracing::info!("{name}: {workers} workers");
        let shared = Shared::new(self.config, self.plan, self.user, network)?;
        let mut manager = Manager::new(Parts {
            shared,
            control,
            signals: self.signals,
            recorder: self.runtime.recorder(),
            record,
        });
        manager.run()
    }
}
