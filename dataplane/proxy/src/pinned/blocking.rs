//! Commands that the server answers when it likes: BLPOP and its like, XREAD with BLOCK, WAIT.
//!
//! The pool's `timeout_ms` does not count for them: how long they wait is what the client asked. A server that dies is noticed by its
//! reset, by the keep-alive probes of its connection, or because it cannot be connected to. The client's later requests wait, as
//! in Redis. A client that goes away, or only stops sending, takes the connection with it at once, so that the server forgets the
//! command and hands its element to somebody who is there.
//!
//! WAIT asks how many replicas have the writes of a connection. Those of a client stand on connections that it shares with others, and
//! on several servers. With one server the question can be put: a publication to nobody is a write, which makes all earlier ones count
//! as the connection's own. With several it is refused: no number would be the answer for all of them.

use crate::pinned::{Purpose, Wanted};
use crate::proxy::Proxy;
use crate::read::Source;
use crate::streams::{StreamStatus, Streams};
use tidegate_protocol::Request;

const NOT_ONE: &str = "-CROSSSLOT Keys of a command that waits must belong to one server (a common hash tag sees to that)\r\n";

const WAIT_ON_SEVERAL: &str = "-ERR WAIT needs a pool of one server: the writes of a client are spread over the servers, and each has replicas of its own\r\n";

/// A write that changes nothing: without subscribers it goes to the replicas alone.
const WRITE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$13\r\ntidegate:wait\r\n$0\r\n\r\n";

impl Proxy {
    /// Sends a command that may wait.
    pub(super) fn block<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        if !self.is_alone(client) {
            return false;
        }
        let owner = self.one_server(streams, client, request, source, NOT_ONE);
        let key = self.first_key(streams, client, request, source);
        let (index, before): (usize, &[u8]) = match owner {
            Ok(Some(index)) => (index, b""),
            Ok(None) if self.pool_of(client).servers == 1 => (0, WRITE),
            Ok(None) => return self.say_no(streams, client, request, source, WAIT_ON_SEVERAL),
            Err(text) => return self.say_no(streams, client, request, source, text),
        };
        let wanted = Wanted {
            purpose: Purpose::Blocking,
            index,
            bytes: before.len() + request.bytes,
        };
        let link = match self.pin_to(streams, client, request, source, wanted) {
            Ok(link) => link,
            Err(taken) => return taken,
        };
        if !before.is_empty() {
            self.send_unseen(streams, link, before);
        }
        if !self.send_own(streams, client, link, request, source, true) {
            return false;
        }
        let pin = self.clients[client as usize].pin;
        self.pins[pin].ending = true;
        self.pins[pin].key = key;
        self.clients[client as usize].barrier = true;
        if streams.status(self.links[link as usize].stream) == StreamStatus::Open {
            self.rest(link);
        }
        true
    }

    /// The connection is open: from now on only the server decides when there is an answer.
    #[cold]
    pub(crate) fn rest(&mut self, link: u32) {
        let pin = self.links[link as usize].pin;
        let state = &mut self.pins[pin];
        if state.purpose == Purpose::Blocking && !state.resting {
            state.resting = true;
            self.resting += 1;
        }
    }
}
