//! The statistics page of a worker: counters as words, written about every 10 ms, read whenever somebody asks.
//!
//! The layout follows from the table in [`crate::counters`] and from the configuration, which both sides know; nothing in
//! the page says how large it is. A block per scope, each behind its own sequence lock and on cache lines of its own; behind them
//! the rows of [`crate::meters`] and the table of [`crate::flows`].

use crate::counters::{
    LinkCounters, LoopCounters, PoolCounters, QueueCounters, ServerCounters, SocketCounters,
    StackCounters,
};
use crate::flows::{self, FlowRecord, FlowSlots};
use crate::histogram::Histogram;
use crate::meters::{self, CommandMeter, ROW_WORDS};
use crate::seqlock;
use crate::shm::{self, ReadableWords, ShmError, WritableWords};
use std::os::fd::{AsFd, OwnedFd};
use tidegate_config::Config;

/// Words of a cache line: blocks start on one, so that reading one block does not disturb the writer of the next.
const LINE_WORDS: usize = 8;

/// Words that a block of `values` values takes, its sequence included.
const fn block_words(values: usize) -> usize {
    (values + 1).next_multiple_of(LINE_WORDS)
}

const LOOP_WORDS: usize = block_words(LoopCounters::WORDS);
const STACK_WORDS: usize = block_words(StackCounters::WORDS);
const SOCKET_WORDS: usize = block_words(SocketCounters::WORDS);
const LINK_WORDS: usize = block_words(LinkCounters::WORDS);
const QUEUE_WORDS: usize = block_words(QueueCounters::WORDS);
const POOL_WORDS: usize = block_words(PoolCounters::WORDS);
const SERVER_WORDS: usize = block_words(ServerCounters::WORDS);

/// How many blocks of each kind a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatisticsLayout {
    /// Queues of the worker: one per port.
    pub queues: usize,
    /// Pools.
    pub pools: usize,
    /// Servers of all pools together.
    pub servers: usize,
    /// Connections that are told to a successor.
    pub flows: FlowSlots,
}

impl StatisticsLayout {
    /// That of a worker with a queue on `queues` ports; none of them: over the kernel's sockets, which the kernel closes when it dies.
    pub fn of(config: &Config, queues: usize) -> Self {
        let limits = &config.worker;
        Self {
            queues,
            pools: config.pools.len(),
            servers: config.servers().count(),
            flows: if queues == 0 {
                FlowSlots::default()
            } else {
                FlowSlots {
                    clients: limits.clients_max as usize,
                    servers: limits.server_connections_max as usize,
                }
            },
        }
    }

    const SOCKETS: usize = LOOP_WORDS + STACK_WORDS;
    const LINK: usize = Self::SOCKETS + SOCKET_WORDS;

    const fn queue(index: usize) -> usize {
        Self::LINK + LINK_WORDS + index * QUEUE_WORDS
    }

    const fn pool(self, index: usize) -> usize {
        Self::queue(self.queues) + index * POOL_WORDS
    }

    const fn server(self, index: usize) -> usize {
        self.pool(self.pools) + index * SERVER_WORDS
    }

    /// Where the rows of [`crate::meters`] start.
    pub(crate) const fn meters(self) -> usize {
        self.server(self.servers)
    }

    /// Where the table of [`crate::flows`] starts.
    pub(crate) const fn flows_start(self) -> usize {
        self.meters() + meters::rows(self) * ROW_WORDS
    }

    /// Words of the whole page.
    pub const fn words(self) -> usize {
        self.flows_start() + self.flows.words()
    }

    /// What a worker has counted that has not begun.
    pub fn nothing(self) -> WorkerStatistics {
        WorkerStatistics {
            queues: vec![QueueCounters::default(); self.queues],
            pools: vec![PoolCounters::default(); self.pools],
            servers: vec![ServerCounters::default(); self.servers],
            commands: vec![Vec::new(); self.pools],
            latencies: vec![Histogram::default(); self.servers],
            ..WorkerStatistics::default()
        }
    }

    /// Makes the memory file of a page, all counters zero.
    pub fn create(self) -> Result<OwnedFd, ShmError> {
        shm::create("tidegate-statistics", self.words())
    }
}

/// The worker's side.
#[derive(Debug)]
pub struct StatisticsWriter {
    words: WritableWords,
    layout: StatisticsLayout,
}

impl StatisticsWriter {
    /// Maps the page that the manager made.
    pub fn map(file: impl AsFd, layout: StatisticsLayout) -> Result<Self, ShmError> {
        Ok(Self {
            words: WritableWords::map(file, layout.words())?,
            layout,
        })
    }

    /// Publishes the counters of the loop.
    pub fn write_loop(&self, counters: &LoopCounters) {
        seqlock::write(&self.words, 0, &counters.words());
    }

    /// Publishes the counters of the stack.
    pub fn write_stack(&self, counters: &StackCounters) {
        seqlock::write(&self.words, LOOP_WORDS, &counters.words());
    }

    /// Publishes the counters of the kernel's sockets.
    pub fn write_sockets(&self, counters: &SocketCounters) {
        seqlock::write(&self.words, StatisticsLayout::SOCKETS, &counters.words());
    }

    /// Publishes the counters of the link layer.
    pub fn write_link(&self, counters: &LinkCounters) {
        seqlock::write(&self.words, StatisticsLayout::LINK, &counters.words());
    }

    /// Publishes the counters of the queue on port `index`.
    pub fn write_queue(&self, index: usize, counters: &QueueCounters) {
        assert!(
            index < self.layout.queues,
            "queue {index} of {}",
            self.layout.queues
        );
        seqlock::write(
            &self.words,
            StatisticsLayout::queue(index),
            &counters.words(),
        );
    }

    /// Publishes the counters of pool `index`.
    pub fn write_pool(&self, index: usize, counters: &PoolCounters) {
        assert!(
            index < self.layout.pools,
            "pool {index} of {}",
            self.layout.pools
        );
        seqlock::write(&self.words, self.layout.pool(index), &counters.words());
    }

    /// Publishes the counters of server `index`.
    pub fn write_server(&self, index: usize, counters: &ServerCounters) {
        assert!(
            index < self.layout.servers,
            "server {index} of {}",
            self.layout.servers
        );
        seqlock::write(&self.words, self.layout.server(index), &counters.words());
    }
}

/// Everything that one worker counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerStatistics {
    /// The loop.
    pub worker: LoopCounters,
    /// TCP and below.
    pub stack: StackCounters,
    /// The kernel's sockets.
    pub sockets: SocketCounters,
    /// ARP, neighbour discovery and echo.
    pub link: LinkCounters,
    /// One per port.
    pub queues: Vec<QueueCounters>,
    /// One per pool.
    pub pools: Vec<PoolCounters>,
    /// One per server, counted over all pools.
    pub servers: Vec<ServerCounters>,
    /// One list per pool: the commands that were seen.
    pub commands: Vec<Vec<CommandMeter>>,
    /// One per server: from a request sent to its reply.
    pub latencies: Vec<Histogram>,
}

/// The manager's side.
#[derive(Debug)]
pub struct StatisticsReader {
    words: ReadableWords,
    layout: StatisticsLayout,
    last: WorkerStatistics,
}

impl StatisticsReader {
    /// Maps the page.
    pub fn map(file: impl AsFd, layout: StatisticsLayout) -> Result<Self, ShmError> {
        Ok(Self {
            words: ReadableWords::map(file, layout.words())?,
            layout,
            last: layout.nothing(),
        })
    }

    /// Reads the loop's counters alone: enough to see whether the worker lives.
    pub fn read_loop(&mut self) -> LoopCounters {
        let mut words = [0; LoopCounters::WORDS];
        if seqlock::read(&self.words, 0, &mut words).is_some() {
            self.last.worker = LoopCounters::from_words(&words);
        }
        self.last.worker
    }

    /// What a worker that is dead left open.
    pub fn flows(&self) -> Vec<FlowRecord> {
        flows::read(&self.words, self.layout)
    }

    /// Reads every block and every row. A block that is never at rest keeps the values read before.
    pub fn read(&mut self) -> &WorkerStatistics {
        self.read_counters();
        for (pool, commands) in self.last.commands.iter_mut().enumerate() {
            *commands = meters::read_commands(&self.words, self.layout, pool);
        }
        for (server, latency) in self.last.latencies.iter_mut().enumerate() {
            // The memory of those that nobody used is not even there.
            if self.last.servers[server].replies > 0 {
                *latency = meters::read_server(&self.words, self.layout, server);
            }
        }
        &self.last
    }

    /// Reads every block, and no row.
    pub fn read_counters(&mut self) -> &WorkerStatistics {
        self.read_loop();
        let mut words = [0; StackCounters::WORDS];
        if seqlock::read(&self.words, LOOP_WORDS, &mut words).is_some() {
            self.last.stack = StackCounters::from_words(&words);
        }
        let mut words = [0; SocketCounters::WORDS];
        if seqlock::read(&self.words, StatisticsLayout::SOCKETS, &mut words).is_some() {
            self.last.sockets = SocketCounters::from_words(&words);
        }
        let mut words = [0; LinkCounters::WORDS];
        if seqlock::read(&self.words, StatisticsLayout::LINK, &mut words).is_some() {
            self.last.link = LinkCounters::from_words(&words);
        }
        for (index, counters) in self.last.queues.iter_mut().enumerate() {
            let mut words = [0; QueueCounters::WORDS];
            if seqlock::read(&self.words, StatisticsLayout::queue(index), &mut words).is_some() {
                *counters = QueueCounters::from_words(&words);
            }
        }
        for (index, counters) in self.last.pools.iter_mut().enumerate() {
            let mut words = [0; PoolCounters::WORDS];
            if seqlock::read(&self.words, self.layout.pool(index), &mut words).is_some() {
                *counters = PoolCounters::from_words(&words);
            }
        }
        for (index, counters) in self.last.servers.iter_mut().enumerate() {
            let mut words = [0; ServerCounters::WORDS];
            if seqlock::read(&self.words, self.layout.server(index), &mut words).is_some() {
                *counters = ServerCounters::from_words(&words);
            }
        }
        &self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::LoadWords;
    use std::sync::atomic::Ordering;

    const LAYOUT: StatisticsLayout = StatisticsLayout {
        queues: 2,
        pools: 3,
        servers: 5,
        flows: FlowSlots {
            clients: 0,
            servers: 0,
        },
    };

    #[test]
    fn every_block_arrives_where_it_belongs() {
        let file = LAYOUT.create().unwrap();
        let writer = StatisticsWriter::map(&file, LAYOUT).unwrap();
        let mut reader = StatisticsReader::map(&file, LAYOUT).unwrap();
        writer.write_loop(&LoopCounters {
            turns: 1,
            ..LoopCounters::default()
        });
        writer.write_stack(&StackCounters {
            time_wait: 2,
            ..StackCounters::default()
        });
        writer.write_link(&LinkCounters {
            frames_echoed: 4,
            ..LinkCounters::default()
        });
        writer.write_sockets(&SocketCounters {
            accept_errors: 3,
            ..SocketCounters::default()
        });
        for index in 0..LAYOUT.queues {
            writer.write_queue(
                index,
                &QueueCounters {
                    tx_invalid: 10 + index as u64,
                    ..QueueCounters::default()
                },
            );
        }
        for index in 0..LAYOUT.pools {
            writer.write_pool(
                index,
                &PoolCounters {
                    ejects: 20 + index as u64,
                    ..PoolCounters::default()
                },
            );
        }
        for index in 0..LAYOUT.servers {
            writer.write_server(
                index,
                &ServerCounters {
                    ejected: 30 + index as u64,
                    ..ServerCounters::default()
                },
            );
        }
        let seen = reader.read();
        assert_eq!((seen.worker.turns, seen.stack.time_wait), (1, 2));
        assert_eq!(seen.sockets.accept_errors, 3);
        assert_eq!(seen.link.frames_echoed, 4);
        assert_eq!(
            seen.queues
                .iter()
                .map(|queue| queue.tx_invalid)
                .collect::<Vec<_>>(),
            [10, 11]
        );
        assert_eq!(
            seen.pools
                .iter()
                .map(|pool| pool.ejects)
                .collect::<Vec<_>>(),
            [20, 21, 22]
        );
        assert_eq!(
            seen.servers
                .iter()
                .map(|server| server.ejected)
                .collect::<Vec<_>>(),
            [30, 31, 32, 33, 34]
        );
    }

    #[test]
    fn a_hostile_page_is_numbers_or_no_news() {
        let file = LAYOUT.create().unwrap();
        let writer = StatisticsWriter::map(&file, LAYOUT).unwrap();
        let mut reader = StatisticsReader::map(&file, LAYOUT).unwrap();
        writer.write_stack(&StackCounters {
            frames_in: 77,
            ..StackCounters::default()
        });
        reader.read();
        let vandal = WritableWords::map(&file, LAYOUT.words()).unwrap();
        for index in 0..vandal.words() {
            vandal.store(index, u64::MAX, Ordering::Relaxed);
        }
        assert_eq!(
            reader.read().stack.frames_in,
            77,
            "an odd sequence that never settles keeps the last good values"
        );
        for index in 0..vandal.words() {
            vandal.store(index, u64::MAX - 1, Ordering::Relaxed);
        }
        assert_eq!(reader.read().stack.frames_in, u64::MAX - 1);
        assert_eq!(reader.read().servers.len(), LAYOUT.servers);
    }

    #[test]
    fn blocks_do_not_overlap() {
        assert_eq!(
            StatisticsLayout {
                queues: 0,
                pools: 0,
                servers: 0,
                flows: FlowSlots::default()
            }
            .meters(),
            LOOP_WORDS + STACK_WORDS + SOCKET_WORDS + LINK_WORDS
        );
        assert_eq!(
            LAYOUT.meters(),
            LOOP_WORDS
                + STACK_WORDS
                + SOCKET_WORDS
                + LINK_WORDS
                + 2 * QUEUE_WORDS
                + 3 * POOL_WORDS
                + 5 * SERVER_WORDS
        );
        assert!(LOOP_WORDS > LoopCounters::WORDS && LOOP_WORDS.is_multiple_of(LINE_WORDS));
    }
}
