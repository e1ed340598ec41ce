//! DPDK's own drivers: libraries in a directory, each of which says in itself which cards it knows.
//!
//! A library has a text for each of its drivers, in JSON, behind a word that DPDK's build puts there (`dpdk-pmdinfo.py` prints it). So it
//! can be told whether DPDK will find a driver for a card without starting DPDK, and without being built with it.

use crate::host::Host;
use serde::Deserialize;

/// What the directory of the drivers is called. It is that of DPDK 22.11: another release does not load these, nor we another release.
const DIRECTORY: &str = "pmds-23.0";
/// How the names of the libraries end that are loaded.
const ENDING: &str = ".so.23.0";
/// Where libraries are; below the first two a machine may have a directory for each architecture.
const LIBRARIES: [&str; 4] = [
    "/usr/local/lib",
    "/usr/lib",
    "/usr/local/lib64",
    "/usr/lib64",
];
/// Stands before the text of a driver.
const MARK: &[u8] = b"PMD_INFO_STRING= ";
/// Largest library that is looked into. Why: the largest have some megabytes. Too low: a card looks unknown. Too high: what is no
/// library is read.
const LIBRARY_BYTES_MAX: u64 = 64 << 20;

/// What a driver says of itself.
#[derive(Deserialize)]
struct Driver {
    /// Vendor, device, and those of the subsystem.
    #[serde(default)]
    pci_ids: Vec<Vec<u32>>,
}

/// Where DPDK's drivers are; `None`: they are not installed.
pub fn directory(host: &dyn Host) -> Option<String> {
    let here = LIBRARIES.iter().map(|library| (*library).to_owned());
    let below = LIBRARIES.iter().flat_map(|library| {
        let entries = host.list(library).into_iter();
        entries.map(move |entry| format!("{library}/{entry}"))
    });
    let places = here.chain(below).map(|place| format!("{place}/dpdk"));
    places
        .filter(|place| host.list(place).iter().any(|entry| entry == DIRECTORY))
        .map(|place| format!("{place}/{DIRECTORY}"))
        .next()
}

/// Whether one of the drivers there knows this vendor and device.
pub fn know(host: &dyn Host, directory: &str, id: (u32, u32)) -> bool {
    let libraries = host.list(directory).into_iter();
    libraries
        .filter(|library| library.ends_with(ENDING))
        .filter_map(|library| host.bytes(&format!("{directory}/{library}"), LIBRARY_BYTES_MAX))
        .any(|library| drivers(&library).any(|driver| driver.knows(id)))
}

impl Driver {
    fn knows(&self, (vendor, device): (u32, u32)) -> bool {
        self.pci_ids
            .iter()
            .any(|id| id.starts_with(&[vendor, device]))
    }
}

/// The drivers of a library. Texts that cannot be read are none.
fn drivers(mut library: &[u8]) -> impl Iterator<Item = Driver> {
    std::iter::from_fn(move || {
        loop {
            // The first byte alone is found much faster.
            let next = library.iter().position(|byte| *byte == MARK[0])?;
            library = &library[next..];
            let Some(text) = library.strip_prefix(MARK) else {
                library = &library[1..];
                continue;
            };
            let end = text
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(text.len());
            library = &text[end..];
            if let Ok(driver) = serde_json::from_slice(&text[..end]) {
                return Some(driver);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    const INSTALLED: &str = "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0";

    #[test]
    fn a_card_is_known_to_the_driver_that_says_so() {
        let host = FakeHost::new("pmds");
        assert_eq!(directory(&host), None);
        host.file(
            &format!("{INSTALLED}/librte_net_i40e.so.23.0"),
            "\u{7f}ELF P PMD_INFO_STRING= {\"name\": \"net_null\", \"params\": \"x\"}\0 PMD_INFO_STRING= no\0\
             PMD_INFO_STRING= {\"name\": \"net_i40e\", \"pci_ids\": [[32902, 5490, 65535, 65535], [1]]}",
        );
        host.file(
            &format!("{INSTALLED}/librte_net_ice.so.23"),
            "PMD_INFO_STRING= {\"pci_ids\": [[32902, 5522, 65535, 65535]]}\0",
        );
        let found = directory(&host).unwrap();
        assert_eq!(found, format!("/{INSTALLED}"));
        assert!(know(&host, &found, (0x8086, 0x1572)));
        assert!(!know(&host, &found, (0x8086, 0x1592)), "not loaded");
        assert!(!know(&host, &found, (1, 0)));
    }
}
