//! A stage on this machine: loopback addresses of its own, servers as children, no privileges.
//!
//! Several of them play at the same time, in one test process or in several. What keeps them apart is a [`Block`] of
//! addresses and ports, which belongs to whoever listens on its lock address, for as long as he does. The directory is called
//! after the block, so what a killed test left there is removed by the next one that gets the same block. Its processes end with
//! it: see [`Host::command`](crate::host::Host::command).

use crate::host::{Host, NOBODY};
use crate::lab::servers::{Server, ServerKind};
use crate::lab::{LabOptions, program};
use crate::plan::{BLOCK_PORTS, Block, Plan};
use crate::stage::{Driver, Role, Stage, log_tails, start_servers};
use anyhow::{Context, Result};
use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The first port of the first block: above what machines usually serve.
const FIRST_PORT: u16 = 10_240;

/// Blocks that a machine has. They end below 32768, from where on Linux gives ports to connections unless told otherwise.
const BLOCKS: u8 = 175;
const _: () = assert!(FIRST_PORT as u32 + BLOCKS as u32 * BLOCK_PORTS as u32 <= 32_768);

/// Addresses and servers on this machine. Dropping it ends and removes them.
#[derive(Debug)]
pub struct Local {
    options: LabOptions,
    block: Block,
    name: String,
    directory: PathBuf,
    memcached: Vec<Server>,
    redis: Vec<Server>,
    /// Held: the block is taken while somebody listens here.
    _lock: TcpListener,
}

impl Local {
    /// Takes a free block and starts the servers.
    pub fn raise(options: LabOptions) -> Result<Self> {
        let (block, lock) = take_block()?;
        let name = format!("local-{}", block.number);
        let directory = make_directory(&name)?;
        // From here on, dropping it removes whatever has been made so far.
        let mut local = Self {
            options,
            block,
            name,
            directory,
            memcached: Vec::new(),
            redis: Vec::new(),
            _lock: lock,
        };
        start_servers(&mut local)?;
        Ok(local)
    }
}

impl Stage for Local {
    fn driver(&self) -> Driver {
        Driver::Kernel
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn options(&self) -> &LabOptions {
        &self.options
    }

    fn plan(&self) -> Plan {
        Plan::Local(self.block)
    }

    fn host(&self, _: Role) -> Host {
        Host::Here
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

impl Drop for Local {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", log_tails(&self.directory));
        }
        self.memcached.clear();
        self.redis.clear();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The first block that nobody holds and in which nothing listens, and its lock.
fn take_block() -> Result<(Block, TcpListener)> {
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    (0..BLOCKS)
        .map(|number| Block {
            number,
            first_port: FIRST_PORT + u16::from(number) * BLOCK_PORTS,
            has_v6,
        })
        .find_map(|block| {
            let lock = TcpListener::bind(block.lock()).ok()?;
            if !is_free(block) {
                end_orphans(block);
            }
            is_free(block).then_some((block, lock))
        })
        .context("every block of loopback addresses is in use: see `ss -ltnp`")
}

/// Ends workers of a stage of this block that outlived their manager, and the test that would have seen to them.
fn end_orphans(block: Block) {
    let name = format!("local-{}", block.number);
    let runtime = directory_of(&name).join("run");
    if let (true, Ok(tidegate)) = (runtime.is_dir(), program("tidegate")) {
        let mut command = Host::Here.command(tidegate);
        command.arg("--runtime-dir").arg(runtime);
        let _nobody_left = command.args(["clean-up", "--name", &name]).output();
    }
}

/// Whether nobody listens on any of the ports. One IPv4 address speaks for all: others use no address of the block, unless they
/// listen on every address there is.
fn is_free(block: Block) -> bool {
    let lock = block.lock();
    let ports = block.first_port..lock.port();
    ports.into_iter().all(|port| {
        let v4 = TcpListener::bind((lock.ip(), port)).is_ok();
        v4 && (!block.has_v6 || TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok())
    })
}

fn directory_of(name: &str) -> PathBuf {
    let user = nix::unistd::geteuid();
    std::env::temp_dir().join(format!("tidegate-stage-{user}-{name}"))
}

/// An empty directory that the processes of the stage may write to.
fn make_directory(name: &str) -> Result<PathBuf> {
    let user = nix::unistd::geteuid();
    let directory = directory_of(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    if user.is_root() {
        std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(directory)
}

/// The right to play beside others; given back when dropped.
#[derive(Debug)]
pub struct Permit(());

static PLAYING: Mutex<usize> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

impl Permit {
    /// Waits until fewer stages are up in this process than the machine has cores: each has half a dozen processes, and more
    /// of them would only wait for each other.
    pub fn wait() -> Self {
        let stages_max = std::thread::available_parallelism().map_or(1, usize::from);
        let mut playing = CHANGED
            .wait_while(playing(), |playing| *playing >= stages_max)
            .unwrap_or_else(PoisonError::into_inner);
        *playing += 1;
        Self(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *playing() -= 1;
        CHANGED.notify_one();
    }
}

fn playing() -> MutexGuard<'static, usize> {
    PLAYING.lock().unwrap_or_else(PoisonError::into_inner)
}
