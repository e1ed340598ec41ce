//! The worker process: one poll loop per queue.
