//! What the queues of a device share.

use std::ffi::{CStr, CString, c_char};
use std::time::{Duration, Instant};

use capsule_ffi as ffi;

use super::error::{DpdkError, of_code};
use crate::ETHERNET_HEADER_BYTES;
use crate::nic::Nic;

/// A VLAN tag, which may stand in front of a packet that fills the MTU.
const VLAN_TAG_BYTES: usize = 4;

/// What an mbuf holds: capsule's pools have DPDK's usual size, of which 128 bytes are headroom.
const MBUF_DATA_BYTES: usize = ffi::RTE_MBUF_DEFAULT_BUF_SIZE as usize - 128;

/// Largest MTU: a frame is one mbuf.
pub(super) const MTU_BYTES_MAX: usize = MBUF_DATA_BYTES - ETHERNET_HEADER_BYTES - VLAN_TAG_BYTES;

/// Pause between two looks at the link.
const LINK_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A device that DPDK has opened.
#[derive(Clone, Debug)]
pub struct Device {
    id: u16,
    name: String,
    driver: String,
    mac: [u8; 6],
    mtu_bytes: usize,
    node: i32,
    queues_max: u16,
    offloads: Offloads,
    rss_key_bytes: u8,
    rss_table_entries: u16,
}

/// Checksums that the device computes or checks. What it can of these is switched on. IPv4 headers are left to the stack, which needs
/// three loads for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checks the checksum of TCP.
    pub rx_tcp: bool,
    /// Computes the checksum of TCP.
    pub tx_tcp: bool,
}

/// The link, as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// There is a carrier.
    pub is_up: bool,
    /// Megabits per second, if known.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// Counts of all queues of the device since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped because a queue was full: the worker was too slow.
    pub rx_ring_full: u64,
    /// Frames dropped because the pool had no mbuf left.
    pub rx_no_mbuf: u64,
    /// Frames dropped because they were broken.
    pub rx_errors: u64,
    /// Frames that were taken and not sent.
    pub tx_errors: u64,
}

impl Device {
    /// Describes a device by DPDK's name for it. `None`: no driver has it.
    pub(super) fn find(name: &str) -> Result<Option<Self>, DpdkError> {
        let mut id = 0;
        let name_c = CString::new(name).unwrap_or_default();
        // SAFETY: a terminated string and a place for the number.
        if unsafe { ffi::rte_eth_dev_get_port_by_name(name_c.as_ptr(), &raw mut id) } < 0 {
            return Ok(None);
        }
        let call = |action| {
            move |code: i32| match code {
                0.. => Ok(()),
                _ => Err(DpdkError::Call {
                    action,
                    device: name.to_owned(),
                    source: of_code(code),
                }),
            }
        };
        let mut info = ffi::rte_eth_dev_info::default();
        let mut address = ffi::rte_ether_addr::default();
        let mut mtu = 0;
        // SAFETY: the device is there, and every answer has its place.
        unsafe {
            call("read the properties")(ffi::rte_eth_dev_info_get(id, &raw mut info))?;
            call("read the address")(ffi::rte_eth_macaddr_get(id, &raw mut address))?;
            call("read the MTU")(ffi::rte_eth_dev_get_mtu(id, &raw mut mtu))?;
        }
        let can = |all: u64, one: u64| all & one == one;
        Ok(Some(Self {
            id,
            name: name.to_owned(),
            // SAFETY: null, or a terminated string that the driver never frees.
            driver: unsafe { text(info.driver_name) },
            mac: address.addr_bytes,
            mtu_bytes: usize::from(mtu).min(MTU_BYTES_MAX),
            // SAFETY: no memory is touched.
            node: unsafe { ffi::rte_eth_dev_socket_id(id) },
            queues_max: info.max_rx_queues.min(info.max_tx_queues),
            offloads: Offloads {
                rx_tcp: can(info.rx_offload_capa, ffi::TIDEGATE_RX_TCP_CHECKSUM),
                tx_tcp: can(info.tx_offload_capa, ffi::TIDEGATE_TX_TCP_CHECKSUM),
            },
            rss_key_bytes: info.hash_key_size,
            rss_table_entries: info.reta_size,
        }))
    }

    /// What something else on the way of frames carries: the interface below a virtual device, which the device does not ask.
    pub(super) fn limit_mtu(&mut self, mtu_bytes: usize) {
        self.mtu_bytes = self.mtu_bytes.min(mtu_bytes);
    }

    /// A virtual device is next to all memory; capsule counts it to the node of its first core.
    pub(super) fn settle(&mut self, node: i32) {
        if self.node < 0 {
            self.node = node;
        }
    }

    /// DPDK's number.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// DPDK's name: a PCI address, or `net_af_packet0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Its address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Largest IP packet that one frame carries.
    pub fn mtu_bytes(&self) -> usize {
        self.mtu_bytes
    }

    /// Largest frame.
    pub(super) fn frame_bytes_max(&self) -> usize {
        self.mtu_bytes + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES
    }

    /// The memory node.
    pub fn node(&self) -> i32 {
        self.node
    }

    /// Queue pairs that it could have.
    pub fn queues_max(&self) -> u16 {
        self.queues_max
    }

    /// What it does about checksums.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    pub(super) fn rss_key_bytes(&self) -> u8 {
        self.rss_key_bytes
    }

    pub(super) fn rss_table_entries(&self) -> u16 {
        self.rss_table_entries
    }

    /// The link now, without waiting for it. A driver that does not answer has none.
    pub fn link(&self) -> Link {
        let mut link = ffi::rte_eth_link::default();
        // SAFETY: the device is there, and the answer has its place.
        let code = unsafe { ffi::rte_eth_link_get_nowait(self.id, &raw mut link) };
        Link {
            is_up: code >= 0 && link.link_status() != 0,
            // Both 0 and all ones stand for a speed that is not known.
            speed_mbps: (link.link_speed != 0 && link.link_speed != u32::MAX)
                .then_some(link.link_speed),
            full_duplex: link.link_duplex() != 0,
        }
    }

    /// Waits for the link; cards negotiate for some seconds after they were started. Virtual devices say that they have one
    /// without a look at the interface below.
    pub(super) fn wait_for_link(
        &self,
        interface: Option<&str>,
        deadline: Duration,
    ) -> Result<(), DpdkError> {
        let started = Instant::now();
        let is_running = |interface| Nic::by_name(interface).map(|nic| nic.is_running);
        while !(self.link().is_up && interface.map_or(Ok(true), is_running)?) {
            if started.elapsed() >= deadline {
                return Err(DpdkError::LinkDown {
                    device: interface.unwrap_or(&self.name).to_owned(),
                    waited: deadline,
                });
            }
            std::thread::sleep(LINK_LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Counts of all queues. A driver that counts nothing has zeroes; one that cannot be asked now has none.
    pub fn statistics(&self) -> Option<DeviceStatistics> {
        let mut counts = ffi::rte_eth_stats::default();
        // SAFETY: the device is there, and the answer has its place, zeroed.
        let code = unsafe { ffi::rte_eth_stats_get(self.id, &raw mut counts) };
        (code >= 0).then_some(DeviceStatistics {
            rx_frames: counts.ipackets,
            rx_bytes: counts.ibytes,
            tx_frames: counts.opackets,
            tx_bytes: counts.obytes,
            rx_ring_full: counts.imissed,
            rx_no_mbuf: counts.rx_nombuf,
            rx_errors: counts.ierrors,
            tx_errors: counts.oerrors,
        })
    }

    /// Everything that the driver counts, by the driver's own names.
    pub fn extended_statistics(&self) -> Vec<(String, u64)> {
        // SAFETY: no places, so only the number is told.
        let count = unsafe { ffi::rte_eth_xstats_get_names(self.id, std::ptr::null_mut(), 0) };
        let count = usize::try_from(count).unwrap_or(0);
        let mut names = vec![ffi::rte_eth_xstat_name { name: [0; 64] }; count];
        let mut values = vec![ffi::rte_eth_xstat::default(); count];
        // SAFETY: `count` places each.
        let told = unsafe {
            let named = ffi::rte_eth_xstats_get_names(self.id, names.as_mut_ptr(), count as u32);
            named.min(ffi::rte_eth_xstats_get(
                self.id,
                values.as_mut_ptr(),
                count as u32,
            ))
        };
        let told = usize::try_from(told).unwrap_or(0).min(count);
        let name_of = |value: &ffi::rte_eth_xstat| {
            let name = names.get(usize::try_from(value.id).ok()?)?;
            // SAFETY: DPDK terminates names.
            Some((unsafe { text(name.name.as_ptr()) }, value.value))
        };
        values[..told].iter().filter_map(name_of).collect()
    }
}

/// # Safety
///
/// Null, or a terminated string.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promised.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_string_lossy().into_owned()
}
