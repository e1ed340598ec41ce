#include "shim.h"

#include <stdio.h>

int _rte_errno(void)
{
	return rte_errno;
}

struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *mp)
{
	return rte_pktmbuf_alloc(mp);
}

int _rte_pktmbuf_alloc_bulk(struct rte_mempool *mp, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(mp, mbufs, count);
}

void _rte_pktmbuf_free(struct rte_mbuf *m)
{
	rte_pktmbuf_free(m);
}

/*
 * capsule gives mbufs back with this alone, all to the pool of the first: wrong for mbufs of several pools, for chains, and for
 * those that somebody else still refers to.
 */
void _rte_mempool_put_bulk(struct rte_mempool *mp, void *const *mbufs, unsigned int count)
{
	(void)mp;
	tidegate_free_bulk((struct rte_mbuf **)(uintptr_t)mbufs, count);
}

uint16_t _rte_eth_rx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port_id, queue_id, mbufs, count);
}

uint16_t _rte_eth_tx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port_id, queue_id, mbufs, count);
}

unsigned int tidegate_lcore_id(void)
{
	return rte_lcore_id();
}

void tidegate_free_bulk(struct rte_mbuf **mbufs, unsigned int count)
{
	rte_pktmbuf_free_bulk(mbufs, count);
}

/* DPDK flushes its stream after each line, on the thread that logs, so its level is still known here. */
static ssize_t write_log(void *sink, const char *text, size_t bytes)
{
	int level = rte_log_cur_msg_loglevel();

	((tidegate_log_sink)sink)(level < 0 ? RTE_LOG_NOTICE : (uint32_t)level, text, bytes);
	return (ssize_t)bytes;
}

int tidegate_log_to(tidegate_log_sink sink)
{
	FILE *stream = fopencookie((void *)sink, "w", (cookie_io_functions_t){ .write = write_log });

	return stream == NULL ? -1 : rte_openlog_stream(stream);
}
