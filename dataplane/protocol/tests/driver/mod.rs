//! Plays a client connection against the parser: bytes arrive in pieces, and what the parser says becomes a list of lines to compare.
#![allow(dead_code)] // Each test file uses a part.

pub mod replies;
pub mod server;

use std::fmt::Write;

use tidegate_protocol::{
    BinaryHead, BinaryStatus, Local, Parsed, Protocol, Recovery, Refusal, RefusalText, ReplyError,
    ReplyScanner, ReplyShape, Request, RequestRest, Resume, Route, Split, decode_key,
    parse_request, write_inline,
};

/// How the driver treats a request of which only the front is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// It waits for all of it, looking again after every piece.
    Look,
    /// It waits for all of it, looking again only once the bytes asked for are there.
    Wait,
    /// It takes the front and measures the rest.
    Take,
}

pub const ALL_HEADS: [Heads; 3] = [Heads::Look, Heads::Wait, Heads::Take];

/// One thing that the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is, in words.
    pub text: String,
    /// The bytes of a request as they go to a server, without noreply.
    pub wire: Vec<u8>,
    /// The shape of its reply.
    pub reply: ReplyShape,
    pub noreply: bool,
    /// A refusal's reply.
    pub refusal: Option<Vec<u8>>,
}

enum State {
    AtRequest,
    Passing { event: Event, rest: RequestRest },
    Skipping { rest: RequestRest },
    Closed,
}

pub struct Client {
    protocol: Protocol,
    heads: Heads,
    buffer: Vec<u8>,
    resume: Resume,
    need: usize,
    state: State,
    pub events: Vec<Event>,
}

impl Client {
    pub fn new(protocol: Protocol, heads: Heads) -> Self {
        Self {
            protocol,
            heads,
            buffer: Vec::new(),
            resume: Resume::default(),
            need: 1,
            state: State::AtRequest,
            events: Vec::new(),
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.step() {}
    }

    /// Does one thing, and tells whether another may follow.
    fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => false,
            State::AtRequest => {
                self.state = State::AtRequest;
                self.parse()
            }
            State::Skipping { mut rest } => match rest.measure(&self.buffer) {
                Ok(scan) => {
                    assert!(scan.bytes <= self.buffer.len());
                    assert_eq!(scan.done, rest.is_done());
                    self.buffer.drain(..scan.bytes);
                    self.state = if scan.done {
                        State::AtRequest
                    } else {
                        State::Skipping { rest }
                    };
                    scan.done
                }
                Err(refusal) => self.refuse(refusal),
            },
            State::Passing {
                mut event,
                mut rest,
            } => match rest.measure(&self.buffer) {
                Ok(scan) => {
                    event.wire.extend(self.buffer.drain(..scan.bytes));
                    if scan.done {
                        self.events.push(event);
                        self.state = State::AtRequest;
                    } else {
                        self.state = State::Passing { event, rest };
                    }
                    scan.done
                }
                Err(refusal) => self.refuse(refusal),
            },
        }
    }

    fn parse(&mut self) -> bool {
        let here = self.buffer.len();
        if self.heads != Heads::Look && here < self.need {
            return false;
        }
        match parse_request(self.protocol, &self.buffer, &mut self.resume) {
            Parsed::Incomplete { need } => {
                assert!(need > here, "asks for {need} bytes, has {here}");
                self.need = need;
                return false;
            }
            Parsed::Head {
                request,
                rest,
                need,
            } => {
                assert!(need > here, "asks for {need} bytes, has {here}");
                assert!(!rest.is_done());
                assert!(matches!(
                    request.route,
                    Route::Key | Route::Base64Key | Route::Any | Route::First | Route::Channel
                ));
                if self.heads != Heads::Take {
                    self.need = need;
                    return false;
                }
                let event = event(&request, &self.buffer);
                self.take(request.bytes);
                self.state = State::Passing { event, rest };
            }
            Parsed::Whole(request) => {
                assert_eq!(self.resume, Resume::default());
                self.events.push(event(&request, &self.buffer));
                self.take(request.bytes);
            }
            Parsed::Inline { bytes, wire_bytes } => {
                assert_eq!(self.resume, Resume::default());
                let mut wire = Vec::new();
                write_inline(&self.buffer[..bytes], &mut wire);
                assert_eq!(wire.len(), wire_bytes);
                self.take(bytes);
                self.buffer.splice(..0, wire);
            }
            Parsed::Skip { bytes } => {
                assert_eq!(self.resume, Resume::default());
                self.take(bytes);
            }
            Parsed::Refused(refusal) => {
                assert_eq!(self.resume, Resume::default());
                return self.refuse(refusal);
            }
        }
        true
    }

    fn take(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.resume = Resume::default();
        self.need = 1;
    }

    fn refuse(&mut self, refusal: Refusal) -> bool {
        let reply = render(&refusal.reply, &self.buffer);
        let words = String::from_utf8_lossy(&reply).trim_end().to_owned();
        let closes = refusal.recovery == Recovery::Close;
        let text = format!("{} {words}", if closes { "close" } else { "refuse" });
        self.events.push(Event {
            text,
            wire: Vec::new(),
            reply: ReplyShape::Line,
            noreply: false,
            refusal: Some(reply),
        });
        self.state = match refusal.recovery {
            Recovery::Close => State::Closed,
            Recovery::Skip { bytes, rest } => {
                self.take(bytes);
                State::Skipping { rest }
            }
        };
        !closes
    }

    /// The events in words. What has not come to a decision is one of them.
    pub fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.events.iter().map(|event| event.text.clone()).collect();
        let waiting = match &self.state {
            State::Closed => false,
            State::AtRequest => !self.buffer.is_empty(),
            State::Passing { .. } | State::Skipping { .. } => true,
        };
        if waiting {
            texts.push("more".to_owned());
        }
        texts
    }
}

/// The text of a refusal as the proxy sends it.
pub fn render(text: &RefusalText, buffer: &[u8]) -> Vec<u8> {
    match *text {
        RefusalText::Constant(text) => text.as_bytes().to_vec(),
        RefusalText::Named {
            before,
            name_start,
            name_bytes,
            after,
        } => {
            assert!(name_bytes <= 128);
            let name = &buffer[name_start as usize..(name_start + name_bytes) as usize];
            let shown = name.iter().map(|&byte| {
                if matches!(byte, b' '..=b'~') {
                    byte
                } else {
                    b'?'
                }
            });
            before.bytes().chain(shown).chain(after.bytes()).collect()
        }
        RefusalText::Binary(head, status) => frame(head, status, status.text()),
    }
}

/// A frame that the proxy makes itself.
pub fn frame(head: BinaryHead, status: BinaryStatus, body: &str) -> Vec<u8> {
    let header = head.reply_header(status, 0, body.len() as u32);
    [&header, body.as_bytes()].concat()
}

fn event(request: &Request, buffer: &[u8]) -> Event {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let front = &buffer[..request.bytes];
    let name = request.name;
    let text = match request.route {
        Route::Key => format!("key {name} {}", shown(&front[request.key.clone()])),
        Route::Base64Key => {
            let key = decode_key(&front[request.key.clone()]).expect("the parser has looked at it");
            format!("key {name} {}", shown(key.bytes()))
        }
        Route::Any => format!("any {name}"),
        Route::Local(local @ (Local::Ping | Local::Auth | Local::Select)) => {
            format!(
                "local {local:?} {} {}",
                request.argc,
                shown(&front[request.key.clone()])
            )
        }
        Route::Local(local) => format!("local {local:?}"),
        Route::First => format!("first {name}"),
        Route::Scan => format!("scan {name}"),
        Route::Channel => format!("channel {name}"),
        Route::Broadcast(merge) => format!("broadcast {merge:?} {name}"),
        Route::Together => format!("together {name}{}", keys_text(request, front)),
        Route::Pinned(pin) => format!("pinned {pin:?} {name}{}", keys_text(request, front)),
        Route::Split(split) => split_text(split, request, front),
    };
    let noreply = request.noreply.clone();
    let mut wire = front.to_vec();
    if let Some(range) = noreply.clone() {
        let word = wire[range.clone()].trim_ascii_start();
        assert!(wire[range.start] == b' ');
        assert!(word == b"noreply" || !request.is_silent() && word.starts_with(b"q"));
        wire.drain(range);
    }
    let text = match request.reply {
        ReplyShape::Meta(quiet) if noreply.is_some() => format!("{text} {quiet:?}"),
        _ if noreply.is_some() => text + " noreply",
        _ => text,
    };
    Event {
        text,
        wire,
        reply: request.reply,
        noreply: request.is_silent(),
        refusal: None,
    }
}

/// The keys with a blank in front of each. The first is the one that routes.
fn keys_text(request: &Request, front: &[u8]) -> String {
    let keys: Vec<_> = request.keys(front).map(|part| part.key).collect();
    assert_eq!(
        keys.first().unwrap_or(&(0..0)),
        &request.key,
        "{}",
        request.name
    );
    keys.iter().fold(String::new(), |text, key| {
        text + " " + &String::from_utf8_lossy(&front[key.clone()])
    })
}

fn split_text(split: Split, request: &Request, front: &[u8]) -> String {
    let mut text = format!(
        "split {:?} {:?}",
        split,
        String::from_utf8_lossy(&front[request.prefix.clone()])
    );
    let mut end = request.prefix.end;
    for (position, part) in request.keys(front).enumerate() {
        if position == 0 {
            assert_eq!(part.key, request.key);
        }
        assert!(part.wire.start >= end);
        end = part.wire.end;
        let wire = String::from_utf8_lossy(&front[part.wire]);
        write!(text, " {wire:?}").expect("a String takes everything");
    }
    text
}

/// What a whole stream gives when it arrives in these pieces.
pub fn play<'a>(
    protocol: Protocol,
    heads: Heads,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<String> {
    let mut client = Client::new(protocol, heads);
    for piece in pieces {
        client.receive(piece);
    }
    client.texts()
}

/// All pieces in which a short stream is tried: whole, every cut in two, and byte by byte.
pub fn segmentations(stream: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all = vec![vec![stream]];
    all.extend((1..stream.len()).map(|cut| vec![&stream[..cut], &stream[cut..]]));
    all.push(stream.chunks(1).collect());
    all
}

/// Measures one reply at the front of `stream`, which arrives in these pieces: its bytes, whether it is an error, and whether it ends.
pub fn measure<'a>(
    shape: ReplyShape,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(usize, bool, bool), ReplyError> {
    let mut scanner = ReplyScanner::new(shape);
    let mut buffer = Vec::new();
    let mut total = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let scan = scanner.scan(&buffer)?;
        assert!(scan.bytes <= buffer.len());
        assert_eq!(scan.done, scanner.is_done());
        buffer.drain(..scan.bytes);
        total += scan.bytes;
        if scan.done {
            break;
        }
    }
    Ok((total, scanner.is_error(), scanner.is_done()))
}
