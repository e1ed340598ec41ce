/* What bindgen reads: DPDK's headers, and what they have only as macros or inline functions. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* rte_cpuset_t is glibc's cpu_set_t then */
#endif
#include <rte_build_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* capsule calls these by these names. */
int _rte_errno(void);
struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *mp);
int _rte_pktmbuf_alloc_bulk(struct rte_mempool *mp, struct rte_mbuf **mbufs, unsigned int count);
void _rte_pktmbuf_free(struct rte_mbuf *m);
void _rte_mempool_put_bulk(struct rte_mempool *mp, void *const *mbufs, unsigned int count);
uint16_t _rte_eth_rx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t count);
uint16_t _rte_eth_tx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t count);

/* The rest is for this crate and for whoever uses DPDK beside capsule. */
unsigned int tidegate_lcore_id(void);

/* Gives mbufs back, each to its pool. */
void tidegate_free_bulk(struct rte_mbuf **mbufs, unsigned int count);

/* Takes one line of DPDK's log; `bytes` of `text`, not terminated. */
typedef void (*tidegate_log_sink)(uint32_t level, const char *text, size_t bytes);

/* From now on everything that DPDK logs goes to `sink`. 0, or -1 with errno. */
int tidegate_log_to(tidegate_log_sink sink);

/* The directory that EAL loads drivers from. */
#define TIDEGATE_DRIVERS RTE_EAL_PMD_PATH

static const uint64_t TIDEGATE_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t TIDEGATE_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t TIDEGATE_RSS_TCP_IPV4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t TIDEGATE_RSS_TCP_IPV6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t TIDEGATE_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t TIDEGATE_RSS_SCTP = RTE_ETH_RSS_SCTP;
static const uint64_t TIDEGATE_TX_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t TIDEGATE_TX_TCP_CHECKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t TIDEGATE_RX_TCP_CHECKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;

/* Of a received mbuf: its TCP checksum was found right, or was never computed because the frame was on no wire. Both of DPDK's values
   have this bit, and that for a wrong checksum has not. */
static const uint64_t TIDEGATE_RX_TCP_CHECKED = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
/* Of an mbuf to send: the device completes the checksum of the TCP segment in it. */
static const uint64_t TIDEGATE_TX_COMPLETE_TCP = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t TIDEGATE_TX_IS_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t TIDEGATE_TX_IS_IPV6 = RTE_MBUF_F_TX_IPV6;
