//! The directory that DPDK makes for each of its processes.

use std::path::Path;

/// Where DPDK makes them for root.
const DIRECTORIES: &str = "/var/run/dpdk";

/// Removes the directory of a process that is gone, which nobody else has: it is called after the instance and the process.
pub fn remove(instance: &str, pid: u32) {
    remove_in(Path::new(DIRECTORIES), instance, pid);
}

fn remove_in(directories: &Path, instance: &str, pid: u32) {
    // One that is not empty stays: what is in it is not ours.
    let _not_empty_or_gone = std::fs::remove_dir(directories.join(format!("{instance}-{pid}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_empty_directory_of_the_process_is_removed() {
        let all = std::env::temp_dir().join(format!("tidegate-dpdk-{}", std::process::id()));
        for path in ["shop-7", "shop-71", "other-7", "shop-8/config"] {
            std::fs::create_dir_all(all.join(path)).unwrap();
        }
        for pid in [7, 8, 9] {
            remove_in(&all, "shop", pid);
        }
        let left =
            ["shop-7", "shop-71", "other-7", "shop-8/config"].map(|path| all.join(path).exists());
        assert_eq!(left, [false, true, true, true]);
        std::fs::remove_dir_all(&all).unwrap();
    }
}
