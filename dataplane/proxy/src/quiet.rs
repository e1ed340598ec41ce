//! Requests whose clients do not want every reply: the flag `q` of the meta commands, and quiet opcodes.
//!
//! Servers never hear of it: every request has one reply, or nobody could tell whose the next one is. What the client does not want
//! is dropped here, once the first bytes of the reply say what it is.

use crate::proxy::Proxy;
use crate::read::Source;
use crate::replies::Moved;
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{BINARY_HEADER_BYTES, ReplyShape, Request};

impl Proxy {
    /// Notes what is special about a request on its way to a server. Returns how many bytes of its front were sent, in another form.
    #[cold]
    pub(crate) fn begin_changed<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        link: u32,
        pending: u32,
    ) -> usize {
        let ReplyShape::Binary(head) = request.reply else {
            // There may be no reply to carry the acknowledgement.
            streams.expect_reply(StreamId(client), false);
            return 0;
        };
        if head.is_quiet() {
            streams.expect_reply(StreamId(client), false);
        }
        self.pendings[pending].binary = Some(head);
        let header: [u8; BINARY_HEADER_BYTES] = self.with_bytes(streams, client, source, |bytes| {
            *bytes.first_chunk().unwrap_or(&[0; BINARY_HEADER_BYTES])
        });
        if matches!(source, Source::Ring { .. }) {
            streams.consume(StreamId(client), BINARY_HEADER_BYTES);
        }
        self.send_header(streams, &header, link, head)
    }

    /// Looks at the front of a reply that may be hidden or changed.
    #[cold]
    pub(crate) fn look_at_reply<S: Streams>(
        &mut self,
        streams: &mut S,
        link: u32,
        pending: u32,
        client: u32,
    ) -> Moved {
        let state = &self.links[link as usize];
        let shape = state.fifo.front().map(|entry| entry.shape);
        match shape {
            Some(ReplyShape::Binary(head)) => {
                return self.restore_header(streams, link, pending, client, head);
            }
            Some(shape) => {
                let mut code = [0; 2];
                streams.copy(state.stream, &mut code);
                self.pendings[pending].silent |= shape.hides(code);
            }
            None => {}
        }
        self.links[link as usize].unseen = false;
        Moved::All
    }
}
