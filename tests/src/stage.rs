//! What a lab and a place on this machine have in common: all that most end-to-end tests know of where they play.

use crate::host::Host;
use crate::lab::LabOptions;
use crate::lab::servers::{Server, ServerKind};
use crate::plan::Plan;
use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

/// What carries Tidegate's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// AF_XDP, in the lab: needs root.
    Afxdp,
    /// Kernel sockets, on this machine's loopback addresses: needs nothing.
    Kernel,
    /// DPDK over packet sockets, in the lab: needs root, and a Tidegate with DPDK.
    DpdkPacket,
    /// DPDK over its own AF_XDP, likewise.
    DpdkXdp,
}

impl Driver {
    /// The name of DPDK's driver.
    pub fn pmd(self) -> Option<&'static str> {
        match self {
            Self::DpdkPacket => Some("af_packet"),
            Self::DpdkXdp => Some("af_xdp"),
            Self::Afxdp | Self::Kernel => None,
        }
    }

    /// Whether it is in a lab that the queue of a connection follows from its ports.
    pub fn is_steered(self) -> bool {
        matches!(self, Self::Afxdp | Self::DpdkXdp)
    }
}

/// The three hosts of the play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where clients are.
    Client,
    /// Where Tidegate is.
    Appliance,
    /// Where servers are.
    Server,
}

/// Servers, addresses and a directory, and no Tidegate yet.
pub trait Stage: Debug + Sync {
    /// What Tidegate has to be driven by here.
    fn driver(&self) -> Driver;
    /// Its name; the instance of Tidegate is called after it.
    fn name(&self) -> &str;
    /// Where logs and files lie; it goes with the stage.
    fn directory(&self) -> &Path;
    /// What it was raised with.
    fn options(&self) -> &LabOptions;
    /// Who listens where.
    fn plan(&self) -> Plan;
    /// One of its hosts.
    fn host(&self, role: Role) -> Host;
    /// All servers of a kind.
    fn servers(&self, kind: ServerKind) -> &[Server];
    /// The same, to be killed and started again.
    fn servers_mut(&mut self, kind: ServerKind) -> &mut Vec<Server>;
}

/// Starts the servers that the options of `stage` ask for.
pub fn start_servers(stage: &mut dyn Stage) -> anyhow::Result<()> {
    let options = stage.options().clone();
    for (kind, count) in [
        (ServerKind::Memcached, options.memcached),
        (ServerKind::Redis, options.redis),
    ] {
        for index in 0..count {
            let server = Server::start(
                &stage.host(Role::Server),
                stage.directory(),
                stage.plan(),
                kind,
                index,
                options.server_core,
            )?;
            stage.servers_mut(kind).push(server);
        }
    }
    Ok(())
}

/// The logs in `directory`, each cut to its last lines: what a failing test shows.
pub fn log_tails(directory: &Path) -> String {
    const LINES: usize = 40;
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        })
        .unwrap_or_default();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let mut text = String::new();
    for file in files {
        let whole = String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = whole.lines().collect();
        let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
        let _ = writeln!(text, "--- {}\n{tail}", file.display());
    }
    text
}
