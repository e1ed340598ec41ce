//! Raising and removing a lab.

pub mod addresses;
pub mod janitor;
pub mod kernel_path;
pub mod process;
pub mod servers;
pub mod state;
pub mod steering;
pub mod topology;

use crate::host::Host;
use crate::lab::janitor::Janitor;
use crate::lab::servers::{Server, ServerKind};
use crate::lab::state::{LabState, process_started, remove_leftovers};
use crate::lab::steering::Steering;
use crate::lab::topology::{Hosts, Nics};
use crate::plan::Plan;
use crate::stage::{Driver, Role, Stage, log_tails, start_servers};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a lab consists of, or a [stage on this machine](crate::local), where cables and NICs mean nothing.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// What carries Tidegate's traffic in it.
    pub driver: Driver,
    /// Queues of each interface, a power of two; as many workers serve them.
    pub queues: u32,
    /// How the appliance is cabled.
    pub nics: Nics,
    /// IPv6 has to work; every lab has it, a machine may not.
    pub needs_ipv6: bool,
    /// memcached servers.
    pub memcached: usize,
    /// Redis servers.
    pub redis: usize,
    /// Further addresses of the server host, for servers that a test plays itself.
    pub fakes: usize,
    /// The only core that servers run on. `None`: any.
    pub server_core: Option<u32>,
    /// Pins what else would end with this process, so that [`Lab::stay`] can let the lab go on.
    pub can_stay: bool,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            driver: Driver::Afxdp,
            queues: 2,
            nics: Nics::Two,
            needs_ipv6: false,
            memcached: 3,
            redis: 3,
            fakes: 0,
            server_core: None,
            can_stay: false,
        }
    }
}

/// Whether this process may raise one.
pub fn check_root() -> Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    ensure!(
        is_root,
        "the lab makes network namespaces and needs root: run it with sudo"
    );
    Ok(())
}

/// A raised lab. Dropping it removes it, unless it stays.
#[derive(Debug)]
pub struct Lab {
    /// What it was raised with.
    pub options: LabOptions,
    /// Its hosts.
    pub hosts: Hosts,
    /// The memcached servers.
    pub memcached: Vec<Server>,
    /// The Redis servers.
    pub redis: Vec<Server>,
    state: LabState,
    /// Held: dropping it would end the steering.
    steering: Steering,
    janitor: Option<Janitor>,
}

impl Lab {
    /// Raises a lab, after removing those that were left behind. On failure nothing remains.
    pub fn raise(options: LabOptions) -> Result<Self> {
        check_root()?;
        if !options.queues.is_power_of_two() {
            bail!(
                "the lab's steering needs a power of two of queues, not {}",
                options.queues
            );
        }
        remove_leftovers();
        let state = new_state()?;
        let hosts = state.hosts();
        // From here on, dropping `lab` removes whatever has been made so far.
        let mut lab = Self {
            options,
            hosts,
            memcached: Vec::new(),
            redis: Vec::new(),
            state,
            steering: Steering::default(),
            janitor: None,
        };
        lab.janitor = Some(Janitor::start(lab.name())?);
        topology::build(&lab.hosts, &lab.options).context("cannot build the lab's network")?;
        lab.steering = steering::attach(&lab.hosts, &lab.options, lab.directory())?;
        start_servers(&mut lab)?;
        Ok(lab)
    }

    /// Lets the lab outlive this process; `tidegate-lab down` removes it. It must have been raised with
    /// [`LabOptions::can_stay`].
    pub fn stay(mut self) -> Result<()> {
        self.state.stays = true;
        self.state.write()
    }

    /// The lab's name; everything it makes is called after it.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Where its logs and files lie. The directory goes with the lab.
    pub fn directory(&self) -> &Path {
        &self.state.directory
    }
}

impl Stage for Lab {
    fn driver(&self) -> Driver {
        self.options.driver
    }

    fn name(&self) -> &str {
        self.name()
    }

    fn directory(&self) -> &Path {
        self.directory()
    }

    fn options(&self) -> &LabOptions {
        &self.options
    }

    fn plan(&self) -> Plan {
        Plan::Lab
    }

    fn host(&self, role: Role) -> Host {
        Host::from(match role {
            Role::Client => &self.hosts.client,
            Role::Appliance => &self.hosts.appliance,
            Role::Server => &self.hosts.server,
        })
    }

    fn servers(&self, kind: ServerKind) -> &[Server] {
        match kind {
            ServerKind::Memcached => &self.memcached,
            ServerKind::Redis => &self.redis,
        }
    }

    fn servers_mut(&mut self, kind: ServerKind) -> &mut Vec<Server> {
        match kind {
            ServerKind::Memcached => &mut self.memcached,
            ServerKind::Redis => &mut self.redis,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.state.stays {
            // Dropping a server would end it.
            std::mem::forget(std::mem::take(&mut self.memcached));
            std::mem::forget(std::mem::take(&mut self.redis));
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}", log_tails(self.directory()));
        }
        self.memcached.clear();
        self.redis.clear();
        self.state.remove();
        self.janitor = None;
    }
}

/// A name that nobody has, written down, and a directory for it.
pub(crate) fn new_state() -> Result<LabState> {
    /// A process can raise several labs.
    static RAISED: AtomicU32 = AtomicU32::new(0);
    let owner = std::process::id() as i32;
    let number = RAISED.fetch_add(1, Ordering::Relaxed);
    let name = if number == 0 {
        format!("tg-{owner}")
    } else {
        format!("tg-{owner}.{number}")
    };
    let directory = std::env::temp_dir().join("tidegate-lab").join(&name);
    let owner_started = process_started(owner).context("/proc does not show this process")?;
    let state = LabState {
        name,
        owner,
        owner_started,
        stays: false,
        directory,
    };
    state.write()?;
    fs::create_dir_all(&state.directory)?;
    Ok(state)
}

/// The path of a program of this workspace, built from the sources as they are now unless the environment names one
/// (`TIDEGATE_BIN` for `tidegate`).
pub fn program(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    if name == "tidegate"
        && let Some(path) = std::env::var_os("TIDEGATE_BIN")
    {
        return Ok(path.into());
    }
    let executable = std::env::current_exe()?;
    // Tests lie in target/<profile>/deps, programs one level above.
    let mut directory = executable
        .parent()
        .context("an executable lies in a directory")?;
    let in_tests = directory.ends_with("deps");
    if in_tests {
        directory = directory.parent().context("deps lies in a directory")?;
        BUILT
            .get_or_init(|| {
                build_programs(directory.ends_with("release")).map_err(|error| format!("{error:#}"))
            })
            .clone()
            .map_err(anyhow::Error::msg)?;
    }
    let path = directory.join(name);
    if !path.exists() {
        bail!(
            "{} does not exist: run `cargo build --workspace` first",
            path.display()
        );
    }
    Ok(path)
}

/// `cargo test` builds the programs of a package only for that package's own tests, so the ones from here ask for them. The whole
/// workspace, because a part of it would be built with other features of shared crates, a second time.
fn build_programs(release: bool) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--bins"]);
    if cfg!(feature = "dpdk") {
        cargo.args(["--features", "tidegate/dpdk,tidegate-tests/dpdk"]);
    }
    if release {
        cargo.arg("--release");
    }
    crate::netns::finish(cargo.current_dir(env!("CARGO_MANIFEST_DIR"))).map(|_| ())
}
