//! Finding a command by its name, in any case: a hash table built at compile time.

use super::commands::{COMMANDS, Command};
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

/// The commands as they are, and behind them once more as twemproxy takes them: a row's index tells both.
static COMMAND_TABLE: [Command; 2 * COMMANDS.len()] = {
    let mut both = [COMMANDS[0]; 2 * COMMANDS.len()];
    let mut i = 0;
    while i < COMMANDS.len() {
        let (arity, rule) = twemproxy::arity_and_rule(COMMANDS[i].name);
        both[i] = COMMANDS[i];
        both[i + COMMANDS.len()] = Command {
            name: COMMANDS[i].name,
            arity,
            rule,
            wrong_arity: "",
            refusal: "",
        };
        i += 1;
    }
    both
};

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
    &COMMAND_TABLE[usize::from(index)]
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
            && COMMAND_TABLE[usize::from(index)].name.len() == bytes
        {
            return Some(index + rows.0);
        }
        slot = (slot + 1) % SLOTS;
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
