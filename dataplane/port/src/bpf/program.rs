//! Programs, their attachment, and running them on made-up packets.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::attr::{Attr, Command};
use super::{BpfError, info};

/// Room for the verifier's explanation of a program of a few hundred instructions.
const LOG_BYTES: usize = 1 << 18;

/// The project's own. Helpers that the kernel reserves to programs under the GPL are not used.
const LICENSE: &std::ffi::CStr = c"MIT OR Apache-2.0";

/// `BPF_LINK_TYPE_XDP` of `enum bpf_link_type`.
const LINK_TYPE_XDP: u32 = 6;

/// Kinds of `enum bpf_prog_type`, with the place they attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// In or right behind the driver.
    Xdp,
    /// tcx, on frames that leave an interface.
    TcxEgress,
    /// tcx, on frames that an interface received.
    TcxIngress,
}

impl ProgramKind {
    /// `BPF_PROG_TYPE_*`.
    fn program_type(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::TcxEgress | Self::TcxIngress => 3,
        }
    }

    /// `BPF_XDP`, `BPF_TCX_EGRESS`, `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
    fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::TcxEgress => 47,
            Self::TcxIngress => 46,
        }
    }
}

/// A program that the verifier has accepted.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    kind: ProgramKind,
}

/// What a program did to one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// The program's return value, for XDP the action.
    pub action: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
}

impl Program {
    /// Loads instructions, as made by [`super::asm::Assembler`].
    pub fn load(kind: ProgramKind, name: &str, instructions: &[u64]) -> Result<Self, BpfError> {
        let attr = || {
            Attr::new()
                .u32(0, kind.program_type())
                .u32(4, instructions.len() as u32)
                .u64(8, instructions.as_ptr() as u64)
                .u64(16, LICENSE.as_ptr() as u64)
                .name(48, name)
                .u32(68, kind.attach_type())
        };
        // SAFETY: instructions and licence are live and as long as said; the command returns a descriptor.
        let source = match unsafe { attr().create(Command::ProgramLoad) } {
            Ok(fd) => return Ok(Self { fd, kind }),
            Err(source) => source,
        };
        if source.raw_os_error() == Some(libc::EPERM) {
            return Err(BpfError::new("load a BPF program", source));
        }
        // Only a refused program is worth the verifier's time to explain itself.
        let mut log = vec![0u8; LOG_BYTES];
        let explain = attr()
            .u32(24, 1)
            .u32(28, LOG_BYTES as u32)
            .u64(32, log.as_mut_ptr() as u64);
        // SAFETY: as above; the log is live and as long as said.
        match unsafe { explain.create(Command::ProgramLoad) } {
            Ok(fd) => Ok(Self { fd, kind }),
            Err(source) => {
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                let log = String::from_utf8_lossy(&log[..end]).into_owned();
                Err(BpfError::Verifier { source, log })
            }
        }
    }

    /// A program that another process loaded, which has to use the maps with all these identifiers.
    pub fn adopt(fd: OwnedFd, kind: ProgramKind, map_ids: &[u32]) -> Result<Self, BpfError> {
        let found = info::of_program(fd.as_fd())?;
        let uses_all = map_ids.iter().all(|id| found.map_ids.contains(id));
        if found.kind != kind.program_type() || !uses_all {
            return Err(info::foreign(
                "take over a BPF program: it is another one, or has other maps",
            ));
        }
        Ok(Self { fd, kind })
    }

    /// Attaches the program to an interface until the link is dropped. `flags` are those of `BPF_LINK_CREATE`: for XDP the
    /// mode.
    pub fn attach(&self, ifindex: u32, flags: u32) -> Result<Link, BpfError> {
        let attr = Attr::new()
            .fd(0, self.fd.as_fd())
            .u32(4, ifindex)
            .u32(8, self.kind.attach_type())
            .u32(12, flags);
        // SAFETY: the command takes no pointers and returns a descriptor.
        let fd = unsafe { attr.create(Command::LinkCreate) }
            .map_err(|source| BpfError::new("attach a BPF program to an interface", source))?;
        Ok(Link { fd })
    }

    /// Keeps the program loaded, for other tools to attach, until the file (on a bpffs) is removed.
    pub fn pin(&self, path: &Path) -> Result<(), BpfError> {
        pin(
            self.fd.as_fd(),
            path,
            "pin a BPF program (is a bpffs mounted there?)",
        )
    }

    /// Runs the program on a packet, as if it had arrived on queue 0 of the loopback interface.
    pub fn test_run(&self, packet: &[u8]) -> Result<TestRun, BpfError> {
        // The program may make the packet longer, by at most the kernel's headroom.
        let mut after = vec![0u8; packet.len() + 512];
        let mut attr = Attr::new()
            .fd(0, self.fd.as_fd())
            .u32(8, packet.len() as u32)
            .u32(12, after.len() as u32)
            .u64(16, packet.as_ptr() as u64)
            .u64(24, after.as_mut_ptr() as u64)
            .u32(32, 1);
        // SAFETY: both buffers are live and as long as said.
        unsafe { attr.call(Command::ProgramTestRun) }
            .map_err(|source| BpfError::new("run a BPF program on a test packet", source))?;
        after.truncate(attr.get_u32(12) as usize);
        Ok(TestRun {
            action: attr.get_u32(4),
            packet: after,
        })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A program of whoever loaded it, to be looked at.
#[derive(Debug)]
pub struct ForeignProgram {
    fd: OwnedFd,
    name: String,
    loaded: Duration,
}

impl ForeignProgram {
    /// The program with this number; `None`: there is none any more.
    pub fn by_id(id: u32) -> Result<Option<Self>, BpfError> {
        let attr = Attr::new().u32(0, id);
        // SAFETY: the command takes no pointers and returns a descriptor.
        match unsafe { attr.create(Command::ProgramById) } {
            Ok(fd) => {
                let found = info::of_program(fd.as_fd())?;
                Ok(Some(Self {
                    fd,
                    name: found.name,
                    loaded: found.loaded,
                }))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(BpfError::new("look at a BPF program", error)),
        }
    }

    /// What it is called, as far as the kernel keeps that: 15 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was loaded, counted from the start of the machine.
    pub fn loaded(&self) -> Duration {
        self.loaded
    }
}

impl AsFd for ForeignProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A program attached to an interface. Dropping it detaches, unless it is pinned.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl Link {
    /// A link that another process made, which has to keep `program` attached to the interface, for XDP.
    pub fn adopt(fd: OwnedFd, program: &Program, ifindex: u32) -> Result<Self, BpfError> {
        let found = info::of_link(fd.as_fd())?;
        let expected = info::LinkInfo {
            kind: LINK_TYPE_XDP,
            program_id: info::of_program(program.as_fd())?.id,
            ifindex,
        };
        if found != expected {
            return Err(info::foreign(
                "take over the attachment of a BPF program: it is another one, or the interface is gone",
            ));
        }
        Ok(Self { fd })
    }

    /// Keeps the program attached after this process, until the file (on a bpffs) is removed.
    pub fn pin(&self, path: &Path) -> Result<(), BpfError> {
        pin(
            self.fd.as_fd(),
            path,
            "pin a BPF link (is a bpffs mounted there?)",
        )
    }
}

fn pin(object: BorrowedFd<'_>, path: &Path, action: &'static str) -> Result<(), BpfError> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| {
        BpfError::new(action, io::Error::new(io::ErrorKind::InvalidInput, error))
    })?;
    let mut attr = Attr::new().u64(0, path.as_ptr() as u64).fd(8, object);
    // SAFETY: the path is a live C string.
    unsafe { attr.call(Command::ObjectPin) }
        .map(drop)
        .map_err(|source| BpfError::new(action, source))
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::asm::{Assembler, Reg};

    #[test]
    fn a_refused_program_comes_with_the_verifiers_words() {
        let mut asm = Assembler::new();
        asm.load_u64(Reg::R0, Reg::R3, 0);
        asm.exit();
        let Err(error) = Program::load(ProgramKind::Xdp, "tg_test", &asm.finish()) else {
            panic!("a program that reads an unset register was accepted");
        };
        if crate::test_support::has_net_admin() {
            assert!(
                matches!(&error, BpfError::Verifier { log, .. } if log.contains("R3 !read_ok")),
                "{error}"
            );
        } else {
            assert!(
                matches!(
                    &error,
                    BpfError::Capability { .. } | BpfError::Verifier { .. }
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn a_program_runs_on_a_test_packet() {
        let mut asm = Assembler::new();
        asm.set(Reg::R0, 2);
        asm.exit();
        let program = Program::load(ProgramKind::Xdp, "tg_test", &asm.finish());
        let Some(program) = crate::test_support::privileged(program) else {
            return;
        };
        assert_eq!(
            program.test_run(&[7; 60]).unwrap(),
            TestRun {
                action: 2,
                packet: vec![7; 60]
            }
        );
    }
}
