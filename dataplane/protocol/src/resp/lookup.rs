//! Finding a command by its name, in any case: a hash table built at compile time.

use super::commands::{Command, KeySpec};
use super::subcommands::SUBCOMMANDS;
use super::table::COMMANDS;
use super::twemproxy;
use crate::scan::word_at;

/// Longest name that is looked up; a longer one is unknown. Three words of eight bytes hold it.
pub(super) const NAME_BYTES_MAX: usize = 24;

/// Slots of the table: a power of two, more than three times the commands, so that most names are found at the first look.
const SLOTS: usize = 1024;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();
const EMPTY: u16 = u16::MAX;

/// Clears the bit that tells lower-case from upper-case letters. The few other characters that this folds together do no
/// harm: the name goes to the server as it came, and the server does not know it.
const FOLD: u64 = 0xdfdf_dfdf_dfdf_dfdf;

type Folded = [u64; 3];

const _: () = assert!(COMMANDS.len() * 3 < SLOTS);

/// Multiplies by the golden ratio, which spreads the bits of short names well over the upper bits.
const fn slot_of(name: Folded, bytes: usize) -> usize {
    let mixed = name[0] ^ name[1].rotate_left(17) ^ name[2].rotate_left(31) ^ bytes as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOT_BITS)) as usize
}

/// Folds a name of the table at compile time.
const fn fold_name(name: &str) -> Folded {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX);
    let mut words = [0u64; 3];
    let mut i = 0;
    while i < bytes.len() {
        words[i / 8] |= ((bytes[i] & 0xdf) as u64) << (i % 8 * 8);
        i += 1;
    }
    words
}

const FOLDED: [Folded; COMMANDS.len()] = {
    let mut folded = [[0; 3]; COMMANDS.len()];
    let mut i = 0;
    while i < COMMANDS.len() {
        folded[i] = fold_name(COMMANDS[i].name);
        i += 1;
    }
    folded
};

const TABLE: [u16; SLOTS] = {
    let mut table = [EMPTY; SLOTS];
    let mut i = 0;
    while i < COMMANDS.len() {
        let mut slot = slot_of(FOLDED[i], COMMANDS[i].name.len());
        while table[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = i as u16;
        i += 1;
    }
    table
};

static FOLDED_NAMES: [Folded; COMMANDS.len()] = FOLDED;
static SLOT_TABLE: [u16; SLOTS] = TABLE;

/// How many bytes the longest name has, that of a subcommand with its container's.
pub(super) const LONGEST_NAME_BYTES: usize = {
    let mut longest = NAME_BYTES_MAX;
    let mut i = 0;
    while i < SUBCOMMANDS.len() {
        if SUBCOMMANDS[i].name.len() > longest {
            longest = SUBCOMMANDS[i].name.len();
        }
        i += 1;
    }
    longest
};

/// Index of the first subcommand in the table of rows.
const FIRST_SUBCOMMAND: usize = 2 * COMMANDS.len();

/// The commands as they are, behind them once more as twemproxy takes them, and then the subcommands: a row's index tells which.
static ROWS: [Command; FIRST_SUBCOMMAND + SUBCOMMANDS.len()] = {
    let mut rows = [COMMANDS[0]; FIRST_SUBCOMMAND + SUBCOMMANDS.len()];
    let mut i = 0;
    while i < COMMANDS.len() {
        let (arity, rule) = twemproxy::arity_and_rule(COMMANDS[i].name);
        rows[i] = COMMANDS[i];
        rows[i].subcommands = subcommands_of(COMMANDS[i].name);
        rows[i + COMMANDS.len()] = Command {
            name: COMMANDS[i].name,
            arity,
            rule,
            keys: KeySpec::Plain,
            subcommands: (0, 0),
            wrong_arity: "",
            refusal: "",
            why: "",
        };
        i += 1;
    }
    i = 0;
    while i < SUBCOMMANDS.len() {
        rows[FIRST_SUBCOMMAND + i] = SUBCOMMANDS[i];
        i += 1;
    }
    rows
};

const _: () = assert!(SUBCOMMANDS.len() <= u8::MAX as usize);

/// The first of the subcommands of `container`, and how many it has.
const fn subcommands_of(container: &str) -> (u8, u8) {
    let (mut first, mut count, mut i) = (0, 0, 0);
    while i < SUBCOMMANDS.len() {
        if is_within(SUBCOMMANDS[i].name, container) {
            if count == 0 {
                first = i as u8;
            }
            count += 1;
        }
        i += 1;
    }
    (first, count)
}

/// Whether `subcommand` starts with `container` and a bar.
const fn is_within(subcommand: &str, container: &str) -> bool {
    let (subcommand, container) = (subcommand.as_bytes(), container.as_bytes());
    let mut i = 0;
    while i < container.len() {
        if i >= subcommand.len() || subcommand[i] != container[i] {
            return false;
        }
        i += 1;
    }
    i < subcommand.len() && subcommand[i] == b'|'
}

/// Which rows of the table a request is held to: what is added to the index of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows(u16);

impl Rows {
    /// Those of the commands as they are.
    pub(super) const OWN: Self = Self(0);
    /// Those of the commands as twemproxy takes them.
    pub(super) const TWEMPROXY: Self = Self(COMMANDS.len() as u16);
}

/// The command at `index` of the table.
#[inline]
pub(super) fn command(index: u16) -> &'static Command {
    &ROWS[usize::from(index)]
}

/// How many bytes the name has on the wire; of a subcommand, its container's.
#[inline]
pub(super) fn name_bytes(index: u16) -> usize {
    let name = command(index).name;
    if usize::from(index) < FIRST_SUBCOMMAND {
        return name.len();
    }
    name.find('|').unwrap_or(name.len())
}

/// The index among `rows` of the command whose name is the `bytes` bytes of `buf` at `start`. Bytes behind the name may be there, they
/// make it faster.
#[inline]
pub(super) fn find(rows: Rows, buf: &[u8], start: usize, bytes: usize) -> Option<u16> {
    if bytes == 0 || bytes > NAME_BYTES_MAX {
        return None;
    }
    let folded = match word_at(buf, start) {
        Some(word) if bytes <= 8 => [word & FOLD & (u64::MAX >> (64 - 8 * bytes)), 0, 0],
        _ => fold_bytes(buf.get(start..start + bytes)?),
    };
    let mut slot = slot_of(folded, bytes);
    loop {
        let index = SLOT_TABLE[slot];
        if index == EMPTY {
            return None;
        }
        if FOLDED_NAMES[usize::from(index)] == folded
            && ROWS[usize::from(index)].name.len() == bytes
        {
            return Some(index + rows.0);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The index of the subcommand `name` of `container`, in any case.
#[cold]
pub(super) fn find_subcommand(container: &Command, name: &[u8]) -> Option<u16> {
    let (first, count) = container.subcommands;
    let first = FIRST_SUBCOMMAND + usize::from(first);
    let skipped = container.name.len() + 1;
    ROWS[first..first + usize::from(count)]
        .iter()
        .position(|row| row.name.as_bytes()[skipped..].eq_ignore_ascii_case(name))
        .map(|at| (first + at) as u16)
}

/// The row of a request's `name`, which came from the table.
#[cold]
pub(crate) fn row_named(name: &str) -> Option<&'static Command> {
    match name.split_once('|') {
        Some(_) => ROWS[FIRST_SUBCOMMAND..].iter().find(|row| row.name == name),
        None => find(Rows::OWN, name.as_bytes(), 0, name.len()).map(command),
    }
}

fn fold_bytes(name: &[u8]) -> Folded {
    let mut padded = [0u8; NAME_BYTES_MAX];
    padded[..name.len()].copy_from_slice(name);
    [0, 8, 16].map(|at| word_at(&padded, at).unwrap_or(0) & FOLD)
}

/// How many slots are looked at until the command `name` is found.
#[cfg(test)]
pub(super) fn probes(name: &str) -> usize {
    let first = slot_of(fold_name(name), name.len());
    let is_its_slot = |distance: &usize| {
        let index = SLOT_TABLE[(first + distance) % SLOTS];
        index != EMPTY && command(index).name == name
    };
    (0..SLOTS)
        .find(is_its_slot)
        .map_or(SLOTS, |distance| distance + 1)
}

/// Whether the command `name` is a container.
#[cfg(test)]
pub(super) fn has_subcommands(name: &str) -> bool {
    subcommands_of(name).1 > 0
}
