//! A client's bytes against a request parser.

use crate::cuts::pieces;
use crate::framing::{Frame, Framed};
use crate::queue::Queue;
use tidegate_protocol::{
    NextKey, Parsed, REQUEST_TOKEN_BYTES_MAX, Recovery, Refusal, RefusalText, Request, RequestRest,
    Resume, Route, decode_key, next_key, write_inline,
};

/// The function that is tried.
pub type Parse = fn(&[u8], &mut Resume) -> Parsed;

/// How a request is treated of which only the front is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// It waits for all of it, looking again after every piece.
    Look,
    /// It waits for all of it, looking again only once the bytes asked for are there.
    Wait,
    /// It takes the front and measures the rest.
    Take,
}

/// One thing that the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A request. Its own count of bytes is 0: how much of it was there when it was taken depends on the pieces.
    Request {
        /// What the parser says.
        request: Request,
        /// Its bytes.
        wire: Vec<u8>,
    },
    /// A refusal.
    Refused {
        /// What the client is told.
        reply: Vec<u8>,
        /// The connection ends behind it.
        closes: bool,
    },
}

enum State {
    AtRequest,
    Passing {
        request: Request,
        wire: Vec<u8>,
        rest: RequestRest,
    },
    Skipping {
        rest: RequestRest,
    },
    Closed,
}

/// A connection whose bytes arrive in pieces.
pub struct Connection {
    parse: Parse,
    heads: Heads,
    buffer: Queue,
    resume: Resume,
    need: usize,
    /// The most that was asked for since the request began.
    need_max: usize,
    state: State,
    /// What was found.
    pub found: Vec<Found>,
}

impl Connection {
    /// A connection at its start.
    pub fn new(parse: Parse, heads: Heads) -> Self {
        Self {
            parse,
            heads,
            buffer: Queue::default(),
            resume: Resume::default(),
            need: 1,
            need_max: 0,
            state: State::AtRequest,
            found: Vec::new(),
        }
    }

    /// What is found in a stream that arrives in these pieces.
    pub fn play<'a>(
        parse: Parse,
        heads: Heads,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let mut connection = Self::new(parse, heads);
        for piece in pieces {
            connection.receive(piece);
        }
        connection
    }

    /// Takes a piece.
    pub fn receive(&mut self, piece: &[u8]) {
        if self.is_closed() {
            return;
        }
        self.buffer.push(piece);
        while self.step() {}
    }

    /// The parser has closed it.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Nothing was begun.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.state, State::AtRequest) && self.buffer.is_empty()
    }

    /// Does one thing, and tells whether another may follow.
    fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => false,
            State::AtRequest => {
                self.state = State::AtRequest;
                self.parse()
            }
            State::Skipping { mut rest } => match self.measure(&mut rest) {
                Ok(0) if !rest.is_done() => {
                    self.state = State::Skipping { rest };
                    false
                }
                Ok(bytes) => {
                    self.buffer.take(bytes);
                    let done = rest.is_done();
                    self.state = if done {
                        State::AtRequest
                    } else {
                        State::Skipping { rest }
                    };
                    done
                }
                Err(refusal) => self.refuse(&refusal),
            },
            State::Passing {
                request,
                mut wire,
                mut rest,
            } => match self.measure(&mut rest) {
                Ok(bytes) => {
                    wire.extend_from_slice(&self.buffer.bytes()[..bytes]);
                    self.buffer.take(bytes);
                    let done = rest.is_done();
                    if done {
                        self.found.push(Found::Request { request, wire });
                        self.state = State::AtRequest;
                    } else {
                        self.state = State::Passing {
                            request,
                            wire,
                            rest,
                        };
                    }
                    done
                }
                Err(refusal) => self.refuse(&refusal),
            },
        }
    }

    fn measure(&self, rest: &mut RequestRest) -> Result<usize, Refusal> {
        let scan = rest.measure(self.buffer.bytes())?;
        assert!(
            scan.bytes <= self.buffer.len(),
            "only what is there is taken"
        );
        assert_eq!(scan.done, rest.is_done(), "both say the same");
        assert!(
            scan.done || self.buffer.len() - scan.bytes < REQUEST_TOKEN_BYTES_MAX,
            "what is left is shorter than a token"
        );
        Ok(scan.bytes)
    }

    fn parse(&mut self) -> bool {
        let here = self.buffer.len();
        if self.heads != Heads::Look && here < self.need {
            return false;
        }
        let parsed = (self.parse)(self.buffer.bytes(), &mut self.resume);
        match parsed {
            Parsed::Incomplete { need } => self.wait_for(need),
            Parsed::Head {
                request,
                rest,
                need,
            } => {
                assert!(!rest.is_done(), "a head is followed by something");
                self.check(&request);
                if self.heads != Heads::Take {
                    return self.wait_for(need);
                }
                assert!(need > here, "asks for {need} bytes, has {here}");
                let mut request = request;
                let wire = self.buffer.bytes()[..request.bytes].to_vec();
                self.take(request.bytes);
                request.bytes = 0;
                self.state = State::Passing {
                    request,
                    wire,
                    rest,
                };
                true
            }
            Parsed::Whole(mut request) => {
                assert_eq!(self.resume, Resume::default(), "the parser starts anew");
                assert!(request.bytes > 0, "a request has bytes");
                assert!(
                    self.need_max <= request.bytes,
                    "{} bytes were asked for, the request has {}",
                    self.need_max,
                    request.bytes
                );
                self.check(&request);
                self.check_keys(&request);
                let wire = self.buffer.bytes()[..request.bytes].to_vec();
                self.take(request.bytes);
                request.bytes = 0;
                self.found.push(Found::Request { request, wire });
                true
            }
            Parsed::Inline { bytes, wire_bytes } => {
                assert_eq!(self.resume, Resume::default(), "the parser starts anew");
                assert!(bytes > 0 && bytes <= here, "takes {bytes} of {here}");
                let mut wire = Vec::new();
                write_inline(&self.buffer.bytes()[..bytes], &mut wire);
                assert_eq!(wire.len(), wire_bytes, "the array is as long as was said");
                self.take(bytes);
                self.buffer.put_in_front(&wire);
                true
            }
            Parsed::Skip { bytes } => {
                assert_eq!(self.resume, Resume::default(), "the parser starts anew");
                assert!(bytes > 0 && bytes <= here, "skips {bytes} of {here}");
                self.take(bytes);
                true
            }
            Parsed::Refused(refusal) => {
                assert_eq!(self.resume, Resume::default(), "the parser starts anew");
                self.refuse(&refusal)
            }
        }
    }

    fn wait_for(&mut self, need: usize) -> bool {
        let here = self.buffer.len();
        assert!(need > here, "asks for {need} bytes, has {here}");
        self.need = need;
        self.need_max = self.need_max.max(need);
        false
    }

    /// Every range of a request lies within what is there of it.
    fn check(&self, request: &Request) {
        assert!(request.bytes <= self.buffer.len(), "only what is there");
        let noreply = request.noreply.clone().unwrap_or(0..0);
        for range in [&request.key, &request.prefix, &noreply] {
            assert!(
                range.start <= range.end && range.end <= request.bytes,
                "{request:?}"
            );
        }
    }

    /// Its keys lie within it, and there are no more of them than bytes.
    fn check_keys(&self, request: &Request) {
        let buffer = self.buffer.bytes();
        if request.route == Route::Base64Key {
            assert!(decode_key(&buffer[request.key.clone()]).is_some());
        }
        let mut keys = 0;
        for part in request.keys(buffer) {
            assert!(part.wire.start <= part.key.start && part.key.end <= part.wire.end);
            assert!(part.wire.end <= request.bytes, "{request:?}");
            keys += 1;
            assert!(keys <= request.bytes, "a key has a byte");
        }
        // The same request as one that is taken in chunks.
        if let Some(front) = request.divided() {
            let mut at = front.prefix.end;
            for _ in 0..front.keys {
                let NextKey::Whole { bytes } = next_key(front.split, &buffer[at..]) else {
                    panic!("every key of a whole request is whole");
                };
                at += bytes;
            }
            assert_eq!(at, request.bytes, "the keys are all there is");
            assert_eq!(keys as u32, front.keys);
        }
    }

    fn take(&mut self, bytes: usize) {
        self.buffer.take(bytes);
        self.resume = Resume::default();
        self.need = 1;
        self.need_max = 0;
    }

    fn refuse(&mut self, refusal: &Refusal) -> bool {
        let reply = render(&refusal.reply, self.buffer.bytes());
        let closes = refusal.recovery == Recovery::Close;
        self.found.push(Found::Refused { reply, closes });
        self.state = match refusal.recovery {
            Recovery::Close => State::Closed,
            Recovery::Skip { bytes, rest } => {
                assert!(bytes <= self.buffer.len(), "only what is there");
                assert!(bytes > 0 || !rest.is_done(), "a refusal takes something");
                self.take(bytes);
                State::Skipping { rest }
            }
        };
        !closes
    }
}

/// The text of a refusal as the proxy sends it.
fn render(text: &RefusalText, buffer: &[u8]) -> Vec<u8> {
    match *text {
        RefusalText::Constant(text) => text.as_bytes().to_vec(),
        RefusalText::Named {
            before,
            name_start,
            name_bytes,
            after,
        } => {
            assert!(name_bytes <= 128, "a name is shown in part");
            let name = &buffer[name_start as usize..(name_start + name_bytes) as usize];
            let shown = name.iter().map(|&byte| match byte {
                b' '..=b'~' => byte,
                _ => b'?',
            });
            before.bytes().chain(shown).chain(after.bytes()).collect()
        }
        RefusalText::Binary(head, status) => {
            let text = status.text();
            let header = head.reply_header(status, 0, text.len() as u32);
            [&header, text.as_bytes()].concat()
        }
    }
}

/// Whether `found` is a memcached block that does not end as it should: known too late when its front was passed on.
pub(crate) fn is_bad_block(found: &Found) -> bool {
    matches!(found, Found::Refused { reply, .. } if reply.starts_with(b"CLIENT_ERROR bad data chunk"))
}

/// Whether `found` ends the connection. The words for a request of which a part was passed on are twemproxy's to choose.
fn closes(found: &Found) -> bool {
    matches!(found, Found::Refused { closes: true, .. })
}

/// Plays `input` in different pieces and ways against `parse`.
///
/// # Panics
/// When the ways differ, or a promise is broken.
pub fn check(parse: Parse, frame: Frame, input: &[u8]) {
    let whole = Connection::play(parse, Heads::Look, [input]);
    for found in &whole.found {
        if let Found::Request { request, wire } = found {
            let Framed::Request { bytes, words } = frame(wire) else {
                panic!("a server would not take {}", wire.escape_ascii());
            };
            assert_eq!(bytes, wire.len(), "{}", wire.escape_ascii());
            let Some(name) = words.first() else {
                continue;
            };
            let name = &wire[name.clone()];
            assert!(
                name.eq_ignore_ascii_case(request.name.as_bytes())
                    || request.name.contains(|c: char| !c.is_ascii_alphanumeric()),
                "{} is taken for {}",
                wire.escape_ascii(),
                request.name
            );
        }
    }
    let same = |other: &Connection, what: &str| {
        assert_eq!(whole.found, other.found, "{what}");
        assert_eq!(whole.is_closed(), other.is_closed(), "{what}");
        assert_eq!(
            whole.is_between_requests(),
            other.is_between_requests(),
            "{what}"
        );
    };
    let cut = pieces(input);
    let bytewise = Connection::play(parse, Heads::Look, input.chunks(1));
    same(&bytewise, "byte by byte");
    let pieced = Connection::play(parse, Heads::Look, cut.iter().copied());
    same(&pieced, "in pieces");
    // Who waits as long as he is told to may not have seen a fault yet.
    let patient = Connection::play(parse, Heads::Wait, cut.iter().copied());
    let found = patient.found.len();
    assert!(found <= whole.found.len(), "waiting brings no more");
    assert_eq!(whole.found[..found], patient.found, "waiting");
    // Who passes on the front of a request learns too late that its end is malformed.
    let taken = Connection::play(parse, Heads::Take, cut.iter().copied());
    let until = taken
        .found
        .iter()
        .position(|found| is_bad_block(found) || closes(found));
    let until = until.unwrap_or(taken.found.len());
    assert!(until <= whole.found.len(), "taking heads brings no more");
    assert_eq!(whole.found[..until], taken.found[..until], "taking heads");
    if let (Some(whole), Some(taken)) = (whole.found.get(until), taken.found.get(until)) {
        let both_close = closes(whole) && closes(taken);
        assert!(both_close || is_bad_block(taken), "{whole:?} is {taken:?}");
    }
}
