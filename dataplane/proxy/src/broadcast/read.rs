//! The reply of one server to a request that is joined without keys: taken apart as it arrives.

use crate::fault::Fault;
use crate::merge::Step;
use crate::proxy::Proxy;
use crate::replies::drops_replies;
use crate::state::{Join, Phase};
use tidegate_protocol::{
    ArrayHeader, BulkReply, LineReply, Merge, ReplyFront, ReplyScanner, ReplyShape, ScanReply,
    parse_array_header, parse_bulk_reply, parse_integer_reply, parse_reply_front, parse_scan_reply,
    parse_status_reply,
};

/// What a look at the front of a reply leads to, and how many bytes are dealt with.
type Look = Result<(Step, usize), Fault>;

impl Proxy {
    /// One look at the front of the reply of a fragment that has no keys.
    pub(crate) fn broadcast_step(&mut self, link: u32, fragment: u32, bytes: &[u8]) -> Look {
        match self.fragments[fragment].phase {
            Phase::Start => match self.splits[self.fragments[fragment].split].join {
                Join::Scan => self.scan_step(link, fragment, bytes),
                Join::Servers(merge) => self.first_step(link, fragment, merge, bytes),
                Join::Keys(_) => Err(Fault::Garbage),
            },
            Phase::Rest => self.rest_step(link, fragment, bytes),
            Phase::Content { left } => self.content_step(fragment, left, bytes),
            Phase::Integers { left } => self.integers_step(fragment, left, bytes),
            // The other phases are of replies with keys.
            Phase::Elements { .. } | Phase::Values | Phase::Block { .. } => Err(Fault::Garbage),
        }
    }

    fn first_step(&mut self, link: u32, fragment: u32, merge: Merge, bytes: &[u8]) -> Look {
        match merge {
            Merge::Ok => match parse_status_reply(bytes) {
                LineReply::Incomplete => Ok((Step::More, 0)),
                LineReply::Value { bytes, .. } => Ok((Step::Done, bytes)),
                LineReply::Error { bytes: n } => self.error_line(fragment, &bytes[..n]),
                LineReply::Malformed => Err(Fault::Garbage),
            },
            Merge::Sum => match parse_integer_reply(bytes) {
                LineReply::Incomplete => Ok((Step::More, 0)),
                LineReply::Value { value, bytes } => {
                    self.fragments[fragment].value = value;
                    Ok((Step::Done, bytes))
                }
                LineReply::Error { bytes: n } => self.error_line(fragment, &bytes[..n]),
                LineReply::Malformed => Err(Fault::Garbage),
            },
            Merge::Keys | Merge::AllOf => self.header_step(link, fragment, merge, bytes),
            Merge::Random | Merge::Info => self.bulk_step(fragment, merge, bytes),
            Merge::Same | Merge::FlushAll | Merge::Stats => {
                self.front_step(link, fragment, merge, bytes)
            }
            Merge::BinaryFlush | Merge::BinaryStats => {
                self.frame_step(link, fragment, merge, bytes)
            }
        }
    }

    fn header_step(&mut self, link: u32, fragment: u32, merge: Merge, bytes: &[u8]) -> Look {
        match parse_array_header(bytes) {
            ArrayHeader::Incomplete => Ok((Step::More, 0)),
            ArrayHeader::Error { bytes: n } => self.error_line(fragment, &bytes[..n]),
            ArrayHeader::Malformed => Err(Fault::Garbage),
            ArrayHeader::Array { elements: 0, bytes } if merge == Merge::Keys => {
                Ok((Step::Done, bytes))
            }
            ArrayHeader::Array { elements, bytes } if merge == Merge::Keys => {
                self.fragments[fragment].value = elements.cast_signed();
                self.links[link as usize].scanner = ReplyScanner::elements(elements);
                self.fragments[fragment].phase = Phase::Rest;
                Ok((Step::Again, bytes))
            }
            ArrayHeader::Array { elements, bytes } => {
                let left = self.splits[self.fragments[fragment].split].keys;
                if elements != u64::from(left) || left == 0 {
                    return Err(Fault::Garbage);
                }
                self.fragments[fragment].phase = Phase::Integers { left };
                Ok((Step::Again, bytes))
            }
        }
    }

    /// One number of SCRIPT EXISTS, which is kept as a byte.
    fn integers_step(&mut self, fragment: u32, left: u32, bytes: &[u8]) -> Look {
        match parse_integer_reply(bytes) {
            LineReply::Incomplete => Ok((Step::More, 0)),
            LineReply::Value { value, bytes } => {
                let value = u8::try_from(value).map_err(|_| Fault::Garbage)?;
                self.hold_part(fragment, &[value]);
                if left == 1 {
                    return Ok((Step::Done, bytes));
                }
                self.fragments[fragment].phase = Phase::Integers { left: left - 1 };
                Ok((Step::Again, bytes))
            }
            LineReply::Error { .. } | LineReply::Malformed => Err(Fault::Garbage),
        }
    }

    /// The front of one string. What kind it is stands in the fragment's value: see [`super::send`].
    fn bulk_step(&mut self, fragment: u32, merge: Merge, bytes: &[u8]) -> Look {
        let part = &mut self.fragments[fragment];
        let (value, content_bytes, header_bytes) = match parse_bulk_reply(bytes) {
            BulkReply::Incomplete => return Ok((Step::More, 0)),
            BulkReply::Malformed => return Err(Fault::Garbage),
            BulkReply::Error { bytes: n } => return self.error_line(fragment, &bytes[..n]),
            // Where a database is empty; to INFO there is always something to say.
            BulkReply::Null { .. } if merge == Merge::Info => return Err(Fault::Garbage),
            BulkReply::Null { bytes: n } => {
                part.value = if bytes[0] == b'_' {
                    super::send::NULL_RESP3
                } else {
                    super::send::NULL
                };
                return Ok((Step::Done, n));
            }
            BulkReply::Bulk {
                content_bytes,
                bytes,
            } => (super::send::BULK, content_bytes, bytes),
            BulkReply::Verbatim {
                content_bytes,
                bytes,
            } => (super::send::VERBATIM, content_bytes, bytes),
        };
        part.value = value;
        part.phase = Phase::Content {
            left: content_bytes,
        };
        Ok((Step::Again, header_bytes))
    }

    fn content_step(&mut self, fragment: u32, left: usize, bytes: &[u8]) -> Look {
        if left > 0 {
            let n = left.min(bytes.len());
            self.hold_part(fragment, &bytes[..n]);
            self.fragments[fragment].phase = Phase::Content { left: left - n };
            return Ok((Step::Again, n));
        }
        match bytes.get(..2) {
            None => Ok((Step::More, 0)),
            Some(b"\r\n") => Ok((Step::Done, 2)),
            Some(_) => Err(Fault::Garbage),
        }
    }

    /// The front of a reply that is measured as a whole.
    fn front_step(&mut self, link: u32, fragment: u32, merge: Merge, bytes: &[u8]) -> Look {
        let shape = match merge {
            Merge::Stats => ReplyShape::Stats,
            _ => self.shape_of_front(link),
        };
        match parse_reply_front(shape, bytes) {
            ReplyFront::Incomplete => Ok((Step::More, 0)),
            ReplyFront::Malformed => Err(Fault::Garbage),
            ReplyFront::Error { bytes: n } => {
                self.links[link as usize].out_of_step |= drops_replies(Some(shape), bytes);
                self.error_line(fragment, &bytes[..n])
            }
            // What one server says otherwise than the others is what the client has to know.
            ReplyFront::Value
                if merge == Merge::FlushAll
                    && !bytes.starts_with(b"OK\r\n")
                    && !bytes.starts_with(b"RESET\r\n") =>
            {
                let n = line_bytes(bytes);
                self.error_line(fragment, &bytes[..n])
            }
            ReplyFront::Value => {
                self.begin_reply(link, shape);
                self.fragments[fragment].phase = Phase::Rest;
                self.rest_step(link, fragment, bytes)
            }
        }
    }

    fn shape_of_front(&self, link: u32) -> ReplyShape {
        let entry = self.links[link as usize].fifo.front();
        entry.map_or(ReplyShape::Resp, |entry| entry.shape)
    }

    /// More of a reply that is measured as a whole and held as it is.
    fn rest_step(&mut self, link: u32, fragment: u32, bytes: &[u8]) -> Look {
        let scanner = &mut self.links[link as usize].scanner;
        let scan = scanner.scan(bytes).map_err(|_| Fault::Garbage)?;
        let fails = scanner.is_error();
        let part = &self.fragments[fragment];
        let split = &self.splits[part.split];
        // Of replies that all say the same the first is enough.
        let is_wanted = !matches!(split.join, Join::Servers(Merge::Same | Merge::FlushAll))
            || split.first_fragment == fragment;
        if is_wanted {
            self.hold_part(fragment, &bytes[..scan.bytes]);
        }
        if scan.done && fails {
            // memcached ran out of memory while it told its statistics, and may have dropped other replies as well.
            return Err(Fault::OutOfStep);
        }
        let step = if scan.done { Step::Done } else { Step::More };
        Ok((step, scan.bytes))
    }

    /// The front of the reply to a step of SCAN.
    fn scan_step(&mut self, link: u32, fragment: u32, bytes: &[u8]) -> Look {
        match parse_scan_reply(bytes) {
            ScanReply::Incomplete => Ok((Step::More, 0)),
            ScanReply::Malformed => Err(Fault::Garbage),
            ScanReply::Error { bytes: n } => self.error_line(fragment, &bytes[..n]),
            ScanReply::Cursor { cursor, bytes } => {
                self.note_cursor(fragment, cursor);
                self.begin_reply(link, ReplyShape::Resp);
                self.fragments[fragment].phase = Phase::Rest;
                Ok((Step::Again, bytes))
            }
        }
    }
}

/// Bytes of the whole line at the front of `bytes`, its end included.
fn line_bytes(bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    end.map_or(bytes.len(), |end| end + 1)
}
