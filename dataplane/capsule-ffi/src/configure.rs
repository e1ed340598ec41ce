//! Configuration of a device: what capsule asks for, made to fit what the device has.

use crate::bindings::{
    self, rte_eth_conf, rte_eth_dev_info, rte_eth_dev_info_get, rte_eth_rx_mq_mode,
};
use std::ffi::c_int;

unsafe extern "C" {
    #[link_name = "rte_eth_dev_configure"]
    fn dpdk_configure(
        port: u16,
        rx_queues: u16,
        tx_queues: u16,
        conf: *const rte_eth_conf,
    ) -> c_int;
}

/// Configures a device.
///
/// # Safety
///
/// `conf` is null or valid.
pub unsafe fn rte_eth_dev_configure(
    port: u16,
    rx_queues: u16,
    tx_queues: u16,
    conf: *const rte_eth_conf,
) -> c_int {
    let mut info = rte_eth_dev_info::default();
    // SAFETY: the answer has its place. An unknown device is an error here as there.
    let code = unsafe { rte_eth_dev_info_get(port, &raw mut info) };
    if code != 0 {
        return code;
    }
    // SAFETY: as the caller promised.
    let mut conf = unsafe { conf.as_ref() }.copied().unwrap_or_default();
    fit(&mut conf, &info);
    // SAFETY: a configuration that lives as long as the call.
    unsafe { dpdk_configure(port, rx_queues, tx_queues, &raw const conf) }
}

/// capsule asks for receive side scaling whenever there are several queues. A device that cannot hash (virtio without `rss=on`) refuses
/// that, and spreads flows over its queues by other means.
fn fit(conf: &mut rte_eth_conf, info: &rte_eth_dev_info) {
    if info.flow_type_rss_offloads == 0 {
        conf.rxmode.mq_mode = rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_NONE;
    }
    conf.rxmode.offloads |= info.rx_offload_capa & bindings::TIDEGATE_RX_TCP_CHECKSUM;
    conf.txmode.offloads |= info.tx_offload_capa & bindings::TIDEGATE_TX_TCP_CHECKSUM;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for_by_capsule() -> rte_eth_conf {
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mq_mode = rte_eth_rx_mq_mode::ETH_MQ_RX_RSS;
        conf.txmode.offloads = bindings::TIDEGATE_TX_FAST_FREE;
        conf
    }

    #[test]
    fn a_device_that_hashes_is_asked_to() {
        let mut conf = asked_for_by_capsule();
        let info = rte_eth_dev_info {
            flow_type_rss_offloads: bindings::TIDEGATE_RSS_IP,
            ..rte_eth_dev_info::default()
        };
        fit(&mut conf, &info);
        assert_eq!(conf.rxmode.mq_mode, rte_eth_rx_mq_mode::ETH_MQ_RX_RSS);
        assert_eq!(conf.rxmode.offloads, 0);
        assert_eq!(conf.txmode.offloads, bindings::TIDEGATE_TX_FAST_FREE);
    }

    #[test]
    fn a_device_gets_the_checksums_that_it_can_and_no_spread_that_it_cannot() {
        let mut conf = asked_for_by_capsule();
        let info = rte_eth_dev_info {
            rx_offload_capa: u64::MAX,
            tx_offload_capa: bindings::TIDEGATE_TX_TCP_CHECKSUM,
            ..rte_eth_dev_info::default()
        };
        fit(&mut conf, &info);
        assert_eq!(conf.rxmode.mq_mode, rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_NONE);
        assert_eq!(conf.rxmode.offloads, bindings::TIDEGATE_RX_TCP_CHECKSUM);
        assert_eq!(
            conf.txmode.offloads,
            bindings::TIDEGATE_TX_FAST_FREE | bindings::TIDEGATE_TX_TCP_CHECKSUM
        );
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        // SAFETY: no configuration; the device is looked for first.
        assert!(unsafe { rte_eth_dev_configure(31, 1, 1, std::ptr::null()) } < 0);
    }
}
