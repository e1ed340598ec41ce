//! Maps: what user space and programs share.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::attr::{Attr, Command};
use super::{BpfError, info};

/// Kinds of `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Keys of any bytes.
    Hash = 1,
    /// Keys 0 to entries − 1, all present.
    Array = 2,
    /// An array with one value per possible CPU: a lookup returns all of them, each padded to eight bytes.
    PerCpuArray = 6,
    /// Queue → AF_XDP socket. Cannot be read from user space.
    XskMap = 17,
}

/// One map.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_bytes: usize,
    /// Bytes that a lookup returns and an update takes.
    value_bytes: usize,
}

impl Map {
    /// A new map; `name` is what `bpftool map` shows.
    pub fn create(
        kind: MapKind,
        name: &str,
        key_bytes: usize,
        value_bytes: usize,
        entries: u32,
    ) -> Result<Self, BpfError> {
        let attr = Attr::new()
            .u32(0, kind as u32)
            .u32(4, key_bytes as u32)
            .u32(8, value_bytes as u32)
            .u32(12, entries)
            .name(28, name);
        // SAFETY: the command takes no pointers and returns a descriptor.
        let fd = unsafe { attr.create(Command::MapCreate) }
            .map_err(|source| BpfError::new("create a BPF map", source))?;
        Ok(Self {
            fd,
            key_bytes,
            value_bytes: looked_up_bytes(kind, value_bytes),
        })
    }

    /// A map that another process made with the same arguments, and its identifier in the kernel.
    pub fn adopt(
        fd: OwnedFd,
        kind: MapKind,
        key_bytes: usize,
        value_bytes: usize,
        entries: u32,
    ) -> Result<(Self, u32), BpfError> {
        let found = info::of_map(fd.as_fd())?;
        let expected = info::MapInfo {
            kind: kind as u32,
            id: found.id,
            key_bytes: key_bytes as u32,
            value_bytes: value_bytes as u32,
            entries,
        };
        if found != expected {
            return Err(info::foreign("take over a BPF map: it is another one"));
        }
        let map = Self {
            fd,
            key_bytes,
            value_bytes: looked_up_bytes(kind, value_bytes),
        };
        Ok((map, found.id))
    }

    /// Bytes of a value, as user space sees it.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Adds or replaces an entry.
    pub fn update(&self, key: &[u8], value: &[u8]) -> Result<(), BpfError> {
        assert_eq!(
            (key.len(), value.len()),
            (self.key_bytes, self.value_bytes),
            "sizes of the map's entries"
        );
        let mut attr = Attr::new()
            .fd(0, self.fd.as_fd())
            .u64(8, key.as_ptr() as u64)
            .u64(16, value.as_ptr() as u64);
        // SAFETY: the kernel reads key and value, whose lengths were compared with the map's.
        unsafe { attr.call(Command::MapUpdate) }
            .map(drop)
            .map_err(|source| BpfError::new("write to a BPF map", source))
    }

    /// Copies an entry out; `false`: there is none.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool, BpfError> {
        assert_eq!(
            (key.len(), value.len()),
            (self.key_bytes, self.value_bytes),
            "sizes of the map's entries"
        );
        let mut attr = Attr::new()
            .fd(0, self.fd.as_fd())
            .u64(8, key.as_ptr() as u64)
            .u64(16, value.as_mut_ptr() as u64);
        // SAFETY: the kernel reads key and writes value, whose lengths were compared with the map's.
        found(
            unsafe { attr.call(Command::MapLookup) },
            "read from a BPF map",
        )
    }

    /// Removes an entry; `false`: there was none.
    pub fn delete(&self, key: &[u8]) -> Result<bool, BpfError> {
        assert_eq!(key.len(), self.key_bytes, "size of the map's keys");
        let mut attr = Attr::new()
            .fd(0, self.fd.as_fd())
            .u64(8, key.as_ptr() as u64);
        // SAFETY: the kernel reads key, whose length was compared with the map's.
        found(
            unsafe { attr.call(Command::MapDelete) },
            "delete from a BPF map",
        )
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn found(outcome: io::Result<i32>, action: &'static str) -> Result<bool, BpfError> {
    match outcome {
        Ok(_) => Ok(true),
        Err(source) if source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(source) => Err(BpfError::new(action, source)),
    }
}

/// Bytes that a lookup of a value of `value_bytes` brings.
fn looked_up_bytes(kind: MapKind, value_bytes: usize) -> usize {
    match kind {
        MapKind::PerCpuArray => value_bytes.next_multiple_of(8) * possible_cpus(),
        _ => value_bytes,
    }
}

/// The kernel's number of possible CPUs, from "0-3" or "0,2-5".
///
/// The kernel copies one value for each of them, so a number too small would let it write beyond the buffer: if the file
/// cannot be read, the largest number that Linux can be configured for is taken.
fn possible_cpus() -> usize {
    const CPUS_MAX: usize = 8_192;
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    count_cpus(&text).unwrap_or(CPUS_MAX)
}

fn count_cpus(text: &str) -> Option<usize> {
    let mut count = 0;
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(count_cpus("0-1\n"), Some(2));
        assert_eq!(count_cpus("0"), Some(1));
        assert_eq!(count_cpus("0,2-5,8"), Some(6));
        assert_eq!(count_cpus(""), None);
        assert_eq!(count_cpus("5-2"), None);
    }

    #[test]
    fn a_map_is_taken_over_only_as_what_it_is() {
        let create = || Map::create(MapKind::Hash, "tg_test", 4, 8, 2);
        let Some(map) = crate::test_support::privileged(create()) else {
            return;
        };
        map.update(&[1; 4], &[2; 8]).unwrap();
        let again = || map.as_fd().try_clone_to_owned().unwrap();
        let (same, _) = Map::adopt(again(), MapKind::Hash, 4, 8, 2).unwrap();
        let mut value = [0; 8];
        assert!(same.lookup(&[1; 4], &mut value).unwrap());
        assert_eq!(value, [2; 8]);
        for (kind, key, value, entries) in [
            (MapKind::Array, 4, 8, 2),
            (MapKind::Hash, 8, 8, 2),
            (MapKind::Hash, 4, 4, 2),
            (MapKind::Hash, 4, 8, 3),
        ] {
            assert!(Map::adopt(again(), kind, key, value, entries).is_err());
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Map::adopt(file.into(), MapKind::Hash, 4, 8, 2).is_err());
    }

    #[test]
    fn entries_can_be_added_read_and_removed() {
        let Some(map) =
            crate::test_support::privileged(Map::create(MapKind::Hash, "tg_test", 4, 8, 2))
        else {
            return;
        };
        let mut value = [0; 8];
        assert!(!map.lookup(&[1; 4], &mut value).unwrap());
        map.update(&[1; 4], &[2; 8]).unwrap();
        assert!(map.lookup(&[1; 4], &mut value).unwrap());
        assert_eq!(value, [2; 8]);
        assert!(map.delete(&[1; 4]).unwrap());
        assert!(!map.delete(&[1; 4]).unwrap());
        map.update(&[1; 4], &[2; 8]).unwrap();
        map.update(&[2; 4], &[2; 8]).unwrap();
        assert_eq!(
            map.update(&[3; 4], &[2; 8]).unwrap_err().errno(),
            Some(libc::E2BIG)
        );
    }
}
