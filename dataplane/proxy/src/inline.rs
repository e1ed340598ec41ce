//! Inline commands of Redis: made arrays of, in a hold, and taken from there like any request that had to be held.

use crate::fault::Fault;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::state::Mode;
use crate::streams::{StreamId, Streams};
use crate::waits::WaitFor;
use tidegate_protocol::{Recovery, Refusal, RefusalText, RequestRest, Resume, write_inline};

impl Proxy {
    /// Takes the line of `bytes` bytes at the front, whose array has `wire_bytes`. True when there may be more to read.
    #[cold]
    pub(crate) fn take_inline<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        bytes: usize,
        wire_bytes: usize,
    ) -> bool {
        if wire_bytes > self.limits.hold_bytes {
            let refusal = Refusal {
                reply: RefusalText::Constant(self.pool_of(client).text(Fault::RequestTooLarge)),
                recovery: Recovery::Skip {
                    bytes,
                    rest: RequestRest::default(),
                },
            };
            return self.refuse(streams, client, source, &refusal);
        }
        let hold = match source {
            Source::Hold(hold) => Some(hold),
            Source::Ring { .. } => self.free_holds.pop(),
        };
        let Some(hold) = hold else {
            self.wait(client, WaitFor::Table);
            return false;
        };
        let mut line = std::mem::take(&mut self.scratch);
        self.copy_request(streams, client, source, bytes, &mut line);
        let wire = &mut self.holds[hold as usize];
        wire.clear();
        write_inline(&line[..bytes], wire);
        debug_assert_eq!(wire.len(), wire_bytes, "it fits the hold");
        self.scratch = line;
        if matches!(source, Source::Ring { .. }) {
            streams.consume(StreamId(client), bytes);
        }
        let state = &mut self.clients[client as usize];
        state.mode = Mode::Hold(hold);
        state.need = wire_bytes;
        state.resume = Resume::default();
        true
    }
}
