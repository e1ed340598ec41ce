//! Sending on an own connection, and answering in its place.

use crate::limits::{LINK_REQUESTS_MAX, OWN_LINK_SPARE};
use crate::pinned::Room;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::state::{Entry, Target};
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{ReplyShape, Request};

impl Proxy {
    /// Whether `bytes` can be sent on an own connection now.
    pub(super) fn own_room<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        bytes: usize,
    ) -> Room {
        let state = &self.links[link as usize];
        let (stream, server) = (state.stream, state.server);
        if bytes > streams.send_capacity(stream) {
            return Room::Never;
        }
        let queue_is_long = state.fifo.len() + OWN_LINK_SPARE > LINK_REQUESTS_MAX;
        if bytes > streams.send_room(stream) || queue_is_long {
            self.wait_for_server(client, server);
            return Room::Later;
        }
        Room::Here
    }

    /// Sends the request on the client's own connection, and passes the reply on. The caller has checked the room. A request
    /// that is `patient` never times out.
    pub(super) fn send_own<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        request: &Request,
        source: Source,
        patient: bool,
    ) -> bool {
        let Some(pending) = self.push_pending(streams, client, false) else {
            return false;
        };
        if !patient {
            // One that waits for something to happen is not slow.
            let server = self.links[link as usize].server;
            self.note(streams, client, request, source, pending, server);
        }
        self.pass_on(streams, client, link, request, source);
        let target = Target::Pending(pending);
        let entry = if patient {
            self.pendings[pending].untimed = true;
            Entry::untimed(target, request.reply)
        } else {
            Entry::new(target, request.reply)
        };
        self.enqueue(link, entry, request.bytes);
        true
    }

    /// Moves the bytes of the request to a connection that has room for them.
    pub(super) fn pass_on<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        request: &Request,
        source: Source,
    ) {
        let stream = self.links[link as usize].stream;
        match source {
            Source::Ring { .. } => {
                crate::dispatch::move_all(streams, StreamId(client), stream, request.bytes);
                self.clients[client as usize].need = 1;
            }
            Source::Hold(hold) => {
                streams.send(stream, &self.holds[hold as usize][..request.bytes]);
                self.drop_request(streams, client, source, request.bytes);
            }
        }
        self.count_request(client);
    }

    /// Sends a request of the proxy's own, whose reply is swallowed.
    pub(super) fn send_unseen<S: Streams>(&mut self, streams: &mut S, link: u32, bytes: &[u8]) {
        streams.send(self.links[link as usize].stream, bytes);
        let entry = Entry::new(Target::Own, ReplyShape::Resp);
        self.enqueue(link, entry, bytes.len());
    }

    /// Answers with a constant.
    pub(super) fn say<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        text: &'static str,
    ) -> bool {
        let counters = self.count_request(client);
        counters.requests_local += 1;
        self.drop_request(streams, client, source, request.bytes);
        self.answer_text(streams, client, text);
        true
    }

    /// Answers with an error, because of what was asked.
    pub(super) fn say_no<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        text: &'static str,
    ) -> bool {
        let counters = self.count_request(client);
        counters.requests_refused += 1;
        self.drop_request(streams, client, source, request.bytes);
        self.answer_text(streams, client, text);
        true
    }
}
