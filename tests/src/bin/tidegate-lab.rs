//! The lab by hand: `tidegate-lab up` raises one that stays, `down` removes it, `exec` runs a command on one of its hosts.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use std::process::ExitCode;
use tidegate_tests::lab::state::{LabState, processes, remove_leftovers, remove_on_signals};
use tidegate_tests::lab::topology::Nics;
use tidegate_tests::lab::{Lab, LabOptions, janitor};

/// Raises and removes labs: client, appliance and server as network namespaces of this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Raises a lab that stays until `down`, and prints its name.
    Up {
        /// Queues of each interface, a power of two.
        #[arg(long, default_value_t = 2)]
        queues: u32,
        /// One interface for clients and servers instead of one each.
        #[arg(long)]
        one_nic: bool,
        /// memcached servers.
        #[arg(long, default_value_t = 3)]
        memcached: usize,
        /// Redis servers.
        #[arg(long, default_value_t = 3)]
        redis: usize,
        /// The only core that servers run on.
        #[arg(long)]
        server_core: Option<u32>,
        /// Do not stay: keep the lab only until this command ends, by Ctrl-C for example.
        #[arg(long)]
        wait: bool,
    },
    /// Lists the labs of this machine.
    List,
    /// Removes a lab, or every lab that nobody uses any more.
    Down {
        /// Its name, as `list` shows it.
        name: Option<String>,
    },
    /// Runs a command on a host of a lab.
    Exec {
        /// The lab's name.
        name: String,
        /// Which host.
        host: HostName,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Raises a lab, runs Tidegate in it under load, prints what happened and removes everything.
    Demo {
        /// Keep the lab and say how to use it.
        #[arg(long)]
        stay: bool,
    },
    /// Waits for the end of the lab's owner and removes what it left.
    #[command(hide = true)]
    Janitor {
        /// The lab's name.
        name: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum HostName {
    Client,
    Appliance,
    Server,
}

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> Result<ExitCode> {
    match action {
        Action::Up {
            queues,
            one_nic,
            memcached,
            redis,
            server_core,
            wait,
        } => {
            let nics = if one_nic { Nics::One } else { Nics::Two };
            let can_stay = !wait;
            let lab = Lab::raise(LabOptions {
                queues,
                nics,
                memcached,
                redis,
                fakes: 0,
                needs_ipv6: true,
                server_core,
                can_stay,
                ..LabOptions::default()
            })?;
            println!("{}", lab.name());
            if can_stay {
                lab.stay()?;
            } else {
                // The janitor removes the lab when a signal ends this process.
                loop {
                    std::thread::park();
                }
            }
        }
        Action::List => {
            for state in LabState::all() {
                let fate = match (state.stays, state.owner_lives()) {
                    (true, _) => "stays until `down`",
                    (false, true) => "in use",
                    (false, false) => "left behind",
                };
                println!(
                    "{}\t{fate}\t{} processes",
                    state.name,
                    processes(&state.hosts()).len()
                );
            }
        }
        Action::Down { name: Some(name) } => {
            LabState::read(&name)
                .with_context(|| format!("there is no lab called {name}; see `tidegate-lab list`"))?
                .remove();
        }
        Action::Down { name: None } => {
            for name in remove_leftovers() {
                println!("removed {name}");
            }
        }
        Action::Demo { stay } => return demo(stay),
        Action::Exec {
            name,
            host,
            command,
        } => return exec(&name, host, &command),
        Action::Janitor { name } => janitor::live(&name),
    }
    Ok(ExitCode::SUCCESS)
}

fn demo(stay: bool) -> Result<ExitCode> {
    remove_on_signals()?;
    Ok(if tidegate_tests::demo::run(stay)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn exec(name: &str, host: HostName, command: &[String]) -> Result<ExitCode> {
    let hosts = LabState::read(name)
        .with_context(|| format!("there is no lab called {name}"))?
        .hosts();
    let host = match host {
        HostName::Client => &hosts.client,
        HostName::Appliance => &hosts.appliance,
        HostName::Server => &hosts.server,
    };
    let Some((program, arguments)) = command.split_first() else {
        bail!("exec needs a command")
    };
    let status = host.command(program).args(arguments).status()?;
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(255)).unwrap_or(255),
    ))
}
