//! A slice of a core for one process: the kernel lets it run so long in every period, and no longer.
//!
//! On a machine of two cores a second worker has no core of its own. With a slice for each process it is the proxies that are short of
//! time, not the clients and servers around them, and two processes can be compared with one.

use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// Short against what clients wait for a reply anyway, long against a clock tick of the accounting.
const PERIOD_US: u32 = 20_000;

/// Share of a core that a slice is: two of them and what the kernel does in softirqs for them fit on one core.
pub const PERCENT: u32 = 20;

/// A control group with a bandwidth limit. Dropping it takes the group away; its process has to be gone by then.
pub struct Slice {
    group: PathBuf,
}

impl Slice {
    /// Puts a process into a slice of its own.
    pub fn of(pid: i32) -> Result<Self> {
        let name = format!("tidegate-bench-{pid}");
        let (group, limits) = match hierarchy()? {
            Hierarchy::One(root) => (
                root.join(name),
                vec![
                    ("cpu.cfs_period_us", PERIOD_US.to_string()),
                    ("cpu.cfs_quota_us", quota_us().to_string()),
                ],
            ),
            Hierarchy::Unified(root) => (
                root.join(name),
                vec![("cpu.max", format!("{} {PERIOD_US}", quota_us()))],
            ),
        };
        fs::create_dir(&group).with_context(|| format!("cannot make {}", group.display()))?;
        let slice = Self { group };
        for (file, value) in limits {
            slice.write(file, &value)?;
        }
        slice.write("cgroup.procs", &pid.to_string())?;
        Ok(slice)
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let file = self.group.join(file);
        fs::write(&file, value).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
    }
}

fn quota_us() -> u32 {
    PERIOD_US * PERCENT / 100
}

enum Hierarchy {
    /// Version 1: the cpu controller's own.
    One(PathBuf),
    /// Version 2.
    Unified(PathBuf),
}

fn hierarchy() -> Result<Hierarchy> {
    let unified = PathBuf::from("/sys/fs/cgroup");
    let offered = fs::read_to_string(unified.join("cgroup.subtree_control")).unwrap_or_default();
    if offered.split_whitespace().any(|name| name == "cpu") {
        return Ok(Hierarchy::Unified(unified));
    }
    let one = unified.join("cpu");
    anyhow::ensure!(
        one.join("cpu.cfs_quota_us").exists() || one.join("cgroup.procs").exists(),
        "no control group limits CPU time here: neither /sys/fs/cgroup offers the cpu controller nor is there /sys/fs/cgroup/cpu"
    );
    Ok(Hierarchy::One(one))
}
