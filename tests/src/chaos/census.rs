//! What a Tidegate at rest takes of the machine, to be compared over the length of a run.

use crate::appliance::Appliance;
use crate::lab::Lab;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Descriptors that a process may have more of at the end: a connection to a server that it had no reason for at the beginning.
const MORE_DESCRIPTORS: usize = 4;

/// Memory that a process may have more of: a quarter, and this. Buffers are reserved at the start, and touched when they are needed
/// for the first time.
const MORE_KIB: u64 = 8 * 1024;

/// What ended workers counted. It is there from the first end on.
const TOTALS: &str = "totals.json";

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Resident memory.
    pub rss_kib: u64,
    /// Open files.
    pub descriptors: usize,
}

/// All there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The manager and the workers, by name.
    pub processes: BTreeMap<String, Process>,
    /// Everything else, by name: BPF maps, programs and links, namespaces, files of the runtime directory.
    pub counts: BTreeMap<&'static str, usize>,
}

impl Census {
    /// Counts. Clients have to be gone.
    pub fn take(lab: &Lab, appliance: &mut Appliance) -> Result<Self> {
        let mut pids = vec![("manager".to_owned(), appliance.process().pid())];
        for worker in appliance.status()?.workers() {
            pids.push((format!("worker {}", worker.index), worker.pid));
        }
        let mut census = Self::default();
        let mut objects: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (name, pid) in pids {
            let process = look_at(pid, &mut objects).with_context(|| format!("the {name}"))?;
            census.processes.insert(name, process);
        }
        for (what, field) in [
            ("BPF maps", "map_id"),
            ("BPF programs", "prog_id"),
            ("BPF links", "link_id"),
        ] {
            let count = objects.get(field).map_or(0, BTreeSet::len);
            census.counts.insert(what, count);
        }
        let namespaces = names(Path::new("/run/netns"))?;
        let own = format!("{}-", lab.name());
        let own = namespaces.iter().filter(|name| name.starts_with(&own));
        census.counts.insert("network namespaces", own.count());
        let mut files = names(&appliance.runtime_directory())?;
        files.retain(|name| name != TOTALS);
        census.counts.insert("files at run time", files.len());
        Ok(census)
    }

    /// What has grown since `before`, in words.
    pub fn growth_since(&self, before: &Self) -> Vec<String> {
        let mut growth = Vec::new();
        for (name, now) in &self.processes {
            let Some(then) = before.processes.get(name) else {
                growth.push(format!("there is a {name} more"));
                continue;
            };
            if now.rss_kib > then.rss_kib + then.rss_kib / 4 + MORE_KIB {
                growth.push(format!(
                    "{name}: {} KiB of memory, {} before",
                    now.rss_kib, then.rss_kib
                ));
            }
            if now.descriptors > then.descriptors + MORE_DESCRIPTORS {
                growth.push(format!(
                    "{name}: {} descriptors, {} before",
                    now.descriptors, then.descriptors
                ));
            }
        }
        for (what, now) in &self.counts {
            let then = before.counts.get(what).copied().unwrap_or(0);
            if *now > then {
                growth.push(format!("{now} {what}, {then} before"));
            }
        }
        growth
    }

    /// Both, side by side, as lines of what, before and now.
    pub fn beside(&self, before: &Self) -> Vec<[String; 3]> {
        let mut lines = Vec::new();
        for (name, now) in &self.processes {
            let then = before.processes.get(name);
            let was = |field: fn(&Process) -> u64| then.map_or(0, field).to_string();
            let again = then.is_some_and(|then| then.pid != now.pid);
            let again = if again { ", another process" } else { "" };
            lines.push([
                format!("{name}, RSS in KiB{again}"),
                was(|process| process.rss_kib),
                now.rss_kib.to_string(),
            ]);
            lines.push([
                format!("{name}, descriptors{again}"),
                was(|process| process.descriptors as u64),
                now.descriptors.to_string(),
            ]);
        }
        for (what, now) in &self.counts {
            let then = before.counts.get(what).copied().unwrap_or(0);
            lines.push([(*what).to_owned(), then.to_string(), now.to_string()]);
        }
        lines
    }
}

fn look_at(pid: i32, objects: &mut BTreeMap<&'static str, BTreeSet<String>>) -> Result<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let directory = format!("/proc/{pid}/fdinfo");
    let descriptors = names(Path::new(&directory))?;
    for descriptor in &descriptors {
        // One that was closed meanwhile is none.
        let text = fs::read_to_string(format!("{directory}/{descriptor}")).unwrap_or_default();
        note_objects(&text, objects);
    }
    Ok(Process {
        pid,
        rss_kib: rss.context("/proc tells no resident memory")?,
        descriptors: descriptors.len(),
    })
}

/// A descriptor of a BPF object says which one it is; several processes hold the same.
fn note_objects(info: &str, objects: &mut BTreeMap<&'static str, BTreeSet<String>>) {
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    // A link says which program it holds, too.
    for name in ["map_id", "link_id", "prog_id"] {
        if let Some(id) = field(name) {
            objects.entry(name).or_default().insert(id);
        }
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot look into {}", directory.display()))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(rss_kib: u64, descriptors: usize, maps: usize) -> Census {
        let process = Process {
            pid: 1,
            rss_kib,
            descriptors,
        };
        Census {
            processes: [("worker 0".to_owned(), process)].into(),
            counts: [("BPF maps", maps)].into(),
        }
    }

    #[test]
    fn growth_is_named_and_noise_is_not() {
        let before = census(100_000, 20, 5);
        let none = Vec::<String>::new();
        assert_eq!(census(110_000, 22, 5).growth_since(&before), none);
        assert_eq!(census(90_000, 10, 4).growth_since(&before), none);
        assert_eq!(census(200_000, 40, 6).growth_since(&before).len(), 3);
        assert_eq!(before.growth_since(&Census::default()).len(), 2);
    }

    #[test]
    fn objects_that_several_hold_are_counted_once() {
        let mut objects = BTreeMap::new();
        for _ in 0..2 {
            note_objects("pos:\t0\nmap_type:\t1\nmap_id:\t7\n", &mut objects);
            note_objects("link_type:\txdp\nlink_id:\t3\nprog_id:\t9\n", &mut objects);
        }
        note_objects("map_id:\t8\n", &mut objects);
        let count = |field| objects[field].len();
        assert_eq!(
            (count("map_id"), count("link_id"), count("prog_id")),
            (2, 1, 1)
        );
    }

    #[test]
    fn a_process_can_be_looked_at() {
        let own = look_at(std::process::id() as i32, &mut BTreeMap::new()).unwrap();
        assert!(own.rss_kib > 0 && own.descriptors > 2, "{own:?}");
    }
}
