//! Where something runs: inside a namespace of the lab, or on this machine as it is.

use crate::netns::{Namespace, finish};
use anyhow::Result;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The user that programs become on this machine when the test runs as root: what needs no privileges gets none.
pub const NOBODY: u32 = 65_534;

/// A place for programs and threads.
#[derive(Clone, Debug)]
pub enum Host {
    /// A host of the lab.
    Namespace(Namespace),
    /// This machine, in the network namespace of the test itself.
    Here,
}

impl From<&Namespace> for Host {
    fn from(namespace: &Namespace) -> Self {
        Self::Namespace(namespace.clone())
    }
}

impl From<&Self> for Host {
    fn from(host: &Self) -> Self {
        host.clone()
    }
}

impl Host {
    /// Runs `work` there and returns its result; a panic of `work` continues in the caller.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self {
            Self::Namespace(namespace) => namespace.run(work),
            Self::Here => work(),
        }
    }

    /// A command that will run there; the pid of the child is the pid of the program. On this machine it runs without
    /// privileges, and ends when the thread that started it does, however that ends: nobody else would end it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let namespace = match self {
            Self::Namespace(namespace) => return namespace.command(program),
            Self::Here => Command::new("setpriv"),
        };
        let mut command = namespace;
        command.args(["--pdeathsig", "KILL"]);
        if nix::unistd::geteuid().is_root() && anybody_may_run(Path::new(program.as_ref())) {
            let nobody = NOBODY.to_string();
            command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Runs a shell script there; its failure is an error that carries what it printed.
    pub fn shell(&self, script: &str) -> Result<String> {
        finish(self.command("sh").args(["-euc", script]))
    }
}

/// Whether every user may run `program`: what was built below a home directory is often its owner's alone. A name without
/// a path is one of the distribution's programs.
fn anybody_may_run(program: &Path) -> bool {
    program
        .ancestors()
        .filter(|part| !part.as_os_str().is_empty() && program.is_absolute())
        .all(|part| {
            part.metadata()
                .is_ok_and(|what| what.permissions().mode() & 0o001 != 0)
        })
}
