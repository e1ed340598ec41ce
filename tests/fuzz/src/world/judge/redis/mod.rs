//! Clients of Redis.
//!
//! The state that a client has is followed from request to request: which replies it wants, its dialect and database, a transaction,
//! subscriptions.

mod subscriber;

use super::{Complaint, Reader, Taken};
use crate::framing::{self, Framed};
use crate::requests::{Connection, Found};
use crate::world::redis::{Dialect, Message, Subscriptions, array, bulk, redis_answer};
use std::collections::HashSet;
use tidegate_protocol::{Local, Merge, Pin, ReplyShape, Request, Route};

const QUEUED: &[u8] = b"+QUEUED\r\n";

/// What the proxy publishes itself, to nobody.
const OWN_CHANNEL: &[u8] = b"tidegate:wait";

/// Databases that a client can select: the default of the configuration.
const DATABASES: u16 = 16;

/// Which replies a client does not want.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mute {
    No,
    Next,
    All,
}

/// Between MULTI and EXEC.
#[derive(Default)]
struct Transaction {
    /// The requests that were queued.
    queue: Vec<Vec<u8>>,
    /// EXEC has to fail.
    aborted: bool,
    /// The client does not see what became of its requests.
    unseen: bool,
}

/// What a request is and may be answered with.
struct Asked<'a> {
    request: &'a Request,
    wire: &'a [u8],
    words: Vec<&'a [u8]>,
}

impl<'a> Asked<'a> {
    fn new(request: &'a Request, wire: &'a [u8]) -> Self {
        let words = match framing::redis(wire) {
            Framed::Request { words, .. } => words.into_iter().map(|word| &wire[word]).collect(),
            Framed::Incomplete | Framed::Malformed => Vec::new(),
        };
        Self {
            request,
            wire,
            words,
        }
    }

    fn word(&self, n: usize) -> &'a [u8] {
        self.words.get(n).copied().unwrap_or_default()
    }

    fn answer(&self, dialect: Dialect) -> Vec<u8> {
        answer(self.wire, dialect)
    }
}

fn answer(wire: &[u8], dialect: Dialect) -> Vec<u8> {
    match framing::redis(wire) {
        Framed::Request { words, .. } => redis_answer(wire, &words, dialect),
        Framed::Incomplete | Framed::Malformed => Vec::new(),
    }
}

/// How a walk over the replies ends early.
enum Stop {
    /// There is no more to judge.
    Over,
    Wrong(Complaint),
}

impl From<Complaint> for Stop {
    fn from(what: Complaint) -> Self {
        Self::Wrong(what)
    }
}

struct Walk<'a> {
    reader: Reader<'a>,
    at: usize,
    mute: Mute,
    /// `None`: the client did not see what it asked for.
    resp3: Option<bool>,
    database: Option<u16>,
    transaction: Option<Transaction>,
    subscriptions: Subscriptions,
    /// All that was published in this world.
    published: HashSet<Message>,
}

pub(super) fn judge(reader: Reader<'_>, asked: &Connection) {
    let mut walk = Walk {
        reader,
        at: 0,
        mute: Mute::No,
        resp3: Some(false),
        database: Some(0),
        transaction: None,
        subscriptions: Subscriptions::default(),
        published: HashSet::new(),
    };
    let stop = match walk.go(asked) {
        Ok(()) => return,
        Err(stop) => stop,
    };
    if let Stop::Wrong(what) = stop {
        reader.fail(what, walk.at);
    }
}

impl Walk<'_> {
    fn go(&mut self, asked: &Connection) -> Result<(), Stop> {
        for found in &asked.found {
            match found {
                Found::Refused { reply, closes } => self.refused(reply, *closes)?,
                Found::Request { request, wire } => self.request(&Asked::new(request, wire))?,
            }
        }
        self.hear()?;
        // Of the request that was only begun, an error may be known already; and a second one if its end was malformed behind that.
        let errors_max = 2 * usize::from(!asked.is_between_requests());
        self.ends(errors_max, None)
    }

    /// Nothing may follow but so many errors, and with this one the end of the connection.
    fn ends(&mut self, mut errors_max: usize, closing: Option<&[u8]>) -> Result<(), Stop> {
        let is_aborted = self.transaction.as_ref().is_some_and(|it| it.aborted);
        if is_aborted && errors_max > 0 && self.reader.rest(self.at).starts_with(QUEUED) {
            // What EXEC will not execute is said to be queued as soon as it begins.
            self.at += QUEUED.len();
            errors_max -= 1;
        }
        // Messages come between.
        while !self.subscriptions.are_none() {
            self.hear()?;
            let (bytes, is_error, done) = self.reader.reply(ReplyShape::Resp, self.at)?;
            let is_closing = closing == Some(&self.reader.rest(self.at)[..bytes]);
            if errors_max == 0 || !done || !is_error || is_closing {
                break;
            }
            self.at += bytes;
            errors_max -= 1;
        }
        Ok(self.reader.ends_with_errors(self.at, errors_max, closing)?)
    }

    fn refused(&mut self, reply: &[u8], closes: bool) -> Result<(), Stop> {
        if closes {
            self.hear()?;
            // What was passed on before its end turned out to be malformed may have its own error.
            let seen = Some(reply).filter(|reply| !reply.is_empty() && self.mute == Mute::No);
            self.ends(2, seen)?;
            return Err(Stop::Over);
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.aborted = true;
        }
        if !reply.is_empty() {
            self.take(|got| got == reply)?;
        }
        Ok(())
    }

    /// Whether the reply to the request at hand is one that the client does not want.
    fn is_muted(&mut self) -> bool {
        let muted = self.mute != Mute::No;
        if self.mute == Mute::Next {
            self.mute = Mute::No;
        }
        muted
    }

    /// Takes the reply to a request: whether it is an error. `None`: the client did not want it.
    fn take(&mut self, fits: impl FnOnce(&[u8]) -> bool) -> Result<Option<bool>, Stop> {
        if self.is_muted() {
            return Ok(None);
        }
        self.hear()?;
        match self.reader.take(ReplyShape::Resp, self.at, fits) {
            Ok(Taken::To { at, is_error }) => {
                self.at = at;
                Ok(Some(is_error))
            }
            Ok(Taken::Ended) => Err(Stop::Over),
            Err(what) => Err(what.into()),
        }
    }

    fn dialects(&self) -> Vec<Dialect> {
        let resp3 = self.resp3.map_or(vec![false, true], |resp3| vec![resp3]);
        let databases = self
            .database
            .map_or(0..DATABASES, |database| database..database + 1);
        let of = |resp3| {
            let databases = databases.clone();
            databases.map(move |database| Dialect { resp3, database })
        };
        resp3.into_iter().flat_map(of).collect()
    }

    fn request(&mut self, asked: &Asked<'_>) -> Result<(), Stop> {
        match asked.request.route {
            Route::Local(Local::Quit) => return self.quit(),
            Route::Local(Local::Reset) => return self.reset(),
            _ => {}
        }
        if self.transaction.is_some() {
            return self.in_transaction(asked);
        }
        let subscribed = !self.subscriptions.are_none();
        if subscribed && self.resp3.is_none() {
            // What a subscriber may ask depends on a dialect that nobody told.
            return Err(Stop::Over);
        }
        let is_held = subscribed && self.resp3 == Some(false);
        match asked.request.route {
            Route::Pinned(
                Pin::Subscribe
                | Pin::Unsubscribe
                | Pin::Psubscribe
                | Pin::Punsubscribe
                | Pin::Ssubscribe
                | Pin::Sunsubscribe,
            ) => self.subscribe(asked),
            Route::Local(Local::Ping) if is_held => {
                let message = bulk(Some(asked.word(1)), false);
                let pong = array(&[bulk(Some(b"pong"), false), message]);
                self.take(|got| got == pong).map(|_| ())
            }
            _ if is_held => self.take(|_| false).map(|_| ()),
            Route::Local(Local::ClientReply) => self.client_reply(asked),
            Route::Local(Local::Hello) => self.hello(asked),
            Route::Local(Local::Select) => self.select(asked),
            Route::Pinned(Pin::Multi) => {
                let taken = self.take(|got| got == b"+OK\r\n")?;
                let is_subscriber = !self.subscriptions.are_none();
                if taken.map_or(!is_subscriber, |is_error| !is_error) {
                    self.transaction = Some(Transaction::default());
                }
                Ok(())
            }
            Route::Pinned(Pin::Blocking) => {
                // A client that sends no more is not waited for. And a server that says anything may say nothing, for which there
                // is no timeout.
                let reader = self.reader;
                let is_left = reader.client.sends_no_more && reader.has_ended(self.at);
                let is_whole = reader.reply(ReplyShape::Resp, self.at)?.2;
                if is_left || !(reader.world.honest || is_whole) {
                    return Err(Stop::Over);
                }
                self.answered(asked)
            }
            _ => self.answered(asked),
        }
    }

    /// A request whose answer changes nothing for the client.
    fn answered(&mut self, asked: &Asked<'_>) -> Result<(), Stop> {
        let counts = &self.reader.world.counts;
        let dialects = self.dialects();
        let exact = |got: &[u8]| {
            let fits = |dialect: &Dialect| got == asked.answer(*dialect);
            dialects.iter().any(fits)
        };
        let fits = |got: &[u8]| match asked.request.route {
            Route::Key | Route::Any | Route::First | Route::Together | Route::Split(_) => {
                exact(got)
            }
            Route::Channel | Route::Pinned(Pin::Blocking | Pin::Watch | Pin::Unwatch) => exact(got),
            Route::Pinned(_) => false,
            Route::Broadcast(Merge::Info) => got.starts_with(b"$") || got.starts_with(b"="),
            Route::Broadcast(Merge::Sum) => {
                let sum = |servers: &usize| format!(":{}\r\n", 2 * servers);
                counts.iter().any(|count| got == sum(count).as_bytes())
            }
            Route::Broadcast(Merge::Keys) => dialects.iter().any(|dialect| {
                let part = asked.answer(*dialect).split_off(b"*1\r\n".len());
                let keys = |servers: &usize| array(&vec![part.clone(); *servers]);
                counts.iter().any(|count| got == keys(count))
            }),
            Route::Broadcast(_) => exact(got),
            Route::Scan => got.starts_with(b"*2\r\n$"),
            Route::Local(Local::Ping) if asked.words.len() == 1 => got == b"+PONG\r\n",
            Route::Local(Local::Ping | Local::Echo) => got == bulk(Some(asked.word(1)), false),
            Route::Local(_) | Route::Base64Key => true,
        };
        self.take(fits).map(|_| ())
    }

    fn quit(&mut self) -> Result<(), Stop> {
        if !self.reader.world.setting.twemproxy {
            let is_refused = self.take(|got| got == b"+OK\r\n")? == Some(true);
            if is_refused {
                // With words that are too many to be held it is no request.
                return Ok(());
            }
        }
        self.reader.ends_with_errors(self.at, 0, Some(b""))?;
        Err(Stop::Over)
    }

    fn reset(&mut self) -> Result<(), Stop> {
        self.mute = Mute::No;
        self.take(|got| got == b"+RESET\r\n")?;
        (self.resp3, self.database) = (Some(false), Some(0));
        self.transaction = None;
        self.subscriptions = Subscriptions::default();
        Ok(())
    }

    fn client_reply(&mut self, asked: &Asked<'_>) -> Result<(), Stop> {
        let word = asked.word(2);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"off") {
            self.mute = Mute::All;
        } else if is(b"skip") {
            if self.mute == Mute::No {
                self.mute = Mute::Next;
            }
        } else {
            if is(b"on") {
                self.mute = Mute::No;
            }
            self.take(|got| got == b"+OK\r\n")?;
        }
        Ok(())
    }

    fn hello(&mut self, asked: &Asked<'_>) -> Result<(), Stop> {
        let mut resp3 = None;
        let taken = self.take(|got| {
            let says = |text: &[u8]| got.windows(text.len()).any(|window| window == text);
            resp3 = Some(says(b"$5\r\nproto\r\n:3\r\n"));
            says(b"$5\r\nproto\r\n:")
                && got.starts_with(if resp3 == Some(true) { b"%7" } else { b"*1" })
        })?;
        match taken {
            Some(false) if self.reader.world.honest => {
                let wanted = match asked.word(1) {
                    b"" => self.resp3,
                    version => Some(version == b"3"),
                };
                if wanted.is_some_and(|wanted| resp3 != Some(wanted)) {
                    return Err("HELLO brings another dialect than was asked for".into());
                }
                self.resp3 = resp3;
            }
            Some(false) | None if asked.words.len() > 1 => self.resp3 = None,
            _ => {}
        }
        Ok(())
    }

    fn select(&mut self, asked: &Asked<'_>) -> Result<(), Stop> {
        let number = std::str::from_utf8(asked.word(1)).ok();
        let database = number.and_then(|number| number.parse().ok());
        match self.take(|got| got == b"+OK\r\n")? {
            Some(true) => {}
            Some(false) if database.is_none_or(|database| database >= DATABASES) => {
                return Err("there is no such database".into());
            }
            Some(false) => self.database = database,
            None => self.database = None,
        }
        Ok(())
    }

    fn in_transaction(&mut self, asked: &Asked<'_>) -> Result<(), Stop> {
        let Some(mut transaction) = self.transaction.take() else {
            return Ok(());
        };
        match asked.request.route {
            Route::Pinned(Pin::Exec) => {
                let dialects = self.dialects();
                let fits = |got: &[u8]| {
                    let executed = |dialect: &Dialect| {
                        let answers = transaction.queue.iter();
                        let answers: Vec<_> = answers.map(|wire| answer(wire, *dialect)).collect();
                        got == array(&answers)
                    };
                    !transaction.aborted && (transaction.unseen || dialects.iter().any(executed))
                };
                self.take(fits)?;
                return Ok(());
            }
            Route::Pinned(Pin::Discard) => {
                self.take(|got| got == b"+OK\r\n")?;
                return Ok(());
            }
            // An error that does not make EXEC fail.
            Route::Pinned(Pin::Multi | Pin::Watch) => {
                self.take(|_| false)?;
            }
            _ => match self.take(|got| got == QUEUED)? {
                Some(true) => transaction.aborted = true,
                Some(false) => transaction.queue.push(asked.wire.to_vec()),
                None => transaction.unseen = true,
            },
        }
        self.transaction = Some(transaction);
        Ok(())
    }
}
