//! Segments on their way: made from a script, compared with one, told as one.

use crate::common::{ACK, CLIENT, SYN, Tcp, checksum};
use crate::options::TcpOption;
use crate::parse_segment::FLAGS;
use crate::player::{Player, bytes, same, since_start};
use crate::script::{Number, Segment};
use std::fmt::Write;
use tidegate_port::Port;

/// How late or early a segment may be that a timer sends: two buckets of the timer wheel, and a little.
const TOLERANCE_US: u64 = 10_000;

/// Offset of the urgent pointer and of the checksum in a TCP header.
const URGENT_AT: usize = 18;
const CHECKSUM_AT: usize = 16;

impl Player {
    /// Gives the stack a segment of the peer.
    pub fn inject(&mut self, segment: &Segment) {
        let sequence = absolute(segment.sequence, self.peer_iss);
        if segment.flags & SYN != 0 {
            self.peer_syn = sequence.wrapping_sub(self.peer_iss);
        }
        let our_iss = self.our_iss.unwrap_or(0);
        // The SYN takes the first number of its stream, before the bytes that it may carry.
        let syn = u32::from(segment.flags & SYN != 0);
        let begin = self.peer_iss.wrapping_add(self.peer_syn);
        let offset = sequence.wrapping_sub(begin).wrapping_add(syn);
        let tcp = Tcp {
            sequence,
            acknowledgement: segment
                .acknowledgement
                .map_or(0, |number| absolute(number, our_iss)),
            window: segment.window.unwrap_or(u16::MAX),
            options: TcpOption::bytes(
                segment.options.as_deref().unwrap_or_default(),
                our_iss,
                self.ipv6,
            ),
            payload: bytes(offset, segment.payload_bytes),
            ..Tcp::new(self.peer, self.ours, segment.flags)
        };
        let mut frame = tcp.frame(CLIENT);
        let at = if self.ipv6 { 54 } else { 34 };
        frame[at + URGENT_AT..at + URGENT_AT + 2].copy_from_slice(&segment.urgent.to_be_bytes());
        let sum = u16::from_be_bytes([frame[at + CHECKSUM_AT], frame[at + CHECKSUM_AT + 1]]);
        // The sum of what was there and of what came in.
        let sum = checksum(&[(!sum).to_be_bytes(), segment.urgent.to_be_bytes()].concat());
        let sum = if segment.damaged { !sum } else { sum };
        frame[at + CHECKSUM_AT..at + CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
        let (_, tx) = self.ports[0].halves();
        self.stack.tick(self.now_us);
        self.stack.ingress(&frame, 0, tx, &mut self.handed);
    }

    /// Waits for the next segment of the stack.
    pub fn expect(&mut self, expected: &Segment, at_us: u64) -> Result<(), String> {
        // What follows an event at once is exact; what a timer sends is as late as its bucket of the wheel.
        let tolerance_us = if at_us == self.step_us {
            0
        } else {
            TOLERANCE_US
        };
        if self.sent.is_empty() {
            self.advance(at_us + tolerance_us, true)?;
        }
        let Some((seen_us, frame)) = self.sent.pop_front() else {
            return Err(format!(
                "nothing was sent until {}",
                since_start(at_us + tolerance_us)
            ));
        };
        self.compare(expected, &frame)
            .map_err(|text| format!("{text}: {}", self.told(&frame)))?;
        if seen_us + tolerance_us < at_us || seen_us > at_us + tolerance_us {
            return Err(format!(
                "sent at {}, not at {}: {}",
                since_start(seen_us),
                since_start(at_us),
                self.told(&frame)
            ));
        }
        self.step_us = at_us.max(seen_us);
        Ok(())
    }

    fn compare(&mut self, expected: &Segment, frame: &Tcp) -> Result<(), String> {
        same("flags", told_flags(frame.flags), told_flags(expected.flags))?;
        if frame.flags & SYN != 0 {
            self.our_iss.get_or_insert(frame.sequence);
        }
        let our_iss = self.our_iss.unwrap_or(0);
        let sequence = frame.sequence.wrapping_sub(our_iss);
        let wanted = absolute(expected.sequence, our_iss).wrapping_sub(our_iss);
        same("sequence number", sequence, wanted)?;
        if let Some(number) = expected.acknowledgement {
            let acknowledged = frame.acknowledgement.wrapping_sub(self.peer_iss);
            let wanted = absolute(number, self.peer_iss).wrapping_sub(self.peer_iss);
            same("acknowledgement", acknowledged, wanted)?;
        }
        same("length", frame.payload.len(), expected.payload_bytes)?;
        if frame.payload != bytes(sequence, frame.payload.len()) {
            return Err("the bytes are not those that were written".to_owned());
        }
        if let Some(window) = expected.window {
            same("window", frame.window, window)?;
        }
        if let Some(options) = &expected.options {
            let seen = TcpOption::read(&frame.options, self.peer_iss);
            if !TcpOption::all_match(options, &seen, self.ipv6) {
                return Err("the options are others".to_owned());
            }
        }
        Ok(())
    }

    /// A segment of the stack as a script would write it.
    pub fn told(&self, frame: &Tcp) -> String {
        let sequence = frame.sequence.wrapping_sub(self.our_iss.unwrap_or(0));
        let end = sequence.wrapping_add(frame.payload.len() as u32);
        let mut text = format!(
            "> {} {sequence}:{end}({})",
            told_flags(frame.flags),
            frame.payload.len()
        );
        if frame.flags & ACK != 0 {
            let acknowledged = frame.acknowledgement.wrapping_sub(self.peer_iss);
            let _ = write!(text, " ack {acknowledged}");
        }
        let _ = write!(text, " win {}", frame.window);
        let options = TcpOption::read(&frame.options, self.peer_iss);
        if !options.is_empty() {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            let _ = write!(text, " <{}>", options.join(","));
        }
        text
    }
}

fn absolute(number: Number, first: u32) -> u32 {
    match number {
        Number::Relative(number) => first.wrapping_add(number),
        Number::Absolute(number) => number,
    }
}

fn told_flags(flags: u8) -> String {
    FLAGS
        .iter()
        .filter(|(_, flag)| flags & flag != 0)
        .map(|(letter, _)| letter)
        .collect()
}
