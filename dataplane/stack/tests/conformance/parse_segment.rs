//! From the text of a segment to the segment.

use crate::common::{ACK, FIN, PSH, RST, SYN};
use crate::options::TcpOption;
use crate::parse::parsed;
use crate::script::{Number, Segment};

pub const URG: u8 = 0x20;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// Letters of flags, as packetdrill writes them.
pub const FLAGS: [(char, u8); 8] = [
    ('S', SYN),
    ('F', FIN),
    ('R', RST),
    ('P', PSH),
    ('U', URG),
    ('E', ECE),
    ('W', CWR),
    ('.', ACK),
];

fn number(text: &str, what: &str) -> Result<Number, String> {
    if let Some(absolute) = text.strip_prefix('=') {
        return parsed(absolute, what).map(Number::Absolute);
    }
    // Numbers before the first are written with a sign; sequence numbers are modulo 2**32.
    let relative: i64 = parsed(text, what)?;
    Ok(Number::Relative(relative as u32))
}

fn flags(text: &str) -> Result<u8, String> {
    text.chars().try_fold(0, |flags, letter| {
        FLAGS
            .iter()
            .find(|(known, _)| *known == letter)
            .map(|(_, flag)| flags | flag)
            .ok_or_else(|| format!("there is no flag {letter}"))
    })
}

/// Reads `P. 1:101(100) ack 1 win 500 <mss 1460>`.
pub fn segment(text: &str, injected: bool) -> Result<Segment, String> {
    let (head, options) = match text.split_once('<') {
        Some((head, rest)) => {
            let (list, behind) = rest.split_once('>').ok_or("options end with >")?;
            let options = match list {
                "*" => None,
                list => Some(TcpOption::list(list)?),
            };
            (format!("{head} {behind}"), options)
        }
        None => (text.to_owned(), Some(Vec::new())),
    };
    let mut words = head.split_whitespace();
    let flags = flags(words.next().ok_or("a segment begins with its flags")?)?;
    let (sequence, payload_bytes) = range(words.next().ok_or("a segment has a range")?)?;
    let mut segment = Segment {
        flags,
        sequence,
        payload_bytes,
        acknowledgement: None,
        window: None,
        urgent: 0,
        options,
        damaged: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a number"));
        match word {
            "ack" => segment.acknowledgement = Some(number(value()?, "ack")?),
            "win" => segment.window = Some(parsed(value()?, "win")?),
            "urg" => segment.urgent = parsed(value()?, "urg")?,
            "damaged" if injected => segment.damaged = true,
            _ => return Err(format!("a segment has no {word}")),
        }
    }
    if segment.acknowledgement.is_some() != (flags & ACK != 0) {
        return Err("a dot among the flags and an ack belong together".to_owned());
    }
    Ok(segment)
}

/// Reads `1:101(100)`: first number, number behind the last byte, bytes.
fn range(text: &str) -> Result<(Number, usize), String> {
    let fault = || format!("a range is written 1:101(100), not {text}");
    let (first, rest) = text.split_once(':').ok_or_else(fault)?;
    let (end, rest) = rest.split_once('(').ok_or_else(fault)?;
    let bytes: usize = parsed(rest.strip_suffix(')').ok_or_else(fault)?, "a length")?;
    let first = number(first, "a sequence number")?;
    let end = number(end.trim_start_matches('='), "a sequence number")?;
    let (Number::Relative(from) | Number::Absolute(from)) = first;
    let (Number::Relative(to) | Number::Absolute(to)) = end;
    if to.wrapping_sub(from) as usize != bytes {
        return Err(format!(
            "{text} does not add up: there are {} bytes between the two numbers",
            to.wrapping_sub(from)
        ));
    }
    Ok((first, bytes))
}
