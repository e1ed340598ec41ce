//! Requests whose keys have to belong to one server, because that server needs all of them at once.

use crate::fault::Fault;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::state::Pool;
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{REDIS_NAME_BYTES_MAX, Request};

/// Whose the keys of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// All belong to this server, named by its position in the pool.
    Server(usize),
    /// Every server is ejected.
    Nobody,
    /// They belong to different servers.
    Several,
}

/// Longest error about keys that belong to different servers.
const CROSSING_BYTES_MAX: usize = REDIS_NAME_BYTES_MAX + 160;

impl Proxy {
    /// Sends a request with several keys to the server that owns all of them, or says that there is none.
    #[cold]
    pub(crate) fn send_together<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let pool = &mut self.pools[self.clients[client as usize].pool as usize];
        let bytes = match source {
            Source::Ring { scratch: true } => &self.scratch[..],
            Source::Ring { scratch: false } => streams.peek(StreamId(client)),
            Source::Hold(hold) => &self.holds[hold as usize],
        };
        match owner_of_all(pool, request, bytes) {
            Owner::Server(index) => self.send_request(streams, client, request, source, index),
            Owner::Nobody => self.fail_request(streams, client, request, source, Fault::AllEjected),
            Owner::Several => self.refuse_crossing(streams, client, request, source),
        }
    }

    /// Answers a request whose keys belong to different servers. The caller has checked [`Proxy::has_pending_room`].
    #[cold]
    pub(crate) fn refuse_crossing<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        self.drop_request(streams, client, source, request.bytes);
        self.count_request(client).requests_refused += 1;
        let pool = self.pool_of(client);
        let mut line = [0; CROSSING_BYTES_MAX];
        let bytes = crossing_text(request.name, pool.router.hash_tag(), &mut line);
        self.answer_bytes(streams, client, &line[..bytes]);
        true
    }
}

/// Whose the keys are of `request`, which stands whole at the front of `bytes`. Where every server has the keys of all, because there is one
/// or because requests go to any, they are not compared.
pub(crate) fn owner_of_all(pool: &mut Pool, request: &Request, bytes: &[u8]) -> Owner {
    let Some(first) = pool.router.route(&bytes[request.key.clone()]) else {
        return Owner::Nobody;
    };
    let agree = !pool.router.tells_keys_apart()
        || request
            .keys(bytes)
            .all(|part| pool.router.route(&bytes[part.key]) == Some(first));
    if agree {
        Owner::Server(first)
    } else {
        Owner::Several
    }
}

/// Writes the error about a command and returns its length.
fn crossing_text(name: &str, hash_tag: Option<[u8; 2]>, line: &mut [u8]) -> usize {
    let mut bytes = 0;
    let mut write = |part: &[u8]| {
        line[bytes..bytes + part.len()].copy_from_slice(part);
        bytes += part.len();
    };
    write(b"-CROSSSLOT Keys of '");
    write(name.as_bytes());
    write(b"' belong to different servers: ");
    match hash_tag {
        Some([open, close]) => {
            let shown = |mark: u8| if mark.is_ascii_graphic() { mark } else { b'?' };
            write(b"those with the same hash tag ");
            write(&[shown(open), b'.', b'.', b'.', shown(close)]);
            write(b" in their names belong to one\r\n");
        }
        None => write(b"the pool has no hash_tag that would keep them together\r\n"),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_command_and_the_hash_tag() {
        let mut line = [0; CROSSING_BYTES_MAX];
        let bytes = crossing_text("sinterstore", Some(*b"{}"), &mut line);
        assert_eq!(
            std::str::from_utf8(&line[..bytes]).unwrap(),
            "-CROSSSLOT Keys of 'sinterstore' belong to different servers: those with the same hash tag {...} in their names belong to one\r\n"
        );
    }

    #[test]
    fn the_longest_name_fits() {
        let name = "n".repeat(REDIS_NAME_BYTES_MAX);
        for tag in [None, Some(*b"{}")] {
            let mut line = [0; CROSSING_BYTES_MAX];
            let bytes = crossing_text(&name, tag, &mut line);
            assert!(line[..bytes].ends_with(b"\r\n"));
        }
    }
}
