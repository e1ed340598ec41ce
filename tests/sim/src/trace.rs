//! What happened: a hash over all of it, and the last of it in words.

use crate::host::ends;
use std::collections::VecDeque;

/// Lines that are kept.
const LINES_MAX: usize = 400;

/// A trace.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    records: bool,
}

impl Trace {
    /// A trace that `records` words as well.
    pub fn new(records: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: VecDeque::new(),
            records,
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x9fb2_1c65_1e98_df25)
            .rotate_left(29);
    }

    /// A frame arrives.
    pub fn frame(&mut self, at_us: u64, to: u64, frame: &[u8]) {
        self.mix(at_us);
        self.mix(to << 32 | frame.len() as u64);
        let (words, rest) = frame.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for &byte in rest {
            self.mix(u64::from(byte));
        }
        if self.records {
            let line = describe(frame);
            self.line(at_us, &line);
        }
    }

    /// Something else happens.
    pub fn note(&mut self, at_us: u64, kind: u64, what: impl FnOnce() -> String) {
        self.mix(at_us);
        self.mix(kind);
        if self.records {
            let line = what();
            self.line(at_us, &line);
        }
    }

    fn line(&mut self, at_us: u64, line: &str) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        let (s, us) = (at_us / 1_000_000, at_us % 1_000_000);
        self.lines.push_back(format!("{s}.{us:06} {line}"));
    }

    /// The hash.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

fn describe(frame: &[u8]) -> String {
    let Some(ends) = ends(frame) else {
        return format!("a frame of {} bytes that is no TCP", frame.len());
    };
    let names = [(2, 'S'), (16, 'A'), (1, 'F'), (4, 'R'), (8, 'P')];
    let flags = names.into_iter().filter(|(bit, _)| ends.flags & bit != 0);
    let flags: String = flags.map(|(_, name)| name).collect();
    let tcp = &frame[34..];
    let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let data = tcp.get(usize::from(tcp[12] >> 4) * 4..).unwrap_or_default();
    let front = data[..data.len().min(60)].escape_ascii();
    format!(
        "{}:{} > {}:{} {flags} {} ack {} len {} {front}",
        ends.from.0,
        ends.from.1,
        ends.to.0,
        ends.to.1,
        number(4),
        number(8),
        data.len(),
    )
}
