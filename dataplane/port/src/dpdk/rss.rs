//! Receive side scaling: the key of the hash, and the table from hash to queue.

use capsule_ffi as ffi;

use super::device::Device;
use super::error::{DpdkError, of_code};

/// Entries of one group of the table, as DPDK hands them over.
const GROUP: usize = ffi::RTE_ETH_RETA_GROUP_SIZE as usize;

/// Most bytes of a key: no card has more than 52.
const KEY_BYTES_MAX: usize = 64;

impl Device {
    /// The key of the Toeplitz hash.
    pub fn rss_key(&self) -> Result<Vec<u8>, DpdkError> {
        let mut key = vec![0; self.key_bytes()];
        let conf = self.hash_conf(&mut key)?;
        key.truncate(usize::from(conf.rss_key_len));
        Ok(key)
    }

    /// Whether the ports of TCP are hashed, over IPv4 and over IPv6. A device that hashes addresses alone sends all that two hosts have to
    /// say to each other to one queue.
    pub fn rss_hashes_ports(&self) -> Result<bool, DpdkError> {
        Ok(hashes_ports(self.hash_conf(&mut [])?.rss_hf))
    }

    /// Sets the key of the hash; what is hashed stays as it is.
    pub fn set_rss_key(&self, key: &[u8]) -> Result<(), DpdkError> {
        let expected = self.key_bytes();
        if key.len() != expected {
            return Err(DpdkError::RssShape {
                device: self.name().to_owned(),
                what: format!("a key of {expected} bytes"),
                given: key.len(),
            });
        }
        let mut conf = self.hash_conf(&mut [])?;
        let mut key = key.to_vec();
        conf.rss_key = key.as_mut_ptr();
        conf.rss_key_len = key.len() as u8;
        // SAFETY: the device is there, and copies the key.
        let code = unsafe { ffi::rte_eth_dev_rss_hash_update(self.id(), &raw mut conf) };
        self.rss_answer(code, "the key of the hash")
    }

    /// The queue of each entry of the table; the hash modulo its length chooses one.
    pub fn indirection(&self) -> Result<Vec<u16>, DpdkError> {
        let entries = self.table_entries()?;
        let mut groups = vec![ffi::rte_eth_rss_reta_entry64::default(); entries.div_ceil(GROUP)];
        for group in &mut groups {
            group.mask = u64::MAX;
        }
        // SAFETY: the device is there, and there are groups for all entries.
        let code = unsafe {
            ffi::rte_eth_dev_rss_reta_query(self.id(), groups.as_mut_ptr(), entries as u16)
        };
        self.rss_answer(code, "the indirection table")?;
        let queues = groups.iter().flat_map(|group| group.reta);
        Ok(queues.take(entries).collect())
    }

    /// Sets the whole table.
    pub fn set_indirection(&self, queues: &[u16]) -> Result<(), DpdkError> {
        let entries = self.table_entries()?;
        if queues.len() != entries {
            return Err(DpdkError::RssShape {
                device: self.name().to_owned(),
                what: format!("a table of {entries} entries"),
                given: queues.len(),
            });
        }
        let group = |queues: &[u16]| {
            let mut group = ffi::rte_eth_rss_reta_entry64 {
                mask: u64::MAX >> (GROUP - queues.len()),
                ..ffi::rte_eth_rss_reta_entry64::default()
            };
            group.reta[..queues.len()].copy_from_slice(queues);
            group
        };
        let mut groups: Vec<_> = queues.chunks(GROUP).map(group).collect();
        // SAFETY: the device is there, and there are groups for all entries.
        let code = unsafe {
            ffi::rte_eth_dev_rss_reta_update(self.id(), groups.as_mut_ptr(), entries as u16)
        };
        self.rss_answer(code, "the indirection table")
    }

    /// What is hashed, and the key, if there is room for one.
    fn hash_conf(&self, key: &mut [u8]) -> Result<ffi::rte_eth_rss_conf, DpdkError> {
        let mut conf = ffi::rte_eth_rss_conf::default();
        if !key.is_empty() {
            conf.rss_key = key.as_mut_ptr();
            conf.rss_key_len = key.len() as u8;
        }
        // SAFETY: the device is there, and there is no key, or one with as many bytes as it says.
        let code = unsafe { ffi::rte_eth_dev_rss_hash_conf_get(self.id(), &raw mut conf) };
        self.rss_answer(code, "the key of the hash")?;
        Ok(conf)
    }

    fn key_bytes(&self) -> usize {
        match usize::from(self.rss_key_bytes()) {
            // Drivers that do not say have Microsoft's.
            0 => 40,
            bytes => bytes.min(KEY_BYTES_MAX),
        }
    }

    fn table_entries(&self) -> Result<usize, DpdkError> {
        match usize::from(self.rss_table_entries()) {
            0 => Err(self.rss_unsupported("the indirection table")),
            entries => Ok(entries),
        }
    }

    fn rss_answer(&self, code: i32, what: &'static str) -> Result<(), DpdkError> {
        match code {
            0.. => Ok(()),
            _ if code == -libc::ENOTSUP => Err(self.rss_unsupported(what)),
            _ => Err(DpdkError::Call {
                action: "read or set the receive side scaling",
                device: self.name().to_owned(),
                source: of_code(code),
            }),
        }
    }

    fn rss_unsupported(&self, what: &'static str) -> DpdkError {
        DpdkError::RssUnsupported {
            device: self.name().to_owned(),
            driver: self.driver().to_owned(),
            what,
        }
    }
}

fn hashes_ports(hashed: u64) -> bool {
    [ffi::TIDEGATE_RSS_TCP_IPV4, ffi::TIDEGATE_RSS_TCP_IPV6]
        .iter()
        .all(|family| hashed & family != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_hashed_where_both_families_say_so() {
        assert!(hashes_ports(ffi::TIDEGATE_RSS_IP | ffi::TIDEGATE_RSS_TCP));
        assert!(!hashes_ports(ffi::TIDEGATE_RSS_IP));
        assert!(!hashes_ports(ffi::TIDEGATE_RSS_TCP_IPV4));
        assert!(!hashes_ports(ffi::TIDEGATE_RSS_TCP_IPV6));
        assert!(!hashes_ports(0));
    }
}
