//! memcached's binary protocol: what is found in a stream of frames, however it is cut into pieces.

mod driver;

use driver::{ALL_HEADS, Heads, play, segmentations};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::{
    BINARY_HEADER_BYTES, BinaryHead, BinaryStatus, MEMCACHED_OPCODES, Parsed, Protocol, ReplyError,
    ReplyScanner, ReplyShape, Resume, StatFrame, parse_request, parse_stat_frame,
};

/// A frame whose header says what it has.
fn frame(magic: u8, opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut frame = vec![magic, opcode];
    frame.extend((key.len() as u16).to_be_bytes());
    frame.extend([extras.len() as u8, 0, 0, 0]);
    frame.extend(body.to_be_bytes());
    frame.extend([1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    [&frame, extras, key, value].concat()
}

fn request(opcode: u8, extras: usize, key: &str, value: &str) -> Vec<u8> {
    frame(
        0x80,
        opcode,
        &vec![7; extras],
        key.as_bytes(),
        value.as_bytes(),
    )
}

/// What the stream gives in every way in which it can arrive. Refusals are frames, and told by their status.
fn assert_gives(stream: &[u8], expected: &[&str]) {
    for heads in ALL_HEADS {
        for pieces in segmentations(stream) {
            let mut client = driver::Client::new(Protocol::MemcachedBinary, heads);
            for piece in pieces {
                client.receive(piece);
            }
            let mut texts = client.texts();
            for (text, event) in texts.iter_mut().zip(&client.events) {
                if let Some(reply) = &event.refusal {
                    assert_eq!(
                        (reply[0], &reply[12..16]),
                        (
                            0x81,
                            if reply[1] == 0 && reply[12] == 0 {
                                &[0; 4]
                            } else {
                                &[1, 2, 3, 4][..]
                            }
                        )
                    );
                    let verb = text.split(' ').next().unwrap();
                    *text = format!("{verb} {:#04x}", reply[7]);
                }
            }
            assert_eq!(texts, expected, "{}, {heads:?}", stream.escape_ascii());
        }
    }
}

fn assert_request_gives(frame: &[u8], expected: &str) {
    let stream = [frame, &request(0x0a, 0, "", "")].concat();
    assert_gives(&stream, &[expected, "local BinaryNoop"]);
}

#[test]
fn every_opcode_finds_its_way() {
    for (opcode, extras, expected) in [
        (0x00, 0, "key get k"),
        (0x04, 0, "key delete k"),
        (0x05, 20, "key increment k"),
        (0x06, 20, "key decrement k"),
        (0x09, 0, "key getq k"),
        (0x0c, 0, "key getk k"),
        (0x0d, 0, "key getkq k"),
        (0x14, 0, "key deleteq k"),
        (0x15, 20, "key incrementq k"),
        (0x16, 20, "key decrementq k"),
        (0x1c, 4, "key touch k"),
        (0x1d, 4, "key gat k"),
        (0x1e, 4, "key gatq k"),
        (0x23, 4, "key gatk k"),
        (0x24, 4, "key gatkq k"),
        (0x10, 0, "broadcast BinaryStats stat"),
        (0x21, 0, "local SaslAuth"),
        (0x22, 0, "local SaslStep"),
    ] {
        assert_request_gives(&request(opcode, extras, "k", ""), expected);
    }
    for (opcode, extras, expected) in [
        (0x01, 8, "key set k"),
        (0x02, 8, "key add k"),
        (0x03, 8, "key replace k"),
        (0x0e, 0, "key append k"),
        (0x0f, 0, "key prepend k"),
        (0x11, 8, "key setq k"),
        (0x12, 8, "key addq k"),
        (0x13, 8, "key replaceq k"),
        (0x19, 0, "key appendq k"),
        (0x1a, 0, "key prependq k"),
    ] {
        assert_request_gives(&request(opcode, extras, "k", ""), expected);
        assert_request_gives(
            &request(opcode, extras, "k", "\u{80}\0 value\r\n"),
            expected,
        );
    }
    for (opcode, extras, expected) in [
        (0x08, 0, "broadcast BinaryFlush flush"),
        (0x08, 4, "broadcast BinaryFlush flush"),
        (0x18, 4, "broadcast BinaryFlush flushq"),
        (0x0a, 0, "local BinaryNoop"),
        (0x0b, 0, "any version"),
        (0x10, 0, "broadcast BinaryStats stat"),
        (0x20, 0, "local SaslMechanisms"),
        (0x07, 0, "local BinaryQuit"),
        (0x17, 0, "local BinaryQuit"),
    ] {
        assert_request_gives(&request(opcode, extras, "", ""), expected);
    }
}

#[test]
fn a_frame_that_is_not_as_its_opcode_demands_ends_the_stream() {
    let long = "k".repeat(251);
    for (frame, expected) in [
        (request(0x00, 0, "", ""), "close 0x04"),
        (request(0x00, 0, &long, ""), "close 0x04"),
        (request(0x00, 1, "k", ""), "close 0x04"),
        (request(0x00, 0, "k", "v"), "close 0x04"),
        (request(0x01, 7, "k", "v"), "close 0x04"),
        (request(0x05, 8, "k", ""), "close 0x04"),
        (request(0x1c, 4, "k", "v"), "close 0x04"),
        (request(0x08, 3, "", ""), "close 0x04"),
        (request(0x0a, 0, "k", ""), "close 0x04"),
        (request(0x0b, 0, "", "v"), "close 0x04"),
        (request(0x10, 4, "", ""), "close 0x04"),
        (request(0x20, 0, "k", ""), "close 0x04"),
        (request(0x21, 0, "", "v"), "close 0x04"),
        (request(0x21, 0, &"M".repeat(33), ""), "close 0x04"),
        (request(0x21, 0, "PLAIN", &"x".repeat(1020)), "close 0x04"),
        (frame(0x81, 0x00, b"", b"k", b""), "close 0x04"),
        (b"get k\r\n".to_vec(), "close 0x04"),
    ] {
        assert_gives(&frame, &[expected]);
    }
    // More extras and key than body.
    let mut short = request(0x00, 0, "key", "");
    short[11] = 2;
    assert_gives(&short, &["close 0x81"]);
}

#[test]
fn a_frame_that_is_sound_but_not_wanted_costs_only_itself() {
    for (frame, expected) in [
        (request(0x1b, 4, "", ""), "refuse 0x81"),
        (request(0x40, 3, "key", "value"), "refuse 0x81"),
        (request(0xff, 0, "", ""), "refuse 0x81"),
        (request(0x10, 0, "detail dump", ""), "refuse 0x01"),
    ] {
        assert_request_gives(&frame, expected);
    }
    let mut huge = request(0x01, 8, "k", "");
    huge[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_gives(&huge, &["refuse 0x03", "more"]);
}

#[test]
fn a_large_value_can_be_passed_on_from_its_front() {
    let whole = request(0x01, 8, "k", &"v".repeat(1000));
    let parsed = parse_request(
        Protocol::MemcachedBinary,
        &whole[..100],
        &mut Resume::default(),
    );
    let Parsed::Head {
        request,
        rest,
        need,
    } = parsed
    else {
        panic!("{parsed:?}")
    };
    assert_eq!(
        (request.bytes, need, request.key),
        (100, whole.len(), 32..33)
    );
    let mut rest = rest;
    let scan = rest.measure(&[&whole[100..], b"next"].concat()).unwrap();
    assert_eq!((scan.bytes, scan.done), (whole.len() - 100, true));
}

#[test]
fn headers_are_changed_on_their_way_and_back() {
    for told in MEMCACHED_OPCODES {
        let mut header = *request(told.code, 0, "", "")
            .first_chunk::<BINARY_HEADER_BYTES>()
            .unwrap();
        let head = BinaryHead::of(&header);
        assert_eq!((head.opcode, head.opaque), (told.code, [1, 2, 3, 4]));
        assert_eq!(head.is_quiet(), told.name.ends_with('q'), "{}", told.name);
        head.address(&mut header, 0x0506_0708);
        assert_eq!(header[12..16], [5, 6, 7, 8]);
        let loud = MEMCACHED_OPCODES
            .iter()
            .find(|other| other.code == header[1])
            .unwrap();
        assert_eq!(loud.name, told.name.strip_suffix('q').unwrap_or(told.name));
        head.restore(&mut header);
        assert_eq!((header[1], &header[12..16]), (told.code, &[1, 2, 3, 4][..]));

        let hides = |status| head.hides(&head.reply_header(status, 0, 0));
        let reads = told.name.starts_with("get") || told.name.starts_with("gat");
        assert_eq!(
            hides(BinaryStatus::NotFound),
            head.is_quiet() && reads,
            "{}",
            told.name
        );
        assert_eq!(
            hides(BinaryStatus::Success),
            head.is_quiet() && !reads,
            "{}",
            told.name
        );
        assert!(!hides(BinaryStatus::TemporaryFailure) && !hides(BinaryStatus::TooLarge));
    }
}

fn head(opcode: u8) -> BinaryHead {
    BinaryHead {
        opcode,
        opaque: [9; 4],
    }
}

/// The opaque in the frames of [`frame`].
const NUMBER: u32 = 0x0102_0304;

fn measure(opcode: u8, pieces: Vec<&[u8]>) -> Result<(usize, bool, bool), ReplyError> {
    let mut scanner = ReplyScanner::new(ReplyShape::Binary(head(opcode))).expecting(NUMBER);
    let mut buffer = Vec::new();
    let mut total = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let scan = scanner.scan(&buffer)?;
        assert_eq!(scan.done, scanner.is_done());
        buffer.drain(..scan.bytes);
        total += scan.bytes;
        if scan.done {
            break;
        }
    }
    Ok((total, scanner.is_error(), scanner.is_done()))
}

#[test]
fn replies_are_measured_and_have_to_belong_to_their_request() {
    let hit = frame(0x81, 0x0c, &[0; 4], b"key", b"value\r\n");
    let stream = [&hit[..], &hit[..10]].concat();
    for opcode in [0x0c, 0x0d] {
        for pieces in segmentations(&stream) {
            assert_eq!(measure(opcode, pieces), Ok((hit.len(), false, true)));
        }
    }
    for (status, is_error) in [
        (0, false),
        (1, false),
        (2, false),
        (3, true),
        (4, true),
        (5, false),
        (6, true),
        (0x81, true),
        (0x82, true),
    ] {
        let mut reply = frame(0x81, 0x01, b"", b"", b"words");
        reply[7] = status;
        assert_eq!(
            measure(0x11, vec![&reply]),
            Ok((reply.len(), is_error, true))
        );
    }
    let mut other_opaque = hit.clone();
    other_opaque[15] += 1;
    let mut unsound = hit.clone();
    unsound[11] = 6;
    let mut huge = hit.clone();
    huge[8] = 0x80;
    for (reply, error) in [
        (&other_opaque, ReplyError::WrongRequest),
        (
            &frame(0x81, 0x00, &[0; 4], b"", b"v"),
            ReplyError::WrongRequest,
        ),
        (&unsound, ReplyError::BadLength),
        (&huge, ReplyError::BadLength),
        (
            &frame(0x80, 0x0c, b"", b"", b""),
            ReplyError::UnexpectedByte(0x80),
        ),
        (&b"VALUE".to_vec(), ReplyError::UnexpectedByte(b'V')),
    ] {
        for pieces in segmentations(reply) {
            assert_eq!(measure(0x0c, pieces), Err(error));
        }
    }
}

#[test]
fn statistics_are_measured_up_to_their_last_frame() {
    let stat = frame(0x81, 0x10, b"", b"pid", b"17");
    let end = frame(0x81, 0x10, b"", b"", b"");
    let mut unknown = frame(0x81, 0x10, b"", b"", b"Not found");
    unknown[7] = 1;
    for reply in [[&stat[..], &stat, &end].concat(), end.clone(), unknown] {
        let stream = [&reply[..], &stat].concat();
        for pieces in segmentations(&stream) {
            assert_eq!(measure(0x10, pieces), Ok((reply.len(), false, true)));
        }
    }
    for pieces in segmentations(&[&stat[..], &stat].concat()) {
        assert_eq!(measure(0x10, pieces), Ok((2 * stat.len(), false, false)));
    }
    let other = frame(0x81, 0x01, b"", b"", b"");
    for pieces in segmentations(&[&stat[..], &other].concat()) {
        assert_eq!(measure(0x10, pieces), Err(ReplyError::WrongRequest));
    }
}

#[test]
fn statistics_are_read_frame_by_frame() {
    let read = |bytes: &[u8]| parse_stat_frame(bytes, head(0x10), NUMBER);
    let stat = frame(0x81, 0x10, b"", b"pid", b"17");
    for end in 0..stat.len() {
        assert_eq!(read(&stat[..end]), Ok(StatFrame::Incomplete));
    }
    let expected = StatFrame::Stat {
        name: 24..27,
        value: 27..29,
        bytes: 29,
    };
    assert_eq!(read(&[&stat[..], &stat[..]].concat()), Ok(expected));
    assert_eq!(
        read(&frame(0x81, 0x10, b"", b"", b"")),
        Ok(StatFrame::End { bytes: 24 })
    );
    let mut error = frame(0x81, 0x10, b"", b"", b"Not found");
    error[7] = 1;
    assert_eq!(
        read(&error),
        Ok(StatFrame::Error {
            text: 24..33,
            bytes: 33
        })
    );
    let large = frame(0x81, 0x10, b"", b"n", &vec![b'v'; 5000]);
    assert_eq!(read(&large[..24]), Err(ReplyError::BadLength));
    assert_eq!(read(b"STAT"), Err(ReplyError::UnexpectedByte(b'S')));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn pieces_of_a_stream_do_not_matter(
        frames in vec(
            (prop_oneof![4 => Just(0x80_u8), 1 => any::<u8>()], 0..0x28_u8, 0..24_usize, 0..40_usize, 0..300_usize, 0..9_u8),
            1..8,
        ),
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let stream: Vec<u8> = frames.into_iter().flat_map(|(magic, opcode, extras, key, value, sound)| {
            // Most are as they should be, or nothing behind the first would be looked at.
            let known = MEMCACHED_OPCODES.iter().find(|known| known.code == opcode);
            let extras = match known.map(|known| known.name.trim_end_matches('q')) {
                Some("set" | "add" | "replace") if sound > 0 => 8,
                Some("increment" | "decrement") if sound > 0 => 20,
                Some("touch" | "gat" | "gatk" | "flush") if sound > 0 => 4,
                _ if sound > 0 => 0,
                _ => extras,
            };
            let has_value = matches!(opcode, 0x01..=0x03 | 0x0e | 0x0f | 0x11..=0x13 | 0x19 | 0x1a);
            let value = if has_value || sound == 0 { value } else { 0 };
            let key = if matches!(opcode, 0x07 | 0x08 | 0x0a | 0x0b | 0x17 | 0x18 | 0x20) && sound > 0 { 0 } else { key };
            frame(if sound > 0 { 0x80 } else { magic }, opcode, &vec![0; extras], &vec![b'k'; key], &vec![b'v'; value])
        }).collect();
        let whole = play(Protocol::MemcachedBinary, Heads::Look, [&stream[..]]);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([0, stream.len()]).collect();
        places.sort_unstable();
        for heads in ALL_HEADS {
            let pieces = places.windows(2).map(|window| &stream[window[0]..window[1]]);
            prop_assert_eq!(&whole, &play(Protocol::MemcachedBinary, heads, pieces));
            prop_assert_eq!(&whole, &play(Protocol::MemcachedBinary, heads, stream.chunks(1)));
        }
    }

    #[test]
    fn anything_is_looked_at_without_harm(stream in vec(any::<u8>(), 0..200), opcode in any::<u8>()) {
        play(Protocol::MemcachedBinary, Heads::Take, stream.chunks(7));
        let _ = measure(opcode, stream.chunks(5).collect());
        let _ = parse_stat_frame(&stream, head(opcode), NUMBER);
    }
}
