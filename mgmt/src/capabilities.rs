//! Which privileges `tidegate run` needs, and which it has.

/// A capability, its number, and what it is needed for.
struct Need {
    name: &'static str,
    bit: u32,
    why: &'static str,
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
        or: None,
    },
    Need {
        name: "CAP_NET_RAW",
        bit: 13,
        why: "to open AF_XDP sockets",
        or: None,
    },
    Need {
        name: "CAP_BPF",
        bit: 39,
        why: "to load the steering program",
        or: Some(CAP_SYS_ADMIN),
    },
    Need {
        name: "CAP_SETUID",
        bit: 7,
        why: "so that workers become an unprivileged user",
        or: None,
    },
    Need {
        name: "CAP_SETGID",
        bit: 6,
        why: "so that workers become an unprivileged group",
        or: None,
    },
    Need {
        name: "CAP_SYS_RESOURCE",
        bit: 24,
        why: "to raise RLIMIT_MEMLOCK for the packet buffers",
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

/// One line per capability that is missing from `effective`. A memory-lock limit that is large enough already needs no
/// capability.
pub fn missing(effective: u64, memory_lock_suffices: bool) -> Vec<String> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    NEEDS
        .iter()
        .filter(|need| !has(need.bit) && !need.or.is_some_and(has))
        .filter(|need| need.name != "CAP_SYS_RESOURCE" || !memory_lock_suffices)
        .map(|need| format!("missing capability {}: needed {}", need.name, need.why))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_misses_nothing_and_nobody_misses_everything_by_name() {
        let root =
            effective("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n").unwrap();
        assert!(missing(root, false).is_empty());
        let all = missing(0, false).join("\n");
        for need in NEEDS {
            assert!(all.contains(need.name), "{all}");
        }
        assert!(!missing(0, true).join("\n").contains("CAP_SYS_RESOURCE"));
    }

    #[test]
    fn a_larger_capability_will_do() {
        let sys_admin_and_ipc_lock = 1 << CAP_SYS_ADMIN | 1 << CAP_IPC_LOCK;
        let text = missing(sys_admin_and_ipc_lock, false).join("\n");
        assert!(
            !text.contains("CAP_BPF") && !text.contains("CAP_SYS_RESOURCE"),
            "{text}"
        );
        assert!(text.contains("CAP_NET_RAW"));
    }

    #[test]
    fn nonsense_is_no_answer() {
        assert_eq!(effective(""), None);
        assert_eq!(effective("CapEff:\tzz"), None);
        assert_eq!(user("Uid:\t1\n"), None);
        assert_eq!(user("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(0));
    }
}
