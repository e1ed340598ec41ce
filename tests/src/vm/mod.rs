//! Tidegate in a virtual machine: a kernel of its own and a NIC with several queues that a real driver drives, which network
//! namespaces cannot offer.
//!
//! The machine is Debian's cloud kernel and a root file system of a few files, made for the occasion. It has no disk, no distribution and no
//! ssh: scripts come over a virtio-serial port, one at a time, and what they print goes back ([`machine`]). Its NICs are multi-queue virtio
//! devices behind an emulated IOMMU; their cables are TAPs in a network namespace, where the clients are ([`network`]). memcached
//! and Redis are on a second one behind it, as in a [`lab`](crate::lab), whose pieces and whose way of tidying up this shares.
//!
//! `scripts/test-vm` plays [`play`]. Where the processor has no virtualisation to offer, QEMU emulates it; then nothing can be said
//! about speed.

pub mod afxdp;
pub mod dpdk;
pub mod guest;
pub mod machine;
pub mod network;
pub mod traffic;
pub mod verdicts;
pub mod virtio;

use crate::lab::janitor::Janitor;
use crate::lab::servers::{Server, ServerKind};
use crate::lab::state::{LabState, remove_leftovers};
use crate::lab::topology::Hosts;
use crate::lab::{new_state, program};
use crate::plan::Plan;
use crate::vm::machine::{Accelerator, Hardware, Machine, make_initramfs};
use crate::vm::verdicts::Verdicts;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::path::Path;

/// What there is to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// AF_XDP with a queue for each worker.
    Afxdp,
    /// Devices on which virtio_net would lose frames.
    Virtio,
    /// DPDK, if tidegate was built with it.
    Dpdk,
}

/// Servers of each kind.
pub const SERVERS: usize = 3;

/// The machine and everything around it. Dropping it removes all of that. Fields are dropped in order: the machine before its network.
#[derive(Debug)]
pub struct Ground {
    /// The machine.
    pub machine: Machine,
    /// The hosts around it.
    pub hosts: Hosts,
    /// All servers, which every instance has.
    pub servers: Vec<Server>,
    _network: Network,
}

/// What outlives the machine.
#[derive(Debug)]
struct Network {
    state: LabState,
    janitor: Option<Janitor>,
}

impl Network {
    fn raise() -> Result<Self> {
        let state = new_state()?;
        // From here on, dropping it removes whatever has been made so far.
        let mut network = Self {
            state,
            janitor: None,
        };
        network.janitor = Some(Janitor::start(&network.state.name)?);
        network::build(&network.state.hosts(), SERVERS, SERVERS)
            .context("cannot build the machine's network")?;
        Ok(network)
    }

    fn start_servers(&self) -> Result<Vec<Server>> {
        let host = (&self.state.hosts().server).into();
        let start = |kind| {
            let directory = &self.state.directory;
            (0..SERVERS).map(move |index| (kind, index, directory))
        };
        let all = start(ServerKind::Memcached).chain(start(ServerKind::Redis));
        all.map(|(kind, index, directory)| {
            Server::start(&host, directory, Plan::Lab, kind, index, None)
        })
        .collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.state.remove();
        self.janitor = None;
    }
}

impl Ground {
    /// Raises all of it.
    pub fn raise(kernel: &Path, tidegate: &Path) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the test makes network namespaces and TAPs, and needs root");
        }
        remove_leftovers();
        let network = Network::raise()?;
        let directory = &network.state.directory;
        let initramfs = directory.join("initramfs");
        let hosts = network.state.hosts();
        make_initramfs(&hosts.client, &initramfs, kernel, tidegate)
            .context("cannot make the machine's root file system")?;
        let servers = network.start_servers()?;
        let hardware = Hardware {
            accelerator: Accelerator::of_this_machine(),
            kernel,
            initramfs: &initramfs,
            legs: &network::LEGS,
        };
        let machine = Machine::start(&hosts.client, directory, &hardware)?;
        Ok(Self {
            machine,
            hosts,
            servers,
            _network: network,
        })
    }
}

/// Raises the machine with the kernel that `tests/vm/kernel` has made, checks these parts, and prints what came of it. Whether all was
/// right.
pub fn play(kernel: &Path, parts: &[Part]) -> Result<bool> {
    let accelerator = Accelerator::of_this_machine();
    println!("A virtual machine ({accelerator}) and its network …");
    let mut verdicts = Verdicts::start();
    let ground = verdicts.check("the machine boots", || {
        let ground = Ground::raise(kernel, &program("tidegate")?)?;
        let seconds = ground.machine.booted_in.as_secs_f64();
        Ok((format!("in {seconds:.1} s"), ground))
    });
    if let Some(mut ground) = ground {
        for part in parts {
            match part {
                Part::Afxdp => afxdp::play(&mut ground, &mut verdicts),
                Part::Virtio => virtio::play(&mut ground, &mut verdicts),
                Part::Dpdk => dpdk::play(&mut ground, &mut verdicts),
            }
        }
    }
    Ok(verdicts.finish())
}
