//! Which privileges `tidegate run` needs, and which it has.

use tidegate_config::{Config, Pmd};

/// A capability, its number, and what it is needed for.
struct Need {
    name: &'static str,
    bit: u32,
    why: &'static str,
    /// The same where DPDK has the ports.
    on_dpdk: &'static str,
    /// Another capability that includes it.
    or: Option<u32>,
}

const CAP_SYS_ADMIN: u32 = 21;

/// A capability that changing the machine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name.
    pub name: &'static str,
    /// What for.
    pub why: &'static str,
    bit: u32,
}

/// Over the network namespace.
pub const NET_ADMIN: Capability = Capability {
    name: "CAP_NET_ADMIN",
    why: "to change interfaces and reserved ports",
    bit: 12,
};

/// Over files of other users.
pub const DAC_OVERRIDE: Capability = Capability {
    name: "CAP_DAC_OVERRIDE",
    why: "to write files of /proc and /sys that are root's",
    bit: 1,
};

impl Capability {
    /// Whether it is among them.
    pub fn is_in(&self, effective: u64) -> bool {
        effective >> self.bit & 1 == 1
    }
}

const NEEDS: &[Need] = &[
    Need {
        name: "CAP_NET_ADMIN",
        bit: 12,
        why: "to attach the steering program, resolve neighbours and reserve ports",
        on_dpdk: "to set up DPDK's devices",
        or: None,
    },
    Need {
        name: "CAP_NET_RAW",
        bit: 13,
        why: "to open AF_XDP sockets",
        on_dpdk: "to open DPDK's devices",
        or: None,
    },
    Need {
        name: "CAP_BPF",
        bit: 39,
        why: "to load the steering program",
        on_dpdk: "to load the program of pmd = \"af_xdp\"",
        or: Some(CAP_SYS_ADMIN),
    },
    Need {
        name: "CAP_SETUID",
        bit: 7,
        why: "so that workers become an unprivileged user",
        on_dpdk: "so that workers become an unprivileged user",
        or: None,
    },
    Need {
        name: "CAP_SETGID",
        bit: 6,
        why: "so that workers become an unprivileged group",
        on_dpdk: "so that workers become an unprivileged group",
        or: None,
    },
    Need {
        name: "CAP_SYS_RESOURCE",
        bit: 24,
        why: "to raise RLIMIT_MEMLOCK for the packet buffers",
        on_dpdk: "to raise RLIMIT_MEMLOCK for the packet buffers",
        or: Some(CAP_IPC_LOCK),
    },
];

const CAP_IPC_LOCK: u32 = 14;

/// Whether `effective` lets a process lock as much memory as it likes.
pub fn locks_memory(effective: u64) -> bool {
    effective >> CAP_IPC_LOCK & 1 == 1
}

/// The effective capabilities in the text of `/proc/self/status`.
pub fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The effective user in the text of `/proc/self/status`.
pub fn user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Who opens the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// We, with AF_XDP.
    Afxdp,
    /// DPDK, on cards or over packet sockets.
    Dpdk,
    /// DPDK, and over AF_XDP one port at least.
    DpdkOverXdp,
}

impl Engine {
    /// That of a configuration whose ports are not the kernel's.
    pub fn of(config: &Config) -> Self {
        let mut pmds = config.ports.iter().filter_map(|port| port.dpdk.as_ref());
        match (config.is_on_dpdk(), pmds.any(|dpdk| dpdk.pmd == Pmd::AfXdp)) {
            (false, _) => Self::Afxdp,
            (true, false) => Self::Dpdk,
            (true, true) => Self::DpdkOverXdp,
        }
    }
}

/// One line per capability that is missing from `effective`. A memory-lock limit that is large enough already needs no
/// capability.
pub fn missing(engine: Engine, effective: u64, memory_lock_suffices: bool) -> Vec<String> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    let why = |need: &Need| match engine {
        Engine::Afxdp => need.why,
        Engine::Dpdk | Engine::DpdkOverXdp => need.on_dpdk,
    };
    NEEDS
        .iter()
        .filter(|need| !has(need.bit) && !need.or.is_some_and(has))
        .filter(|need| need.name != "CAP_SYS_RESOURCE" || !memory_lock_suffices)
        .filter(|need| need.name != "CAP_BPF" || engine != Engine::Dpdk)
        .map(|need| format!("missing capability {}: needed {}", need.name, why(need)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_misses_nothing_and_nobody_misses_everything_by_name() {
        let root =
            effective("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n").unwrap();
        assert!(missing(Engine::Afxdp, root, false).is_empty());
        let all = missing(Engine::Afxdp, 0, false).join("\n");
        for need in NEEDS {
            assert!(all.contains(need.name), "{all}");
        }
        assert!(
            !missing(Engine::Afxdp, 0, true)
                .join("\n")
                .contains("CAP_SYS_RESOURCE")
        );
    }

    #[test]
    fn a_larger_capability_will_do() {
        let sys_admin_and_ipc_lock = 1 << CAP_SYS_ADMIN | 1 << CAP_IPC_LOCK;
        let text = missing(Engine::Afxdp, sys_admin_and_ipc_lock, false).join("\n");
        assert!(
            !text.contains("CAP_BPF") && !text.contains("CAP_SYS_RESOURCE"),
            "{text}"
        );
        assert!(text.contains("CAP_NET_RAW"));
    }

    #[test]
    fn dpdk_needs_its_own_for_its_own_reasons() {
        let of_cards = missing(Engine::Dpdk, 0, true).join("\n");
        assert!(
            of_cards.contains("CAP_NET_RAW: needed to open DPDK's devices"),
            "{of_cards}"
        );
        for words in ["steering", "AF_XDP", "CAP_BPF"] {
            assert!(!of_cards.contains(words), "{of_cards}");
        }
        let over_xdp = missing(Engine::DpdkOverXdp, 0, true).join("\n");
        assert!(over_xdp.contains("CAP_BPF"), "{over_xdp}");
    }

    #[test]
    fn nonsense_is_no_answer() {
        assert_eq!(effective(""), None);
        assert_eq!(effective("CapEff:\tzz"), None);
        assert_eq!(user("Uid:\t1\n"), None);
        assert_eq!(user("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(0));
    }
}
