//! What a process has to be allowed so that it can change a machine.

use crate::capabilities::{self, Capability};
use crate::host::Host;

/// The privilege that a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// A capability over the network namespace.
    Network,
    /// To write files that are root's.
    Files,
}

impl Privilege {
    fn capability(self) -> Capability {
        match self {
            Self::Network => capabilities::NET_ADMIN,
            Self::Files => capabilities::DAC_OVERRIDE,
        }
    }

    /// What is missing; `None`: nothing that this process could know of.
    pub fn missing(self, host: &dyn Host) -> Option<String> {
        let status = host.read("/proc/self/status").unwrap_or_default();
        let effective = capabilities::effective(&status).unwrap_or_default();
        if self == Self::Files && capabilities::user(&status) == Some(0) {
            return None;
        }
        let capability = self.capability();
        (!capability.is_in(effective)).then(|| {
            format!(
                "missing capability {}: needed {}; run it as root",
                capability.name, capability.why
            )
        })
    }

    /// What it means that the kernel refused.
    pub fn explain(self, host: &dyn Host) -> String {
        self.missing(host).unwrap_or_else(|| {
            format!(
                "refused although {} is there: it is that of a container (another user namespace), or a security module \
                 (AppArmor, SELinux, lockdown) forbids it; do it on the host",
                self.capability().name
            )
        })
    }
}
