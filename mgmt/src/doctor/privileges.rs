//! What this process may do. `tidegate run` started the same way may do the same.

use super::{Findings, Patient};
use crate::capabilities::{self, Engine};
use crate::sockets::limits;

const ABOUT: &str = "privileges";

pub fn look(patient: &Patient<'_>, findings: &mut Findings) {
    let Some(config) = patient.config else { return };
    let read = |path: &str| patient.host.read(path).unwrap_or_default();
    let (status, limits_text) = (read("/proc/self/status"), read("/proc/self/limits"));
    if config.kernel_port().is_none() {
        let unlimited = hard_limit(&limits_text, "Max locked memory") == Some(u64::MAX);
        let effective = capabilities::effective(&status).unwrap_or_default();
        for missing in capabilities::missing(Engine::of(config), effective, unlimited) {
            findings.blocks(
                ABOUT,
                missing,
                "start `tidegate run` as root, or grant it (systemd AmbientCapabilities=)",
            );
        }
        return;
    }
    if let Some(limit) = hard_limit(&limits_text, "Max open files")
        && let Some(too_few) = limits::too_few(config, limit)
    {
        findings.slower(ABOUT, too_few, "");
    }
}

/// The hard limit in a line of `/proc/self/limits`; `u64::MAX`: none.
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}
