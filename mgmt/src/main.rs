//! The `tidegate` command: the management process and what talks to it.
//!
//! `tidegate run` is the manager. It carries no traffic itself: it checks the machine, attaches the steering programs, keeps one
//! worker process per queue alive (on DPDK one for all queues), mirrors routes and neighbours for them, and reports. A worker is
//! this same executable, started with a hidden subcommand.
//!
//! Over kernel sockets (`driver = "kernel"`) there is nothing to attach and nothing to mirror, and no privilege is needed. The
//! manager opens the listening sockets that workers share, and looks after the workers in the same way.
//!
//! **If the manager dies**, its workers go on: each holds the steering programs and everything else that has to outlive it. The next
//! `tidegate run` of the same name adopts them, see [`adoption`]; `tidegate clean-up` ends them and gives back what was reserved.
#![forbid(unsafe_code)]

#[macro_use]
mod out;

mod accept_pause;
mod adoption;
mod backoff;
mod bypass;
mod capabilities;
mod capture;
mod check;
mod clean_up;
mod configure;
mod control;
mod doctor;
mod events;
mod faults;
mod host;
mod http;
mod import;
mod kernel_listeners;
mod keys;
mod life;
mod lifecycle;
mod links;
mod log;
mod manager;
mod neighbours;
mod netlink;
mod orphans;
mod packets;
mod pci;
mod plan;
mod preflight;
mod reload;
mod remains;
mod reserved_ports;
mod run;
mod runtime_dir;
mod shared;
mod signals;
mod silence;
mod slowlog;
mod sockets;
mod stations;
mod stats;
mod status;
mod steering;
mod supervisor;
mod top;
mod try_out;
mod units;
mod virtio;
mod worker_process;

use clap::{Args, CommandFactory, Parser, Subcommand};
use nix::sys::signal::SigSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_config::{Config, LogFormat, QueueMap};

/// A kernel-bypass cache proxy for memcached and Redis.
#[derive(Parser)]
#[command(name = "tidegate", version, about)]
struct Cli {
    /// Where runtime directories are.
    ///
    /// Without it: /run/tidegate for root, else $XDG_RUNTIME_DIR/tidegate or /tmp/tidegate-UID.
    #[arg(long, global = true, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// How lines of the log look: text or json. Without it log_format of the configuration.
    #[arg(long, global = true, value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

fn log_format(name: &str) -> Result<LogFormat, &'static str> {
    LogFormat::of_name(name).ok_or("write text or json")
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy in the foreground until SIGTERM or Ctrl-C.
    Run(ConfigArgs),
    /// Run a proxy on loopback in front of servers named here, without a file and without root.
    Try(try_out::TryArgs),
    /// Check a configuration and print what would be done; needs no privileges.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Look at the file alone, not at this machine.
        #[arg(long)]
        config_only: bool,
    },
    /// Make this host ready for a configuration, say whether it is, or undo what was done.
    #[command(subcommand)]
    Configure(configure::ConfigureCommand),
    /// Say what stands between this host and full speed, and how to mend it. Exit code 0: nothing; 1: slower; 2: it would not run.
    Doctor(doctor::DoctorArgs),
    /// Make a configuration from one of twemproxy, on standard output.
    Import(import::ImportArgs),
    /// Show workers, queues, pools and servers of a running instance.
    Status {
        /// Name of the instance; not needed when only one runs.
        #[arg(long)]
        name: Option<String>,
        /// Print everything as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show how much is asked for and how long it takes, of pools, commands, servers and workers.
    Stats(stats::client::StatsArgs),
    /// Read the configuration again and take it up, without losing a request. SIGHUP does the same.
    Reload(reload::command::ReloadArgs),
    /// Show which worker serves which queue on which core, or move workers to other cores.
    Queues(reload::command::QueuesArgs),
    /// Change settings of a running instance, as a reload would.
    Set(reload::command::SetArgs),
    /// Show requests that took long, and where their time went.
    Slowlog(slowlog::command::SlowlogArgs),
    /// Take no new clients, finish what is owed, then end; with --worker one worker, which another one follows.
    Drain(lifecycle::command::DrainArgs),
    /// Put the program on disk in the place of the one that runs; its workers serve meanwhile, and are replaced one by one.
    Upgrade(lifecycle::command::UpgradeArgs),
    /// Change what a running instance logs.
    LogLevel(lifecycle::command::LogLevelArgs),
    /// Print a script that completes commands in a shell.
    Completions(lifecycle::command::CompletionsArgs),
    /// Write manual pages, one for each command.
    Man(lifecycle::command::ManArgs),
    /// Watch for some seconds which keys come most often.
    Hotkeys(keys::command::KeysArgs),
    /// Watch for some seconds which keys have the largest values.
    Bigkeys(keys::command::KeysArgs),
    /// Capture frames of a pool, which tcpdump on this machine does not see.
    Capture(capture::command::CaptureArgs),
    /// Watch a running instance: queues, pools and servers, once a second.
    Top(top::TopArgs),
    /// End and undo what a killed instance left behind.
    CleanUp {
        /// Name of the instance.
        #[arg(long, default_value = "tidegate")]
        name: String,
    },
    /// Print the version.
    Version,
    #[command(hide = true)]
    Worker,
}

#[derive(Args)]
struct ConfigArgs {
    /// The configuration.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Queues and cores of a port instead of the configuration's: eth1:0=2,1=3, or kernel:0=2,1=3 for workers over kernel
    /// sockets. Once per port.
    #[arg(long, value_name = "PORT:QUEUE=CORE,…")]
    map: Vec<QueueMap>,
}

impl ConfigArgs {
    /// Where the configuration comes from, now and whenever it is read again.
    fn source(&self) -> reload::Source {
        reload::Source {
            // The manager may be asked from anywhere; it looks where it looked at first.
            file: std::path::absolute(&self.config).unwrap_or_else(|_| self.config.clone()),
            maps: self.map.clone(),
        }
    }

    fn load(&self) -> Result<Config, Vec<String>> {
        let source = reload::Source {
            file: self.config.clone(),
            maps: self.map.clone(),
        };
        source.read()
    }

    fn with_config(
        &self,
        then: impl FnOnce(Config) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        match self.load() {
            Ok(config) => then(config),
            Err(faults) => {
                faults::print(&faults);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return out::end_of_usage(&usage),
    };
    // Whoever tries wants to see what failed, not how it began.
    let set_filter = log::start(match cli.command {
        Command::Try(_) => "warn",
        _ => "info",
    });
    if matches!(cli.command, Command::Worker) {
        // The manager blocks signals for its signal descriptor, and that is inherited: a worker takes them as they come.
        let _cannot_fail = SigSet::empty().thread_set_mask();
        return tidegate_dataplane::worker::run(set_filter);
    }
    if let Some(format) = cli.log_format {
        log::set_format(format);
    }
    let root = match cli.runtime_dir {
        Some(root) => Ok(root),
        None => runtime_dir::default_root(),
    };
    let outcome = root
        .map_err(anyhow::Error::from)
        .and_then(|root| dispatch(&cli.command, &root, cli.log_format, set_filter));
    out::end(outcome.unwrap_or_else(|error| {
        out::complain(&format!("error: {error:#}"));
        ExitCode::FAILURE
    }))
}

fn dispatch(
    command: &Command,
    root: &Path,
    format: Option<LogFormat>,
    set_filter: log::SetFilter,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => args.with_config(|config| {
            log::set_format(format.unwrap_or(config.log_format));
            run::run(config, args.source(), root, set_filter)
        }),
        Command::Try(args) => try_out::run(args, root, set_filter),
        Command::Check {
            config,
            config_only,
        } => config.with_config(|config| Ok(check::run(&config, *config_only, root))),
        Command::Configure(command) => configure::run(command, root),
        Command::Doctor(args) => Ok(doctor::run(args, root)),
        Command::Import(args) => import::run(args),
        Command::Status { name, json } => {
            status::client::run(root, name.as_deref(), *json).map(|()| ExitCode::SUCCESS)
        }
        Command::Stats(args) => stats::client::run(root, args).map(|()| ExitCode::SUCCESS),
        Command::Reload(args) => reload::command::reload(root, args).map(|()| ExitCode::SUCCESS),
        Command::Queues(args) => reload::command::queues(root, args).map(|()| ExitCode::SUCCESS),
        Command::Set(args) => reload::command::set(root, args).map(|()| ExitCode::SUCCESS),
        Command::Slowlog(args) => slowlog::command::run(args, root).map(|()| ExitCode::SUCCESS),
        Command::Drain(args) => lifecycle::command::drain(root, args).map(|()| ExitCode::SUCCESS),
        Command::Upgrade(args) => {
            lifecycle::command::upgrade(root, args).map(|()| ExitCode::SUCCESS)
        }
        Command::LogLevel(args) => {
            lifecycle::command::log_level(root, args).map(|()| ExitCode::SUCCESS)
        }
        Command::Completions(args) => {
            lifecycle::command::completions(args, Cli::command());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(args) => {
            lifecycle::command::man(args, Cli::command()).map(|()| ExitCode::SUCCESS)
        }
        Command::Hotkeys(args) => keys::command::hot(args, root).map(|()| ExitCode::SUCCESS),
        Command::Bigkeys(args) => keys::command::big(args, root).map(|()| ExitCode::SUCCESS),
        Command::Capture(args) => capture::command::run(args, root),
        Command::Top(args) => top::run(root, args).map(|()| ExitCode::SUCCESS),
        Command::CleanUp { name } => clean_up::run(root, name).map(|()| ExitCode::SUCCESS),
        Command::Version => {
            say!("{}", lifecycle::upgrade::own_version());
            Ok(ExitCode::SUCCESS)
        }
        Command::Worker => Ok(ExitCode::FAILURE),
    }
}
