//! When all servers have answered: the one reply.

use super::fields::{Field, Fields, Line, LineBuffer};
use super::info::{Own, write_own};
use super::number::Number;
use super::rules::{self, Kind, Rule};
use crate::fault::Fault;
use crate::hold::{Chain, HoldPool, Place};
use crate::limits::JOINED_LINE_BYTES_MAX;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::split::hash_of;
use tidegate_protocol::Merge;

/// Bytes that are appended to a chain; once it does not fit, the rest is dropped.
pub(super) struct Writer<'a> {
    pub hold: &'a mut HoldPool,
    pub chain: Chain,
    /// Bytes that may be appended.
    pub left: usize,
    /// Why not everything was.
    pub fault: Option<Fault>,
}

impl Writer<'_> {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if bytes.len() > self.left {
            self.fault = Some(Fault::OverHold);
        } else if self.hold.append(&mut self.chain, bytes) {
            self.left -= bytes.len();
        } else {
            self.fault = Some(Fault::HoldFull);
        }
    }
}

impl Proxy {
    /// Prepares the reply to a request that every server has answered or failed to answer.
    pub(crate) fn join_servers(&mut self, client: u32, split: u32, merge: Merge) {
        if self.judge_lost(client, split) {
            return;
        }
        let first = self.first_answered(self.splits[split].first_fragment);
        self.splits[split].emit_fragment = match merge {
            Merge::Random => self.any_key(split, first),
            Merge::Info => return self.join_fields(client, split, first, Kind::Info),
            Merge::Stats | Merge::BinaryStats => {
                return self.join_fields(client, split, first, Kind::Stats);
            }
            _ => first,
        };
    }

    /// The first fragment with a reply, from the given one on.
    pub(super) fn first_answered(&self, mut fragment: u32) -> u32 {
        while fragment != NIL && self.fragments[fragment].lost {
            fragment = self.fragments[fragment].next;
        }
        fragment
    }

    /// RANDOMKEY: the reply of a server chosen by lot, or of the next that has a key.
    fn any_key(&mut self, split: u32, first: u32) -> u32 {
        let list = self.splits[split].first_fragment;
        let mut answered = 0;
        let mut fragment = first;
        while fragment != NIL {
            answered += 1;
            fragment = self.first_answered(self.fragments[fragment].next);
        }
        let lot = self.key_hash(&self.now_us.to_le_bytes()) ^ u64::from(split);
        let start = lot.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut fragment = first;
        for _ in 0..start % answered.max(1) {
            fragment = self.first_answered(self.fragments[fragment].next);
        }
        for _ in 0..answered {
            if self.fragments[fragment].value == super::send::BULK {
                return fragment;
            }
            fragment = match self.first_answered(self.fragments[fragment].next) {
                NIL => self.first_answered(list),
                next => next,
            };
        }
        first
    }

    /// Puts the fields of all servers together. The text takes the place of the first server's.
    fn join_fields(&mut self, client: u32, split: u32, first: u32, kind: Kind) {
        let mut fields = std::mem::replace(&mut self.fields, Fields::NONE);
        fields.clear();
        let mut answered = 0;
        let mut fragment = first;
        while fragment != NIL {
            answered += 1;
            self.read_fields(&mut fields, fragment, kind);
            fragment = self.first_answered(self.fragments[fragment].next);
        }
        let own = (kind == Kind::Info && self.splits[split].own_section)
            .then(|| self.own(client, answered));
        let text = self.write_fields(&fields, kind, own.as_ref());
        self.fields = fields;
        let mut fragment = first;
        while fragment != NIL {
            self.hold.clear(&mut self.fragments[fragment].chain);
            fragment = self.fragments[fragment].next;
        }
        match text {
            Ok(text) => {
                self.fragments[first].chain = text;
                self.splits[split].emit_fragment = first;
            }
            Err(fault) => {
                let pool = self.clients[client as usize].pool;
                self.splits[split].failed = Some(self.not_held(pool, fault));
            }
        }
    }

    fn read_fields(&mut self, fields: &mut Fields, fragment: u32, kind: Kind) {
        let mut buffer: LineBuffer = [0; JOINED_LINE_BYTES_MAX];
        let mut place = Place::front(&self.fragments[fragment].chain);
        let mut section = NIL;
        let mut section_name = [0; 32];
        let mut section_bytes = 0;
        if kind == Kind::Stats {
            section = fields.section(self.key_hash(b"#"), place).unwrap_or(NIL);
        }
        loop {
            let at = place;
            let Some(line) = self.hold.line(&mut place, &mut buffer) else {
                return;
            };
            if kind == Kind::Info
                && let Some(name) = line.strip_prefix(b"# ")
            {
                section = fields.section(self.key_hash(line), at).unwrap_or(NIL);
                section_bytes = name.len().min(section_name.len());
                section_name[..section_bytes].copy_from_slice(&name[..section_bytes]);
                continue;
            }
            let Some(line) = Line::parse(kind, line).filter(|_| section != NIL) else {
                continue;
            };
            let rule = match kind {
                Kind::Info => rules::of_info(&section_name[..section_bytes], line.name),
                Kind::Stats => rules::of_stats(line.name),
            };
            fields.join(section, self.key_hash(line.name), at, rule, line);
        }
    }

    /// The text of all fields, or why it cannot be held.
    fn write_fields(
        &mut self,
        fields: &Fields,
        kind: Kind,
        own: Option<&Own>,
    ) -> Result<Chain, Fault> {
        let seed = self.seed;
        let mut out = Writer {
            left: self.limits.client_reply_hold_bytes,
            hold: &mut self.hold,
            chain: Chain::EMPTY,
            fault: None,
        };
        if let Some(own) = own {
            write_own(&mut out, own, &self.pools[own.pool as usize]);
        }
        let mut buffer: LineBuffer = [0; JOINED_LINE_BYTES_MAX];
        let mut next = fields.first_section;
        while let Some(section) = fields.field(next) {
            if kind == Kind::Info {
                if !out.chain.is_empty() {
                    out.push(b"\r\n");
                }
                let mut place = section.place;
                let line = out.hold.line(&mut place, &mut buffer).unwrap_or_default();
                out.push(line);
                out.push(b"\r\n");
            }
            let mut entry = section.first;
            while let Some(field) = fields.field(entry) {
                let mut place = field.place;
                let line = out.hold.line(&mut place, &mut buffer).unwrap_or_default();
                write_field(&mut out, fields, field, kind, line, seed);
                out.push(b"\r\n");
                entry = field.next;
            }
            next = section.next;
        }
        let Writer {
            mut chain, fault, ..
        } = out;
        let Some(fault) = fault else {
            return Ok(chain);
        };
        self.hold.clear(&mut chain);
        Err(fault)
    }
}

/// Writes one field; `line` is the one it was first seen in.
fn write_field(
    out: &mut Writer,
    fields: &Fields,
    field: &Field,
    kind: Kind,
    line: &[u8],
    seed: u64,
) {
    let Some(parts) = Line::parse(kind, line) else {
        return;
    };
    let front = &line[..line.len() - parts.value.len()];
    match field.rule {
        Rule::Sum | Rule::Limit | Rule::Largest | Rule::Least if field.is_number => {
            out.push(front);
            out.push(field.numbers[0].text().bytes());
        }
        Rule::Human => {
            let plain = parts.name.strip_suffix(b"_human").unwrap_or(parts.name);
            match fields.find(hash_of(seed, plain)).filter(|f| f.is_number) {
                Some(plain) => {
                    out.push(front);
                    out.push(plain.numbers[0].for_people().bytes());
                }
                None => out.push(line),
            }
        }
        Rule::Pairs | Rule::LargestPairs => {
            out.push(front);
            write_pairs(out, field, parts);
        }
        Rule::Always(value) => {
            out.push(front);
            out.push(value.as_bytes());
        }
        _ => out.push(line),
    }
}

fn write_pairs(out: &mut Writer, field: &Field, line: Line) {
    for (place, (name, text)) in line.pairs().enumerate() {
        if place > 0 {
            out.push(b",");
        }
        out.push(name);
        let number = field.numbers.get(place).copied();
        if !name.is_empty() {
            out.push(b"=");
        }
        match number {
            Some(_) if name == b"usec_per_call" => {
                let per_call = field.numbers[1].per(field.numbers[0]);
                out.push(per_call.text().bytes());
            }
            Some(sum) if name == b"avg_ttl" => {
                let expires = field.numbers[place.saturating_sub(1)];
                out.push(sum.average(expires).text().bytes());
            }
            Some(number) if Number::parse(text).is_some() => out.push(number.text().bytes()),
            Some(_) | None => out.push(text),
        }
    }
}
