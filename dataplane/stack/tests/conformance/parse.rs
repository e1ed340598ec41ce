//! From a script's text to its steps.

use crate::common::{ACK, FIN, Options, PSH, RST, SYN};
use crate::options::TcpOption;
use crate::script::{Action, At, Fault, Mark, Number, Script, Segment, Side, Status, Step};
use tidegate_channel::counters::StackCounters;
use tidegate_config::AckMode;

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

/// Small, because hundreds of stacks are made in one process.
fn small() -> Options {
    Options {
        client_slots: 4,
        server_slots: 2,
        half_open_max: 4,
        ring_frames: 64,
        ..Options::default()
    }
}

impl Script {
    /// Reads a script.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut script = Self {
            rfcs: Vec::new(),
            says: String::new(),
            options: small(),
            peer_iss: 1_000_000,
            families: vec![false, true],
            acks: vec![AckMode::Immediate, AckMode::WithReply],
            deviation: None,
            costs: None,
            steps: Vec::new(),
        };
        let mut side = Side::Both;
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            last = index + 1;
            script
                .line(line, last, &mut side)
                .map_err(|text| Fault::new(last, text))?;
        }
        script.check(side).map_err(|text| Fault::new(last, text))?;
        Ok(script)
    }

    fn check(&self, side: Side) -> Result<(), String> {
        if side != Side::Both {
            return Err("a deviation needs its end".to_owned());
        }
        if self.rfcs.is_empty() || self.says.is_empty() {
            return Err("a script begins with the RFC and the sentence that it checks".to_owned());
        }
        let of = |side| self.steps.iter().any(|step| step.side == side);
        let parts = (of(Side::Asked), of(Side::Seen));
        if self.deviation.is_some() && parts != (true, true) {
            return Err("a deviation says what is asked for and what is seen".to_owned());
        }
        Ok(())
    }

    fn line(&mut self, line: &str, number: usize, side: &mut Side) -> Result<(), String> {
        let trimmed = line.trim();
        let (word, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        match word {
            "" => Ok(()),
            _ if word.starts_with('#') => Ok(()),
            "rfc" => {
                let (rfc, section) = rest.split_once(' ').ok_or("rfc NUMBER SECTION")?;
                self.rfcs.push(format!("RFC {rfc}, section {section}"));
                Ok(())
            }
            "says" => {
                self.says.push_str(rest);
                Ok(())
            }
            "option" => self.option(rest),
            "costs" => {
                self.costs = Some(mark(rest, number)?);
                Ok(())
            }
            "deviation" if self.deviation.is_none() => {
                self.deviation = Some(mark(rest, number)?);
                *side = Side::Asked;
                Ok(())
            }
            "deviation" => Err("a script shows one deviation".to_owned()),
            "seen" if *side == Side::Asked => {
                *side = Side::Seen;
                Ok(())
            }
            "end" if *side == Side::Seen => {
                *side = Side::Both;
                Ok(())
            }
            "seen" | "end" => Err(format!("{word} stands in a deviation")),
            _ => self.step(trimmed, number, *side),
        }
    }

    fn step(&mut self, line: &str, number: usize, side: Side) -> Result<(), String> {
        let line = line.split(" #").next().unwrap_or(line).trim();
        let (at, rest) = time(line)?;
        let mut at = Some(at);
        for action in actions(rest)? {
            self.steps.push(Step {
                line: number,
                at: at.take().unwrap_or(At::After(0)),
                side,
                action,
            });
        }
        Ok(())
    }

    fn option(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once(' ').ok_or("option NAME VALUE")?;
        let options = &mut self.options;
        match name {
            "client-buffer" => options.client_buffer_bytes = parsed(value, name)?,
            "server-buffer" => options.server_buffer_bytes = parsed(value, name)?,
            "client-slots" => options.client_slots = parsed(value, name)?,
            "server-slots" => options.server_slots = parsed(value, name)?,
            "half-open" => options.half_open_max = parsed(value, name)?,
            "keepalive" => options.keepalive_us = Some(microseconds(value)?),
            "peer-iss" => self.peer_iss = parsed(value, name)?,
            "ip" => match value {
                "4" => self.families = vec![false],
                "6" => self.families = vec![true],
                _ => return Err(format!("ip is 4 or 6, not {value}")),
            },
            "ack" => match value {
                "immediate" => self.acks = vec![AckMode::Immediate],
                "with-reply" => self.acks = vec![AckMode::WithReply],
                _ => return Err(format!("ack is immediate or with-reply, not {value}")),
            },
            _ => return Err(format!("there is no option {name}")),
        }
        Ok(())
    }
}

fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{what} is a number, not {text}"))
}

fn mark(text: &str, line: usize) -> Result<Mark, String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || !text.chars().all(is_name) {
        return Err(format!(
            "a name is lower-case words with hyphens, not {text:?}"
        ));
    }
    Ok(Mark {
        name: text.to_owned(),
        line,
    })
}

/// A time in seconds, of which the sixth digit is the last that counts.
fn microseconds(text: &str) -> Result<u64, String> {
    let fault = || format!("a time is written 1.5, not {text}");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let whole: u64 = whole.parse().map_err(|_| fault())?;
    if part.is_empty() || part.len() > 6 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault());
    }
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| fault())?;
    whole
        .checked_mul(1_000_000)
        .and_then(|whole| whole.checked_add(part))
        .ok_or_else(fault)
}

fn time(line: &str) -> Result<(At, &str), String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    if let Some(after) = word.strip_prefix('+') {
        return Ok((At::After(microseconds(after)?), rest.trim()));
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok((At::Since(microseconds(word)?), rest.trim()));
    }
    Ok((At::After(0), line))
}

/// The steps that one line stands for.
fn actions(text: &str) -> Result<Vec<Action>, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "established" => opening(rest, false),
        "connected" => opening(rest, true),
        _ => action(word, rest.trim()).map(|action| vec![action]),
    }
}

/// The handshake that is not what the script is about. The text is the window and the options of the peer's SYN.
fn opening(text: &str, ours: bool) -> Result<Vec<Action>, String> {
    let text = if text.contains("win ") {
        text.to_owned()
    } else {
        format!("win 65535 {text}")
    };
    let stamp = text.find("TS ").map_or(String::new(), |at| {
        let stamp = text[at..].split([',', '>']).next().unwrap_or_default();
        format!("<nop,nop,{stamp}>")
    });
    let window = text
        .split('<')
        .next()
        .and_then(|head| head.trim().strip_prefix("win "))
        .unwrap_or("65535")
        .trim();
    let inject = |text: &str| segment(text, true).map(Action::Inject);
    let expect = |text: &str| segment(text, false).map(Action::Expect);
    if ours {
        return Ok(vec![
            Action::Connect,
            expect("S 0:0(0) <*>")?,
            inject(&format!("S. 0:0(0) ack 1 {text}"))?,
            expect(". 1:1(0) ack 1 <*>")?,
            Action::Status(Status::Open),
        ]);
    }
    Ok(vec![
        inject(&format!("S 0:0(0) {text}"))?,
        expect("S. 0:0(0) ack 1 <*>")?,
        inject(&format!(". 1:1(0) ack 1 win {window} {stamp}"))?,
        Action::Accept(true),
    ])
}

fn action(word: &str, rest: &str) -> Result<Action, String> {
    let action = match word {
        "<" => Action::Inject(segment(rest, true)?),
        ">" => Action::Expect(segment(rest, false)?),
        "nothing" => Action::Nothing,
        "accept" => Action::Accept(rest != "none"),
        "connect" => Action::Connect,
        "write" => {
            let (offered, taken) = rest.split_once(" takes ").unwrap_or((rest, rest));
            Action::Write(parsed(offered, "write")?, parsed(taken, "write")?)
        }
        "read" => Action::Read(parsed(rest, "read")?),
        "close" => Action::Close,
        "release" => Action::Release,
        "abort" => Action::Abort,
        "expect-reply" => Action::ExpectReply(rest != "no"),
        "refuse" => Action::Refuse,
        "status" => Action::Status(status(rest)?),
        "received" => Action::Received(parsed(rest, "received")?),
        "room" => Action::Room(parsed(rest, "room")?),
        "queued" => Action::Queued(parsed(rest, "queued")?),
        "counter" => {
            let (name, value) = rest.split_once(' ').ok_or("counter NAME VALUE")?;
            if !StackCounters::ROWS.iter().any(|row| row.name == name) {
                return Err(format!("there is no counter {name}"));
            }
            Action::Counter(name.to_owned(), parsed(value, "counter")?)
        }
        "told-of-urgent-data" => Action::ToldOfUrgentData,
        "renew" => Action::Renew,
        "iss-ahead" => Action::IssAhead(parsed(rest, "iss-ahead")?),
        "peer" => Action::Peer(parsed(rest, "peer")?),
        _ => return Err(format!("nobody knows what {word:?} is")),
    };
    Ok(action)
}

fn status(text: &str) -> Result<Status, String> {
    Ok(match text {
        "connecting" => Status::Connecting,
        "open" => Status::Open,
        "half-closed" => Status::HalfClosed,
        "finished" => Status::Finished,
        "reset" => Status::Reset,
        "refused" => Status::Refused,
        "timed-out" => Status::TimedOut,
        _ => return Err(format!("there is no status {text:?}")),
    })
}

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
fn segment(text: &str, injected: bool) -> Result<Segment, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "rfc 9293 3.5\nsays \"A sentence.\"\n";

    fn fault(line: &str) -> Fault {
        Script::parse(&format!("{HEAD}{line}\n+0 nothing\n")).expect_err(line)
    }

    #[test]
    fn a_fault_names_its_line() {
        let cases = [
            ("+0 < S 0:0(0", "a range is written 1:101(100), not 0:0(0"),
            (
                "+0 < P. 1:11(9) ack 1",
                "1:11(9) does not add up: there are 10 bytes between the two numbers",
            ),
            ("+0 < Q 0:0(0)", "there is no flag Q"),
            (
                "+0 < . 1:1(0)",
                "a dot among the flags and an ack belong together",
            ),
            ("+0 < . 1:1(0) ack", "ack needs a number"),
            ("+0 < . 1:1(0) ack x", "ack is a number, not x"),
            ("+0 < . 1:1(0) ack 1 wind 5", "a segment has no wind"),
            ("+0 > . 1:1(0) ack 1 damaged", "a segment has no damaged"),
            ("+0 < S 0:0(0) <mss>", "the MSS is missing"),
            ("+0 < S 0:0(0) <mss 1460", "options end with >"),
            ("+0 < S 0:0(0) <mood 7>", "there is no option mood 7"),
            (
                "+0 < S 0:0(0) <TS 4 5>",
                "a timestamp is written TS val NUMBER ecr NUMBER",
            ),
            ("+1.x nothing", "a time is written 1.5, not 1.x"),
            ("+1.1234567 nothing", "a time is written 1.5, not 1.1234567"),
            ("+0 dance", "nobody knows what \"dance\" is"),
            ("+0 status well", "there is no status \"well\""),
            (
                "+0 counter frames_lost 1",
                "there is no counter frames_lost",
            ),
            ("option colour 5", "there is no option colour"),
            (
                "option ack never",
                "ack is immediate or with-reply, not never",
            ),
            ("seen", "seen stands in a deviation"),
            ("end", "end stands in a deviation"),
            (
                "deviation Odd Name",
                "a name is lower-case words with hyphens, not \"Odd Name\"",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(fault(line), Fault::new(3, text), "{line}");
        }
    }

    #[test]
    fn a_script_is_whole() {
        let whole = |text: &str| Script::parse(text).map(|_| ()).map_err(|fault| fault.text);
        let head = "a script begins with the RFC and the sentence that it checks";
        assert_eq!(whole("+0 nothing"), Err(head.to_owned()));
        assert_eq!(whole("rfc 9293 3.5\n+0 nothing"), Err(head.to_owned()));
        let open = format!("{HEAD}deviation a-name\n+0 nothing\nseen\n+1 nothing\n");
        assert_eq!(whole(&open), Err("a deviation needs its end".to_owned()));
        let empty = format!("{HEAD}deviation a-name\nseen\n+1 nothing\nend\n");
        let parts = "a deviation says what is asked for and what is seen";
        assert_eq!(whole(&empty), Err(parts.to_owned()));
        assert_eq!(whole(&format!("{open}end\n")), Ok(()));
        let two = format!("{open}end\ndeviation b\n");
        assert_eq!(whole(&two), Err("a script shows one deviation".to_owned()));
    }

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let text =
            format!("{HEAD}1.5 < PU. =7:17(10) ack -1 win 9 urg 3 <mss mtu,nop> damaged # why");
        let script = Script::parse(&text).expect("it is right");
        let step = &script.steps[0];
        assert_eq!(
            (step.line, step.at, step.side),
            (3, At::Since(1_500_000), Side::Both)
        );
        let Action::Inject(segment) = &step.action else {
            panic!("{step:?}");
        };
        assert_eq!(segment.flags, PSH | URG | ACK);
        assert_eq!(segment.sequence, Number::Absolute(7));
        assert_eq!(segment.acknowledgement, Some(Number::Relative(u32::MAX)));
        assert_eq!((segment.window, segment.urgent), (Some(9), 3));
        assert_eq!(
            segment.options,
            Some(vec![TcpOption::Mss(None), TcpOption::Nop])
        );
        assert!(segment.damaged && segment.payload_bytes == 10);
    }
}
