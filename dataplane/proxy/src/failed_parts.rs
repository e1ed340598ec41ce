//! Parts of a request that fail: what becomes of the whole.

use crate::broadcast::is_for_all;
use crate::compat::Several;
use crate::fault::Fault;
use crate::merge::Step;
use crate::proxy::Proxy;
use crate::state::{Join, Lost};
use crate::streams::Streams;
use tidegate_protocol::is_redis_server_failure;

impl Proxy {
    /// A server answered its part with an error: the first such line becomes the answer to the whole request.
    pub(crate) fn error_line(
        &mut self,
        fragment: u32,
        line: &[u8],
    ) -> Result<(Step, usize), Fault> {
        let part = &self.fragments[fragment];
        let number = self.servers[part.server as usize].pool;
        let pool = &self.pools[number as usize];
        if pool.is_failure(line) {
            return Err(Fault::Failing);
        }
        if self.can_lack_parts(part.split) && tells_of_failure(line) {
            self.lose_fragment(fragment, Fault::Failing);
            return Ok((Step::Done, line.len()));
        }
        let place = part.split;
        let split = &mut self.splits[place];
        if split.failed.is_none() && split.error.is_empty() {
            if self.pendings[split.pending].several != Several::No {
                split.failed = Some(pool.text(Fault::PartFailed));
            } else if !self.hold.append(&mut split.error, line) {
                let text = self.not_held(number, Fault::HoldFull);
                self.splits[place].failed = Some(text);
            }
        }
        Ok((Step::Done, line.len()))
    }

    /// The server of a fragment failed.
    pub(crate) fn fail_fragment<S: Streams>(
        &mut self,
        streams: &mut S,
        fragment: u32,
        fault: Fault,
    ) {
        let part = &mut self.fragments[fragment];
        let pool = self.servers[part.server as usize].pool;
        self.hold.clear(&mut part.chain);
        let split = part.split;
        if !matches!(self.splits[split].join, Join::Keys(_))
            || self.can_lack_parts(split) && fault.is_of_server()
        {
            self.lose_fragment(fragment, fault);
            return self.count_fragment(streams, fragment);
        }
        let pool = &mut self.pools[pool as usize];
        let split = &mut self.splits[split];
        if split.failed.is_none() && split.error.is_empty() {
            pool.counters.forward_errors += 1;
            split.failed = Some(pool.text(fault));
            let entry = &mut self.pendings[split.pending];
            entry.closes = entry.several == Several::Read && fault.is_of_server();
        }
        self.count_fragment(streams, fragment);
    }

    /// The answer will do without this fragment, or will be an error that says so.
    fn lose_fragment(&mut self, fragment: u32, fault: Fault) {
        let part = &mut self.fragments[fragment];
        part.lost = true;
        self.hold.clear(&mut part.chain);
        let (split, server) = (part.split, part.server);
        self.note_lost(split, Lost { server, fault });
    }

    /// Whether the pool wants an answer without the parts of failed servers: see `tidegate_config::Partial`.
    pub(crate) fn can_lack_parts(&self, split: u32) -> bool {
        let state = &self.splits[split];
        let server = self.fragments[state.first_fragment].server;
        let pool = self.servers[server as usize].pool;
        match state.join {
            Join::Keys(kind) => self.misses(pool, kind),
            Join::Servers(merge) => self.pools[pool as usize].misses && !is_for_all(merge),
            Join::Scan => self.pools[pool as usize].misses,
        }
    }

    /// A fragment's connection was ended because of its client, which has caused nobody's failure.
    pub(crate) fn abandon_fragment<S: Streams>(&mut self, streams: &mut S, fragment: u32) {
        let part = &self.fragments[fragment];
        let pool = &self.pools[self.servers[part.server as usize].pool as usize];
        let text = pool.text(Fault::Unfinished);
        self.splits[part.split].failed.get_or_insert(text);
        self.fail_fragment(streams, fragment, Fault::Unfinished);
    }
}

/// Whether an error line tells that the server cannot serve, and not that the request is wrong.
fn tells_of_failure(line: &[u8]) -> bool {
    line.starts_with(b"SERVER_ERROR") || is_redis_server_failure(line)
}
