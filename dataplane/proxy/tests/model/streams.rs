//! Streams in memory, with small rings that wrap, so that every place where bytes can be cut is cut.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use tidegate_proxy::GONE;
use tidegate_proxy::streams::{
    CloseReason, ConnectError, ListenerId, ServerId, StreamId, StreamStatus, Streams,
};

/// One direction: a ring of fixed size whose contiguous part ends where the ring does.
pub struct Ring {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Ring {
    fn new(capacity: usize) -> Self {
        Self {
            bytes: vec![0; capacity],
            start: 0,
            len: 0,
        }
    }

    pub fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.room());
        let start = (self.start + self.len) % self.bytes.len();
        let first = n.min(self.bytes.len() - start);
        self.bytes[start..start + first].copy_from_slice(&data[..first]);
        self.bytes[..n - first].copy_from_slice(&data[first..n]);
        self.len += n;
        n
    }

    fn front(&self) -> &[u8] {
        let n = self.len.min(self.bytes.len() - self.start);
        &self.bytes[self.start..self.start + n]
    }

    /// All of it, in the two parts that it may lie in.
    fn parts(&self) -> (&[u8], &[u8]) {
        let front = self.front();
        (front, &self.bytes[..self.len - front.len()])
    }

    fn copy(&self, out: &mut [u8]) -> usize {
        let n = self.len.min(out.len());
        let first = n.min(self.bytes.len() - self.start);
        out[..first].copy_from_slice(&self.bytes[self.start..self.start + first]);
        out[first..n].copy_from_slice(&self.bytes[..n - first]);
        n
    }

    pub fn drop_front(&mut self, n: usize) {
        assert!(n <= self.len, "only bytes that are there are consumed");
        self.start = (self.start + n) % self.bytes.len();
        self.len -= n;
    }

    pub fn clear(&mut self) {
        self.start = 0;
        self.len = 0;
    }

    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(n.min(self.len));
        self.take_to(n, &mut out);
        out
    }

    /// Takes the first bytes to the end of `out`, and returns how many there were.
    pub fn take_to(&mut self, n: usize, out: &mut Vec<u8>) -> usize {
        let n = n.min(self.len);
        let (front, back) = self.parts();
        let first = n.min(front.len());
        out.extend_from_slice(&front[..first]);
        out.extend_from_slice(&back[..n - first]);
        self.drop_front(n);
        n
    }
}

pub struct Stream {
    pub status: StreamStatus,
    pub listener: Option<ListenerId>,
    pub server: Option<ServerId>,
    pub received: Ring,
    pub sent: Ring,
    pub finished: bool,
    pub aborted: bool,
    pub released: bool,
    pub ready: bool,
    pub expects: bool,
    /// Tells streams apart that had the same slot.
    pub serial: u64,
}

/// Streams that one run of the proxy may be given. More means that two of them wake each other for ever.
const READY_MAX: usize = 200_000;

pub struct ModelStreams {
    pub slots: Vec<Option<Stream>>,
    pub ready: VecDeque<StreamId>,
    pub refuse: Vec<ServerId>,
    pub unreachable: Vec<ServerId>,
    pub client_bytes: usize,
    pub server_bytes: usize,
    pub connects: usize,
    pub serial: u64,
    /// Ready streams given out in this run.
    pub given: usize,
}

impl ModelStreams {
    /// Another configuration was taken up: servers and listeners have other numbers now.
    pub fn follow(&mut self, servers_to: &[u16], listeners_to: &[u16]) {
        let to = |id: &ServerId| Some(servers_to[usize::from(id.0)]).filter(|&to| to != GONE);
        for slot in &mut self.slots {
            let Some(stream) = slot else { continue };
            if let Some(server) = stream.server {
                if let Some(to) = to(&server) {
                    stream.server = Some(ServerId(to));
                } else {
                    assert!(stream.released, "a connection of nobody");
                    *slot = None;
                }
            } else if let Some(listener) = stream.listener {
                let to = listeners_to.get(usize::from(listener.0));
                stream.listener = Some(ListenerId(to.copied().unwrap_or(GONE)));
            }
        }
        for list in [&mut self.refuse, &mut self.unreachable] {
            *list = list.iter().filter_map(to).map(ServerId).collect();
        }
    }

    pub fn new(slots: usize, client_bytes: usize, server_bytes: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| None).collect(),
            ready: VecDeque::new(),
            refuse: Vec::new(),
            unreachable: Vec::new(),
            client_bytes,
            server_bytes,
            connects: 0,
            serial: 0,
            given: 0,
        }
    }

    pub fn open(
        &mut self,
        listener: Option<ListenerId>,
        server: Option<ServerId>,
    ) -> Option<StreamId> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let capacity = if listener.is_some() {
            self.client_bytes
        } else {
            self.server_bytes
        };
        let status = if listener.is_some() {
            StreamStatus::Open
        } else {
            StreamStatus::Connecting
        };
        self.serial += 1;
        self.slots[slot] = Some(Stream {
            serial: self.serial,
            status,
            listener,
            server,
            received: Ring::new(capacity),
            sent: Ring::new(capacity),
            finished: false,
            aborted: false,
            released: false,
            ready: false,
            expects: false,
        });
        let id = StreamId(slot as u32);
        self.mark_ready(id);
        Some(id)
    }

    pub fn stream(&mut self, id: StreamId) -> &mut Stream {
        self.slots[id.0 as usize]
            .as_mut()
            .expect("the stream is open")
    }

    fn get(&self, id: StreamId) -> &Stream {
        self.slots[id.0 as usize]
            .as_ref()
            .expect("the stream is open")
    }

    /// Takes released streams away that have delivered everything, or whose server hung up and takes no more.
    pub fn sweep(&mut self) {
        for slot in &mut self.slots {
            let is_over = |s: &Stream| {
                let hung_up = s.server.is_some() && s.status == StreamStatus::HalfClosed;
                let is_closed = matches!(s.status, StreamStatus::Closed(_));
                s.aborted || is_closed || hung_up || s.sent.len() == 0
            };
            if slot.as_ref().is_some_and(|s| s.released && is_over(s)) {
                *slot = None;
            }
        }
    }
}

impl Streams for ModelStreams {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn next_ready(&mut self) -> Option<StreamId> {
        loop {
            let id = self.ready.pop_front()?;
            if let Some(stream) = &mut self.slots[id.0 as usize] {
                stream.ready = false;
                if !stream.released {
                    self.given += 1;
                    assert!(self.given < READY_MAX, "one run comes to an end");
                    return Some(id);
                }
            }
        }
    }

    fn mark_ready(&mut self, id: StreamId) {
        let stream = self.stream(id);
        if !stream.ready {
            stream.ready = true;
            self.ready.push_back(id);
        }
    }

    fn status(&self, id: StreamId) -> StreamStatus {
        self.get(id).status
    }

    fn listener(&self, id: StreamId) -> Option<ListenerId> {
        self.get(id).listener
    }

    fn peer(&self, _: StreamId) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 1).into()
    }

    fn received(&self, id: StreamId) -> usize {
        self.get(id).received.len()
    }

    fn receive_capacity(&self, id: StreamId) -> usize {
        self.get(id).received.bytes.len()
    }

    fn peek(&mut self, id: StreamId) -> &[u8] {
        self.get(id).received.front()
    }

    fn copy(&mut self, id: StreamId, out: &mut [u8]) -> usize {
        self.get(id).received.copy(out)
    }

    fn consume(&mut self, id: StreamId, bytes: usize) {
        self.stream(id).received.drop_front(bytes);
    }

    fn send_room(&self, id: StreamId) -> usize {
        let stream = self.get(id);
        match stream.status {
            StreamStatus::Closed(_) => 0,
            _ if stream.finished || stream.aborted => 0,
            _ => stream.sent.room(),
        }
    }

    fn send_capacity(&self, id: StreamId) -> usize {
        self.get(id).sent.bytes.len()
    }

    fn send_queued(&self, id: StreamId) -> usize {
        self.get(id).sent.len()
    }

    fn send(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.send_room(id));
        self.stream(id).sent.push(&bytes[..n])
    }

    fn forward(&mut self, from: StreamId, to: StreamId, bytes: usize) -> usize {
        let n = bytes.min(self.send_room(to));
        let n = n.min(self.get(from).received.front().len());
        let data = self.stream(from).received.take(n);
        self.stream(to).sent.push(&data)
    }

    fn connect(&mut self, server: ServerId) -> Result<StreamId, ConnectError> {
        if self.unreachable.contains(&server) {
            return Err(ConnectError::NoRoute);
        }
        self.connects += 1;
        self.open(None, Some(server)).ok_or(ConnectError::NoSlot)
    }

    fn finish(&mut self, id: StreamId) {
        self.stream(id).finished = true;
    }

    fn abort(&mut self, id: StreamId) {
        let stream = self.stream(id);
        stream.aborted = true;
        stream.status = StreamStatus::Closed(CloseReason::Finished);
    }

    fn release(&mut self, id: StreamId) {
        let stream = self.stream(id);
        assert!(!stream.released, "a stream is released once");
        stream.released = true;
        stream.finished = true;
    }

    fn expect_reply(&mut self, id: StreamId, expected: bool) {
        self.stream(id).expects = expected;
    }
}
