//! From a script's text to its steps.

use crate::common::Options;
use crate::parse_segment::segment;
use crate::script::{Action, At, Fault, Mark, Script, Side, Status, Step};
use tidegate_channel::counters::StackCounters;
use tidegate_config::AckMode;

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

/// A number of any kind.
pub fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
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
