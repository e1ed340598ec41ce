//! Pins the worker to its core.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Why the worker could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum AffinityError {
    /// No such core, or it is not ours to use.
    #[error(
        "core {core} is not available to this process; available: {available} (change the queue → core map: queues = {{ … }} or --map)"
    )]
    NoSuchCore {
        /// The core asked for.
        core: u32,
        /// Those that are there.
        available: String,
    },
    /// A system call failed.
    #[error("sched_setaffinity to core {core}: {error}")]
    System {
        /// The core asked for.
        core: u32,
        /// What the kernel said.
        error: Errno,
    },
}

/// The cores that this process may run on, ascending.
pub fn available_cores() -> Vec<u32> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|core| set.is_set(*core).unwrap_or(false))
        .map(|core| core as u32)
        .collect()
}

/// Cores as people write them: `0-3,8`.
pub fn core_list(cores: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = cores;
    while let [first, ..] = rest {
        let run = rest
            .iter()
            .zip(*first..)
            .take_while(|(core, expected)| **core == *expected)
            .count();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if run > 1 {
            text.push('-');
            text.push_str(&rest[run - 1].to_string());
        }
        rest = &rest[run..];
    }
    text
}

/// Runs on `core` alone from now on; threads made later inherit it.
pub fn pin(core: u32) -> Result<(), AffinityError> {
    let available = available_cores();
    let mut set = CpuSet::new();
    if !available.contains(&core) || set.set(core as usize).is_err() {
        return Err(AffinityError::NoSuchCore {
            core,
            available: core_list(&available),
        });
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| AffinityError::System { core, error })
}

/// The core that another process has alone; `None`: it may run on several, or is gone.
pub fn core_of(pid: u32) -> Option<u32> {
    let set = sched_getaffinity(Pid::from_raw(pid as i32)).ok()?;
    let mut cores = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false));
    let core = cores.next()?;
    cores.next().is_none().then_some(core as u32)
}

/// Puts every thread of another process on `core` alone.
pub fn pin_process(pid: u32, core: u32) -> Result<(), AffinityError> {
    let fault = |error| AffinityError::System { core, error };
    let mut set = CpuSet::new();
    set.set(core as usize).map_err(fault)?;
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads
        .map_err(|error| fault(Errno::from_raw(error.raw_os_error().unwrap_or_default())))?;
    for thread in threads.flatten() {
        let number = thread.file_name();
        if let Some(number) = number.to_str().and_then(|number| number.parse().ok()) {
            sched_setaffinity(Pid::from_raw(number), &set).map_err(fault)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_exist_is_named_with_those_that_do() {
        let error = pin(100_000).unwrap_err().to_string();
        let present = core_list(&available_cores());
        assert!(
            error.contains("core 100000") && error.contains(&present),
            "{error}"
        );
    }

    #[test]
    fn a_pinned_thread_has_its_core_alone() {
        let core = available_cores()[0];
        std::thread::spawn(move || {
            pin(core).unwrap();
            assert_eq!(available_cores(), [core]);
            let own = nix::unistd::gettid().as_raw() as u32;
            assert_eq!(core_of(own), Some(core));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn lists_of_cores_are_short() {
        assert_eq!(core_list(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        assert_eq!(core_list(&[5]), "5");
        assert_eq!(core_list(&[]), "");
    }
}
