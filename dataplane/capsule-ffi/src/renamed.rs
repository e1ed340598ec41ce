//! Constants of DPDK 19.11 that have other names now.

use crate::bindings;

/// Spreads by the addresses of IP packets.
pub const ETH_RSS_IP: u64 = bindings::TIDEGATE_RSS_IP;
/// Spreads by the ports of TCP too.
pub const ETH_RSS_TCP: u64 = bindings::TIDEGATE_RSS_TCP;
/// Spreads by the ports of UDP too.
pub const ETH_RSS_UDP: u64 = bindings::TIDEGATE_RSS_UDP;
/// Spreads by the ports of SCTP too.
pub const ETH_RSS_SCTP: u64 = bindings::TIDEGATE_RSS_SCTP;
/// A transmit queue whose mbufs are all of one pool and referred to once.
pub const DEV_TX_OFFLOAD_MBUF_FAST_FREE: u64 = bindings::TIDEGATE_TX_FAST_FREE;

impl bindings::rte_eth_rx_mq_mode {
    /// Several receive queues, chosen by a hash.
    pub const ETH_MQ_RX_RSS: Self = Self::RTE_ETH_MQ_RX_RSS;
}
