//! What an interface is: addresses, queues, how it spreads flows.
//!
//! Everything is asked with ioctls in the network namespace of the calling thread. `/sys/class/net` may belong to another
//! namespace (it shows the one in which it was mounted), so it is read only for what no ioctl tells, and only if it shows the
//! same interface.

mod ioctl;
pub mod settings;
pub mod virtio;

use std::ffi::CStr;
use std::io;

use ioctl::Query;
use virtio::Virtio;

/// Why an interface could not be described.
#[derive(Debug, thiserror::Error)]
pub enum NicError {
    /// The name is not one of an interface.
    #[error("interface {name} does not exist; present: {}", present.join(", "))]
    Missing {
        /// What was asked for.
        name: String,
        /// The names of this namespace.
        present: Vec<String>,
    },
    /// Not Ethernet.
    #[error(
        "interface {name} is not Ethernet: Tidegate needs a NIC, veth or TAP with a MAC address"
    )]
    NotEthernet {
        /// The interface.
        name: String,
    },
    /// Anything else.
    #[error("cannot read {what} of interface {name}: {source}")]
    System {
        /// What was asked.
        what: &'static str,
        /// The interface.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// How a NIC computes the hash that chooses a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssFunction {
    /// Microsoft's, over addresses and ports.
    Toeplitz,
    /// Another one (XOR, CRC32, …), by the kernel's bit mask.
    Other(u8),
}

/// Receive side scaling: hash of the flow modulo the table's length → entry of the table → queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// The hash.
    pub function: RssFunction,
    /// Its key.
    pub key: Vec<u8>,
    /// Queues.
    pub indirection: Vec<u32>,
}

/// One interface, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u32,
    /// Address.
    pub mac: [u8; 6],
    /// Largest IP packet.
    pub mtu_bytes: usize,
    /// Set up by the administrator (`ip link set … up`).
    pub is_up: bool,
    /// Operational, in the sense of RFC 2863: up, and there is a carrier.
    pub is_running: bool,
    /// Driver, if it says.
    pub driver: Option<String>,
    /// Receive queues in use (`ethtool -l`): combined and receive-only channels.
    pub rx_queues: u32,
    /// Receive queues that could be in use.
    pub rx_queues_max: u32,
    /// `None`: the driver does not tell (veth, TAP), or spreads nothing.
    pub rss: Option<Rss>,
    /// What a device of virtio_net and its driver agreed on. `None`: another driver, or nobody tells.
    pub virtio: Option<Virtio>,
    /// The memory node next to the NIC. `None`: a machine with one node, or a virtual interface.
    pub numa_node: Option<u32>,
}

/// Whether the interface is up and has a carrier; `None`: it is not there.
pub fn is_running(name: &str) -> Option<bool> {
    let flags = Query::new(name).ok()??.flags().ok()?;
    Some(flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0)
}

impl Nic {
    /// Describes the interface.
    pub fn by_name(name: &str) -> Result<Self, NicError> {
        let system = |what| {
            move |source| NicError::System {
                what,
                name: name.to_owned(),
                source,
            }
        };
        let query = Query::new(name)
            .map_err(system("anything"))?
            .ok_or_else(|| NicError::Missing {
                name: name.to_owned(),
                present: names(),
            })?;
        let ifindex = match query.index() {
            Ok(index) => index,
            Err(source) if source.raw_os_error() == Some(libc::ENODEV) => {
                return Err(NicError::Missing {
                    name: name.to_owned(),
                    present: names(),
                });
            }
            Err(source) => return Err(system("the index")(source)),
        };
        let flags = query.flags().map_err(system("the flags"))?;
        let (hardware, mac) = query.hardware_address().map_err(system("the address"))?;
        if hardware != libc::ARPHRD_ETHER || flags & libc::IFF_LOOPBACK != 0 {
            return Err(NicError::NotEthernet {
                name: name.to_owned(),
            });
        }
        let channels = query.channels().unwrap_or_default();
        let (rx_queues, rx_queues_max) = channels
            .and_then(|channels| channels.rx_queues())
            .unwrap_or_else(|| sysfs_rx_queues(name, ifindex));
        let driver = query.driver();
        let features = match driver.as_deref() {
            Some(virtio::DRIVER) => sysfs(name, ifindex, "device/features"),
            _ => None,
        };
        Ok(Self {
            name: name.to_owned(),
            ifindex,
            mac,
            mtu_bytes: query.mtu().map_err(system("the MTU"))?,
            is_up: flags & libc::IFF_UP != 0,
            is_running: flags & libc::IFF_RUNNING != 0,
            virtio: features.and_then(|features| Virtio::read(&features)),
            driver,
            rx_queues,
            rx_queues_max,
            rss: query.rss(),
            numa_node: sysfs(name, ifindex, "device/numa_node")
                .and_then(|node| node.trim().parse().ok()),
        })
    }
}

/// The names of all interfaces of this namespace.
pub fn names() -> Vec<String> {
    // SAFETY: returns a list that is ours until it is freed, or null.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut next = list;
    // SAFETY: the list ends with an entry whose name is null; the names before are C strings.
    unsafe {
        while !(*next).if_name.is_null() {
            names.push(
                CStr::from_ptr((*next).if_name)
                    .to_string_lossy()
                    .into_owned(),
            );
            next = next.add(1);
        }
        libc::if_freenameindex(list);
    }
    names
}

/// The name of an interface of this namespace.
pub fn name_of(ifindex: u32) -> Option<String> {
    let mut name = [0u8; libc::IFNAMSIZ];
    // SAFETY: the buffer has the length that the function asks for.
    let found = unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    Some(
        CStr::from_bytes_until_nul(&name)
            .ok()?
            .to_string_lossy()
            .into_owned(),
    )
}

/// One file of the interface, if sysfs shows this namespace.
fn sysfs(name: &str, ifindex: u32, file: &str) -> Option<String> {
    let read = |file: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok();
    let shown: u32 = read("ifindex")?.trim().parse().ok()?;
    if shown == ifindex { read(file) } else { None }
}

/// The number of queues of a driver without channels. One is what every interface has.
fn sysfs_rx_queues(name: &str, ifindex: u32) -> (u32, u32) {
    let count = sysfs(name, ifindex, "ifindex").map_or(0, |_| {
        let queues = std::fs::read_dir(format!("/sys/class/net/{name}/queues"))
            .into_iter()
            .flatten()
            .flatten();
        queues
            .filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-"))
            .count() as u32
    });
    (count.max(1), count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_an_error_that_lists_those_present() {
        for name in [
            "tg-nowhere0",
            "a-name-that-is-longer-than-15",
            "with/slash",
            "",
        ] {
            let error = Nic::by_name(name).unwrap_err();
            assert!(matches!(&error, NicError::Missing { .. }), "{error}");
            assert!(
                error.to_string().contains("does not exist; present: "),
                "{error}"
            );
            assert!(error.to_string().contains("lo"), "{error}");
        }
    }

    #[test]
    fn loopback_is_no_port() {
        assert!(matches!(
            Nic::by_name("lo"),
            Err(NicError::NotEthernet { .. })
        ));
    }

    #[test]
    fn indexes_have_names() {
        assert_eq!(name_of(1).as_deref(), Some("lo"));
        assert_eq!(name_of(u32::MAX), None);
    }
}
