//! Keeps the workers' source ports from the kernel.
//!
//! The kernel would otherwise give the same port to a connection of its own from the same address, and the steering program
//! would take that connection's frames away. `net.ipv4.ip_local_reserved_ports` (it holds for IPv6 too) is a list like
//! `8080,40000-49999`, to which we add our range and from which we take away, at the end, exactly what we added.

use std::io;
use std::path::Path;

/// Where the kernel keeps the list; it is per network namespace.
pub const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// A set of ports.
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet(Vec<bool>);

impl PortSet {
    /// No port.
    pub fn empty() -> Self {
        Self(vec![false; 65_536])
    }

    /// The ports from `first` to `last`.
    pub fn range((first, last): (u16, u16)) -> Self {
        let mut set = Self::empty();
        for port in first..=last {
            set.0[usize::from(port)] = true;
        }
        set
    }

    /// Reads the kernel's way of writing; what is not a port or a range is left out.
    pub fn parse(text: &str) -> Self {
        let mut set = Self::empty();
        for item in text.split(',').map(str::trim) {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
                set = set.with(&Self::range((first, last)));
            }
        }
        set
    }

    /// Both sets together.
    pub fn with(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(one, other)| *one || *other)
                .collect(),
        )
    }

    /// This set without the ports of the other.
    pub fn without(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(one, other)| *one && !*other)
                .collect(),
        )
    }
}

impl std::fmt::Display for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        let mut port = 0;
        while port < self.0.len() {
            let run = self.0[port..].iter().take_while(|taken| **taken).count();
            match run {
                0 => {}
                1 => write!(f, "{separator}{port}")?,
                _ => write!(f, "{separator}{port}-{}", port + run - 1)?,
            }
            if run > 0 {
                separator = ",";
            }
            port += run + 1;
        }
        Ok(())
    }
}

impl std::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Adds `ports` to the kernel's list; returns what was not in it before, which is what [`release`] has to take away.
pub fn reserve(file: &Path, ports: (u16, u16)) -> io::Result<PortSet> {
    let before = PortSet::parse(&std::fs::read_to_string(file)?);
    let added = PortSet::range(ports).without(&before);
    std::fs::write(file, format!("{}\n", before.with(&added)))?;
    Ok(added)
}

/// Takes `added` away from the kernel's list again, whatever others did to it meanwhile.
pub fn release(file: &Path, added: &PortSet) -> io::Result<()> {
    let now = PortSet::parse(&std::fs::read_to_string(file)?);
    std::fs::write(file, format!("{}\n", now.without(added)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for text in ["", "80", "8080,40000-49999", "0-65535", "1,3,5-6"] {
            assert_eq!(PortSet::parse(text).to_string(), text);
        }
        assert_eq!(PortSet::parse("5,4,3\n").to_string(), "3-5");
        assert_eq!(PortSet::parse("nonsense,70000,9-7,8").to_string(), "8");
    }

    #[test]
    fn merging_keeps_what_others_reserved_and_taking_away_too() {
        let before = PortSet::parse("8080,41000-41010");
        let ours = PortSet::range((40_000, 42_000));
        let merged = before.with(&ours);
        assert_eq!(merged.to_string(), "8080,40000-42000");
        let added = ours.without(&before);
        assert_eq!(added.to_string(), "40000-40999,41011-42000");
        assert_eq!(merged.without(&added), before);
    }

    #[test]
    fn a_change_by_others_meanwhile_survives_the_release() {
        let file = std::env::temp_dir().join(format!("tidegate-reserved-{}", std::process::id()));
        std::fs::write(&file, "22\n").unwrap();
        let added = reserve(&file, (40_000, 40_001)).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "22,40000-40001\n");
        std::fs::write(&file, "22,9000,40000-40001\n").unwrap();
        release(&file, &added).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "22,9000\n");
        std::fs::remove_file(&file).unwrap();
    }
}
