//! A table of what several servers tell about themselves, one entry per field, in the order of the first server that has it.

use super::number::Number;
use super::rules::{Kind, Rule};
use crate::hold::Place;
use crate::limits::{JOINED_FIELDS_MAX, JOINED_LINE_BYTES_MAX};
use crate::slab::NIL;

/// Slots of the hash table: twice as many as fields, so that a free one is near.
const SLOTS: usize = (2 * JOINED_FIELDS_MAX).next_power_of_two();

/// Numbers of one field that are joined: Redis has at most five in a line.
pub(super) const NUMBERS_MAX: usize = 5;

/// Room for one line.
pub(super) type LineBuffer = [u8; JOINED_LINE_BYTES_MAX];

/// A section, or a field of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    hash: u64,
    /// The line that is shown, but for its numbers.
    pub place: Place,
    pub rule: Rule,
    /// Whether the value is a number, where the rule wants one.
    pub is_number: bool,
    pub numbers: [Number; NUMBERS_MAX],
    /// The next field of the same section; of a section, the next section.
    pub next: u32,
    /// Of a section: its fields.
    pub first: u32,
    last: u32,
}

/// The table. It is filled and read within one call, and then empty again.
pub(crate) struct Fields {
    entries: Vec<Field>,
    slots: Vec<u32>,
    pub(super) first_section: u32,
    last_section: u32,
}

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Line<'a> {
    /// `name:value`, or `STAT name value`. `None` for anything else.
    pub fn parse(kind: Kind, line: &'a [u8]) -> Option<Self> {
        let (line, between) = match kind {
            Kind::Info => (line, b':'),
            Kind::Stats => (line.strip_prefix(b"STAT ")?, b' '),
        };
        let at = line.iter().position(|&byte| byte == between)?;
        (at > 0).then_some(Self {
            name: &line[..at],
            value: &line[at + 1..],
        })
    }

    /// The pairs `name=number` of the value, in order.
    pub fn pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.value.split(|&byte| byte == b',').map(|pair| {
            match pair.iter().position(|&byte| byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (&pair[..0], pair),
            }
        })
    }
}

impl Fields {
    /// No table: what stands in its place while it is used.
    pub(super) const NONE: Self = Self {
        entries: Vec::new(),
        slots: Vec::new(),
        first_section: NIL,
        last_section: NIL,
    };

    /// Reserves everything.
    pub fn new() -> Self {
        Self {
            entries: Vec::with_capacity(JOINED_FIELDS_MAX),
            slots: vec![NIL; SLOTS],
            first_section: NIL,
            last_section: NIL,
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.slots.fill(NIL);
        self.first_section = NIL;
        self.last_section = NIL;
    }

    pub(super) fn field(&self, index: u32) -> Option<&Field> {
        self.entries.get(index as usize)
    }

    fn slot(&self, hash: u64) -> usize {
        let mut slot = hash as usize % SLOTS;
        while let Some(field) = self.field(self.slots[slot]) {
            if field.hash == hash {
                break;
            }
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    /// The entry with this hash of its name.
    pub(super) fn find(&self, hash: u64) -> Option<&Field> {
        self.field(self.slots[self.slot(hash)])
    }

    /// A new entry; `None` when the table is full.
    fn insert(&mut self, hash: u64, place: Place, rule: Rule) -> Option<u32> {
        if self.entries.len() == JOINED_FIELDS_MAX {
            return None;
        }
        let index = self.entries.len() as u32;
        let slot = self.slot(hash);
        self.slots[slot] = index;
        self.entries.push(Field {
            hash,
            place,
            rule,
            is_number: false,
            numbers: [Number::default(); NUMBERS_MAX],
            next: NIL,
            first: NIL,
            last: NIL,
        });
        Some(index)
    }

    /// The section whose header has this hash; made if need be.
    pub(super) fn section(&mut self, hash: u64, place: Place) -> Option<u32> {
        let slot = self.slot(hash);
        if self.slots[slot] != NIL {
            return Some(self.slots[slot]);
        }
        let section = self.insert(hash, place, Rule::First)?;
        match std::mem::replace(&mut self.last_section, section) {
            NIL => self.first_section = section,
            last => self.entries[last as usize].next = section,
        }
        Some(section)
    }

    /// Joins a line of one server with what others have said. Without room in the table the field is left out.
    pub(super) fn join(&mut self, section: u32, hash: u64, place: Place, rule: Rule, line: Line) {
        let slot = self.slot(hash);
        match self.slots[slot] {
            NIL => {
                if let Some(index) = self.insert(hash, place, rule) {
                    self.append(section, index);
                    self.entries[index as usize].begin(line);
                }
            }
            index => self.entries[index as usize].add(place, line),
        }
    }

    fn append(&mut self, section: u32, index: u32) {
        let section = section as usize;
        match std::mem::replace(&mut self.entries[section].last, index) {
            NIL => self.entries[section].first = index,
            last => self.entries[last as usize].next = index,
        }
    }
}

impl Field {
    /// Takes the values of the first line.
    fn begin(&mut self, line: Line) {
        match self.rule {
            Rule::Sum | Rule::Limit | Rule::Largest | Rule::Least => {
                if let Some(number) = Number::parse(line.value) {
                    self.is_number = true;
                    self.numbers[0] = number;
                }
            }
            Rule::Pairs | Rule::LargestPairs => self.numbers = numbers(line),
            Rule::First | Rule::Worst | Rule::Human | Rule::Always(_) => {}
        }
    }

    /// Joins the values of another line.
    fn add(&mut self, place: Place, line: Line) {
        match self.rule {
            Rule::Sum | Rule::Limit | Rule::Largest | Rule::Least => {
                if let (true, Some(other)) = (self.is_number, Number::parse(line.value)) {
                    self.add_number(other);
                }
            }
            Rule::Pairs => {
                for (mine, other) in self.numbers.iter_mut().zip(numbers(line)) {
                    mine.add(other);
                }
            }
            Rule::LargestPairs => {
                for (mine, other) in self.numbers.iter_mut().zip(numbers(line)) {
                    *mine = larger(*mine, other);
                }
            }
            Rule::Worst if !self.is_number && line.value != b"ok" => {
                self.place = place;
                // The first one that is not ok stays.
                self.is_number = true;
            }
            Rule::Worst | Rule::First | Rule::Human | Rule::Always(_) => {}
        }
    }

    fn add_number(&mut self, other: Number) {
        let mine = &mut self.numbers[0];
        match self.rule {
            Rule::Largest => *mine = larger(*mine, other),
            Rule::Least if other.millionths < mine.millionths => *mine = other,
            Rule::Limit if mine.millionths == 0 || other.millionths == 0 => {
                *mine = Number::whole(0);
            }
            Rule::Sum | Rule::Limit => mine.add(other),
            _ => {}
        }
    }
}

fn larger(one: Number, other: Number) -> Number {
    if other.millionths > one.millionths {
        other
    } else {
        one
    }
}

/// The numbers of a line of pairs, as they can be added: an average stands for the sum that it is the average of.
fn numbers(line: Line) -> [Number; NUMBERS_MAX] {
    let mut numbers = [Number::default(); NUMBERS_MAX];
    let mut before = Number::default();
    for (number, (name, text)) in numbers.iter_mut().zip(line.pairs()) {
        *number = Number::parse(text).unwrap_or_default();
        let own = *number;
        if name == b"avg_ttl" {
            *number = number.times(before);
        }
        before = own;
    }
    numbers
}
