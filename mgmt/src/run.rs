//! `tidegate run`: from a configuration to a running manager, and everything undone again at the end.

use crate::adoption::{Found, see_off};
use crate::control::client;
use crate::control::server::ControlServer;
use crate::http::{Http, Opened};
use crate::log::SetFilter;
use crate::manager::{Ended, Manager, Parts};
use crate::packets::Packets;
use crate::plan::{Facts, Plan};
use crate::preflight;
use crate::reload::Source;
use crate::remains::{directory, programs};
use crate::reserved_ports::{self, PortSet, RESERVED_PORTS};
use crate::runtime_dir::{Record, RuntimeDir, network_namespace};
use crate::shared::{Network, Shared};
use crate::signals;
use crate::sockets::limits::raise_open_files;
use crate::sockets::listeners::{self, SharedListeners};
use crate::sockets::preflight::Taken;
use crate::sockets::unix::remove_stale;
use crate::stats::listener::StatsListener;
use anyhow::Context;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_channel::message::UserIds;
use tidegate_config::{Config, Table};
use tidegate_port::doorbell::Doorbell;

/// What the manager hears of: who wants it to end or to reload, and workers that end.
const SIGNALS: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGCHLD,
];

/// Runs an instance until it is told to end.
pub fn run(
    config: Config,
    source: Source,
    root: &Path,
    set_log_filter: SetFilter,
) -> anyhow::Result<ExitCode> {
    run_and_say(config, Some(source), root, set_log_filter, "")
}

/// The same; prints `greeting` once nothing is wrong.
pub fn run_and_say(
    config: Config,
    source: Option<Source>,
    root: &Path,
    set_log_filter: SetFilter,
    greeting: &str,
) -> anyhow::Result<ExitCode> {
    // It may be replaced while we run.
    let program = std::env::current_exe().context("the path of this program")?;
    // Before anything else, so that no signal finds us half-way with the default action.
    let signals = signals::block(&SIGNALS)?;
    let ready = match prepare(config, source.as_ref(), root, &signals) {
        Ok(Some(ready)) => ready,
        Ok(None) => {
            tracing::info!("ended before anything began");
            return Ok(ExitCode::SUCCESS);
        }
        Err(faults) => {
            crate::faults::print(&faults);
            return Ok(ExitCode::FAILURE);
        }
    };
    let config = ready.config;
    let of_machine = preflight::warnings(&config);
    let warnings = config.warnings().into_iter().chain(of_machine);
    for warning in warnings.chain(ready.plan.warnings.iter().cloned()) {
        tracing::warn!("{warning}");
    }
    client::print(greeting);
    let runtime = ready.runtime;
    let start = Start {
        source,
        config,
        plan: ready.plan,
        user: ready.user,
        http: ready.http,
        told: ready.told,
        signals,
        runtime: &runtime,
        found: ready.found,
        before: ready.before,
        set_log_filter,
        program,
    };
    let outcome = if start.config.kernel_port().is_some() {
        start.over_sockets()
    } else {
        start.over_packets()
    };
    let ended = match outcome {
        Ok(ended) => ended,
        Err(error) => {
            runtime.remove_unless_workers_live();
            return Err(error);
        }
    };
    runtime.remove();
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
    /// That of the file, or that of the workers that are adopted.
    config: Config,
    plan: Plan,
    user: Option<UserIds>,
    runtime: RuntimeDir,
    /// Workers of an earlier manager.
    found: Found,
    /// What that manager wrote down.
    before: Record,
    /// Where the status page is to be served.
    http: Option<Opened>,
    /// The statistics port.
    told: Option<StatsListener>,
}

/// Looks at everything before anything is changed. `None`: a signal came meanwhile.
fn prepare(
    config: Config,
    source: Option<&Source>,
    root: &Path,
    signals: &SignalFd,
) -> Result<Option<Ready>, Vec<String>> {
    let mut faults = preflight::privileges(&config);
    let runtime = RuntimeDir::claim(root, &config.name)
        .map_err(|error| faults.push(error.to_string()))
        .ok();
    let before = runtime.as_ref().and_then(RuntimeDir::record);
    let before = before.unwrap_or_default();
    let mut found = match &runtime {
        Some(runtime) => look_for_workers(runtime, &before, &mut faults),
        None => Found::default(),
    };
    let (config, plan) = found.plan(config, &before, source);
    let plan = plan.map_err(|wrong| faults.extend(wrong)).ok();
    let place = config.place(Table::Root, "http_listen");
    let http = config.http.as_ref();
    let http = http.map(|http| Opened::open(http, &place)).transpose();
    let http = http.map_err(|wrong| faults.extend(wrong)).ok().flatten();
    let told = config.stats_listen.map(StatsListener::open).transpose();
    let place = config.place(Table::Root, "stats_listen");
    let told = told.map_err(|fault| faults.push(format!("{place}{fault}")));
    let told = told.ok().flatten();
    let facts = Facts::gather(&config);
    let taken = if found.is_empty() {
        Taken::IsAFault
    } else {
        Taken::IsOurs
    };
    match preflight::memory(&config) {
        // Who serves has its buffers.
        Some(fault) if !found.is_empty() => tracing::warn!("{fault}"),
        fault => faults.extend(fault),
    }
    crate::faults::add(&mut faults, preflight::devices(&config, taken));
    faults.extend(programs::faults(&config, root, taken));
    let of_addresses = preflight::addresses(&config, &facts, taken);
    if found.outdated {
        // They serve it all the same, and the file may be the remedy: its reload looks at its own.
        for fault in of_addresses {
            tracing::warn!("{fault}");
        }
    } else {
        faults.extend(of_addresses);
    }
    let user = preflight::user(&config)
        .map_err(|fault| faults.push(fault))
        .ok();
    match (plan, user, runtime) {
        (Some(plan), Some(user), Some(runtime)) if faults.is_empty() => {
            found.give_up_unless(plan.cores.len());
            if found.heritage.is_none() && !found.leaving.is_empty() {
                let leaving = std::mem::take(&mut found.leaving);
                if !see_off(leaving, config.worker.drain_timeout_ms, signals) {
                    return Ok(None);
                }
                // What they listened on is free, unless somebody else does too.
                faults.extend(preflight::addresses(&config, &facts, Taken::IsAFault));
                if !faults.is_empty() {
                    return Err(faults);
                }
            }
            Ok(Some(Ready {
                config,
                plan,
                user,
                runtime,
                found,
                before,
                http,
                told,
            }))
        }
        (_, _, runtime) => {
            if let Some(runtime) = runtime {
                runtime.remove_unless_recorded();
            }
            Err(faults)
        }
    }
}

/// Workers of an earlier manager of the same name, which was killed.
fn look_for_workers(runtime: &RuntimeDir, before: &Record, faults: &mut Vec<String>) -> Found {
    let (theirs, ours) = (before.network_namespace, network_namespace());
    if theirs != 0 && theirs != ours && before.living().next().is_some() {
        faults.push(format!(
            "workers of an earlier instance of this name serve in network namespace {theirs}, this is {ours}: start it there, or end \
             them with `tidegate clean-up`"
        ));
        return Found::default();
    }
    Found::look(before, &runtime.recorder())
}

/// Source ports that were taken from the kernel.
struct Reservation {
    added: PortSet,
}

impl Reservation {
    /// Goes on with what an earlier manager of the same workers reserved.
    fn adopt(before: &Record) -> Self {
        Self {
            added: PortSet::parse(&before.reserved_ports),
        }
    }

    /// First undoes what an instance that was killed left, then records what is about to be done, then does it.
    fn take(config: &Config, runtime: &RuntimeDir) -> anyhow::Result<Self> {
        let file = Path::new(RESERVED_PORTS);
        undo(runtime)?;
        // The kernel has none of the addresses.
        if config.is_on_dpdk() {
            runtime.recorder().write(&Record {
                network_namespace: network_namespace(),
                ..Record::default()
            })?;
            return Ok(Self {
                added: PortSet::parse(""),
            });
        }
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
    let processes = record.workers.iter().filter_map(|worker| worker.process);
    for process in processes.filter(|process| !process.lives()) {
        directory::remove(runtime.name(), process.pid);
    }
    let (theirs, ours) = (record.network_namespace, network_namespace());
    if theirs == 0 || theirs == ours {
        programs::remove(&record.programs);
    } else if !record.programs.is_empty() {
        tracing::warn!(
            "a killed instance attached XDP programs in network namespace {theirs}, this is {ours}: if that one still exists, take them off \
             there (ip link set dev INTERFACE xdp off)"
        );
    }
    if record.reserved_ports.is_empty() {
        return Ok(());
    }
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
    source: Option<Source>,
    config: Config,
    plan: Plan,
    user: Option<UserIds>,
    http: Option<Opened>,
    told: Option<StatsListener>,
    signals: SignalFd,
    runtime: &'a RuntimeDir,
    found: Found,
    before: Record,
    set_log_filter: SetFilter,
    program: PathBuf,
}

impl Start<'_> {
    fn over_packets(mut self) -> anyhow::Result<Ended> {
        preflight::raise_memory_lock();
        let adopted = self.adopt_packets()?;
        let reservation = match adopted {
            Some(_) => Reservation::adopt(&self.before),
            None => Reservation::take(&self.config, self.runtime)?,
        };
        let record = Record {
            reserved_ports: reservation.added.to_string(),
            network_namespace: network_namespace(),
            programs: match adopted {
                Some(_) => self.before.programs.clone(),
                None => Vec::new(),
            },
            ..Record::default()
        };
        let runtime = self.runtime;
        let packets = match adopted {
            Some(packets) => Ok(packets),
            None => Packets::begin(&self.config, &self.plan),
        };
        let outcome =
            packets.and_then(|packets| self.manage(Network::Packets(Box::new(packets)), record));
        // Workers that go on after a failure go on with their ports.
        let record = runtime.record().unwrap_or_default();
        if outcome.is_ok() || record.living().next().is_none() {
            reservation.release();
            programs::remove(&record.programs);
        }
        outcome
    }

    /// What an earlier manager's workers handed over, if it is what it should be. If not they are no use: no frame reaches them, or
    /// nobody knows which.
    fn adopt_packets(&mut self) -> anyhow::Result<Option<Packets>> {
        let Some(heritage) = &self.found.heritage else {
            return Ok(None);
        };
        match Packets::adopt(&self.config, &self.plan, heritage) {
            Ok(packets) => Ok(Some(packets)),
            Err(error) => {
                self.found.give_up(&format!("{error:#}"));
                let leaving = std::mem::take(&mut self.found.leaving);
                let deadline_ms = self.config.worker.drain_timeout_ms;
                let seen_off = see_off(leaving, deadline_ms, &self.signals);
                anyhow::ensure!(seen_off, "ended before anything began");
                Ok(None)
            }
        }
    }

    fn over_sockets(self) -> anyhow::Result<Ended> {
        raise_open_files();
        let record = Record {
            sockets: listeners::paths(&self.config),
            network_namespace: network_namespace(),
            ..Record::default()
        };
        let shared = if let Some(heritage) = &self.found.heritage {
            heritage.listeners()?
        } else {
            undo(self.runtime)?;
            self.runtime.recorder().write(&record)?;
            SharedListeners::open(&self.config)?
        };
        self.manage(Network::Sockets(shared), record)
    }

    fn manage(self, network: Network, record: Record) -> anyhow::Result<Ended> {
        let path = self.runtime.control_socket();
        let control = ControlServer::listen(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        let http = self.http.map(Http::start).transpose();
        let http = http.context("cannot start the status page")?;
        if let Some(http) = &self.config.http {
            tracing::info!("status page: http://{}/", http.listen);
        }
        let (name, workers) = (&self.config.name, self.plan.cores.len());
        tracing::info!("{name}: {workers} workers");
        let bells = match &self.found.heritage {
            Some(heritage) => heritage.bells()?,
            None => (0..workers)
                .map(|_| Doorbell::new())
                .collect::<std::io::Result<_>>()?,
        };
        let shared = Shared::new(self.config, self.plan, self.user, network, bells);
        let mut manager = Manager::new(Parts {
            source: self.source,
            shared,
            control,
            program: self.program,
            set_log_filter: self.set_log_filter,
            told: self.told,
            http,
            signals: self.signals,
            recorder: self.runtime.recorder(),
            record,
        });
        if self.found.is_empty() {
            if let Err(error) = manager.parts.recorder.forget_totals() {
                tracing::error!("{error}");
            }
        } else {
            let outdated = self.found.outdated;
            self.found.join(&mut manager, &self.before)?;
            if outdated {
                tracing::info!("the configuration has changed since these workers got theirs");
                manager.reload_by_signal();
            }
        }
        manager.run()
    }
}
