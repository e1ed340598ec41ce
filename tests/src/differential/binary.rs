//! Random requests of memcached's binary protocol.
//!
//! Opcodes that memcached does not know come without a body, `verbosity` among them: it skips extras and key of such a request twice, takes
//! what stands in the midst of the next one for a header, and ends the connection together with replies that have not left.

use super::{Turn, choose, value};
use crate::random::Random;

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const REPLACE: u8 = 0x03;
const DELETE: u8 = 0x04;
const INCREMENT: u8 = 0x05;
const DECREMENT: u8 = 0x06;
const FLUSH: u8 = 0x08;
const NOOP: u8 = 0x0a;
const VERSION: u8 = 0x0b;
const GETK: u8 = 0x0c;
const APPEND: u8 = 0x0e;
const PREPEND: u8 = 0x0f;
const VERBOSITY: u8 = 0x1b;
const TOUCH: u8 = 0x1c;
const GAT: u8 = 0x1d;
const GATK: u8 = 0x23;

/// The opcode that says nothing when all is well.
fn quiet(opcode: u8) -> u8 {
    match opcode {
        GET => 0x09,
        GETK => 0x0d,
        FLUSH => 0x18,
        APPEND => 0x19,
        PREPEND => 0x1a,
        GAT => 0x1e,
        GATK => 0x24,
        // From 0x11 on, in the order of the loud ones.
        storage => storage + 0x10,
    }
}

fn frame(opcode: u8, key: &[u8], extras: &[u8], value: &[u8], cas: u64, opaque: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, opcode];
    bytes.extend((key.len() as u16).to_be_bytes());
    bytes.extend([extras.len() as u8, 0, 0, 0]);
    bytes.extend(((key.len() + extras.len() + value.len()) as u32).to_be_bytes());
    bytes.extend(opaque.to_be_bytes());
    bytes.extend(cas.to_be_bytes());
    bytes.extend(extras);
    bytes.extend(key);
    bytes.extend(value);
    bytes
}

fn key(random: &mut Random) -> Vec<u8> {
    format!("k{}", random.below(16)).into_bytes()
}

fn opaque(random: &mut Random) -> u32 {
    random.bits() as u32
}

/// Cas numbers grow by one with each store: a low one is sometimes right.
fn cas(random: &mut Random) -> u64 {
    if random.below(6) == 0 {
        random.below(60) as u64
    } else {
        0
    }
}

/// `opcode`, or its quiet form one time in three.
fn maybe_quiet(opcode: u8, random: &mut Random) -> u8 {
    if random.below(3) == 0 {
        quiet(opcode)
    } else {
        opcode
    }
}

fn store(opcode: u8, random: &mut Random) -> Vec<u8> {
    let opcode = maybe_quiet(opcode, random);
    let mut extras = (random.below(100) as u32).to_be_bytes().to_vec();
    extras.extend([0_u32, 1_000][random.below(2)].to_be_bytes());
    let (key, value) = (key(random), value(random));
    frame(opcode, &key, &extras, &value, cas(random), opaque(random))
}

fn join(opcode: u8, random: &mut Random) -> Vec<u8> {
    let opcode = maybe_quiet(opcode, random);
    let (key, value) = (key(random), value(random));
    frame(opcode, &key, b"", &value, 0, opaque(random))
}

fn plain(opcode: u8, random: &mut Random) -> Vec<u8> {
    let opcode = maybe_quiet(opcode, random);
    let key = key(random);
    frame(opcode, &key, b"", b"", 0, opaque(random))
}

fn count(opcode: u8, key: &str, initial: usize, random: &mut Random) -> Vec<u8> {
    let opcode = maybe_quiet(opcode, random);
    let mut extras = (random.below(50) as u64).to_be_bytes().to_vec();
    extras.extend((initial as u64).to_be_bytes());
    extras.extend([0, u32::MAX][random.below(2)].to_be_bytes());
    frame(opcode, key.as_bytes(), &extras, b"", 0, opaque(random))
}

/// Counts up from a small number.
fn count_up(random: &mut Random) -> Vec<u8> {
    let (key, initial) = (random.below(16), random.below(50));
    count(INCREMENT, &format!("k{key}"), initial, random)
}

/// Counts down from a large number, on keys of its own: one that loses a digit gets a blank if nobody reads it.
fn count_down(random: &mut Random) -> Vec<u8> {
    let (key, initial) = (random.below(4), 1_500_000 + random.below(50));
    count(DECREMENT, &format!("d{key}"), initial, random)
}

fn touch(opcode: u8, random: &mut Random) -> Vec<u8> {
    let opcode = if opcode == TOUCH {
        opcode
    } else {
        maybe_quiet(opcode, random)
    };
    let key = key(random);
    frame(
        opcode,
        &key,
        &1_000_u32.to_be_bytes(),
        b"",
        0,
        opaque(random),
    )
}

fn bare(opcode: u8, random: &mut Random) -> Vec<u8> {
    frame(opcode, b"", b"", b"", 0, opaque(random))
}

/// Something that makes requests.
struct Template {
    name: &'static str,
    weight: usize,
    make: fn(&mut Random) -> Vec<u8>,
}

macro_rules! templates {
    ($($name:literal $weight:literal $make:expr;)*) => {
        const TEMPLATES: &[Template] = &[$(Template { name: $name, weight: $weight, make: $make },)*];
    };
}

templates! {
    "get" 20 |random| plain(GET, random);
    "getk" 10 |random| plain(GETK, random);
    "set" 20 |random| store(SET, random);
    "add" 5 |random| store(ADD, random);
    "replace" 5 |random| store(REPLACE, random);
    "delete" 5 |random| plain(DELETE, random);
    "increment" 5 count_up;
    "decrement" 5 count_down;
    "decrement of anything" 1 |random| {
        let key = key(random);
        let extras = [0; 16].into_iter().chain([0xff; 4]).collect::<Vec<u8>>();
        frame(maybe_quiet(DECREMENT, random), &key, &extras, b"", 0, opaque(random))
    };
    "append" 4 |random| join(APPEND, random);
    "prepend" 4 |random| join(PREPEND, random);
    "touch" 4 |random| touch(TOUCH, random);
    "gat" 4 |random| touch(GAT, random);
    "gatk" 4 |random| touch(GATK, random);
    "noop" 4 |random| bare(NOOP, random);
    "version" 1 |random| bare(VERSION, random);
    "flush" 1 |random| bare(FLUSH, random);
    "flush quietly" 1 |random| bare(quiet(FLUSH), random);
    "verbosity" 1 |random| bare(VERBOSITY, random);
    "an unknown opcode" 1 |random| bare(0x60, random);
}

/// Random requests.
pub fn turn(random: &mut Random, known: &[bool]) -> Turn {
    let index = choose(random, TEMPLATES, known, |template| template.weight);
    Turn {
        bytes: (TEMPLATES[index].make)(random),
        requests: 1,
        from: TEMPLATES[index].name,
    }
}

/// What there is.
pub fn templates() -> Vec<&'static str> {
    TEMPLATES.iter().map(|template| template.name).collect()
}

/// One of them, in its loud form or its quiet one.
pub fn example(index: usize, number: u64) -> Turn {
    Turn {
        bytes: (TEMPLATES[index].make)(&mut Random::new(number)),
        requests: 1,
        from: TEMPLATES[index].name,
    }
}

/// A noop: its answer is a header with the same opaque.
pub fn ending(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let opaque = Random::new(seed).bits() as u32 | 1;
    let asked = frame(NOOP, b"", b"", b"", 0, opaque);
    let mut answer = asked.clone();
    answer[0] = 0x81;
    (asked, answer)
}
