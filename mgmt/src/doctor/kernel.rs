//! The kernel: its version, and what it was built and started with.

use super::{Findings, Patient};
use crate::host::value;

const ABOUT: &str = "kernel";
/// The oldest Linux that Tidegate runs on.
const OLDEST: (u32, u32) = (5, 11);

pub fn look(patient: &Patient<'_>, findings: &mut Findings) {
    let host = patient.host;
    let release = value(host, "/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_some_and(|version| version < OLDEST) {
        let (major, minor) = OLDEST;
        findings.blocks(
            ABOUT,
            format!("Linux {release} is older than {major}.{minor}"),
            "update the kernel",
        );
    }
    if patient.uses_afxdp() == Some(false) {
        return;
    }
    let certain = patient.uses_afxdp() == Some(true);
    let mut lacks = |what: &str, mend: &str| {
        let mend = format!("{mend}, or use driver = \"kernel\"");
        if certain {
            findings.blocks(ABOUT, what, mend);
        } else {
            findings.slower(ABOUT, format!("{what}: no driver = \"afxdp\""), mend);
        }
    };
    let protocols = host.read("/proc/net/protocols").unwrap_or_default();
    let knows = |name: &str| {
        protocols
            .lines()
            .any(|line| line.split_whitespace().next() == Some(name))
    };
    if !protocols.is_empty() && !knows("XDP") {
        lacks(
            "this kernel has no AF_XDP sockets",
            "use a kernel with CONFIG_XDP_SOCKETS",
        );
    }
    let bpf = "/proc/sys/kernel/unprivileged_bpf_disabled";
    if !release.is_empty()
        && host
            .read(bpf)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        lacks(
            "this kernel loads no BPF programs",
            "use a kernel with CONFIG_BPF_SYSCALL",
        );
    }
    if value(host, "/proc/sys/net/core/bpf_jit_enable").as_deref() == Some("0") {
        findings.slower(
            ABOUT,
            "BPF programs are interpreted, the steering program for every frame too",
            "sysctl net.core.bpf_jit_enable=1",
        );
    }
    let lockdown = value(host, "/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        findings.slower(
            ABOUT,
            "the kernel is locked down (confidentiality): those of some distributions then refuse BPF programs, even to root",
            "if `tidegate run` is refused: start the kernel with lockdown=integrity, or use driver = \"kernel\"",
        );
    }
}

/// Major and minor of `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
