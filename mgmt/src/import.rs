//! `tidegate import`: a configuration of twemproxy becomes one of Tidegate.

use anyhow::Context;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_config::limits::WORKERS;
use tidegate_config::{Compat, Fault, is_interface_name, regular_file};
use tidegate_import::limits::FILE_BYTES_MAX;
use tidegate_import::{Imported, Options, Port, import};

/// What stands on the command line.
#[derive(Args)]
pub struct ImportArgs {
    /// The configuration of twemproxy (nutcracker.yml); - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What moves the bytes: the kernel's sockets, which run on any machine, or AF_XDP.
    #[arg(long, value_enum, default_value_t = DriverName::Kernel)]
    driver: DriverName,
    /// Worker processes on kernel sockets. twemproxy is one process; each worker has its own connections to every server.
    #[arg(long, value_name = "N", default_value_t = WORKERS.default as u32,
        value_parser = clap::value_parser!(u32).range(WORKERS.min as i64..=WORKERS.max as i64), conflicts_with = "interface")]
    workers: u32,
    /// The interface on AF_XDP; all its queues are taken.
    #[arg(long, value_name = "NAME", required_if_eq("driver", "afxdp"))]
    interface: Option<String>,
    /// Whose habits the pools keep where clients can see a difference.
    ///
    /// twemproxy, because the clients of a fleet that moves were written against its habits: its error texts, and what closes a
    /// connection. none, for clients that rely on none of that: every request gets a reply, an error if need be, and the connection
    /// stays. It can be changed in the file later, pool by pool.
    #[arg(long, value_enum, default_value_t = CompatName(Compat::Twemproxy))]
    compat: CompatName,
    /// Look up names of hosts now and write their addresses.
    ///
    /// Without it they are errors: twemproxy looks a name up for every connection to a server, Tidegate never does, so an address
    /// that changes later has to be changed in the file.
    #[arg(long)]
    resolve: bool,
}

/// A driver by its name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DriverName {
    Kernel,
    Afxdp,
}

/// Habits by their name in a configuration.
#[derive(Clone, Copy)]
struct CompatName(Compat);

impl ValueEnum for CompatName {
    fn value_variants<'a>() -> &'a [Self] {
        const { &[Self(Compat::Twemproxy), Self(Compat::None)] }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let named = Compat::NAMES.iter().find(|(_, compat)| *compat == self.0)?;
        Some(PossibleValue::new(named.0))
    }
}

/// Prints the configuration and the warnings; or every fault, and then nothing else.
pub fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let port = match (args.driver, &args.interface) {
        (DriverName::Kernel, None) => Port::Kernel {
            workers: args.workers,
        },
        (DriverName::Afxdp, Some(interface)) => {
            anyhow::ensure!(
                is_interface_name(interface),
                "--interface {interface:?} is not a name the kernel allows"
            );
            Port::Afxdp {
                interface: interface.clone(),
            }
        }
        (DriverName::Kernel, Some(_)) | (DriverName::Afxdp, None) => {
            anyhow::bail!("--interface and --driver afxdp need each other")
        }
    };
    let (bytes, file) = read(&args.file)?;
    let mut look_up = |name: &str| look_up(name);
    let options = Options {
        port,
        compat: args.compat.0,
        resolve: args.resolve.then_some(&mut look_up),
    };
    match import(&bytes, &file, options) {
        Ok(Imported { toml, warnings }) => {
            for Fault { line, column, what } in warnings {
                eprintln!("warning: {file}:{line}:{column}: {what}");
            }
            crate::out::print(&toml);
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            let faults: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
            crate::faults::print(&faults);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The bytes of a file, no more than are taken and one to tell, and what it is called in warnings and errors.
fn read(path: &Path) -> anyhow::Result<(Vec<u8>, String)> {
    let (file, name): (Box<dyn Read>, String) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), "<stdin>".to_owned())
    } else {
        let name = path.display().to_string();
        let opened = regular_file::open(path);
        let (file, _) = opened.with_context(|| format!("cannot read {name}"))?;
        (Box::new(file), name)
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    Ok((bytes, name))
}

/// The first address of a name, which is the one that twemproxy takes.
fn look_up(name: &str) -> Result<IpAddr, String> {
    let mut addresses = (name, 0)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    match addresses.next() {
        Some(SocketAddr::V6(address)) if address.scope_id() != 0 => {
            Err(format!("{} counts on one link only", address.ip()))
        }
        Some(address) => Ok(address.ip()),
        None => Err("the system knows none".to_owned()),
    }
}
