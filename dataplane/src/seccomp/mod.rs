//! The last privilege to go: system calls.
//!
//! A worker reads what anybody sends it. Should somebody take it over that way, there is little to be had: it is an unprivileged user
//! without capabilities. What is left to try is the kernel itself, and every system call that is not there is one that has no bugs to use.
//! So when a worker has everything that it needs, a filter holds it and all of its threads to the calls that its work consists of.
//! `execve`, `bpf`, `ptrace` and three hundred others are not among them; the process that uses one is killed at once by SIGSYS,
//! which the manager names and counts. Files cannot be opened either, but that is answered with EPERM: the C library opens some of its
//! own accord (the allocator looks whether memory is overcommitted when it gives some back), and goes on without them.
//!
//! [`calls`] has the list and a reason for each. The filter cannot be taken off again, and holds for threads that are started later.

pub mod calls;

use crate::seccomp::calls::Network;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};
use std::collections::BTreeMap;
use tidegate_config::Seccomp;

/// Why there is no filter. The worker does not run then.
#[derive(Debug, thiserror::Error)]
#[error(
    "no filter for system calls: {0}; a kernel without CONFIG_SECCOMP_FILTER needs seccomp = \"off\" in [worker]"
)]
pub struct SeccompError(String);

fn error(error: impl std::fmt::Display) -> SeccompError {
    SeccompError(error.to_string())
}

/// Holds all threads of this process to the system calls of a worker.
pub fn confine(network: Network, mode: Seccomp) -> Result<(), SeccompError> {
    let otherwise = match mode {
        Seccomp::Kill => SeccompAction::KillProcess,
        Seccomp::Log => SeccompAction::Log,
        Seccomp::Off => return Ok(()),
    };
    // Of two filters the stricter answer counts. The one for files goes first: behind the other no filter can be added.
    for program in [files()?, program(network, otherwise)?] {
        seccompiler::apply_filter_all_threads(&program).map_err(error)?;
    }
    Ok(())
}

fn program(network: Network, otherwise: SeccompAction) -> Result<BpfProgram, SeccompError> {
    let allowed = calls::allowed(network).map_err(error)?;
    compile(allowed, otherwise, SeccompAction::Allow)
}

/// Answers whoever opens a file that this is not permitted.
fn files() -> Result<BpfProgram, SeccompError> {
    let opens = calls::opens().into_iter().collect();
    let refused = SeccompAction::Errno(nix::libc::EPERM as u32);
    compile(opens, SeccompAction::Allow, refused)
}

fn compile(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(error)?;
    let filter = SeccompFilter::new(calls, otherwise, action, arch);
    filter.map_err(error)?.try_into().map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_both_drivers_fit_what_the_kernel_takes() {
        for network in [Network::Packets, Network::Dpdk, Network::Sockets] {
            let length = program(network, SeccompAction::KillProcess).unwrap().len();
            // BPF_MAXINSNS
            assert!((50..4_096).contains(&length), "{network:?}: {length}");
        }
    }
}
