//! The steering program on one interface.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::maps::{MAPS, SteeringMaps};
use super::refusal::NativeRefusal;
use super::{Verdicts, program};
use crate::bpf::{BpfError, Link, Program, ProgramKind};
use crate::nic;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the kernel, after the skb was built: works everywhere, costs a copy and an allocation per frame.
    Generic,
}

impl AttachMode {
    /// `XDP_FLAGS_DRV_MODE`, `XDP_FLAGS_SKB_MODE`.
    pub(super) fn flags(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }
}

/// What to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachPolicy {
    /// Native if the driver can, otherwise generic.
    NativeThenGeneric,
    /// Native or an error.
    NativeOnly,
    /// Generic, even if the driver could do better.
    GenericOnly,
}

/// Why the program could not be put on an interface.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// EBUSY or EEXIST.
    #[error(
        "another XDP program is attached to {interface}: see it with `ip link show dev {interface}` or `bpftool net`, and remove \
         it with `ip link set dev {interface} xdp off` or by stopping the process that owns its link"
    )]
    Occupied {
        /// The interface.
        interface: String,
    },
    /// The driver cannot, and generic mode was not allowed.
    #[error(
        "{interface} cannot run an XDP program in its driver ({refusal}): {}",
        refusal.remedy(interface)
    )]
    NoNative {
        /// The interface.
        interface: String,
        /// The kernel's answer.
        refusal: Box<NativeRefusal>,
    },
    /// Gone, or in another network namespace.
    #[error("there is no interface with index {ifindex} in this network namespace")]
    NoInterface {
        /// The index.
        ifindex: u32,
    },
    /// Anything else.
    #[error(transparent)]
    Bpf(#[from] BpfError),
}

/// Descriptors of the program of one interface: its link, itself, its maps.
pub const STEERING_DESCRIPTORS: usize = 2 + MAPS;

/// Program, maps and link. Dropping it detaches the program and leaves all traffic to the kernel.
#[derive(Debug)]
pub struct XdpSteering {
    /// Dropped first: no frame meets a program without maps.
    link: Link,
    program: Program,
    maps: SteeringMaps,
    native_refusal: Option<NativeRefusal>,
}

impl XdpSteering {
    /// Makes the maps for `queues` queues, loads the program and attaches it. It lets everything pass until a listener or a source
    /// is added. Attaching can change the number of active queues (virtio): read it afterwards.
    pub fn attach(
        ifindex: u32,
        queues: u32,
        policy: AttachPolicy,
    ) -> Result<(Self, AttachMode), XdpError> {
        let maps = SteeringMaps::create(queues)?;
        let program = program::load(&maps)?;
        let attach = |mode: AttachMode| program.attach(ifindex, mode.flags());
        let (outcome, mode, native_refusal) = match policy {
            AttachPolicy::NativeOnly => (attach(AttachMode::Native), AttachMode::Native, None),
            AttachPolicy::GenericOnly => (attach(AttachMode::Generic), AttachMode::Generic, None),
            AttachPolicy::NativeThenGeneric => match attach(AttachMode::Native) {
                Err(error) if is_drivers_refusal(&error) => {
                    // Asked first: with a program in generic mode the kernel would speak of that.
                    let refusal = NativeRefusal::explain(error, ifindex, program.as_fd());
                    let generic = attach(AttachMode::Generic);
                    (generic, AttachMode::Generic, Some(refusal))
                }
                outcome => (outcome, AttachMode::Native, None),
            },
        };
        let link = outcome.map_err(|source| explain(ifindex, mode, source, program.as_fd()))?;
        Ok((
            Self {
                link,
                program,
                maps,
                native_refusal,
            },
            mode,
        ))
    }

    /// Takes over what another process attached to an interface with as many queues. The kernel is asked whether that is what it is: the
    /// link has to be one of this interface, its program this one, and the program's maps these.
    pub fn adopt(
        ifindex: u32,
        queues: u32,
        descriptors: [OwnedFd; STEERING_DESCRIPTORS],
    ) -> Result<Self, XdpError> {
        let [link, program, maps @ ..] = descriptors;
        let (maps, ids) = SteeringMaps::adopt(queues, maps)?;
        let program = Program::adopt(program, ProgramKind::Xdp, &ids)?;
        let link = Link::adopt(link, &program, ifindex)?;
        Ok(Self {
            link,
            program,
            maps,
            native_refusal: None,
        })
    }

    /// What [`Self::adopt`] needs. Whoever holds the first keeps the program attached.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; STEERING_DESCRIPTORS] {
        let mut all = [self.link.as_fd(); STEERING_DESCRIPTORS];
        all[1] = self.program.as_fd();
        all[2..].copy_from_slice(&self.maps.descriptors());
        all
    }

    /// Why native mode was not obtained, to be logged.
    pub fn native_refusal(&self) -> Option<&NativeRefusal> {
        self.native_refusal.as_ref()
    }

    /// The program, for test runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Frames of ours on this queue go to the socket. Close the descriptor afterwards, so that the socket dies with its worker.
    pub fn insert_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), BpfError> {
        self.maps.insert_socket(queue, socket)
    }

    /// Frames of ours on this queue are dropped from now on, as they are once the socket is gone.
    pub fn remove_socket(&self, queue: u32) -> Result<(), BpfError> {
        self.maps.remove_socket(queue)
    }

    /// TCP to this address and port is ours. Add it after the sockets: from then on the kernel does not see it.
    pub fn add_listener(&self, listener: SocketAddr) -> Result<(), BpfError> {
        self.maps.add_listener(listener)
    }

    /// TCP to this address and port is the kernel's again. `false`: it was already.
    pub fn remove_listener(&self, listener: SocketAddr) -> Result<bool, BpfError> {
        self.maps.remove_listener(listener)
    }

    /// Connections to servers leave from this address.
    pub fn add_source(&self, source: IpAddr) -> Result<(), BpfError> {
        self.maps.add_source(source)
    }

    /// The reverse of [`Self::add_source`]. `false`: there was none.
    pub fn remove_source(&self, source: IpAddr) -> Result<bool, BpfError> {
        self.maps.remove_source(source)
    }

    /// Connections to servers leave from these ports.
    pub fn own_ports(&self, range: RangeInclusive<u16>) -> Result<(), BpfError> {
        self.maps.own_ports(range)
    }

    /// Frames per verdict since the program was attached.
    pub fn verdicts(&self) -> Result<Verdicts, BpfError> {
        self.maps.verdicts()
    }

    /// Keeps the program attached after this process, until the file (on a bpffs) is removed.
    pub fn pin(&self, path: &Path) -> Result<(), BpfError> {
        self.link.pin(path)
    }
}

/// Tells the driver's "I cannot" from errors that generic mode would meet as well.
fn is_drivers_refusal(error: &BpfError) -> bool {
    !matches!(
        error.errno(),
        Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::ENODEV)
    )
}

fn explain(ifindex: u32, mode: AttachMode, source: BpfError, program: BorrowedFd<'_>) -> XdpError {
    // For an interface that is not there the kernel says EINVAL, as for much else.
    let Some(interface) = nic::name_of(ifindex) else {
        return XdpError::NoInterface { ifindex };
    };
    match source.errno() {
        Some(libc::EBUSY | libc::EEXIST) => XdpError::Occupied { interface },
        Some(libc::ENODEV) => XdpError::NoInterface { ifindex },
        Some(libc::EPERM) => XdpError::Bpf(source),
        _ if mode == AttachMode::Native => XdpError::NoNative {
            interface,
            refusal: Box::new(NativeRefusal::explain(source, ifindex, program)),
        },
        _ => XdpError::Bpf(source),
    }
}
