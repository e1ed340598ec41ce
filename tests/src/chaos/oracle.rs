//! What a key or a counter may hold, as far as the only client that writes it can know.
//!
//! A write that was acknowledged is there, until its server loses its memory. A write that got an error or lost its connection is
//! *in doubt*: it may have been done, it may still be done, it may never be. Nothing else can be there.
//!
//! A doubt does not last: once everything has been calm twice, whatever was on its way has arrived or is gone for good
//! ([`DOUBT_CALMS`]). From then on the value would be a wrong one.
//!
//! Servers lose their memory by being killed, and some of it by being full. Each such loss is a new *age* of the server
//! ([`Ages`]): what was known to be there in an earlier age may be missing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Calms after which a doubt is over. One is enough for what is on connections that serve; a second is for a segment that the
/// kernel had given up on for some seconds.
const DOUBT_CALMS: u64 = 2;

/// What is wrong with a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is nobody's answer to this request.
    Wrong(String),
    /// Something that was acknowledged is not there any more.
    Lost(String),
}

/// The ages of the servers of one kind. An odd age is one in which a server is losing things at any time.
#[derive(Debug, Default)]
pub struct Ages(Vec<AtomicU64>);

impl Ages {
    /// So many servers that have lost nothing.
    pub fn new(servers: usize) -> Self {
        Self((0..servers).map(|_| AtomicU64::new(0)).collect())
    }

    /// The age that `server` is in.
    pub fn of(&self, server: usize) -> u64 {
        self.0[server].load(Ordering::SeqCst)
    }

    /// To be called before `server` begins to lose things, and again when it has ended.
    pub fn turn(&self, server: usize) {
        self.0[server].fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether something that was there in the age `then` may be gone in the age `now`.
fn may_be_gone(then: u64, now: u64) -> bool {
    now > then || now % 2 == 1
}

/// The ages around a request: when it was sent, and when its reply was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The age of the server when the request was sent.
    pub sent: u64,
    /// Its age now.
    pub now: u64,
}

/// A write whose outcome is not known.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    token: u64,
    /// Calms that there had been when it was sent.
    calms: u64,
}

/// A key that one client writes. Values are told apart by their tokens.
#[derive(Debug)]
pub struct Register {
    known: Option<u64>,
    age: u64,
    doubts: Vec<Doubt>,
}

impl Register {
    /// A key with the value of `token` in the first age.
    pub fn new(token: u64) -> Self {
        Self {
            known: Some(token),
            age: 0,
            doubts: Vec::new(),
        }
    }

    /// A write is about to be sent: from now on its value may be there.
    pub fn writing(&mut self, token: u64, calms: u64) {
        self.doubts
            .retain(|doubt| doubt.calms + DOUBT_CALMS >= calms);
        self.doubts.push(Doubt { token, calms });
    }

    /// The write was acknowledged.
    pub fn written(&mut self, token: u64, span: Span) {
        self.doubts.retain(|doubt| doubt.token != token);
        self.known = Some(token);
        self.age = span.sent;
    }

    /// A read brought the value of `found`, or none.
    pub fn read(&mut self, found: Option<u64>, span: Span, calms: u64) -> Result<(), Fault> {
        let in_doubt =
            |doubt: &Doubt| found == Some(doubt.token) && doubt.calms + DOUBT_CALMS >= calms;
        if found == self.known {
            if found.is_some() {
                self.age = self.age.max(span.sent);
            }
            Ok(())
        } else if self.doubts.iter().any(in_doubt) {
            self.doubts.retain(|doubt| Some(doubt.token) != found);
            self.known = found;
            self.age = span.sent;
            Ok(())
        } else if found.is_none() && may_be_gone(self.age, span.now) {
            self.known = None;
            Ok(())
        } else {
            let what = format!("{found:?} instead of {:?}, in {span:?}", self.known);
            let doubts: Vec<u64> = self.doubts.iter().map(|doubt| doubt.token).collect();
            Err(Fault::Lost(format!(
                "{what}; known since age {}, in doubt: {doubts:?}, calms: {calms}",
                self.age
            )))
        }
    }
}

/// A counter that one client increments by one.
#[derive(Debug, Default)]
pub struct Counter {
    known: u64,
    age: u64,
    /// Of each increment in doubt, the calms that there had been when it was sent.
    doubts: Vec<u64>,
}

impl Counter {
    /// An increment is about to be sent.
    pub fn counting(&mut self, calms: u64) {
        self.doubts.retain(|then| then + DOUBT_CALMS >= calms);
        self.doubts.push(calms);
    }

    /// The increment that was sent last brought `count`.
    pub fn counted(&mut self, count: u64, span: Span) -> Result<(), Fault> {
        self.doubts.pop();
        let doubts = self.doubts.len() as u64;
        let from = |known: u64| known + 1..=known + 1 + doubts;
        let base = if from(self.known).contains(&count) {
            self.known
        } else if may_be_gone(self.age, span.now) && from(0).contains(&count) {
            0
        } else {
            let what = format!(
                "the counter is {count}; {} are acknowledged since age {}, {doubts} in doubt, in {span:?}",
                self.known, self.age
            );
            return Err(if count > self.known {
                Fault::Wrong(what)
            } else {
                Fault::Lost(what)
            });
        };
        // Those in doubt that were done after all are in doubt no more.
        self.doubts.drain(..(count - base - 1) as usize);
        self.known = count;
        self.age = span.sent;
        Ok(())
    }

    /// For the increment that was sent last, the server knows no such counter.
    pub fn missing(&mut self, span: Span) -> Result<(), Fault> {
        self.doubts.pop();
        if self.known > 0 && !may_be_gone(self.age, span.now) {
            return Err(Fault::Lost(format!(
                "a counter of {} is gone, in {span:?}",
                self.known
            )));
        }
        self.known = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Span = Span { sent: 0, now: 0 };

    #[test]
    fn what_was_acknowledged_has_to_be_there() {
        let mut key = Register::new(1);
        key.writing(2, 0);
        key.written(2, FIRST);
        assert_eq!(key.read(Some(2), FIRST, 0), Ok(()));
        assert!(matches!(key.read(Some(1), FIRST, 0), Err(Fault::Lost(_))));
        assert!(matches!(key.read(None, FIRST, 0), Err(Fault::Lost(_))));
    }

    #[test]
    fn a_doubt_may_come_late_and_only_once() {
        let mut key = Register::new(1);
        key.writing(2, 0);
        key.writing(3, 0);
        key.written(3, FIRST);
        assert_eq!(key.read(Some(3), FIRST, 0), Ok(()));
        assert_eq!(key.read(Some(2), FIRST, 1), Ok(()));
        assert!(
            key.read(Some(3), FIRST, 1).is_err(),
            "it was overwritten by what came late"
        );
    }

    #[test]
    fn a_doubt_ends_with_the_calms() {
        let mut key = Register::new(1);
        key.writing(2, 4);
        assert!(key.read(Some(2), FIRST, 4 + DOUBT_CALMS + 1).is_err());
        assert!(key.read(Some(2), FIRST, 4 + DOUBT_CALMS).is_ok());
    }

    #[test]
    fn a_server_that_lost_its_memory_is_forgiven_once() {
        let mut key = Register::new(1);
        let after = Span { sent: 2, now: 2 };
        assert_eq!(key.read(None, after, 0), Ok(()));
        assert!(
            key.read(Some(1), after, 0).is_err(),
            "what is gone does not come back"
        );
        key.writing(2, 0);
        key.written(2, after);
        assert!(key.read(None, after, 0).is_err());
        // A value that was seen in this age was not lost with the one before.
        let mut seen = Register::new(1);
        assert_eq!(seen.read(Some(1), after, 0), Ok(()));
        assert!(seen.read(None, after, 0).is_err());
    }

    #[test]
    fn a_write_that_crossed_the_loss_may_be_gone() {
        let mut key = Register::new(1);
        key.writing(2, 0);
        key.written(2, Span { sent: 0, now: 1 });
        assert_eq!(key.read(None, Span { sent: 2, now: 2 }, 0), Ok(()));
    }

    #[test]
    fn a_counter_is_between_what_was_acknowledged_and_what_was_sent() {
        let mut counter = Counter::default();
        counter.counting(0);
        assert_eq!(counter.counted(1, FIRST), Ok(()));
        counter.counting(0);
        // In doubt, and done.
        counter.counting(0);
        assert_eq!(counter.counted(3, FIRST), Ok(()));
        counter.counting(0);
        assert!(
            matches!(counter.counted(5, FIRST), Err(Fault::Wrong(_))),
            "an increment was done twice"
        );
        let mut counter = Counter::default();
        counter.counting(0);
        assert_eq!(counter.counted(1, FIRST), Ok(()));
        counter.counting(0);
        assert!(
            matches!(counter.counted(1, FIRST), Err(Fault::Lost(_))),
            "an increment is missing"
        );
    }

    #[test]
    fn a_counter_begins_anew_with_a_server_that_lost_its_memory() {
        let mut counter = Counter::default();
        for count in 1..=5 {
            counter.counting(0);
            assert_eq!(counter.counted(count, FIRST), Ok(()));
        }
        counter.counting(0);
        assert_eq!(counter.counted(1, Span { sent: 1, now: 2 }), Ok(()));
        counter.counting(0);
        assert_eq!(counter.missing(Span { sent: 2, now: 2 }), Ok(()));
    }
}
