//! The `bpf()` system call, as far as the project needs it: maps, programs, links, test runs.
//!
//! Everything is owned: dropping a [`Map`], [`Program`] or [`Link`] closes its descriptor, and the kernel frees the object when
//! nothing else refers to it. A dropped link detaches its program.

pub mod asm;
mod attr;
mod info;
mod map;
mod program;

use std::io;

pub use map::{Map, MapKind};
pub use program::{ForeignProgram, Link, Program, ProgramKind, TestRun};

/// Why the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// EPERM.
    #[error(
        "no permission to {action}: CAP_BPF and CAP_NET_ADMIN are missing; run as root or grant them (setcap, systemd AmbientCapabilities=)"
    )]
    Capability {
        /// What was tried.
        action: &'static str,
    },
    /// The verifier did not accept the program: a mistake of ours, or a kernel too old for it.
    #[error("the kernel did not accept the program ({source}); its verifier says:\n{log}")]
    Verifier {
        /// The kernel's answer.
        source: io::Error,
        /// The verifier's log, as far as it fits.
        log: String,
    },
    /// Anything else.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl BpfError {
    fn new(action: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Capability { action },
            _ => Self::System { action, source },
        }
    }

    /// The number of the kernel's error, if it was not about permission.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Capability { .. } => Some(libc::EPERM),
            Self::Verifier { source, .. } | Self::System { source, .. } => source.raw_os_error(),
        }
    }
}
