//! The steering programs of all ports: attached by the manager, detached when it drops this.

use crate::plan::PlannedPort;
use crate::virtio;
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tidegate_config::Config;
use tidegate_port::xdp::{
    AttachMode, AttachPolicy, STEERING_DESCRIPTORS, Verdict, XdpError, XdpSteering,
};

/// One program per port.
pub struct Steering {
    ports: Vec<(XdpSteering, AttachMode)>,
    sources: BTreeSet<IpAddr>,
}

impl Steering {
    /// Attaches the programs and tells them what is ours.
    pub fn attach(config: &Config, ports: &[PlannedPort], queues: u32) -> anyhow::Result<Self> {
        let mut attached = Vec::with_capacity(ports.len());
        for (port, planned) in config.ports.iter().zip(ports) {
            // Zero copy needs the driver's own hook.
            let (policy, why) = if port.require_zero_copy {
                let why = ", with require_zero_copy = true, which rules generic mode out";
                (AttachPolicy::NativeOnly, why)
            } else if virtio::spoils_generic_mode(&planned.nic) {
                let why = ", where generic mode would lose frames of machines on the same host";
                (AttachPolicy::NativeOnly, why)
            } else {
                (AttachPolicy::NativeThenGeneric, "")
            };
            let (steering, mode) = XdpSteering::attach(planned.nic.ifindex, queues, policy)
                .map_err(|error| {
                    let why = match error {
                        XdpError::NoNative { .. } => why,
                        _ => "",
                    };
                    anyhow::Error::new(error).context(format!("interface {}{why}", port.interface))
                })?;
            let addresses = config.listeners();
            for address in addresses.filter_map(|(_, listen)| listen.endpoint.ip()) {
                steering.add_listener(address)?;
            }
            let (first, last) = config.worker.source_ports;
            steering.own_ports(first..=last)?;
            if let Some(refusal) = steering.native_refusal() {
                tracing::warn!(
                    "{}: the driver cannot run the steering program ({refusal}): generic mode, which is slower; to mend it: {}",
                    port.interface,
                    refusal.remedy(&port.interface)
                );
            }
            tracing::info!(
                "{}: steering program attached ({})",
                port.interface,
                name(mode)
            );
            virtio::settle(planned, queues)?;
            attached.push((steering, mode));
        }
        Ok(Self {
            ports: attached,
            sources: BTreeSet::new(),
        })
    }

    /// Takes over the programs that an earlier manager attached, with what is in their maps. `descriptors` are those of
    /// [`Self::descriptors`].
    pub fn adopt(
        ports: &[PlannedPort],
        modes: &[AttachMode],
        queues: u32,
        descriptors: Vec<OwnedFd>,
    ) -> anyhow::Result<Self> {
        let mut adopted = Vec::with_capacity(ports.len());
        let mut rest = descriptors.into_iter();
        for (planned, mode) in ports.iter().zip(modes) {
            let of_port: Vec<OwnedFd> = rest.by_ref().take(STEERING_DESCRIPTORS).collect();
            let of_port = of_port.try_into().map_err(|_| {
                anyhow::anyhow!("the descriptors of a steering program are missing")
            })?;
            let steering = XdpSteering::adopt(planned.nic.ifindex, queues, of_port)
                .with_context(|| format!("interface {}", planned.nic.name))?;
            adopted.push((steering, *mode));
        }
        Ok(Self {
            ports: adopted,
            sources: BTreeSet::new(),
        })
    }

    /// What keeps the programs attached without this manager.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ports
            .iter()
            .flat_map(|(steering, _)| steering.descriptors())
    }

    /// How each program was attached.
    pub fn modes(&self) -> Vec<AttachMode> {
        self.ports.iter().map(|(_, mode)| *mode).collect()
    }

    /// Puts the sockets of a worker into the maps. The descriptors are closed here, so that the sockets die with the worker.
    pub fn insert(&self, worker: u32, sockets: Vec<OwnedFd>) -> anyhow::Result<()> {
        anyhow::ensure!(
            sockets.len() == self.ports.len(),
            "{} sockets for {} ports",
            sockets.len(),
            self.ports.len()
        );
        for ((steering, _), socket) in self.ports.iter().zip(sockets) {
            steering.insert_socket(worker, socket.as_fd())?;
        }
        Ok(())
    }

    /// TCP to these addresses is ours.
    pub fn add_listeners(&self, addresses: impl Iterator<Item = SocketAddr>) {
        for address in addresses {
            for (steering, _) in &self.ports {
                if let Err(error) = steering.add_listener(address) {
                    tracing::error!("listening address {address}: {error}");
                }
            }
        }
    }

    /// TCP to these addresses is the kernel's again.
    pub fn remove_listeners(&self, addresses: impl Iterator<Item = SocketAddr>) {
        for address in addresses {
            for (steering, _) in &self.ports {
                if let Err(error) = steering.remove_listener(address) {
                    tracing::error!("listening address {address}: {error}");
                }
            }
        }
    }

    /// Forgets the sockets of a worker: what arrives for it is dropped, not refused by the kernel.
    pub fn remove(&self, worker: u32) {
        for (steering, _) in &self.ports {
            // The kernel removes a socket that died by itself.
            let _gone = steering.remove_socket(worker);
        }
    }

    /// Replies to these addresses are ours, on our source ports.
    pub fn set_sources(&mut self, sources: BTreeSet<IpAddr>) {
        for source in sources.difference(&self.sources) {
            for (steering, _) in &self.ports {
                if let Err(error) = steering.add_source(*source) {
                    tracing::error!("source address {source}: {error}");
                }
            }
        }
        // An address that is no longer a source keeps its entry: replies may still be under way, and the ports are ours.
        self.sources.extend(sources);
    }

    /// Frames that the program of a port has counted; `None`: the kernel does not say.
    pub fn seen(&self, port: usize) -> Option<u64> {
        let (steering, _) = self.ports.get(port)?;
        Some(steering.verdicts().ok()?.total())
    }

    /// For `tidegate status`: the mode of a port and what its program decided.
    pub fn report(&self, port: usize) -> (String, BTreeMap<String, u64>) {
        let (steering, mode) = &self.ports[port];
        let verdicts = steering.verdicts().unwrap_or_default();
        let verdicts = Verdict::ALL
            .into_iter()
            .map(|verdict| (verdict_name(verdict).to_owned(), verdicts.get(verdict)));
        (name(*mode).to_owned(), verdicts.collect())
    }
}

fn name(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Redirected => "redirected",
        Verdict::DroppedNoSocket => "dropped_no_socket",
        Verdict::PassedOther => "passed_other",
        Verdict::PassedNotOurs => "passed_not_ours",
        Verdict::PassedFragment => "passed_fragment",
        Verdict::PassedOptions => "passed_options",
        Verdict::PassedVlan => "passed_vlan",
        Verdict::PassedTruncated => "passed_truncated",
    }
}
